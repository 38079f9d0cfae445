//! The UKI: systemd's EFI stub with kernel, command line and initramfs as sections.
//!
//! Format: the UAPI Group's "Unified Kernel Image" specification. Order, addresses and flags are
//! those of systemd's `ukify` 257; `judge/uki.rs` compares both.

use std::io::Write;

use anyhow::{Context, Result, bail, ensure};

use super::pe::{CODE, Headers, INITIALIZED_DATA, Image, READABLE, Section};
use super::{copy, load, pad};
use crate::tree::Content;

/// First line of every `.sbat` section (shim's SBAT.md).
const SBAT_HEADER: &str =
    "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md";

/// The component that the specification gives to every UKI, so that a whole generation can be
/// revoked.
const SBAT_UKI: &str =
    "uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/";

/// The parts of a UKI.
#[derive(Debug, Clone)]
pub struct Parts {
    /// systemd's stub, `linuxx64.efi.stub`.
    pub stub: Content,
    /// Text of `/usr/lib/os-release`.
    pub os_release: String,
    /// Kernel parameters.
    pub cmdline: String,
    /// The kernel's release, as `uname -r` prints it.
    pub uname: String,
    /// The kernel, an EFI binary itself.
    pub linux: Content,
    /// The initramfs archive.
    pub initrd: Content,
}

/// Writes the file and returns its length in bytes.
pub fn write(parts: &Parts, out: &mut impl Write) -> Result<u64> {
    let linux = load(&parts.linux).context("cannot read the kernel")?;
    let kernel = Headers::parse(&linux).context("cannot use the kernel as an EFI binary")?;
    let stub = load(&parts.stub).context("cannot read the EFI stub")?;
    let mut image = Image::new(stub).context("cannot use the EFI stub")?;
    // Firmware that enforces NX trusts the flag of the whole UKI for the kernel inside it.
    if !kernel.is_nx_compatible() {
        image.clear_nx_compatible();
    }
    let sbat = merge_sbat(&[(image.headers(), image.bytes()), (&kernel, &linux)])?;
    image.replace(".sbat", &sbat).context("cannot use the EFI stub")?;

    let contents = sections(parts, linux);
    for (name, content) in &contents {
        ensure!(content.len() > 0, "the UKI's section {name} would be empty");
        // Firmware without the stub's own loader protocol executes an old kernel in place.
        let kind = if *name == ".linux" { CODE } else { INITIALIZED_DATA };
        image.append(name, content.len(), kind | READABLE).context("cannot use the EFI stub")?;
    }
    write_file(&image, &contents, out)
}

/// Returns the sections in the order in which ukify appends them.
fn sections(parts: &Parts, linux: Vec<u8>) -> [(&'static str, Content); 5] {
    let text = |text: &str| Content::Bytes(text.as_bytes().into());
    [
        (".osrel", text(&parts.os_release)),
        (".cmdline", text(&parts.cmdline)),
        (".uname", text(&parts.uname)),
        (".linux", Content::Bytes(linux.into())),
        (".initrd", parts.initrd.clone()),
    ]
}

fn write_file(image: &Image, contents: &[(&str, Content)], out: &mut impl Write) -> Result<u64> {
    let align = u64::from(image.file_alignment());
    out.write_all(image.bytes())?;
    let mut length = image.bytes().len() as u64;
    for (name, content) in contents {
        copy(content, out).with_context(|| format!("cannot write the UKI's section {name}"))?;
        pad(out, content.len(), align)?;
        length += content.len().next_multiple_of(align);
    }
    Ok(length)
}

/// Returns the section table of a UKI, without the sections of the stub's own program.
pub fn read(file: &[u8]) -> Result<Vec<Section>> {
    let headers = Headers::parse(file)?;
    let Some(first) = headers.sections.iter().position(|section| section.name == ".osrel") else {
        bail!("this EFI file is not a UKI: it has no section .osrel");
    };
    Ok(headers.sections[first..].to_vec())
}

/// Returns one header line, the components of stub and kernel, and the UKI's own, terminated by a
/// NUL.
fn merge_sbat(files: &[(&Headers, &[u8])]) -> Result<Vec<u8>> {
    let mut merged = format!("{SBAT_HEADER}\n");
    for (headers, file) in files {
        let Some(section) = headers.section(".sbat") else { continue };
        let text =
            std::str::from_utf8(section.data(file)).context("a section .sbat is not text")?;
        let text = text.trim_end_matches('\0');
        ensure!(text.starts_with("sbat,"), "a section .sbat does not start with its header line");
        text.lines().skip(1).for_each(|line| merged.extend([line, "\n"]));
    }
    merged.extend([SBAT_UKI, "\n\0"]);
    Ok(merged.into_bytes())
}

#[cfg(test)]
mod tests;
