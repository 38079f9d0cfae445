//! The faults that scenarios inject, one family per file. docs/boot.md has their expected outcomes.

mod ask;
mod disk;
mod flood;
mod impostor;
mod module;
mod pid1;
mod pod;
mod process;
pub(crate) mod role;
mod service;
mod storm;
mod talk;
mod uevents;
mod var;

use anyhow::{Context, Result, bail};

pub(crate) use disk::read_direct;
pub(crate) use module::list as modules;
pub(crate) use pid1::figures;
pub(crate) use pod::hog;

/// Injects the fault that a path below `/fault/` names, and reports it.
pub(crate) fn page(path: &str) -> Result<String> {
    let words: Vec<&str> = path.split('/').collect();
    match words[..] {
        ["ask", word] => ask::through_fifo(word),
        ["ask-by-signal", name] => ask::by_signal(name),
        ["ask-by-kernel"] => ask::by_kernel(),
        ["module", name] => module::probe(name),
        ["file-system", kind] => Ok(module::file_system(kind)),
        ["uevents", count] => uevents::send(number(count)?),
        ["signal", signal, name] => process::signal(signal, name),
        ["kill-often", name, count] => process::kill_often(name, number(count)?),
        ["kill-in-storm", name] => storm::kill_in_storm(name),
        ["impostor", name, role] => impostor::install(name, role),
        ["genuine", name] => impostor::remove(name),
        ["flood", "mark"] => flood::mark(),
        ["flood", "compare"] => flood::compare(),
        ["flood", "dropped", name] => flood::dropped(name),
        ["garbage", "notify"] => talk::notify(),
        ["garbage", "login1"] => talk::login1(),
        ["garbage", "power"] => talk::power(),
        ["fill-var"] => disk::fill_var(0),
        ["fill-var", spare] => disk::fill_var(number(spare)?),
        ["free-var"] => disk::free_var(),
        ["fill-store"] => var::fill_store(),
        ["fill-inodes"] => var::fill_inodes(),
        ["plant"] => var::plant(),
        ["planted"] => Ok(var::planted()),
        ["uninterruptible"] => disk::uninterruptible(),
        ["clock", seconds] => process::set_clock(number(seconds)?),
        ["hog"] => pod::start_hog(),
        ["no-hog"] => pod::stop_hog(),
        ["freeze-init"] => pid1::freeze(),
        ["panic-init"] => pid1::panic(),
        ["crash-kernel"] => Ok(pid1::crash_kernel()),
        ["fill-console"] => pid1::fill_console(),
        _ => bail!("there is no fault {path}"),
    }
}

fn number(text: &str) -> Result<u32> {
    text.parse().with_context(|| format!("not a number: {text}"))
}
