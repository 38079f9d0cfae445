//! Web servers on this host, ours and others, for the benchmark and the comparison of answers.
//!
//! Each server gets a port on 127.0.0.1, a folder to serve and a folder for its files. The others
//! are locked Debian packages that run through their own dynamic loader, as the user who started
//! the measurement.

mod config;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kiln_host::job::Programs;
use kiln_host::process::{self, Command, Running};
use kiln_host::tool::HostTool;

use crate::usage;

/// The longest time from a server's start to its first answer.
const START: Duration = Duration::from_mins(2);

/// The time between two requests to a server that does not answer yet.
const LOOK: Duration = Duration::from_micros(200);

/// A program that can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours, from a folder.
    Ours,
    /// Ours, from a pack.
    Pack,
    /// nginx with its default settings.
    Nginx,
    /// nginx with a cache of open files.
    NginxCached,
    /// lighttpd.
    Lighttpd,
    /// h2o.
    H2o,
    /// A bare loop that writes from memory.
    Floor,
    /// A bare loop that sends from the page cache.
    FloorSendfile,
}

/// A server that answers. It is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    /// The kind of server.
    pub kind: Kind,
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The time from its start to its first answer.
    pub started: Duration,
    running: Running,
}

/// The parameters of one start.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The content: a folder, or a pack for [`Kind::Pack`].
    pub content: &'a Path,
    /// The folder for its configuration and log.
    pub scratch: &'a Path,
    /// The processor that it may use; all processors if none is given.
    pub core: Option<usize>,
    /// A path that it answers with 200.
    pub probe: &'a str,
}

impl Kind {
    /// Returns the name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "static-server",
            Self::Pack => "static-server, pack",
            Self::Nginx => "nginx",
            Self::NginxCached => "nginx, open_file_cache",
            Self::Lighttpd => "lighttpd",
            Self::H2o => "h2o",
            Self::Floor => "bare loop, write",
            Self::FloorSendfile => "bare loop, sendfile",
        }
    }

    /// True for a bare loop, which is not a server.
    pub fn is_floor(self) -> bool {
        matches!(self, Self::Floor | Self::FloorSendfile)
    }

    /// True for our server.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::Pack)
    }
}

/// Starts a server and waits for its first answer.
pub fn start(programs: &Programs, kind: Kind, place: Place<'_>) -> Result<Server> {
    let address = free_address()?;
    let context = || format!("cannot start {}", kind.name());
    fs::create_dir_all(place.scratch).with_context(context)?;
    let mut command = command(programs, kind, place, address).with_context(context)?;
    if let Some(core) = place.core {
        command = command.on_core(core);
    }
    let log = place.scratch.join("log");
    let out = fs::File::create(&log).with_context(context)?;
    let out2 = out.try_clone().with_context(context)?;
    command = command.own_group().output_to(Stdio::from(out), Stdio::from(out2));
    let begin = Instant::now();
    let mut running = command.spawn()?;
    let started = wait(&mut running, address, place.probe, begin)
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())
        .with_context(context)?;
    Ok(Server { kind, address, started, running })
}

fn command(
    programs: &Programs,
    kind: Kind,
    place: Place<'_>,
    address: SocketAddr,
) -> Result<Command> {
    let peer =
        |name: &str| -> Result<Command> { HostTool::new(programs.peer(name)?, name).command() };
    let write = |text: String| -> Result<PathBuf> {
        let file = place.scratch.join("server.conf");
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    };
    let site = config::Site { address, content: place.content, scratch: place.scratch };
    Ok(match kind {
        Kind::Ours => ours(programs, address).arg("--static-dir").arg(place.content),
        Kind::Pack => ours(programs, address).arg("--pack").arg(place.content),
        Kind::Nginx | Kind::NginxCached => {
            let types = programs.peer("nginx")?.join("etc/nginx/mime.types");
            let file = write(config::nginx(site, &types, kind == Kind::NginxCached))?;
            let command = peer("nginx")?.arg("-p").arg(place.scratch).arg("-c").arg(file);
            command.args(["-e", "stderr"])
        }
        Kind::Lighttpd => {
            let modules = programs.peer("lighttpd")?.join("usr/lib/lighttpd");
            let file = write(config::lighttpd(site))?;
            peer("lighttpd")?.arg("-D").arg("-m").arg(modules).arg("-f").arg(file)
        }
        Kind::H2o => peer("h2o")?.args(["-m", "worker"]).arg("-c").arg(write(config::h2o(site))?),
        Kind::Floor => floor(programs, "write", address)?.arg(place.content),
        Kind::FloorSendfile => floor(programs, "sendfile", address)?.arg(place.content),
    })
}

fn ours(programs: &Programs, address: SocketAddr) -> Command {
    let command = Command::new(&programs.ours).env("KILN_LOG", "error");
    let command = command.arg("--bind-ip").arg(address.ip().to_string());
    command.arg("--port").arg(address.port().to_string())
}

fn floor(programs: &Programs, mode: &str, address: SocketAddr) -> Result<Command> {
    let floor = programs.load()?.join("web-floor");
    Ok(Command::new(floor).arg(mode).arg(address.to_string()))
}

impl Server {
    /// Returns the server's process and its children.
    pub fn processes(&mut self) -> Result<Vec<u32>> {
        usage::family(self.running.child().id())
    }
}

/// Returns an address with a free port.
fn free_address() -> Result<SocketAddr> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?)
}

/// Sends requests until one is answered.
fn wait(
    running: &mut Running,
    address: SocketAddr,
    probe: &str,
    begin: Instant,
) -> Result<Duration> {
    loop {
        process::check_interrupt()?;
        if answers(address, probe) {
            return Ok(begin.elapsed());
        }
        if let Some(status) = running.try_wait()? {
            bail!("it stopped with {status}");
        }
        if begin.elapsed() > START {
            bail!("it does not answer {probe} with 200 within {} s", START.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}

fn answers(address: SocketAddr, probe: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(START))?;
        write!(stream, "GET {probe} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        let mut line = [0; 12];
        stream.read_exact(&mut line)?;
        Ok(&line == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}
