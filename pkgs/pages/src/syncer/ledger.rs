//! The limit of events: a few in an hour for each site, because a push a second would fill the API
//! server's store. Pure, with time as an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::key::SiteKey;

/// The most events of one site in [`WINDOW`].
const EVENTS_MAX: u32 = 6;

/// The time in which events are counted.
const WINDOW: Duration = Duration::from_hours(1);

/// The numbers of recent events.
#[derive(Debug, Default)]
pub struct Ledger {
    sites: BTreeMap<SiteKey, (Duration, u32)>,
}

impl Ledger {
    /// Counts an event at a time since 1970; false if the site has had enough.
    pub fn allows(&mut self, site: &SiteKey, now: Duration) -> bool {
        self.sites.retain(|_, (start, _)| now.saturating_sub(*start) < WINDOW && *start <= now);
        let (_, count) = self.sites.entry(site.clone()).or_insert((now, 0));
        *count += 1;
        *count <= EVENTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::{EVENTS_MAX, Ledger, WINDOW};
    use std::time::Duration;

    #[test]
    fn a_site_has_a_few_events_an_hour() {
        let mut ledger = Ledger::default();
        let key = "team/a".parse().unwrap();
        let allowed = (0..1000).filter(|one| ledger.allows(&key, Duration::from_secs(*one)));
        assert_eq!(allowed.count(), usize::try_from(EVENTS_MAX).unwrap());
        assert!(ledger.allows(&"team/b".parse().unwrap(), Duration::from_secs(1000)));
        assert!(ledger.allows(&key, WINDOW + Duration::from_secs(1)));
        assert_eq!(ledger.sites.len(), 2);
    }
}
