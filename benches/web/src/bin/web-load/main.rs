//! A load generator, which keeps a number of connections to a web server busy.
//!
//! It has one thread and one epoll loop, and sends one request at a time on each connection (no
//! pipelining). Its own cost must be small compared with a server's, so once a head was checked, bodies
//! longer than one read are discarded inside the kernel (`MSG_TRUNC`, tcp(7)).
//! The result is one line of JSON on standard output.

mod client;
mod histogram;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;

use client::{Client, Mode, Outcome, Scratch};
use histogram::Histogram;

/// The command line.
#[derive(Debug)]
struct Options {
    address: SocketAddr,
    path: String,
    /// Number of connections.
    connections: usize,
    /// The time during which requests are sent.
    time: Duration,
    /// Body length in bytes that every response must have.
    length: usize,
    mode: Mode,
}

/// The result.
#[derive(Debug, Default)]
struct Totals {
    requests: u64,
    errors: u64,
    latency: Histogram,
}

const USAGE: &str = "web-load ADDRESS PATH LENGTH CONNECTIONS MILLISECONDS keep|new|leave";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let options = options(&std::env::args().skip(1).collect::<Vec<_>>())?;
    let start = Instant::now();
    let totals = load(&options, start)?;
    let wall = start.elapsed().as_nanos();
    let Totals { requests, errors, latency } = &totals;
    println!(
        "{{\"requests\":{requests},\"errors\":{errors},\"wall_ns\":{wall},\"cpu_ns\":{},\"p50_ns\":{},\"p99_ns\":{},\"max_ns\":{}}}",
        cpu()?,
        latency.quantile(0.50),
        latency.quantile(0.99),
        latency.quantile(1.0),
    );
    Ok(())
}

fn options(args: &[String]) -> Result<Options> {
    let [address, path, length, connections, millis, mode] = args else { bail!("usage: {USAGE}") };
    let number =
        |text: &String| text.parse::<usize>().with_context(|| format!("{text} is not a number"));
    let options = Options {
        address: address
            .parse()
            .with_context(|| format!("{address} is not an address with a port"))?,
        path: path.clone(),
        connections: number(connections)?,
        time: Duration::from_millis(number(millis)? as u64),
        length: number(length)?,
        mode: match mode.as_str() {
            "keep" => Mode::Keep,
            "new" => Mode::New,
            "leave" => Mode::Leave,
            _ => bail!("usage: {USAGE}"),
        },
    };
    ensure!((1..=4096).contains(&options.connections), "CONNECTIONS must be between 1 and 4096");
    Ok(options)
}

/// Returns the processor time of this program in nanoseconds (`sched-stats` in the kernel's
/// documentation).
fn cpu() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/schedstat")
        .context("cannot read /proc/self/schedstat")?;
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().context("/proc/self/schedstat has no number")
}

fn load(options: &Options, start: Instant) -> Result<Totals> {
    let end = start + options.time;
    let request = request(options);
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut clients = Vec::new();
    for index in 0..options.connections {
        clients.push(open(options, &request, &epoll, index)?);
    }
    let mut scratch = Scratch::new(options.length);
    let mut totals = Totals::default();
    let mut events = Vec::with_capacity(256);
    let mut open_count = options.connections;
    while open_count > 0 {
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(client) = clients.get_mut(index) else { continue };
            let more = Instant::now() < end;
            match client.readable(&mut scratch) {
                Outcome::Unfinished => continue,
                Outcome::Finished => {
                    totals.requests += 1;
                    totals.latency.add(client.started.elapsed());
                }
                Outcome::Broken(why) => {
                    totals.errors += 1;
                    ensure!(totals.errors < 1000, "too many wrong responses; the last one: {why}");
                }
            }
            if !more {
                epoll::delete(&epoll, &client.socket)?;
                open_count -= 1;
            } else if client.is_closed() {
                *client = open(options, &request, &epoll, index)?;
            } else {
                client.send(&request)?;
            }
        }
    }
    Ok(totals)
}

fn request(options: &Options) -> Vec<u8> {
    let close = if options.mode == Mode::New { "Connection: close\r\n" } else { "" };
    format!("GET {} HTTP/1.1\r\nHost: bench\r\n{close}\r\n", options.path).into_bytes()
}

/// Connects and sends the first request.
fn open(options: &Options, request: &[u8], epoll: &OwnedFd, index: usize) -> Result<Client> {
    let mut client = Client::connect(options.address, options.length, options.mode)?;
    epoll::add(epoll, &client.socket, EventData::new_u64(index as u64), EventFlags::IN)?;
    client.send(request)?;
    Ok(client)
}
