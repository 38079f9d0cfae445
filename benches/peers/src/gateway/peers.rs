//! Starts and stops gateways on this host, each with one route to one backend.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use kiln_host::job;
use kiln_host::process::{self, Command, Running};
use kiln_host::tool::HostTool;

use crate::usage;

/// The longest time from a gateway's start until it listens.
const START: Duration = Duration::from_secs(20);

/// The time between two attempts to connect to a gateway that does not listen yet.
const LOOK: Duration = Duration::from_millis(5);

/// A program that can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Ours,
    /// haproxy in TCP mode, by server name, with splice.
    Haproxy,
    /// nginx's stream module, by server name.
    Nginx,
    /// The bare loop.
    Floor,
}

/// All kinds, in the order of the table.
pub const KINDS: [Kind; 4] = [Kind::Ours, Kind::Haproxy, Kind::Nginx, Kind::Floor];

impl Kind {
    /// Returns the name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "gateway",
            Self::Haproxy => "haproxy, splice",
            Self::Nginx => "nginx stream",
            Self::Floor => "bare splice loop",
        }
    }
}

/// A gateway that listens. It is killed when this is dropped.
#[derive(Debug)]
pub struct Gateway {
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The address of its backend.
    pub backend: SocketAddr,
    running: Running,
}

impl Gateway {
    /// Returns the server's process and its children.
    pub fn processes(&mut self) -> Result<Vec<u32>> {
        usage::family(self.running.child().id())
    }
}

/// The programs of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Programs<'a> {
    job: &'a job::Programs,
    /// The folder with the programs of `benches/relay`.
    pub load: &'a Path,
}

impl<'a> Programs<'a> {
    /// Takes the programs of a job.
    pub fn new(job: &'a job::Programs) -> Result<Self> {
        Ok(Self { job, load: job.load()? })
    }

    /// Starts a gateway and waits until it listens.
    pub fn start(&self, kind: Kind, scratch: &Path, core: usize) -> Result<Gateway> {
        let (address, backend) = (free_address()?, free_address()?);
        let context = || format!("cannot start {}", kind.name());
        fs::create_dir_all(scratch).with_context(context)?;
        let log = scratch.join("log");
        let out = fs::File::create(&log).with_context(context)?;
        let out2 = out.try_clone().with_context(context)?;
        let command = self.command(kind, scratch, address, backend).with_context(context)?;
        let command = command.on_core(core).own_group();
        let mut running = command.output_to(Stdio::from(out), Stdio::from(out2)).spawn()?;
        wait(&mut running, address)
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())
            .with_context(context)?;
        Ok(Gateway { address, backend, running })
    }

    fn command(
        &self,
        kind: Kind,
        scratch: &Path,
        address: SocketAddr,
        backend: SocketAddr,
    ) -> Result<Command> {
        let write = |text: String| -> Result<PathBuf> {
            let file = scratch.join("gateway.conf");
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            Ok(file)
        };
        let peer = |package: &str, program: &str| -> Result<Command> {
            HostTool::new(self.job.peer(package)?, program).command()
        };
        Ok(match kind {
            Kind::Ours => Command::new(&self.job.ours)
                .arg(write(ours(address, backend))?)
                .args(["--workers", "1"])
                .env("KILN_LOG", "error"),
            Kind::Haproxy => peer("haproxy", "haproxy")?
                .args(["-db", "-f"])
                .arg(write(haproxy(address, backend))?),
            Kind::Nginx => {
                let root = self.job.peer("nginx-stream")?;
                let module = root.join("usr/lib/nginx/modules/ngx_stream_module.so");
                let file = write(nginx(address, backend, &module, scratch))?;
                let command = peer("nginx-stream", "nginx")?.arg("-p").arg(scratch);
                command.arg("-c").arg(file).args(["-e", "stderr"])
            }
            Kind::Floor => Command::new(self.load.join("relay-floor"))
                .args([address.to_string(), backend.to_string()]),
        })
    }
}

fn ours(address: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "[[listener]]\naddress = \"{address}\"\nkind = \"tls\"\n\
         [[route]]\nnames = [\"www.a.test\"]\nbackends = [\"{backend}\"]\n"
    )
}

fn haproxy(address: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "global\n  nbthread 1\n  maxconn 4000\n\
         defaults\n  mode tcp\n  timeout connect 3s\n  timeout client 300s\n  timeout server 300s\n  \
         option splice-auto\n  option splice-request\n  option splice-response\n\
         frontend f\n  bind {address}\n  tcp-request inspect-delay 5s\n  \
         tcp-request content accept if {{ req.ssl_hello_type 1 }}\n  \
         use_backend b if {{ req.ssl_sni -i www.a.test }}\n\
         backend b\n  server s {backend}\n"
    )
}

fn nginx(address: SocketAddr, backend: SocketAddr, module: &Path, scratch: &Path) -> String {
    let (module, scratch) = (module.display(), scratch.display());
    // nginx started by root would switch to an unprivileged user.
    let user = if rustix::process::getuid().is_root() { "user root;\n" } else { "" };
    format!(
        "load_module {module};\n{user}daemon off;\nworker_processes 1;\npid {scratch}/nginx.pid;\n\
         error_log stderr warn;\nworker_rlimit_nofile 19000;\nevents {{ worker_connections 18000; }}\n\
         stream {{\n  map $ssl_preread_server_name $target {{ www.a.test {backend}; }}\n  \
         server {{ listen {address}; ssl_preread on; proxy_pass $target; }}\n}}\n"
    )
}

/// Returns an address with a free port.
fn free_address() -> Result<SocketAddr> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?)
}

fn wait(running: &mut Running, address: SocketAddr) -> Result<()> {
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        process::check_interrupt()?;
        if let Some(status) = running.try_wait()? {
            bail!("it stopped with {status}");
        }
        if begin.elapsed() > START {
            bail!("it does not listen within {} s", START.as_secs());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}
