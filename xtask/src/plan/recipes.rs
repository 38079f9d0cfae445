//! The steps of a package and of the image: what each needs, and the digest of all that changes it.

use anyhow::{Result, anyhow};
use kiln_contract::template;

use super::{ARCHIVE, Action, KERNEL, PACKER, PODS, Planner, ROOT, TEMPLATE, UKI, staged};
use crate::arch::Arch;
use crate::config::INIT;
use crate::digest::{Digest, Recipe};
use crate::revision;
use crate::source::crates;

impl Planner<'_> {
    /// Plans the steps of a package with its kind of source.
    pub(super) fn package(&mut self, name: &str) -> Result<()> {
        if self.plan.steps.contains_key(&staged(name)) {
            return Ok(());
        }
        let source = self.config.package(name).source.kind();
        let libraries = source.libraries();
        for library in libraries {
            self.package(library)?;
        }
        let digests = libraries.iter().map(|library| self.digest_of(&staged(library)));
        let digests = digests.collect::<Result<Vec<_>>>()?;
        let known = self.inputs.known(self.config, self.locks, name);
        let planned = source.plan(&known, &digests)?;
        let mut needs = Vec::new();
        if let Some(fetch) = planned.fetch {
            self.add(&fetch.step, Action::Fetch(name.into()), &[], Vec::new(), fetch.digest);
            needs.push(fetch.step);
        }
        needs.extend(libraries.iter().map(|library| staged(library)));
        let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
        let action = Action::Stage(name.into());
        self.add(&staged(name), action, &needs, planned.downloads, planned.digest);
        Ok(())
    }

    /// Plans the program that makes packs, if an image has one.
    pub(super) fn packer(&mut self) {
        let Some(sources) = self.inputs.packer else { return };
        let recipe = crates::recipe(&self.inputs.toolchain, Arch::HOST, sources);
        self.add(PACKER, Action::BuildPacker, &[crates::FETCH], Vec::new(), recipe.finish());
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
            .field("groups", format!("{:?}", kernel.groups))
            .field("options", format!("{:?}", kernel.options));
        self.add(KERNEL, Action::Kernel, &[&package, &depmod], Vec::new(), recipe.finish());
        Ok(())
    }

    pub(super) fn template(&mut self) -> Result<()> {
        let mke2fs = staged("e2fsprogs");
        let recipe = Recipe::new(revision::TEMPLATE)
            .digest("mke2fs", self.digest_of(&mke2fs)?)
            .field("size", template::BYTES.to_string())
            .field("journal", template::JOURNAL_MIB.to_string())
            .field("uuid", format!("{:02x?}", template::UUID))
            .field("date", self.config.date.to_string());
        self.add(TEMPLATE, Action::Template, &[&mke2fs], Vec::new(), recipe.finish());
        Ok(())
    }

    pub(super) fn root(&mut self, packages: &[String]) -> Result<()> {
        let mkfs = staged("erofs-utils");
        let mut recipe = Recipe::new(revision::ROOT)
            .digest("mkfs", self.digest_of(&mkfs)?)
            .digest("kernel", self.digest_of(KERNEL)?)
            .digest("template", self.digest_of(TEMPLATE)?)
            .field("erofs", format!("{:?}", self.config.erofs))
            .field("date", self.config.date.to_string())
            .field("name", &self.config.name)
            .field("layout", &self.inputs.layout);
        for rootfs in &self.inputs.rootfs {
            recipe =
                recipe.field("rootfs", rootfs.map_or(String::new(), |digest| digest.to_string()));
        }
        let mut needs = vec![mkfs, KERNEL.to_owned(), TEMPLATE.to_owned()];
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
        let digest = self.inputs.facts.get(name).map(|facts| facts.digest);
        digest.ok_or_else(|| anyhow!("package `{name}` is not listed in build.toml's `packages`"))
    }
}
