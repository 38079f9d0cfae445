//! Runs a plan: finds the missing steps, fetches their files and makes them in order.
//!
//! Only steps on the way to a goal run, and only those whose result is not in the cache.
//! Independent steps run in parallel, because linking Go programs and compressing use one core
//! only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};

use super::report::{self, Built};
use super::{Builder, make};
use crate::cache::Entry;
use crate::fetch;
use crate::plan::{Step, UKI};

/// Steps that run at the same time. More would not be faster, because Go and cargo use all cores
/// themselves.
const WORKERS: usize = 2;

/// The finished steps, and those that are still to be made.
struct Queue<'a> {
    waiting: Vec<&'a Step>,
    running: usize,
    done: BTreeMap<String, Entry>,
    failed: bool,
}

impl Builder {
    /// Makes the image and puts it into `target/kiln/`.
    pub fn image(&self) -> Result<Built> {
        let entry = self.make(&[UKI])?.remove(UKI).context("the image was not made")?;
        report::publish(self, &entry)
    }

    /// Downloads everything that building, running and testing need.
    pub fn fetch(&self) -> Result<()> {
        let files: Vec<_> =
            self.plan.steps.values().flat_map(|step| step.downloads.iter().cloned()).collect();
        fetch::all(&files, &self.cache, &self.progress)?;
        let steps: Vec<&str> = self
            .plan
            .steps
            .values()
            .filter(|s| s.action.is_fetch())
            .map(|s| s.name.as_str())
            .collect();
        self.make(&steps).map(drop)
    }

    /// Makes these steps and all that they need, and returns the cache entries of all of them.
    pub fn make(&self, goals: &[&str]) -> Result<BTreeMap<String, Entry>> {
        let mut queue =
            Queue { waiting: Vec::new(), running: 0, done: BTreeMap::new(), failed: false };
        let mut seen = BTreeSet::new();
        for goal in goals {
            let step = self.plan.step(goal)?;
            match self.cache.find(step.digest)? {
                Some(entry) => drop(queue.done.insert(step.name.clone(), entry)),
                None => self.collect(step, &mut queue, &mut seen)?,
            }
        }
        let files: Vec<_> =
            queue.waiting.iter().flat_map(|step| step.downloads.iter().cloned()).collect();
        fetch::all(&files, &self.cache, &self.progress)?;
        self.run(queue)
    }

    /// Adds the missing steps depth first, so that a step comes after those it needs. An entry that
    /// a step reads must be intact to the last byte.
    fn collect<'a>(
        &'a self,
        step: &'a Step,
        queue: &mut Queue<'a>,
        seen: &mut BTreeSet<&'a str>,
    ) -> Result<()> {
        if !seen.insert(&step.name) {
            return Ok(());
        }
        for need in &step.needs {
            let need = self.plan.step(need)?;
            match self.cache.intact(need.digest)? {
                Some(entry) => drop(queue.done.insert(need.name.clone(), entry)),
                None => self.collect(need, queue, seen)?,
            }
        }
        queue.waiting.push(step);
        Ok(())
    }

    fn run(&self, queue: Queue<'_>) -> Result<BTreeMap<String, Entry>> {
        let shared = (Mutex::new(queue), Condvar::new());
        let results = thread::scope(|scope| {
            let workers: Vec<_> =
                (0..WORKERS).map(|_| scope.spawn(|| self.work(&shared))).collect();
            let joined = workers.into_iter().map(thread::ScopedJoinHandle::join);
            joined
                .map(|result| result.unwrap_or_else(|_| bail!("a worker panicked")))
                .collect::<Vec<_>>()
        });
        results.into_iter().collect::<Result<()>>()?;
        Ok(shared.0.into_inner().unwrap_or_else(PoisonError::into_inner).done)
    }

    fn work(&self, (queue, changed): &(Mutex<Queue<'_>>, Condvar)) -> Result<()> {
        let mut state = queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.failed || state.waiting.is_empty() {
                return Ok(());
            }
            let Some((step, needs)) = state.take_ready() else {
                state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.running += 1;
            drop(state);
            let made = self.make_step(step, &needs);
            state = queue.lock().unwrap_or_else(PoisonError::into_inner);
            state.running -= 1;
            let failed = match made {
                Ok(entry) => state.done.insert(step.name.clone(), entry).and(None),
                Err(error) => Some(error),
            };
            state.failed |= failed.is_some();
            changed.notify_all();
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }

    fn make_step(&self, step: &Step, needs: &BTreeMap<String, Entry>) -> Result<Entry> {
        self.cache
            .step(step.digest, &step.name, |dir| make::run(self, step, needs, dir))
            .with_context(|| format!("step `{}` failed", step.name))
    }
}

impl<'a> Queue<'a> {
    /// Takes the first step whose needs are all made, with their entries.
    fn take_ready(&mut self) -> Option<(&'a Step, BTreeMap<String, Entry>)> {
        let ready = |step: &&Step| step.needs.iter().all(|need| self.done.contains_key(need));
        let at = self.waiting.iter().position(ready)?;
        let step = self.waiting.remove(at);
        let needs =
            step.needs.iter().filter_map(|need| Some((need.clone(), self.done.get(need)?.clone())));
        Some((step, needs.collect()))
    }
}
