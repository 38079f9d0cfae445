//! sshd (sshd(8)), as an ordinary process.
//!
//! It knows one account, [`USER`], which is the caller under another name: the library
//! `nss_wrapper` answers its questions about accounts. Each login runs one script that serves
//! repositories.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{getegid, geteuid};

use super::layout::Layout;
use super::programs::write_script;
use crate::cluster::component::Component;
use crate::process::Command;

/// The account.
pub(super) const USER: &str = "git";

/// The folder of repositories that SSH shows with the first version of git's protocol only.
const OLD: &str = "/old";

/// The folder without which an sshd of root does not start (`_PATH_PRIVSEP_CHROOT_DIR`).
const EMPTY: &str = "/run/sshd";

/// The time for sshd to start.
const START_MAX: Duration = Duration::from_mins(1);

/// The pause between two attempts to connect.
const LOOK: Duration = Duration::from_millis(50);

/// The kinds of host keys.
const HOST_KEYS: [&str; 3] = ["ed25519", "ecdsa", "rsa"];

/// Makes host keys, the key of a client, and the list of host keys for clients.
pub(super) fn make_keys(server: &Layout) -> Result<()> {
    let folder = server.path("ssh");
    fs::create_dir_all(&folder).context("cannot create sshd's folder")?;
    let (uid, gid, home) = (geteuid().as_raw(), getegid().as_raw(), server.path("home"));
    let accounts = format!(
        "{USER}:*:{uid}:{gid}:git:{}:/bin/sh\nsshd:*:65534:65534:sshd:/nonexistent:/bin/false\n",
        home.display()
    );
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text).with_context(|| format!("cannot write ssh/{name}"))
    };
    write("passwd", &accounts)?;
    write("group", &format!("{USER}:*:{gid}:\nnogroup:*:65534:\n"))?;
    let keygen = |name: &str, kind: &str| {
        let command = Command::new(server.program("ssh-keygen"));
        command.args(["-q", "-t", kind, "-N", "", "-C", name, "-f"]).arg(folder.join(name)).output()
    };
    let mut known = String::new();
    for kind in HOST_KEYS {
        keygen(&format!("host_{kind}"), kind)?;
        let key = fs::read_to_string(folder.join(format!("host_{kind}.pub")))?;
        let place = format!("[{}]:{}", server.settings.address, server.ports.ssh);
        known.extend([&place, " ", &key]);
    }
    write("known_hosts", &known)?;
    keygen("client", "ed25519")?;
    let key = fs::read_to_string(folder.join("client.pub"))?;
    write("authorized_keys", &format!("restrict {key}"))?;
    write_script(&server.program("serve"), &serve(server))?;
    write("sshd_config", &config(server))
}

/// Returns the script that runs the two commands of git.
fn serve(server: &Layout) -> String {
    format!(
        "#!/bin/sh\ncase \"$SSH_ORIGINAL_COMMAND\" in\n\
         \"git-upload-pack '\"*\"'\") verb=upload-pack ;;\n\
         \"git-receive-pack '\"*\"'\") verb=receive-pack ;;\n\
         *) echo 'only git is allowed' >&2; exit 128 ;;\nesac\n\
         path=${{SSH_ORIGINAL_COMMAND#*\\'}}; path=${{path%\\'}}\n\
         case \"$path\" in *..*) exit 128 ;; {OLD}/*) unset GIT_PROTOCOL ;; esac\n\
         exec '{}' \"$verb\" '{}'/\"$path\"\n",
        server.program("git").display(),
        server.path("repositories").display()
    )
}

fn config(server: &Layout) -> String {
    let folder = server.path("ssh");
    let folder = folder.display();
    let keys = HOST_KEYS.map(|kind| format!("HostKey {folder}/host_{kind}\n")).concat();
    format!(
        "ListenAddress {}:{}\n{keys}AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\n\
         PermitRootLogin prohibit-password\nPerSourcePenalties no\nForceCommand {serve}\nAcceptEnv GIT_PROTOCOL\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPidFile none\n\
         SshdSessionPath {session}\nSshdAuthPath {auth}\nLogLevel VERBOSE\n",
        server.settings.listen,
        server.ports.ssh,
        serve = server.program("serve").display(),
        session = server.program("sshd-session").display(),
        auth = server.program("sshd-auth").display(),
    )
}

/// Starts sshd, and waits until it greets.
pub(super) fn start(server: &Layout) -> Result<Component> {
    if geteuid().is_root() {
        fs::create_dir_all(EMPTY).with_context(|| format!("cannot create {EMPTY}"))?;
    }
    let command = Command::new(server.program("sshd")).args(["-D", "-e", "-f"]);
    let command = command.arg(server.path("ssh").join("sshd_config"));
    let mut sshd = Component::start("sshd", command, &server.path("logs"))?;
    let address = SocketAddr::new(server.settings.listen.into(), server.ports.ssh);
    let end = Instant::now() + START_MAX;
    while !greets(address) {
        sshd.check()?;
        ensure!(Instant::now() < end, "sshd does not answer; its messages are in logs/sshd.log");
        thread::sleep(LOOK);
    }
    Ok(sshd)
}

fn greets(address: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect_timeout(&address, LOOK * 20) else { return false };
    let _ = stream.set_read_timeout(Some(LOOK * 20));
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("SSH-2.0-")
}
