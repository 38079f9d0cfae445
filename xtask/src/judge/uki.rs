//! Checks the UKI with systemd's `ukify` and virt-firmware's `pe-inspect`.
//!

use std::collections::BTreeMap;
use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::digest::Digest;
use crate::host::HostTool;
use crate::image::copy;
use crate::image::pe::{Headers, Section};
use crate::image::uki::{self, Parts};
use crate::tree::Content;

/// Makes a UKI of the same parts with ukify and compares both: first by section, for a useful
/// message, then byte by byte.
pub fn compare_with_ukify(
    ukify: &HostTool,
    parts: &Parts,
    ours: &Path,
    scratch: &Path,
) -> Result<()> {
    let theirs = run_ukify(ukify, parts, scratch)?;
    let (ours, theirs) = (read(ours)?, read(&theirs)?);
    compare_sections(&ours, &theirs)?;
    if let Some(at) = (0..ours.len().max(theirs.len())).find(|&at| ours.get(at) != theirs.get(at)) {
        bail!("the UKI and that of ukify have equal sections, but differ at byte {at:#x}");
    }
    Ok(())
}

/// Reads a UKI with both tools; ukify must find the same contents in the sections.
pub fn inspect(ukify: &HostTool, pe_inspect: &HostTool, file: &Path) -> Result<()> {
    let report = ukify.command()?.arg("inspect").arg(file).arg("--json=short").read()?;
    let report: BTreeMap<String, Inspected> =
        serde_json::from_str(&report).context("cannot read ukify's report")?;
    let bytes = read(file)?;
    let sections = uki::read(&bytes)?;
    for section in &sections {
        let found = report
            .get(&section.name)
            .with_context(|| format!("ukify does not see {}", section.name))?;
        let is = Inspected {
            size: section.virtual_size,
            sha256: Digest::of_bytes(section.data(&bytes)),
        };
        ensure!(*found == is, "ukify sees {found:?} in {}, it has {is:?}", section.name);
    }
    let listing = pe_inspect.command()?.arg(file).read()?;
    for section in &sections {
        let line = format!("({})", section.name);
        ensure!(listing.contains(&line), "pe-inspect does not see {}:\n{listing}", section.name);
    }
    Ok(())
}

/// ukify's report of one section, which is longer for text.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Inspected {
    size: u32,
    sha256: Digest,
}

fn run_ukify(ukify: &HostTool, parts: &Parts, scratch: &Path) -> Result<PathBuf> {
    let text = |text: &str| Content::Bytes(text.as_bytes().into());
    let place = |name: &str, content: &Content| place(scratch, name, content);
    // Every part is a file, and the settings are an empty one, so that nothing of the host slips
    // in.
    let config = place("ukify.conf", &text(""))?;
    let os_release = place("os-release", &text(&parts.os_release))?;
    let cmdline = place("cmdline", &text(&parts.cmdline))?;
    let command = ukify.command()?.arg("build").arg("--config").arg(config);
    let command = command.arg("--stub").arg(place("stub", &parts.stub)?);
    let command = command.arg("--linux").arg(place("linux", &parts.linux)?);
    let command = command.arg("--initrd").arg(place("initrd", &parts.initrd)?);
    let command = command.arg("--os-release").arg(format!("@{}", os_release.display()));
    let command = command.arg("--cmdline").arg(format!("@{}", cmdline.display()));
    let output = scratch.join("ukify.efi");
    command.args(["--uname", &parts.uname]).arg("--output").arg(&output).read()?;
    Ok(output)
}

/// Returns the path of a part: its own, or that of a new file in `scratch`.
fn place(scratch: &Path, name: &str, content: &Content) -> Result<PathBuf> {
    if let Content::Cached { path, .. } = content {
        return Ok(path.clone());
    }
    let path = scratch.join(name);
    let file =
        fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    copy(content, &mut BufWriter::new(file))?;
    Ok(path)
}

fn compare_sections(ours: &[u8], theirs: &[u8]) -> Result<()> {
    let (our_table, their_table) =
        (Headers::parse(ours)?.sections, Headers::parse(theirs)?.sections);
    let names =
        |table: &[Section]| table.iter().map(|section| section.name.clone()).collect::<Vec<_>>();
    ensure!(
        our_table.len() == their_table.len(),
        "the UKI has the sections {:?}, but ukify's has {:?}",
        names(&our_table),
        names(&their_table)
    );
    for (ours_is, theirs_is) in our_table.iter().zip(&their_table) {
        ensure!(ours_is == theirs_is, "the UKI has {ours_is:?}, but ukify's has {theirs_is:?}");
        let equal = ours_is.data(ours) == theirs_is.data(theirs);
        ensure!(equal, "{} of the UKI has other content than in ukify's", ours_is.name);
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
