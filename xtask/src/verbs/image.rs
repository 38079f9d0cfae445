//! `cargo xtask image`

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use kiln_host::println;

use super::target::Target;
use crate::build::{Builder, tool};
use crate::config::CRANE;
use crate::digest::Digest;
use crate::host::HostTool;
use crate::image::oci::Layout;
use crate::plan::staged;
use crate::progress::Progress;
use kiln_host::environment::NETWORK;

#[derive(Debug, Args)]
pub(super) struct Image {
    /// The package, a folder below pkgs/ with an [output.image] table
    name: String,
    #[command(flatten)]
    target: Target,
    /// Write the image here: an archive if the path ends with .tar, otherwise a folder with an OCI
    /// layout
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Push the image to a registry under this name, such as registry.example/team/app:1.2
    #[arg(long, value_name = "REFERENCE")]
    push: Option<String>,
}

impl Image {
    pub(super) fn run(self) -> Result<()> {
        let Self { name, target, out, push } = self;
        let also = std::slice::from_ref(&name);
        let builder = Builder::open_with(&target.file()?, target.arch, Progress::new(), also)?;
        let layout = builder.container_image(&name)?;
        let path = out.unwrap_or_else(|| {
            let file = format!("{name}-{}.oci.tar", target.arch);
            builder.inputs.workspace.join("target/kiln").join(file)
        });
        write(&layout, builder.config.date, &path)?;
        println!("{}: sha256:{}", path.display(), manifest(&layout)?);
        if let Some(reference) = push {
            push_to(&crane(&builder)?, &layout, &reference)?;
            println!("{reference}: pushed");
        }
        Ok(())
    }
}

/// Writes an archive or a folder; `date` in seconds since 1970.
fn write(layout: &Layout, date: u32, path: &Path) -> Result<()> {
    if path.extension().is_none_or(|kind| kind != "tar") {
        ensure!(
            !path.exists() || path.join("oci-layout").exists(),
            "cannot write {}: it exists and is not an OCI layout; remove it, or choose another path with `--out`",
            path.display()
        );
        return layout.write(path);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(path, layout.archive(date.into())?)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The digest of the only image of a layout.
pub(super) fn manifest(layout: &Layout) -> Result<Digest> {
    layout.manifests.values().next().copied().context("the layout has no image")
}

/// The program that talks to registries.
pub(super) fn crane(builder: &Builder) -> Result<HostTool> {
    tool(&builder.make(&[&staged(CRANE)])?, CRANE, "crane")
}

/// Pushes the only image of a layout, and checks that the registry has the same bytes.
///
/// Names and passwords come from Docker's configuration, as for other programs.
pub(super) fn push_to(crane: &HostTool, layout: &Layout, reference: &str) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let folder = scratch.path().join("layout");
    layout.write(&folder)?;
    let push = crane.command()?.with(NETWORK).arg("push").arg(folder).arg(reference);
    push.read().with_context(|| format!("cannot push to {reference}"))?;
    let ask = crane.command()?.with(NETWORK).args(["digest", reference]);
    let found = ask.read().with_context(|| format!("cannot read {reference} back"))?;
    let pushed = format!("sha256:{}", manifest(layout)?);
    ensure!(found.trim() == pushed, "{reference} is {}, not {pushed}", found.trim());
    Ok(())
}
