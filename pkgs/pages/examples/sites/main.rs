//! The parts of the pages service with many sites, without a cluster: memory of each site, time of the
//! work that grows with their number, and the queue in simulated hours.
//!
//! `cargo run --package pages --example sites` prints tables in Markdown. `docs/benchmarks.md` explains them.
//! Memory is exact: the allocator counts. Times are those of a build without optimisation.

mod counting;
mod hours;
mod parts;

use std::time::Duration;

use anyhow::Result;

/// The numbers of sites.
const COUNTS: [usize; 3] = [1_000, 10_000, 100_000];

/// The intervals of the simulated sites.
const INTERVALS: [Duration; 3] =
    [Duration::from_mins(5), Duration::from_mins(30), Duration::from_hours(2)];

#[expect(clippy::print_stdout, reason = "the table is the program's only output")]
fn main() -> Result<()> {
    println!("| part | {} |", COUNTS.map(|count| format!("{count} sites")).join(" | "));
    println!("| --- | --- | --- | --- |");
    let columns: Vec<_> = COUNTS.into_iter().map(parts::measure).collect::<Result<_>>()?;
    for (at, (name, _)) in columns[0].iter().enumerate() {
        let cells: Vec<&str> = columns.iter().map(|column| column[at].1.as_str()).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    println!(
        "\n| sites | interval | fetches a second | longest wait of a due site | waiting at the end |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for count in COUNTS {
        for interval in INTERVALS {
            println!("{}", hours::simulate(count, interval));
        }
    }
    Ok(())
}
