//! Decides which site has which host and path prefix. Pure: all facts are arguments.
//!
//! A host belongs to one namespace, unless an administrator or the owner of the domain gave it to
//! several; otherwise a tenant could put a page of its own at a path below another tenant's domain.
//! Each address, which is a host with a prefix, belongs to one site. Where several have the right, the
//! site that has the address keeps it, then the oldest gets it, then the one with the lowest uid. An
//! old object can therefore not take a name away by changing its domain.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::key::SiteKey;
use crate::table::Address;

pub mod claim;
pub mod name;
pub mod preview;
pub mod rules;
pub mod verdict;

use claim::{Claim, SiteId};
use rules::{Right, Rules};
use verdict::{Reason, Refusal, Verdict};

/// A claim that passed the checks that concern it alone.
struct Valid<'a> {
    claim: &'a Claim,
    address: Address,
    right: Right,
}

impl Valid<'_> {
    /// Orders the claims to one host: the first one wins.
    fn rank(&self) -> impl Ord + use<'_> {
        let holds = self.claim.held.as_ref() == Some(&self.address);
        (self.right, Reverse(holds), self.claim.created, &self.claim.uid, &self.claim.id)
    }
}

/// Decides about all claims.
#[must_use]
pub fn decide(claims: &[Claim], rules: &Rules) -> BTreeMap<SiteId, Verdict> {
    let mut verdicts = BTreeMap::new();
    let mut hosts: BTreeMap<String, Vec<Valid<'_>>> = BTreeMap::new();
    for claim in unique(claims, &mut verdicts) {
        match check(claim, rules) {
            Ok(valid) => hosts.entry(valid.address.host.clone()).or_default().push(valid),
            Err(refusal) => {
                verdicts.insert(claim.id.clone(), Verdict::Refused(refusal));
            }
        }
    }
    for mut contest in hosts.into_values() {
        contest.sort_by(|a, b| a.rank().cmp(&b.rank()));
        settle(&contest, &mut verdicts);
    }
    verdicts
}

/// Returns the hosts whose DNS records matter.
#[must_use]
pub fn hosts_to_prove(claims: &[Claim], rules: &Rules) -> BTreeSet<String> {
    let wanted = claims.iter().filter_map(|claim| Some((claim, rules.wanted(claim).ok()?)));
    wanted.filter(|(claim, host)| rules.needs_proof(claim, host)).map(|(_, host)| host).collect()
}

/// Refuses a site of kup6s-pages if our group has one of the same namespace and name, because a site's
/// files are found by namespace and name. The syncer chooses in the same way.
fn unique<'a>(
    claims: &'a [Claim],
    verdicts: &mut BTreeMap<SiteId, Verdict>,
) -> impl Iterator<Item = &'a Claim> + use<'a> {
    let mut first: BTreeMap<&SiteKey, &Claim> = BTreeMap::new();
    for claim in claims {
        let Some(other) = first.insert(claim.key(), claim) else { continue };
        let is_ours = other.id.group < claim.id.group;
        let (winner, loser) = if is_ours { (other, claim) } else { (claim, other) };
        first.insert(claim.key(), winner);
        let group = winner.id.group.name();
        let message = format!("the group {group} has a site of the same name; rename one of them");
        let refusal = Refusal::new(Reason::NameTaken, message);
        verdicts.insert(loser.id.clone(), Verdict::Refused(refusal));
    }
    first.into_values()
}

fn check<'a>(claim: &'a Claim, rules: &Rules) -> Result<Valid<'a>, Refusal> {
    let host = rules.wanted(claim)?;
    let prefix = name::prefix(claim.prefix.as_deref().unwrap_or_default());
    let prefix = prefix.map_err(Refusal::invalid)?;
    let right = rules.right(claim, &host)?;
    Ok(Valid { claim, address: Address { host, prefix }, right })
}

/// Decides about the sorted claims to one host.
fn settle(contest: &[Valid<'_>], verdicts: &mut BTreeMap<SiteId, Verdict>) {
    let Some(first) = contest.first() else { return };
    let mut owners: BTreeMap<&str, &Valid<'_>> = BTreeMap::new();
    let mut rivals: BTreeMap<&SiteId, Vec<SiteId>> = BTreeMap::new();
    for valid in contest {
        let is_stranger = valid.right == Right::Shared
            && valid.claim.key().namespace() != first.claim.key().namespace();
        let owner =
            if is_stranger { Some(&first) } else { owners.get(valid.address.prefix.as_str()) };
        let Some(owner) = owner else {
            owners.insert(&valid.address.prefix, valid);
            continue;
        };
        rivals.entry(&owner.claim.id).or_default().push(valid.claim.id.clone());
        let refusal = taken(valid, owner, is_stranger);
        verdicts.insert(valid.claim.id.clone(), Verdict::Refused(refusal));
    }
    for owner in owners.into_values() {
        let rivals = rivals.remove(&owner.claim.id).unwrap_or_default();
        let granted = Verdict::Granted { address: owner.address.clone(), rivals };
        verdicts.insert(owner.claim.id.clone(), granted);
    }
}

fn taken(valid: &Valid<'_>, owner: &Valid<'_>, is_stranger: bool) -> Refusal {
    let Address { host, prefix } = &valid.address;
    let holder = owner.claim.key();
    if is_stranger {
        let message = format!("{host} belongs to the namespace {} ({holder})", holder.namespace());
        return Refusal::new(Reason::HostTaken, message);
    }
    Refusal::new(Reason::AddressTaken, format!("{host}{prefix} belongs to {holder}"))
}

#[cfg(test)]
mod tests;
