//! The data of each role with a number of sites.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use pages::api::Group;
use pages::digest::Digest;
use pages::key::SiteKey;
use pages::operator::options::Options;
use pages::operator::plan;
use pages::operator::world::World;
use pages::publish::pack;
use pages::publish::tree::{Blob, Entry as File, EntryKind, Objects};
use pages::publish::walk::{Bounds, walk};
use pages::queue::plan::Queue;
use pages::routing::choice::Served;
use pages::syncer::desired::Desired;
use pages::syncer::feed::Feed;
use pages::table::{Address, Entry, Table};
use serde_json::json;
use static_server::content::Mounts;

use crate::counting::bytes_of;

/// The sites of one namespace.
const OF_NAMESPACE: usize = 20;

/// Rows of the table: a name and a value.
pub type Rows = Vec<(&'static str, String)>;

/// Returns a site by its number.
#[expect(clippy::expect_used, reason = "all names are valid")]
pub fn key(number: usize) -> SiteKey {
    let namespace = format!("team-{}", number / OF_NAMESPACE);
    SiteKey::new(&namespace, &format!("site-{number}")).expect("the name is valid")
}

/// Measures all parts with this number of sites.
pub fn measure(count: usize) -> Result<Rows> {
    let mut rows = Rows::new();
    operator(count, &mut rows)?;
    syncer(count, &mut rows)?;
    server(count, &mut rows)?;
    Ok(rows)
}

/// Returns a site as the API server sends it, published and with all conditions.
fn object(number: usize) -> Result<DynamicObject> {
    let (key, digest) = (key(number), Digest::of(&number.to_le_bytes()));
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": kind, "observedGeneration": 1,
            "message": "the last commit is served", "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let object = json!({
        "apiVersion": Group::Kiln.api_version(), "kind": "StaticSite",
        "metadata": {
            "name": key.name(), "namespace": key.namespace(), "generation": 1,
            "uid": format!("00000000-0000-4000-8000-{number:012}"), "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["pages.kiln.local/routes"],
        },
        "spec": { "repo": format!("https://git.example/{}/{}.git", key.namespace(), key.name()) },
        "status": {
            "address": address(number), "url": format!("https://{}", address(number).host),
            "revision": {
                "digest": digest.to_string(), "commit": "0123456789012345678901234567890123456789",
                "time": "2026-01-01T00:00:00Z",
            },
            "conditions": [condition("Synced"), condition("Routed"), condition("Ready")],
        },
    });
    serde_json::from_value(object).context("cannot make an object")
}

fn address(number: usize) -> Address {
    let key = key(number);
    let host = format!("{}.{}.pages.example", key.name(), key.namespace());
    Address { host, prefix: String::new() }
}

fn entry(number: usize) -> Entry {
    let revision = Digest::of(&number.to_le_bytes());
    Entry { site: key(number), address: address(number), revision, bytes: 10_000 }
}

fn operator(count: usize, rows: &mut Rows) -> Result<()> {
    let mut world = World::default();
    let (known, bytes) = bytes_of(|| {
        for number in 0..count {
            world.apply(Group::Kiln, Event::Apply(object(number)?));
        }
        anyhow::Ok(())
    });
    known?;
    rows.push(("operator: memory of a site", each(bytes, count)));
    let options = Options { domain: "pages.example".to_owned(), ..Options::default() };
    let rules = plan::rules(&world, &options, BTreeMap::new());
    let start = Instant::now();
    let (plan, bytes) =
        bytes_of(|| plan::plan(&world.claims(), &rules, &options, &Served::default(), None));
    rows.push(("operator: time of a plan of all sites", time(start.elapsed())));
    rows.push(("operator: memory of a plan, for a site", each(bytes, count)));
    let start = Instant::now();
    let next = plan::plan(&world.claims(), &rules, &options, &Served::default(), Some(&plan));
    let changed = next.changed(Some(&plan)).len();
    rows.push(("operator: time of the next plan", time(start.elapsed())));
    ensure!(changed == 0, "{changed} sites have changed");
    Ok(())
}

fn syncer(count: usize, rows: &mut Rows) -> Result<()> {
    let mut sites = BTreeMap::new();
    let (known, bytes) = bytes_of(|| {
        for number in 0..count {
            let site = Desired::new(Group::Kiln, &object(number)?).context("not a site")?;
            sites.insert(site.key.clone(), site);
        }
        anyhow::Ok(())
    });
    known?;
    rows.push(("syncer: memory of a site's specification and status", each(bytes, count)));
    let mut queue = Queue::default();
    let ((), bytes) = bytes_of(|| {
        for site in sites.values() {
            queue.add(&site.key, site.interval, None, Duration::ZERO);
        }
    });
    rows.push(("syncer: memory of a site in the queue", each(bytes, count)));
    let start = Instant::now();
    let saved = queue.save(Duration::ZERO).bytes();
    rows.push(("syncer: time to save the queue", time(start.elapsed())));
    rows.push(("syncer: size of the saved queue", size(saved.len())));
    let mut feed = Feed::new("epoch");
    let ((), bytes) = bytes_of(|| {
        for number in 0..count {
            let entry = entry(number);
            feed.set(&entry.site.clone(), Some(entry));
        }
    });
    rows.push(("syncer: memory of a site in the table", each(bytes, count)));
    let changes = feed.changes("").context("the table is empty")?;
    let whole: Vec<&Entry> = changes.sites.iter().map(|(_, entry)| entry).collect();
    rows.push(("syncer: size of the whole table", size(serde_json::to_vec(&whole)?.len())));
    let start = Instant::now();
    let mut other = entry(1);
    other.bytes += 1;
    feed.set(&other.site.clone(), Some(other));
    let few = feed.changes(&changes.generation).context("nothing has changed")?;
    rows.push(("syncer: time to offer one change", time(start.elapsed())));
    anyhow::ensure!(few.sites.len() == 1, "one change is {} changes", few.sites.len());
    Ok(())
}

fn server(count: usize, rows: &mut Rows) -> Result<()> {
    let mut table = Table::default();
    let ((), bytes) = bytes_of(|| {
        for number in 0..count {
            table.sites.insert(key(number), entry(number));
        }
    });
    rows.push(("server: memory of a site in the table", each(bytes, count)));
    let start = Instant::now();
    let saved = serde_json::to_vec(&table)?;
    rows.push(("server: time to write the table as JSON", time(start.elapsed())));
    rows.push(("server: size of the saved table", size(saved.len())));
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let path = folder.path().join("site.pack");
    let out = fs::File::create(&path).context("cannot create a pack")?;
    let files = walk(&Site, 0, "/", &Bounds::default()).map_err(|_| anyhow::anyhow!("walk"))?;
    pack::build(&Site, files, u64::MAX, None, folder.path(), &out)
        .map_err(|error| anyhow::anyhow!("cannot build a pack: {error}"))?;
    let index = static_server::pack::open::load(&path, 0)?;
    let (_opened, bytes) = bytes_of(|| static_server::pack::open::load(&path, 0));
    rows.push(("server: memory of the index of a site with ten files", size(bytes)));
    let (index, mut mounts) = (Arc::new(index), Mounts::default());
    let ((), bytes) = bytes_of(|| {
        for number in 0..count {
            mounts.insert(&address(number).host, "", Arc::clone(&index));
        }
    });
    rows.push(("server: memory of a site's address", each(bytes, count)));
    let start = Instant::now();
    let copy = mounts.clone();
    rows.push(("server: time to publish one change", time(start.elapsed())));
    drop(copy);
    Ok(())
}

/// A site with ten pages of 2 KiB.
struct Site;

impl Objects for Site {
    type Id = u8;
    type Error = std::convert::Infallible;

    fn folder(&self, _: &u8) -> Result<Vec<File<u8>>, Self::Error> {
        let file = |id: u8| File {
            name: format!("page-{id}.html").into_bytes(),
            kind: EntryKind::File,
            id,
        };
        Ok((0..10).map(file).collect())
    }

    fn file(&self, id: &u8) -> Result<Blob, Self::Error> {
        Ok(Blob::Bytes(format!("<p>a line of page {id}</p>\n").repeat(80).into_bytes()))
    }
}

fn each(bytes: usize, count: usize) -> String {
    format!("{} B", bytes / count)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn size(bytes: usize) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..1_048_576 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1024.0 / 1024.0),
    }
}

fn time(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
