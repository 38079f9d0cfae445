//! NFS mounts for `mount -t nfs SERVER:/PATH TARGET`, as kubelet makes them.
//!
//! The kernel does everything but two things: it takes addresses and no names (nfs(5), `addr=`), and
//! one protocol version. So this looks the server's name up, and tries versions from the newest on.
//! Error texts are those of mount.nfs(8). Locks of version 3 need a daemon that Kiln does not have,
//! so version 3 needs the option `nolock`.

use std::ffi::CString;
use std::net::IpAddr;

use anyhow::{Result, anyhow};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::errno::describe;
use super::resolve;

/// Options that only mount.nfs(8) itself understands.
const FOR_PROGRAM: [&str; 5] = ["bg", "fg", "retry", "sloppy", "mounthost"];

/// Options that choose the version.
const VERSION: [&str; 3] = ["vers", "nfsvers", "minorversion"];

/// A version of the protocol, as the kernel's option `vers` takes it.
type Version = &'static str;

/// True for a file system type that this module mounts.
#[must_use]
pub fn is_nfs(kind: &str) -> bool {
    matches!(kind, "nfs" | "nfs4")
}

/// Mounts `source`, which is `SERVER:/PATH`.
pub fn mount(
    kind: &str,
    source: &str,
    target: &str,
    flags: MountFlags,
    options: &[String],
) -> Result<()> {
    let server = server(source).ok_or_else(|| anyhow!("remote share not in 'host:dir' format"))?;
    let versions = versions(kind, options)?;
    let addresses = resolve::addresses(server)
        .map_err(|error| anyhow!("Failed to resolve server {server}: {error:#}"))?;
    let mut last = Errno::HOSTUNREACH;
    for address in addresses {
        let attempt = |version: Version| {
            let data = CString::new(data(options, address, version)).map_err(|_| Errno::INVAL)?;
            rustix::mount::mount(source, target, "nfs", flags, &*data)
        };
        match newest(&versions, attempt) {
            Ok(()) => return Ok(()),
            // Another address of the server may answer.
            Err(error) => last = error,
        }
        if !is_about_the_way(last) {
            break;
        }
    }
    Err(explain(last, source, versions.len() > 1))
}

/// Returns the server of `SERVER:/PATH`. An IPv6 address is in brackets.
fn server(source: &str) -> Option<&str> {
    let (server, path) = match source.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => source.split_once(':')?,
    };
    (!server.is_empty() && !path.is_empty()).then_some(server)
}

/// Returns the versions to try, the newest first.
fn versions(kind: &str, options: &[String]) -> Result<Vec<Version>> {
    let minor = value(options, &["minorversion"]);
    let wanted = value(options, &["vers", "nfsvers"]).or((kind == "nfs4").then_some("4"));
    let local_locks = options.iter().any(|option| option == "nolock" || option == "local_lock=all");
    match (wanted, minor) {
        (Some("4.2"), None) | (Some("4"), Some("2")) => Ok(vec!["4.2"]),
        (Some("4.1"), None) | (Some("4"), Some("1")) => Ok(vec!["4.1"]),
        (Some("4.0"), None) | (Some("4"), Some("0")) => Ok(vec!["4.0"]),
        (Some("3"), None) if local_locks => Ok(vec!["3"]),
        (Some("3"), None) => Err(anyhow!(
            "rpc.statd is not running but is required for remote locking: \
             add the option nolock to keep locks local, or use NFS 4"
        )),
        (None, None) if local_locks => Ok(vec!["4.2", "4.1", "4.0", "3"]),
        (Some("4") | None, None) => Ok(vec!["4.2", "4.1", "4.0"]),
        _ => Err(anyhow!("an unsupported NFS version was specified")),
    }
}

/// Returns the value of the last of these options.
fn value<'a>(options: &'a [String], names: &[&str]) -> Option<&'a str> {
    let mut pairs = options.iter().rev().filter_map(|option| option.split_once('='));
    pairs.find(|(name, _)| names.contains(name)).map(|(_, value)| value)
}

/// Returns the kernel's options.
fn data(options: &[String], address: IpAddr, version: Version) -> String {
    let name = |option: &str| option.split('=').next().unwrap_or_default().to_owned();
    let passed = options.iter().filter(|option| {
        let name = name(option);
        !FOR_PROGRAM.contains(&name.as_str()) && !VERSION.contains(&name.as_str())
    });
    let own = [format!("vers={version}"), format!("addr={address}")];
    passed.cloned().chain(own).collect::<Vec<_>>().join(",")
}

/// Tries versions in order until the server has one.
fn newest(
    versions: &[Version],
    mut attempt: impl FnMut(Version) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut first = None;
    for version in versions {
        match attempt(version) {
            Ok(()) => return Ok(()),
            // Without version 4 a server may not listen on its port, or has no root of version 4.
            Err(error)
                if is_about_the_version(error)
                    || version.starts_with('4') && versions.contains(&"3") =>
            {
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(first.unwrap_or(Errno::PROTONOSUPPORT))
}

fn is_about_the_version(error: Errno) -> bool {
    matches!(error, Errno::PROTONOSUPPORT | Errno::INVAL | Errno::OPNOTSUPP)
}

fn is_about_the_way(error: Errno) -> bool {
    matches!(
        error,
        Errno::CONNREFUSED
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::TIMEDOUT
            | Errno::CONNRESET
    )
}

/// Returns the text of mount.nfs(8).
fn explain(error: Errno, source: &str, any_version: bool) -> anyhow::Error {
    match error {
        Errno::NODEV => anyhow!("unknown filesystem type 'nfs'"),
        Errno::ACCESS | Errno::PERM => anyhow!("access denied by server while mounting {source}"),
        Errno::NOENT | Errno::NOTDIR => {
            anyhow!("mounting {source} failed, reason given by server: {}", describe(error))
        }
        Errno::PROTONOSUPPORT if any_version => {
            anyhow!("the server has no NFS 4; for NFS 3 add the options nfsvers=3,nolock")
        }
        Errno::PROTONOSUPPORT => {
            anyhow!("requested NFS version or transport protocol is not supported")
        }
        Errno::INVAL => anyhow!("an incorrect mount option was specified"),
        Errno::BUSY => anyhow!("{source} is busy or already mounted"),
        other => anyhow!("{}", describe(other)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustix::io::Errno;

    use super::{data, explain, newest, server, versions};

    fn options(line: &str) -> Vec<String> {
        line.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn a_source_names_a_server_and_a_path() {
        for (source, expected) in [
            ("nfs.example:/export", Some("nfs.example")),
            ("192.0.2.1:/", Some("192.0.2.1")),
            ("[2001:db8::1]:/export", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001")),
            ("/export", None),
            (":/export", None),
            ("server:", None),
            ("[2001:db8::1/export", None),
        ] {
            assert_eq!(server(source), expected, "{source}");
        }
    }

    #[test]
    fn versions_are_tried_from_the_newest_on() {
        let of = |kind: &str, line: &str| versions(kind, &options(line)).unwrap();
        assert_eq!(of("nfs", "hard"), ["4.2", "4.1", "4.0"]);
        assert_eq!(of("nfs", "hard,nolock"), ["4.2", "4.1", "4.0", "3"]);
        assert_eq!(of("nfs", "hard,nfsvers=4.1"), ["4.1"]);
        assert_eq!(of("nfs", "vers=4,minorversion=1"), ["4.1"]);
        assert_eq!(of("nfs", "vers=3,nfsvers=4"), ["4.2", "4.1", "4.0"], "the last one counts");
        assert_eq!(of("nfs4", ""), ["4.2", "4.1", "4.0"]);
        assert_eq!(of("nfs", "nfsvers=3,local_lock=all"), ["3"]);
        for line in ["vers=2", "vers=4.3", "vers=", "minorversion=1", "vers=4.1,minorversion=2"] {
            assert!(versions("nfs", &options(line)).is_err(), "{line}");
        }
        let error = versions("nfs", &options("nfsvers=3")).unwrap_err().to_string();
        assert!(error.contains("nolock"), "{error}");
    }

    #[test]
    fn the_kernel_gets_the_address_and_one_version() {
        let address = "192.0.2.1".parse().unwrap();
        let given = options("hard,nfsvers=4.1,retry=2,bg,timeo=600,port=20491");
        assert_eq!(
            data(&given, address, "4.1"),
            "hard,timeo=600,port=20491,vers=4.1,addr=192.0.2.1"
        );
    }

    #[test]
    fn a_server_without_a_version_is_asked_for_the_next() {
        let tried = |versions: &[&'static str], answers: &[(&str, Errno)]| {
            let mut tried = Vec::new();
            let result = newest(versions, |version| {
                tried.push(version);
                answers
                    .iter()
                    .find(|(of, _)| *of == version)
                    .map_or(Ok(()), |(_, error)| Err(*error))
            });
            (tried, result)
        };
        let old = [("4.2", Errno::PROTONOSUPPORT), ("4.1", Errno::INVAL)];
        assert_eq!(tried(&["4.2", "4.1", "4.0"], &old), (vec!["4.2", "4.1", "4.0"], Ok(())));
        let refused = [("4.2", Errno::CONNREFUSED)];
        assert_eq!(tried(&["4.2", "4.1"], &refused), (vec!["4.2"], Err(Errno::CONNREFUSED)));
        let only3 =
            [("4.2", Errno::CONNREFUSED), ("4.1", Errno::CONNREFUSED), ("4.0", Errno::CONNREFUSED)];
        assert_eq!(tried(&["4.2", "4.1", "4.0", "3"], &only3).1, Ok(()));
        let none = [("4.2", Errno::PROTONOSUPPORT)];
        assert_eq!(tried(&["4.2"], &none).1, Err(Errno::PROTONOSUPPORT));
    }

    #[test]
    fn errors_have_the_texts_of_mount_nfs() {
        for (error, any, expected) in [
            (Errno::ACCESS, true, "access denied by server while mounting s:/p"),
            (
                Errno::NOENT,
                true,
                "mounting s:/p failed, reason given by server: No such file or directory",
            ),
            (Errno::CONNREFUSED, true, "Connection refused"),
            (Errno::TIMEDOUT, false, "Connection timed out"),
            (Errno::INVAL, false, "an incorrect mount option was specified"),
            (
                Errno::PROTONOSUPPORT,
                false,
                "requested NFS version or transport protocol is not supported",
            ),
            (Errno::NODEV, true, "unknown filesystem type 'nfs'"),
        ] {
            assert_eq!(explain(error, "s:/p", any).to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn exactly_one_version_and_address_reach_the_kernel(
            line in "([a-z]{1,8}(=[a-z0-9.]{0,5})?,){0,4}(vers=4)?(,nfsvers=3)?",
        ) {
            let data = data(&options(&line), "192.0.2.1".parse().unwrap(), "4.2");
            let versions = data.split(',').filter(|option| option.contains("vers="));
            prop_assert_eq!(versions.filter(|option| !option.contains("mountvers")).count(), 1);
            prop_assert!(data.ends_with("addr=192.0.2.1"));
        }
    }
}
