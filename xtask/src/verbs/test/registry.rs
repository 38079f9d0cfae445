//! A container image on its way through a registry: pushed, pulled, built upon and served.
//!
//! The registry is Docker's own, on a port of this host that only the check knows.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::image::crane;
use crate::build::{Builder, tool};
use crate::config::REGISTRY;
use crate::host::HostTool;
use crate::image::oci::Layout;
use crate::plan::staged;
use crate::port;
use crate::process::{self, Command, Running};
use crate::qemu::get;
use crate::registry;

/// The package whose image is pushed.
const PACKAGE: &str = "static-server";

/// The page of the site that is put on top of the image.
const PAGE: &str = "a page from an image that was built upon Kiln's\n";

/// The time a server gets for its first answer.
const START_MAX: Duration = Duration::from_secs(30);

/// The time between two requests to a server that is starting.
const PAUSE: Duration = Duration::from_millis(50);

/// Pushes an image, pulls it, and serves a site from an image that starts with it.
pub(super) fn check(builder: &Builder) -> Result<String> {
    let layout = builder.container_image(PACKAGE)?;
    let crane = crane(builder)?;
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let port = port::free()?;
    let _registry = start_registry(builder, scratch.path(), port)?;
    let reference = format!("127.0.0.1:{port}/kiln/{PACKAGE}:test");
    let digest = registry::push(&crane, &layout, &reference, None)?;
    let pulled = scratch.path().join("pulled");
    crane.command()?.args(["pull", "--format=oci", &reference]).arg(&pulled).read()?;
    compare(&layout, &pulled)?;
    let derived = build_upon(&crane, &reference, scratch.path())?;
    serve(&export(&crane, &derived, scratch.path())?)?;
    Ok(format!("sha256:{}", &digest.to_string()[..12]))
}

fn start_registry(builder: &Builder, scratch: &Path, port: u16) -> Result<Running> {
    let made = builder.make(&[&staged(REGISTRY)])?;
    let tool = tool(&made, REGISTRY, REGISTRY)?;
    let folder = scratch.join("registry");
    let settings = registry::Settings { folder: &folder, port, tls: None, users: None };
    let command = registry::command(&tool, settings)?;
    start(command, &format!("http://127.0.0.1:{port}/v2/"))
}

/// Starts a server and waits until `url` answers with 200.
fn start(command: Command, url: &str) -> Result<Running> {
    let mut running = command.output_to(Stdio::null(), Stdio::null()).spawn()?;
    let begin = Instant::now();
    while !get(url, START_MAX).is_ok_and(|page| page.status == 200) {
        process::check_interrupt()?;
        ensure!(running.try_wait()?.is_none(), "the server for {url} stopped immediately");
        ensure!(begin.elapsed() < START_MAX, "{url} does not answer");
        std::thread::sleep(PAUSE);
    }
    Ok(running)
}

/// Checks that every pushed blob comes back unchanged.
fn compare(layout: &Layout, pulled: &Path) -> Result<()> {
    for (path, file) in layout.files.iter().filter(|(path, _)| path.starts_with("blobs/")) {
        let bytes = fs::read(pulled.join(path)).with_context(|| format!("{path} is missing"))?;
        ensure!(bytes[..] == file.bytes[..], "{path} came back with other bytes");
    }
    Ok(())
}

/// Does what `FROM` and `COPY site /content` do: adds a layer with a folder.
fn build_upon(crane: &HostTool, base: &str, scratch: &Path) -> Result<String> {
    let layer = scratch.join("site.tar");
    let file = File::create(&layer).with_context(|| format!("cannot write {}", layer.display()))?;
    let mut tar = tar::Builder::new(file);
    let mut header = tar::Header::new_ustar();
    header.set_size(PAGE.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "content/index.html", PAGE.as_bytes())?;
    tar.finish()?;
    let derived = base.replace(":test", ":site");
    let append = crane.command()?.args(["append", "--base", base, "--new_tag", &derived]);
    append.arg("--new_layer").arg(layer).read()?;
    Ok(derived)
}

/// Unpacks the file system of an image.
fn export(crane: &HostTool, reference: &str, scratch: &Path) -> Result<PathBuf> {
    let (archive, root) = (scratch.join("root.tar"), scratch.join("root"));
    crane.command()?.args(["export", reference]).arg(&archive).read()?;
    tar::Archive::new(File::open(&archive)?)
        .unpack(&root)
        .with_context(|| format!("cannot unpack the file system of {reference}"))?;
    Ok(root)
}

/// Starts the server from the image's file system and requests the page.
fn serve(root: &Path) -> Result<()> {
    let port = port::free()?.to_string();
    let command =
        Command::new(root.join(PACKAGE)).args(["--bind-ip", "127.0.0.1", "--port", &port]);
    let url = format!("http://127.0.0.1:{port}/");
    let _server = start(command.arg("--static-dir").arg(root.join("content")), &url)?;
    let page = get(&url, START_MAX)?;
    ensure!(page.body == PAGE, "{url} answers with another page: {}", page.body);
    Ok(())
}
