//! Settings of a node: the kernel parameters and credentials that PID 1 honours.
//!
//! To add a setting, write its constant, list it in [`PARAMETERS`] or [`CREDENTIALS`], add its row to
//! `docs/boot.md` as [`Parameter::row`] or [`Credential::row`] writes it, and read it in the stage that
//! needs it. The parser of parameters knows only the table; a credential is read by name.

/// The prefix of every kernel parameter of Kiln. An unknown name with this prefix causes a warning.
pub const PREFIX: &str = "kiln.";

/// A kernel parameter, `NAME=VALUE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// The name, which starts with [`PREFIX`].
    pub name: &'static str,
    /// The valid values.
    pub value: Value,
    /// The value that is used if the parameter is missing or invalid.
    pub default: &'static str,
    /// One line for the documentation.
    pub summary: &'static str,
}

/// The syntax of a parameter's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Any text; the code that uses it checks it.
    Text,
    /// A size as tmpfs takes it: digits, then nothing, `%`, `k`, `m` or `g`.
    Size,
    /// A whole number from 0 to this one.
    Number(u64),
    /// One of these words.
    Word(&'static [&'static str]),
}

/// A credential: a small file that the machine's owner hands to the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credential {
    /// The name, or the beginning of the name if [`Credential::variable`] is not empty.
    pub name: &'static str,
    /// The documentation's word for the rest of the name.
    pub variable: &'static str,
    /// One line for the documentation.
    pub summary: &'static str,
}

/// 50 % leaves room for kubelet, containerd and pods on a machine with 512 MiB.
pub const VAR_SIZE: Parameter = Parameter {
    name: "kiln.var-size",
    value: Value::Size,
    default: "50%",
    summary: "size of an in-memory `/var`",
};

/// 5 % of 512 MiB is 24 MiB, enough for a few containers with the two files of 4 MiB that kubelet
/// keeps of each.
pub const POD_LOG_SIZE: Parameter = Parameter {
    name: "kiln.pod-log-size",
    value: Value::Size,
    default: "5%",
    summary: "size of `/var/log/pods` if `/var` is in memory",
};

/// A name that is not valid under RFC 1123 causes a warning, and the default is used.
pub const HOSTNAME: Parameter = Parameter {
    name: "kiln.hostname",
    value: Value::Text,
    default: "",
    summary: "the node's name, see [Identity](#identity)",
};

/// The lock comes after the modules for the hardware and those of the image's list.
pub const LOCK_MODULES: Parameter = Parameter {
    name: "kiln.lock-modules",
    value: Value::Word(&["yes", "no"]),
    default: "no",
    summary: "`yes`: no module can be loaded or removed after the boot, see [Hardening](#hardening)",
};

/// A service that keeps failing ends a trial boot.
pub const TRIAL: Parameter = Parameter {
    name: "kiln.trial",
    value: Value::Word(&["1"]),
    default: "",
    summary: "`1`: this boot is a trial, see [Services](#services)",
};

/// Reboots are counted on the data partition.
pub const CURE_REBOOTS: Parameter = Parameter {
    name: "kiln.cure-reboots",
    value: Value::Number(255),
    default: "0",
    summary: "number of reboots in 24 hours that a failing service may cause, see [Services](#services)",
};

/// For inspecting a node, which has no login.
pub const LOG: Parameter = Parameter {
    name: "kiln.log",
    value: Value::Word(&["console"]),
    default: "",
    summary: "`console`: the output of containerd and kubelet goes to the console too",
};

/// 10 minutes is longer than any pod's default grace, and short enough for a machine that must go
/// down. The maximum is a day.
pub const SHUTDOWN_MAX: Parameter = Parameter {
    name: "kiln.shutdown-max",
    value: Value::Number(86_400),
    default: "600",
    summary: "the longest time in seconds that a shutdown waits for kubelet",
};

/// PID 1 keeps the reason of a shutdown in an EFI variable if there is no data partition.
pub const NVRAM: Parameter = Parameter {
    name: "kiln.nvram",
    value: Value::Word(&["off"]),
    default: "",
    summary: "`off`: PID 1 writes no EFI variable, see [the reason](#the-reason)",
};

/// Every kernel parameter.
pub const PARAMETERS: [Parameter; 9] =
    [VAR_SIZE, POD_LOG_SIZE, HOSTNAME, LOCK_MODULES, TRIAL, CURE_REBOOTS, LOG, SHUTDOWN_MAX, NVRAM];

/// The credential wins over the parameter of the same name.
pub const HOSTNAME_CREDENTIAL: Credential = Credential {
    name: "kiln.hostname",
    variable: "",
    summary: "the node's name, see [Identity](#identity)",
};

/// The pod `NAME` replaces a baked static pod of the same name.
pub const POD: Credential = Credential {
    name: "kiln.pod.",
    variable: "NAME",
    summary: "the manifest of a static pod, copied to `/etc/kubernetes/manifests/NAME.yaml`",
};

/// TOML, read key by key: an invalid key is reported and the others apply.
pub const NODE: Credential = Credential {
    name: "kiln.node",
    variable: "",
    summary: "the node's settings, see [cluster.md](cluster.md#configuration)",
};

/// TOML with `server`, `token` and `ca`.
pub const JOIN: Credential = Credential {
    name: "kiln.join",
    variable: "",
    summary: "the cluster that the node joins, see [cluster.md](cluster.md#join)",
};

/// For clusters that hand out a kubeconfig instead of a token.
pub const BOOTSTRAP_KUBECONFIG: Credential = Credential {
    name: "kiln.bootstrap-kubeconfig",
    variable: "",
    summary: "a kubeconfig to join with, instead of `kiln.join`",
};

/// Without `NAME` it is `kiln.kubelet`.
pub const KUBELET: Credential = Credential {
    name: "kiln.kubelet",
    variable: "[.NAME]",
    summary: "a `KubeletConfiguration`, merged by kubelet over the image's, see [cluster.md](cluster.md#kubelet)",
};

/// A registry of `kiln.node` names it by `NAME`.
pub const CA: Credential = Credential {
    name: "kiln.ca.",
    variable: "NAME",
    summary: "a certificate authority in PEM that the node trusts",
};

/// Every credential.
pub const CREDENTIALS: [Credential; 7] =
    [HOSTNAME_CREDENTIAL, NODE, JOIN, BOOTSTRAP_KUBECONFIG, KUBELET, CA, POD];

/// The number of credentials of a node. More are a mistake or an attack.
pub const CREDENTIAL_COUNT_MAX: usize = 64;

/// The largest credential in bytes, as in systemd (`CREDENTIAL_SIZE_MAX`).
pub const CREDENTIAL_BYTES_MAX: usize = 1024 * 1024;

impl Parameter {
    /// Returns the parameter's row in `docs/boot.md`.
    #[must_use]
    pub fn row(&self) -> String {
        let Self { name, value, default, summary } = self;
        let default = if default.is_empty() { String::new() } else { format!("`{default}` ") };
        format!("| `{name}` | {} | {default}| {summary} |", value.syntax())
    }
}

impl Credential {
    /// Returns the credential's row in `docs/boot.md`.
    #[must_use]
    pub fn row(&self) -> String {
        let Self { name, variable, summary } = self;
        format!("| `{name}{variable}` | {summary} |")
    }
}

impl Value {
    /// True if `text` is a valid value.
    #[must_use]
    pub fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Text => true,
            Self::Size => is_size(text),
            Self::Number(max) => text.parse().is_ok_and(|number: u64| number <= *max),
            Self::Word(words) => words.contains(&text),
        }
    }

    /// Returns the syntax as the documentation has it.
    fn syntax(&self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Size => "`512m`, `40%`".into(),
            Self::Number(max) => format!("0 to {max}"),
            Self::Word(words) => format!("`{}`", words.join("`, `")),
        }
    }
}

fn is_size(text: &str) -> bool {
    let digits = text.trim_end_matches(['k', 'm', 'g', 'K', 'M', 'G', '%']);
    !digits.is_empty()
        && text.len() - digits.len() <= 1
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{HOSTNAME, NVRAM, PARAMETERS, POD, PREFIX, VAR_SIZE, Value};

    #[test]
    fn every_default_is_a_valid_value_and_every_name_is_different() {
        for (index, parameter) in PARAMETERS.iter().enumerate() {
            let default = parameter.default;
            assert!(default.is_empty() || parameter.value.accepts(default), "{parameter:?}");
            assert!(parameter.name.starts_with(PREFIX), "{parameter:?}");
            assert!(PARAMETERS[..index].iter().all(|other| other.name != parameter.name));
        }
    }

    #[test]
    fn values_are_checked_by_their_syntax() {
        for (value, valid, invalid) in [
            (Value::Size, vec!["1", "40%", "512m", "2G"], vec!["", "m", "10gg", "1.5g", "-1"]),
            (Value::Number(9), vec!["0", "9"], vec!["", "10", "-1", "1.0"]),
            (Value::Word(&["a", "b"]), vec!["a", "b"], vec!["", "c", "ab"]),
        ] {
            assert!(valid.iter().all(|text| value.accepts(text)), "{value:?}");
            assert!(!invalid.iter().any(|text| value.accepts(text)), "{value:?}");
        }
    }

    #[test]
    fn rows_are_those_of_a_table_in_markdown() {
        let expected = "| `kiln.var-size` | `512m`, `40%` | `50%` | size of an in-memory `/var` |";
        assert_eq!(VAR_SIZE.row(), expected);
        assert!(HOSTNAME.row().starts_with("| `kiln.hostname` | text | | the node's"));
        assert!(NVRAM.row().starts_with("| `kiln.nvram` | `off` | | `off`: "));
        assert!(POD.row().starts_with("| `kiln.pod.NAME` | the manifest"));
    }
}
