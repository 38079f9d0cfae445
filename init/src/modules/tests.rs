use std::path::Path;

use proptest::prelude::*;

use super::{Found, Index, matches};

fn index() -> Index {
    Index::parse(
        Path::new("/m"),
        "kernel/net/virtio-net.ko: kernel/net/net_failover.ko kernel/net/failover.ko\n\
         kernel/net/net_failover.ko: kernel/net/failover.ko\n\
         kernel/net/failover.ko:\nkernel/lib/crc32c.ko:\nkernel/fs/erofs.ko:\n",
        "# Aliases\nalias virtio:d00000001v* virtio_net\nalias fs-erofs erofs\nalias broken\n",
        "softdep erofs pre: crc32c post: failover absent\n",
        "kernel/fs/ext4/ext4.ko\n",
    )
}

fn check(name: &str, expected: &[&str]) {
    let names: Vec<String> = match index().find(name) {
        Found::Load(steps) => steps.into_iter().map(|step| step.name).collect(),
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
fn soft_dependencies_that_exist_are_loaded_around_it() {
    check("fs-erofs", &["crc32c", "erofs", "failover"]);
}

#[test]
fn a_builtin_is_nothing_to_load_and_an_unknown_name_is_told_apart() {
    check("ext4", &["Builtin"]);
    check("nosuch", &["Unknown"]);
}

#[test]
fn patterns_match_as_in_fnmatch() {
    let yes = [
        ("pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"),
        ("a[0-9a-c]z", "abz"),
        ("*", ""),
        ("a*", "a"),
        ("?b", "ab"),
    ];
    for (pattern, text) in yes {
        assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
    }
    for (pattern, text) in [("a", "ab"), ("a?", "a"), ("[0-9]", "a"), ("[", "["), ("a*b", "ac")] {
        assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
    }
}

proptest! {
    #[test]
    fn a_text_matches_itself_and_any_pattern_is_answered(
        text in "[a-z0-9:]{0,40}",
        pattern in "[a-c*?\\[\\]-]{0,20}",
    ) {
        prop_assert!(matches(text.as_bytes(), text.as_bytes()));
        let starred = format!("{text}*");
        prop_assert!(matches(starred.as_bytes(), text.as_bytes()));
        let _ = matches(pattern.as_bytes(), text.as_bytes());
    }

    #[test]
    fn any_index_is_read(dep in ".{0,200}", alias in ".{0,200}", soft in ".{0,200}") {
        let index = Index::parse(Path::new("/"), &dep, &alias, &soft, &dep);
        let _ = index.find("x");
    }
}
