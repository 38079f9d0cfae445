//! Command line of `journalctl`: what kubelet passes, and little more.
//!
//! kubelet's side is `pkg/kubelet/kubelet_server_journal_linux.go`; the meaning is journalctl(1)'s.

use crate::log::time::Civil;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// List the values of `_SYSTEMD_UNIT`: what has a log.
    Units,
    /// List the boots that have lines.
    Boots,
    /// Show lines.
    Show(Query),
}

/// Which lines to show, and how.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Names without `.service`; all units where it is empty.
    pub units: Vec<String>,
    /// Not before this time, in microseconds since 1970.
    pub since: Option<i64>,
    /// Not after this time.
    pub until: Option<i64>,
    /// Only of this boot.
    pub boot: Option<Boot>,
    /// Only the last lines, as many as this.
    pub lines: Option<usize>,
    /// Only lines that match; not yet compiled.
    pub pattern: Option<String>,
    /// What stands before the text.
    pub output: Output,
    /// Nothing but lines: no word about boots, or that there are no lines.
    pub quiet: bool,
}

/// A boot as the user names it.
#[derive(Debug, PartialEq, Eq)]
pub enum Boot {
    /// 0 is this one, -1 the one before; 1 is the first that is known, 2 the one after it.
    Offset(i32),
    /// Its id, with or without dashes.
    Id(String),
}

/// Form of a line.
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

/// Lines that are shown with `--pager-end` and no number: journalctl's.
const PAGER_END: usize = 1000;

/// Lines that are shown with `--lines` and no number: journalctl's.
const LINES: usize = 10;

/// The most lines from the end: kubelet's `maxTailLines`. Their places take 24 bytes each.
const LINES_MAX: usize = 100_000;

/// An option's name and whether it has a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    Needed,
    /// The next word, if it looks like one.
    Boot,
    /// The next word, if it looks like one.
    Lines,
}

const OPTIONS: [(&str, &str, Value); 16] = [
    ("boot", "b", Value::Boot),
    ("dmesg", "k", Value::None),
    ("field", "F", Value::Needed),
    ("grep", "g", Value::Needed),
    ("identifier", "t", Value::Needed),
    ("lines", "n", Value::Lines),
    ("list-boots", "", Value::None),
    ("no-hostname", "", Value::None),
    ("no-pager", "", Value::None),
    ("output", "o", Value::Needed),
    ("pager-end", "e", Value::None),
    ("quiet", "q", Value::None),
    ("since", "S", Value::Needed),
    ("unit", "u", Value::Needed),
    ("until", "U", Value::Needed),
    ("utc", "", Value::None),
];

/// Reads a command line; the error is a sentence for its user.
pub fn parse(args: &[String]) -> Result<Request, String> {
    let mut query = Query::default();
    let mut request = None;
    let mut rest = args;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let (name, kind, attached) = option(first)?;
        let value = match (kind, attached) {
            (Value::None, Some(_)) => return Err(format!("option '--{name}' takes no value")),
            (Value::None, None) => None,
            (_, Some(value)) => Some(value),
            (Value::Needed, None) => {
                let (value, after) =
                    rest.split_first().ok_or(format!("option '--{name}' needs a value"))?;
                rest = after;
                Some(value.clone())
            }
            (Value::Boot | Value::Lines, None) => {
                let is_value = |word: &&String| looks_like_value(kind, word);
                let value = rest.first().filter(is_value).cloned();
                rest = &rest[usize::from(value.is_some())..];
                value
            }
        };
        request = apply(&mut query, name, value.as_deref())?.or(request);
    }
    Ok(request.unwrap_or(Request::Show(query)))
}

/// An argument's option, its kind, and the value that is attached to it.
fn option(arg: &str) -> Result<(&'static str, Value, Option<String>), String> {
    let unknown = || format!("unrecognized option '{arg}'");
    if let Some(long) = arg.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let found = OPTIONS.iter().find(|(long, ..)| *long == name).ok_or_else(unknown)?;
        return Ok((found.0, found.2, value));
    }
    let letter = arg.strip_prefix('-').ok_or_else(unknown)?;
    let is = |(_, short, _): &&(&str, &str, Value)| !short.is_empty() && letter.starts_with(short);
    let found = OPTIONS.iter().find(is).ok_or_else(unknown)?;
    let value = &letter[found.1.len()..];
    Ok((found.0, found.2, (!value.is_empty()).then(|| value.to_owned())))
}

/// Whether the word after `--boot` or `--lines` belongs to it.
fn looks_like_value(kind: Value, word: &str) -> bool {
    match kind {
        Value::Boot => word.parse::<i32>().is_ok() || is_boot_id(word),
        _ => word == "all" || word.parse::<usize>().is_ok(),
    }
}

fn is_boot_id(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_hexdigit).count();
    digits == 32 && word.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

fn apply(query: &mut Query, name: &str, value: Option<&str>) -> Result<Option<Request>, String> {
    let text = value.unwrap_or_default();
    match name {
        "boot" => query.boot = Some(boot(text)?),
        "dmesg" => {
            query.units.push(crate::log::stream::KERNEL.into());
            query.boot.get_or_insert(Boot::Offset(0));
        }
        "field" if text == "_SYSTEMD_UNIT" => return Ok(Some(Request::Units)),
        "field" => return Err(format!("there is no field {text}, only _SYSTEMD_UNIT")),
        "grep" => query.pattern = (!text.is_empty()).then(|| text.to_owned()),
        "identifier" | "unit" => {
            query.units.push(text.strip_suffix(".service").unwrap_or(text).to_owned());
        }
        "lines" => query.lines = lines(value)?,
        "list-boots" => return Ok(Some(Request::Boots)),
        "output" => query.output = output(text)?,
        "pager-end" => query.lines = query.lines.or(Some(PAGER_END)),
        "quiet" => query.quiet = true,
        "since" => query.since = Some(time(text)?),
        "until" => query.until = Some(time(text)?),
        // The time is always UTC, and there is no pager.
        _ => {}
    }
    Ok(None)
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
            _ => Err(format!("{text:?} is no number of lines from 0 to {LINES_MAX}")),
        },
    }
}

fn output(text: &str) -> Result<Output, String> {
    match text {
        "short" => Ok(Output::Short),
        "short-precise" => Ok(Output::ShortPrecise),
        "cat" => Ok(Output::Cat),
        _ => Err(format!("there is no output {text:?}, only short, short-precise and cat")),
    }
}

/// `2026-1-2 15:4:5` in UTC, also with zeroes, `T`, `Z`, without seconds or without a time of day;
/// `@` and seconds since 1970.
///
/// kubelet writes the numbers without zeroes, and drops the zone of what it was asked for.
fn time(text: &str) -> Result<i64, String> {
    let error = || format!("{text:?} is no time like 2026-01-31 15:04:05");
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
    civil.checked().ok_or_else(error)
}

/// Two or three numbers of at most four digits; the third is 0 if it is not there.
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

    use super::{Boot, Output, Query, Request, parse};

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

    /// What `getLoggingCmd` of kubelet 1.36 makes, option by option and all at once.
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
    fn kubelet_s_question_for_units_is_understood() {
        assert_eq!(parse(&split(&["--field", "_SYSTEMD_UNIT"])), Ok(Request::Units));
        assert_eq!(parse(&split(&["-F_SYSTEMD_UNIT"])), Ok(Request::Units));
        assert_eq!(parse(&split(&["--list-boots", "--utc"])), Ok(Request::Boots));
    }

    #[test]
    fn people_s_short_forms_are_understood() {
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
    fn what_makes_no_sense_is_an_error_that_names_it() {
        for (line, expected) in [
            (&["--follow"][..], "unrecognized option '--follow'"),
            (&["word"], "unrecognized option 'word'"),
            (&["-"], "unrecognized option '-'"),
            (&["--unit"], "option '--unit' needs a value"),
            (&["--utc=1"], "option '--utc' takes no value"),
            (&["--lines=-1"], "\"-1\" is no number of lines from 0 to 100000"),
            (&["--lines=100001"], "\"100001\" is no number of lines from 0 to 100000"),
            (&["--boot=x"], "\"x\" is neither a boot's offset nor its id"),
            (
                &["--since=2026-2-30 0:0:0"],
                "\"2026-2-30 0:0:0\" is no time like 2026-01-31 15:04:05",
            ),
            (&["--since=yesterday"], "\"yesterday\" is no time like 2026-01-31 15:04:05"),
            (&["--output=json"], "there is no output \"json\", only short, short-precise and cat"),
            (&["--field=X"], "there is no field X, only _SYSTEMD_UNIT"),
        ] {
            assert_eq!(parse(&split(line)), Err(expected.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn any_command_line_is_read(args in prop::collection::vec("(--?[a-z-]{0,8}=?)?[-0-9: T@Z=a-z]{0,8}", 0..6)) {
            let _ = parse(&args);
        }

        #[test]
        fn any_pattern_of_kubelet_arrives(pattern in "\\PC{1,30}") {
            let args = vec![format!("--grep={pattern}"), "--boot".to_owned(), "0".to_owned()];
            let Ok(Request::Show(query)) = parse(&args) else { panic!("{args:?}") };
            prop_assert_eq!((query.pattern, query.boot), (Some(pattern), Some(Boot::Offset(0))));
        }

        #[test]
        fn any_time_of_kubelet_arrives(seconds in 0_i64..4_102_444_800) {
            let civil = crate::log::time::Civil::of(seconds * 1_000_000);
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
