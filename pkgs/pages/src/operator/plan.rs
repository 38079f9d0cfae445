//! The objects and statuses that should exist, from the facts. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::conditions::Routes;
use super::options::Options;
use super::world::World;
use crate::ownership::claim::{Claim, SiteId};
use crate::ownership::decide;
use crate::ownership::preview::{self, Grants};
use crate::ownership::rules::Rules;
use crate::ownership::verdict::Verdict;
use crate::previews::label;
use crate::routing::answer::Answer;
use crate::routing::choice::{Served, Way, choose};
use crate::routing::kind::Kind;
use crate::routing::{ObjectKey, Objects, Wanted, desired};
use crate::table::Address;

/// Everything that should exist.
#[derive(Debug)]
pub struct Plan {
    /// The verdict on each site that stays.
    pub verdicts: BTreeMap<SiteId, Verdict>,
    /// The decisions about the previews of each site.
    pub previews: BTreeMap<SiteId, Grants>,
    /// The objects of all sites and previews.
    pub objects: Objects,
    /// The objects of each site.
    of_site: BTreeMap<SiteId, Vec<ObjectKey>>,
    /// The address of each site that has one.
    granted: BTreeMap<SiteId, Address>,
    way: Result<Option<Way>, String>,
    served: Served,
}

/// Returns the rules of the cluster.
#[must_use]
pub fn rules(
    world: &World,
    options: &Options,
    proofs: BTreeMap<String, BTreeSet<String>>,
) -> Rules {
    Rules {
        domain: options.domain.clone(),
        is_open: options.is_open,
        reserved: options.reserved.clone(),
        list: world.list.clone().unwrap_or_default(),
        proofs,
    }
}

/// Makes the plan. The objects of sites whose address is as in an earlier plan are taken from it.
#[must_use]
pub fn plan(
    claims: &[Claim],
    rules: &Rules,
    options: &Options,
    served: &Served,
    before: Option<&Plan>,
) -> Plan {
    let verdicts = decide(claims, rules);
    let previews = preview::decide(claims, &verdicts, rules);
    let granted = verdicts.iter().filter_map(|(id, verdict)| match verdict {
        Verdict::Granted { address, .. } => Some((id.clone(), address.clone())),
        Verdict::Refused(_) => None,
    });
    let granted = granted.chain(previews.iter().flat_map(|(id, grants)| routed(id, grants)));
    let granted = granted.collect();
    let way = choose(options.wish, served, options.target.gateway.is_some());
    let before = before.filter(|before| before.way == way && before.served == *served);
    let chosen = way.as_ref().ok().copied().flatten();
    let objects = desired(&granted, &options.target, chosen, served, |site, address| {
        before.filter(|before| before.granted.get(site) == Some(address))?.objects_of(site)
    });
    let mut of_site: BTreeMap<SiteId, Vec<ObjectKey>> = BTreeMap::new();
    for (key, wanted) in &objects {
        for site in &wanted.sites {
            of_site.entry(site.clone()).or_default().push(key.clone());
        }
    }
    Plan { verdicts, previews, objects, of_site, granted, way, served: served.clone() }
}

/// Returns the previews of a site that have an address.
fn routed<'a>(
    id: &'a SiteId,
    grants: &'a Grants,
) -> impl Iterator<Item = (SiteId, Address)> + use<'a> {
    grants.iter().filter_map(|(reference, grant)| {
        let key = label::key(&id.key, reference)?;
        Some((SiteId { key, group: id.group }, grant.clone().ok()?))
    })
}

impl Plan {
    fn objects_of(&self, site: &SiteId) -> Option<Vec<(&ObjectKey, &Wanted)>> {
        let keys = self.of_site.get(site)?.iter();
        keys.map(|key| self.objects.get_key_value(key)).collect()
    }

    /// Returns the sites whose verdict or routes differ from an earlier plan.
    #[must_use]
    pub fn changed(&self, before: Option<&Self>) -> BTreeSet<SiteId> {
        let before = before.filter(|before| before.way == self.way);
        let old = |site: &SiteId| before.and_then(|before| before.verdicts.get(site));
        let previews = |site: &SiteId| before.and_then(|before| before.previews.get(site));
        let different = self.verdicts.iter().filter(|(site, verdict)| {
            old(site) != Some(verdict) || previews(site) != self.previews.get(site)
        });
        different.map(|(site, _)| site.clone()).collect()
    }

    /// Returns the causes for which sites lack a route, by site.
    #[must_use]
    pub fn faults(&self, failed: &BTreeMap<ObjectKey, String>) -> BTreeMap<&SiteId, String> {
        let mut faults = BTreeMap::new();
        for (key, cause) in failed {
            for site in self.objects.get(key).iter().flat_map(|wanted| &wanted.sites) {
                let text = format!("cannot apply {} {}: {cause}", key.kind.name(), key.name);
                faults.entry(site).or_insert(text);
            }
        }
        faults
    }

    /// Returns the answer of other controllers to the objects of a site; nothing if they get none.
    fn answer(&self, site: &SiteId, known: &BTreeMap<ObjectKey, Answer>) -> Option<Answer> {
        let keys = self.of_site.get(site)?.iter();
        let answers = keys.filter_map(|key| match (known.get(key), key.kind) {
            (Some(answer), _) => Some(answer.clone()),
            (None, Kind::HttpRoute | Kind::Certificate) => Some(Answer::Waiting),
            (None, _) => None,
        });
        answers.reduce(Answer::and)
    }

    /// Returns the state of a site's routes.
    #[must_use]
    pub fn routes(
        &self,
        site: &SiteId,
        faults: &BTreeMap<&SiteId, String>,
        answers: &BTreeMap<ObjectKey, Answer>,
    ) -> Routes {
        let kind = match (&self.way, faults.get(site)) {
            (Err(cause), _) => return Routes::Impossible(cause.clone()),
            (_, Some(cause)) => return Routes::Failed(cause.clone()),
            (Ok(Some(way)), None) => way.kind().name(),
            (Ok(None), None) => return Routes::Made("an administrator's routes".to_owned()),
        };
        match self.answer(site, answers) {
            Some(Answer::Refused { reason, message }) => {
                Routes::Refused { reason, message: format!("{kind}: {message}") }
            }
            Some(Answer::Waiting) => Routes::Unconfirmed(kind.to_owned()),
            Some(Answer::Accepted(text)) if !text.is_empty() => {
                Routes::Made(format!("{kind} {text}"))
            }
            Some(Answer::Accepted(_)) | None => Routes::Made(kind.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conditions::Routes;
    use super::super::fixture::seen;
    use super::super::options::Options;
    use super::super::world::World;
    use super::{plan, rules};
    use crate::routing::ObjectKey;
    use crate::routing::answer::Answer;
    use crate::routing::choice::{Served, Wish};
    use crate::routing::kind::Kind;
    use std::collections::BTreeMap;

    fn world() -> World {
        let mut world = World::default();
        for (key, domain) in [("a/a", "x.example"), ("b/b", "x.example"), ("b/c", "")] {
            let site = seen(key, domain, 1);
            world.sites.insert(site.id.clone(), site);
        }
        world
    }

    fn options(wish: Wish) -> Options {
        Options { domain: "pages.test".to_owned(), is_open: true, wish, ..Options::default() }
    }

    #[test]
    fn only_sites_with_an_address_have_routes() {
        let (world, options) = (world(), options(Wish::Auto));
        let rules = rules(&world, &options, BTreeMap::new());
        let plan = plan(&world.claims(), &rules, &options, &Served::default(), None);
        let names: Vec<&str> = plan.objects.keys().map(|key| key.name.as_str()).collect();
        assert_eq!((names, plan.verdicts.len()), (vec!["site.a.a", "site.b.c"], 3));
        let key = plan.objects.keys().next().unwrap().clone();
        let failed = BTreeMap::from([(key, "refused".to_owned())]);
        let faults = plan.faults(&failed);
        let first = plan.verdicts.keys().next().unwrap();
        let expected = "cannot apply Ingress site.a.a: refused".to_owned();
        let none = BTreeMap::new();
        assert_eq!(plan.routes(first, &faults, &none), Routes::Failed(expected));
        assert_eq!(faults.len(), 1);
    }

    #[test]
    fn the_worst_answer_about_a_sites_objects_counts() {
        let (world, mut options) = (world(), options("ingress".parse().unwrap()));
        options.target.issuer = Some("i".to_owned());
        let served = Served([Kind::Certificate].into());
        let rules = rules(&world, &options, BTreeMap::new());
        let plan = plan(&world.claims(), &rules, &options, &served, None);
        let site = plan.verdicts.keys().next().unwrap();
        let faults = BTreeMap::new();
        let check = |known: BTreeMap<ObjectKey, Answer>, expected: &Routes| {
            assert_eq!(&plan.routes(site, &faults, &known), expected);
        };
        let key = |kind, name: &str| ObjectKey { kind, name: name.to_owned() };
        let certificate = key(Kind::Certificate, "tls.x.example");
        let ingress = key(Kind::Ingress, "site.a.a");
        let at = |text: &str| Answer::Accepted(text.to_owned());
        check(BTreeMap::new(), &Routes::Unconfirmed("Ingress".to_owned()));
        check(
            BTreeMap::from([(certificate.clone(), at("")), (ingress.clone(), at("at h"))]),
            &Routes::Made("Ingress at h".to_owned()),
        );
        let no = Answer::Refused { reason: "CertificateNotReady", message: "m".to_owned() };
        let message = "Ingress: m".to_owned();
        check(
            BTreeMap::from([(certificate, no), (ingress, at("at h"))]),
            &Routes::Refused { reason: "CertificateNotReady", message },
        );
    }

    #[test]
    fn a_plan_from_an_earlier_one_is_the_same_and_only_changed_sites_differ() {
        let (mut world, options) = (world(), options(Wish::Auto));
        let rules = rules(&world, &options, BTreeMap::new());
        let served = Served::default();
        let first = plan(&world.claims(), &rules, &options, &served, None);
        assert_eq!(first.changed(None).len(), 3);
        for (key, domain) in [("b/c", "y.example"), ("b/d", "")] {
            let site = seen(key, domain, 1);
            world.sites.insert(site.id.clone(), site);
        }
        let fresh = plan(&world.claims(), &rules, &options, &served, None);
        let next = plan(&world.claims(), &rules, &options, &served, Some(&first));
        assert_eq!((&next.objects, &next.of_site), (&fresh.objects, &fresh.of_site));
        let changed = next.changed(Some(&first));
        let names: Vec<&str> = changed.iter().map(|site| site.key.name()).collect();
        assert_eq!(names, ["c", "d"]);
    }

    #[test]
    fn a_missing_api_is_shown_on_every_site() {
        let (world, options) = (world(), options("httproute".parse().unwrap()));
        let rules = rules(&world, &options, BTreeMap::new());
        let plan = plan(&world.claims(), &rules, &options, &Served::default(), None);
        assert!(plan.objects.is_empty());
        let none = BTreeMap::new();
        for site in plan.verdicts.keys() {
            assert!(matches!(plan.routes(site, &none, &BTreeMap::new()), Routes::Impossible(_)));
        }
    }
}
