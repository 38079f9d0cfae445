//! A finished image and the host tools that boot it → a machine.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use clap::builder::RangedI64ValueParser;

use super::Builder;
use super::made::tool;
use super::report::Built;
use crate::cluster::pages::Pages;
use crate::cluster::{AddOns, Programs, Tools, git};
use crate::config::{
    ADD_ONS, CRANE, DISCS, ETCD, GIT_SERVER, KUBERNETES, NFS, NGINX, OVMF, PAGES, QEMU, REGISTRY,
};
use crate::host::HostTool;
use crate::plan::{ARCHIVE, KERNEL, staged};
use crate::qemu::{Forward, Kernel, Machine, Network, Start, WATCHDOG};
use crate::scenario::{DiskTools, Rig};

/// The default memory of a node in MiB. Half of it is the minimum.
pub const MEMORY: u32 = 1024;

/// Accepts the memory of a node in MiB. The minimum is the memory that the scenario `small` proves to be
/// enough.
pub fn memory() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(i64::from(MEMORY / 2)..)
}

/// The code and the empty variables of Debian's OVMF.
const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// Returns a machine that boots this image, with a network of its own and these ports on the host.
pub fn of(
    builder: &Builder,
    built: &Built,
    forwards: Vec<Forward>,
    memory: u32,
) -> Result<Machine> {
    let (qemu, ovmf) = (staged(QEMU), staged(OVMF));
    let made = builder.make(&[&qemu, &ovmf])?;
    Ok(Machine {
        qemu: tool(&made, QEMU, "qemu-system-x86_64")?,
        start: Start::Firmware {
            code: made[&ovmf].file(FIRMWARE)?,
            variables: made[&ovmf].file(VARIABLES)?,
            efi: built.efi.clone(),
            credentials: Vec::new(),
        },
        memory,
        forwards,
        network: Network::User,
        watchdog: WATCHDOG,
        extra: Vec::new(),
        scratch: builder.inputs.workspace.join("target/kiln"),
    })
}

/// The parts of an image's file that QEMU can start without firmware.
pub fn kernel(builder: &Builder) -> Result<Kernel> {
    let made = builder.make(&[KERNEL, ARCHIVE])?;
    Ok(Kernel {
        image: made[KERNEL].file("vmlinuz")?,
        archive: made[ARCHIVE].file(ARCHIVE)?,
        cmdline: builder.config.cmdline.clone(),
    })
}

/// Returns the programs that a cluster on this host runs.
pub fn cluster_tools(builder: &Builder) -> Result<Tools> {
    let qemu = staged(QEMU);
    let made = builder.make(&[&qemu])?;
    let (programs, add_ons) = (control_plane(builder)?, add_ons(builder)?);
    Ok(Tools { qemu: tool(&made, QEMU, "qemu-system-x86_64")?, programs, add_ons })
}

/// Returns the programs of a control plane.
pub fn control_plane(builder: &Builder) -> Result<Programs> {
    let (etcd, kubernetes) = (staged(ETCD), staged(KUBERNETES));
    let made = builder.make(&[&etcd, &kubernetes])?;
    Ok(Programs {
        etcd: made[&etcd].file("etcd")?,
        kubernetes: made[&kubernetes].path().to_owned(),
    })
}

/// Returns the programs of a git server.
pub fn git_server(builder: &Builder) -> Result<git::Programs> {
    let steps = GIT_SERVER.map(staged);
    let nginx = staged(NGINX);
    let mut goals: Vec<&str> = steps.iter().map(String::as_str).collect();
    goals.push(&nginx);
    let made = builder.make(&goals)?;
    let folder = |name: &str| made[&staged(name)].path().to_owned();
    Ok(git::Programs {
        nginx: tool(&made, NGINX, "nginx")?,
        fcgiwrap: tool(&made, "fcgiwrap", "fcgiwrap")?,
        git: folder("git"),
        openssh: folder("openssh-server"),
        accounts: folder("libnss-wrapper"),
    })
}

fn add_ons(builder: &Builder) -> Result<AddOns> {
    let made = builder.make(&[&staged(REGISTRY), &staged(CRANE)])?;
    let image = |name: &&str| -> Result<_> {
        let layout = builder.container_image(name)?;
        Ok((layout.only()?.0.to_owned(), layout))
    };
    Ok(AddOns {
        registry: tool(&made, REGISTRY, REGISTRY)?,
        crane: tool(&made, CRANE, CRANE)?,
        manifests: builder.inputs.workspace.join("manifests/cluster"),
        images: ADD_ONS.iter().map(image).collect::<Result<_>>()?,
    })
}

/// Returns what the pages service is installed with and from.
pub fn pages(builder: &Builder) -> Result<Pages> {
    let layout = builder.container_image(PAGES)?;
    let workspace = &builder.inputs.workspace;
    Ok(Pages {
        git: git_server(builder)?,
        manifests: workspace.join("manifests"),
        content: workspace.join("pkgs/pages/demo"),
        image: (layout.only()?.0.to_owned(), layout),
        crane: tool(&builder.make(&[&staged(CRANE)])?, CRANE, CRANE)?,
    })
}

/// Returns the NFS server of scenarios.
pub fn nfs_server(builder: &Builder) -> Result<HostTool> {
    tool(&builder.make(&[&staged(NFS)])?, NFS, "ganesha.nfsd")
}

/// Returns the tools that the VM scenarios in `dir` run with.
pub fn rig(builder: &Builder, dir: &Path) -> Result<Rig> {
    let (qemu, ovmf, e2fsprogs) = (staged(QEMU), staged(OVMF), staged("e2fsprogs"));
    let discs = staged(DISCS);
    let made = builder.make(&[&qemu, &ovmf, &e2fsprogs, &discs])?;
    let scratch = builder.inputs.workspace.join("target/kiln/vm");
    std::fs::create_dir_all(&scratch)
        .with_context(|| format!("cannot create {}", scratch.display()))?;
    Ok(Rig {
        qemu: tool(&made, QEMU, "qemu-system-x86_64")?,
        firmware: made[&ovmf].file(FIRMWARE)?,
        variables: made[&ovmf].file(VARIABLES)?,
        disks: DiskTools {
            mke2fs: tool(&made, "e2fsprogs", "mke2fs")?,
            e2fsck: tool(&made, "e2fsprogs", "e2fsck")?,
            debugfs: tool(&made, "e2fsprogs", "debugfs")?,
        },
        genisoimage: tool(&made, DISCS, "genisoimage")?,
        cluster: OnceLock::new(),
        nfs: OnceLock::new(),
        scratch,
        dir: dir.to_owned(),
    })
}
