//! The test's own services: this binary again, with its role in the environment variable `ROLE`.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_contract::path;

/// Prints its inherited state.
pub const INSPECT: &str = "inspect";
/// Sends READY and keeps running.
pub const READY: &str = "ready";
/// Exits at once, unless the file [`CALM_FILE`] exists.
pub const CALM: &str = "calm";
/// Leaves thousands of orphans behind, once, and then behaves as [`READY`].
pub const STORM: &str = "storm";
/// Has a child send READY long before it sends READY itself.
pub const LIAR: &str = "liar";
/// Sends READY and then garbage to every socket that it can reach.
pub const FLOOD: &str = "flood";

/// The file that exists while [`CALM`] must keep running.
pub const CALM_FILE: &str = "/run/calm";
/// The file with the time at which the storm's process exited, in milliseconds since 1970.
pub const STORM_END: &str = "/run/storm-end";
/// The file that exists once [`LIAR`] has lied. After that the role is honest.
pub const LIE_TOLD: &str = "/run/lie-told";
/// The file with the time at which the storm's successor started.
pub const STORM_NEXT: &str = "/run/storm-next";

/// The orphans of a storm: groups, and orphans in each group.
const ORPHANS: (u32, u32) = (10, 1000);

/// Returns the role of this process, or `None` for the test itself.
pub fn role() -> Option<String> {
    std::env::var("ROLE").ok()
}

/// Plays the role and never returns.
pub fn run(role: &str) -> ! {
    match role {
        INSPECT => inspect(),
        CALM if !fs::exists(CALM_FILE).unwrap_or(false) => exit(1),
        CALM => println!("calm"),
        STORM if !fs::exists(STORM_END).unwrap_or(false) => storm(),
        STORM => write_time(STORM_NEXT),
        LIAR if !fs::exists(LIE_TOLD).unwrap_or(false) => lie(),
        FLOOD => flood(),
        _ => {}
    }
    say("READY=1");
    stay()
}

fn exit(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

fn stay() -> ! {
    loop {
        // SAFETY: pause has no preconditions.
        unsafe { libc::pause() };
    }
}

fn say(message: &str) {
    let socket = UnixDatagram::unbound();
    let _ = socket.and_then(|socket| socket.send_to(message.as_bytes(), path::NOTIFY_SOCKET));
}

fn write_time(file: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let _ = fs::write(file, now.as_millis().to_string());
}

/// Prints the inherited state. SIGPIPE is left out, because Rust's runtime has ignored it by now.
fn inspect() -> ! {
    let mut open: Vec<i32> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        // The folder itself is open while it is read.
        .filter(|fd| {
            fs::read_link(format!("/proc/self/fd/{fd}")).is_ok_and(|to| !is_fd_folder(&to))
        })
        .collect();
    open.sort_unstable();
    let open: Vec<String> = open.iter().map(i32::to_string).collect();
    println!("descriptors {}", open.join(" "));
    println!("input {}", fs::read_link("/proc/self/fd/0").unwrap_or_default().display());
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in
        status.lines().filter(|line| line.starts_with("SigBlk") || line.starts_with("SigIgn"))
    {
        let (name, bits) = line.split_once(":\t").unwrap_or_default();
        let bits = u64::from_str_radix(bits, 16).unwrap_or(u64::MAX);
        println!("{name} {:016x}", bits & !(1 << (libc::SIGPIPE - 1)));
    }
    let own = rustix::process::getsid(None) == Ok(rustix::process::getpid());
    println!("session {}", if own { "own" } else { "inherited" });
    println!("core {}", limit(libc::RLIMIT_CORE));
    println!("oom {}", fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default().trim());
    for (name, value) in std::env::vars() {
        println!("environment {name}={value}");
    }
    exit(0)
}

fn is_fd_folder(path: &std::path::Path) -> bool {
    path.ends_with("fd") && path.starts_with("/proc")
}

fn limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is valid.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    limit.rlim_cur
}

fn fork() -> i32 {
    // SAFETY: this process has one thread.
    unsafe { libc::fork() }
}

fn storm() -> ! {
    for _ in 0..ORPHANS.0 {
        if fork() == 0 {
            for _ in 0..ORPHANS.1 {
                if fork() == 0 {
                    exit(0);
                }
            }
            exit(0);
        }
    }
    write_time(STORM_END);
    exit(1)
}

/// Lets a child claim that its parent is ready, then ends without a message.
fn lie() -> ! {
    let _ = fs::write(LIE_TOLD, "");
    if fork() == 0 {
        say("READY=1");
        exit(0);
    }
    let mut status = 0;
    // SAFETY: the pointer is valid.
    unsafe { libc::wait(&raw mut status) };
    // More than the socket's queue holds: when the last is sent, the child's was read.
    for _ in 0..2000 {
        say("STATUS=waiting");
    }
    exit(1)
}

/// Messages that are broken in different ways. PID 1 answers none of them.
fn flood() -> ! {
    say("READY=1");
    for round in ["first", "second", "last"] {
        garbage();
        println!("{round} flood");
    }
    stay()
}

fn garbage() {
    let Ok(socket) = UnixDatagram::unbound() else { exit(1) };
    let long = vec![b'X'; 8192];
    for message in
        [&b""[..], b"READY", b"WATCHDOG=1\0", b"\xff\n\n\n=", b"WATCHDOG=1\nREADY=1", &long]
    {
        for _ in 0..2000 {
            let _ = socket.send_to(message, path::NOTIFY_SOCKET);
        }
    }
    let Ok(mut requests) = fs::File::options().write(true).open(path::POWER_REQUEST) else {
        exit(1)
    };
    for half in ["powero", "\n", "rebootnow\n", "\0\0\0\n", "halt?\n"] {
        for _ in 0..50 {
            let _ = requests.write_all(half.as_bytes());
        }
    }
}
