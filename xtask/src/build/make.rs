//! One step: chooses the source or writer that makes it, and the entries that it needs.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kiln_contract::path;
use xshell::cmd;

use super::Builder;
use super::made::{Made, PACKER_PROGRAM, dir, packer, tool};
use super::report::{self, Contents};
use super::staged::{cached, list};
use crate::arch::Arch;
use crate::assemble::{self, pods};
use crate::config::{INIT, JUDGES, Output, QEMU};
use crate::host;
use crate::image::{cpio, erofs, ext4, uki};
use crate::kernel::{self, groups};
use crate::lock::Locked;
use crate::plan::{ARCHIVE, Action, KERNEL, PODS, ROOT, Step, TEMPLATE, staged};
use crate::process::{Command, shell};
use crate::source::cargo::Cargo;
use crate::source::{Download, Kind, Making, crates, go};
use crate::tree::staged::Staged;
use crate::tree::{Node, Tree};

/// The crate that has the program that makes packs.
const PACKER_CRATE: &str = "static-server";

/// The result of [`TEMPLATE`].
const TEMPLATE_FILE: &str = "ext4";

/// Makes a step's files in `out`, an empty folder.
pub(super) fn run(builder: &Builder, step: &Step, needs: &Made, out: &Path) -> Result<()> {
    match &step.action {
        Action::Fetch(name) => kind(builder, name).fetch(&making(builder, name, step, needs, out)?),
        Action::Stage(name) => stage(builder, name, step, needs, out),
        Action::Kernel => stage_kernel(builder, needs, out),
        Action::Template => template(builder, needs, out),
        Action::BuildPacker => build_packer(builder, out),
        Action::Root => root(builder, step, needs, out),
        Action::Pods => pods_erofs(builder, needs, out),
        Action::Archive => archive(builder, needs, out),
        Action::Uki => efi(builder, needs, out),
    }
}

fn kind<'a>(builder: &'a Builder, name: &str) -> &'a dyn Kind {
    builder.config.package(name).source.kind()
}

fn stage(builder: &Builder, name: &str, step: &Step, needs: &Made, out: &Path) -> Result<()> {
    kind(builder, name).stage(&making(builder, name, step, needs, out)?)?;
    if name == QEMU { host::prepare_qemu(out) } else { Ok(()) }
}

fn making<'a>(
    builder: &'a Builder,
    name: &'a str,
    step: &Step,
    needs: &Made,
    out: &'a Path,
) -> Result<Making<'a>> {
    let downloads = step
        .downloads
        .iter()
        .map(|file| Ok(Download { name: file.name.clone(), path: downloaded(builder, file)? }));
    let libraries = kind(builder, name).libraries().iter().map(|library| staged(library));
    // A fetch step needs no libraries.
    let libraries = libraries.filter(|step_name| step.needs.contains(step_name));
    let libraries = libraries.map(|step_name| dir(needs, &step_name));
    Ok(Making {
        package: builder.config.subject(name),
        facts: builder.inputs.facts.get(name),
        workspace: &builder.inputs.workspace,
        downloads: downloads.collect::<Result<_>>()?,
        libraries: libraries.collect::<Result<_>>()?,
        cache: &builder.cache,
        progress: &builder.progress,
        out,
    })
}

fn downloaded(builder: &Builder, file: &Locked) -> Result<PathBuf> {
    let found = builder.cache.download(file.sha256)?;
    found.with_context(|| {
        format!("{} was damaged or removed after its download; build again", file.name)
    })
}

fn stage_kernel(builder: &Builder, needs: &Made, out: &Path) -> Result<()> {
    let config = &builder.config;
    let package = dir(needs, &staged(config.kernel.package()))?;
    let depmod = tool(needs, "kmod", "depmod")?;
    kernel::stage(&config.kernel, &package, &depmod, out, &builder.progress)
}

fn build_packer(builder: &Builder, out: &Path) -> Result<()> {
    let program =
        crates::Program { package: PACKER_CRATE, name: PACKER_PROGRAM, features: &[], libc: None };
    let home = builder.cache.dir(crates::HOME)?;
    let cargo = Cargo::new(&builder.inputs.workspace, &home)?;
    crates::build(program, &cargo, Arch::HOST, out, &builder.progress)
}

fn template(builder: &Builder, needs: &Made, out: &Path) -> Result<()> {
    let conf = dir(needs, &staged("e2fsprogs"))?.join("etc/mke2fs.conf");
    let mke2fs = tool(needs, "e2fsprogs", "mke2fs")?;
    let bytes = ext4::make(&mke2fs, &conf, builder.config.date, out)?;
    fs::write(out.join(TEMPLATE_FILE), bytes).context("cannot write the template")
}

fn root(builder: &Builder, step: &Step, needs: &Made, out: &Path) -> Result<()> {
    let config = &builder.config;
    let kernel = list(builder.config.kernel.package(), &dir(needs, KERNEL)?)?;
    let listed = config
        .listed
        .iter()
        .filter(|name| matches!(config.package(name).output, Output::Rootfs(_)));
    let packages =
        listed.map(|name| list(name, &dir(needs, &staged(name))?)).collect::<Result<Vec<_>>>()?;
    let layers = config.rootfs.iter().filter(|rootfs| rootfs.exists());
    let layers = layers.map(|rootfs| list("rootfs", rootfs)).collect::<Result<Vec<_>>>()?;
    let template = cached(dir(needs, TEMPLATE)?.join(TEMPLATE_FILE))?;
    let build_id = assemble::root::build_id(&step.digest);
    let tree = assemble::root::build(config, &build_id, &kernel, &packages, &layers, template)?;
    let found = assemble::root::executables(&tree);
    anyhow::ensure!(
        found.len() <= config.budget.executables,
        "the root has {} executables, but its budget is {}: {}",
        found.len(),
        config.budget.executables,
        found.join(", ")
    );
    let modules = rare_files(needs)?;
    write_erofs(builder, needs, &tree, &modules, &out.join(ROOT))?;
    Contents::of(&tree).write(&out.join(report::CONTENTS))
}

fn pods_erofs(builder: &Builder, needs: &Made, out: &Path) -> Result<()> {
    let config = &builder.config;
    let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
    let mut packages = Vec::new();
    for (package, _) in config.images() {
        packages.push(image_files(&package.name, builder, needs, scratch.path())?);
    }
    let tree = pods::build(config, &packages)?;
    write_erofs(builder, needs, &tree, &[], &out.join(PODS))?;
    Contents::of(&tree).write(&out.join(report::CONTENTS))
}

/// Returns the files that a package's image is made of. Packs are made in `scratch`, which must
/// outlive the result.
pub fn image_files(
    name: &str,
    builder: &Builder,
    needs: &Made,
    scratch: &Path,
) -> Result<pods::Files> {
    let package = builder.config.package(name);
    let mut packs = Staged { owner: name.to_owned(), ..Staged::default() };
    for (number, (folder, _)) in package.packs().enumerate() {
        let pack = scratch.join(format!("{name}-{number}.pack"));
        let (sh, packer, content) = (shell()?, packer(needs)?, package.folder.join(folder));
        Command::from(cmd!(sh, "{packer} --in {content} --out {pack}")).output().with_context(
            || format!("cannot make a pack of `{folder}`, which pkgs/{name}/pkg.toml names"),
        )?;
        packs.files.insert(folder.clone(), Node::File(0o644, cached(pack)?));
    }
    let base = match package.base() {
        Some(base) => list(name, &dir(needs, &staged(base))?)?,
        None => Staged::default(),
    };
    Ok(pods::Files {
        base,
        staged: list(name, &dir(needs, &staged(name))?)?,
        folder: list(name, &package.folder)?,
        packs,
    })
}

/// Returns the paths in the root of the files that most nodes never read.
fn rare_files(needs: &Made) -> Result<Vec<String>> {
    let kernel = dir(needs, KERNEL)?;
    let release = fs::read_to_string(kernel.join("release"))?;
    let folder = format!("{}/{release}", path::MODULES);
    let paths = groups::read(&kernel)?.into_iter().flat_map(|group| group.paths);
    let config = format!("/boot/config-{release}");
    Ok(paths
        .map(|path| format!("{folder}/{path}"))
        .chain([config, path::E2FSCK.to_owned()])
        .collect())
}

fn write_erofs(
    builder: &Builder,
    needs: &Made,
    tree: &Tree,
    modules: &[String],
    out: &Path,
) -> Result<()> {
    let mkfs = tool(needs, "erofs-utils", "mkfs.erofs")?;
    let name = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let _task = builder.progress.task(&format!("{name}: compress"), None);
    let scratch = out.with_extension("scratch");
    fs::create_dir(&scratch)?;
    erofs::write(&mkfs, tree, builder.config.erofs, modules, out, &scratch)?;
    let fsck = tool(needs, "erofs-utils", "fsck.erofs")?;
    erofs::read_back(&fsck, tree, out, &scratch)?;
    Ok(fs::remove_dir_all(&scratch)?)
}

fn archive(builder: &Builder, needs: &Made, out: &Path) -> Result<()> {
    let init = list(INIT, &dir(needs, &staged(INIT))?)?;
    let kernel = list(builder.config.kernel.package(), &dir(needs, KERNEL)?)?;
    let root = cached(dir(needs, ROOT)?.join(ROOT))?;
    let pods = cached(dir(needs, PODS)?.join(PODS))?;
    let tree = assemble::archive::build(&init, &kernel, root, pods)?;
    let mut file = create(&out.join(ARCHIVE))?;
    cpio::write(&tree, &mut file)?;
    file.flush()?;
    Contents::of(&tree).write(&out.join(report::CONTENTS))
}

fn efi(builder: &Builder, needs: &Made, out: &Path) -> Result<()> {
    let mut file = create(&out.join(report::EFI))?;
    uki::write(&parts(builder, needs)?, &mut file)?;
    file.flush()?;
    report::check_limit(&builder.config, &out.join(report::EFI))?;
    report::write(builder, needs, out)
}

fn parts(builder: &Builder, needs: &Made) -> Result<uki::Parts> {
    let config = &builder.config;
    let root = builder.plan.steps.get(ROOT).context("the plan has no root")?;
    let build_id = assemble::root::build_id(&root.digest);
    let kernel = dir(needs, KERNEL)?;
    let stub =
        dir(needs, &staged("systemd-boot-efi"))?.join(config.arch.stub().trim_start_matches('/'));
    Ok(uki::Parts {
        stub: cached(stub)?,
        os_release: assemble::root::os_release(config, &build_id),
        cmdline: config.cmdline.clone(),
        uname: fs::read_to_string(kernel.join("release"))
            .context("cannot read the kernel's release")?,
        linux: cached(kernel.join("vmlinuz"))?,
        initrd: cached(dir(needs, ARCHIVE)?.join(ARCHIVE))?,
    })
}

impl Builder {
    /// The folders in which Go keeps modules and compiled packages.
    pub fn go_caches(&self) -> Result<go::Caches> {
        go::Caches::new(&self.cache)
    }

    /// Returns the parts of the finished file, and the programs that judge it.
    pub fn uki_parts(&self) -> Result<(uki::Parts, Made)> {
        let judges = JUDGES.map(staged);
        let stub = staged("systemd-boot-efi");
        let steps = [KERNEL, ARCHIVE, stub.as_str()].into_iter();
        let steps: Vec<&str> = steps.chain(judges.iter().map(String::as_str)).collect();
        let made = self.make(&steps)?;
        Ok((parts(self, &made)?, made))
    }
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(BufWriter::new(file))
}
