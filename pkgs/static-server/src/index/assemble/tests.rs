//! The paths of a set of files, and the answer of each.

use super::{Encoded, Item, assemble};
use crate::index::policy::Policy;
use crate::index::store::{Filling, Store};
use crate::index::{Body, Coding, Index, Kind, TooLarge};
use crate::rules::Rules;
use std::sync::Arc;

fn item(path: &str, codings: &[Coding]) -> Item {
    let variants = codings.iter().map(|coding| Encoded {
        coding: *coding,
        body: Body { store: 0, start: 0, len: 4 },
        tag: [*coding as u8; 16],
    });
    Item { path: path.into(), variants: variants.collect(), modified: Some(0) }
}

fn site(paths: &[&str], policy: &Policy) -> Index {
    let items: Vec<Item> = paths.iter().map(|path| item(path, &[Coding::Identity])).collect();
    let mut filling = Filling::with_room(4).unwrap();
    filling.push(b"text").unwrap();
    assemble(
        &items,
        vec![Arc::new(Store::Memory(filling.seal().unwrap()))],
        Rules::default(),
        policy,
    )
    .unwrap()
}

fn kind(site: &Index, path: &str) -> &'static str {
    match site.find(path.as_bytes()) {
        None => "none",
        Some(Kind::Resource(_)) => "resource",
        Some(Kind::AddSlash) => "add slash",
        Some(Kind::StripSlash) => "strip slash",
        Some(Kind::StripHtml) => "strip html",
    }
}

fn check(site: &Index, expected: &[(&str, &str)]) {
    for (path, expected) in expected {
        assert_eq!(kind(site, path), *expected, "{path}");
    }
}

#[test]
fn index_pages_answer_for_their_folder_and_at_their_own_path() {
    let site =
        site(&["/index.html", "/a/index.html", "/a/b.html", "/_headers"], &Policy::default());
    check(
        &site,
        &[
            ("/", "resource"),
            ("/index.html", "resource"),
            ("/a", "add slash"),
            ("/a/", "resource"),
            ("/a/b.html", "resource"),
            ("/a/b", "none"),
            ("/_headers", "none"),
            ("", "none"),
        ],
    );
}

#[test]
fn clean_urls_have_one_path_for_each_page() {
    let policy = Policy { clean_urls: true, ..Policy::default() };
    let site =
        site(&["/index.html", "/a.html", "/b/index.html", "/b.html", "/c", "/c.html"], &policy);
    check(
        &site,
        &[
            ("/", "resource"),
            ("/index.html", "strip html"),
            ("/a", "resource"),
            ("/a.html", "strip html"),
            ("/a/", "strip slash"),
            ("/b/", "resource"),
            ("/c", "resource"),
        ],
    );
}

#[test]
fn the_nearest_error_page_is_found() {
    let site = site(&["/404.html", "/a/404.html", "/x"], &Policy::default());
    let page = |path: &str| site.error_page(path.as_bytes()).unwrap();
    assert_eq!(page("/a/b/c"), page("/a/"));
    assert_ne!(page("/a/b"), page("/ab"));
    let page = site.resources[page("/x") as usize];
    let head = site.bytes(site.prepared(&site.variants(&page)[0]).head);
    assert!(head.starts_with(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html"));
    assert_eq!((page.status, page.modified), (404, None));
}

#[test]
fn every_variant_has_its_own_tag_and_vary() {
    let items = [item("/a.css", &[Coding::Identity, Coding::Brotli])];
    let site = assemble(&items, Vec::new(), Rules::default(), &Policy::default()).unwrap();
    let Some(Kind::Resource(number)) = site.find(b"/a.css") else { panic!("no resource") };
    let variants = site.variants(&site.resources[number as usize]);
    let head = |index: usize| site.bytes(site.prepared(&variants[index]).head);
    let text = |index: usize| String::from_utf8_lossy(head(index));
    assert!(text(0).contains("Vary: Accept-Encoding\r\n") && !text(0).contains("Encoding: br"));
    assert!(text(1).contains("Vary: Accept-Encoding\r\n") && text(1).contains("Encoding: br\r\n"));
    assert_eq!((variants[0].tag, variants[1].tag), ([0; 16], [3; 16]));
}

/// Builds a site of a thousand files with these rules.
fn with_rules(headers: &str) -> Result<Index, TooLarge> {
    let items: Vec<Item> =
        (0..1000).map(|number| item(&format!("/{number}"), &[Coding::Identity])).collect();
    let (rules, complaints) = Rules::parse(headers.as_bytes(), b"");
    assert_eq!(complaints, []);
    assemble(&items, Vec::new(), rules, &Policy::default())
}

#[test]
fn a_rule_for_all_files_takes_memory_once() {
    let long = "x".repeat(1900);
    let lines: Vec<String> = (0..12).map(|number| format!("  X-{number}: {long}\n")).collect();
    let site = with_rules(&format!("/*\n{}", lines.concat())).unwrap();
    assert_eq!((site.prepared.len(), site.entries.len()), (1, 1000));
    assert!(site.text.len() < 40_000, "{}", site.text.len());
    let site = with_rules("/*\n  Link: <https://a/:splat>; rel=canonical\n").unwrap();
    assert_eq!(site.prepared.len(), 1, "captures are filled in later");
}

#[test]
fn header_blocks_that_do_not_fit_are_an_error() {
    let long = "x".repeat(1900);
    let rule = |number| format!("/*{number}\n{}", format!("  X: {number}{long}\n").repeat(60));
    let rules: String = (0..100).map(rule).collect();
    let error = with_rules(&rules).map(|site| (site.prepared.len(), site.text.len())).unwrap_err();
    assert!(error.to_string().contains("more than 16 MiB"), "{error}");
}

#[test]
fn the_order_of_files_changes_nothing() {
    let names = ["/b/index.html", "/a", "/index.html", "/b"];
    let mut reversed = names;
    reversed.reverse();
    let (one, other) = (site(&names, &Policy::default()), site(&reversed, &Policy::default()));
    assert_eq!((one.text, one.entries), (other.text, other.entries));
}
