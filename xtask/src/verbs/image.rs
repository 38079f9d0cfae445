//! `cargo xtask image`

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use kiln_host::println;

use super::target::Target;
use crate::build::{Builder, tool};
use crate::config::CRANE;
use crate::host::HostTool;
use crate::image::oci::Layout;
use crate::plan::staged;
use crate::progress::Progress;
use crate::registry;

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
        println!("{}: sha256:{}", path.display(), layout.only()?.1);
        if let Some(reference) = push {
            registry::push(&crane(&builder)?, &layout, &reference, None)?;
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

/// The program that talks to registries.
pub(super) fn crane(builder: &Builder) -> Result<HostTool> {
    tool(&builder.make(&[&staged(CRANE)])?, CRANE, "crane")
}
