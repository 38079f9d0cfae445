//! The content of a pack as text: one line for each path.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use static_server::index::block::fields;
use static_server::index::{Coding, Index, Kind, Resource, Variant};
use static_server::pack::open::contents;

/// Lists a pack: path, media type, plain and coded lengths, and cache policy, separated by tabs.
pub fn list(file: &Path) -> anyhow::Result<String> {
    let reading = || format!("cannot read the pack {}", file.display());
    let mut open = File::open(file).with_context(reading)?;
    let index = contents(&mut open).with_context(reading)?.index;
    let mut out = String::from("path\ttype\tbytes\tgzip\tzstd\tbr\tcache\n");
    for entry in &index.entries {
        let path = escaped(index.bytes(entry.path));
        let rest = match entry.kind {
            Kind::Resource(number) => resource(&index, &index.resources[number as usize]),
            Kind::AddSlash => "redirect to the path with /".to_owned(),
            Kind::StripSlash => "redirect to the path without /".to_owned(),
            Kind::StripHtml => "redirect to the path without .html".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{path}\t{rest}");
    }
    for page in &index.error_pages {
        let rest = resource(&index, &index.resources[page.resource as usize]);
        let _ = writeln!(out, "404 below {}\t{rest}", escaped(index.bytes(page.folder)));
    }
    Ok(out)
}

fn resource(index: &Index, resource: &Resource) -> String {
    let variants = index.variants(resource);
    let plain = variants.first();
    let field = |name: &[u8]| plain.map_or("-".to_owned(), |plain| field(index, plain, name));
    let length = |coding: Coding| {
        let found = variants.iter().find(|variant| variant.coding == coding);
        found.map_or("-".to_owned(), |variant| variant.body.len.to_string())
    };
    let lengths = [Coding::Identity, Coding::Gzip, Coding::Zstd, Coding::Brotli].map(length);
    [&field(b"content-type"), &lengths.join("\t"), &field(b"cache-control")]
        .map(String::as_str)
        .join("\t")
}

fn field(index: &Index, variant: &Variant, name: &[u8]) -> String {
    let prepared = index.prepared(variant);
    let block = &index.bytes(prepared.head)[prepared.rest as usize..];
    let found = fields(block).find(|(found, _)| found.eq_ignore_ascii_case(name));
    found.map_or("-".to_owned(), |(_, value)| escaped(value))
}

/// Escapes bytes that are not printable text as `\xNN`, so that a name cannot change the table.
fn escaped(bytes: &[u8]) -> String {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control));
    text.map_or_else(|| bytes.escape_ascii().to_string(), str::to_owned)
}
