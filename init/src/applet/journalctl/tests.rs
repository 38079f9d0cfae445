//! The applet on files in the form of the log, with the arguments of kubelet 1.36.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::{World, execute};
use crate::kernel::beneath::Folder;
use crate::log::file::{LogFile, Sink, record_boot};
use crate::log::line::prefix;
use crate::log::stamp::Stamp;

const FIRST: &str = "11111111-1111-4111-8111-111111111111";
const SECOND: &str = "22222222-2222-4222-8222-222222222222";

/// 2026-11-21 14:43:00 UTC.
const BEGIN: i64 = 1_795_272_180_000_000;

/// The arguments that `getLoggingCmd` always passes.
const ALWAYS: [&str; 3] = ["--utc", "--no-pager", "--output=short-precise"];

fn line(seconds: i64, source: &str, text: &str) -> String {
    let stamp = Stamp {
        real: BEGIN + seconds * 1_000_000,
        monotonic: u64::try_from(seconds % 1000).unwrap() * 1_000_000,
    };
    format!("{}{text}\n", prefix(stamp, source))
}

/// Writes two boots, the second one 1000 s after the first.
fn sample(folder: &Path) {
    for (boot, begin) in [(FIRST, 0), (SECOND, 1000)] {
        record_boot(&Folder::open(folder).unwrap(), boot).unwrap();
        let write = |unit: &str, lines: &[String]| {
            LogFile::new(folder, unit, 1 << 20, boot).write(lines.concat().as_bytes()).unwrap();
        };
        let entry = |after: i64, source: &str, text: &str| line(begin + after, source, text);
        write(
            "kernel",
            &[entry(0, "kernel", "Linux version 6.12"), entry(7, "kernel", "eth0: up")],
        );
        write("init", &[entry(1, "init", "stage mounts took 2 ms")]);
        write("containerd", &[entry(3, "containerd[70]", "level=info msg=start")]);
        write(
            "kubelet",
            &[
                entry(5, "kubelet[80]", "I1121 Starting kubelet"),
                entry(6, "kubelet[80]", "E1121 an ERROR: 5 ms"),
                entry(8, "kubelet[80]", "I1121 done"),
            ],
        );
    }
}

fn run_at(folder: &Path, args: &[&str], is_late: &dyn Fn() -> bool) -> (String, Option<String>) {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let world = World { folder, hostname: "node-1", boot: SECOND, is_late };
    let mut out = Vec::new();
    let error = execute(&args, &world, &mut out).err();
    (String::from_utf8(out).unwrap(), error)
}

fn run(folder: &Path, args: &[&str]) -> String {
    let (out, error) = run_at(folder, args, &|| false);
    error.map_or(out, |error| format!("error: {error}"))
}

/// Returns the texts of the lines that these options select, in addition to kubelet's arguments.
fn texts(folder: &Path, more: &[&str]) -> Vec<String> {
    let out = run(folder, &[&ALWAYS[..], more].concat());
    out.lines()
        .map(|line| line.split_once("]: ").map_or(line, |(_, text)| text).to_owned())
        .collect()
}

#[test]
fn kubelet_finds_every_unit_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let out = run(folder.path(), &["--field", "_SYSTEMD_UNIT"]);
    for service in ["kubelet", "containerd", "kernel", "init"] {
        assert!(out.contains(&format!("{service}.service")), "{out}");
    }
}

#[test]
fn lines_have_the_form_of_short_precise() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let out = run(folder.path(), &[&ALWAYS[..], &["--unit=kubelet", "--boot", "-1"]].concat());
    let expected = "\
Nov 21 14:43:05.000000 node-1 kubelet[80]: I1121 Starting kubelet
Nov 21 14:43:06.000000 node-1 kubelet[80]: E1121 an ERROR: 5 ms
Nov 21 14:43:08.000000 node-1 kubelet[80]: I1121 done
";
    assert_eq!(out, expected);
}

#[test]
fn kubelets_options_choose_lines() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let check = |more: &[&str], expected: &[&str]| {
        assert_eq!(texts(folder.path(), more), expected, "{more:?}");
    };
    let unit = "--unit=kubelet";
    let boot = "-- Boot 22222222222242228222222222222222 --";
    let all = ["I1121 Starting kubelet", "E1121 an ERROR: 5 ms", "I1121 done"];
    let [start, error, done] = all;
    check(&[unit], &[start, error, done, boot, start, error, done]);
    check(&[unit, "--boot", "0"], &all);
    check(&["--since=2026-11-21 14:43:7", unit, "--boot", "-1"], &[done]);
    check(&["--until=2026-11-21 14:43:5", unit], &[start]);
    check(&["--since=2026-11-21 14:43:6", "--until=2026-11-21 14:43:6", unit], &[error]);
    check(&["--pager-end", "--lines=1", unit], &[done]);
    check(&["--pager-end", "--lines=4", unit], &[done, boot, start, error, done]);
    check(&["--pager-end", "--lines=0", unit], &["-- No entries --"]);
    check(&[unit, "--grep=error", "--boot", "0"], &[error]);
    check(&[unit, "--grep=Error", "--boot", "0"], &["-- No entries --"]);
    check(&[unit, r"--grep=\d ms$", "--boot", "0"], &[error]);
    check(&["--pager-end", "--lines=1", unit, "--grep=i1121"], &[done]);
    check(&["--unit=sshd"], &["-- No entries --"]);
    check(&[unit, "--boot", "-2"], &["error: no entry found for boot -2"]);
}

#[test]
fn several_units_are_merged_by_time_with_lines_of_the_kernel_and_of_pid_1() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let out = run(folder.path(), &["--boot", "0", "-o", "cat"]);
    let expected = [
        "Linux version 6.12",
        "stage mounts took 2 ms",
        "level=info msg=start",
        "I1121 Starting kubelet",
        "E1121 an ERROR: 5 ms",
        "eth0: up",
        "I1121 done",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    let two = run(folder.path(), &["--boot=0", "--unit=kernel", "--unit=init", "-ocat"]);
    assert_eq!(two.lines().collect::<Vec<_>>(), [expected[0], expected[1], expected[5]]);
}

#[test]
fn order_within_a_boot_does_not_depend_on_the_wall_clock() {
    let folder = tempfile::tempdir().unwrap();
    let stamp = |real, monotonic| Stamp { real, monotonic };
    for (unit, lines) in [
        ("kernel", [(stamp(1, 1), "first"), (stamp(BEGIN, 3), "third")]),
        ("kubelet", [(stamp(2, 2), "second"), (stamp(BEGIN + 1, 4), "fourth")]),
    ] {
        let mut file = LogFile::new(folder.path(), unit, 1 << 20, SECOND);
        for (stamp, text) in lines {
            file.write(format!("{}{text}\n", prefix(stamp, unit)).as_bytes()).unwrap();
        }
    }
    assert_eq!(run(folder.path(), &["-o", "cat"]), "first\nsecond\nthird\nfourth\n");
}

#[test]
fn lines_before_a_rotation_come_first_and_malformed_lines_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    write("kubelet.log.1", format!("-- boot {SECOND}\n{}", line(1, "kubelet", "old")));
    let long = "x".repeat(100_000);
    write(
        "kubelet.log",
        format!(
            "-- boot {SECOND}\n\0\0\0\n{long}\n2026-11\n{}{}",
            line(2, "kubelet", "new"),
            line(3, "kubelet", "x").trim_end()
        ),
    );
    assert_eq!(run(folder.path(), &["-o", "cat"]), "old\nnew\nx\n");
    assert_eq!(run(folder.path(), &["-o", "cat", "-n2"]), "new\nx\n");
}

#[test]
fn boots_are_listed_and_found_by_their_id() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let (first, second) = (FIRST.replace('-', ""), SECOND.replace('-', ""));
    assert_eq!(run(folder.path(), &["--list-boots"]), format!("-1 {first}\n0 {second}\n"));
    for boot in [FIRST, &first, "-1", "1"] {
        let out = run(folder.path(), &["-b", boot, "-u", "init"]);
        assert_eq!(out, "Nov 21 14:43:01 node-1 init: stage mounts took 2 ms\n");
    }
}

#[test]
fn a_node_without_logs_has_no_entries() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(texts(folder.path(), &["--unit=kubelet"]), ["-- No entries --"]);
    assert_eq!(run(folder.path(), &["-q"]), "");
}

#[test]
fn when_time_runs_out_the_lines_so_far_are_shown_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..2000).map(|at| line(at, "kubelet", &at.to_string())).collect();
    let text = format!("-- boot {SECOND}\n{lines}");
    fs::write(folder.path().join("kubelet.log"), text).unwrap();
    for args in [&["-ocat"][..], &["-ocat", "-n3"]] {
        let looks = Cell::new(0);
        let is_late = || looks.replace(looks.get() + 1) > 0;
        let (out, error) = run_at(folder.path(), args, &is_late);
        assert!(out.ends_with("1022\n1023\n"), "{args:?}");
        assert_eq!(error.as_deref(), Some("stopped after 25 s; the rest was not read"));
    }
}

proptest! {
    /// `--lines` shows the end of the output without it.
    #[test]
    fn the_last_lines_are_the_end_of_all_lines(
        times in prop::collection::vec((0_u64..50, 0_usize..4), 0..60),
        number in 0_usize..70,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut files = super::STREAMS.map(|unit| LogFile::new(folder.path(), unit, 700, SECOND));
        let mut clock = 0;
        for (at, (pause, unit)) in times.into_iter().enumerate() {
            clock += pause;
            let stamp = Stamp { real: 0, monotonic: clock };
            files[unit].write(format!("{}{at}\n", prefix(stamp, "x")).as_bytes()).unwrap();
        }
        let all = run(folder.path(), &["-q", "-ocat"]);
        let last = run(folder.path(), &["-q", "-ocat", &format!("-n{number}")]);
        let lines: Vec<&str> = all.lines().collect();
        let expected = &lines[lines.len().saturating_sub(number)..];
        prop_assert_eq!(last.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn garbage_in_one_file_hides_no_line_of_another(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        sample(folder.path());
        let expected = texts(folder.path(), &["--unit=containerd"]);
        fs::write(folder.path().join("kubelet.log"), bytes).unwrap();
        let found = texts(folder.path(), &[]);
        prop_assert!(!expected.is_empty() && expected.iter().all(|text| found.contains(text)));
    }
}
