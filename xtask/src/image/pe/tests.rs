use proptest::prelude::*;

use super::*;

/// Returns an image with these sections, each of 512 bytes that are its number, and room for `room`
/// section headers.
pub(in crate::image) fn image(sections: &[&str], room: usize) -> Vec<u8> {
    const COFF: usize = 0x44;
    const OPTIONAL: usize = COFF + COFF_SIZE;
    const OPTIONAL_SIZE: u16 = 240;
    let table = OPTIONAL + usize::from(OPTIONAL_SIZE);
    let headers = (table + room * SECTION_SIZE).next_multiple_of(512);
    let mut file = vec![0; headers];
    file[..2].copy_from_slice(b"MZ");
    put_u32(&mut file, DOS_POINTER, 0x40);
    file[0x40..COFF].copy_from_slice(b"PE\0\0");
    file[COFF + coff::SECTION_COUNT] = u8::try_from(sections.len()).unwrap();
    file[COFF + coff::OPTIONAL_SIZE] = 240;
    file[OPTIONAL..OPTIONAL + 2].copy_from_slice(&MAGIC_PE32_PLUS.to_le_bytes());
    file[OPTIONAL + optional::DLL_CHARACTERISTICS + 1] = 1;
    put_u32(&mut file, OPTIONAL + optional::SECTION_ALIGNMENT, 4096);
    put_u32(&mut file, OPTIONAL + optional::FILE_ALIGNMENT, 512);
    // The headers get exactly the space that they need, so that `room` is exact.
    put_u32(
        &mut file,
        OPTIONAL + optional::SIZE_OF_HEADERS,
        u32::try_from(table + room * SECTION_SIZE).unwrap(),
    );
    put_u32(&mut file, OPTIONAL + optional::CHECKSUM, 77);
    put_u32(&mut file, OPTIONAL + optional::DIRECTORY_COUNT, 16);
    for (number, name) in sections.iter().enumerate() {
        let section = Section {
            name: (*name).to_owned(),
            virtual_size: 512,
            virtual_address: 4096 * (1 + u32::try_from(number).unwrap()),
            raw_size: 512,
            raw_offset: u32::try_from(file.len()).unwrap(),
            characteristics: INITIALIZED_DATA | READABLE,
        };
        let at = table + number * SECTION_SIZE;
        file[at..at + SECTION_SIZE].copy_from_slice(&section.to_bytes());
        file.extend([u8::try_from(number).unwrap(); 512]);
    }
    file
}

#[test]
fn appended_sections_are_read_back() {
    let mut made = Image::new(image(&[".text"], 3)).unwrap();
    made.append(".a", 10, CODE | READABLE).unwrap();
    made.append(".b", 5000, INITIALIZED_DATA | READABLE).unwrap();
    let read = Headers::parse(made.bytes()).unwrap();
    assert_eq!(read.sections, made.headers().sections);
    let (a, b) = (read.section(".a").unwrap(), read.section(".b").unwrap());
    assert_eq!((a.virtual_size, a.raw_size, a.virtual_address), (10, 512, 0x2000));
    assert_eq!((b.virtual_size, b.raw_size, b.virtual_address), (5000, 5120, 0x3000));
    assert_eq!((a.raw_offset as usize, b.raw_offset), (made.bytes().len(), a.raw_offset + 512));
    let field = |at| u32_at(made.bytes(), read.optional + at).unwrap();
    assert_eq!(field(optional::SIZE_OF_IMAGE), 0x5000);
    assert_eq!(field(optional::SIZE_OF_INITIALIZED_DATA), 5010);
    assert_eq!(field(optional::CHECKSUM), 0);
}

#[test]
fn replaced_content_leaves_nothing_of_the_old() {
    let mut made = Image::new(image(&[".text", ".sbat"], 2)).unwrap();
    made.replace(".sbat", b"new").unwrap();
    let section = made.headers().section(".sbat").unwrap();
    assert_eq!(section.data(made.bytes()), b"new");
    let start = section.raw_offset as usize;
    assert!(made.bytes()[start + 3..start + 512].iter().all(|byte| *byte == 0));
    assert!(made.replace(".sbat", &[1; 513]).is_err());
    assert!(made.replace(".none", b"").is_err());
}

#[test]
fn a_section_is_refused_if_the_header_has_no_room() {
    let mut made = Image::new(image(&[".text"], 1)).unwrap();
    let error = made.append(".more", 1, READABLE).unwrap_err().to_string();
    assert!(error.contains("no room for one more section, .more"), "{error}");
}

#[test]
fn a_file_that_pe_cannot_address_is_refused() {
    let mut made = Image::new(image(&[".text"], 3)).unwrap();
    made.append(".half", 3 << 30, READABLE).unwrap();
    let error = format!("{:#}", made.append(".half2", 3 << 30, READABLE).unwrap_err());
    assert!(error.contains("4 GiB"), "{error}");
}

#[test]
fn signed_and_damaged_images_are_refused() {
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = image(&[".text"], 3);
        change(&mut file);
        format!("{:#}", Image::new(file).unwrap_err())
    };
    let optional = 0x58;
    assert!(
        refused(&|file| put_u32(file, optional + optional::SECURITY_DIRECTORY, 1))
            .contains("signed")
    );
    assert!(refused(&|file| put_u32(file, 0x44 + coff::SYMBOL_TABLE, 1)).contains("symbol table"));
    assert!(
        refused(&|file| put_u32(file, optional + optional::FILE_ALIGNMENT, 3))
            .contains("not an alignment")
    );
    assert!(
        refused(&|file| put_u32(file, optional + optional::SIZE_OF_HEADERS, 1 << 20))
            .contains("cut off")
    );
    assert!(refused(&|file| file.truncate(600)).contains("cut off"));
    assert!(refused(&|file| file.truncate(80)).contains("cut off"));
    assert!(refused(&|file| file[0] = 0).contains("not a PE file"));
}

#[test]
fn the_flag_for_nx_can_be_cleared() {
    let mut made = Image::new(image(&[".text"], 1)).unwrap();
    assert!(made.headers().is_nx_compatible());
    made.clear_nx_compatible();
    assert!(!Headers::parse(made.bytes()).unwrap().is_nx_compatible());
}

/// Reads and changes everything that can be read: sections lie in the file, and an image that was
/// changed can be read back.
fn exercise(file: Vec<u8>) {
    if let Ok(headers) = Headers::parse(&file) {
        for section in &headers.sections {
            assert!(section.data(&file).len() <= section.virtual_size as usize);
        }
    }
    if let Ok(mut made) = Image::new(file) {
        let before = made.headers().sections.len();
        let replaced = made.replace(".sbat", &[1; 100]).is_ok();
        let added = made.append(".new", 10, READABLE).is_ok();
        made.clear_nx_compatible();
        let headers = Headers::parse(made.bytes()).unwrap();
        assert_eq!(headers.sections.len(), before + usize::from(added));
        assert!(!headers.is_nx_compatible());
        if replaced {
            let sbat = headers.sections.iter().find(|section| section.name == ".sbat").unwrap();
            assert_eq!(sbat.data(made.bytes()), [1; 100]);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_have_their_sections_in_the_file(file in proptest::collection::vec(any::<u8>(), 0..600)) {
        exercise(file);
    }

    #[test]
    fn a_damaged_image_is_refused_or_can_be_changed_and_read_back(
        changes in proptest::collection::vec((0usize..1700, any::<u8>()), 1..12),
        length in 0usize..3000,
    ) {
        let mut file = image(&[".text", ".sbat"], 4);
        for (at, value) in changes {
            let at = at % file.len();
            file[at] = value;
        }
        file.truncate(length);
        exercise(file);
    }
}
