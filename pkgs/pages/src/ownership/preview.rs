//! Decides about the addresses of previews: below the domain for pages, and after all sites.
//!
//! The name of a preview lies in its namespace's own part of the domain, so it is no name of another
//! namespace, unless an administrator's list gives such a name away. A site that has the name keeps it,
//! whichever came first: a preview is never a reason to refuse a site.

use std::collections::{BTreeMap, BTreeSet};

use super::claim::{Claim, SiteId};
use super::name;
use super::rules::Rules;
use super::verdict::Verdict;
use crate::previews::label;
use crate::previews::reference::Reference;
use crate::table::Address;

/// The decisions about a site's previews: an address, or the cause of a refusal.
pub type Grants = BTreeMap<Reference, Result<Address, String>>;

/// Decides about the previews of all sites that have an address.
#[must_use]
pub fn decide(
    claims: &[Claim],
    verdicts: &BTreeMap<SiteId, Verdict>,
    rules: &Rules,
) -> BTreeMap<SiteId, Grants> {
    let granted = verdicts.values().filter_map(|verdict| match verdict {
        Verdict::Granted { address, .. } => Some(address.host.clone()),
        Verdict::Refused(_) => None,
    });
    let mut taken: BTreeSet<String> = granted.collect();
    let is_routed =
        |claim: &&Claim| matches!(verdicts.get(&claim.id), Some(Verdict::Granted { .. }));
    let mut sorted: Vec<&Claim> =
        claims.iter().filter(is_routed).filter(|claim| !claim.previews.is_empty()).collect();
    sorted.sort_by_key(|claim| (claim.created, &claim.uid, &claim.id));
    let mut decisions = BTreeMap::new();
    for claim in sorted {
        let grants = claim.previews.iter().map(|reference| {
            let address = grant(claim, reference, rules, &mut taken);
            (reference.clone(), address)
        });
        decisions.insert(claim.id.clone(), grants.collect());
    }
    decisions
}

fn grant(
    claim: &Claim,
    reference: &Reference,
    rules: &Rules,
    taken: &mut BTreeSet<String>,
) -> Result<Address, String> {
    let host = label::host(claim.key(), reference, &rules.domain);
    let host = name::host(&host).map_err(|bad| format!("{host}: {bad}"))?;
    rules.right(claim, &host).map_err(|refusal| refusal.message)?;
    if rules.is_others(claim.key().namespace(), &host) {
        return Err(format!("{host} is listed for another namespace"));
    }
    if !taken.insert(host.clone()) {
        return Err(format!("{host} belongs to a site or to another preview"));
    }
    Ok(Address { host, prefix: String::new() })
}

#[cfg(test)]
mod tests {
    use super::decide;
    use crate::api::Group;
    use crate::ownership::claim::{Claim, SiteId};
    use crate::ownership::rules::{List, Rules};
    use crate::previews::label;
    use crate::previews::reference::Reference;

    fn claim(key: &str, domain: &str, previews: &[&str]) -> Claim {
        let branch = |name: &&str| Reference::Branch((*name).to_owned());
        Claim {
            uid: format!("uid-{key}"),
            id: SiteId { key: key.parse().unwrap(), group: Group::Kiln },
            created: 1,
            domain: (!domain.is_empty()).then(|| domain.to_owned()),
            prefix: None,
            held: None,
            previews: previews.iter().map(branch).collect(),
        }
    }

    fn rules(list: &[(&str, &str)]) -> Rules {
        let list = List::read(list.iter().copied()).0;
        Rules { domain: "pages.test".to_owned(), list, ..Rules::default() }
    }

    /// Compares the hosts that previews have; an empty text for a refused one.
    fn check(claims: &[Claim], rules: &Rules, expected: &[&str]) {
        let verdicts = crate::ownership::decide(claims, rules);
        let decisions = decide(claims, &verdicts, rules);
        let all = decisions.into_values().flat_map(std::collections::BTreeMap::into_values);
        let hosts: Vec<String> =
            all.map(|grant| grant.map(|address| address.host).unwrap_or_default()).collect();
        assert_eq!(hosts, expected);
    }

    #[test]
    fn a_preview_lies_below_the_domain_for_pages_even_if_its_site_does_not() {
        let rules = rules(&[("team", "www.example")]);
        check(&[claim("team/blog", "", &["next"])], &rules, &["next--blog.team.pages.test"]);
        let own = claim("team/blog", "www.example", &["next"]);
        check(&[own], &rules, &["next--blog.team.pages.test"]);
        check(&[claim("team/blog", "other.example", &["next"])], &rules, &[]);
    }

    #[test]
    fn a_site_of_the_name_keeps_it_and_no_preview_takes_one() {
        let preview = claim("team/blog", "", &["x"]);
        let site = Claim { created: 9, ..claim("team/x--blog", "", &[]) };
        check(&[preview.clone(), site], &rules(&[]), &[""]);
        let domain = Claim { created: 9, ..claim("team/z", "x--blog.team.pages.test", &[]) };
        check(&[preview.clone(), domain], &rules(&[]), &[""]);
        let listed = rules(&[("other", "x--blog.team.pages.test")]);
        check(std::slice::from_ref(&preview), &listed, &[""]);
        let stranger = claim("other/z", "x--blog.team.pages.test", &[]);
        check(&[preview.clone(), stranger], &listed, &[""]);
        let reserved =
            Rules { reserved: ["x--blog.team.pages.test".to_owned()].into(), ..rules(&[]) };
        check(&[preview], &reserved, &[""]);
    }

    #[test]
    fn two_previews_of_one_name_are_decided_by_age() {
        // The second site's name is what a long name is cut to.
        let long = "s".repeat(60);
        let site = claim(&format!("team/{long}"), "", &["x"]);
        let host = label::host(site.key(), &site.previews[0], "pages.test");
        let cut = host.split_once("--").unwrap().1.split_once('.').unwrap().0.to_owned();
        let second = Claim { created: 2, ..claim(&format!("team/{cut}"), "", &["x"]) };
        let claims = [second, site];
        let verdicts = crate::ownership::decide(&claims, &rules(&[]));
        let decisions = decide(&claims, &verdicts, &rules(&[]));
        let has = |claim: &Claim| decisions[&claim.id].values().all(Result::is_ok);
        assert!(has(&claims[1]) && !has(&claims[0]));
    }
}
