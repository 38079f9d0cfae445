//! The choice of a variant by `Accept-Encoding` (RFC 9110 section 12.5.3).
//!
//! Without the field a client gets the identity, because it may not know any coding. A client that
//! refuses everything gets the identity too, because a page that it can probably read is better
//! than a 406.

use crate::index::Coding;

/// A weight in thousandths, 0 to 1000.
type Weight = u16;

/// The weight that a client gives each coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    named: [Option<Weight>; 4],
    others: Option<Weight>,
}

impl Accepted {
    /// Parses the members of the field, skipping members that are not a coding with a weight.
    #[must_use]
    pub fn parse<'a>(members: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut accepted = Self { named: [None; 4], others: None };
        for member in members {
            let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let Some(weight) = weight(parts.next(), parts.next()) else { continue };
            if name == b"*" {
                accepted.others = Some(weight);
            } else if let Some(coding) = coding(name) {
                accepted.named[coding as usize] = Some(weight);
            }
        }
        accepted
    }

    /// Returns the weight of a coding. Identity is acceptable even if it is not named, but with
    /// less weight than any named coding.
    fn weight(&self, coding: Coding) -> Weight {
        let named = self.named[coding as usize];
        match (named, self.others) {
            (Some(weight), _) | (None, Some(weight)) => weight,
            (None, None) => 0,
        }
    }

    /// Returns the number of the best variant; among variants with equal weights, the shortest. The
    /// first variant is the identity, which is chosen if the client accepts nothing.
    #[must_use]
    pub fn best(&self, variants: impl Iterator<Item = (Coding, u64)>) -> usize {
        let liked = variants.enumerate().filter_map(|(number, (coding, length))| {
            let weight = self.weight(coding);
            (weight > 0).then_some((std::cmp::Reverse(weight), length, number))
        });
        liked.min().map_or(0, |(_, _, number)| number)
    }
}

fn coding(name: &[u8]) -> Option<Coding> {
    // RFC 9110 section 8.4.1.3: `x-gzip` is equivalent to `gzip`.
    if name.eq_ignore_ascii_case(b"x-gzip") {
        return Some(Coding::Gzip);
    }
    Coding::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name().as_bytes()))
}

/// Parses `q=0.5`, with at most three digits after the point; 1 if it is missing.
fn weight(parameter: Option<&[u8]>, more: Option<&[u8]>) -> Option<Weight> {
    let Some(parameter) = parameter else { return Some(1000) };
    let (name, value) = parameter.split_at_checked(2)?;
    if more.is_some() || !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let (whole, fraction) = match value {
        [whole] | [whole, b'.'] => (*whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (*whole, fraction),
        _ => return None,
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |place: usize| fraction.get(place).map_or(0, |byte| Weight::from(byte - b'0'));
    let thousandths = digit(0) * 100 + digit(1) * 10 + digit(2);
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Accepted;
    use crate::index::Coding;

    /// Checks the choice among all four codings, with lengths of 100, 50, 40 and 30.
    fn check(field: &str, expected: Coding) {
        let members = field.split(',').map(|member| member.trim().as_bytes());
        let lengths = Coding::ALL.into_iter().zip([100, 50, 40, 30]);
        let best = Accepted::parse(members).best(lengths);
        assert_eq!(Coding::ALL[best], expected, "{field:?}");
    }

    #[test]
    fn the_highest_weight_then_the_shortest_body_wins() {
        check("gzip, deflate, br, zstd", Coding::Brotli);
        check("gzip, br;q=0.9", Coding::Gzip);
        check("GZIP;Q=0.5", Coding::Gzip);
        check("x-gzip", Coding::Gzip);
        check("*", Coding::Brotli);
        check("br;q=0, *", Coding::Zstd);
        check("identity, gzip;q=0.5", Coding::Identity);
        check("gzip;q=0.001", Coding::Gzip);
    }

    #[test]
    fn identity_is_the_last_resort() {
        check("", Coding::Identity);
        check("deflate", Coding::Identity);
        check("identity;q=0", Coding::Identity);
        check("*;q=0", Coding::Identity);
        check("gzip;q=0", Coding::Identity);
    }

    #[test]
    fn a_member_with_an_invalid_weight_is_skipped() {
        for weight in ["q", "q=", "q=2", "q=1.001", "q=0.1234", "q=.5", "q=-1", "x=1", "q=1;q=1"] {
            check(&format!("gzip;{weight}"), Coding::Identity);
        }
        check("gzip;q=1.000", Coding::Gzip);
        check("gzip;q=0.", Coding::Identity);
    }
}
