//! Runs one scenario: machines, steps, verdict.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::booted::{Booted, Crash};
use super::data::{Figure, Get, Lan, Look, Network, Plug, STUB_CMDLINE, Scenario, Step};
use super::watch::Watch;
use super::{Image, Images, PROBE_PORT, Rig, disk, lan, ntp, page, refused};
use crate::qemu::{self, End, Forward, Kernel, Machine, SILENCE, Scratch, Start};

/// How long one question may take while it is asked again and again.
const TRY: Duration = Duration::from_secs(5);

/// How long the probe may take for one thing that it does.
const ACT: Duration = SILENCE;

/// How often the probe is asked until what it sees is right; a page can be asked for too early.
const LOOKS: u32 = 60;

/// The pause between two questions.
const PAUSE: Duration = Duration::from_secs(1);

/// QEMU's name of the data disk.
const DISK: &str = "data";

/// Its file, below the scenario's folder.
const DISK_FILE: &str = "data.img";

/// Bytes per second of a disk that stands still: a sector takes nine minutes. QEMU knows no zero.
const STALLED: u64 = 1;

/// What QEMU takes for no limit.
const UNLIMITED: u64 = 0;

/// The one end after which the machine stays on.
const HALT: &str = "halt";

/// The kernel's last words when it has halted.
const HALTED: &str = "System halted";

/// How long a halted machine is watched: longer than its watchdog would wait, which is the deadline of a
/// shutdown without grace (30 s) and 10 s.
const STAYS: Duration = Duration::from_secs(45);

/// A scenario under way.
pub struct Run<'a> {
    rig: &'a Rig,
    scenario: &'a Scenario,
    images: &'a Images,
    vm: Option<Booted<'a>>,
    lan: Option<lan::Network>,
    /// Figures that were within their bounds, for the report.
    pub figures: Vec<String>,
    // Kept until the scenario ends.
    _time: Option<ntp::Server>,
    folder: Scratch,
}

impl<'a> Run<'a> {
    /// Prepares the scenario's surroundings.
    pub fn new(rig: &'a Rig, scenario: &'a Scenario, images: &'a Images) -> Result<Self> {
        let folder = Scratch::new(&rig.scratch, "scenario-")?;
        if let Some(data) = scenario.disk {
            disk::make(&folder.path().join(DISK_FILE), data.mib, &rig.mke2fs)?;
        }
        let lan = matches!(scenario.network, Network::Lan).then(lan::Network::start).transpose()?;
        let time = scenario.ntp.then(ntp::Server::start).transpose()?;
        Ok(Self { rig, scenario, images, vm: None, lan, figures: Vec::new(), _time: time, folder })
    }

    /// Takes all steps; `progress` hears of each before it is taken.
    pub fn steps(&mut self, mut progress: impl FnMut(usize)) -> Result<()> {
        for (at, step) in self.scenario.steps.iter().enumerate() {
            progress(at);
            let result = self.step(step).map_err(|error| self.explain(error));
            result.with_context(|| format!("step {}, {step}", at + 1))?;
        }
        Ok(())
    }

    /// When QEMU has died, that is why the step failed, whatever it says itself.
    fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        let end = self.vm.as_mut().and_then(|booted| booted.vm.wait_for_end(PAUSE).ok());
        match end {
            Some(End::Itself { reason }) => anyhow!(Crash(reason)),
            _ => error,
        }
    }

    /// The console of the machine that runs or has just ended.
    pub fn console(&self, lines: usize) -> String {
        self.vm.as_ref().map(|booted| booted.vm.console.last(lines)).unwrap_or_default()
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Boot(image) => self.boot(image),
            Step::Console(text) => {
                self.booted()?.wait(|booted| Ok(booted.watch.find(|line| line.text.contains(text))))
            }
            Step::Get(get) => self.get(get),
            Step::Probe(look) => self.probe(look),
            Step::Act(look) => self.act(look),
            Step::Refused(paths) => self.refused(paths),
            Step::Figure(figure) => self.figure(figure),
            Step::Lan(lan) => self.lan(lan),
            Step::Elapsed(elapsed) => self.heard()?.elapsed(elapsed),
            Step::StallDisk(_) => self.booted()?.vm.qmp()?.limit_bytes(DISK, STALLED),
            Step::ResumeDisk(_) => self.booted()?.vm.qmp()?.limit_bytes(DISK, UNLIMITED),
            Step::StopConsole(_) => self.read_console(false),
            Step::ResumeConsole(_) => self.read_console(true),
            Step::Plug(plug) => self.plug(plug),
            Step::Unplug(slot) => self.unplug(*slot),
            Step::Said(said) => self.heard()?.said(said),
            Step::CtrlAltDel(_) => self.booted()?.vm.qmp()?.press(&["ctrl", "alt", "delete"]),
            Step::QemuEvent(name) => self.booted()?.vm.qmp()?.wait_for_event(name, SILENCE),
            Step::PowerButton(_) => self.booted()?.vm.qmp()?.power_button(),
            Step::PressUntil(text) => self.press_until(text),
            Step::Reset(by) => self.booted()?.wait_for_reset(*by),
            Step::Down(action) if action == HALT => self.halt(),
            Step::Down(action) => self.down(action),
            Step::Unmounted(_) => disk::check_unmounted(&self.disk()),
            Step::PauseMillis(millis) => self.booted()?.pass(Duration::from_millis(*millis)),
            Step::PowerCut(_) => self.power_cut(),
        }
    }

    fn booted(&mut self) -> Result<&mut Booted<'a>> {
        // `Scenario::check` has seen that a boot comes first.
        self.vm.as_mut().context("no machine runs")
    }

    /// What the console has said by now.
    fn heard(&mut self) -> Result<&Watch> {
        let booted = self.booted()?;
        booted.listen()?;
        Ok(&booted.watch)
    }

    fn boot(&mut self, image: &str) -> Result<()> {
        if let Some(booted) = &self.vm {
            booted.vm.keep_variables(&self.variables())?;
        }
        let forwards = qemu::free_forwards(&self.scenario.ports)?;
        let vm = self.machine(image, &forwards)?.start()?;
        self.vm = Some(Booted::new(vm, forwards, self.scenario));
        Ok(())
    }

    /// What the firmware of the scenario's machine keeps, once it has booted.
    fn variables(&self) -> PathBuf {
        self.folder.path().join("variables.fd")
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join(DISK_FILE)
    }

    fn machine(&self, image: &str, forwards: &[Forward]) -> Result<Machine> {
        let mut extra = self.scenario.qemu.clone();
        if self.scenario.disk.is_some() {
            let path = self.disk();
            let path = path.to_string_lossy().replace(',', ",,");
            let drive = format!("if=none,id={DISK},format=raw,file={path}");
            extra.extend(["-drive".into(), drive]);
            extra.extend(["-device".into(), format!("virtio-blk-pci,drive={DISK}")]);
        }
        extra.extend((1..=self.scenario.slots).flat_map(qemu::slot));
        let network = self.lan.as_ref().map_or(qemu::Network::User, |lan| {
            let (qemu, peer) = lan.sockets();
            qemu::Network::Frames { qemu, peer }
        });
        if let Some(cmdline) = self.scenario.cmdline.as_ref().filter(|_| self.scenario.firmware) {
            let cmdline = cmdline.replace(',', ",,");
            extra.extend(["-smbios".into(), format!("type=11,value={STUB_CMDLINE}={cmdline}")]);
        }
        Ok(Machine {
            qemu: self.rig.qemu.clone(),
            start: self.start(image)?,
            memory: self.scenario.memory,
            forwards: forwards.to_vec(),
            network,
            watchdog: if self.scenario.watchdog { qemu::WATCHDOG } else { "" },
            extra,
            scratch: self.folder.path().to_owned(),
        })
    }

    fn start(&self, image: &str) -> Result<Start> {
        let image = self.images.get(image);
        let Image { efi, kernel } = image.context("the image was not built")?.clone();
        if self.scenario.firmware {
            let kept = Some(self.variables()).filter(|kept| kept.exists());
            let variables = kept.unwrap_or_else(|| self.rig.variables.clone());
            return Ok(Start::Firmware { code: self.rig.firmware.clone(), variables, efi });
        }
        let more = self.scenario.cmdline.iter().map(String::as_str);
        let cmdline =
            [kernel.cmdline.as_str()].into_iter().chain(more).collect::<Vec<_>>().join(" ");
        Ok(Start::Kernel(Kernel { cmdline, ..kernel }))
    }

    fn get(&mut self, get: &Get) -> Result<()> {
        let booted = self.booted()?;
        let mut url = booted.url(get.port, &get.path)?;
        if get.tls {
            url = url.replacen("http:", "https:", 1);
        }
        let mut last = anyhow!("never asked");
        let asked = booted.wait(|_| {
            let held = qemu::get(&url, TRY).and_then(|page| page::check_get(get, &page));
            Ok(held.map_err(|error| last = error).is_ok())
        });
        asked.with_context(|| format!("last answer: {last:#}"))
    }

    /// Asks until it can be reached, then some times more until it is right.
    fn probe(&mut self, look: &Look) -> Result<()> {
        let golden = self.rig.golden();
        let booted = self.booted()?;
        let mut result = Ok(());
        for _ in 0..LOOKS {
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
        page::check_look(look, &qemu::get(&url, ACT)?, &golden)
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

    fn lan(&mut self, step: &Lan) -> Result<()> {
        let lan = self.lan.as_ref().context("the scenario has no network of its own")?;
        // `Scenario::check` has seen that a boot comes first.
        let booted = self.vm.as_mut().context("no machine runs")?;
        match step {
            Lan::Serve(_) => lan.set(lan::Mode::Serve),
            Lan::Silent(_) => lan.set(lan::Mode::Silent),
            Lan::Nak(_) => lan.set(lan::Mode::Nak),
            Lan::Acked(count) => return booted.wait(|_| Ok(lan.acked() >= *count)),
            Lan::Unanswered(count) => return booted.wait(|_| Ok(lan.unanswered() >= *count)),
            Lan::Answers(at) => return booted.wait(|_| Ok(lan.answers(*at))),
        }
        Ok(())
    }

    /// As an operator does: a node hears its button only when the button's driver is loaded.
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

    /// The machine stops and stays as it is, also when its watchdog's time is over.
    fn halt(&mut self) -> Result<()> {
        let variables = self.variables();
        let booted = self.booted()?;
        booted.wait_for_down(HALT)?;
        booted.wait(|booted| Ok(booted.watch.find(|line| line.text.contains(HALTED))))?;
        booted.pass(STAYS)?;
        booted.judge()?;
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
        // Dropping it kills it.
        self.vm.take().map(drop).context("no machine runs")
    }
}
