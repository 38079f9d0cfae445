//! PID 1's own loop in a namespace, with real processes, real signals and the test's own services.
//!
//! It shows what a model cannot: that nothing leaks over a thousand restarts, that a storm of
//! orphans delays no restart, and that a service can speak only for itself. It needs no root, but a
//! kernel that lets users make user namespaces. It has no test harness, because only a process with
//! one thread may enter a user namespace.

use anyhow::{Context, Result, ensure};

mod machine;
mod service;

use machine::Machine;

fn main() -> Result<()> {
    if let Some(role) = service::role() {
        service::run(&role);
    }
    for (name, test) in TESTS {
        println!("test {name} ...");
        test().with_context(|| format!("test {name}"))?;
        println!("test {name} ... ok");
    }
    Ok(())
}

type Test = fn() -> Result<()>;

const TESTS: [(&str, Test); 5] = [
    ("a_child_inherits_nothing", a_child_inherits_nothing),
    ("a_thousand_restarts_leak_nothing", a_thousand_restarts_leak_nothing),
    ("a_storm_of_orphans_delays_a_restart_by_less_than_a_second", a_storm_of_orphans),
    ("only_the_service_itself_is_believed", only_the_service_itself_is_believed),
    ("garbage_costs_no_memory_and_a_shutdown_ends", garbage_costs_no_memory),
];

/// The number of restarts in the test.
const RESTARTS: u32 = 1000;

/// The difference in heap size that is allowed, in KiB, because the allocator keeps pages for
/// reuse. A leak of 100 bytes per restart would be as large.
const NOISE: u64 = 96;

fn a_child_inherits_nothing() -> Result<()> {
    // State that a child must not inherit: a file without close-on-exec, an ignored signal and a
    // blocked signal.
    let file = std::fs::File::open("/dev/zero")?;
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())?;
    // SAFETY: the signal has no handler.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
    block(libc::SIGUSR2)?;
    let output = machine::output_of(service::INSPECT)?;
    println!("{output}");
    for expected in [
        "descriptors 0 1 2",
        "input /dev/null",
        "SigBlk 0000000000000000",
        "SigIgn 0000000000000000",
        "session own",
        "core 0",
        "oom 500",
        "environment ROLE=inspect",
    ] {
        ensure!(output.lines().any(|line| line == expected), "not {expected:?}");
    }
    Ok(())
}

fn block(signal: i32) -> Result<()> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: it was just initialised.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    // SAFETY: as above; the pointer for the old set may be null.
    let error = unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) };
    ensure!(error == 0, "sigprocmask");
    Ok(())
}

fn a_thousand_restarts_leak_nothing() -> Result<()> {
    let mut machine = Machine::boot([service::READY, service::CALM])?;
    let failed = |attempt| format!("kubelet started, attempt {attempt}");
    machine.until(&failed(20))?;
    let before = machine.calm()?;
    machine.storm_again()?;
    machine.until(&failed(20 + RESTARTS))?;
    let after = machine.calm()?;
    println!("before {before:?}, after {after:?}");
    ensure!(after.descriptors == before.descriptors, "descriptors leak");
    ensure!(after.zombies == 0 && after.children == before.children, "children leak");
    ensure!(after.anonymous <= before.anonymous + NOISE, "memory leaks");
    machine.power_off()
}

fn a_storm_of_orphans() -> Result<()> {
    let mut machine = Machine::boot([service::STORM, service::READY])?;
    machine.until("containerd ended")?;
    let begin = std::time::Instant::now();
    machine.until("containerd started, attempt 2")?;
    let delay = begin.elapsed();
    println!("restarted {} ms after its end was seen", delay.as_millis());
    machine.until("kubelet is ready")?;
    // The end was seen during the storm or after it; both must be soon after it happened.
    let total = machine.stormed()?;
    println!("restarted {} ms after its end", total.as_millis());
    ensure!(total < std::time::Duration::from_secs(1), "the storm delayed the restart");
    machine.until_all_are_reaped()?;
    machine.power_off()
}

fn only_the_service_itself_is_believed() -> Result<()> {
    let mut machine = Machine::boot([service::LIAR, service::READY])?;
    // The same loop writes both lines, and reads the message before it sees the end.
    let lines = machine.until("containerd ended")?;
    let believed = lines.iter().any(|line| line.contains("containerd is ready"));
    ensure!(!believed, "a child's READY=1 counted for its parent: {lines:?}");
    machine.until("containerd is ready")?;
    machine.until("kubelet is ready")?;
    machine.power_off()
}

fn garbage_costs_no_memory() -> Result<()> {
    let mut machine = Machine::boot([service::READY, service::FLOOD])?;
    machine.until("| first flood")?;
    let before = machine.status()?;
    machine.until("| last flood")?;
    let after = machine.status()?;
    println!("before {before:?}, after {after:?}");
    ensure!(after.descriptors == before.descriptors, "descriptors leak");
    ensure!(after.anonymous <= before.anonymous + NOISE, "memory leaks");
    machine.power_off()
}
