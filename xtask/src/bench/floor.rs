//! The floor's image: `benches/floor/` and finished packages → a UKI in `target/kiln/floor/`.
//!
//! Kernel, kubelet, shim, runc, CNI plugins and the pod's images are the same as in Kiln's image.
//! containerd is upstream's own program, and `ctr` imports the images. None of this is a step of
//! the plan, so that a build does not depend on it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use kiln_contract::{archive, path, root};
use xshell::cmd;

use crate::arch::Arch;
use crate::assemble;
use crate::build::Builder;
use crate::build::staged::{cached, list};
use crate::build::{image_files, tool};
use crate::cache;
use crate::config::erofs::{Compression, Settings};
use crate::config::{Manifest, Output};
use crate::image::{cpio, erofs, oci, uki};
use crate::plan::{KERNEL, PACKER, staged};
use crate::process::{Command, shell};
use crate::source::Subject;
use crate::source::go::{self, Go};
use crate::tree::staged::Staged;
use crate::tree::{Content, Node, Tree};

/// The floor's own files, below the workspace.
const FOLDER: &str = "benches/floor";

/// The folder in which its image is made, below the workspace.
const OUT: &str = "target/kiln/floor";

/// The pod whose answer is measured.
const POD: &str = "static-server";

/// The package of the pause container, with which containerd starts every pod.
const PAUSE: &str = "pause";

/// Packages that the floor's root takes unchanged.
const SHARED: [&str; 4] = ["cni", "containerd-shim-runc-v2", "kubelet", "runc"];

/// The floor's own folder in its root.
const SHARE: &str = "/usr/share/floor";

/// The module that is loaded last, for reading the guest's memory.
const BALLOON: &str = "virtio_balloon";

/// The Go module of the floor's containerd, which sets its version.
const CONTAINERD: &str = "github.com/containerd/containerd/v2";

/// The build tags with which distributions build containerd.
const TAGS: [&str; 7] = [
    "no_btrfs",
    "no_devmapper",
    "no_zfs",
    "urfave_cli_no_docs",
    "netgo",
    "osusergo",
    "static_build",
];

/// The settings of the floor's root. They are fixed, so that the floor does not change with Kiln's
/// settings.
const EROFS: Settings = Settings {
    compression: Compression::Lz4hc(12),
    cluster: 64 * 1024,
    modules: Compression::Lz4hc(12),
};

/// The parameters that such an image needs to boot, and to use as little memory as Kiln's.
const CMDLINE: &str = "rootfstype=ramfs console=tty0 console=ttyS0 loglevel=6 panic=10 \
                       no_timer_check transparent_hugepage=never";

/// Mount points, and files that Kiln's PID 1 would write to a writable `/etc`.
const FOLDERS: [&str; 9] =
    ["/dev", "/mnt", "/opt", "/proc", "/root", "/run", "/sys", "/tmp", "/var"];
const ETC: [(&str, &str); 3] = [
    ("/etc/hosts", "127.0.0.1 localhost\n"),
    ("/etc/machine-id", "f100ff100ff100ff100ff100ff100ff1\n"),
    ("/etc/resolv.conf", "nameserver 10.0.2.3\n"),
];

/// The cache entries that the floor is made from.
struct Parts<'a> {
    builder: &'a Builder,
    folder: PathBuf,
    out: PathBuf,
    made: BTreeMap<String, cache::Entry>,
}

/// Makes the floor's UKI again, which takes seconds except for the compression of its root.
pub fn build(builder: &Builder) -> Result<PathBuf> {
    ensure!(
        builder.config.arch == Arch::HOST,
        "cannot build the floor for another architecture: it needs this machine's own C compiler"
    );
    let parts = Parts::gather(builder)?;
    let task = builder.progress.task("floor: image", None);
    let programs = parts.programs()?;
    let tree = parts.root(&programs)?;
    let root = parts.erofs(&tree)?;
    let tree = parts.archive(root)?;
    let efi = parts.uki(&tree)?;
    task.done();
    Ok(efi)
}

/// Returns the port on which the measured pod answers.
pub fn port(builder: &Builder) -> Result<u16> {
    let port = pod(builder)?.ports.first().copied();
    port.with_context(|| format!("the compared pod `{POD}` opens no port"))
}

fn pod(builder: &Builder) -> Result<&Manifest> {
    let found = builder.config.pods.iter().find(|pod| pod.name == POD);
    found.ok_or_else(|| {
        anyhow!("the comparison needs the pod `{POD}`, which is not among build.toml's `pods`")
    })
}

impl<'a> Parts<'a> {
    fn gather(builder: &'a Builder) -> Result<Self> {
        let packages = SHARED.iter().chain(&[POD, PAUSE, "systemd-boot-efi", "erofs-utils"]);
        let mut goals: Vec<String> = packages.map(|name| staged(name)).collect();
        goals.push(KERNEL.to_owned());
        goals.extend(builder.plan.steps.contains_key(PACKER).then(|| PACKER.to_owned()));
        let goals: Vec<&str> = goals.iter().map(String::as_str).collect();
        let (folder, out) =
            (builder.inputs.workspace.join(FOLDER), builder.inputs.workspace.join(OUT));
        fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
        Ok(Self { builder, folder, out, made: builder.make(&goals)? })
    }

    fn entry(&self, step: &str) -> Result<&Path> {
        let entry = self.made.get(step).with_context(|| format!("step `{step}` was not made"))?;
        Ok(entry.path())
    }

    fn staged(&self, package: &str) -> Result<Staged> {
        list(package, self.entry(&staged(package))?)
    }

    /// Builds `init`, `containerd` and `ctr` into a folder of their own.
    fn programs(&self) -> Result<Staged> {
        let out = self.out.join("bin");
        fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
        let (builder, package) = (self.builder, self.package());
        let go_mod = self.text("go.mod")?;
        let caches = builder.go_caches()?;
        go::fetch(&package, &caches, &builder.progress)?;
        let build = go::Build {
            caches: &caches,
            arch: builder.config.arch,
            date: builder.config.date,
            go_mod: &go_mod,
            libraries: &[],
            scratch: &self.out,
        };
        go::build(&package, &source(), &build, &out, &builder.progress)?;
        self.compile_init(&out.join("init"))?;
        list("floor", &out)
    }

    fn package(&self) -> Subject<'_> {
        Subject {
            name: "floor",
            folder: &self.folder,
            layer: &self.folder,
            arch: self.builder.config.arch,
            date: self.builder.config.date,
            smoke: None,
        }
    }

    fn compile_init(&self, out: &Path) -> Result<()> {
        let (sh, source) = (shell()?, self.folder.join("init.c"));
        let compile = cmd!(sh, "cc -static -Os -s -Wall -Wno-unused-result -o {out} {source}");
        let compiled = Command::from(compile).output();
        compiled.map(drop).context(
            "cannot compile the floor's init; it needs a C compiler with a static C library",
        )
    }

    fn root(&self, programs: &Staged) -> Result<Tree> {
        let config = &self.builder.config;
        let mut tree = Tree::default();
        for folder in FOLDERS {
            tree.add(folder, "floor", Node::Dir(0o755))?;
        }
        for (link, target) in root::LINKS {
            tree.add(link, "floor", Node::Link(target.to_owned()))?;
        }
        for name in ["containerd", "ctr"] {
            tree.add(&format!("{}/{name}", path::BIN), "floor", programs.get(name)?.clone())?;
        }
        for package in SHARED {
            self.add_package(&mut tree, package)?;
        }
        self.add_etc(&mut tree)?;
        tree.add(
            "/usr/lib/os-release",
            "floor",
            file(assemble::root::os_release(config, "floor")),
        )?;
        for name in ["containerd.toml", "kubelet.yaml"] {
            tree.add(&format!("{SHARE}/{name}"), "floor", file(self.text(name)?))?;
        }
        let name = format!("{POD}.yaml");
        tree.add(&format!("{}/{name}", path::MANIFESTS), "floor", file(self.text(&name)?))?;
        tree.add(&format!("{SHARE}/images.tar"), "floor", file(self.images()?))?;
        tree.add(&format!("{SHARE}/{BALLOON}.ko"), "floor", self.modules()?.find(BALLOON)?)?;
        Ok(tree)
    }

    fn add_package(&self, tree: &mut Tree, name: &str) -> Result<()> {
        let Output::Rootfs(files) = &self.builder.config.package(name).output else {
            return Err(anyhow!(
                "package `{name}`, which the floor shares, has no [output.rootfs]"
            ));
        };
        let staged = self.staged(name)?;
        for (from, to) in files {
            tree.add(to, name, staged.get(from)?.clone())?;
        }
        Ok(())
    }

    /// Adds Kiln's own `/etc`, which is read-only here.
    fn add_etc(&self, tree: &mut Tree) -> Result<()> {
        let source = self
            .builder
            .inputs
            .workspace
            .join("rootfs")
            .join(path::ETC_SOURCE.trim_start_matches('/'));
        for (name, node) in list("rootfs", &source)?.files {
            tree.add(&format!("/etc/{name}"), "rootfs", node)?;
        }
        for (path, text) in ETC {
            tree.add(path, "floor", file(text))?;
        }
        Ok(())
    }

    /// Returns the pod's images as one OCI archive for `ctr images import`.
    fn images(&self) -> Result<Vec<u8>> {
        let config = &self.builder.config;
        let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
        let mut images = Vec::new();
        for name in [PAUSE, POD] {
            let files = image_files(name, self.builder, &self.made, scratch.path())?;
            images.push(assemble::pods::image(config, &files)?);
        }
        let platform = oci::Platform { architecture: config.arch.go(), created: config.date };
        oci::layout(&images, platform)?.archive(config.date.into())
    }

    fn erofs(&self, tree: &Tree) -> Result<Content> {
        let image = self.out.join("root.erofs");
        let scratch = self.out.join("scratch");
        let _ = fs::remove_dir_all(&scratch);
        let _ = fs::remove_file(&image);
        fs::create_dir(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
        let mkfs = tool(&self.made, "erofs-utils", "mkfs.erofs")?;
        erofs::write(&mkfs, tree, EROFS, &[], &image, &scratch)?;
        fs::remove_dir_all(&scratch)?;
        cached(image)
    }

    fn archive(&self, root: Content) -> Result<Tree> {
        let modules = self.modules()?;
        let names = self.text("modules")?;
        let mut tree = Tree::default();
        for folder in ["/dev", "/proc", "/sys"] {
            tree.add(folder, "floor", Node::Dir(0o755))?;
        }
        tree.add(
            archive::INIT,
            "floor",
            list("floor", &self.out.join("bin"))?.get("init")?.clone(),
        )?;
        for name in names.lines() {
            tree.add(&format!("{}/{name}.ko", archive::MODULES), "kernel", modules.find(name)?)?;
        }
        tree.add(&format!("{}/list", archive::MODULES), "floor", file(names))?;
        tree.add(archive::ROOT, "floor", Node::File(0o444, root))?;
        Ok(tree)
    }

    fn modules(&self) -> Result<Modules> {
        Ok(Modules(list(KERNEL, self.entry(KERNEL)?)?))
    }

    fn uki(&self, tree: &Tree) -> Result<PathBuf> {
        let config = &self.builder.config;
        let kernel = self.entry(KERNEL)?;
        let initrd = self.out.join("initrd");
        write(&initrd, |out| cpio::write(tree, out))?;
        let stub = self
            .entry(&staged("systemd-boot-efi"))?
            .join(config.arch.stub().trim_start_matches('/'));
        let parts = uki::Parts {
            stub: cached(stub)?,
            os_release: assemble::root::os_release(config, "floor"),
            cmdline: CMDLINE.to_owned(),
            uname: fs::read_to_string(kernel.join("release"))
                .context("cannot read the kernel's release")?,
            linux: cached(kernel.join("vmlinuz"))?,
            initrd: cached(initrd)?,
        };
        let efi = self.out.join("floor.efi");
        write(&efi, |out| uki::write(&parts, out))?;
        Ok(efi)
    }

    fn text(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

/// Returns the source of upstream's containerd and ctr.
fn source() -> Go {
    let program = |name: &str| (name.to_owned(), format!("{CONTAINERD}/cmd/{name}"));
    Go {
        programs: ["containerd", "ctr"].map(program).into(),
        tags: TAGS.map(str::to_owned).into(),
        version_of: Some(CONTAINERD.to_owned()),
        variables: [(format!("{CONTAINERD}/version.Version"), "${version}".to_owned())].into(),
        cgo: false,
        libraries: Vec::new(),
        ldflags: Vec::new(),
    }
}

/// The kernel step's files.
struct Modules(Staged);

impl Modules {
    /// Returns a module by its name in the kernel; its file may have `-` for `_`.
    fn find(&self, name: &str) -> Result<Node> {
        let is = |path: &str| {
            path.rsplit('/').next().unwrap_or(path).replace('-', "_") == format!("{name}.ko")
        };
        let found = self.0.files.iter().find(|(path, _)| is(path));
        let found = found.with_context(|| {
            format!("the floor needs the module `{name}`, which the kernel's file does not list")
        })?;
        Ok(found.1.clone())
    }
}

fn file(bytes: impl Into<Vec<u8>>) -> Node {
    Node::File(0o644, Content::Bytes(Arc::from(bytes.into())))
}

fn write(path: &Path, content: impl FnOnce(&mut BufWriter<File>) -> Result<u64>) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut out = BufWriter::new(file);
    content(&mut out)?;
    Ok(out.flush()?)
}
