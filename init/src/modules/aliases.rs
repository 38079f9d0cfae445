//! Aliases of modules, grouped by bus: a machine has hundreds of modaliases and an image thousands
//! of patterns, but only the patterns of one bus can match.

use std::collections::HashMap;

use super::pattern;

/// Patterns and their modules.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    /// The text before the first colon, with canonical patterns and module names in their
    /// order.
    buses: HashMap<String, Vec<(String, String)>>,
}

impl Aliases {
    /// Adds a canonical pattern.
    pub(super) fn add(&mut self, (pattern, module): (String, String)) {
        let bus = bus(&pattern).to_owned();
        self.buses.entry(bus).or_default().push((pattern, module));
    }

    /// Keeps only the modules for which `wanted` is true.
    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        for aliases in self.buses.values_mut() {
            aliases.retain(|(_, module)| wanted(module));
        }
    }

    /// Returns the modules whose patterns match a canonical name.
    pub(super) fn matching<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let own = bus(name);
        // A pattern without a bus, or with a wildcard in it, can match any name.
        let any = (!own.is_empty()).then(|| self.buses.get("")).flatten();
        [self.buses.get(own), any]
            .into_iter()
            .flatten()
            .flatten()
            .filter(move |(pattern, _)| pattern::matches(pattern.as_bytes(), name.as_bytes()))
            .map(|(_, module)| module.as_str())
    }
}

impl FromIterator<(String, String)> for Aliases {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(aliases: T) -> Self {
        let mut all = Self::default();
        aliases.into_iter().for_each(|alias| all.add(alias));
        all
    }
}

/// Returns the text before the first colon, or nothing if there is no colon or a wildcard before
/// it.
fn bus(text: &str) -> &str {
    let bus = text.split_once(':').map_or("", |(bus, _)| bus);
    if bus.contains(['*', '?', '[']) { "" } else { bus }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Aliases;
    use crate::modules::pattern;

    proptest! {
        #[test]
        fn grouping_by_bus_hides_no_match(
            patterns in prop::collection::vec("[ab:*?]{0,6}", 0..8),
            name in "[ab:]{0,6}",
        ) {
            let aliases: Aliases = patterns.iter().map(|p| (p.clone(), p.clone())).collect();
            let matches = |p: &&String| pattern::matches(p.as_bytes(), name.as_bytes());
            let mut expected: Vec<&str> = patterns.iter().filter(matches).map(String::as_str).collect();
            let mut found: Vec<&str> = aliases.matching(&name).collect();
            expected.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
