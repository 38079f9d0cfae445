//! The command line of `journalctl`: the options that kubelet passes, and a few more.
//!
//! kubelet's side is `pkg/kubelet/kubelet_server_journal_linux.go`. The options have the meaning of
//! journalctl(1).

use kiln_base::calendar::Civil;
use lexopt::prelude::*;
use lexopt::{Parser, ValueExt};

use crate::log::stream::KERNEL;

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// List the values of `_SYSTEMD_UNIT`, which are the streams of the log.
    Units,
    /// List the boots in the log.
    Boots,
    /// Show lines.
    Show(Query),
}

/// The lines to show, and their form.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Names without `.service`, or nothing for all units.
    pub units: Vec<String>,
    /// The first time to show, in microseconds since 1970.
    pub since: Option<i64>,
    /// The last time to show.
    pub until: Option<i64>,
    /// The only boot to show.
    pub boot: Option<Boot>,
    /// The number of last lines to show.
    pub lines: Option<usize>,
    /// The pattern that lines must match, not yet compiled.
    pub pattern: Option<String>,
    /// The form of a line.
    pub output: Output,
    /// True to show lines only, without notes about boots or missing lines.
    pub quiet: bool,
}

/// A boot in the user's form.
#[derive(Debug, PartialEq, Eq)]
pub enum Boot {
    /// 0 is this boot and -1 the previous one; 1 is the first known boot and 2 the next one.
    Offset(i32),
    /// The id, with or without dashes.
    Id(String),
}

/// The form of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Output {
    /// `Nov 21 14:43:00 HOST UNIT[PID]: TEXT`.
    #[default]
    Short,
    /// The same with microseconds.
    ShortPrecise,
    /// The text alone.
    Cat,
}

/// The number of lines for `--pager-end`, as in journalctl.
const PAGER_END: usize = 1000;

/// The number of lines for `--lines` without a value, as in journalctl.
const LINES: usize = 10;

/// The largest number of last lines: kubelet's `maxTailLines`. Each takes 24 bytes of memory.
const LINES_MAX: usize = 100_000;

/// Parses a command line. The error is a sentence for the user.
pub fn parse(args: &[String]) -> Result<Request, String> {
    parse_all(args).map_err(|error| error.to_string())
}

fn parse_all(args: &[String]) -> Result<Request, lexopt::Error> {
    let (mut query, mut request) = (Query::default(), None);
    let mut args = Parser::from_args(args);
    while let Some(arg) = args.next()? {
        match arg {
            Short('b') | Long("boot") => {
                query.boot = Some(boot(&optional(&mut args, is_boot)?.unwrap_or_default())?);
            }
            Short('k') | Long("dmesg") => {
                query.units.push(KERNEL.into());
                query.boot.get_or_insert(Boot::Offset(0));
            }
            Short('F') | Long("field") => {
                check_field(&args.value()?.string()?)?;
                request = Some(Request::Units);
            }
            Short('g') | Long("grep") => {
                query.pattern = Some(args.value()?.string()?).filter(|text| !text.is_empty());
            }
            Short('u' | 't') | Long("unit" | "identifier") => {
                let unit = args.value()?.string()?;
                query.units.push(unit.strip_suffix(".service").unwrap_or(&unit).to_owned());
            }
            Short('n') | Long("lines") => {
                query.lines = lines(optional(&mut args, is_lines)?.as_deref())?;
            }
            Long("list-boots") => request = Some(Request::Boots),
            Short('o') | Long("output") => query.output = output(&args.value()?.string()?)?,
            Short('e') | Long("pager-end") => query.lines = query.lines.or(Some(PAGER_END)),
            Short('q') | Long("quiet") => query.quiet = true,
            Short('S') | Long("since") => query.since = Some(time(&args.value()?.string()?)?),
            Short('U') | Long("until") => query.until = Some(time(&args.value()?.string()?)?),
            // Times are always in UTC, and there is no pager.
            Long("no-hostname" | "no-pager" | "utc") => {}
            other => return Err(other.unexpected()),
        }
    }
    Ok(request.unwrap_or(Request::Show(query)))
}

/// Returns the optional value of an option: the attached one, or the next word if it can be a
/// value.
fn optional(args: &mut Parser, can_be: fn(&str) -> bool) -> Result<Option<String>, lexopt::Error> {
    if let Some(attached) = args.optional_value() {
        return attached.string().map(Some);
    }
    let next = args
        .try_raw_args()
        .and_then(|mut words| words.next_if(|word| word.to_str().is_some_and(can_be)));
    next.map(ValueExt::string).transpose()
}

fn is_boot(word: &str) -> bool {
    word.parse::<i32>().is_ok() || is_boot_id(word)
}

fn is_lines(word: &str) -> bool {
    word == "all" || word.parse::<usize>().is_ok()
}

fn check_field(name: &str) -> Result<(), String> {
    match name {
        "_SYSTEMD_UNIT" => Ok(()),
        _ => Err(format!("unknown field {name}, use _SYSTEMD_UNIT")),
    }
}

fn is_boot_id(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_hexdigit).count();
    digits == 32 && word.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

fn boot(text: &str) -> Result<Boot, String> {
    match text.parse() {
        _ if text.is_empty() => Ok(Boot::Offset(0)),
        Ok(offset) => Ok(Boot::Offset(offset)),
        Err(_) if is_boot_id(text) => Ok(Boot::Id(text.replace('-', ""))),
        Err(_) => Err(format!("{text:?} is neither a boot's offset nor its id")),
    }
}

fn lines(value: Option<&str>) -> Result<Option<usize>, String> {
    match value {
        None => Ok(Some(LINES)),
        Some("all") => Ok(None),
        Some(text) => match text.parse() {
            Ok(number) if number <= LINES_MAX => Ok(Some(number)),
            _ => Err(format!("{text:?} is not a number of lines from 0 to {LINES_MAX}")),
        },
    }
}

fn output(text: &str) -> Result<Output, String> {
    match text {
        "short" => Ok(Output::Short),
        "short-precise" => Ok(Output::ShortPrecise),
        "cat" => Ok(Output::Cat),
        _ => Err(format!("unknown output {text:?}, use short, short-precise or cat")),
    }
}

/// Parses `2026-1-2 15:4:5` in UTC, also with leading zeros, `T`, `Z`, without seconds or without a
/// time of day, and `@` with seconds since 1970.
///
/// kubelet writes the numbers without leading zeros and drops the time zone.
fn time(text: &str) -> Result<i64, String> {
    let error = || format!("{text:?} is not a time like 2026-01-31 15:04:05");
    if let Some(seconds) = text.strip_prefix('@') {
        let seconds: i64 = seconds.parse().map_err(|_| error())?;
        return seconds.checked_mul(1_000_000).ok_or_else(error);
    }
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix(" UTC")).unwrap_or(text);
    let (date, clock) = text.split_once([' ', 'T']).unwrap_or((text, "0:0:0"));
    let (Some(date), Some(clock)) = (numbers(date, '-'), numbers(clock, ':')) else {
        return Err(error());
    };
    let ([year, month, day], [hour, minute, second]) = (date, clock);
    let civil = Civil { year, month, day, hour, minute, second, micros: 0 };
    civil.micros().ok_or_else(error)
}

/// Parses two or three numbers of at most four digits. A missing third number is 0.
fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let number = |part: &str| {
        let fits = !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| part.parse().ok()).flatten()
    };
    let parts: Vec<i64> = text.split(separator).map(number).collect::<Option<_>>()?;
    match parts[..] {
        [first, second, third] => Some([first, second, third]),
        [first, second] => Some([first, second, 0]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Boot, Civil, LINES_MAX, Output, Query, Request, parse};

    fn split(line: &[&str]) -> Vec<String> {
        line.iter().map(|word| (*word).to_owned()).collect()
    }

    fn show(line: &[&str]) -> Query {
        match parse(&split(line)) {
            Ok(Request::Show(query)) => query,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    const ALWAYS: [&str; 3] = ["--utc", "--no-pager", "--output=short-precise"];

    /// The command lines of kubelet 1.36's `getLoggingCmd`, for each option and for all of them.
    #[test]
    fn every_option_of_kubelet_is_understood() {
        let line = |more: &[&'static str]| [&ALWAYS[..], more].concat();
        let base = || Query { output: Output::ShortPrecise, ..Query::default() };
        let kubelet = || vec!["kubelet".to_owned()];
        for (more, expected) in [
            (&["--unit=kubelet"][..], Query { units: kubelet(), ..base() }),
            (
                &["--since=2026-1-2 15:4:5", "--unit=kubelet"],
                Query { since: Some(1_767_366_245_000_000), units: kubelet(), ..base() },
            ),
            (
                &["--until=2026-11-21 04:43:0", "--unit=kubelet"],
                Query { until: Some(1_795_236_180_000_000), units: kubelet(), ..base() },
            ),
            (
                &["--pager-end", "--lines=5", "--unit=kubelet"],
                Query { lines: Some(5), units: kubelet(), ..base() },
            ),
            (
                &["--pager-end", "--lines=0", "--unit=kubelet"],
                Query { lines: Some(0), units: kubelet(), ..base() },
            ),
            (
                &["--unit=kubelet", "--unit=containerd"],
                Query { units: vec!["kubelet".into(), "containerd".into()], ..base() },
            ),
            (
                &["--unit=kubelet", "--grep=a = b --boot"],
                Query { units: kubelet(), pattern: Some("a = b --boot".into()), ..base() },
            ),
            (
                &["--unit=kubelet", "--boot", "0"],
                Query { units: kubelet(), boot: Some(Boot::Offset(0)), ..base() },
            ),
            (
                &["--unit=kubelet", "--boot", "-1"],
                Query { units: kubelet(), boot: Some(Boot::Offset(-1)), ..base() },
            ),
            (
                &[
                    "--since=2026-1-2 15:4:5",
                    "--until=2026-11-21 04:43:0",
                    "--pager-end",
                    "--lines=100000",
                    "--unit=kubelet.service",
                    "--grep=x",
                    "--boot",
                    "-2",
                ],
                Query {
                    units: kubelet(),
                    since: Some(1_767_366_245_000_000),
                    until: Some(1_795_236_180_000_000),
                    boot: Some(Boot::Offset(-2)),
                    lines: Some(100_000),
                    pattern: Some("x".into()),
                    ..base()
                },
            ),
        ] {
            assert_eq!(show(&line(more)), expected);
        }
    }

    #[test]
    fn kubelets_query_for_units_is_understood() {
        assert_eq!(parse(&split(&["--field", "_SYSTEMD_UNIT"])), Ok(Request::Units));
        assert_eq!(parse(&split(&["-F_SYSTEMD_UNIT"])), Ok(Request::Units));
        assert_eq!(parse(&split(&["--list-boots", "--utc"])), Ok(Request::Boots));
    }

    #[test]
    fn short_options_are_understood() {
        let query = show(&["-b", "-u", "kubelet", "-n", "-g", "x", "-qe"][..6]);
        assert_eq!((query.boot, query.lines), (Some(Boot::Offset(0)), Some(10)));
        assert_eq!(show(&["-n5"]).lines, Some(5));
        assert_eq!(show(&["-b-1"]).boot, Some(Boot::Offset(-1)));
        assert_eq!(show(&["-k"]).units, ["kernel"]);
        assert_eq!(show(&["--lines", "all", "-e"]).lines, Some(1000));
        let id = "0b7b2f5c6a3d4c3e9d0a0d2f5a3f1e11";
        assert_eq!(show(&["-b", id]).boot, Some(Boot::Id(id.into())));
        for time in
            ["2026-01-02 15:04:05", "2026-01-02T15:04:05Z", "2026-1-2 15:4:5 UTC", "@1767366245"]
        {
            assert_eq!(show(&["-S", time]).since, Some(1_767_366_245_000_000), "{time}");
        }
        assert_eq!(show(&["-S", "2026-01-02"]).since, show(&["-S", "2026-01-02 00:00"]).since);
    }

    #[test]
    fn an_invalid_option_is_an_error_that_names_it() {
        for (line, expected) in [
            (&["--follow"][..], "invalid option '--follow'"),
            (&["word"], "unexpected argument \"word\""),
            (&["-"], "unexpected argument \"-\""),
            (&["--unit"], "missing argument for option '--unit'"),
            (&["--utc=1"], "unexpected argument for option '--utc': \"1\""),
            (&["--lines=-1"], "\"-1\" is not a number of lines from 0 to 100000"),
            (&["--lines=100001"], "\"100001\" is not a number of lines from 0 to 100000"),
            (&["--boot=x"], "\"x\" is neither a boot's offset nor its id"),
            (
                &["--since=2026-2-30 0:0:0"],
                "\"2026-2-30 0:0:0\" is not a time like 2026-01-31 15:04:05",
            ),
            (&["--since=yesterday"], "\"yesterday\" is not a time like 2026-01-31 15:04:05"),
            (&["--output=json"], "unknown output \"json\", use short, short-precise or cat"),
            (&["--field=X"], "unknown field X, use _SYSTEMD_UNIT"),
        ] {
            assert_eq!(parse(&split(line)), Err(expected.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn the_number_of_lines_and_units_of_any_order_arrive(
            lines in 0..=LINES_MAX,
            units in prop::collection::vec("[a-z]{1,9}", 0..4),
            first in any::<bool>(),
        ) {
            let mut args: Vec<String> = units.iter().map(|unit| format!("--unit={unit}")).collect();
            args.insert(if first { 0 } else { args.len() }, format!("-n{lines}"));
            let Ok(Request::Show(query)) = parse(&args) else { panic!("{args:?}") };
            prop_assert_eq!((query.lines, query.units), (Some(lines), units));
        }

        #[test]
        fn any_pattern_of_kubelet_arrives(pattern in "\\PC{1,30}") {
            let args = vec![format!("--grep={pattern}"), "--boot".to_owned(), "0".to_owned()];
            let Ok(Request::Show(query)) = parse(&args) else { panic!("{args:?}") };
            prop_assert_eq!((query.pattern, query.boot), (Some(pattern), Some(Boot::Offset(0))));
        }

        #[test]
        fn any_time_of_kubelet_arrives(seconds in 0_i64..4_102_444_800) {
            let civil = Civil::from_seconds(seconds);
            // Go's layout "2006-1-2 15:4:5".
            let text = format!(
                "{}-{}-{} {:02}:{}:{}",
                civil.year, civil.month, civil.day, civil.hour, civil.minute, civil.second
            );
            let Ok(Request::Show(query)) = parse(&[format!("--since={text}")]) else { panic!("{text}") };
            prop_assert_eq!(query.since, Some(seconds * 1_000_000));
        }
    }
}
