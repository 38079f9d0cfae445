//! `sysctls`: kernel settings, by the names that sysctl(8) has.

use super::read::{Problems, Value};

/// The settings that kubelet requires (`protectKernelDefaults`): with other values it exits.
const OF_KUBELET: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Reads `sysctls`. They are applied after Kiln's own, at boot and once their modules are loaded.
pub fn read(value: &Value<'_>, problems: &mut Problems) -> Vec<(String, String)> {
    let mut sysctls = Vec::new();
    for entry in value.entries(problems) {
        let Some(text) = entry.text_or_number(problems) else { continue };
        let path = path(&entry.name);
        if path.as_deref().is_some_and(|path| OF_KUBELET.contains(&path)) {
            let next = "leave it out";
            entry.refuse(problems, "kubelet runs only with the node's own value, ignored", next);
        } else if let Some(path) = path {
            sysctls.push((path, text));
        } else {
            let next = "write it with dots, such as \"net.core.somaxconn\"";
            entry.refuse(problems, "not the name of a kernel setting, ignored", next);
        }
    }
    sysctls
}

/// Returns the path below `/proc/sys`.
///
/// If the first separator is a dot, the dots separate and a slash stands for a dot, as in
/// sysctl.d(5), so that names of interfaces can have dots.
fn path(name: &str) -> Option<String> {
    let first = name.find(['.', '/'])?;
    let swapped = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if name.as_bytes()[first] == b'.' {
        name.chars().map(swapped).collect()
    } else {
        name.into()
    };
    let part = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte);
        !part.is_empty() && part.bytes().all(allowed) && !part.starts_with('.')
    };
    path.split('/').all(part).then_some(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::path;

    #[test]
    fn names_become_paths_as_in_sysctl_d() {
        for (name, expected) in [
            ("net.core.somaxconn", Some("net/core/somaxconn")),
            ("net/core/somaxconn", Some("net/core/somaxconn")),
            ("net.ipv4.conf.eth0/100.rp_filter", Some("net/ipv4/conf/eth0.100/rp_filter")),
            ("somaxconn", None),
            ("", None),
            ("a..b", None),
            ("../../etc/passwd", None),
            ("a.//.b", None),
            ("net/core/", None),
            ("/net/core", None),
        ] {
            assert_eq!(path(name).as_deref(), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_path_never_leaves_its_folder(name in "[a./]{0,20}") {
            if let Some(path) = path(&name) {
                prop_assert!(path.split('/').all(|part| !part.is_empty() && !part.starts_with('.')));
            }
        }
    }
}
