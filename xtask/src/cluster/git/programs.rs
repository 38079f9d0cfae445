//! The server's programs, as scripts in one folder.
//!
//! git finds its own programs in `GIT_EXEC_PATH`, and sshd has the paths of its two helpers in its
//! configuration. The dynamic loader of the host could run none of them, therefore each is a script that
//! calls the closure's own loader.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::host::HostTool;

/// The folders of the packages.
#[derive(Debug, Clone)]
pub struct Programs {
    /// nginx.
    pub nginx: HostTool,
    /// fcgiwrap.
    pub fcgiwrap: HostTool,
    /// The folder of the package `git`.
    pub git: std::path::PathBuf,
    /// The folder of the package `openssh-server`.
    pub openssh: std::path::PathBuf,
    /// The folder of the package `libnss-wrapper`.
    pub accounts: std::path::PathBuf,
}

/// The library that answers questions about accounts from files of ours (`nss_wrapper(1)`).
const NSS_WRAPPER: &str = "libnss_wrapper.so";

/// Programs of git, and the compiled program behind each.
const GIT: [(&str, &str); 4] = [
    ("git", "git"),
    ("git-http-backend", "git-http-backend"),
    ("git-remote-http", "git-remote-http"),
    ("git-remote-https", "git-remote-http"),
];

/// Programs of git that are part of `git`.
const BUILT_IN: [&str; 2] = ["upload-pack", "receive-pack"];

/// The parts of OpenSSH that look up accounts.
const WITH_ACCOUNTS: [&str; 5] = ["sshd", "sshd-session", "sshd-auth", "ssh", "ssh-keygen"];

/// Writes all scripts to `bin`, and the configuration of git to `home`.
pub(super) fn write(programs: &Programs, folder: &Path) -> Result<()> {
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    let config = folder.join("home/gitconfig");
    fs::write(&config, CONFIG).with_context(|| format!("cannot write {}", config.display()))?;
    let path = std::path::PathBuf::from(format!("{}:/usr/bin:/bin", bin.display()));
    let none = Path::new("/dev/null");
    let variables: [(&str, &Path); 4] = [
        ("GIT_EXEC_PATH", &bin),
        ("GIT_CONFIG_GLOBAL", &config),
        ("GIT_CONFIG_SYSTEM", none),
        ("PATH", &path),
    ];
    for (name, program) in GIT {
        let tool = HostTool::new(&programs.git, program);
        write_script(&bin.join(name), &tool.script(&variables, None)?)?;
    }
    for name in BUILT_IN {
        let text = format!("#!/bin/sh\nexec '{}' {name} \"$@\"\n", bin.join("git").display());
        write_script(&bin.join(format!("git-{name}")), &text)?;
    }
    let library = HostTool::new(&programs.accounts, NSS_WRAPPER).libraries().join(NSS_WRAPPER);
    let (accounts, groups) = (folder.join("ssh/passwd"), folder.join("ssh/group"));
    let variables: [(&str, &Path); 2] =
        [("NSS_WRAPPER_PASSWD", &accounts), ("NSS_WRAPPER_GROUP", &groups)];
    for name in WITH_ACCOUNTS {
        let tool = HostTool::new(&programs.openssh, name);
        write_script(&bin.join(name), &tool.script(&variables, Some(&library))?)?;
    }
    Ok(())
}

/// The configuration of git on both sides. Forges allow filters too.
const CONFIG: &str = "\
[http]
\treceivepack = true
[uploadpack]
\tallowFilter = true
[safe]
\tdirectory = *
[user]
\tname = Test
\temail = test@git.example
[init]
\tdefaultBranch = main
[gc]
\tauto = 0
[maintenance]
\tauto = false
[receive]
\tautogc = false
\tdenyDeleteCurrent = ignore
";

/// Writes a script that can be executed.
pub(super) fn write_script(path: &Path, text: &str) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    fs::write(path, text).with_context(context)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(context)
}
