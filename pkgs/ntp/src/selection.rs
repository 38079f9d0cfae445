//! Selects the servers to believe (the intersection algorithm of RFC 5905, 11.2.1, simplified).

use crate::packet::Sample;

/// Returns the best sample of the largest group of servers that can all be right; `None` if no group
/// has more than half of the servers.
///
/// Each sample claims that the true offset is within `offset ± distance`. Servers whose intervals
/// share a point can all be right. A single server is believed, two servers must agree, and one of
/// three servers may be wrong.
#[must_use]
pub fn select(samples: &[Sample]) -> Option<Sample> {
    let agreeing = |point: i64| {
        let agrees = move |sample: &&Sample| {
            sample.offset.saturating_sub(point).saturating_abs() <= sample.distance
        };
        samples.iter().filter(agrees)
    };
    // The largest intersection begins at the beginning of some interval.
    let begins = samples.iter().map(|sample| sample.offset - sample.distance);
    let best = begins.max_by_key(|point| agreeing(*point).count())?;
    if agreeing(best).count() * 2 <= samples.len() {
        return None;
    }
    agreeing(best).min_by_key(|sample| sample.distance).copied()
}

#[cfg(test)]
mod tests {
    use super::select;
    use crate::packet::Sample;
    use proptest::prelude::*;

    fn check(samples: &[(i64, i64)], expected: Option<i64>) {
        let samples: Vec<_> = samples.iter().map(|pair| sample(*pair)).collect();
        assert_eq!(select(&samples).map(|sample| sample.offset), expected);
    }

    fn sample((offset, distance): (i64, i64)) -> Sample {
        Sample { offset, distance, delay: distance, stratum: 1 }
    }

    #[test]
    fn a_majority_decides_and_its_nearest_server_is_used() {
        check(&[], None);
        check(&[(100, 1)], Some(100));
        check(&[(100, 10), (105, 2)], Some(105));
        check(&[(100, 1), (200, 1)], None);
        check(&[(100, 5), (9000, 1), (103, 4)], Some(103));
        check(&[(100, 1), (200, 1), (300, 1)], None);
        check(&[(100, 1), (100, 2), (200, 1), (200, 1)], None);
        check(&[(-100, 3), (-98, 2), (7, 1), (-97, 9)], Some(-98));
    }

    proptest! {
        #[test]
        fn a_minority_of_wrong_servers_is_never_believed(
            honest in prop::collection::vec(-50_i64..50, 3..6),
            lies in prop::collection::vec(1000_i64..9000, 0..3),
        ) {
            // Honest servers are right within their distance of 50: the truth is 0.
            let all: Vec<_> = honest.into_iter().chain(lies).map(|offset| sample((offset, 50))).collect();
            prop_assert!(select(&all).unwrap().offset.abs() <= 50);
        }
    }
}
