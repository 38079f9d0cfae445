//! One virtual machine: QEMU as a child, its console and its protocol socket.
//!
//! The machine resembles a small cloud server: UEFI (OVMF), q35, an `NVMe` disk with the ESP, virtio
//! network, random numbers, a watchdog and a serial console. All its files are in a folder of its own,
//! which is deleted with the machine.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::accel::{self, Accel};
use super::console::Console;
use super::esp;
use super::forward::Forward;
use super::qmp::Qmp;
use super::scratch::Scratch;
use crate::environment::SESSION;
use crate::process::{self, Running};
use crate::tool::HostTool;

/// QEMU's socket, below the machine's folder.
const QMP: &str = "qmp";

/// QEMU's own messages, below the machine's folder.
const LOG: &str = "qemu.log";

/// The firmware's variables, below the machine's folder.
const VARIABLES: &str = "variables.fd";

/// The boot disk, below the machine's folder.
const ESP: &str = "esp.img";

/// The longest time from QEMU's start to the first console line; after that KVM counts as broken.
/// OVMF needs one second on a quiet machine.
const FIRST_LINE_TIME_MAX: Duration = Duration::from_secs(30);

/// The hardware watchdog for which the cloud kernel has a driver. It resets the machine.
pub const WATCHDOG: &str = "i6300esb";

/// QEMU's name of the network that the machine's card is connected to.
const NETDEV: &str = "net";

/// The interval at which a waiting builder checks QEMU.
pub const LOOK: Duration = Duration::from_millis(50);

/// The parts of a machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// `qemu-system-x86_64`.
    pub qemu: HostTool,
    /// The program that starts first.
    pub start: Start,
    /// Memory in MiB.
    pub memory: u32,
    /// Ports of the host that are forwarded to the node, for [`Network::User`].
    pub forwards: Vec<Forward>,
    /// The network of its card.
    pub network: Network,
    /// Its hardware watchdog, a device of QEMU; an empty name means that it has no watchdog.
    pub watchdog: &'static str,
    /// More arguments for QEMU.
    pub extra: Vec<String>,
    /// The folder in which the machine's own folder is made, with room for a copy of the EFI file.
    pub scratch: PathBuf,
}

/// The program that a machine starts first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// UEFI firmware (OVMF), which starts an EFI file from an ESP, as on a real machine.
    Firmware {
        /// OVMF's code, `OVMF_CODE_4M.fd`.
        code: PathBuf,
        /// OVMF's variables, such as the empty `OVMF_VARS_4M.fd`; the machine gets a copy.
        variables: PathBuf,
        /// The file to boot, which is put on the ESP.
        efi: PathBuf,
        /// Files `NAME.cred`, which are put on the ESP for the EFI stub.
        credentials: Vec<PathBuf>,
    },
    /// The kernel, which QEMU puts into memory: no UEFI, no EFI stub and no ESP. This saves what
    /// the firmware needs to read and unpack the file.
    Kernel(Kernel),
}

/// The parts of an EFI file that QEMU can start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The kernel, a bzImage.
    pub image: PathBuf,
    /// The initramfs archive.
    pub archive: PathBuf,
    /// Kernel parameters.
    pub cmdline: String,
}

/// The network of a machine's card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// QEMU's own network (10.0.2.0/24) with DHCP and a route through the host.
    User,
    /// A network that several machines share.
    Segment {
        /// The path at which the [`super::segment::Segment`] looks for this machine's socket.
        socket: PathBuf,
        /// The hardware address of the card, which must differ from all others on the segment.
        mac: String,
    },
    /// A pair of Unix datagram sockets; every datagram is one Ethernet frame.
    Frames {
        /// The path of QEMU's socket.
        qemu: PathBuf,
        /// The path of the other side's socket.
        peer: PathBuf,
    },
}

/// A running machine, which is killed when this is dropped.
#[derive(Debug)]
pub struct Vm {
    // Fields are dropped in this order: first QEMU, then the folder that it uses.
    running: Running,
    qmp: Option<Qmp>,
    /// The serial console.
    pub console: Console,
    /// The time of QEMU's start.
    pub start: Instant,
    /// The accelerator that executes the guest's instructions.
    pub accel: Accel,
    /// The reason why KVM is not used, for people.
    pub note: Option<String>,
    folder: Scratch,
}

/// The way in which QEMU exited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The guest powered off or reset the machine (QEMU runs with `-no-reboot`).
    Guest,
    /// QEMU crashed or refused its arguments.
    Itself {
        /// The exit status and QEMU's messages.
        reason: String,
    },
}

impl Machine {
    /// Starts the machine with KVM if that works, and otherwise with emulation.
    pub fn start(&self) -> Result<Vm> {
        let choice = accel::choose();
        let mut note = choice.without_kvm;
        for &accel in &choice.order {
            let mut vm = self.start_with(accel)?;
            if accel == Accel::Tcg {
                vm.note = note;
                return Ok(vm);
            }
            match vm.trouble_before_life()? {
                None => return Ok(vm),
                Some(trouble) => {
                    let first = trouble.lines().next().unwrap_or_default();
                    note = Some(format!("KVM does not work: {first}"));
                }
            }
        }
        bail!("cannot run a virtual machine: there is no accelerator to try")
    }

    /// Starts the machine with this accelerator.
    pub fn start_with(&self, accel: Accel) -> Result<Vm> {
        let folder = self.folder()?;
        let log = File::create(folder.path().join(LOG)).context("cannot create QEMU's log")?;
        let command = self.qemu.command()?.args(self.arguments(accel)).args(&self.extra);
        let command = command
            .with(SESSION)
            .dir(folder.path())
            .own_group()
            .output_to(Stdio::piped(), log.into());
        let start = Instant::now();
        let mut running = command.spawn()?;
        let stdout = running.child().stdout.take().context("QEMU's output is not a pipe")?;
        let console = Console::read(stdout, start);
        Ok(Vm { running, qmp: None, console, start, accel, note: None, folder })
    }

    fn folder(&self) -> Result<Scratch> {
        let folder = Scratch::new(&self.scratch, "vm-")?;
        if let Start::Firmware { variables, efi, credentials, .. } = &self.start {
            copy(variables, &folder.path().join(VARIABLES))?;
            esp::write(efi, credentials, &folder.path().join(ESP))?;
        }
        Ok(folder)
    }

    /// QEMU runs in the machine's folder, so arguments use bare names for the files there.
    fn arguments(&self, accel: Accel) -> Vec<String> {
        let mut arguments: Vec<String> = accel.arguments().map(String::from).into();
        let fixed = [
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-machine",
            // Without the SATA controller, which a cloud server has not.
            "q35,sata=off",
            "-smp",
            "2",
            "-device",
            "virtio-rng-pci",
            "-chardev",
            "stdio,id=console,signal=off",
            "-serial",
            "chardev:console",
            "-qmp",
            "unix:qmp,server=on,wait=off",
        ];
        arguments.extend(self.start.arguments());
        arguments.extend(fixed.map(String::from));
        if !self.watchdog.is_empty() {
            arguments.extend(["-device".into(), self.watchdog.into()]);
        }
        arguments.extend(["-device".into(), self.card()]);
        arguments.extend(["-m".into(), self.memory.to_string(), "-netdev".into(), self.netdev()]);
        arguments
    }

    fn card(&self) -> String {
        let card = format!("virtio-net-pci,netdev={NETDEV},romfile=");
        match &self.network {
            Network::Segment { mac, .. } => format!("{card},mac={mac}"),
            Network::User | Network::Frames { .. } => card,
        }
    }

    fn netdev(&self) -> String {
        match &self.network {
            Network::User => {
                let forward =
                    |f: &Forward| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", f.host, f.guest);
                format!("user,id={NETDEV}{}", self.forwards.iter().map(forward).collect::<String>())
            }
            Network::Segment { socket, .. } => {
                format!("stream,id={NETDEV},server=on,addr.type=unix,addr.path={}", escape(socket))
            }
            Network::Frames { qemu, peer } => format!(
                "dgram,id={NETDEV},local.type=unix,local.path={},remote.type=unix,remote.path={}",
                escape(qemu),
                escape(peer)
            ),
        }
    }
}

/// The file that starts, for messages.
impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firmware { efi: file, .. } | Self::Kernel(Kernel { image: file, .. }) => {
                write!(f, "{}", file.display())
            }
        }
    }
}

impl Start {
    fn arguments(&self) -> Vec<String> {
        match self {
            Self::Firmware { code, .. } => {
                let code = escape(code);
                // The code's unit 0 must come before the variables' unit 1.
                let drives = [
                    format!("if=pflash,format=raw,readonly=on,file={code}"),
                    format!("if=pflash,format=raw,file={VARIABLES}"),
                    format!("if=none,id=esp,format=raw,file={ESP},readonly=on"),
                ];
                let drives = drives.into_iter().flat_map(|drive| ["-drive".to_owned(), drive]);
                let disk = ["-device", "nvme,drive=esp,serial=esp,bootindex=0"];
                drives.chain(disk.map(str::to_owned)).collect()
            }
            Self::Kernel(Kernel { image, archive, cmdline }) => {
                let path = |path: &Path| path.to_string_lossy().into_owned();
                let options = [
                    ("-kernel", path(image)),
                    ("-initrd", path(archive)),
                    ("-append", cmdline.clone()),
                ];
                options.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect()
            }
        }
    }
}

/// Doubles the commas of a path, because QEMU splits an option's value at single ones.
pub(super) fn escape(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut source = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut target = File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
    std::io::copy(&mut source, &mut target)
        .with_context(|| format!("cannot write {}", to.display()))?;
    Ok(())
}

impl Vm {
    /// Waits for the first console line; returns the reason if QEMU cannot run the machine.
    fn trouble_before_life(&mut self) -> Result<Option<String>> {
        while self.start.elapsed() < FIRST_LINE_TIME_MAX {
            process::check_interrupt()?;
            if !self.console.news(0, LOOK).lines.is_empty() {
                return Ok(None);
            }
            // After some failures, QEMU keeps running with a stopped guest, and only its log shows
            // it.
            let log = self.log();
            if log.contains("kvm run failed") || log.contains("KVM internal error") {
                return Ok(Some(log));
            }
            if let Some(End::Itself { reason }) = self.ended()? {
                return Ok(Some(reason));
            }
        }
        Ok(Some(format!("the console showed nothing for {} s", FIRST_LINE_TIME_MAX.as_secs())))
    }

    /// Copies the firmware's variables, if there are any, for another boot of the same machine.
    pub fn keep_variables(&self, to: &Path) -> Result<()> {
        let variables = self.folder.path().join(VARIABLES);
        if variables.exists() { copy(&variables, to) } else { Ok(()) }
    }

    /// Returns the way in which QEMU exited, if it has.
    pub fn ended(&mut self) -> Result<Option<End>> {
        let status = self.running.try_wait()?;
        Ok(status.map(|status| end(status, &self.log())))
    }

    /// Plugs the network cable in or pulls it out.
    pub fn cable(&mut self, plugged: bool) -> Result<()> {
        self.qmp()?.link(NETDEV, plugged)
    }

    /// Returns the connection to QEMU, which opens its socket before the guest's first instruction.
    pub fn qmp(&mut self) -> Result<&mut Qmp> {
        if self.qmp.is_none() {
            self.qmp = Some(Qmp::connect(self.folder.path(), QMP)?);
        }
        // The connection was made above.
        self.qmp.as_mut().context("no connection to QEMU")
    }

    /// Waits until QEMU exits, after the guest has announced that it goes down.
    pub fn wait_for_end(&mut self, patience: Duration) -> Result<End> {
        let until = Instant::now() + patience;
        loop {
            if let Some(end) = self.ended()? {
                return Ok(end);
            }
            if Instant::now() > until {
                bail!("the node is down, but QEMU still runs {} s later", patience.as_secs());
            }
            thread::sleep(LOOK);
        }
    }

    fn log(&self) -> String {
        // The log is only a detail of an error message, which is correct without it.
        let log = fs::read(self.folder.path().join(LOG)).unwrap_or_default();
        String::from_utf8_lossy(&log).trim().to_owned()
    }
}

fn end(status: ExitStatus, log: &str) -> End {
    if status.success() {
        return End::Guest;
    }
    let words = if log.is_empty() { "it left no message" } else { log };
    End::Itself { reason: format!("QEMU failed with {status}: {words}") }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn machine(network: Network) -> Machine {
        Machine {
            qemu: HostTool::new(Path::new("/tools"), "qemu-system-x86_64"),
            start: Start::Firmware {
                code: "/a,b/code.fd".into(),
                variables: "/vars.fd".into(),
                efi: "/kiln.efi".into(),
                credentials: Vec::new(),
            },
            memory: 512,
            forwards: vec![Forward { host: 18080, guest: 8080 }],
            network,
            watchdog: WATCHDOG,
            extra: Vec::new(),
            scratch: "/scratch".into(),
        }
    }

    #[test]
    fn forwards_listen_on_loopback_only() {
        let netdev = machine(Network::User).netdev();
        assert_eq!(netdev, "user,id=net,hostfwd=tcp:127.0.0.1:18080-:8080");
    }

    #[test]
    fn a_comma_in_a_path_does_not_split_an_option() {
        let arguments = machine(Network::User).arguments(Accel::Tcg);
        let code =
            arguments.iter().find(|argument| argument.contains("readonly=on,file=/a,,b/code.fd"));
        assert!(code.is_some(), "{arguments:?}");
    }

    #[test]
    fn without_firmware_there_is_neither_flash_nor_a_boot_disk() {
        let start = Start::Kernel(Kernel {
            image: "/vmlinuz".into(),
            archive: "/archive".into(),
            cmdline: "a b".into(),
        });
        let expected = ["-kernel", "/vmlinuz", "-initrd", "/archive", "-append", "a b"];
        assert_eq!(start.arguments(), expected);
    }

    #[test]
    fn a_crash_of_qemu_is_distinguished_from_a_guest_that_powers_off() {
        assert_eq!(end(ExitStatus::from_raw(0), "noise"), End::Guest);
        let crash = end(ExitStatus::from_raw(6), "iotlb_to_section: Assertion failed");
        let End::Itself { reason } = crash else { panic!("{crash:?}") };
        assert!(reason.contains("SIGABRT") && reason.contains("iotlb_to_section"), "{reason}");
    }
}
