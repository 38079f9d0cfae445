//! Runs one scenario: starts its machines and follows its instructions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::booted::{Booted, Crash};
use super::data::{Network, STUB_CMDLINE, Scenario};
use super::disks::Disks;
use super::instruction::{Cable, Figure, Get, Instruction, Kubectl, Lan, Look, Plug};
use super::joint::Joint;
use super::rig::{Digests, Image, Images, PROBE_PORT, Rig};
use super::watch::Watch;
use super::{clock, disk, handed, lan, nfs, ntp, page, refused};
use crate::cluster::{self, Credentials, Handover};
use crate::progress::Progress;
use crate::qemu::{self, End, Forward, Kernel, Machine, SILENCE, Scratch, Start};

/// The text in `qemu` and `kubectl` that stands for the folder `tests/vm`.
const TESTS: &str = "{tests}";

/// The longest time for one request that is repeated until the answer is as expected.
const TRY_MAX: Duration = Duration::from_secs(5);

/// The longest time for one action of the probe.
const ACT_MAX: Duration = SILENCE;

/// The largest number of console lines that a failed scenario leaves in a file.
pub const CONSOLE_LINES_MAX: usize = 20_000;

/// The largest number of requests for a page of the probe; the first ones may come too early.
const LOOKS_MAX: u32 = 60;

/// The pause between two requests.
const PAUSE: Duration = Duration::from_secs(1);

/// QEMU's name of the data disk.
const DISK: &str = "data";

/// The throughput of a stalled disk in bytes per second: a sector takes nine minutes. QEMU has no
/// setting of zero.
const STALLED: u64 = 1;

/// QEMU's value for no limit.
const UNLIMITED: u64 = 0;

/// The one shutdown after which the machine stays on.
const HALT: &str = "halt";

/// A scenario that runs.
pub struct Run<'a> {
    rig: &'a Rig,
    scenario: &'a Scenario,
    images: &'a Images,
    /// The machines that were started, by the number of the node.
    vms: BTreeMap<u8, Booted<'a>>,
    /// The node that instructions mean.
    node: u8,
    joint: Option<Joint>,
    disks: Disks,
    /// Arguments of QEMU with the credentials of the next boots.
    handed: Vec<String>,
    lan: Option<lan::Network>,
    /// The digests of the images that were booted, if the scenario compares them.
    digests: Digests,
    /// Figures that were within their bounds, for the report.
    pub figures: Vec<String>,
    /// The time server, which runs until the scenario ends.
    time: Option<ntp::Server>,
    // Kept until the scenario ends.
    _files: Option<nfs::Server>,
    folder: Scratch,
}

impl<'a> Run<'a> {
    /// Makes the scenario's disk and starts its network and time server.
    pub fn new(
        rig: &'a Rig,
        scenario: &'a Scenario,
        images: &'a Images,
        progress: &Progress,
    ) -> Result<Self> {
        let folder = Scratch::new(&rig.scratch, "scenario-")?;
        for node in 1..=scenario.cluster.map_or(1, |cluster| cluster.nodes) {
            if let Some(data) = scenario.disk {
                disk::make(&disk_file(&folder, node), data.mib, &rig.disks.mke2fs)?;
            }
        }
        let disks = Disks::make(&scenario.disks, folder.path(), &rig.disks)?;
        let joint = Joint::start(rig, scenario, folder.path(), progress)?;
        let lan = matches!(scenario.network, Network::Lan).then(lan::Network::start).transpose()?;
        let time = scenario.ntp.then(ntp::Server::start).transpose()?;
        let files = scenario.nfs.then(|| {
            let program = rig.nfs.get().context("the NFS server was not built")?;
            nfs::Server::start(program, folder.path())
        });
        let files = files.transpose()?;
        Ok(Self {
            rig,
            scenario,
            images,
            vms: BTreeMap::new(),
            node: 1,
            joint,
            disks,
            handed: Vec::new(),
            lan,
            digests: Digests::default(),
            figures: Vec::new(),
            time,
            _files: files,
            folder,
        })
    }

    /// Follows all instructions; calls `progress` with the index of each before it starts.
    pub fn follow(&mut self, mut progress: impl FnMut(usize)) -> Result<()> {
        for (at, instruction) in self.scenario.instructions.iter().enumerate() {
            progress(at);
            let result = self.follow_one(instruction).map_err(|error| self.explain(error));
            result.with_context(|| format!("instruction {}, {instruction}", at + 1))?;
        }
        Ok(())
    }

    /// Replaces the error of an instruction if QEMU has crashed, because then that is the cause.
    fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        for booted in self.vms.values_mut() {
            if let Ok(End::Itself { reason }) = booted.vm.wait_for_end(PAUSE) {
                return anyhow!(Crash(reason));
            }
        }
        match self.joint.as_mut().map(Joint::check) {
            Some(Err(cause)) => error.context(cause),
            _ => error,
        }
    }

    /// Returns the end of the console of the current machine, or of the last one.
    pub fn console(&self, lines: usize) -> String {
        self.vms.get(&self.node).map(|booted| booted.vm.console.last(lines)).unwrap_or_default()
    }

    /// Keeps the logs of the cluster, if there is one, and the consoles of its nodes.
    pub fn keep_logs(&self, to: &Path) {
        let Some(joint) = &self.joint else { return };
        // The error that is reported matters more than these files.
        let _ = joint.keep_logs(to);
        for (node, booted) in &self.vms {
            let console = booted.vm.console.last(CONSOLE_LINES_MAX);
            let _ = fs::write(to.join(format!("{}.console", cluster::node::name(*node))), console);
        }
    }

    fn follow_one(&mut self, instruction: &Instruction) -> Result<()> {
        match instruction {
            Instruction::Boot(image) => self.boot(image),
            Instruction::Console(text) => {
                self.booted()?.wait(|booted| Ok(booted.watch.find(|line| line.text.contains(text))))
            }
            Instruction::Get(get) => self.get(get),
            Instruction::Probe(look) => self.probe(look),
            Instruction::Act(look) => self.act(look),
            Instruction::Refused(paths) => self.refused(paths),
            Instruction::Figure(figure) => self.figure(figure),
            Instruction::Lan(lan) => self.lan(lan),
            Instruction::Cable(cable) => self.booted()?.vm.cable(*cable == Cable::In),
            Instruction::ServeTime(_) => {
                self.time = Some(ntp::Server::start()?);
                Ok(())
            }
            Instruction::Elapsed(elapsed) => self.heard()?.elapsed(elapsed),
            Instruction::StallDisk(_) => self.booted()?.vm.qmp()?.limit_bytes(DISK, STALLED),
            Instruction::ResumeDisk(_) => self.booted()?.vm.qmp()?.limit_bytes(DISK, UNLIMITED),
            Instruction::StopConsole(_) => self.read_console(false),
            Instruction::ResumeConsole(_) => self.read_console(true),
            Instruction::Plug(plug) => self.plug(plug),
            Instruction::Unplug(slot) => self.unplug(*slot),
            Instruction::Said(said) => self.heard()?.said(said),
            Instruction::CtrlAltDel(_) => {
                self.booted()?.vm.qmp()?.press(&["ctrl", "alt", "delete"])
            }
            Instruction::QemuEvent(name) => self.booted()?.vm.qmp()?.wait_for_event(name, SILENCE),
            Instruction::PowerButton(_) => self.booted()?.vm.qmp()?.power_button(),
            Instruction::PressUntil(text) => self.press_until(text),
            Instruction::Reset(by) => self.booted()?.wait_for_reset(*by),
            Instruction::Down(action) if action == HALT => self.halt(),
            Instruction::Down(action) => self.down(action),
            Instruction::Unmounted(_) => disk::check_unmounted(&self.disk()),
            Instruction::Enlarge(enlarge) => self.disks.enlarge(enlarge),
            Instruction::Damage(damage) => self.disks.damage(damage),
            Instruction::Sound(disk) => self.disks.check(disk),
            Instruction::Unchanged(disks) => {
                disks.iter().try_for_each(|disk| self.disks.check_unchanged(disk))
            }
            Instruction::PauseMillis(millis) => self.booted()?.pass(Duration::from_millis(*millis)),
            Instruction::PowerCut(_) => self.power_cut(),
            Instruction::Node(number) => {
                self.node = *number;
                Ok(())
            }
            Instruction::Kubectl(kubectl) => self.kubectl(kubectl),
            Instruction::Ready(ready) => self.ready(*ready),
            Instruction::Apply(file) => {
                let path = self.rig.objects().join(file);
                self.joint()?.apply(&path)
            }
            Instruction::Api(state) => self.joint()?.api(*state),
            Instruction::SameImage(_) => self.digests.check(self.images),
            Instruction::Channel(channel) => {
                self.joint()?.send_through(*channel);
                Ok(())
            }
            Instruction::Credentials(credentials) => {
                self.joint()?.give(credentials);
                Ok(())
            }
            Instruction::Late(credentials) => self.late(credentials),
            Instruction::Hand(handed) => {
                self.handed = handed::arguments(handed, self.folder.path(), &self.rig.genisoimage)?;
                Ok(())
            }
        }
    }

    fn booted(&mut self) -> Result<&mut Booted<'a>> {
        // `Scenario::check` guarantees a boot before this instruction.
        self.vms.get_mut(&self.node).context("no machine runs")
    }

    fn joint(&mut self) -> Result<&mut Joint> {
        // `Scenario::check` guarantees a cluster for its instructions.
        self.joint.as_mut().context("there is no cluster")
    }

    /// Runs kubectl again and again; without a machine, nothing can change, so once.
    fn kubectl(&mut self, kubectl: &Kubectl) -> Result<()> {
        let tests = self.rig.dir.to_string_lossy();
        let args = kubectl.args.iter().map(|text| text.replace(TESTS, &tests)).collect();
        let kubectl = &Kubectl { args, ..kubectl.clone() };
        let Self { joint, vms, node, .. } = self;
        let joint = joint.as_mut().context("there is no cluster")?;
        let Some(booted) = vms.get_mut(node) else { return joint.kubectl(kubectl) };
        let mut last = anyhow!("kubectl was not started");
        let asked = booted.wait(|_| {
            joint.check()?;
            Ok(joint.kubectl(kubectl).map_err(|error| last = error).is_ok())
        });
        asked.with_context(|| format!("last answer: {last:#}"))
    }

    /// Waits for the node's state; without a machine, the control plane can still change it.
    fn ready(&mut self, ready: bool) -> Result<()> {
        let Self { joint, vms, node, .. } = self;
        let joint = joint.as_mut().context("there is no cluster")?;
        let booted = vms.get_mut(node).context("the node was never started")?;
        booted.wait(|_| {
            joint.check()?;
            Ok(joint.is_ready(*node)? == Some(ready))
        })
    }

    /// The console up to now.
    fn heard(&mut self) -> Result<&Watch> {
        let booted = self.booted()?;
        booted.listen()?;
        Ok(&booted.watch)
    }

    fn boot(&mut self, image: &str) -> Result<()> {
        if let Some(booted) = self.vms.get(&self.node) {
            booted.vm.keep_variables(&self.variables())?;
        }
        let ports = &self.scenario.ports;
        let forwards = match &self.joint {
            Some(joint) => joint.forwards(ports)?,
            None => qemu::free_forwards(ports)?,
        };
        if self.scenario.compares_images() {
            self.digests.note(image, self.images)?;
        }
        let vm = self.machine(image, &forwards)?.start()?;
        self.vms.insert(self.node, Booted::new(vm, forwards, self.scenario));
        Ok(())
    }

    /// The firmware's variables, which exist after the first boot with firmware.
    fn variables(&self) -> PathBuf {
        self.folder.path().join(format!("variables-{}.fd", self.node))
    }

    fn disk(&self) -> PathBuf {
        disk_file(&self.folder, self.node)
    }

    fn machine(&self, image: &str, forwards: &[Forward]) -> Result<Machine> {
        let network = match (&self.lan, &self.joint) {
            (Some(lan), _) => {
                let (qemu, peer) = lan.sockets();
                qemu::Network::Frames { qemu, peer }
            }
            (None, Some(joint)) => joint.network(self.node),
            (None, None) => qemu::Network::User,
        };
        let handover = match &self.joint {
            Some(joint) => joint.hand_over(self.node, self.folder.path())?,
            None => Handover::default(),
        };
        Ok(Machine {
            qemu: self.rig.qemu.clone(),
            start: self.start(image, &handover.esp)?,
            memory: self.scenario.memory,
            forwards: forwards.to_vec(),
            network,
            watchdog: if self.scenario.watchdog { qemu::WATCHDOG } else { "" },
            extra: self.arguments(handover.arguments),
            scratch: self.folder.path().to_owned(),
        })
    }

    /// The kernel parameters of a scenario go into the command line or, with firmware, to the EFI stub.
    fn start(&self, image: &str, credentials: &[PathBuf]) -> Result<Start> {
        let image = self.images.get(image);
        let Image { efi, kernel } = image.context("the image was not built")?.clone();
        if self.scenario.firmware {
            let kept = Some(self.variables()).filter(|kept| kept.exists());
            let variables = kept.unwrap_or_else(|| self.rig.variables.clone());
            let (code, credentials) = (self.rig.firmware.clone(), credentials.to_vec());
            return Ok(Start::Firmware { code, variables, efi, credentials });
        }
        let mut cmdline = kernel.cmdline.clone();
        if let Some(more) = &self.scenario.cmdline {
            cmdline.extend([" ", more]);
        }
        Ok(Start::Kernel(Kernel { cmdline, ..kernel }))
    }

    /// QEMU's arguments for this scenario alone.
    fn arguments(&self, handover: Vec<String>) -> Vec<String> {
        let tests = self.rig.dir.to_string_lossy().replace(',', ",,");
        let mut arguments: Vec<_> =
            self.scenario.qemu.iter().map(|text| text.replace(TESTS, &tests)).collect();
        arguments.extend(self.handed.clone());
        arguments.extend(handover);
        arguments.extend(clock::arguments(self.scenario.clock_days));
        if self.scenario.disk.is_some() {
            let path = self.disk();
            let path = path.to_string_lossy().replace(',', ",,");
            let drive = format!("if=none,id={DISK},format=raw,file={path}");
            arguments.extend(["-drive".into(), drive]);
            arguments.extend(["-device".into(), format!("virtio-blk-pci,drive={DISK}")]);
        }
        if self.node == 1 {
            arguments.extend(self.disks.arguments());
        }
        arguments.extend((1..=self.scenario.slots).flat_map(qemu::slot));
        if let Some(cmdline) = self.scenario.cmdline.as_ref().filter(|_| self.scenario.firmware) {
            let cmdline = cmdline.replace(',', ",,");
            arguments.extend(["-smbios".into(), format!("type=11,value={STUB_CMDLINE}={cmdline}")]);
        }
        arguments
    }

    fn get(&mut self, get: &Get) -> Result<()> {
        let booted = self.booted()?;
        let mut url = booted.url(get.port, &get.path)?;
        if get.tls {
            url = url.replacen("http:", "https:", 1);
        }
        let mut last = anyhow!("no request was sent");
        let asked = booted.wait(|_| {
            let held = qemu::get(&url, TRY_MAX).and_then(|page| page::check_get(get, &page));
            Ok(held.map_err(|error| last = error).is_ok())
        });
        asked.with_context(|| format!("last answer: {last:#}"))
    }

    /// Waits until the probe answers, and repeats the request until the page is as expected.
    fn probe(&mut self, look: &Look) -> Result<()> {
        let golden = self.rig.golden();
        let booted = self.booted()?;
        let mut result = Ok(());
        for _ in 0..LOOKS_MAX {
            let page = booted.ask(&look.path)?;
            result = page::check_look(look, &page, &golden);
            if result.is_ok() {
                break;
            }
            booted.pass(PAUSE)?;
        }
        result
    }

    fn act(&mut self, look: &Look) -> Result<()> {
        let golden = self.rig.golden();
        let booted = self.booted()?;
        let url = booted.url(PROBE_PORT, &look.path)?;
        page::check_look(look, &qemu::get(&url, ACT_MAX)?, &golden)
    }

    fn late(&mut self, credentials: &Credentials) -> Result<()> {
        let node = self.node;
        for (name, text) in self.joint()?.fill(credentials, node)? {
            let url = self.booted()?.url(PROBE_PORT, &page::late(&name, &text))?;
            let answer = qemu::get(&url, ACT_MAX)?;
            ensure!(answer.status == 200, "the probe cannot write {name}: {}", answer.body);
        }
        Ok(())
    }

    fn refused(&mut self, paths: &[String]) -> Result<()> {
        let booted = self.booted()?;
        let (addresses, sockets) = (booted.ask("/addresses")?, booted.ask("/sockets")?);
        let proxy = booted.url(PROBE_PORT, "")?;
        refused::check(&proxy, &addresses.body, &sockets.body, paths)
    }

    fn figure(&mut self, figure: &Figure) -> Result<()> {
        let booted = self.booted()?;
        booted.pass(Duration::from_secs(figure.after_seconds))?;
        let page = booted.ask(&figure.path)?;
        let found = page::check_figure(figure, &page)?;
        self.figures.push(format!("{} {found}", figure.name));
        Ok(())
    }

    fn lan(&mut self, instruction: &Lan) -> Result<()> {
        let lan = self.lan.as_ref().context("the scenario has no network of its own")?;
        // `Scenario::check` guarantees a boot before this instruction.
        let booted = self.vms.get_mut(&self.node).context("no machine runs")?;
        match instruction {
            Lan::Serve(_) => lan.set(lan::Mode::Serve),
            Lan::Silent(_) => lan.set(lan::Mode::Silent),
            Lan::Nak(_) => lan.set(lan::Mode::Nak),
            Lan::Acked(count) => return booted.wait(|_| Ok(lan.acked() >= *count)),
            Lan::Unanswered(count) => return booted.wait(|_| Ok(lan.unanswered() >= *count)),
            Lan::Answers(at) => return booted.wait(|_| Ok(lan.answers(*at))),
        }
        Ok(())
    }

    /// Presses the button as an operator does, because a node reacts to it only after the button's
    /// driver is loaded.
    fn press_until(&mut self, text: &str) -> Result<()> {
        let booted = self.booted()?;
        let mut pressed: Option<Instant> = None;
        booted.wait(|booted| {
            if pressed.is_none_or(|at| at.elapsed() > PAUSE) {
                booted.vm.qmp()?.power_button()?;
                pressed = Some(Instant::now());
            }
            Ok(booted.watch.find(|line| line.text.contains(text)))
        })
    }

    fn read_console(&mut self, on: bool) -> Result<()> {
        self.booted()?.vm.console.read_on(on);
        Ok(())
    }

    fn down(&mut self, action: &str) -> Result<()> {
        let booted = self.booted()?;
        booted.wait_for_down(action)?;
        booted.finish()
    }

    /// Waits for a halted machine, and ends it.
    fn halt(&mut self) -> Result<()> {
        let variables = self.variables();
        let booted = self.booted()?;
        booted.wait_for_down(HALT)?;
        booted.stay_halted()?;
        booted.vm.keep_variables(&variables)?;
        self.power_cut()
    }

    fn plug(&mut self, plug: &Plug) -> Result<()> {
        let Plug { device, slot, with } = plug;
        self.booted()?.vm.qmp()?.plug(device, *slot, with)
    }

    fn unplug(&mut self, slot: u8) -> Result<()> {
        let qmp = self.booted()?.vm.qmp()?;
        qmp.unplug(slot)?;
        qmp.wait_for_event("DEVICE_DELETED", SILENCE)
    }

    fn power_cut(&mut self) -> Result<()> {
        // QEMU is killed when the machine is dropped.
        self.vms.remove(&self.node).map(drop).context("no machine runs")
    }
}

fn disk_file(folder: &Scratch, node: u8) -> PathBuf {
    folder.path().join(format!("data-{node}.img"))
}
