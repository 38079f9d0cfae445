//! Text → [`Config`]: the checked contents of build.toml, the packages and the manifests.
//!
//! This module sees the disk through [`Read`] only. A build file lies in a folder with `pkgs/`,
//! `manifests/` and `rootfs/`, a *layer*. It may list more such folders, and inherit another build
//! file with its layers. A name is looked up in the nearest layer first.

mod budget;
pub mod erofs;
mod image;
mod kernel;
mod layers;
mod manifest;
mod package;
mod raw;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use kiln_base::calendar::{Civil, Precision};
use toml::Spanned;

pub use budget::Budget;
pub use image::Image;
pub use kernel::{Group, Kernel};
pub use layers::Layer;
pub use manifest::Manifest;
pub use package::{Output, Package, debian_requests};

use crate::arch::Arch;
use crate::source::{Source, Subject};
use crate::text::{Read, Text};
use erofs::Settings;
use layers::{Item, Merged};

/// Packages that the builder itself runs or bakes in, for every build file.
pub const TOOLS: [&str; 5] = ["e2fsprogs", "erofs-utils", "kmod", "ovmf", "systemd-boot-efi"];

/// The emulator for `run` and `test`.
pub const QEMU: &str = "qemu";

/// The firmware of its machines, which is one of [`TOOLS`].
pub const OVMF: &str = "ovmf";

/// Judges of the finished file, for `test`.
pub const JUDGES: [&str; 3] = ["kernel-hardening-checker", "ukify", "virt-firmware"];

/// Web servers that the static server is measured and compared with, for `bench static-server` and
/// `test`.
pub const PEERS: [&str; 3] = ["h2o", "lighttpd", NGINX];

/// The peer that is also in front of the tests' git server.
pub const NGINX: &str = "nginx";

/// The program that pushes container images, for `image --push`.
pub const CRANE: &str = "crane";

/// The registry that `test` and `cluster` push to.
pub const REGISTRY: &str = "docker-registry";

/// The NFS server of scenarios.
pub const NFS: &str = "nfs-ganesha";

/// The program that makes the discs of scenarios.
pub const DISCS: &str = "genisoimage";

/// The programs of a git server for tests, and the git with which they push.
pub const GIT_SERVER: [&str; 4] = ["fcgiwrap", "git", "libnss-wrapper", "openssh-server"];

/// The browser in which `test --all` looks at a page.
pub const BROWSER: &str = "chromium";

/// The cluster's own programs, whose images `cluster` pushes to its registry: the packages that
/// `manifests/cluster` names.
pub const ADD_ONS: [&str; 4] = ["coredns", "flannel", "kube-proxy", "node-controller"];

/// The programs of a control plane, for `cluster` and `test`.
pub const CONTROL_PLANE: [&str; 2] = [ETCD, KUBERNETES];

/// The store of a control plane.
pub const ETCD: &str = "etcd";

/// The other programs of a control plane, and kubectl.
pub const KUBERNETES: &str = "kubernetes";

/// The pages service.
pub const PAGES: &str = "pages";

/// The program with slow clients, for `compare --slow`.
pub const SLOW: &str = "slowhttptest";

/// Relays that the gateway is measured with, for `bench gateway`.
pub const RELAYS: [&str; 2] = ["haproxy", "nginx-stream"];

/// The crate that is PID 1. It goes into the archive, and into the root like other packages.
pub const INIT: &str = "init";

/// The parameter without which PID 1 cannot mount the root file-backed.
const RAMFS_PARAMETER: &str = "rootfstype=ramfs";

/// An image to build, with everything it names.
#[derive(Debug, Clone)]
pub struct Config {
    /// The image's name: the first part of its file's name.
    pub name: String,
    /// The architecture that it runs on.
    pub arch: Arch,
    /// The one date that the image's files carry, in seconds since 1970.
    pub date: u32,
    /// Its kernel.
    pub kernel: Kernel,
    /// The kernel's command line.
    pub cmdline: String,
    /// The packages in the image, and those that they are built with, by name.
    pub packages: BTreeMap<String, Package>,
    /// Names of the packages that build.toml lists, in its order.
    pub listed: Vec<String>,
    /// Its static pods, in the order of build.toml.
    pub pods: Vec<Manifest>,
    /// The folders in which names are looked up, nearest first.
    pub layers: Vec<Layer>,
    /// The `rootfs/` folders; the last one wins.
    pub rootfs: Vec<PathBuf>,
    /// The settings of the two erofs files.
    pub erofs: Settings,
    /// The upper bounds of the image.
    pub budget: Budget,
}

impl Config {
    /// Reads a build file and all that it names.
    pub fn load(read: Read<'_>, path: &Path, arch: Arch) -> Result<Self> {
        Self::load_with(read, path, arch, &[])
    }

    /// Reads a build file, as if its `packages` had these names too.
    pub fn load_with(read: Read<'_>, path: &Path, arch: Arch, packages: &[String]) -> Result<Self> {
        let mut merged = Merged::load(read, path)?;
        merged.packages.add(packages);
        let kernel = load_kernel(read, &merged)?;
        let mut config = Self {
            name: merged.name()?,
            arch,
            date: merged.date()?,
            cmdline: cmdline(&merged)?,
            packages: BTreeMap::new(),
            listed: merged.packages.items.iter().map(|item| item.get_ref().clone()).collect(),
            pods: Vec::new(),
            rootfs: merged.layers.iter().rev().map(|layer| layer.folder.join("rootfs")).collect(),
            layers: merged.layers.clone(),
            erofs: Settings {
                compression: merged.compression()?,
                cluster: merged.cluster_kib()? * 1024,
                modules: merged.module_compression()?,
            },
            budget: merged.budget.clone(),
            kernel,
        };
        config.load_packages(read, &merged)?;
        config.check_image_names()?;
        config.load_pods(read, &merged)?;
        Ok(config)
    }

    /// Returns a package that exists: a listed one, a tool, or an input that was checked on load.
    pub fn package(&self, name: &str) -> &Package {
        // `load_packages` puts every name that is used here into the table.
        &self.packages[name]
    }

    /// Returns the same package as its source sees it.
    pub fn subject<'a>(&'a self, name: &'a str) -> Subject<'a> {
        let package = self.package(name);
        Subject {
            name,
            folder: &package.folder,
            layer: package.layer(),
            arch: self.arch,
            date: self.date,
            smoke: package.smoke.as_ref(),
        }
    }

    /// Returns the merged configuration as one TOML text, for the report.
    pub fn expanded(&self) -> String {
        let names = |names: &[String]| toml::Value::from(names.to_vec());
        let pods: Vec<String> = self.pods.iter().map(|pod| pod.name.clone()).collect();
        let parameters: Vec<String> = self.cmdline.split(' ').map(str::to_owned).collect();
        let date = Civil::from_seconds(self.date.into()).rfc3339(Precision::Seconds);
        let groups = self.kernel.groups.iter();
        let groups = groups.map(|group| (group.name.clone(), names(&group.modules)));
        let table = toml::Table::from_iter([
            ("name".to_owned(), self.name.clone().into()),
            ("date".to_owned(), date.to_string().into()),
            ("kernel".to_owned(), self.kernel.package().into()),
            ("early-modules".to_owned(), names(&self.kernel.early)),
            ("load".to_owned(), names(&self.kernel.load)),
            ("modules".to_owned(), names(&self.kernel.modules)),
            ("module-groups".to_owned(), groups.collect::<toml::Table>().into()),
            ("parameters".to_owned(), names(&parameters)),
            ("packages".to_owned(), names(&self.listed)),
            ("pods".to_owned(), names(&pods)),
            ("compression".to_owned(), self.erofs.compression.to_string().into()),
            ("module-compression".to_owned(), self.erofs.modules.to_string().into()),
            ("cluster-kib".to_owned(), i64::from(self.erofs.cluster / 1024).into()),
        ]);
        table.to_string()
    }

    /// Returns the TCP ports that the pods open on the node's addresses.
    pub fn ports(&self) -> Vec<u16> {
        self.pods.iter().flat_map(|pod| pod.ports.iter().copied()).collect()
    }

    fn load_packages(&mut self, read: Read<'_>, merged: &Merged) -> Result<()> {
        if !self.listed.iter().any(|name| name == INIT) {
            return Err(merged
                .packages
                .whole("packages", &format!("`{INIT}` is missing: it is PID 1")));
        }
        let tools = TOOLS
            .iter()
            .chain([&QEMU])
            .chain(&JUDGES)
            .chain(&PEERS)
            .chain(&RELAYS)
            .chain(&ADD_ONS)
            .chain(&CONTROL_PLANE)
            .chain(&GIT_SERVER)
            .chain([&PAGES, &SLOW, &CRANE, &REGISTRY, &NFS, &DISCS, &BROWSER]);
        for name in tools.map(|name| Item::builtin(name)) {
            self.load_package(read, merged, &name)?;
        }
        self.load_package(read, merged, &self.kernel.package.clone())?;
        for name in &merged.packages.items {
            let item = Item { text: merged.packages.text.clone(), name: name.clone() };
            self.load_package(read, merged, &item)?;
        }
        Ok(())
    }

    fn load_package(&mut self, read: Read<'_>, merged: &Merged, item: &Item) -> Result<()> {
        let name = item.name.get_ref();
        if self.packages.contains_key(name) {
            return Ok(());
        }
        let file = Path::new("pkgs").join(name).join("pkg.toml");
        let text = merged.find(read, &file)?.ok_or_else(|| {
            item.error(format!(
                "there is no package `{name}`; looked for {} in {}",
                file.display(),
                merged.places()
            ))
        })?;
        let package = Package::parse(&text, name, self.arch)?;
        let libraries = package.source.kind().libraries().to_vec();
        let base = package.base().map(str::to_owned);
        self.packages.insert(name.clone(), package);
        for needed in libraries.into_iter().chain(base.clone()) {
            let item = Item { text: Some(text.clone()), name: Spanned::new(0..0, needed) };
            self.load_package(read, merged, &item)?;
        }
        if let Some(base) =
            base.filter(|base| !matches!(self.packages[base].source, Source::Deb(_)))
        {
            return Err(text.whole(format!(
                "`base`: `{base}` is not a Debian package; name one with a [source.deb] table and `closure = true`"
            )));
        }
        Ok(())
    }

    fn load_pods(&mut self, read: Read<'_>, merged: &Merged) -> Result<()> {
        for name in &merged.pods.items {
            let item = Item { text: merged.pods.text.clone(), name: name.clone() };
            let file = Path::new("manifests").join(format!("{}.yaml", name.get_ref()));
            let text = merged.find(read, &file)?.ok_or_else(|| {
                let looked = format!("looked for {} in {}", file.display(), merged.places());
                item.error(format!("there is no manifest `{}`; {looked}", name.get_ref()))
            })?;
            let manifest = Manifest::parse(&text, name.get_ref())?;
            for image in &manifest.images {
                self.check_image(&text, image)?;
            }
            self.pods.push(manifest);
        }
        Ok(())
    }

    /// Refuses an image that is not in the file, because its pod would wait for a registry forever.
    fn check_image(&self, text: &Text, image: &str) -> Result<()> {
        let known: Vec<&str> = self.images().map(|(_, image)| image.name.as_str()).collect();
        if known.contains(&image) {
            return Ok(());
        }
        let line = text.body().lines().position(|line| line.contains(image)).map_or(1, |at| at + 1);
        anyhow::bail!(
            "{}:{line}: `image: {image}` is not in this build, which has {}. \
             Add the package that makes it to `packages`, or correct the name",
            text.path.display(),
            known.join(", "),
        )
    }

    /// Returns the listed packages that make container images.
    pub fn images(&self) -> impl Iterator<Item = (&Package, &Image)> {
        let listed = self.listed.iter().map(|name| self.package(name));
        listed.filter_map(|package| Some((package, package.image()?)))
    }

    fn check_image_names(&self) -> Result<()> {
        let mut seen = BTreeMap::new();
        for (package, image) in self.images() {
            if let Some(first) = seen.insert(&image.name, &package.name) {
                anyhow::bail!(
                    "{}: `{first}` and `{}` both make the image {}; set a different `name` in the [output.image] of one of them",
                    package.folder.join("pkg.toml").display(),
                    package.name,
                    image.name
                );
            }
        }
        Ok(())
    }
}

fn load_kernel(read: Read<'_>, merged: &Merged) -> Result<Kernel> {
    let item = merged.kernel()?;
    let name = item.name.get_ref();
    let file = Path::new("kernel").join(format!("{name}.toml"));
    let text = merged.find(read, &file)?.ok_or_else(|| {
        item.error(format!(
            "there is no kernel `{name}`; looked for {} in {}",
            file.display(),
            merged.places()
        ))
    })?;
    Kernel::parse(&text, merged)
}

fn cmdline(merged: &Merged) -> Result<String> {
    let words = &merged.parameters.items;
    for word in words {
        let text = word.get_ref();
        if text.is_empty() || text.contains(|c: char| c.is_ascii_control()) {
            return Err(merged.parameters.error(word, "a kernel parameter is one line of text"));
        }
    }
    let words: Vec<&str> = words.iter().map(|word| word.get_ref().as_str()).collect();
    if !words.contains(&RAMFS_PARAMETER) {
        let cause = format!(
            "`{RAMFS_PARAMETER}` is missing: without it the root cannot be mounted from memory"
        );
        return Err(merged.parameters.whole("parameters", &cause));
    }
    Ok(words.join(" "))
}
