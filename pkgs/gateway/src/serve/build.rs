//! A new configuration: read, checked and prepared in a thread of its own, because a file with 100,000
//! names takes longer than probes and signals should wait.
//!
//! The control thread takes the result, and adopts it in short steps.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::bail;
use kiln_server::threads::{Wakers, spawn};

use super::{listen, reload};
use crate::config::{Config, Host, Ports};
use crate::state::{BackendKey, BackendState, Registry, Snapshot};

/// Bytes of the thread's stack. The parser of the file calls itself for nested values.
const STACK: usize = 1 << 20;

/// The backends with names, by name.
pub(super) type Named = HashMap<String, Vec<Arc<BackendState>>>;

/// A step in which the control thread adopts a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Resolve a name from now on.
    Add(String),
    /// Resolve a name no longer.
    Remove(String),
    /// Give the addresses of a known name to its backends, some of which are new.
    Publish(String),
}

/// The configuration in force, from which a new one is made.
#[derive(Debug)]
pub(super) struct Old {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) registry: Registry,
    /// The names that are in `registry`.
    pub(super) named: Arc<Named>,
}

/// A configuration that is ready to be put in force.
#[derive(Debug)]
pub(super) struct New {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) registry: Registry,
    pub(super) named: Arc<Named>,
    /// The backends with checks.
    pub(super) checked: Vec<(BackendKey, Arc<BackendState>)>,
    pub(super) steps: Vec<Step>,
}

/// The result of reading the file.
#[derive(Debug)]
pub(super) enum Built {
    /// The file differs from the configuration in force.
    New(Box<New>),
    /// The file says the same.
    Same(Registry),
    /// The file cannot be put in force.
    Refused(Registry, anyhow::Error),
}

/// Reads the file and prepares everything that takes long.
fn build(file: &Path, ports: Ports, old: Old) -> Built {
    let Old { snapshot, registry, named } = old;
    let new = wanted(file, ports, &snapshot).and_then(|config| match config {
        Some(config) => listen::open(&config, Some(&snapshot)).map(|found| Some((config, found))),
        None => Ok(None),
    });
    match new {
        Ok(Some((config, sockets))) => {
            Built::New(Box::new(prepare(config, sockets, registry, &named)))
        }
        Ok(None) => Built::Same(registry),
        Err(error) => Built::Refused(registry, error),
    }
}

/// Prepares a configuration whose sockets are open.
pub(super) fn prepare(
    config: Config,
    sockets: Vec<Arc<OwnedFd>>,
    mut registry: Registry,
    old: &Named,
) -> New {
    let snapshot = Arc::new(registry.snapshot(config, sockets));
    listen::forbid_loops(&snapshot, &registry);
    let named = Arc::new(names(&registry));
    let checked = registry.backends().filter(|(key, _)| key.1.is_some());
    let checked = checked.map(|(key, state)| (key.clone(), Arc::clone(state))).collect();
    let steps = steps(old, &named);
    New { snapshot, registry, named, checked, steps }
}

/// Reads the file; `None` if it says the same as the configuration in force.
fn wanted(file: &Path, ports: Ports, old: &Snapshot) -> anyhow::Result<Option<Config>> {
    let config = reload::read(file, ports)?;
    if config == old.config {
        return Ok(None);
    }
    if let Some(what) = config.removes(&old.config) {
        bail!(
            "{}: the file has no {what}, but the configuration in force has; if every {what} is to \
             go, set `allow-empty = true`",
            file.display()
        );
    }
    Ok(Some(config))
}

fn names(registry: &Registry) -> Named {
    let mut named = Named::new();
    for (_, state) in registry.backends() {
        if let Host::Name(name) = &state.backend.host {
            named.entry(name.clone()).or_default().push(Arc::clone(state));
        }
    }
    named
}

/// Returns the steps from the names of one configuration to those of the next.
fn steps(old: &Named, new: &Named) -> Vec<Step> {
    let gone = old.keys().filter(|name| !new.contains_key(*name)).cloned().map(Step::Remove);
    let others = new.iter().filter_map(|(name, states)| match old.contains_key(name) {
        false => Some(Step::Add(name.clone())),
        true if states.iter().any(|state| state.addresses().is_none()) => {
            Some(Step::Publish(name.clone()))
        }
        true => None,
    });
    gone.chain(others).collect()
}

/// The thread that builds, if there is one.
#[derive(Debug)]
pub(super) struct Builder {
    waker: Arc<Wakers>,
    /// The result of the thread, once there is one.
    result: Arc<Mutex<Option<Built>>>,
    is_busy: bool,
    /// A further reload was asked for while the thread worked: true by SIGHUP.
    again: Option<bool>,
    /// True if SIGHUP asked for the reload under way.
    asked: bool,
}

impl Builder {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            waker: Arc::new(Wakers::new(1)?),
            result: Arc::default(),
            is_busy: false,
            again: None,
            asked: false,
        })
    }

    /// True if a thread can start now; otherwise the reload is remembered.
    pub(super) fn is_free(&mut self, asked: bool) -> bool {
        if self.is_busy {
            self.again = Some(asked || self.again == Some(true));
        }
        !self.is_busy
    }

    /// Starts to build. Without a thread, builds at once.
    pub(super) fn start(&mut self, file: PathBuf, ports: Ports, old: Old, asked: bool) {
        (self.is_busy, self.asked) = (true, asked);
        let old = Arc::new(Mutex::new(Some(old)));
        let (result, waker) = (Arc::clone(&self.result), Arc::clone(&self.waker));
        let build = move || {
            let old = old.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(old) = old {
                let built = build(&file, ports, old);
                *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(built);
                waker.wake();
            }
        };
        if let Err(error) = spawn("reload", STACK, build.clone()) {
            tracing::warn!("{error:#}; the gateway reads the file without it");
            build();
        }
    }

    /// Returns the result with the way in which it was asked for, once it is there.
    pub(super) fn take(&mut self) -> Option<(Built, bool)> {
        let built = self.result.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        self.waker.clear(0);
        self.is_busy = false;
        Some((built, self.asked))
    }

    /// Returns the reload that was asked for in the meantime.
    pub(super) fn take_again(&mut self) -> Option<bool> {
        self.again.take()
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.waker.descriptor(0)
    }
}

/// Frees memory of configurations that are no longer in use in a thread of its own, because freeing
/// the parts of 100,000 routes takes long.
#[derive(Debug, Default)]
pub(super) struct Retired(VecDeque<(Arc<Snapshot>, Arc<Named>)>);

impl Retired {
    pub(super) fn add(&mut self, snapshot: Arc<Snapshot>, named: Arc<Named>) {
        self.0.push_back((snapshot, named));
    }

    /// Frees the configurations that no connection uses.
    pub(super) fn turn(&mut self) {
        let (unused, used) = std::mem::take(&mut self.0)
            .into_iter()
            .partition::<VecDeque<_>, _>(|(snapshot, _)| Arc::strong_count(snapshot) == 1);
        self.0 = used;
        if !unused.is_empty() {
            // If there is no thread, the memory is freed here.
            let _ = spawn("retire", STACK, move || drop(unused));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Named, Step, steps};
    use crate::config::{Backend, Host};
    use crate::state::BackendState;
    use std::sync::Arc;

    fn named(names: &[(&str, bool)]) -> Named {
        let state = |name: &str, is_known: bool| {
            let state = BackendState::new(Backend { host: Host::Name(name.into()), port: 1 });
            if is_known {
                state.set_addresses(&[]);
            }
            Arc::new(state)
        };
        names.iter().map(|(name, known)| ((*name).into(), vec![state(name, *known)])).collect()
    }

    #[test]
    fn the_steps_lead_from_one_configuration_to_the_next() {
        let old = named(&[("stays", true), ("gone", true), ("moved", true)]);
        let new = named(&[("stays", true), ("moved", false), ("added", false)]);
        let mut found = steps(&old, &new);
        found.sort_by_key(|step| format!("{step:?}"));
        let expected =
            [Step::Add("added".into()), Step::Publish("moved".into()), Step::Remove("gone".into())];
        assert_eq!(found, expected);
        assert_eq!(steps(&new, &named(&[])).len(), 3);
    }
}
