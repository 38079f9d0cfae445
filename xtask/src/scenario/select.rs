//! Selects the scenarios of a run: a tier, all, a shard of all, or the named ones.

use std::cmp::Reverse;
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};

use super::data::{Scenario, Tier};

/// The scenarios that a user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Those of the tier `core`.
    Core,
    /// All of them, or one shard of them.
    All(Option<Shard>),
    /// Those with these names.
    Named(Vec<String>),
}

/// One part of all scenarios, written `I/N`, for machines that share the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// The part's number, from 1.
    pub number: usize,
    /// The number of parts.
    pub count: usize,
}

/// The weight of the host's checks in boots; the first shard runs them.
const CHECKS_WEIGHT: usize = 4;

impl Shard {
    /// True for the shard that runs the host's checks.
    pub fn is_first(self) -> bool {
        self.number == 1
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (number, count) = text.split_once('/')?;
            Some(Self { number: number.parse().ok()?, count: count.parse().ok()? })
        };
        let shard = parse().with_context(|| format!("`{text}` is not I/N, such as 1/3"))?;
        ensure!(
            (1..=shard.count).contains(&shard.number),
            "there is no shard {} of {}; they are numbered from 1",
            shard.number,
            shard.count
        );
        Ok(shard)
    }
}

/// Takes the selected scenarios, in the order of `all`.
pub fn select(all: Vec<Scenario>, selection: &Selection) -> Result<Vec<Scenario>> {
    match selection {
        Selection::Core => {
            Ok(all.into_iter().filter(|scenario| scenario.tier == Tier::Core).collect())
        }
        Selection::All(None) => Ok(all),
        Selection::All(Some(shard)) => Ok(cut(all, *shard)),
        Selection::Named(names) => named(all, names),
    }
}

fn named(all: Vec<Scenario>, names: &[String]) -> Result<Vec<Scenario>> {
    for name in names {
        let known =
            || all.iter().map(|scenario| scenario.name.as_str()).collect::<Vec<_>>().join(", ");
        ensure!(
            all.iter().any(|scenario| scenario.name == *name),
            "there is no scenario `{name}`; the scenarios are {}",
            known()
        );
    }
    Ok(all.into_iter().filter(|scenario| names.contains(&scenario.name)).collect())
}

/// Divides all scenarios into shards with about the same number of boots and keeps one shard.
///
/// The division depends only on the scenarios, so that all machines agree on it.
fn cut(all: Vec<Scenario>, shard: Shard) -> Vec<Scenario> {
    let mut weights = vec![0; shard.count];
    weights[0] = CHECKS_WEIGHT;
    let mut heaviest_first: Vec<usize> = (0..all.len()).collect();
    heaviest_first.sort_by_key(|&at| Reverse(all[at].images().count()));
    let mut ours = Vec::new();
    for at in heaviest_first {
        // A parsed `Shard` has a count of at least one.
        let lightest = (0..shard.count).min_by_key(|&shard| weights[shard]).unwrap_or_default();
        weights[lightest] += all[at].images().count();
        if lightest + 1 == shard.number {
            ours.push(at);
        }
    }
    let mut at = 0..;
    all.into_iter().filter(|_| at.next().is_some_and(|at| ours.contains(&at))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Returns a scenario with this many boots.
    fn scenario(name: &str, tier: &str, boots: usize) -> Scenario {
        let boot = "[[step]]\nboot = \"b\"\n[[step]]\npower-cut = true\n";
        let text = format!("about = \"x\"\ntier = \"{tier}\"\n{}", boot.repeat(boots));
        Scenario::parse(&text, &PathBuf::from(format!("{name}.toml"))).unwrap()
    }

    fn all() -> Vec<Scenario> {
        [("a", "core", 1), ("b", "full", 3), ("c", "full", 1), ("d", "core", 2)]
            .map(|(name, tier, boots)| scenario(name, tier, boots))
            .into()
    }

    fn names(selection: &Selection) -> Vec<String> {
        let selected = select(all(), selection).unwrap();
        selected.into_iter().map(|scenario| scenario.name).collect()
    }

    #[test]
    fn scenarios_are_picked_by_tier_and_by_name() {
        assert_eq!(names(&Selection::Core), ["a", "d"]);
        assert_eq!(names(&Selection::All(None)), ["a", "b", "c", "d"]);
        assert_eq!(names(&Selection::Named(vec!["d".into(), "b".into()])), ["b", "d"]);
    }

    #[test]
    fn the_error_for_an_unknown_name_lists_the_known_ones() {
        let error = select(all(), &Selection::Named(vec!["e".into()])).unwrap_err().to_string();
        assert!(error.contains("no scenario `e`; the scenarios are a, b, c, d"), "{error}");
    }

    #[test]
    fn every_scenario_is_in_exactly_one_shard() {
        for count in 1..=6 {
            let mut found: Vec<String> = (1..=count)
                .flat_map(|number| names(&Selection::All(Some(Shard { number, count }))))
                .collect();
            found.sort();
            assert_eq!(found, ["a", "b", "c", "d"], "{count} shards");
        }
    }

    #[test]
    fn the_shard_with_the_checks_gets_fewer_boots() {
        let shard = |number| names(&Selection::All(Some(Shard { number, count: 2 })));
        assert_eq!(shard(1), ["a", "c"]);
        assert_eq!(shard(2), ["b", "d"]);
    }

    #[test]
    fn a_shard_is_a_number_of_a_count() {
        assert_eq!("2/3".parse::<Shard>().unwrap(), Shard { number: 2, count: 3 });
        for bad in ["", "1", "0/3", "4/3", "1/0", "a/b", "1/2/3"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }
}
