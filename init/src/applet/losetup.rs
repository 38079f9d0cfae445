//! `losetup` (losetup(8)): files as block devices. kubelet calls `losetup -f FILE` and
//! `losetup -d DEVICE` for volumes with `volumeMode: Block`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use lexopt::Parser;
use lexopt::prelude::*;

use crate::kernel::loop_device::{self, Attached, Options};

/// The exit status of losetup(8) for every failure.
const FAILED: i32 = 1;

/// A parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    verb: Verb,
    places: Vec<PathBuf>,
    options: Options,
    /// True to print the device that was found for the file.
    show: bool,
}

/// The action.
#[derive(Debug, Default, PartialEq, Eq)]
enum Verb {
    /// Attaches a file to the device that is named before it, or shows the named device.
    #[default]
    Device,
    /// Shows all devices with a file.
    All,
    /// Finds a free device, and attaches the file if there is one.
    Find,
    /// Detaches the devices.
    Detach,
    /// Detaches all devices.
    DetachAll,
    /// Shows the devices of a file.
    Associated(PathBuf),
}

/// Runs the applet.
#[must_use]
pub fn run(args: &[String]) -> i32 {
    let result = parse(args).and_then(|request| request.perform());
    match result {
        Ok(lines) => {
            for line in lines {
                println!("{line}");
            }
            0
        }
        Err(error) => {
            eprintln!("losetup: {error:#}");
            FAILED
        }
    }
}

/// Parses the arguments.
fn parse(args: &[String]) -> Result<Request> {
    let mut request = Request::default();
    let mut args = Parser::from_args(args);
    while let Some(arg) = args.next()? {
        match arg {
            Short('a') | Long("all") => request.verb = Verb::All,
            Short('f') | Long("find") => request.verb = Verb::Find,
            Short('d') | Long("detach") => request.verb = Verb::Detach,
            Short('D') | Long("detach-all") => request.verb = Verb::DetachAll,
            Short('j') | Long("associated") => {
                request.verb = Verb::Associated(args.value()?.into());
            }
            Short('r') | Long("read-only") => request.options.read_only = true,
            Short('P') | Long("partscan") => request.options.partitions = true,
            Short('o') | Long("offset") => request.options.offset = args.value()?.parse()?,
            Long("sizelimit") => request.options.size = args.value()?.parse()?,
            Long("direct-io") => request.options.direct = switch(args.optional_value().as_deref())?,
            Long("show") => request.show = true,
            Short('v') | Long("verbose") => {}
            Value(place) => request.places.push(place.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(request)
}

/// Parses the value of a switch that is on without one.
fn switch(value: Option<&OsStr>) -> Result<bool> {
    match value.map(OsStr::to_string_lossy).as_deref() {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(other) => bail!("bad usage: {other:?} is neither on nor off"),
    }
}

impl Request {
    /// Returns the lines to print.
    fn perform(&self) -> Result<Vec<String>> {
        match (&self.verb, &self.places[..]) {
            (Verb::Find, []) => Ok(vec![loop_device::next_free()?.display().to_string()]),
            (Verb::Find, [file]) => self.attach(file),
            (Verb::Device, [device, file]) => {
                loop_device::attach_to(device, file, self.options)?;
                Ok(self.shown(device))
            }
            (Verb::Device, [device]) => {
                let found = loop_device::attached().into_iter().find(|one| one.device == *device);
                found
                    .map(|one| vec![line(&one)])
                    .with_context(|| format!("{} has no file", device.display()))
            }
            (Verb::All | Verb::Device, []) => {
                Ok(loop_device::attached().iter().map(line).collect())
            }
            (Verb::Associated(file), []) => associated(file),
            (Verb::Detach, [_, ..]) => detach(self.places.iter().cloned()),
            (Verb::DetachAll, []) => {
                detach(loop_device::attached().into_iter().map(|one| one.device))
            }
            _ => bail!("bad usage: too many or too few devices and files"),
        }
    }

    fn attach(&self, file: &Path) -> Result<Vec<String>> {
        // The open device is closed here; without `auto_clear` it keeps its file.
        let (device, _) = loop_device::attach(file, self.options)?;
        Ok(self.shown(&device))
    }

    fn shown(&self, device: &Path) -> Vec<String> {
        if self.show { vec![device.display().to_string()] } else { Vec::new() }
    }
}

fn detach(devices: impl Iterator<Item = PathBuf>) -> Result<Vec<String>> {
    for device in devices {
        loop_device::detach(&device)
            .with_context(|| format!("{}: detach failed", device.display()))?;
    }
    Ok(Vec::new())
}

fn associated(file: &Path) -> Result<Vec<String>> {
    let path = loop_device::kernel_path(file)?;
    let path = path.to_string_lossy();
    let all = loop_device::attached();
    Ok(all.iter().filter(|one| one.file.2 == path).map(line).collect())
}

/// Formats a device in the way that callers of `losetup -a` and `-j` parse.
fn line(one: &Attached) -> String {
    let (device, inode, path) = &one.file;
    format!("{}: [{device:04}]:{inode} ({path})", one.device.display())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Options, Request, Verb, line, parse};
    use crate::kernel::loop_device::Attached;

    fn request(line: &str) -> anyhow::Result<Request> {
        parse(&line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn check(line: &str, verb: Verb, places: &[&str], options: Options) {
        let places = places.iter().map(PathBuf::from).collect();
        let show = line.contains("--show");
        assert_eq!(request(line).unwrap(), Request { verb, places, options, show }, "{line}");
    }

    #[test]
    fn the_calls_of_kubelet_and_volume_drivers_are_understood() {
        let none = Options::default();
        check("-f /var/lib/kubelet/plugins/x", Verb::Find, &["/var/lib/kubelet/plugins/x"], none);
        check("-d /dev/loop0", Verb::Detach, &["/dev/loop0"], none);
        check("-j /file", Verb::Associated("/file".into()), &[], none);
        check("-f", Verb::Find, &[], none);
        check("-a", Verb::All, &[], none);
        check("", Verb::Device, &[], none);
        check("-f --show /file", Verb::Find, &["/file"], none);
        let direct = Options { direct: true, read_only: true, partitions: true, ..none };
        check("--direct-io=on -rP -f --show /file", Verb::Find, &["/file"], direct);
        let part = Options { offset: 512, size: 1024, ..none };
        check(
            "-o 512 --sizelimit 1024 /dev/loop3 /file",
            Verb::Device,
            &["/dev/loop3", "/file"],
            part,
        );
    }

    #[test]
    fn wrong_usage_is_an_error() {
        for line in ["-x", "-j", "-o many /file", "--direct-io=maybe -f /file"] {
            assert!(request(line).is_err(), "{line}");
        }
        for line in ["-d", "-f /a /b", "-a /a", "/a /b /c"] {
            let error = request(line).unwrap().perform().unwrap_err().to_string();
            assert!(error.starts_with("bad usage"), "{line}: {error}");
        }
    }

    #[test]
    fn a_device_is_shown_as_losetup_shows_it() {
        let one = Attached { device: "/dev/loop0".into(), file: (26, 1234, "/var/disk".into()) };
        assert_eq!(line(&one), "/dev/loop0: [0026]:1234 (/var/disk)");
    }
}
