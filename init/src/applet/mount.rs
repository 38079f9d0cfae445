//! `mount` (mount(8)), as far as kubelet and containers use it.
//!
//! It makes new mounts, binds, remounts, moves and changes propagation, and executes a `mount.TYPE`
//! helper if there is one. `/etc/fstab` and labels are not supported.

use std::ffi::{CString, c_char};
use std::path::Path;

use anyhow::{Context, Result, bail};
use lexopt::Parser;
use lexopt::prelude::*;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};

use super::errno::describe;
use super::nfs;
use crate::kernel::loop_device::{self, Options};

/// The exit status of mount(8) for a failed mount, and of umount(8) for a failed unmount.
pub(super) const FAILED: i32 = 32;

/// The exit status of both for wrong usage.
pub(super) const USAGE: i32 = 1;

/// A parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    source: Option<String>,
    target: String,
    kind: Option<String>,
    operation: Operation,
    flags: Flags,
    data: Vec<String>,
    propagation: Vec<Propagation>,
    options: Vec<String>,
    /// True to mount a file through a loop device.
    of_file: bool,
}

/// The main operation.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum Operation {
    #[default]
    New,
    Bind {
        recursive: bool,
        remount: bool,
    },
    Remount,
    Move,
}

/// `MountFlags` as plain bits, so that tests can compare them.
type Flags = u32;

/// [`MountPropagationFlags`] as plain bits.
type Propagation = u32;

/// Runs the applet.
#[must_use]
pub fn run(args: &[String]) -> i32 {
    if args.is_empty() {
        print!("{}", std::fs::read_to_string("/proc/self/mounts").unwrap_or_default());
        return 0;
    }
    let request = match parse(args) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("mount: {error:#}");
            return USAGE;
        }
    };
    match request.perform() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("mount: {}: {error:#}.", request.target);
            FAILED
        }
    }
}

/// Parses the arguments.
pub fn parse(args: &[String]) -> Result<Request> {
    let mut request = Request::default();
    let mut places = Vec::new();
    let mut args = Parser::from_args(args);
    while let Some(arg) = args.next()? {
        match arg {
            Short('t') | Long("types") => request.kind = Some(args.value()?.string()?),
            Short('o') | Long("options") => request.take_options(&args.value()?.string()?)?,
            Short(letter) => request.take_letter(letter)?,
            Long(name) => request.take_name(name)?,
            Value(place) => places.push(place.string()?),
        }
    }
    request.take_places(&places)?;
    Ok(request)
}

impl Request {
    fn take_name(&mut self, name: &str) -> Result<()> {
        match name {
            "no-canonicalize" | "no-mtab" | "verbose" | "internal-only" | "sloppy" => Ok(()),
            "read-only" => self.take_option("ro"),
            "read-write" | "rw" => self.take_option("rw"),
            "bind" | "rbind" | "move" => self.take_option(name),
            _ => match name.strip_prefix("make-").filter(|kind| propagation(kind).is_some()) {
                Some(kind) => self.take_option(kind),
                None => bail!("unknown --{name}"),
            },
        }
    }

    fn take_letter(&mut self, letter: char) -> Result<()> {
        match letter {
            'r' => self.take_option("ro"),
            'w' => self.take_option("rw"),
            'B' => self.take_option("bind"),
            'R' => self.take_option("rbind"),
            'M' => self.take_option("move"),
            'c' | 'i' | 'n' | 's' | 'v' => Ok(()),
            _ => bail!("unknown -{letter}"),
        }
    }

    fn take_options(&mut self, options: &str) -> Result<()> {
        self.options.push(options.to_owned());
        options.split(',').filter(|option| !option.is_empty()).try_for_each(|o| self.take_option(o))
    }

    fn take_option(&mut self, option: &str) -> Result<()> {
        if let Some((flag, on)) = flag(option) {
            self.flags = if on { self.flags | flag.bits() } else { self.flags & !flag.bits() };
        } else if let Some(propagation) = propagation(option) {
            self.propagation.push(propagation.bits());
        } else if !self.take_operation(option) && !is_for_people(option) {
            match option.split_once('=') {
                None if option == "loop" => self.of_file = true,
                Some(("loop", _)) => bail!("`loop=` with a device is not supported, use `loop`"),
                _ => self.data.push(option.into()),
            }
        }
        Ok(())
    }

    fn take_operation(&mut self, option: &str) -> bool {
        self.operation = match (option, self.operation) {
            ("bind", Operation::Remount) => Operation::Bind { recursive: false, remount: true },
            ("bind", _) => Operation::Bind { recursive: false, remount: false },
            ("rbind", _) => Operation::Bind { recursive: true, remount: false },
            ("remount", Operation::Bind { recursive, .. }) => {
                Operation::Bind { recursive, remount: true }
            }
            ("remount", _) => Operation::Remount,
            ("move", _) => Operation::Move,
            _ => return false,
        };
        true
    }

    fn take_places(&mut self, places: &[String]) -> Result<()> {
        let only_target =
            matches!(self.operation, Operation::Remount | Operation::Bind { remount: true, .. })
                || !self.propagation.is_empty();
        match places {
            [source, target] => {
                (self.source, self.target) = (Some(source.clone()), target.clone());
            }
            [target] if only_target => self.target.clone_from(target),
            [_] => bail!("source or target is missing"),
            _ => bail!("exactly a source and a target are needed"),
        }
        Ok(())
    }

    fn perform(&self) -> Result<()> {
        let flags = MountFlags::from_bits_retain(self.flags);
        let target = self.target.as_str();
        let remounted = |result: Result<(), Errno>| result.map_err(|e| self.explain_remount(e));
        match self.operation {
            Operation::New if self.source.is_some() => self.mount_new(flags)?,
            Operation::New => {}
            Operation::Bind { remount: true, .. } => {
                remounted(rustix::mount::mount_remount(target, flags | MountFlags::BIND, ""))?;
            }
            Operation::Bind { recursive, .. } => self.bind(recursive, flags)?,
            Operation::Remount => {
                remounted(rustix::mount::mount_remount(target, flags, self.data.join(",")))?;
            }
            Operation::Move => {
                let source = self.source()?;
                rustix::mount::mount_move(source, target).map_err(|e| self.explain(e, ""))?;
            }
        }
        for &bits in &self.propagation {
            let propagation = MountPropagationFlags::from_bits_retain(bits);
            remounted(rustix::mount::mount_change(target, propagation))?;
        }
        Ok(())
    }

    fn source(&self) -> Result<&str> {
        self.source.as_deref().context("no source given")
    }

    /// Makes a bind mount and sets its flags by a second call, because the kernel ignores them in
    /// the first one.
    fn bind(&self, recursive: bool, flags: MountFlags) -> Result<()> {
        let (source, target) = (self.source()?, self.target.as_str());
        if recursive {
            rustix::mount::mount_bind_recursive(source, target)
        } else {
            rustix::mount::mount_bind(source, target)
        }
        .map_err(|error| self.explain(error, ""))?;
        if !flags.is_empty() {
            rustix::mount::mount_remount(target, flags | MountFlags::BIND, "")
                .map_err(|error| self.explain_remount(error))?;
        }
        Ok(())
    }

    fn mount_new(&self, flags: MountFlags) -> Result<()> {
        if !self.of_file {
            return self.mount_device(self.source()?, flags);
        }
        let read_only = flags.contains(MountFlags::RDONLY);
        let options = Options { read_only, auto_clear: true, ..Options::default() };
        // The mount keeps the device in use from here on.
        let (device, _open) = loop_device::attach(Path::new(self.source()?), options)?;
        self.mount_device(&device.to_string_lossy(), flags)
    }

    fn mount_device(&self, source: &str, flags: MountFlags) -> Result<()> {
        match self.kind.as_deref() {
            None | Some("auto") => self.mount_any(source, flags),
            Some(kind) => {
                self.execute_helper(kind, source)?;
                if nfs::is_nfs(kind) {
                    return nfs::mount(kind, source, &self.target, flags, &self.data);
                }
                self.mount_as(kind, source, flags).map_err(|error| self.explain(error, kind))
            }
        }
    }

    fn mount_as(&self, kind: &str, source: &str, flags: MountFlags) -> Result<(), Errno> {
        let data = CString::new(self.data.join(",")).map_err(|_| Errno::INVAL)?;
        rustix::mount::mount(source, self.target.as_str(), kind, flags, &*data)
    }

    /// Tries every file system type for devices that the kernel has.
    fn mount_any(&self, source: &str, flags: MountFlags) -> Result<()> {
        let kinds = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let mut last = Errno::INVAL;
        for kind in kinds.lines().filter_map(|line| line.strip_prefix('\t')) {
            match self.mount_as(kind, source, flags) {
                Ok(()) => return Ok(()),
                // The device has another type.
                Err(Errno::INVAL) => {}
                Err(error) => last = error,
            }
        }
        Err(self.explain(last, ""))
    }

    /// Returns the text that mount(8) prints, because callers search it.
    fn explain(&self, error: Errno, kind: &str) -> anyhow::Error {
        let source = self.source.as_deref().unwrap_or("none");
        let target_exists = Path::new(&self.target).exists();
        let text = match error {
            Errno::NODEV if !kind.is_empty() => format!("unknown filesystem type '{kind}'"),
            Errno::NOENT if !target_exists => "mount point does not exist".into(),
            Errno::NOENT => format!("special device {source} does not exist"),
            Errno::NOTDIR => "mount point is not a directory".into(),
            Errno::BUSY => format!("{source} already mounted or mount point busy"),
            Errno::NOTBLK => format!("{source} is not a block device"),
            Errno::PERM | Errno::ACCESS => "permission denied".into(),
            Errno::INVAL => format!(
                "wrong fs type, bad option, bad superblock on {source}, \
                 missing codepage or helper program, or other error"
            ),
            other => format!("mount(2) system call failed: {}", describe(other)),
        };
        anyhow::anyhow!(text)
    }

    fn explain_remount(&self, error: Errno) -> anyhow::Error {
        match error {
            Errno::INVAL => anyhow::anyhow!("mount point not mounted or bad option"),
            other => self.explain(other, ""),
        }
    }

    /// Executes `mount.TYPE` if it exists, such as `mount.nfs` from a package.
    fn execute_helper(&self, kind: &str, source: &str) -> Result<()> {
        let helper = format!("/usr/bin/mount.{kind}");
        if kind.contains('/') || !Path::new(&helper).exists() {
            return Ok(());
        }
        let mut args = vec![helper.as_str(), source, &self.target];
        let options = self.options.join(",");
        if !options.is_empty() {
            args.extend(["-o", &options]);
        }
        let args: Vec<CString> = args.into_iter().map(CString::new).collect::<Result<_, _>>()?;
        let mut pointers: Vec<*const c_char> = args.iter().map(|arg| arg.as_ptr()).collect();
        pointers.push(std::ptr::null());
        // SAFETY: the array ends with a null pointer, and its strings live until the call returns.
        unsafe { libc::execv(args[0].as_ptr(), pointers.as_ptr()) };
        Err(std::io::Error::last_os_error()).with_context(|| format!("cannot execute {helper}"))
    }
}

/// Returns the mount flag of an option, and true if the option sets it.
fn flag(option: &str) -> Option<(MountFlags, bool)> {
    Some(match option {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        "lazytime" => (MountFlags::LAZYTIME, true),
        "nolazytime" => (MountFlags::LAZYTIME, false),
        "silent" => (MountFlags::SILENT, true),
        "loud" => (MountFlags::SILENT, false),
        _ => return None,
    })
}

fn propagation(option: &str) -> Option<MountPropagationFlags> {
    let (recursive, name) = match option.strip_prefix('r') {
        Some(name @ ("shared" | "slave" | "private" | "unbindable")) => {
            (MountPropagationFlags::REC, name)
        }
        _ => (MountPropagationFlags::empty(), option),
    };
    let kind = match name {
        "shared" => MountPropagationFlags::SHARED,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "private" => MountPropagationFlags::PRIVATE,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(kind | recursive)
}

/// True for options that are not passed to the kernel.
fn is_for_people(option: &str) -> bool {
    let plain = ["defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser", "users"];
    let prefixes = ["x-", "X-", "comment=", "user="];
    plain.contains(&option) || prefixes.iter().any(|prefix| option.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustix::io::Errno;
    use rustix::mount::{MountFlags, MountPropagationFlags};

    use super::{Operation, Request, parse};

    fn request(line: &str) -> anyhow::Result<Request> {
        parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_calls_of_kubelet_are_understood() {
        let tmpfs = request("-t tmpfs -o noswap,size=1048576,ro tmpfs /var/lib/x").unwrap();
        assert_eq!(tmpfs.kind.as_deref(), Some("tmpfs"));
        assert_eq!(tmpfs.data, ["noswap", "size=1048576"]);
        assert_eq!(tmpfs.flags, MountFlags::RDONLY.bits());

        let bind = request("--no-canonicalize -o bind /proc/1/fd/9 /target").unwrap();
        assert_eq!(bind.operation, Operation::Bind { recursive: false, remount: false });
        for options in ["bind,remount,ro", "remount,bind,ro"] {
            let again = request(&format!("--no-canonicalize -o {options} /a /b")).unwrap();
            assert_eq!(again.operation, Operation::Bind { recursive: false, remount: true });
            assert_eq!((again.target.as_str(), again.flags), ("/b", MountFlags::RDONLY.bits()));
        }
    }

    #[test]
    fn propagation_needs_a_target_only() {
        for line in ["--make-rshared /", "-o rshared /"] {
            let shared = request(line).unwrap();
            let expected = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
            assert_eq!(shared.propagation, [expected.bits()]);
            assert_eq!(shared.target, "/");
        }
        let rslave = request("-o rbind,rslave /a /b").unwrap();
        assert_eq!(rslave.operation, Operation::Bind { recursive: true, remount: false });
        assert_eq!(rslave.propagation.len(), 1);
    }

    #[test]
    fn short_options_can_be_joined_and_the_last_of_two_options_wins() {
        let joined = request("-rtext4 -oro,rw,nosuid /dev/x /y").unwrap();
        assert_eq!(joined.kind.as_deref(), Some("ext4"));
        assert_eq!(joined.flags, MountFlags::NOSUID.bits());
    }

    #[test]
    fn a_file_is_mounted_through_a_loop_device() {
        let file = request("-o loop,ro /disk.img /mnt").unwrap();
        assert!(file.of_file && file.data.is_empty());
        assert!(!request("-o ro /dev/vda /mnt").unwrap().of_file);
    }

    #[test]
    fn wrong_usage_is_an_error() {
        for line in [
            "/a",
            "-t",
            "-x /a /b",
            "--make-it /a",
            "--make-ro /a",
            "--what /a /b",
            "/a /b /c",
            "-o loop=/dev/loop1 /a /b",
        ] {
            assert!(request(line).is_err(), "{line}");
        }
    }

    #[test]
    fn callers_find_the_text_that_they_search_for() {
        let tmpfs = request("-t nope /dev/x /").unwrap();
        for (error, expected) in [
            (Errno::NODEV, "unknown filesystem type 'nope'"),
            (Errno::NOENT, "special device /dev/x does not exist"),
            (Errno::BUSY, "/dev/x already mounted or mount point busy"),
            (Errno::IO, "mount(2) system call failed: Input/output error"),
        ] {
            assert_eq!(tmpfs.explain(error, "nope").to_string(), expected);
        }
        let remount = request("-o remount /").unwrap().explain_remount(Errno::INVAL);
        assert_eq!(remount.to_string(), "mount point not mounted or bad option");
    }

    proptest! {
        #[test]
        fn every_place_and_type_arrives(kind in "[a-z]{1,8}", source in "[a-z/]{1,20}", options in "[a-z]{1,8}(,[a-z]{1,8}=[0-9]{1,3}){0,3}") {
            let line = ["-t", &kind, "-o", &options, &source, "/target"].map(str::to_owned);
            if let Ok(request) = parse(&line) {
                prop_assert_eq!(request.kind, Some(kind));
                prop_assert_eq!(request.target, "/target".to_owned());
                prop_assert!(request.data.iter().all(|option| options.split(',').any(|o| o == option)));
            }
        }
    }
}
