//! Indexes for tests.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::index::assemble::{Encoded, Item, RULES, assemble};
use crate::index::policy::Policy;
use crate::index::store::{Filling, Store};
use crate::index::{Body, Coding, Index, Tag};
use crate::rules::Rules;

fn encoded(filling: &mut Filling, coding: Coding, text: &str) -> Encoded {
    let start = filling.push(text.as_bytes()).unwrap();
    let body = Body { store: 0, start, len: text.len() as u64 };
    let tag = Tag::try_from(&Sha256::digest(text)[..16]).unwrap();
    Encoded { coding, body, tag }
}

/// Builds a site of these paths and texts.
pub fn from_files(files: &[(&str, &str)], policy: &Policy) -> Index {
    let mut filling = Filling::with_room(64 << 20).unwrap();
    let items: Vec<Item> = files
        .iter()
        .map(|(path, text)| Item {
            path: path.as_bytes().to_vec(),
            variants: vec![encoded(&mut filling, Coding::Identity, text)],
            modified: None,
        })
        .collect();
    let rules = RULES.map(|name| {
        let file = files.iter().find(|(path, _)| path.as_bytes() == name);
        file.map_or(&[][..], |(_, text)| text.as_bytes())
    });
    let (rules, complaints) = Rules::parse(rules[0], rules[1]);
    assert_eq!(complaints, []);
    assemble(&items, vec![Arc::new(Store::Memory(filling.seal().unwrap()))], rules, policy).unwrap()
}

/// Builds a site of one file in two codings.
pub fn with_variant(path: &str, text: &str, coding: Coding, coded: &str) -> Index {
    let mut filling = Filling::with_room(1 << 20).unwrap();
    let identity = encoded(&mut filling, Coding::Identity, text);
    let other = encoded(&mut filling, coding, coded);
    let variants = vec![identity, other];
    let item = Item { path: path.as_bytes().to_vec(), variants, modified: None };
    let stores = vec![Arc::new(Store::Memory(filling.seal().unwrap()))];
    assemble(&[item], stores, Rules::default(), &Policy::default()).unwrap()
}
