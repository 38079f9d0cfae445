//! Sites → text for people, in at most 80 columns apart from long addresses and messages.

use std::fmt::Write as _;

use k8s_openapi::jiff::Timestamp;

use crate::api::{Condition, ConditionStatus, READY, ROUTED, SYNCED, Site, interval};
use crate::syncer::desired::ROLLBACK;
use crate::verbs::revision::listed;

/// The columns of a site's name. A longer one has a line of its own.
const NAME_COLUMNS_MAX: usize = 26;

/// The columns of a commit.
const COMMIT_COLUMNS: usize = 8;

/// True if visitors get a revision of the site.
#[must_use]
pub fn is_ready(site: &Site) -> bool {
    ready(site).is_some_and(|ready| ready.status == ConditionStatus::True)
}

fn ready(site: &Site) -> Option<&Condition> {
    site.status.as_ref()?.condition(READY)
}

/// Returns the name of a site, as other commands take it.
fn name(site: &Site) -> String {
    let metadata = &site.metadata;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&metadata.namespace), part(&metadata.name))
}

/// Returns all sites: a line for each, its address below it, and the message if it is not ready.
#[must_use]
pub fn table(sites: &[Site], now: Timestamp) -> String {
    if sites.is_empty() {
        return "no StaticSites\n".to_owned();
    }
    let longest = sites.iter().map(|site| name(site).chars().count()).max().unwrap_or(0);
    let width = longest.clamp("SITE".len(), NAME_COLUMNS_MAX);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<width$}  {:<7}  {:<16}  {:<COMMIT_COLUMNS$}  {:>4}  NEXT",
        "SITE", "READY", "REASON", "COMMIT", "AGE"
    );
    for site in sites {
        let status = site.status.clone().unwrap_or_default();
        let (is_so, reason) = ready(site)
            .map_or(("unknown", "Pending"), |ready| (word(ready.status), ready.reason.as_str()));
        let revision = status.revision.as_ref();
        let commit = revision.map_or("-".to_owned(), |one| short(&one.commit));
        let age = revision.map_or("-".to_owned(), |one| age(&one.time, now));
        let next = next(site, now);
        let mut name = name(site);
        if name.chars().count() > width {
            let _ = writeln!(text, "{name}");
            name.clear();
        }
        let _ = writeln!(
            text,
            "{name:<width$}  {is_so:<7}  {reason:<16}  {commit:<COMMIT_COLUMNS$}  {age:>4}  {next}"
        );
        if let Some(url) = &status.url {
            let _ = writeln!(text, "  {}", plain(url));
        }
        if let Some(ready) =
            ready(site).filter(|it| !["Ready", "RolledBack"].contains(&&*it.reason))
        {
            let _ = writeln!(text, "  {}", plain(&ready.message));
        }
    }
    text
}

/// Returns everything about one site.
#[must_use]
pub fn one(site: &Site, now: Timestamp) -> String {
    let (spec, status) = (&site.spec, site.status.clone().unwrap_or_default());
    let key = name(site);
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<11} {}", plain(value));
    };
    row("site", &key);
    row("address", status.url.as_deref().unwrap_or("none"));
    row("repository", if spec.repo.is_empty() { "none; files are uploaded" } else { &spec.repo });
    if spec.repo.is_empty() {
        row("upload", &format!("PUT /site/{key} at the syncer"));
    } else {
        row("branch", spec.branch());
        row("webhook", &format!("POST /webhook/{key} at the syncer"));
    }
    row("folder", &format!("/{}", spec.folder()));
    row("next sync", &next(site, now));
    let annotations = site.metadata.annotations.as_ref();
    if let Some(rollback) = annotations.and_then(|all| all.get(ROLLBACK)) {
        row("rollback", &format!("{rollback}; `pages rollback {key} --end` ends it"));
    }
    if let Some(revision) = &status.revision {
        row("revision", &revision.digest);
        row("commit", &revision.commit);
        row("published", &format!("{} ({} ago)", revision.time, age(&revision.time, now)));
    }
    text.push_str("\nconditions\n");
    for kind in [READY, ROUTED, SYNCED] {
        let Some(condition) = status.condition(kind) else {
            let _ = writeln!(text, "  {kind:<7} Unknown");
            continue;
        };
        let Condition { reason, message, last_transition_time, .. } = condition;
        let since = age(last_transition_time, now);
        let _ = writeln!(text, "  {kind:<7} {:<7} {reason}, for {since}", word(condition.status));
        for line in message.lines() {
            let _ = writeln!(text, "          {}", plain(line));
        }
    }
    if !status.revisions.is_empty() {
        let _ = writeln!(text, "\nrevisions, newest first (* is in force)\n{}", listed(&status));
    }
    text
}

const fn word(status: ConditionStatus) -> &'static str {
    match status {
        ConditionStatus::True => "yes",
        ConditionStatus::False => "no",
        ConditionStatus::Unknown => "unknown",
    }
}

/// Returns the time of the next look at the repository.
fn next(site: &Site, now: Timestamp) -> String {
    if site.spec.repo.is_empty() {
        return "on upload".to_owned();
    }
    let next = site.status.as_ref().and_then(|status| status.next_sync.as_deref());
    match next.and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(time) if time > now => format!("in {}", span(time.as_second() - now.as_second())),
        Some(_) => "now".to_owned(),
        None => {
            let seconds = interval(&site.spec.sync_interval).as_secs();
            format!("every {}", span(i64::try_from(seconds).unwrap_or(i64::MAX)))
        }
    }
}

/// Returns the time since a time of RFC 3339.
fn age(text: &str, now: Timestamp) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => span(now.as_second() - time.as_second()),
        Err(_) => "-".to_owned(),
    }
}

/// Returns a time span in its largest unit.
fn span(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ ..120 => format!("{seconds}s"),
        seconds @ ..7_200 => format!("{}m", seconds / 60),
        seconds @ ..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Returns the start of a commit, or of the digest of an upload.
fn short(commit: &str) -> String {
    plain(commit.strip_prefix("sha256:").unwrap_or(commit)).chars().take(COMMIT_COLUMNS).collect()
}

/// Returns a text on one line without control characters, which could change a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect()
}

#[cfg(test)]
mod tests {
    use super::{is_ready, one, table};
    use crate::api::{Group, Site};
    use expect_test::expect;
    use serde_json::{Value, json};

    const NOW: &str = "2026-01-02T00:00:00Z";

    fn site(name: &str, spec: &Value, ready: (&str, &str, &str), status: &Value) -> Site {
        let mut object = json!({
            "apiVersion": Group::Kiln.api_version(), "kind": "StaticSite",
            "metadata": { "name": name, "namespace": "team" }, "spec": spec, "status": status,
        });
        let condition = |kind: &str, (status, reason, message): (&str, &str, &str)| {
            json!({ "type": kind, "status": status, "reason": reason, "message": message,
                    "lastTransitionTime": "2026-01-01T23:57:00Z" })
        };
        object["status"]["conditions"] = json!([
            condition("Ready", ready),
            condition("Routed", ("True", "Routed", "a.example by Ingress")),
            condition("Synced", ("True", "Published", "c0ffee0123\n/a is a submodule; left out")),
        ]);
        serde_json::from_value(object).unwrap()
    }

    fn sites() -> Vec<Site> {
        let revision = |digit: &str, commit: &str| {
            json!({ "digest": format!("sha256:{}", digit.repeat(64)), "commit": commit,
                    "time": "2026-01-01T23:55:00Z" })
        };
        let repo = json!({ "repo": "https://git.test/a.git" });
        vec![
            site(
                "blog",
                &repo,
                ("True", "Ready", "c0ffee is served"),
                &json!({
                    "url": "https://blog.team.pages.example/",
                    "revision": revision("a", "c0ffee0123456789c0ffee0123456789c0ffee01"),
                    "revisions": [revision("a", "c0ffee0123456789c0ffee0123456789c0ffee01"),
                                  revision("b", "badc0de")],
                }),
            ),
            site(
                "docs",
                &repo,
                ("False", "NotSynced", "the branch \u{1b}[2J\nx is missing"),
                &json!({
                    "url": "https://docs.example/2026/", "nextSync": "2026-01-02T00:00:50Z",
                }),
            ),
            site(
                "a-name-that-is-rather-too-long-for-a-table",
                &json!({}),
                ("True", "Ready", "ok"),
                &json!({ "revision": revision("c", "sha256:0123456789") }),
            ),
        ]
    }

    #[test]
    fn a_table_has_a_line_for_each_site_and_fits() {
        let text = table(&sites(), NOW.parse().unwrap());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!text.contains('\u{1b}'));
        expect![[r"
            SITE                        READY    REASON            COMMIT     AGE  NEXT
            team/blog                   yes      Ready             c0ffee01    5m  every 5m
              https://blog.team.pages.example/
            team/docs                   no       NotSynced         -            -  in 50s
              https://docs.example/2026/
              the branch  [2J x is missing
            team/a-name-that-is-rather-too-long-for-a-table
                                        yes      Ready             01234567    5m  on upload
        "]]
        .assert_eq(&text);
        let states: Vec<bool> = sites().iter().map(is_ready).collect();
        assert_eq!(states, [true, false, true]);
    }

    #[test]
    fn one_site_shows_everything() {
        let text = one(&sites()[0], NOW.parse().unwrap());
        assert!(text.lines().all(|line| line.chars().count() <= 83), "{text}");
        expect![[r"
            site        team/blog
            address     https://blog.team.pages.example/
            repository  https://git.test/a.git
            branch      main
            webhook     POST /webhook/team/blog at the syncer
            folder      /
            next sync   every 5m
            revision    sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
            commit      c0ffee0123456789c0ffee0123456789c0ffee01
            published   2026-01-01T23:55:00Z (5m ago)

            conditions
              Ready   yes     Ready, for 3m
                      c0ffee is served
              Routed  yes     Routed, for 3m
                      a.example by Ingress
              Synced  yes     Published, for 3m
                      c0ffee0123
                      /a is a submodule; left out

            revisions, newest first (* is in force)
              * sha256:aaaaaaaaaaaa  c0ffee0123456789c0f  2026-01-01T23:55:00Z
                sha256:bbbbbbbbbbbb  badc0de              2026-01-01T23:55:00Z
        "]]
        .assert_eq(&text);
    }
}
