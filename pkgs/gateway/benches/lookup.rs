//! Measures the processor time for loading a file with 100,000 names, and for the lookup of a name
//! in it. Run `cargo bench -p gateway --bench lookup`.

use std::hint::black_box;
use std::time::Duration;

use gateway::config::{Ports, parse};
use gateway::route::Table;
use gateway::state::Registry;
use rustix::time::ClockId;

/// The number of names in a file.
const NAMES: usize = 100_000;

/// The number of lookups in one measurement.
const LOOKUPS: usize = 1_000_000;

/// The number of measurements, of which the median is printed.
const ROUNDS: usize = 5;

fn main() {
    let route = |number| {
        format!("[[route]]\nnames = [\"r{number}.a.test\"]\nbackends = [\"b{number}.test:443\"]\n")
    };
    let line = |number| format!("\"r{number}.a.test\" = \"b{number}.test:443\"\n");
    let names = |number| format!("\"r{number}.a.test\", ");
    let all = 0..NAMES;
    measure("routes", &all.clone().map(route).collect::<String>());
    measure(
        "lines of a table",
        &format!("[https_backends]\n{}", all.clone().map(line).collect::<String>()),
    );
    let names: String = all.map(names).collect();
    measure(
        "names of one route",
        &format!("[[route]]\nnames = [{names}]\nbackends = [\"10.0.0.1:1\"]\n"),
    );
}

fn measure(what: &str, text: &str) {
    let load = median(|| {
        let start = used();
        let config =
            parse(text, Ports::default()).unwrap_or_else(|problems| panic!("{problems:?}"));
        let snapshot = Registry::default().snapshot(config, Vec::new());
        let time = used().saturating_sub(start);
        black_box(snapshot);
        time
    });
    println!("{NAMES} {what}: loaded in {} ms", load.as_millis());
    let config = parse(text, Ports::default()).unwrap_or_else(|problems| panic!("{problems:?}"));
    let table = Table::new(&config);
    // Far apart, so that no lookup finds the memory of the one before.
    let known: Vec<String> =
        (0..NAMES).map(|number| format!("r{}.a.test", number * 7919 % NAMES)).collect();
    let unknown: Vec<String> = known.iter().map(|name| format!("x.{name}")).collect();
    for (kind, names) in [("known", &known), ("unknown", &unknown)] {
        let time = median(|| {
            let start = used();
            for name in names.iter().cycle().take(LOOKUPS) {
                black_box(table.find(0, Some(black_box(name)), b"\x02h2\x08http/1.1"));
            }
            used().saturating_sub(start)
        });
        println!("  lookup of {kind} names: {} ns", time.as_nanos() / LOOKUPS as u128);
    }
}

/// Returns the processor time of this thread so far, which other programs affect little.
fn used() -> Duration {
    kiln_base::time::now(ClockId::ThreadCPUTime)
}

fn median(run: impl Fn() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS).map(|_| run()).collect();
    times.sort();
    times[ROUNDS / 2]
}
