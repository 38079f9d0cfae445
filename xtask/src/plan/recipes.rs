//! What goes into each kind of step.
//!
//! `REVISION` of a kind is raised when the code that makes it changes what it makes.

use anyhow::{Result, anyhow};

use super::{ARCHIVE, Action, CRATES, KERNEL, PACKER, PODS, Planner, ROOT, UKI, staged};
use crate::config::{Arch, Go, INIT, Package, Source};
use crate::digest::{Digest, Recipe};
use crate::lock::Locked;
use crate::source::musl;

/// Revisions of the steps' own code.
mod revision {
    pub(super) const UNPACK: &str = "unpack 1";
    pub(super) const GO: &str = "go 2";
    pub(super) const CRATE: &str = "crate 2";
    pub(super) const KERNEL: &str = "kernel 3";
    pub(super) const ROOT: &str = "root 2";
    pub(super) const PODS: &str = "pods 3";
    pub(super) const ARCHIVE: &str = "archive 2";
    pub(super) const UKI: &str = "uki 3";
}

impl Planner<'_> {
    pub(super) fn debian(&mut self, name: &str) -> Result<()> {
        let package = self.config.package(name);
        let Source::Deb(request) = &package.source else {
            return Err(anyhow!("package `{name}` has no [source.deb]"));
        };
        let debs = self.locks.debs(package.layer(), name, request)?;
        let mut recipe = Recipe::new(revision::UNPACK);
        for deb in &debs {
            recipe = recipe.digest(&deb.name, deb.sha256);
        }
        self.add(&staged(name), Action::Unpack(name.into()), &[], debs, recipe.finish());
        Ok(())
    }

    pub(super) fn url(&mut self, name: &str) -> Result<()> {
        let Source::Url { url, sha256, size } = &self.config.package(name).source else {
            return Err(anyhow!("package `{name}` has no [source.url]"));
        };
        let file = Locked::from_url(url, *size, *sha256);
        let recipe = Recipe::new("url 1").digest("file", *sha256).field("name", &file.name);
        self.add(&staged(name), Action::Take(name.into()), &[], vec![file], recipe.finish());
        Ok(())
    }

    pub(super) fn go(&mut self, name: &str) -> Result<()> {
        let package = self.config.package(name);
        let Source::Go(go) = &package.source else {
            return Err(anyhow!("package `{name}` has no [source.go]"));
        };
        let fetch = format!("fetch {name}");
        let folder = self.folder(name)?;
        let fetched = Recipe::new("go modules 1").digest("folder", folder).finish();
        self.add(&fetch, Action::FetchGo(name.into()), &[], Vec::new(), fetched);

        let mut needs = vec![fetch];
        let mut recipe = self.go_recipe(package, go, folder);
        for library in &go.libraries {
            recipe = recipe.digest(library, self.digest_of(&staged(library))?);
            needs.push(staged(library));
        }
        let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
        self.add(&staged(name), Action::BuildGo(name.into()), &needs, Vec::new(), recipe.finish());
        Ok(())
    }

    fn go_recipe(&self, package: &Package, go: &Go, folder: Digest) -> Recipe {
        let mut recipe = Recipe::new(revision::GO)
            .field("go", &self.inputs.go)
            .field("arch", self.config.arch.go())
            .field("date", self.config.date.to_string())
            .digest("folder", folder)
            .field("source", format!("{go:?}"))
            .field("smoke", format!("{:?}", package.smoke));
        if go.cgo {
            recipe = recipe.field("cc", &self.inputs.cc);
        }
        recipe
    }

    pub(super) fn crate_(
        &mut self,
        name: &str,
        features: &[String],
        libc: Option<&str>,
    ) -> Result<()> {
        let package = self.config.package(name);
        let lock = self.inputs.cargo_lock.ok_or_else(|| anyhow!("Cargo.lock was not read"))?;
        let fetched = Recipe::new("crates 2")
            .digest("Cargo.lock", lock)
            .field("sources", &self.inputs.crate_sources)
            .finish();
        self.add(CRATES, Action::FetchCrates, &[], Vec::new(), fetched);
        let mut recipe = Recipe::new(revision::CRATE)
            .field("rust", &self.inputs.rust)
            .field("cc", &self.inputs.cc)
            .field("linker", &self.inputs.linker)
            .field("target", self.config.arch.triple())
            .digest("sources", self.folder(name)?)
            .field("features", features.join(","))
            .field("smoke", format!("{:?}", package.smoke));
        let mut needs = vec![CRATES.to_owned()];
        if let Some(libc) = libc {
            recipe = recipe.digest("link", musl::digest());
            recipe = recipe.digest("libc", self.digest_of(&staged(libc))?);
            needs.push(staged(libc));
        }
        let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
        let action = Action::BuildCrate(name.into());
        self.add(&staged(name), action, &needs, Vec::new(), recipe.finish());
        Ok(())
    }

    /// Only for an image that has a pack.
    pub(super) fn packer(&mut self) {
        let Some(sources) = self.inputs.packer else { return };
        let recipe = Recipe::new(revision::CRATE)
            .field("rust", &self.inputs.rust)
            .field("cc", &self.inputs.cc)
            .field("target", Arch::HOST.triple())
            .digest("sources", sources);
        self.add(PACKER, Action::BuildPacker, &[CRATES], Vec::new(), recipe.finish());
    }

    pub(super) fn kernel(&mut self) -> Result<()> {
        let kernel = &self.config.kernel;
        let package = staged(kernel.package());
        let depmod = staged("kmod");
        let recipe = Recipe::new(revision::KERNEL)
            .digest("package", self.digest_of(&package)?)
            .digest("depmod", self.digest_of(&depmod)?)
            .field("early", kernel.early.join(" "))
            .field("load", kernel.load.join(" "))
            .field("modules", kernel.modules.join(" "))
            .field("options", format!("{:?}", kernel.options));
        self.add(KERNEL, Action::Kernel, &[&package, &depmod], Vec::new(), recipe.finish());
        Ok(())
    }

    pub(super) fn root(&mut self, packages: &[String]) -> Result<()> {
        let mkfs = staged("erofs-utils");
        let mut recipe = Recipe::new(revision::ROOT)
            .digest("mkfs", self.digest_of(&mkfs)?)
            .digest("kernel", self.digest_of(KERNEL)?)
            .field("erofs", format!("{:?}", self.config.erofs))
            .field("date", self.config.date.to_string())
            .field("name", &self.config.name)
            .field("layout", format!("{:?}", crate::tree::root::layout()));
        for rootfs in &self.inputs.rootfs {
            recipe =
                recipe.field("rootfs", rootfs.map_or(String::new(), |digest| digest.to_string()));
        }
        let mut needs = vec![mkfs, KERNEL.to_owned()];
        for name in packages {
            recipe = recipe.digest(name, self.digest_of(&staged(name))?);
            recipe = recipe.field("output", format!("{:?}", self.config.package(name).output));
            needs.push(staged(name));
        }
        let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
        self.add(ROOT, Action::Root, &needs, Vec::new(), recipe.finish());
        Ok(())
    }

    pub(super) fn pods(&mut self, packages: &[String]) -> Result<()> {
        let mkfs = staged("erofs-utils");
        let mut recipe = Recipe::new(revision::PODS)
            .digest("mkfs", self.digest_of(&mkfs)?)
            .field("erofs", format!("{:?}", self.config.erofs))
            .field("date", self.config.date.to_string());
        let mut needs = vec![mkfs];
        for name in packages {
            recipe = recipe
                .digest(name, self.digest_of(&staged(name))?)
                .digest("folder", self.folder(name)?);
            recipe = recipe.field("output", format!("{:?}", self.config.package(name).output));
            needs.push(staged(name));
            if let Some(base) = self.config.package(name).base() {
                recipe = recipe.digest("base", self.digest_of(&staged(base))?);
                needs.push(staged(base));
            }
        }
        if self.inputs.packer.is_some() {
            recipe = recipe.digest(PACKER, self.digest_of(PACKER)?);
            needs.push(PACKER.to_owned());
        }
        for pod in &self.config.pods {
            recipe = recipe.field("pod", &pod.name).field("manifest", &pod.text);
        }
        let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
        self.add(PODS, Action::Pods, &needs, Vec::new(), recipe.finish());
        Ok(())
    }

    pub(super) fn archive(&mut self) -> Result<()> {
        let needs = [staged(INIT), KERNEL.into(), ROOT.into(), PODS.into()];
        let mut recipe = Recipe::new(revision::ARCHIVE);
        for need in &needs {
            recipe = recipe.digest(need, self.digest_of(need)?);
        }
        let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
        self.add(ARCHIVE, Action::Archive, &needs, Vec::new(), recipe.finish());
        Ok(())
    }

    pub(super) fn uki(&mut self) -> Result<()> {
        let stub = staged("systemd-boot-efi");
        let recipe = Recipe::new(revision::UKI)
            .field("name", &self.config.name)
            .field("cmdline", &self.config.cmdline)
            .field("budget", format!("{:?}", self.config.budget))
            .digest("stub", self.digest_of(&stub)?)
            .digest("kernel", self.digest_of(KERNEL)?)
            .digest("archive", self.digest_of(ARCHIVE)?);
        self.add(
            UKI,
            Action::Uki,
            &[&stub, KERNEL, ARCHIVE, ROOT, PODS],
            Vec::new(),
            recipe.finish(),
        );
        Ok(())
    }

    fn folder(&self, name: &str) -> Result<Digest> {
        let digest = self.inputs.packages.get(name).copied();
        digest.ok_or_else(|| anyhow!("package `{name}` is not listed in build.toml's `packages`"))
    }
}
