//! The program under load and at its limits.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]
#![allow(dead_code, reason = "the tests share their support")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit, setrlimit};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use support::{Backend, Gateway, HELLO, OPS, config, expect, rest, route, start_with, talk};

/// The smallest pipe.
const PAGE: usize = 4096;

/// Clients that connect and stay silent.
const SILENT_CLIENTS: usize = 8_000;

/// Descriptors that the test and the gateway each need for these clients: the gateway plans two for each
/// connection, and other tests of this program have connections too.
const DESCRIPTORS: u64 = 20_000;

/// Raises this process's limit of descriptors, which the gateway inherits.
fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    assert!(
        maximum.is_none_or(|maximum| maximum >= DESCRIPTORS),
        "the hard limit of open files is {maximum:?}, and this test needs {DESCRIPTORS}; raise it (`ulimit -Hn`)"
    );
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

#[test]
fn eight_thousand_silent_clients_are_closed_at_the_deadline_and_disturb_no_other() {
    let backend = Backend::new();
    let address = backend.address();
    backend.echo_name("here");
    let config = config("hello-timeout = 5", &route("www.a.test", &[address], ""));
    raise_descriptor_limit();
    let mut gateway = start_with(&config, &[OPS[0], OPS[1], "--access-log"]);
    let log = gateway.output();
    let silent: Vec<TcpStream> = (0..SILENT_CLIENTS)
        .map(|index| {
            let mut client = gateway.connect("tls");
            // Every third client sends the beginning of a hello.
            client.write_all(&HELLO[..if index % 3 == 0 { 100 } else { 0 }]).unwrap();
            client
        })
        .collect();
    for _ in 0..50 {
        assert!(gateway.talk("tls", HELLO).ends_with(b"here"));
    }
    for client in silent {
        assert_eq!(rest(client), b"", "closed without an answer");
    }
    gateway.until_metric("kiln_gateway_connections", 0);
    assert_eq!(gateway.metric("kiln_gateway_unrouted_total"), SILENT_CLIENTS as u64);
    // With so many lines some are dropped, but the others have the same reason.
    let lines = log.try_iter().filter(|line| line.contains("\"end\":\"hello-timeout\""));
    let millis = lines.map(|line| {
        let rest = line.split_once("\"ms\":").unwrap().1.to_owned();
        rest.trim_end_matches('}').parse::<u64>().unwrap()
    });
    let earliest = millis.min().unwrap();
    assert!(earliest >= 5000, "closed after {earliest} ms");
}

#[test]
fn clients_that_take_all_descriptors_keep_others_out_only_while_they_are_connected() {
    let a = Backend::new();
    let address = a.address();
    a.echo_name("a");
    let gateway = start_with(&config("", &route("www.a.test", &[address], "")), &OPS);
    let used = u64::try_from(gateway.descriptors().len()).unwrap();
    // The gateway read a higher limit when it started, so accept(2) fails now.
    let few = Rlimit { current: Some(used + 6), maximum: Some(used + 6) };
    prlimit(Some(gateway.pid()), Resource::Nofile, few).unwrap();
    let held: Vec<TcpStream> = (0..50).map(|_| gateway.connect("tls")).collect();
    let line = gateway.until_log("paused accepting connections");
    assert!(line.contains("descriptors"), "{line}");
    drop(held);
    assert!(gateway.talk("tls", HELLO).ends_with(b"a"));
    let lines = gateway.logged().filter(|line| line.contains("paused accepting")).count();
    assert!(lines <= 30, "{lines} lines");
}

#[test]
fn twenty_thousand_connections_leave_nothing_behind() {
    let a = Backend::new();
    let address = a.address();
    a.echo_name("a");
    let gateway = start_with(&config("", &route("www.a.test", &[address], "")), &OPS);
    assert!(gateway.talk("tls", HELLO).ends_with(b"a"));
    let before = gateway.descriptors().len();
    for round in 0..100 {
        let clients: Vec<TcpStream> = (0..200).map(|_| gateway.connect("tls")).collect();
        for mut client in clients.iter().take(round) {
            let _ = client.write_all(&HELLO[..round.min(HELLO.len())]);
        }
    }
    gateway.until_metric("kiln_gateway_connections", 0);
    assert!(gateway.talk("tls", HELLO).ends_with(b"a"));
    gateway.until_metric("kiln_gateway_connections", 0);
    let after = gateway.descriptors().len();
    assert!(after <= before + 10, "{before} descriptors before, {after} after");
    let kib = gateway.memory("RssAnon:");
    assert!(kib < 4096, "{kib} KiB of memory of its own");
}

#[test]
fn a_hundred_reloads_under_load_disturb_no_connection() {
    let (old, new) = (Backend::new(), Backend::new());
    let configs = [
        config("", &route("www.a.test", &[old.address()], "")),
        config("", &route("www.a.test", &[new.address()], "")),
    ];
    let gateway = start_with(&configs[0], &OPS);
    let mut live = gateway.connect("tls");
    live.write_all(HELLO).unwrap();
    let mut server = old.accept();
    expect(&mut server, HELLO);
    old.echo_name("old");
    new.echo_name("new");
    let (address, done) = (gateway.address("tls"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    ask_old_or_new(address);
                }
            });
        }
        for round in 1..=100 {
            std::fs::write(&gateway.file, &configs[round % 2]).unwrap();
            gateway.signal(Signal::HUP);
            gateway.until_log("reloaded");
            server.write_all(b"x").unwrap();
            expect(&mut live, b"x");
            ask_old_or_new(address);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(gateway.metric("kiln_gateway_reloads_total"), 100);
}

/// Checks that either backend responds: workers learn of a reload a moment after it is logged.
fn ask_old_or_new(address: SocketAddr) {
    let answer = talk(address, HELLO);
    assert!(answer.ends_with(b"old") || answer.ends_with(b"new"), "{answer:?}");
}

/// Takes all pages that the kernel grants for the pipes of a user without privileges.
fn take_pipe_pages() -> Vec<(OwnedFd, OwnedFd)> {
    let number = |name: &str| -> usize {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/{name}")).unwrap();
        text.trim().parse().unwrap()
    };
    let (most, mut size) = (number("pipe-user-pages-soft") * PAGE, number("pipe-max-size"));
    assert!(most > 0, "fs.pipe-user-pages-soft is 0: the kernel does not limit pipes");
    let (mut held, mut pipes) = (0, Vec::new());
    while held < most && size >= PAGE {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        match fcntl_setpipe_size(&write, size) {
            Ok(got) => {
                held += got;
                pipes.push((read, write));
            }
            // Without privileges the last pipe stays just below the limit.
            Err(_) => size /= 2,
        }
    }
    pipes
}

fn pipes_of(gateway: &Gateway) -> usize {
    gateway.descriptors().iter().filter(|target| target.starts_with("pipe:")).count()
}

/// Sends much data in both directions. Returns the number of pipe ends that the gateway has gained.
fn relay_much(gateway: &Gateway, backend: &Backend) -> usize {
    let before = pipes_of(gateway);
    let mut client = gateway.connect("tls");
    client.write_all(HELLO).unwrap();
    let mut server = backend.accept();
    expect(&mut server, HELLO);
    let data: Vec<u8> = (0..8_u32 << 20)
        .map(|at| u8::try_from(at.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect();
    std::thread::scope(|scope| {
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let data = &data;
            scope.spawn(move || from.write_all(data).unwrap());
            scope.spawn(move || {
                let mut got = vec![0; data.len()];
                to.read_exact(&mut got).unwrap();
                assert!(got == *data, "the bytes have changed");
            });
        }
    });
    // A worker keeps a few empty pipes.
    pipes_of(gateway) - before
}

#[test]
fn without_pipes_for_this_user_bytes_are_copied() {
    let backend = Backend::new();
    let config = config("", &route("www.a.test", &[backend.address()], ""));
    let mut command = support::command();
    // SAFETY: the closure runs between fork and exec, and makes only system calls.
    unsafe {
        command.pre_exec(|| {
            // Fails without privileges; the limit applies anyway then.
            let _ = remove_capability_from_bounding_set(CapabilitySet::SYS_RESOURCE);
            let _ = remove_capability_from_bounding_set(CapabilitySet::SYS_ADMIN);
            Ok(())
        });
    }
    let gateway = support::start_by(command, &config, &[]);
    let held = take_pipe_pages();
    assert_eq!(relay_much(&gateway, &backend), 0, "the gateway has got a pipe");
    drop(held);
    assert!(
        relay_much(&gateway, &backend) > 0,
        "the gateway has no pipe although the kernel grants one"
    );
}
