//! The paths of a set of files, and the answer of each.

use super::{Encoded, Item, assemble};
use crate::index::policy::Policy;
use crate::index::store::{Filling, Store};
use crate::index::{Body, Coding, Index, Kind};
use crate::rules::Rules;

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
    assemble(&items, vec![Store::Memory(filling.seal().unwrap())], Rules::default(), policy)
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
    let head = site.bytes(site.variants(&page)[0].head);
    assert!(head.starts_with(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n"));
    assert_eq!(site.bytes(site.variants(&page)[0].etag), b"");
}

#[test]
fn every_variant_has_its_own_tag_and_vary() {
    let items = [item("/a.css", &[Coding::Identity, Coding::Brotli])];
    let site = assemble(&items, Vec::new(), Rules::default(), &Policy::default());
    let Some(Kind::Resource(number)) = site.find(b"/a.css") else { panic!("no resource") };
    let variants = site.variants(&site.resources[number as usize]);
    let text = |index: usize| String::from_utf8_lossy(site.bytes(variants[index].head));
    assert!(text(0).contains("Vary: Accept-Encoding\r\n") && !text(0).contains("Encoding: br"));
    assert!(text(1).contains("Vary: Accept-Encoding\r\n") && text(1).contains("Encoding: br\r\n"));
    assert_ne!(site.bytes(variants[0].etag), site.bytes(variants[1].etag));
    assert_eq!(site.bytes(variants[1].etag), b"\"03030303030303030303030303030303\"");
}

#[test]
fn the_order_of_files_changes_nothing() {
    let names = ["/b/index.html", "/a", "/index.html", "/b"];
    let mut reversed = names;
    reversed.reverse();
    let (one, other) = (site(&names, &Policy::default()), site(&reversed, &Policy::default()));
    assert_eq!((one.text, one.entries), (other.text, other.entries));
}
