//! The `.modinfo` section of a kernel module's ELF file.
//!
//! Source: include/linux/module.h and scripts/mod/modpost.c of the kernel: NUL-separated `key=value`.

use anyhow::{Context, Result};
use object::{Object, ObjectSection};

/// Returns the names of the modules that must be loaded before this one, with `_` for `-`.
pub fn depends(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module).context("not an ELF file")?;
    let section = file.section_by_name(".modinfo").context("it has no .modinfo section")?;
    Ok(parse(section.data()?))
}

fn parse(modinfo: &[u8]) -> Vec<String> {
    let fields =
        modinfo.split(|byte| *byte == 0).filter_map(|field| std::str::from_utf8(field).ok());
    let mut names = Vec::new();
    for field in fields {
        if let Some(list) = field.strip_prefix("depends=") {
            names.extend(list.split(',').map(module_name));
        }
        // A module names here the modules that it loads through request_module, for example a
        // checksum.
        if let Some(list) = field.strip_prefix("softdep=pre: ") {
            names.extend(
                list.split_ascii_whitespace().take_while(|word| *word != "post:").map(module_name),
            );
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Returns the aliases of built-in modules as lines of `modules.alias`. `modules.builtin.modinfo`
/// has them as NUL-separated `MODULE.KEY=VALUE`.
pub fn builtin_aliases(modinfo: &[u8]) -> String {
    let fields =
        modinfo.split(|byte| *byte == 0).filter_map(|field| std::str::from_utf8(field).ok());
    let line = |field: &str| {
        let (key, alias) = field.split_once('=')?;
        let module = key.strip_suffix(".alias")?;
        Some(format!("alias {alias} {}\n", module_name(module)))
    };
    fields.filter_map(line).collect()
}

/// Returns the module's name: files may have `-` where the name has `_`.
pub fn module_name(text: &str) -> String {
    text.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_both_kinds_are_found() {
        let info = b"license=GPL\0depends=libcrc32c,net-failover\0softdep=pre: crypto-crc32c post: other\0alias=x\0";
        assert_eq!(parse(info), ["libcrc32c", "net_failover", "crypto_crc32c"]);
        assert!(parse(b"depends=\0").is_empty());
    }

    #[test]
    fn builtin_aliases_become_lines() {
        let info =
            b"ext4.license=GPL\0ext4.alias=fs-ext4\0virtio-pci.alias=pci:v00001AF4d*\0alias\0";
        assert_eq!(builtin_aliases(info), "alias fs-ext4 ext4\nalias pci:v00001AF4d* virtio_pci\n");
    }

    #[test]
    fn a_file_that_is_not_a_module_is_refused() {
        assert!(depends(b"text").is_err());
    }
}
