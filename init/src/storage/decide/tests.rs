use super::super::content::Foreign;
use super::super::gpt::{Geometry, GptError};
use super::*;

const GIB: u64 = 1 << 30;

fn disk(name: &str) -> Disk {
    Disk {
        name: name.to_owned(),
        geometry: Geometry { block: 512, blocks: 100 * GIB / 512 },
        serial: format!("serial-{name}"),
        model: "Fast Disk".to_owned(),
        kind: Kind::Fixed,
        read_only: false,
        in_use: false,
        table: Table::None,
    }
}

fn with_partition(name: &str, attributes: u64) -> Disk {
    let partition = Partition::new(1, 2048, 9999, attributes);
    Disk { table: Table::Found(vec![partition]), in_use: true, ..disk(name) }
}

fn blank() -> DataPolicy {
    DataPolicy { blank: true, ..DataPolicy::default() }
}

fn chosen(choice: DiskChoice) -> DataPolicy {
    DataPolicy { disk: Some(choice), ..DataPolicy::default() }
}

fn by_path(path: &str) -> DataPolicy {
    chosen(DiskChoice { path: Some(path.into()), ..DiskChoice::default() })
}

/// Decides, with disks whose names begin with `f` being a stranger's, and returns the decision in
/// words.
fn decision(disks: &[Disk], policy: &DataPolicy) -> String {
    let look = |disk: &Disk| match disk.name.as_bytes()[0] {
        b'f' => Content::Foreign(Foreign::Known("ext4")),
        b'u' => Content::Unreadable,
        b'b' => Content::Begun([7; 16]),
        _ => Content::Blank,
    };
    let small = |disk: &Disk| disk.geometry.bytes() < GIB;
    match decide(disks, policy, look, small) {
        Decision::Use(disk, partition) => format!("use {}", disk.partition(partition.number)),
        Decision::Make(disk, None) => format!("make on {}", disk.name),
        Decision::Make(disk, Some(_)) => format!("continue on {}", disk.name),
        Decision::None(why) => why,
    }
}

#[test]
fn the_only_partition_is_used_and_nothing_is_made_without_permission() {
    let check = |disks: &[Disk], expected: &str| {
        assert_eq!(decision(disks, &DataPolicy::default()), expected);
    };
    check(&[], "no disk");
    check(&[disk("vda"), disk("nvme0n1")], "no data partition on vda, nvme0n1");
    check(&[disk("vda"), with_partition("nvme0n1", 0)], "use nvme0n1p1");
    check(
        &[with_partition("vda", 0), with_partition("vdb", 0)],
        "vda1, vdb1 are data partitions, so none is used; choose one by data.disk",
    );
}

#[test]
fn flags_of_a_partition_are_honoured_and_reported() {
    for (attributes, flag) in [(1 << 63, "no-auto (bit 63)"), (1 << 60, "read-only (bit 60)")] {
        let disks = [with_partition("vda", attributes)];
        assert_eq!(decision(&disks, &DataPolicy::default()), "no data partition on vda");
        let lines = left_out(&disks);
        assert_eq!(lines, [format!("vda1 is not used: its flag {flag} is set")]);
        // Not even with permission is another one made next to it.
        let why = "no data partition and no blank disk: vda has a partition table";
        assert_eq!(decision(&disks, &blank()), why);
        let both = [with_partition("vda", attributes), with_partition("vdb", 0)];
        assert_eq!(decision(&both, &DataPolicy::default()), "use vdb1");
    }
    assert_eq!(left_out(&[with_partition("vda", 1 << 59)]), [""; 0]);
}

#[test]
fn a_partition_is_made_on_the_one_blank_disk() {
    let check = |disks: &[Disk], expected: &str| assert_eq!(decision(disks, &blank()), expected);
    check(&[disk("vda")], "make on vda");
    check(&[disk("bda")], "continue on bda");
    check(&[disk("fda"), disk("vdb"), with_partition("vdc", 1 << 63)], "make on vdb");
    check(&[disk("vda"), with_partition("vdb", 0)], "use vdb1");
    check(&[], "no disk");
    check(
        &[disk("vda"), disk("vdb")],
        "kiln.node: data.blank: fits vda, vdb, so none is used; choose one by data.disk",
    );
    check(
        &[disk("fda"), disk("uda")],
        "no data partition and no blank disk: fda contains ext4, uda cannot be read",
    );
}

#[test]
fn every_obstacle_is_named() {
    let check = |change: fn(&mut Disk), expected: &str| {
        let mut one = disk("vda");
        change(&mut one);
        let blank = decision(&[one.clone()], &blank());
        assert_eq!(blank, format!("no data partition and no blank disk: vda {expected}"));
        let named = decision(&[one], &by_path("/dev/vda"));
        assert!(!named.starts_with("use") && !named.starts_with("continue"), "{named}");
    };
    check(|disk| disk.in_use = true, "is in use");
    check(|disk| disk.kind = Kind::Volume, "is a volume of other disks");
    check(|disk| disk.kind = Kind::Removable, "is removable");
    check(|disk| disk.read_only = true, "is read-only");
    check(|disk| disk.geometry.blocks = 10, "is too small");
    check(|disk| disk.table = Table::Unreadable, "cannot be read");
    check(|disk| disk.table = Table::Found(Vec::new()), "has a partition table");
    check(
        |disk| disk.table = Table::Damaged(GptError::BadChecksum),
        "has a damaged partition table",
    );
}

#[test]
fn a_named_disk_must_be_blank_too() {
    let check = |disks: &[Disk], path: &str, expected: &str| {
        assert_eq!(decision(disks, &by_path(path)), expected);
    };
    check(&[disk("vda"), disk("vdb")], "/dev/vdb", "make on vdb");
    check(&[Disk { kind: Kind::Removable, ..disk("sda") }], "/dev/sda", "make on sda");
    check(&[with_partition("vda", 0), with_partition("vdb", 0)], "/dev/vdb", "use vdb1");
    check(
        &[disk("vda"), disk("fdb")],
        "/dev/fdb",
        "kiln.node: data.disk: fdb contains ext4; erase it, or choose another disk",
    );
    check(&[disk("vda")], "/dev/vdz", "kiln.node: data.disk: fits none of vda; correct it");
    check(&[], "/dev/vdz", "kiln.node: data.disk: fits none of no disk; correct it");
    check(
        &[with_partition("vda", 0), disk("vdb")],
        "/dev/vdb",
        "kiln.node: data.disk: vda1 is the data partition but does not fit; \
         change it, or delete that partition",
    );
}

#[test]
fn all_properties_of_a_choice_must_fit() {
    let serial = |serial: &str| DiskChoice { serial: Some(serial.into()), ..DiskChoice::default() };
    let size = |size| DiskChoice { size_min: Some(size), ..DiskChoice::default() };
    let model = |model: &str| DiskChoice { model: Some(model.into()), ..DiskChoice::default() };
    let disks = [disk("vda"), Disk { model: "Slow".into(), ..disk("vdb") }];
    let check = |choice, expected: &str| assert_eq!(decision(&disks, &chosen(choice)), expected);
    check(serial("serial-vda"), "make on vda");
    check(model("Slow"), "make on vdb");
    let two = "kiln.node: data.disk: fits vda, vdb, so none is used; choose one by data.disk";
    check(size(100 * GIB), two);
    check(size(101 * GIB), "kiln.node: data.disk: fits none of vda, vdb; correct it");
    check(
        DiskChoice { serial: Some("serial-vda".into()), ..model("Slow") },
        "kiln.node: data.disk: fits none of vda, vdb; correct it",
    );
    // With `blank`, disks that are not blank do not count.
    let policy = DataPolicy { blank: true, ..chosen(size(GIB)) };
    assert_eq!(decision(&[disk("fda"), disk("vdb")], &policy), "make on vdb");
    assert_eq!(decision(&[disk("vda"), disk("vdb")], &policy), two);
}
