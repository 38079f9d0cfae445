//! A cluster that is shown to the user until ctrl-C stops it.
//!
//! The first ctrl-C presses the power button of all nodes, and the control plane stops after them. The
//! second one kills everything.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kiln_host::{output, println};

use super::pages::{self, Pages};
use super::watch::{Change, Changes, Request};
use super::{Cluster, add_ons, node};
use crate::process::{self, Stopped};
use crate::qemu::{End, Event, LAST_LINES, LOOK, Line, Machine, News, SILENCE, Span, Vm, table};

/// The pause between two presses of a node's power button.
const PRESS_AGAIN: Duration = Duration::from_secs(10);

/// The pause between two looks at the pods of the cluster network.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// Beginnings and ends of messages that each boot of a healthy node has, or that repeat what the API
/// server reports. They are in the console's file only, so that the user sees the others.
const USUAL: ([&str; 9], [&str; 2]) = (
    [
        "watchdog ",
        "credential ",
        "no data partition ",
        "the node belongs to the cluster at ",
        "node kiln-node-",
        "kubelet wants ",
        "no driver in this image for the device ",
        "cluster: the node is registered",
        "cluster: the node is Ready",
    ],
    [" ms", " ms passed before the kernel"],
);

/// The event after which the API server's state of a node is that of this boot.
const KUBELET: &str = "kubelet ready";

/// The end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Ctrl-C.
    Interrupt,
    /// All nodes are Ready; exit status 0 means success.
    Ready,
}

/// A node's machine with what is known about it.
struct Member {
    number: u8,
    vm: Vm,
    cursor: usize,
    /// The file for its console.
    console: File,
    /// Events with their times since QEMU's start, each event once.
    marks: Vec<(String, Duration)>,
    ready: bool,
    /// True after PID 1's first message: from then on, the node needs a clean shutdown.
    started: bool,
    /// True after PID 1's last message.
    down: bool,
    pressed: Option<Instant>,
    /// The time of the last sign of life.
    alive: Instant,
}

/// A running cluster.
struct Session<'a> {
    cluster: &'a mut Cluster,
    members: Vec<Member>,
    changes: Changes,
    until: Until,
    start: Instant,
    reported: bool,
    workloads: Workloads,
    pages: Option<Demonstration<'a>>,
}

/// The workloads of the cluster network, and of what was installed with it, that are not ready.
struct Workloads {
    /// Namespaces with labels.
    parts: Vec<(&'static str, &'static str)>,
    pending: Vec<String>,
    /// The time of the last look.
    looked: Option<Instant>,
    /// The time of the last change.
    changed: Instant,
}

/// The pages service, and what it is shown with.
pub struct Demonstration<'a> {
    /// The content of the sites.
    pub pages: &'a Pages,
    /// The installed service.
    pub installed: &'a mut pages::Installed,
}

/// Boots one machine for each node and shows what happens.
pub fn run(
    cluster: &mut Cluster,
    machines: &[Machine],
    until: Until,
    pages: Option<Demonstration<'_>>,
) -> Result<()> {
    let mut session = Session::new(cluster, machines, until, pages)?;
    loop {
        let presses = process::interrupts();
        if presses > 1 {
            bail!(Stopped("killed; the nodes were not powered off cleanly"));
        }
        if output::is_closed() {
            bail!("killed, because the output no longer has a reader");
        }
        match session.turn(presses == 1) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // Ctrl-C stopped a program that this turn waited for; the next turn stops the nodes.
            Err(_) if presses == 0 && process::interrupted() => {}
            Err(error) if presses == 1 => {
                return Err(error.context(Stopped("the nodes were not powered off cleanly")));
            }
            Err(error) => return Err(error),
        }
    }
}

impl<'a> Session<'a> {
    fn new(
        cluster: &'a mut Cluster,
        machines: &[Machine],
        until: Until,
        pages: Option<Demonstration<'a>>,
    ) -> Result<Self> {
        let start = Instant::now();
        let mut members = Vec::new();
        for (number, machine) in (1..).zip(machines) {
            members.push(Member::boot(number, machine, cluster)?);
        }
        if let Some(note) = members.first().and_then(|member| member.vm.note.as_ref()) {
            println!("no KVM: {note}");
        }
        let mut parts = vec![(add_ons::NAMESPACE, add_ons::LABEL)];
        parts.extend(pages.is_some().then_some((pages::NAMESPACE, pages::LABEL)));
        let workloads = Workloads { parts, pending: Vec::new(), looked: None, changed: start };
        let changes = Changes::new();
        Ok(Self { cluster, members, changes, until, start, reported: false, workloads, pages })
    }

    /// Processes what is new; true once all nodes have powered off.
    fn turn(&mut self, interrupted: bool) -> Result<bool> {
        for member in &mut self.members {
            member.listen()?;
        }
        let all_ready = self.members.iter().all(|member| member.ready);
        let stop = interrupted || all_ready && self.reported && self.until == Until::Ready;
        if stop {
            return self.stop();
        }
        self.cluster.check()?;
        while let Some((at, change)) = self.changes.next(self.cluster)? {
            self.take(at, change);
        }
        if all_ready && !self.reported && self.workloads.are_ready(self.cluster)? {
            self.report();
            if let Some(Demonstration { pages, installed }) = &mut self.pages {
                installed.show(pages, self.cluster)?;
            }
            self.reported = true;
        } else if self.reported
            && let Some(shown) = &mut self.pages
        {
            shown.installed.turn(self.cluster)?;
        }
        for member in &mut self.members {
            member.check(self.reported)?;
        }
        std::thread::sleep(LOOK);
        Ok(false)
    }

    fn take(&mut self, at: Instant, change: Change) {
        match change {
            Change::Node { name, ready, address } => {
                let Some(member) = self.member(&name) else { return };
                member.mark("registered", at);
                if !address.is_empty() {
                    member.mark(&format!("address {address}"), at);
                }
                if ready {
                    member.mark("Ready", at);
                }
                if member.ready && !ready {
                    println!("{name}: not Ready");
                }
                member.ready = ready;
            }
            Change::Certificate { node, serving, state } => {
                let Some(member) = self.member(&node) else { return };
                let kind = if serving { "serving certificate" } else { "client certificate" };
                match state {
                    Request::Pending => member.mark(&format!("{kind} requested"), at),
                    Request::Refused => member.mark(&format!("{kind} refused"), at),
                    Request::Issued => member.mark(&format!("{kind} issued"), at),
                }
            }
        }
    }

    /// Returns the node whose kubelet was ready since this run's start.
    fn member(&mut self, name: &str) -> Option<&mut Member> {
        // Before that, the API server has the state that an earlier run has left.
        let booted = |member: &&mut Member| member.has(KUBELET);
        self.members.iter_mut().filter(booted).find(|member| node::name(member.number) == name)
    }

    fn report(&self) {
        for member in &self.members {
            println!("\n{}", table(&node::name(member.number), &member.spans()));
        }
        let seconds = self.start.elapsed().as_secs();
        let (kubeconfig, kubectl) = (self.cluster.kubeconfig(), self.cluster.kubectl_path());
        println!("all nodes and the cluster network are ready after {seconds} s\n");
        println!("export KUBECONFIG={}", kubeconfig.display());
        println!("alias kubectl={}", kubectl.display());
        println!("kubectl get nodes --output wide\n");
        println!(
            "logs and consoles are in {}; ctrl-C stops all",
            self.cluster.state.logs().display()
        );
    }

    /// Presses the power buttons; true once all nodes are off.
    fn stop(&mut self) -> Result<bool> {
        let mut running = false;
        for member in &mut self.members {
            running |= member.power_off()?;
        }
        std::thread::sleep(LOOK);
        Ok(!running)
    }
}

fn is_usual(line: &str) -> bool {
    let text = line.trim_start_matches("kiln: ");
    let (beginnings, ends) = USUAL;
    beginnings.iter().any(|it| text.starts_with(it)) || ends.iter().any(|it| text.ends_with(it))
}

impl Workloads {
    /// Looks from time to time, and shows what is not ready yet.
    fn are_ready(&mut self, cluster: &Cluster) -> Result<bool> {
        let now = Instant::now();
        if self.looked.is_some_and(|looked| now - looked < LOOK_AGAIN) {
            return Ok(false);
        }
        let mut pending = Vec::new();
        for (namespace, label) in &self.parts {
            pending.extend(add_ons::pending(cluster, namespace, label)?);
        }
        if self.looked.is_none() || pending != self.pending {
            self.changed = now;
            if !pending.is_empty() {
                println!("waiting for {}", pending.join(", "));
            }
        }
        (self.looked, self.pending) = (Some(now), pending);
        if now - self.changed > SILENCE {
            let (pending, seconds) = (self.pending.join(", "), SILENCE.as_secs());
            bail!(
                "not ready {seconds} s after the nodes: {pending}; `kubectl describe` and the nodes' consoles have the reason"
            );
        }
        Ok(self.pending.is_empty())
    }
}

impl Member {
    fn boot(number: u8, machine: &Machine, cluster: &Cluster) -> Result<Self> {
        let name = node::name(number);
        let path = cluster.state.logs().join(format!("{name}.console"));
        let console =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let vm = machine.start()?;
        println!("{name}: booting with {}, {} MiB", vm.accel, machine.memory);
        Ok(Self {
            number,
            vm,
            cursor: 0,
            console,
            marks: Vec::new(),
            ready: false,
            started: false,
            down: false,
            pressed: None,
            alive: Instant::now(),
        })
    }

    /// Reads new console lines: all go to the file, and PID 1's warnings to the terminal.
    fn listen(&mut self) -> Result<()> {
        let News { lines, cursor, .. } = self.vm.console.news(self.cursor, Duration::ZERO);
        self.cursor = cursor;
        for line in lines {
            self.alive = Instant::now();
            writeln!(self.console, "{}", line.shown())
                .context("cannot write the console's file")?;
            self.take(&line)?;
        }
        Ok(())
    }

    fn take(&mut self, line: &Line) -> Result<()> {
        if line.is_fatal() {
            bail!("{}: its kernel crashed: {}", node::name(self.number), line.text);
        }
        self.started |= line.is_init();
        match line.event() {
            Some(Event::Ready { service }) => {
                self.mark(&format!("{service} ready"), self.vm.start + line.at);
            }
            Some(Event::Down { .. }) => self.down = true,
            Some(Event::Stage { .. } | Event::Started { attempt: 1, .. }) => {}
            Some(event) => println!("{}: {event}", node::name(self.number)),
            None if line.is_init() && !is_usual(&line.text) => {
                println!("{}: {}", node::name(self.number), line.text);
            }
            None => {}
        }
        Ok(())
    }

    /// Notes and shows the first occurrence of an event.
    fn mark(&mut self, event: &str, at: Instant) {
        self.alive = Instant::now();
        if self.has(event) {
            return;
        }
        let at = at.saturating_duration_since(self.vm.start);
        println!("{}: {event} after {:.1} s", node::name(self.number), at.as_secs_f64());
        self.marks.push((event.to_owned(), at));
    }

    fn has(&self, event: &str) -> bool {
        self.marks.iter().any(|(known, _)| known == event)
    }

    /// The parts of the boot, each from the event before it.
    fn spans(&self) -> Vec<Span> {
        let mut marks = self.marks.clone();
        marks.sort_by_key(|(_, at)| *at);
        let from = std::iter::once(Duration::ZERO).chain(marks.iter().map(|(_, at)| *at));
        let spans = from.zip(&marks);
        spans.map(|(from, (name, to))| Span { name: name.clone(), from, to: *to }).collect()
    }

    /// Fails if the machine has ended, or if it does not come up.
    fn check(&mut self, came_up: bool) -> Result<()> {
        match self.vm.ended()? {
            Some(End::Itself { reason }) => bail!("{}: {reason}", node::name(self.number)),
            Some(End::Guest) => return self.fail("it went down on its own"),
            None => {}
        }
        if !came_up && !self.ready && self.alive.elapsed() > SILENCE {
            return self.fail(&format!("no sign of life for {} s", SILENCE.as_secs()));
        }
        Ok(())
    }

    fn fail(&self, reason: &str) -> Result<()> {
        let tail = self.vm.console.last(LAST_LINES);
        bail!("{}: {reason}; the end of its console:\n{tail}", node::name(self.number))
    }

    /// Presses the button again and again, because a booting node does not react to it yet; true while
    /// the machine runs.
    fn power_off(&mut self) -> Result<bool> {
        if let Some(End::Itself { reason }) = self.vm.ended()? {
            bail!("{}: {reason}", node::name(self.number));
        }
        if self.vm.ended()?.is_some() {
            return Ok(false);
        }
        if !self.started {
            // Nothing has started that needs a clean shutdown; QEMU is killed when this is dropped.
            return Ok(false);
        }
        if self.pressed.is_some() && self.alive.elapsed() > SILENCE {
            self.fail(&format!(
                "it does not power off, and shows no sign of life for {} s",
                SILENCE.as_secs()
            ))?;
        }
        if self.down || self.pressed.is_some_and(|at| at.elapsed() < PRESS_AGAIN) {
            return Ok(true);
        }
        if self.pressed.is_none() {
            self.alive = Instant::now();
            println!(
                "{}: pressing the power button; ctrl-C kills the cluster",
                node::name(self.number)
            );
        }
        self.pressed = Some(Instant::now());
        self.vm.qmp()?.power_button()?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_sees_what_is_not_usual() {
        let usual = [
            "kiln: credential kiln.join from fw_cfg",
            "kiln: 15 modules loaded in the background in 3912 ms",
            "kiln: 10452 ms passed before the kernel",
        ];
        assert!(usual.iter().all(|line| is_usual(line)));
        let shown = [
            "kiln: power button pressed",
            "kiln: cluster: the API server refuses the token, because it is unknown or expired",
            "kiln: cluster: the API server does not answer: dial tcp 10.0.2.2:6443: connect: connection \
             refused; kubelet keeps trying",
            "kiln: cluster: the node has no network: dial tcp 10.0.2.2:6443: connect: network is \
             unreachable; check the cable and the DHCP server, kubelet keeps trying",
        ];
        assert!(!shown.iter().any(|line| is_usual(line)));
    }
}
