//! The queue in simulated time, with as many fetches at a time as a syncer has.

use std::collections::BTreeSet;
use std::time::Duration;

use pages::queue::plan::{Bounds, End, Queue};

use crate::parts::key;

/// The length of a fetch that finds nothing new, as measured with `git http-backend` on a busy machine.
const FETCH: Duration = Duration::from_millis(40);

/// The simulated time in intervals. The first one, in which all sites are new, does not count.
const INTERVALS: u32 = 3;

/// Simulates sites that were created together, and returns a row of the table.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub fn simulate(count: usize, interval: Duration) -> String {
    let mut queue = Queue::new(Bounds::default());
    for number in 0..count {
        queue.add(&key(number), interval, None, Duration::ZERO);
    }
    // The ends of the fetches that run.
    let mut running = BTreeSet::new();
    let (mut now, mut fetches, mut longest) = (Duration::ZERO, 0_u64, Duration::ZERO);
    let counted = interval * (INTERVALS - 1);
    while now < interval + counted {
        let mut due = queue.next();
        while let Some(site) = queue.take(now) {
            // The first round is that of the creation; it is no sign of what the interval needs.
            if now > interval {
                longest = longest.max(now.saturating_sub(due.unwrap_or(now)));
                fetches += 1;
            }
            due = queue.next();
            running.insert((now + FETCH, site));
        }
        let end = running.first().map(|(end, _)| *end);
        let Some(next) = [end, queue.next()].into_iter().flatten().min() else { break };
        now = next.max(now);
        while running.first().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, site)) = running.pop_first() {
                queue.done(&site, End::Success, now);
            }
        }
    }
    let (rate, waiting) = (fetches as f64 / counted.as_secs_f64(), queue.overdue(now));
    let (interval, longest) = (interval.as_secs() / 60, longest.as_secs_f64());
    format!("| {count} | {interval} min | {rate:.1} | {longest:.1} s | {waiting} |")
}
