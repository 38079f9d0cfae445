//! The variables of the user's environment that reach a program, each with its reason.
//!
//! A program starts with an empty environment, and everything that is not listed here stays
//! outside: a compiler's flags, a source date, a locale. Otherwise two hosts would make different
//! bytes from inputs with the same digest. `docs/build.md` has the same lists, and a test compares
//! them.

use std::env;
use std::ffi::OsString;

/// Variables that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Group(pub &'static [Variable]);

/// A name, or the beginning of several names if it ends with `*`, and the reason.
pub type Variable = (&'static str, &'static str);

/// Variables that every program gets.
pub const BASE: Group = Group(&[
    ("PATH", "programs are found by name"),
    ("HOME", "rustup and git find their files there"),
    ("TMPDIR", "linkers and compilers need room for temporary files"),
    ("RUSTUP_*", "rustup chooses the toolchain that compiled the builder"),
    ("NIX_LD", "compilers of another distribution find their loader on NixOS"),
    ("NIX_LD_LIBRARY_PATH", "the same for their libraries"),
]);

/// Variables of programs that use the network.
pub const NETWORK: Group = Group(&[
    ("http_proxy", "the way out of the host's network"),
    ("https_proxy", "the same for HTTPS"),
    ("all_proxy", "the same for every protocol"),
    ("no_proxy", "hosts that need no proxy"),
    ("HTTP_PROXY", "`http_proxy` as some programs spell it"),
    ("HTTPS_PROXY", "`https_proxy` as some programs spell it"),
    ("ALL_PROXY", "`all_proxy` as some programs spell it"),
    ("NO_PROXY", "`no_proxy` as some programs spell it"),
    ("SSL_CERT_FILE", "certificate authorities of the host's network"),
    ("SSL_CERT_DIR", "the same as a folder"),
    ("NIX_SSL_CERT_FILE", "the same on NixOS"),
    ("CURL_CA_BUNDLE", "the same for curl"),
    ("NETRC", "names and passwords for registries"),
    ("DOCKER_CONFIG", "the folder with names and passwords for registries of container images"),
    ("APT_CONFIG", "apt's proxy and sources, for `update`"),
    ("XDG_CONFIG_HOME", "the folder of Go's and git's configuration"),
    ("GIT_ASKPASS", "git's credentials, for modules that come without a module proxy"),
    ("GIT_CONFIG_*", "git's configuration, for the same modules"),
    ("GIT_PROXY_COMMAND", "git's proxy"),
    ("GIT_SSH*", "git's ssh"),
    ("GIT_SSL_*", "git's certificate authorities"),
    ("SSH_AUTH_SOCK", "ssh's agent"),
]);

/// Variables of `go mod download`: the source of modules, which go.sum checks.
pub const GO: Group = Group(&[
    ("GOPROXY", "the module proxy"),
    ("GOPRIVATE", "modules that no public server knows"),
    ("GONOPROXY", "modules that are fetched directly"),
    ("GOSUMDB", "the database of checksums"),
    ("GONOSUMDB", "modules that the database does not know"),
    ("GONOSUMCHECK", "the same for old proxies"),
    ("GOINSECURE", "modules that are fetched without TLS"),
    ("GOVCS", "version control programs that may fetch"),
    ("GOAUTH", "credentials for module proxies"),
    ("GOENV", "the file of `go env -w`, which may set all of these"),
]);

/// Variables of `cargo fetch`: the source of crates, which Cargo.lock checks.
pub const CARGO: Group = Group(&[
    ("CARGO_HTTP_*", "cargo's proxy, certificates and timeouts"),
    ("CARGO_NET_*", "cargo's retries, and git as a program"),
    ("CARGO_REGISTR*", "addresses and credentials of registries"),
]);

/// Variables of QEMU, whose window belongs to the user's session.
pub const SESSION: Group = Group(&[
    ("DISPLAY", "QEMU's window"),
    ("WAYLAND_DISPLAY", "the same under Wayland"),
    ("XAUTHORITY", "the right to open a window"),
    ("XDG_RUNTIME_DIR", "sockets of the session, such as that of the sound server"),
]);

/// Variables that a running cargo sets, and that would change a build of the developer's own cargo.
const CARGO_LEAKS: [&str; 4] = ["CARGO*", "RUST*", "LD_LIBRARY_PATH", "MAKEFLAGS"];

/// Variables among them that are the user's own.
const CARGO_KEPT: [&str; 3] = ["CARGO_HOME", "RUSTUP_*", "CARGO_SOURCE_*"];

/// Returns the user's whole environment, without the variables that a running cargo has added.
pub fn whole() -> impl Iterator<Item = (OsString, OsString)> {
    env::vars_os().filter(|(name, _)| !name.to_str().is_some_and(is_leak))
}

fn is_leak(name: &str) -> bool {
    let any = |list: &[&str]| list.iter().any(|listed| matches(listed, name));
    any(&CARGO_LEAKS) && !any(&CARGO_KEPT) && !CARGO.has(name)
}

/// True if a listed name, which may end with `*`, matches this one.
fn matches(listed: &str, name: &str) -> bool {
    match listed.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == listed,
    }
}

impl Group {
    /// Returns the variables of this group that the builder itself was started with.
    pub fn present(self) -> impl Iterator<Item = (OsString, OsString)> {
        env::vars_os().filter(move |(name, _)| name.to_str().is_some_and(|name| self.has(name)))
    }

    /// True if this group lists a variable.
    #[must_use]
    pub fn has(self, name: &str) -> bool {
        self.0.iter().any(|(listed, _)| matches(listed, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_changes_bytes_is_listed() {
        let groups = [BASE, NETWORK, GO, CARGO, SESSION];
        for name in [
            "SOURCE_DATE_EPOCH",
            "CGO_CFLAGS",
            "CFLAGS",
            "CC",
            "GOFLAGS",
            "GOAMD64",
            "GOEXPERIMENT",
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "CARGO_HOME",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_PROFILE_RELEASE_OPT_LEVEL",
            "CARGO_TARGET_DIR",
            "CARGO_MANIFEST_DIR",
            "LC_ALL",
            "LD_LIBRARY_PATH",
            "LD_PRELOAD",
            "LIBRARY_PATH",
            "MAKEFLAGS",
            "TZ",
        ] {
            assert!(!groups.iter().any(|group| group.has(name)), "{name}");
        }
    }

    #[test]
    fn a_registry_and_a_proxy_reach_the_programs_that_fetch() {
        assert!(NETWORK.has("https_proxy") && GO.has("GOPROXY"));
        assert!(CARGO.has("CARGO_REGISTRIES_X_INDEX") && CARGO.has("CARGO_HTTP_CAINFO"));
        assert!(!BASE.has("https_proxy"), "a build step has no network");
    }

    #[test]
    fn variables_of_a_running_cargo_do_not_reach_another_cargo() {
        assert!(
            is_leak("CARGO_MANIFEST_DIR") && is_leak("RUSTFLAGS") && is_leak("CARGO_TARGET_DIR")
        );
        assert!(!is_leak("CARGO_HOME") && !is_leak("PATH") && !is_leak("CARGO_HTTP_PROXY"));
    }
}
