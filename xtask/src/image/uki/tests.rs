use super::super::pe;
use super::*;

/// Returns an EFI binary whose second section, `.sbat`, has this text, with room for this many
/// sections.
fn binary(sbat: &str, room: usize) -> Content {
    let mut made = Image::new(pe::tests::image(&[".text", ".sbat"], room)).unwrap();
    made.replace(".sbat", sbat.as_bytes()).unwrap();
    Content::Bytes(made.bytes().into())
}

fn parts() -> Parts {
    Parts {
        stub: binary("sbat,1,header\nstub,1\n", 8),
        os_release: "ID=kiln\n".into(),
        cmdline: "console=ttyS0".into(),
        uname: "6.12.1".into(),
        linux: binary("sbat,1,header\nlinux,1\n", 8),
        initrd: Content::Bytes(vec![9; 1000].into()),
    }
}

fn written(parts: &Parts) -> Vec<u8> {
    let mut file = Vec::new();
    let length = write(parts, &mut file).unwrap();
    assert_eq!(length, file.len() as u64);
    file
}

#[test]
fn a_uki_read_back_has_every_part() {
    let parts = parts();
    let file = written(&parts);
    let sections = read(&file).unwrap();
    let names: Vec<_> = sections.iter().map(|section| section.name.as_str()).collect();
    assert_eq!(names, [".osrel", ".cmdline", ".uname", ".linux", ".initrd"]);
    let linux = load(&parts.linux).unwrap();
    let contents: [&[u8]; 5] = [b"ID=kiln\n", b"console=ttyS0", b"6.12.1", &linux, &[9; 1000]];
    for (section, content) in sections.iter().zip(contents) {
        assert_eq!(section.data(&file), content, "{}", section.name);
        assert_eq!(section.virtual_address % 4096, 0);
    }
    assert_eq!(file.len() % 512, 0);
}

#[test]
fn components_of_stub_and_kernel_come_before_the_ukis_own() {
    let file = written(&parts());
    let sbat = Headers::parse(&file).unwrap().section(".sbat").unwrap().data(&file).to_vec();
    let expected = format!("{SBAT_HEADER}\nstub,1\nlinux,1\n{SBAT_UKI}\n\0");
    assert_eq!(String::from_utf8(sbat).unwrap(), expected);
}

#[test]
fn a_kernel_that_is_not_nx_compatible_clears_the_flag_of_the_uki() {
    let mut kernel = Image::new(load(&parts().linux).unwrap()).unwrap();
    kernel.clear_nx_compatible();
    let parts = Parts { linux: Content::Bytes(kernel.bytes().into()), ..parts() };
    assert!(!Headers::parse(&written(&parts)).unwrap().is_nx_compatible());
}

#[test]
fn parts_that_cannot_make_a_uki_are_refused() {
    let refused = |parts: Parts| format!("{:#}", write(&parts, &mut Vec::new()).unwrap_err());
    let empty = Content::Bytes([].as_slice().into());
    let plain = Content::Bytes(pe::tests::image(&[".text"], 8).into());
    let full = binary("sbat,1,header\nstub,1\n", 2);
    assert!(refused(Parts { stub: plain, ..parts() }).contains("no section .sbat"));
    assert!(
        refused(Parts { stub: full, ..parts() }).contains("no room for one more section, .osrel")
    );
    assert!(refused(Parts { linux: empty.clone(), ..parts() }).contains("cannot use the kernel"));
    assert!(refused(Parts { initrd: empty, ..parts() }).contains(".initrd would be empty"));
    let no_text = Parts { linux: binary("sbat-less", 8), ..parts() };
    assert!(refused(no_text).contains("does not start with its header line"));
}

#[test]
fn an_efi_file_that_is_not_a_uki_is_refused() {
    let error = read(&pe::tests::image(&[".text"], 1)).unwrap_err().to_string();
    assert!(error.contains("not a UKI"), "{error}");
}
