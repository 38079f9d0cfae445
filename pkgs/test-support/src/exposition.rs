//! The rules of Prometheus' text format, version 0.0.4.

use std::collections::{BTreeMap, BTreeSet};

/// A metric's name, labels and value.
type Sample<'a> = (&'a str, Vec<(&'a str, String)>, f64);

/// Checks a text in the format, and returns the names of its metrics.
///
/// Each metric has HELP and TYPE once, before its samples; its samples follow one another and differ in
/// their labels; a counter's name ends with `_total`; the buckets of a histogram grow up to `+Inf`, which
/// equals its count.
#[track_caller]
pub fn check(text: &str) -> BTreeSet<String> {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helped: BTreeSet<&str> = BTreeSet::new();
    let mut current = "";
    let mut samples: Vec<Sample<'_>> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(helped.insert(name) && !help.is_empty(), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(is_name(name) && helped.contains(name), "{line}");
            assert!(types.insert(name, kind).is_none(), "twice: {line}");
            assert!(kind != "counter" || name.ends_with("_total"), "{line}");
            current = name;
        } else {
            let sample = sample(line);
            let base = family(sample.0, types[current]);
            assert_eq!(base, current, "a sample apart from its metric: {line}");
            let is_new = samples.iter().all(|old| (old.0, &old.1) != (sample.0, &sample.1));
            assert!(is_new, "twice: {line}");
            samples.push(sample);
        }
    }
    for name in types.iter().filter(|(_, kind)| **kind == "histogram").map(|(name, _)| name) {
        histogram(name, &samples);
    }
    for name in types.keys() {
        assert!(samples.iter().any(|sample| family(sample.0, types[name]) == *name), "{name}");
    }
    types.keys().map(|name| (*name).to_owned()).collect()
}

/// Returns the metric that a sample belongs to.
fn family<'a>(name: &'a str, kind: &str) -> &'a str {
    let ends = ["_bucket", "_sum", "_count"];
    let end =
        ends.into_iter().filter(|_| kind == "histogram").find_map(|end| name.strip_suffix(end));
    end.unwrap_or(name)
}

fn is_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().all(is_inner) && text.starts_with(|char: char| char.is_ascii_alphabetic())
}

/// Parses `NAME{LABEL="VALUE",…} NUMBER`.
#[track_caller]
fn sample(line: &str) -> Sample<'_> {
    let (head, value) = line.rsplit_once(' ').unwrap();
    let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
    let Some((name, labels)) = head.split_once('{') else {
        assert!(is_name(head), "{line}");
        return (head, Vec::new(), value);
    };
    assert!(is_name(name), "{line}");
    let mut rest = labels.strip_suffix('}').unwrap();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap();
        assert!(is_name(label), "{line}");
        let end = (0..after.len()).find(|at| {
            let slashes = after[..*at].bytes().rev().take_while(|byte| *byte == b'\\').count();
            after.as_bytes()[*at] == b'"' && slashes % 2 == 0
        });
        let end = end.unwrap();
        found.push((label, after[..end].to_owned()));
        rest = after[end + 1..].strip_prefix(',').unwrap_or(&after[end + 1..]);
    }
    (name, found, value)
}

/// Checks the parts of a histogram without other labels.
#[track_caller]
fn histogram(name: &str, samples: &[Sample<'_>]) {
    let of = |end: &str| {
        let whole = format!("{name}{end}");
        samples.iter().filter(|sample| sample.0 == whole).cloned().collect::<Vec<_>>()
    };
    let buckets: Vec<(f64, f64)> = of("_bucket")
        .iter()
        .map(|(_, labels, value)| (labels[0].1.replace("+Inf", "inf").parse().unwrap(), *value))
        .collect();
    assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name}: {buckets:?}");
    let (end, most) = *buckets.last().unwrap();
    assert!(end.is_infinite() && of("_count")[0].2.total_cmp(&most).is_eq(), "{name}: {buckets:?}");
    assert_eq!(of("_sum").len(), 1, "{name}");
}
