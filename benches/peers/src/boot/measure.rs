//! One boot, from QEMU's start to the pod's first answer, and the times that its console shows.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kiln_contract::console::Event;
use kiln_host::process;
use kiln_host::qemu::{End, LAST_LINES, LOOK, Line, Machine, Poll, SILENCE, Vm, kernel_start};
use serde_json::{Value, json};

use super::table::Times;

/// The largest error of the guest's clock. Under emulation the kernel measures its clock at boot,
/// and on a busy host the result is wrong by up to several times; then the stamps do not show when
/// the kernel started, and programs in the guest sleep too long or too short.
const DRIFT: f64 = 0.03;

/// The time that a boot settles before memory is read, as the budget defines it.
const SETTLED: Duration = Duration::from_mins(1);

/// The seconds between two reports of the guest's memory.
const REPORT: u64 = 2;

/// The device through which the host reads the guest's memory, by its name in QMP.
pub const BALLOON: &str = "balloon";

/// The result of a boot.
#[derive(Debug)]
pub enum Outcome {
    /// All marks were seen.
    Booted(Times),
    /// The boot does not measure the image: QEMU crashed, or the guest's clock was wrong.
    Spoilt(String),
}

/// The part of a boot after its pod's first answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    End,
    /// The node settles, and its memory is read.
    Memory,
    /// The same, followed by a press of the power button.
    Shutdown,
}

/// Boots a machine until its pod answers.
pub fn measure(machine: &Machine, after: After) -> Result<Outcome> {
    let mut vm = machine.start()?;
    let poll = Poll::new(&machine.forwards, vm.start);
    let (mut lines, mut cursor, mut answer) = (Vec::new(), 0, None);
    let mut alive = Instant::now();
    while answer.is_none() || ready(&lines, "kubelet").is_none() {
        process::check_interrupt()?;
        let news = vm.console.news(cursor, LOOK);
        cursor = news.cursor;
        if !news.lines.is_empty() {
            alive = Instant::now();
        }
        lines.extend(news.lines);
        answer = answer.or_else(|| poll.next().map(|answer| answer.at));
        if let Some(spoilt) = trouble(&mut vm, &lines, alive)? {
            return Ok(Outcome::Spoilt(spoilt));
        }
    }
    let used = if after == After::End { None } else { Some(memory_in_use(&mut vm)?) };
    let down = if after == After::Shutdown { Some(shutdown(&mut vm, cursor)?) } else { None };
    Ok(match evaluate(&lines, answer.unwrap_or_default())? {
        Outcome::Booted(times) => Outcome::Booted(Times { memory: used, down, ..times }),
        spoilt @ Outcome::Spoilt(_) => spoilt,
    })
}

/// Presses the power button and returns the seconds that PID 1 takes from there to its last line.
fn shutdown(vm: &mut Vm, mut cursor: usize) -> Result<f64> {
    vm.qmp()?.power_button()?;
    let (mut begin, mut alive) = (None, Instant::now());
    loop {
        process::check_interrupt()?;
        let news = vm.console.news(cursor, LOOK);
        cursor = news.cursor;
        if !news.lines.is_empty() {
            alive = Instant::now();
        }
        for line in news.lines {
            if line.is_init() && line.text.contains("shutdown for") {
                begin = line.stamp;
            } else if let Some(Event::Down { .. }) = line.event() {
                let taken = line.stamp.zip(begin).and_then(|(end, begin)| end.checked_sub(begin));
                return taken
                    .map(|taken| taken.as_secs_f64())
                    .context("the console has no stamped line");
            }
        }
        if alive.elapsed() > SILENCE || vm.ended()?.is_some() {
            bail!(
                "the node did not shut down; last lines of its console:\n{}",
                vm.console.last(LAST_LINES)
            );
        }
    }
}

/// Fails if the node can no longer come up; returns a reason if QEMU is at fault.
fn trouble(vm: &mut Vm, lines: &[Line], alive: Instant) -> Result<Option<String>> {
    let tail = |vm: &Vm| format!("last lines of its console:\n{}", vm.console.last(LAST_LINES));
    match vm.ended()? {
        Some(End::Itself { reason }) => return Ok(Some(reason)),
        Some(End::Guest) => bail!("the node stopped before its pod answered; {}", tail(vm)),
        None => {}
    }
    if let Some(line) = lines.iter().find(|line| line.is_fatal()) {
        bail!("the node's kernel crashed: {}; {}", line.text, tail(vm));
    }
    if alive.elapsed() > SILENCE {
        bail!("the node wrote no new output for {} s; {}", SILENCE.as_secs(), tail(vm));
    }
    Ok(None)
}

/// Console and answer → times since the kernel's start.
fn evaluate(lines: &[Line], answer: Duration) -> Result<Outcome> {
    let rate = clock_rate(lines).context("the console has too few stamped lines")?;
    if (rate - 1.0).abs() > DRIFT {
        return Ok(Outcome::Spoilt(format!(
            "the guest's clock runs {rate:.2} times as fast as the host's"
        )));
    }
    let kernel = kernel_start(lines).context("the console has no stamped line")?;
    let init = lines.iter().find(|line| line.is_init()).map(|line| line.at);
    let seconds = |mark: Option<Duration>, what: &str| {
        let mark = mark.with_context(|| format!("the console does not show when {what}"))?;
        anyhow::Ok(mark.saturating_sub(kernel).as_secs_f64())
    };
    Ok(Outcome::Booted(Times {
        init: seconds(init, "PID 1 started")?,
        exec: to_exec(lines).map(|time| time.as_secs_f64()),
        containerd: seconds(ready(lines, "containerd"), "containerd was ready")?,
        kubelet: seconds(ready(lines, "kubelet"), "kubelet was ready")?,
        pod: answer.saturating_sub(kernel).as_secs_f64(),
        whole: answer.as_secs_f64(),
        ..Times::default()
    }))
}

/// Returns the time from PID 1's first instruction, which begins its first stage, to containerd's
/// first exec. It uses the guest's stamps, because it lasts only milliseconds.
fn to_exec(lines: &[Line]) -> Option<Duration> {
    let first = lines.iter().find_map(|line| match line.event()? {
        Event::Stage { millis, .. } => line.stamp?.checked_sub(Duration::from_millis(millis)),
        _ => None,
    });
    let exec = lines.iter().find_map(|line| match line.event()? {
        Event::Started { service, .. } if service == "containerd" => line.stamp,
        _ => None,
    });
    exec?.checked_sub(first?)
}

/// Returns the time when a service's first `READY=1` reached the host.
fn ready(lines: &[Line], name: &str) -> Option<Duration> {
    let found =
        |line: &&Line| matches!(line.event(), Some(Event::Ready { service }) if service == name);
    lines.iter().find(found).map(|line| line.at)
}

/// Returns guest seconds per host second, between PID 1's first and last line.
fn clock_rate(lines: &[Line]) -> Option<f64> {
    let mut stamped = lines.iter().filter(|line| line.is_init() && line.stamp.is_some());
    let first = stamped.next()?;
    let last = stamped.next_back()?;
    let guest = last.stamp?.checked_sub(first.stamp?)?.as_secs_f64();
    let host = last.at.checked_sub(first.at)?.as_secs_f64();
    (host > 0.0).then_some(guest / host)
}

/// Returns `MemTotal` − `MemAvailable` in MiB, as the guest's balloon driver reports them.
fn memory_in_use(vm: &mut Vm) -> Result<f64> {
    let path = format!("/machine/peripheral/{BALLOON}");
    let polling =
        json!({ "path": path, "property": "guest-stats-polling-interval", "value": REPORT });
    vm.qmp()?.execute("qom-set", &polling)?;
    let settled = Instant::now() + SETTLED;
    while Instant::now() < settled {
        process::check_interrupt()?;
        std::thread::sleep(LOOK);
    }
    let stats =
        vm.qmp()?.execute("qom-get", &json!({ "path": path, "property": "guest-stats" }))?;
    in_use(&stats).context("the guest reports no memory: its kernel has not loaded virtio_balloon")
}

fn in_use(stats: &Value) -> Option<f64> {
    // A value that the guest has not reported is all ones.
    let bytes = |name: &str| stats["stats"][name].as_u64().filter(|&bytes| bytes != u64::MAX);
    let used = bytes("stat-total-memory")?.checked_sub(bytes("stat-available-memory")?)?;
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mib = used as f64 / (1024.0 * 1024.0);
    Some(mib)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(raw: &[(u64, &str)]) -> Vec<Line> {
        let line = |(millis, text): &(u64, &str)| {
            Line::parse(Duration::from_millis(*millis), text.as_bytes())
        };
        raw.iter().map(line).collect()
    }

    fn boot(last: u64) -> Vec<Line> {
        lines(&[
            (1000, "BdsDxe: starting Boot0001"),
            (9000, "[    3.000000] kiln: stage mounts took 1 ms"),
            (9340, "[    3.340000] kiln: containerd started, attempt 1"),
            (12_000, "[    6.000000] kiln: containerd is ready"),
            (last, "[   10.000000] kiln: kubelet is ready"),
        ])
    }

    #[test]
    fn marks_count_from_the_kernels_start() {
        let Outcome::Booted(times) = evaluate(&boot(16_000), Duration::from_secs(19)).unwrap()
        else {
            panic!("the boot counts");
        };
        let expected = Times {
            init: 3.0,
            exec: Some(0.341),
            containerd: 6.0,
            kubelet: 10.0,
            pod: 13.0,
            whole: 19.0,
            ..Times::default()
        };
        assert_eq!(times, expected);
    }

    #[test]
    fn a_boot_with_a_wrong_clock_does_not_count() {
        let outcome = evaluate(&boot(14_000), Duration::from_secs(19)).unwrap();
        assert!(matches!(outcome, Outcome::Spoilt(reason) if reason.contains("1.40 times")));
    }

    #[test]
    fn a_missing_mark_is_named() {
        let mut lines = boot(16_000);
        lines.remove(3);
        let error = evaluate(&lines, Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("containerd"), "{error}");
    }

    #[test]
    fn memory_that_was_not_reported_has_no_number() {
        let stats = |available: u64| json!({ "stats": { "stat-total-memory": 3 << 20, "stat-available-memory": available } });
        assert_eq!(in_use(&stats(1 << 20)), Some(2.0));
        assert_eq!(in_use(&stats(u64::MAX)), None);
        assert_eq!(in_use(&json!({})), None);
    }
}
