//! The tables of `size`: by package, then the largest items.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::progress::Bytes;

/// Items that are listed by name; the package table has the sum of all.
const LARGEST_MAX: usize = 20;

/// One item of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The package that it belongs to.
    pub(super) owner: String,
    /// A path, or a name for people.
    pub(super) name: String,
    /// Its length in bytes.
    pub(super) raw: u64,
    /// Its length in the EFI file, compressed.
    pub(super) stored: u64,
}

/// Renders both tables; `file` is the length of the EFI file in bytes.
pub(super) fn render(entries: &[Entry], file: u64) -> String {
    let mut packages: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for entry in entries {
        let sum = packages.entry(&entry.owner).or_default();
        *sum = (sum.0 + entry.raw, sum.1 + entry.stored);
    }
    let mut rows: Vec<_> =
        packages.into_iter().map(|(name, (raw, stored))| (name, raw, stored)).collect();
    sort(&mut rows);
    let mut out = head("package");
    for row in &rows {
        line(&mut out, *row, file);
    }
    let counted = rows.iter().map(|(_, _, stored)| stored).sum();
    let rest = file.saturating_sub(counted);
    line(&mut out, ("EFI stub, file system overhead", rest, rest), file);
    let raw = rows.iter().map(|(_, raw, _)| raw).sum::<u64>() + rest;
    line(&mut out, ("total", raw, file), file);

    let mut items: Vec<_> =
        entries.iter().map(|entry| (entry.name.as_str(), entry.raw, entry.stored)).collect();
    sort(&mut items);
    let _ = write!(out, "\n{}", head("largest items"));
    for row in items.iter().take(LARGEST_MAX) {
        line(&mut out, *row, file);
    }
    out
}

/// Largest in the file first.
fn sort(rows: &mut [(&str, u64, u64)]) {
    rows.sort_by_key(|(name, raw, stored)| (std::cmp::Reverse((*stored, *raw)), *name));
}

fn head(what: &str) -> String {
    format!("{:>11}  {:>11}  {:>7}  {what}\n", "raw", "in the file", "share")
}

/// Writing to a string cannot fail.
fn line(out: &mut String, (name, raw, stored): (&str, u64, u64), file: u64) {
    let (raw, shown) = (Bytes(raw).to_string(), Bytes(stored).to_string());
    let permille = stored * 1000 / file.max(1);
    let share = format!("{}.{} %", permille / 10, permille % 10);
    let _ = writeln!(out, "{raw:>11}  {shown:>11}  {share:>7}  {name}");
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    #[expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]
    fn packages_come_first_then_the_largest_items_and_everything_adds_up() {
        let entry = |owner: &str, name: &str, raw, stored| Entry {
            owner: owner.into(),
            name: name.into(),
            raw,
            stored,
        };
        let entries = [
            entry("init", "/init", 1 << 20, 1 << 20),
            entry("init", "/usr/lib/kiln/init", 1 << 20, 600 << 10),
            entry("kubelet", "/usr/bin/kubelet", 60 << 20, 22 << 20),
        ];
        // Without a line at the margin, `expect!` would remove the common indentation.
        expect![[r#"
            size
                    raw  in the file    share  package
               60.0 MiB     22.0 MiB   91.6 %  kubelet
                2.0 MiB      1.5 MiB    6.6 %  init
              424.0 KiB    424.0 KiB    1.7 %  EFI stub, file system overhead
               62.4 MiB     24.0 MiB  100.0 %  total

                    raw  in the file    share  largest items
               60.0 MiB     22.0 MiB   91.6 %  /usr/bin/kubelet
                1.0 MiB      1.0 MiB    4.1 %  /init
                1.0 MiB    600.0 KiB    2.4 %  /usr/lib/kiln/init
        "#]]
        .assert_eq(&format!("size\n{}", render(&entries, 24 << 20)));
    }
}
