//! Parts of a representation (RFC 9110 section 14).

use std::ops::Range;

/// The most ranges; a request with more ranges gets the whole representation. No client needs that
/// many, and hundreds of ranges are an attack.
const RANGES_MAX: usize = 16;

/// The outcome of a `Range` field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The whole representation: for another unit, a text that is not a range, too many ranges, or
    /// overlapping ranges.
    Whole,
    /// These bytes, in this order; not empty.
    Ranges(Vec<Range<u64>>),
    /// No range lies within the representation: 416.
    Nothing,
}

/// Evaluates the field's value for a representation of `length` bytes.
#[must_use]
pub fn evaluate(value: &[u8], length: u64) -> Part {
    let Some((unit, set)) = value.split_at_checked(6) else { return Part::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return Part::Whole;
    }
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut asked = 0;
    for spec in set.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        if spec.is_empty() {
            continue;
        }
        asked += 1;
        match one(spec, length) {
            Err(NotARange) => return Part::Whole,
            Ok(Some(range)) => ranges.push(range),
            Ok(None) => {}
        }
        if asked > RANGES_MAX {
            return Part::Whole;
        }
    }
    match (asked, ranges.len()) {
        (0, _) => Part::Whole,
        // A 206 cannot express the last bytes of an empty representation.
        (_, 0) if length == 0 && set.trim_ascii().starts_with(b"-") => Part::Whole,
        (_, 0) => Part::Nothing,
        _ if overlap(&ranges) => Part::Whole,
        _ => Part::Ranges(ranges),
    }
}

struct NotARange;

/// Parses `first-last`, `first-` or `-count`; `None` if it is outside the representation.
fn one(spec: &[u8], length: u64) -> Result<Option<Range<u64>>, NotARange> {
    let dash = spec.iter().position(|byte| *byte == b'-').ok_or(NotARange)?;
    let (first, last) = (number(&spec[..dash])?, number(&spec[dash + 1..])?);
    let range = match (first, last) {
        (None, None) => return Err(NotARange),
        (None, Some(count)) => length.saturating_sub(count)..length,
        (Some(first), None) => first..length,
        (Some(first), Some(last)) if first > last => return Err(NotARange),
        (Some(first), Some(last)) => first..last.saturating_add(1).min(length),
    };
    Ok((range.start < range.end).then_some(range))
}

/// Parses digits; returns `None` for an empty text. A number that is too large becomes the largest
/// possible number.
fn number(digits: &[u8]) -> Result<Option<u64>, NotARange> {
    if digits.is_empty() {
        return Ok(None);
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(NotARange);
    }
    let text = str::from_utf8(digits).map_err(|_| NotARange)?;
    Ok(Some(text.parse().unwrap_or(u64::MAX)))
}

fn overlap(ranges: &[Range<u64>]) -> bool {
    let mut sorted: Vec<&Range<u64>> = ranges.iter().collect();
    sorted.sort_by_key(|range| range.start);
    sorted.windows(2).any(|pair| pair[0].end > pair[1].start)
}

#[cfg(test)]
mod tests {
    use super::{Part, evaluate};
    use proptest::prelude::*;

    fn check(value: &str, length: u64, expected: &Part) {
        assert_eq!(&evaluate(value.as_bytes(), length), expected, "{value} of {length}");
    }

    #[test]
    fn ranges_are_cut_to_the_content() {
        let some = |range| Part::Ranges(vec![range]);
        check("bytes=0-0", 10, &some(0..1));
        check("bytes=2-", 10, &some(2..10));
        check("bytes=-3", 10, &some(7..10));
        check("bytes=-99", 10, &some(0..10));
        check("Bytes=5-99", 10, &some(5..10));
        check("bytes=0-18446744073709551616", 10, &some(0..10));
        check("bytes=1-2, 4-5 ,,8-", 10, &Part::Ranges(vec![1..3, 4..6, 8..10]));
        check("bytes=8-,1-2", 10, &Part::Ranges(vec![8..10, 1..3]));
        check("bytes=10-,0-1", 10, &some(0..2));
    }

    #[test]
    fn ranges_outside_the_content_are_not_satisfiable() {
        check("bytes=10-", 10, &Part::Nothing);
        check("bytes=-0", 10, &Part::Nothing);
        check("bytes=99999999999999999999-", 10, &Part::Nothing);
        check("bytes=0-", 0, &Part::Nothing);
    }

    #[test]
    fn an_invalid_range_gets_the_whole() {
        for value in [
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=2-1",
            "bytes=+1-2",
            "bytes=1--2",
            "lines=1-2",
            "bytes 1-2",
            "bytes=1 -2",
            "",
        ] {
            check(value, 10, &Part::Whole);
        }
        check("bytes=-5", 0, &Part::Whole);
        check("bytes=0-5,5-6", 10, &Part::Whole);
        let many = |count: u64| {
            let all: Vec<String> = (0..count).map(|n| format!("{0}-{0}", n * 2)).collect();
            evaluate(format!("bytes={}", all.join(",")).as_bytes(), 100)
        };
        assert!(matches!(many(16), Part::Ranges(ranges) if ranges.len() == 16));
        assert_eq!(many(17), Part::Whole);
    }

    proptest! {
        #[test]
        fn ranges_are_inside_and_apart(value in "bytes=[0-9,-]{0,20}", length in 0_u64..40) {
            if let Part::Ranges(ranges) = evaluate(value.as_bytes(), length) {
                prop_assert!(!ranges.is_empty());
                prop_assert!(ranges.iter().all(|range| range.start < range.end && range.end <= length));
                prop_assert!(ranges.iter().map(|range| range.end - range.start).sum::<u64>() <= length);
            }
        }
    }
}
