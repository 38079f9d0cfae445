//! The table of kernel modules by group.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use kiln_contract::path;

use super::table::Entry;
use crate::build::{Builder, Report};
use crate::kernel::{self, groups};
use crate::plan::{KERNEL, staged};
use crate::progress::Bytes;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    name: String,
    about: String,
    /// Length in bytes of its modules.
    raw: u64,
    size: Size,
}

/// The bytes that a group takes in the EFI file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    /// Measured in the finished image.
    Stored(u64),
    /// The length in the kernel's package, for a group that is not in the image.
    LeftOut(u64),
}

/// Returns the modules that no group has as one group, then the groups of the image, then the
/// others.
pub(super) fn groups(builder: &Builder, report: &Report, entries: &[Entry]) -> Result<Vec<Group>> {
    let package = staged(builder.config.kernel.package());
    let made = builder.make(&[KERNEL, package.as_str()])?;
    let folder = format!("{}/{}/", path::MODULES, report.kernel);
    let modules = entries.iter().filter_map(|entry| {
        let path = entry.name.strip_prefix(&folder)?;
        let is_module = Path::new(path).extension().is_some_and(|suffix| suffix == "ko");
        is_module.then_some((path, (entry.raw, entry.stored)))
    });
    let mut modules: BTreeMap<&str, (u64, u64)> = modules.collect();
    let mut rows = Vec::new();
    for group in groups::read(made[KERNEL].path())? {
        let own = group.paths.iter().filter_map(|path| modules.remove(path.as_str()));
        let (raw, stored) = sum(own);
        rows.push(Group { name: group.name, about: group.about, raw, size: Size::Stored(stored) });
    }
    let (raw, stored) = sum(modules.into_values());
    let about = "loaded on the way to the first pods".to_owned();
    rows.insert(0, Group { name: "(common)".to_owned(), about, raw, size: Size::Stored(stored) });
    for group in kernel::left_out(&builder.config.kernel, made[&package].path())? {
        let size = Size::LeftOut(group.compressed);
        rows.push(Group { name: group.name, about: group.about, raw: group.raw, size });
    }
    Ok(rows)
}

fn sum(sizes: impl Iterator<Item = (u64, u64)>) -> (u64, u64) {
    sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
}

/// Renders the table, in the order of the groups.
pub(super) fn render(groups: &[Group]) -> String {
    let mut out = format!("{:>11}  {:>11}  kernel modules by group\n", "raw", "in the file");
    for group in groups {
        let (size, left_out) = match group.size {
            Size::Stored(bytes) => (Bytes(bytes).to_string(), ""),
            Size::LeftOut(bytes) => (format!("~ {}", Bytes(bytes)), " (left out)"),
        };
        let raw = Bytes(group.raw).to_string();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{raw:>11}  {size:>11}  {}: {}{left_out}", group.name, group.about);
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    #[expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]
    fn the_size_of_a_group_that_is_left_out_is_an_estimate() {
        let group = |name: &str, about: &str, size| Group {
            name: name.into(),
            about: about.into(),
            raw: 3 << 20,
            size,
        };
        let groups = [
            group("nfs", "NFS volumes", Size::Stored(1 << 20)),
            group("xfs", "volumes with XFS", Size::LeftOut(2 << 20)),
        ];
        // Without a line at the margin, `expect!` would remove the common indentation.
        expect![[r#"
            size
                    raw  in the file  kernel modules by group
                3.0 MiB      1.0 MiB  nfs: NFS volumes
                3.0 MiB    ~ 2.0 MiB  xfs: volumes with XFS (left out)
        "#]]
        .assert_eq(&format!("size\n{}", render(&groups)));
    }
}
