//! Keeps kubelet's arguments and files in force: late credentials, addresses that come and go, and
//! requests from kubelet's log.
//!
//! After each change a new plan is made from all facts. If it differs from the plan in force, its
//! files are written and kubelet is started again, so that equal facts restart nothing.

use std::sync::mpsc::{TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kiln_contract::setting::{
    BOOTSTRAP_KUBECONFIG, CA, CREDENTIALS as KNOWN, HOSTNAME_CREDENTIAL, JOIN, NODE, POD,
};

use super::event::Event;
use super::host;
use super::member::watch_addresses;
use super::runtime::Runtime;
use super::service::Service;
use crate::console::kmsg;
use crate::containerd;
use crate::devices::coldplug::SETTINGS_ONLY;
use crate::kernel::{network, sysctl};
use crate::kubelet::cluster::Cluster;
use crate::kubelet::join::Join;
use crate::kubelet::plan::{drop_in_of, plan};
use crate::kubelet::report::Request;
use crate::kubelet::{apply, state};
use crate::machine::credential::Credentials;
use crate::process::helper::Helper;
use crate::settings;
use crate::settings::address::keep;
use crate::storage::var;

/// The pause after a changed address, because a lease brings several changes.
const SETTLE: Duration = Duration::from_secs(1);

/// The stack size of the thread that reads `/var`.
const STACK: usize = 256 * 1024;

impl Runtime {
    /// Looks at late credentials and changed addresses if it is time.
    pub(super) fn look_at_membership(&mut self) {
        let now = Instant::now();
        let new = self.membership.late.as_mut().map(|late| late.take(now)).unwrap_or_default();
        if !new.is_empty() {
            self.apply_credentials(&new);
        }
        if self.membership.look.take_if(|look| *look <= now).is_some() {
            self.renew_plan();
        }
    }

    pub(super) fn take_addresses(&mut self) {
        if let Some(link) = &self.membership.link {
            network::drain(link);
        }
        self.membership.look = Some(Instant::now() + SETTLE);
    }

    pub(super) fn take_late(&mut self) {
        if let Some(late) = &mut self.membership.late {
            late.changed(Instant::now());
        }
    }

    /// Applies credentials that are new or have changed.
    fn apply_credentials(&mut self, new: &[String]) {
        let credentials = Credentials::kept();
        let has = |name: &str| new.iter().any(|other| other == name);
        for name in new {
            self.membership.refused.remove(name);
        }
        if let (true, Some(text)) = (has(NODE.name), credentials.value(&NODE)) {
            let (settings, problems) = settings::parse(text);
            problems.lines().iter().for_each(kmsg::warn);
            // The settings in force are better than none.
            if !problems.is_void() {
                self.apply_settings(settings);
            }
        }
        if has(HOSTNAME_CREDENTIAL.name) {
            report_next_boot("the name");
        }
        if has(NODE.name) || new.iter().any(|name| name.starts_with(CA.name)) {
            containerd::apply::apply(&credentials, &self.membership.facts.settings);
        }
        for name in new.iter().filter(|name| name.starts_with(POD.name)) {
            let _ = kmsg::warn_on_error(apply::copy_pod(name));
        }
        let unknown = |name: &&String| !KNOWN.iter().any(|known| name.starts_with(known.name));
        for name in new.iter().filter(unknown) {
            kmsg::notice(format_args!("credential {name}: not one of Kiln's, kept for others"));
        }
        self.membership.facts.drop_ins = apply::drop_ins(&credentials);
        if (has(JOIN.name) || has(BOOTSTRAP_KUBECONFIG.name))
            && let Some(join) = apply::wanted(&credentials)
        {
            let _ = kmsg::warn_on_error(self.settle(join));
        }
        self.renew_plan();
    }

    /// Puts new settings in force. Those of the boot wait for the next one.
    fn apply_settings(&mut self, settings: settings::Settings) {
        let old = &self.membership.facts.settings;
        if settings.hostname != old.hostname {
            report_next_boot("the name");
        }
        if settings.data != old.data {
            report_next_boot("the data policy");
        }
        if settings.console != old.console {
            report_next_boot("the console's policy");
        }
        let loads = settings.sysctls != old.sysctls || settings.modules != old.modules;
        self.membership.facts.settings = settings;
        if loads {
            let _ = sysctl::apply_own(&self.membership.facts.settings.sysctls);
            let _ = kmsg::warn_on_error(Helper::Coldplug.start(&[SETTINGS_ONLY]));
        }
        self.membership.link = watch_addresses(&self.membership.facts);
    }

    /// Has a thread decide if the credential names another cluster than `/var` keeps, because only
    /// threads touch `/var`.
    fn settle(&mut self, join: Join) -> Result<()> {
        let done = self.membership.settled.1.try_clone().context("cannot duplicate a pipe")?;
        let (sender, receiver) = sync_channel(1);
        let wanted = join.cluster.clone();
        let work = move || {
            let _ = sender.send(settle(wanted));
            let _ = rustix::io::write(&done, &[0]);
        };
        let thread = thread::Builder::new().name("join".into()).stack_size(STACK).spawn(work);
        thread.context("cannot start the thread join")?;
        self.membership.joining = Some((receiver, join));
        Ok(())
    }

    /// Takes the result of that thread.
    pub(super) fn take_settled(&mut self) {
        network::drain(&self.membership.settled.0);
        let Some((result, join)) = self.membership.joining.take() else { return };
        match result.try_recv() {
            Ok(Some(cluster)) => {
                kmsg::notice(format_args!("the node joins the cluster at {}", cluster.server));
                apply::leave_standalone();
                self.membership.facts.cluster = Some(cluster);
                self.membership.facts.bootstrap = Some(join.bootstrap);
                self.membership.link = watch_addresses(&self.membership.facts);
                self.renew_plan();
            }
            // The byte was of an earlier thread.
            Err(TryRecvError::Empty) => {
                self.membership.joining = Some((result, join));
            }
            Ok(None) | Err(_) => {}
        }
    }

    /// Takes requests that come from kubelet's log.
    pub(super) fn take_log_requests(&mut self) {
        network::drain(&self.membership.wake);
        while let Ok(request) = self.membership.requests.try_recv() {
            match request {
                Request::Register => self.feed(Event::Renewed(Service::Kubelet)),
                Request::Refuse(file) => self.refuse_drop_ins(&file),
            }
        }
    }

    /// Leaves out the drop-in that kubelet refuses, or all of them if it does not say which.
    fn refuse_drop_ins(&mut self, file: &str) {
        let all = self.membership.facts.drop_ins.iter().map(|(name, _)| name.clone());
        let bad: Vec<_> = all.filter(|name| file.is_empty() || drop_in_of(name) == file).collect();
        for name in bad {
            if self.membership.refused.insert(name.clone()) {
                kmsg::warn(format_args!(
                    "credential {name}: kubelet refuses it, ignored; correct it and give it again"
                ));
            }
        }
        self.renew_plan();
    }

    /// Makes a plan of all facts, and puts it in force if it differs.
    fn renew_plan(&mut self) {
        let membership = &mut self.membership;
        let wanted = &membership.facts.settings.node_ip;
        membership.addresses = keep(wanted, &membership.addresses, &apply::addresses());
        let facts = membership.accepted();
        let (new, proxy) = (plan(&facts, &membership.addresses), host::proxy(&facts));
        let proxy_changed = proxy != membership.proxy;
        if new == membership.plan && !proxy_changed {
            return;
        }
        let _ = kmsg::warn_on_error(apply::write(&new, &membership.plan));
        (membership.plan, membership.proxy) = (new.clone(), proxy.clone());
        if proxy_changed {
            self.replace(Service::Containerd, &host::containerd(proxy.clone()));
        }
        self.replace(Service::Kubelet, &host::kubelet_command(new.args, proxy));
    }

    /// Has a service start again with another command.
    fn replace(&mut self, service: Service, command: &host::Command) {
        kmsg::notice(format_args!("{service} gets new settings"));
        let replaced = self.services[service.index()].replace(command);
        if kmsg::warn_on_error(replaced).is_some() {
            self.feed(Event::Renewed(service));
        }
    }
}

/// Decides the cluster from the credential and from what `/var` keeps.
fn settle(wanted: Cluster) -> Option<Cluster> {
    match var::open() {
        Ok(var) => state::settle(&var, Some(wanted)),
        Err(error) => {
            kmsg::warn(format_args!("cannot open /var: {error}"));
            Some(wanted)
        }
    }
}

fn report_next_boot(what: &str) {
    kmsg::notice(format_args!("{what} takes effect at the next boot"));
}
