//! The three roles as child processes.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kiln_host::job;
use kiln_host::process::{self, Command, Running};
use kiln_host::{port, qemu};

use crate::usage;

/// The domain below which all sites are.
pub const DOMAIN: &str = "pages.test";

/// The token between syncer and server.
const TOKEN: &str = "the token of the benchmark";

/// The secret of all webhooks.
pub const SECRET: &str = "the secret of the benchmark";

/// The longest time until a role is ready.
const START_MAX: Duration = Duration::from_mins(2);

/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A running role.
pub struct Role {
    /// Its name, for people.
    pub name: &'static str,
    running: Running,
}

/// All roles, and their addresses on the loopback interface.
pub struct Roles {
    /// Operator, syncer and server.
    pub all: [Role; 3],
    /// The port for webhooks.
    pub hooks: u16,
    /// The port for visitors.
    pub visitors: u16,
}

impl Roles {
    /// Starts all roles, and waits until each is ready.
    pub fn start(job: &job::Pages) -> Result<Self> {
        let folder = &job.scratch;
        let (token, secret) = (folder.join("token"), folder.join("secret"));
        for (path, text) in [(&token, TOKEN), (&secret, SECRET)] {
            std::fs::write(path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let [hooks, visitors, live] = [port::free()?, port::free()?, port::free()?];
        let operator = start(job, "operator", |command| {
            let command = command.args([&format!("--domain={DOMAIN}"), "--no-dns"]);
            let command = command.args(["--routes=ingress", "--operations=127.0.0.1:0"]);
            command.arg("--kubeconfig").arg(&job.operator)
        })?;
        let syncer = start(job, "syncer", |command| {
            let command = command.arg(format!("--listen=127.0.0.1:{hooks}"));
            let command = command.args(["--operations=127.0.0.1:0", "--git-host=127.0.0.1"]);
            let command = command.args(["--git-plain-host=127.0.0.1", "--git-network=127.0.0.0/8"]);
            let command = command.arg("--data").arg(folder.join("syncer"));
            let command = command.arg("--webhook-secret").arg(&secret);
            let command = command.arg("--server-token").arg(&token);
            command.arg("--kubeconfig").arg(&job.syncer)
        })?;
        let server = start(job, "serve", |command| {
            let command = command.arg(format!("--syncer=http://127.0.0.1:{hooks}"));
            let command = command.arg("--token").arg(&token);
            let command = command.arg("--data").arg(folder.join("server"));
            let command = command.arg(format!("--operations=127.0.0.1:{live}"));
            command.arg(format!("--listen=127.0.0.1:{visitors}"))
        })?;
        let mut roles = Self { all: [operator, syncer, server], hooks, visitors };
        roles.wait_until_ready(live)?;
        Ok(roles)
    }

    fn wait_until_ready(&mut self, live: u16) -> Result<()> {
        let end = std::time::Instant::now() + START_MAX;
        let url = format!("http://127.0.0.1:{live}/ready");
        while !qemu::get(&url, LOOK).is_ok_and(|answer| answer.status == 200) {
            process::check_interrupt()?;
            self.check()?;
            if std::time::Instant::now() > end {
                bail!("the server is not ready after {} s", START_MAX.as_secs());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Fails if a role has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        for role in &mut self.all {
            if let Some(status) = role.running.try_wait()? {
                bail!("`pages {}` ended: {status}; its log has the reason", role.name);
            }
        }
        Ok(())
    }
}

impl Role {
    /// Nanoseconds of processor time since the start.
    pub fn processor(&mut self) -> Result<u64> {
        usage::processor(&[self.running.child().id()])
    }

    /// The largest resident memory since the start in KiB, mapped files included (`VmHWM` in proc(5)).
    pub fn peak(&mut self) -> Result<u64> {
        usage::peak(self.running.child().id())
    }
}

/// Starts a role with its log in the job's folder.
fn start(
    job: &job::Pages,
    role: &'static str,
    with: impl FnOnce(Command) -> Command,
) -> Result<Role> {
    let log = job.scratch.join(format!("{role}.log"));
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let both = file.try_clone().context("cannot duplicate a descriptor")?;
    let command = with(Command::new(&job.pages).arg(role));
    let running = command.output_to(file.into(), both.into()).spawn()?;
    Ok(Role { name: role, running })
}
