//! An NFS server for volumes of pods: nfs-ganesha with its files in memory, without root, on
//! loopback. It speaks version 4 only, because version 3 needs a port mapper on the host.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::host::HostTool;
use crate::process::Running;

/// The TCP port on 127.0.0.1, which the node reaches at 10.0.2.2: the usual one, because a pod's
/// manifest cannot name another.
pub const PORT: u16 = 2049;

/// The time for the server to start. It needs less than a second on an idle host.
const START_MAX: Duration = Duration::from_mins(1);

/// The pause between two attempts to connect.
const LOOK: Duration = Duration::from_millis(100);

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    _process: Running,
}

impl Server {
    /// Starts the server with its files in `folder`, and waits until it listens.
    pub fn start(program: &HostTool, folder: &Path) -> Result<Self> {
        ensure!(
            TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).is_err(),
            "cannot serve NFS on TCP port {PORT} of 127.0.0.1; stop the program that uses the port"
        );
        let folder = folder.join("nfs");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let settings = folder.join("ganesha.conf");
        fs::write(&settings, text(&program.libraries().join("ganesha"), &folder))
            .context("cannot write ganesha.conf")?;
        let log = fs::File::create(folder.join("log")).context("cannot make the server's log")?;
        let mut process = program
            .command()?
            .args(["-F", "-L", "STDERR", "-f"])
            .arg(&settings)
            .arg("-p")
            .arg(folder.join("pid"))
            .own_group()
            .output_to(Stdio::null(), log.into())
            .spawn()?;
        let begin = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).is_err() {
            let ended = process.try_wait()?.is_some();
            if ended || begin.elapsed() > START_MAX {
                let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                let end = log.lines().rev().take(20).collect::<Vec<_>>();
                bail!(
                    "the NFS server did not start; its log ends, newest first:\n{}",
                    end.join("\n")
                );
            }
            thread::sleep(LOOK);
        }
        Ok(Self { _process: process })
    }
}

/// The server's configuration. It keeps numeric owners, because there is no directory of users, and
/// lets clients write at once, because it has no state from before.
fn text(plugins: &Path, folder: &Path) -> String {
    let (plugins, folder) = (plugins.display(), folder.display());
    format!(
        "NFS_CORE_PARAM {{ Protocols = 4; NFS_Port = {PORT}; Bind_addr = 127.0.0.1; \
         Plugins_Dir = {plugins}; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; \
         allow_set_io_flusher_fail = true; }}\n\
         NFSv4 {{ RecoveryRoot = {folder}/recovery; Graceless = true; UseGetpwnam = true; \
         Only_Numeric_Owners = true; DomainName = localdomain; }}\n\
         MEM {{ Inode_Size = 65536; }}\n\
         EXPORT {{ Export_Id = 7; Path = /share; Pseudo = /share; Access_Type = RW; \
         Squash = No_Root_Squash; SecType = sys; Transports = TCP; Protocols = 4; \
         FSAL {{ Name = MEM; }} }}\n"
    )
}
