use std::path::Path;

use proptest::prelude::*;

use super::{Found, Index};
use crate::modules::settings::Settings;

fn index() -> Index {
    Index::parse(
        Path::new("/m"),
        "kernel/net/virtio-net.ko: kernel/net/net_failover.ko kernel/net/failover.ko\n\
         kernel/net/net_failover.ko: kernel/net/failover.ko\n\
         kernel/net/failover.ko:\nkernel/lib/crc32c.ko:\nkernel/fs/erofs.ko:\n",
        "# Aliases\nalias virtio:d00000001v* virtio_net\nalias fs-erofs erofs\nalias broken\n",
        "softdep erofs pre: crc32c post: failover absent\n",
        "kernel/fs/ext4/ext4.ko\n",
        "alias fs-ext4 ext4\nalias acpi*:PNP0C0A:* battery\n",
    )
}

fn check(name: &str, expected: &[&str]) {
    let names: Vec<String> = match index().find(name) {
        Found::Load(files) => files.into_iter().map(|module| module.name).collect(),
        other => vec![format!("{other:?}")],
    };
    assert_eq!(names, expected, "{name}");
}

#[test]
fn dependencies_come_first() {
    check("virtio-net", &["failover", "net_failover", "virtio_net"]);
    check("virtio_net", &["failover", "net_failover", "virtio_net"]);
    check("virtio:d00000001v00001AF4", &["failover", "net_failover", "virtio_net"]);
}

#[test]
fn existing_soft_dependencies_are_loaded_before_and_after() {
    check("fs-erofs", &["crc32c", "erofs", "failover"]);
}

#[test]
fn a_builtin_module_differs_from_an_unknown_one() {
    check("ext4", &["Builtin"]);
    check("nosuch", &["Unknown"]);
    check("fs-ext4", &["Builtin"]);
    check("acpi:PNP0C0A:", &["Builtin"]);
}

#[test]
fn a_dash_and_an_underscore_are_the_same_in_names_and_aliases() {
    check("fs_erofs", &["crc32c", "erofs", "failover"]);
    check("net-failover", &["failover", "net_failover"]);
}

#[test]
fn cycles_of_soft_dependencies_terminate() {
    let index = Index::parse(
        Path::new("/m"),
        "a.ko:\nb.ko:\n",
        "",
        "softdep a pre: b\nsoftdep b pre: a post: b\n",
        "",
        "",
    );
    let Found::Load(files) = index.find("a") else { panic!("a is there") };
    assert_eq!(files.iter().map(|module| module.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn settings_add_aliases_and_hide_modules() {
    let mut settings = Settings::default();
    settings.take_config("alias my-net virtio-net\nblacklist erofs\nsoftdep crc32c post: erofs\n");
    let index = index().configured(&settings);
    assert!(matches!(index.find("my_net"), Found::Load(files) if files.len() == 3));
    assert_eq!(index.find("fs-erofs"), Found::Unknown);
    assert!(matches!(index.find("erofs"), Found::Load(_)));
    assert!(matches!(index.find("crc32c"), Found::Load(files) if files.len() == 3));
}

proptest! {
    /// Every module is loaded once, after everything that it needs, whatever else the index says.
    #[test]
    fn a_module_is_loaded_once_after_what_it_needs(
        needs in prop::collection::vec(0..8_usize, 8),
        alias in ".{0,100}",
        soft in prop::collection::vec((0..8_usize, 0..8_usize), 0..5),
    ) {
        // Module N can need only modules with smaller numbers, as in a real index.
        let dep: String = needs
            .iter()
            .enumerate()
            .map(|(n, need)| if *need < n { format!("m{n}.ko: m{need}.ko\n") } else { format!("m{n}.ko:\n") })
            .collect();
        let soft: Vec<_> = soft.iter().map(|(a, b)| format!("softdep m{a} pre: m{b}")).collect();
        let soft = soft.join("\n");
        let index = Index::parse(Path::new("/"), &dep, &alias, &soft, "", &alias);
        let Found::Load(files) = index.find("m7") else { panic!("m7 exists") };
        let at = |n: usize| files.iter().position(|file| file.name == format!("m{n}"));
        let names: std::collections::HashSet<_> = files.iter().map(|file| &file.name).collect();
        prop_assert_eq!(names.len(), files.len());
        prop_assert!(at(7).is_some());
        if soft.is_empty() && needs[7] < 7 {
            prop_assert!(at(needs[7]) < at(7));
        }
    }
}
#[test]
fn a_controller_with_a_driver_in_the_list_is_found() {
    let list = "# comment\nalias fs-ext4 ext4\nalias virtio:d00000002v* virtio_blk\n\
                alias pci:v000015ADd000007C0sv*sd*bc*sc*i* vmw_pvscsi\n";
    let listed = |name: &str| super::is_listed(list, &["pci:v1".into(), name.into()]);
    assert!(listed("virtio:d00000002v00001AF4"));
    assert!(listed("pci:v000015ADd000007C0sv000015ADsd000007C0bc01sc07i00"));
    assert!(!listed("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"));
    assert!(!listed("virtio:d00000008v00001AF4"));
    assert!(!super::is_listed("", &["virtio:d00000002v00001AF4".into()]));
}
