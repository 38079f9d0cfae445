use super::super::fake::{Fake, template};
use super::super::gpt::Geometry;
use super::*;

const ID: [u8; 16] = *b"sixteen-bytes-id";

#[test]
fn the_template_fits_only_a_disk_with_room_for_it() {
    let fits = |mib: u64| {
        let geometry = Geometry { block: 512, blocks: mib * 2048 };
        NewTable::new(geometry, ID).is_some_and(|table| fits(&table, &template()))
    };
    assert!(!fits(0) && !fits(1) && !fits(65) && fits(66));
}

#[test]
fn a_part_of_the_steps_equals_the_same_part_of_the_disk() {
    let mut disk = Fake::new(512, 1 << 30);
    let table = NewTable::new(disk.geometry, ID).unwrap();
    let steps = steps(&table, &template());
    for step in &steps {
        disk.run(step);
    }
    for (at, length) in [(0, 70_000), (1000, 100), (1 << 20, 4096), ((1 << 20) + 1027, 3)] {
        let mut buffer = vec![9; length];
        buffer.fill(0);
        for step in &steps {
            apply(step, at, &mut buffer);
        }
        assert_eq!(Some(buffer), disk.read(at, length), "{at}");
    }
}

#[test]
fn steps_are_executed_on_a_file_in_order() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let writes = [Step::Write(5, b"abc"[..].into()), Step::Sync, Step::Write(6, b"x"[..].into())];
    run(&file, &writes).unwrap();
    let mut found = [0; 4];
    file.read_exact_at(&mut found, 5).unwrap();
    assert_eq!(&found, b"axc\0");
}
