//! The questions to name servers, and the lifetime of their results.
//!
//! The names are known in advance, because they are the backends of the configuration. They are
//! resolved before they are needed and again when the result expires, so only the first connections
//! wait for a server. If no server responds, the old addresses stay in use. A bounded number of names
//! is resolved at once, so that any number of names needs few descriptors. A name that a client waits
//! for is resolved before all others, also when that number is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use kiln_daemon::dns::{Answer, Family, Question};

use super::conf::Conf;

/// The shortest time in seconds before a name is resolved again.
const TTL_MIN: u32 = 1;

/// The longest time in seconds, so that a mistake in a zone does not stay for a week.
const TTL_MAX: u32 = 3600;

/// Milliseconds before a name without an address is resolved again.
const RETRY_NOTHING: u64 = 5_000;

/// Milliseconds before a name is resolved again after no server responded; doubled each time.
const RETRY_FAILURE: u64 = 1_000;

/// The maximum of [`RETRY_FAILURE`] after doubling, in milliseconds.
const RETRY_FAILURE_MAX: u64 = 30_000;

/// Identifies a question that is under way.
pub type QueryId = u32;

/// An action for the owner of the sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a packet from a new socket.
    Send {
        /// Identifies the response.
        query: QueryId,
        /// The receiver.
        server: SocketAddr,
        /// True for TCP, because the response does not fit into a UDP packet.
        tcp: bool,
        /// The message, without the length that TCP needs before it.
        packet: Vec<u8>,
    },
    /// Close the socket of a question.
    Close(QueryId),
}

#[derive(Debug)]
struct Entry {
    /// `None` before the first result.
    addresses: Option<Vec<IpAddr>>,
    failures: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The result is valid until this moment.
    Rests(u64),
    Asks(Lookup),
}

#[derive(Debug)]
struct Lookup {
    candidates: Vec<String>,
    index: usize,
    halves: [Half; 2],
}

#[derive(Debug)]
enum Half {
    Begins,
    Asks {
        query: QueryId,
        question: Question,
        attempt: usize,
        tcp: bool,
        /// The response was truncated: the same server must be queried over TCP.
        truncated: bool,
        until: u64,
    },
    Found(Vec<IpAddr>, u32),
    Nothing,
    Failed,
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The most names that are resolved at once. Each has two questions, and each question a descriptor.
pub const LOOKUPS_MAX: usize = 64;

/// The most names that clients wait for and that are resolved besides [`LOOKUPS_MAX`] others.
pub const URGENT_MAX: usize = 64;

/// The most names that one turn begins with, so that names in `hosts`, which need no question, take
/// little time at once.
const BEGINS_MAX: usize = 1_000;

/// All names and the questions under way.
#[derive(Debug)]
pub struct Resolver {
    conf: Conf,
    names: BTreeMap<String, Entry>,
    /// The names that rest, by the moment at which they are resolved again.
    due: BTreeSet<(u64, String)>,
    /// The names among them that clients wait for.
    urgent: BTreeSet<String>,
    /// The names that are being resolved, at most [`LOOKUPS_MAX`] and [`URGENT_MAX`].
    asking: BTreeSet<String>,
    /// The questions under way, with their names.
    queries: BTreeMap<QueryId, String>,
    /// The names whose addresses were set since the last call of [`Self::take_changed`].
    changed: BTreeSet<String>,
    last: QueryId,
}

impl Resolver {
    /// A resolver without names.
    #[must_use]
    pub const fn new(conf: Conf) -> Self {
        Self {
            conf,
            names: BTreeMap::new(),
            due: BTreeSet::new(),
            urgent: BTreeSet::new(),
            asking: BTreeSet::new(),
            queries: BTreeMap::new(),
            changed: BTreeSet::new(),
            last: 0,
        }
    }

    /// Adopts changed files. All names are resolved again; meanwhile their old addresses stay in use.
    pub fn configure(&mut self, conf: Conf, now: u64) -> Vec<Action> {
        self.conf = conf;
        let mut actions = Vec::new();
        for entry in self.names.values_mut() {
            entry.close(&mut actions);
            entry.state = State::Rests(now);
        }
        self.sort();
        actions
    }

    /// Resolves a name from now on.
    pub fn add(&mut self, name: &str, now: u64) {
        if !self.names.contains_key(name) {
            let entry = Entry { addresses: None, failures: 0, state: State::Rests(now) };
            self.names.insert(name.to_owned(), entry);
            self.due.insert((now, name.to_owned()));
        }
    }

    /// Resolves a name no longer.
    pub fn remove(&mut self, name: &str) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(entry) = self.names.remove(name) else { return actions };
        if let State::Rests(until) = entry.state {
            self.due.remove(&(until, name.to_owned()));
        }
        self.asking.remove(name);
        entry.close(&mut actions);
        for action in &actions {
            if let Action::Close(query) = action {
                self.queries.remove(query);
            }
        }
        actions
    }

    /// Resolves a name before all others, because a client waits for it, unless its addresses are
    /// known.
    pub fn prefer(&mut self, name: &str, now: u64) {
        self.add(name, now);
        let is_new =
            |entry: &Entry| entry.addresses.is_none() && matches!(entry.state, State::Rests(_));
        if self.names.get(name).is_some_and(is_new) {
            self.urgent.insert(name.to_owned());
        }
    }

    /// Sorts all names by their state again, after a change of all of them.
    fn sort(&mut self) {
        (self.due, self.asking) = (BTreeSet::new(), BTreeSet::new());
        for (name, entry) in &self.names {
            match &entry.state {
                State::Rests(until) => drop(self.due.insert((*until, name.clone()))),
                State::Asks(_) => drop(self.asking.insert(name.clone())),
            }
        }
        let asking = &self.asking;
        self.queries.retain(|_, name| asking.contains(name));
    }

    /// Returns the addresses of a name: `None` before the first result, empty if it has no address.
    #[must_use]
    pub fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        self.names.get(name)?.addresses.as_deref()
    }

    /// Returns the names whose addresses were set since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    /// Sends the questions that are due, as far as there is room. `random` chooses their ids.
    pub fn turn(&mut self, now: u64, random: &mut dyn FnMut() -> u16) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut left = BEGINS_MAX;
        loop {
            self.begin_due(now, &mut left);
            for name in self.asking.clone() {
                self.advance(&name, now, random, &mut actions);
            }
            if left == 0 || self.first_due().is_none_or(|until| until > now) {
                return actions;
            }
        }
    }

    /// Returns the moment at which the next name is due for which there is room.
    fn first_due(&self) -> Option<u64> {
        if !self.urgent.is_empty() && self.asking.len() < LOOKUPS_MAX + URGENT_MAX {
            return Some(0);
        }
        let has_room = self.asking.len() < LOOKUPS_MAX;
        self.due.first().filter(|_| has_room).map(|(until, _)| *until)
    }

    /// Takes the next name that is due at this moment.
    fn take_due(&mut self, now: u64) -> Option<String> {
        while let Some(name) = self.urgent.pop_first() {
            // A name that is being resolved, or is gone, rests no more.
            if let Some(State::Rests(until)) = self.names.get(&name).map(|entry| &entry.state) {
                self.due.remove(&(*until, name.clone()));
                return Some(name);
            }
        }
        let is_due = self.first_due().is_some_and(|until| until <= now);
        if is_due { self.due.pop_first().map(|(_, name)| name) } else { None }
    }

    /// Begins to resolve names that are due, at most `left` of them.
    fn begin_due(&mut self, now: u64, left: &mut usize) {
        while *left > 0 && self.first_due().is_some_and(|until| until <= now) {
            *left -= 1;
            let Some(name) = self.take_due(now) else { return };
            let Some(entry) = self.names.get_mut(&name) else { continue };
            entry.begin(&name, &self.conf, now);
            match &entry.state {
                State::Rests(until) => {
                    self.changed.insert(name.clone());
                    self.due.insert((*until, name));
                }
                State::Asks(_) => drop(self.asking.insert(name)),
            }
        }
    }

    fn advance(
        &mut self,
        name: &str,
        now: u64,
        random: &mut dyn FnMut() -> u16,
        actions: &mut Vec<Action>,
    ) {
        let Some(entry) = self.names.get_mut(name) else { return };
        let before = entry.addresses.is_some();
        let begin = actions.len();
        let mut turn = Turn { conf: &self.conf, now, random, last: &mut self.last, actions };
        entry.advance(&mut turn);
        for action in &actions[begin..] {
            match action {
                Action::Send { query, .. } => drop(self.queries.insert(*query, name.to_owned())),
                Action::Close(query) => drop(self.queries.remove(query)),
            }
        }
        if let State::Rests(until) = entry.state {
            self.asking.remove(name);
            self.due.insert((until, name.to_owned()));
            self.changed.insert(name.to_owned());
        } else if entry.addresses.is_some() && (!before || entry.is_partial()) {
            self.changed.insert(name.to_owned());
        }
    }

    /// Returns the moment at which [`Self::turn`] must be called next.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        let asking = self.asking.iter().filter_map(|name| self.names.get(name)).map(Entry::next);
        asking.chain(self.first_due()).min()
    }

    /// Handles a message that arrived for a question. [`Self::turn`] must be called afterwards.
    pub fn received(&mut self, query: QueryId, packet: &[u8]) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(half) = self.half(query) {
            half.received(packet, &mut actions);
        }
        if !actions.is_empty() {
            self.queries.remove(&query);
        }
        actions
    }

    /// Records that a question's socket failed. [`Self::turn`] must be called afterwards.
    pub fn failed(&mut self, query: QueryId) {
        if let Some(Half::Asks { until, .. }) = self.half(query) {
            *until = 0;
        }
    }

    fn half(&mut self, query: QueryId) -> Option<&mut Half> {
        let entry = self.names.get_mut(self.queries.get(&query)?)?;
        let State::Asks(lookup) = &mut entry.state else { return None };
        lookup.halves.iter_mut().find(|half| half.query() == Some(query))
    }
}

/// The context of one turn.
struct Turn<'a> {
    conf: &'a Conf,
    now: u64,
    random: &'a mut dyn FnMut() -> u16,
    last: &'a mut QueryId,
    actions: &'a mut Vec<Action>,
}

impl Entry {
    fn begin(&mut self, name: &str, conf: &Conf, now: u64) {
        if let Some(addresses) = conf.host(name) {
            self.addresses = Some(addresses.to_vec());
            self.state = State::Rests(now + u64::from(TTL_MAX) * 1000);
            return;
        }
        let candidates = conf.candidates(name);
        let halves = [Half::Begins, Half::Begins];
        self.state = State::Asks(Lookup { candidates, index: 0, halves });
    }

    /// True if one family is known and the other is still asked for.
    fn is_partial(&self) -> bool {
        let State::Asks(lookup) = &self.state else { return false };
        lookup.halves.iter().any(|half| half.found().is_some())
    }

    fn close(&self, actions: &mut Vec<Action>) {
        if let State::Asks(lookup) = &self.state {
            actions.extend(lookup.halves.iter().filter_map(Half::query).map(Action::Close));
        }
    }

    fn next(&self) -> u64 {
        match &self.state {
            State::Rests(until) => *until,
            State::Asks(lookup) => lookup.halves.iter().map(Half::next).min().unwrap_or(0),
        }
    }

    /// Sends questions, and ends the lookup when both families are known.
    fn advance(&mut self, turn: &mut Turn<'_>) {
        while let State::Asks(lookup) = &mut self.state {
            let name = &lookup.candidates[lookup.index];
            for (half, family) in lookup.halves.iter_mut().zip(FAMILIES) {
                half.advance(name, family, turn);
            }
            if lookup.halves.iter().any(|half| matches!(half, Half::Asks { .. })) {
                // A first client does not wait for a family that is never answered.
                let found = lookup.halves.iter().filter_map(Half::found).flatten();
                if self.addresses.as_ref().is_none_or(Vec::is_empty) {
                    self.addresses = Some(found.copied().collect::<Vec<_>>())
                        .filter(|found| !found.is_empty())
                        .or_else(|| self.addresses.take());
                }
                return;
            }
            let nothing = lookup.halves.iter().all(|half| matches!(half, Half::Nothing));
            if nothing && lookup.index + 1 < lookup.candidates.len() {
                lookup.index += 1;
                lookup.halves = [Half::Begins, Half::Begins];
                continue;
            }
            let wait = self.finish();
            self.state = State::Rests(turn.now + wait);
        }
    }

    /// Stores the result. Returns the milliseconds until the next lookup.
    fn finish(&mut self) -> u64 {
        let State::Asks(lookup) = &mut self.state else { return 0 };
        let failed = lookup.halves.iter().any(|half| matches!(half, Half::Failed));
        let mut found = Vec::new();
        let mut shortest = TTL_MAX;
        for half in &mut lookup.halves {
            if let Half::Found(addresses, ttl) = half {
                found.append(addresses);
                shortest = shortest.min((*ttl).max(TTL_MIN));
            }
        }
        match (found.is_empty(), failed) {
            (false, _) => {
                self.addresses = Some(found);
                self.failures = 0;
                // The answer for the other family is missing, so the result expires soon.
                if failed { RETRY_NOTHING } else { u64::from(shortest) * 1000 }
            }
            (true, false) => {
                self.addresses = Some(Vec::new());
                self.failures = 0;
                RETRY_NOTHING
            }
            (true, true) => {
                let wait = RETRY_FAILURE << self.failures.min(5);
                self.failures += 1;
                // Connections that wait for the first result must learn that there is no address.
                self.addresses.get_or_insert_with(Vec::new);
                wait.min(RETRY_FAILURE_MAX)
            }
        }
    }
}

impl Half {
    const fn query(&self) -> Option<QueryId> {
        match self {
            Self::Asks { query, .. } => Some(*query),
            _ => None,
        }
    }

    fn found(&self) -> Option<&[IpAddr]> {
        match self {
            Self::Found(addresses, _) => Some(addresses),
            _ => None,
        }
    }

    const fn next(&self) -> u64 {
        match self {
            Self::Asks { until, .. } => *until,
            Self::Begins => 0,
            _ => u64::MAX,
        }
    }

    fn received(&mut self, packet: &[u8], actions: &mut Vec<Action>) {
        let Self::Asks { query, question, tcp, truncated, until, .. } = self else { return };
        // Any other message may be forged; the real response can still arrive.
        let Some(answer) = question.answer(packet) else { return };
        let query = *query;
        match answer {
            Answer::Addresses(addresses, ttl) => *self = Self::Found(addresses, ttl),
            Answer::Nothing => *self = Self::Nothing,
            Answer::Truncated(_) | Answer::Failure => {
                *truncated = answer != Answer::Failure && !*tcp;
                *until = 0;
            }
        }
        if !matches!(self, Self::Asks { .. }) {
            actions.push(Action::Close(query));
        }
    }

    /// Queries the next server when the current one has timed out.
    fn advance(&mut self, name: &str, family: Family, turn: &mut Turn<'_>) {
        let (attempt, tcp) = match self {
            Self::Begins => (0, false),
            Self::Asks { truncated: true, attempt, query, .. } => {
                turn.actions.push(Action::Close(*query));
                (*attempt, true)
            }
            Self::Asks { until, attempt, query, .. } if *until <= turn.now => {
                turn.actions.push(Action::Close(*query));
                (*attempt + 1, false)
            }
            _ => return,
        };
        if attempt >= turn.conf.servers.len() * turn.conf.attempts {
            *self = Self::Failed;
            return;
        }
        let Some(question) = Question::new((turn.random)(), name, family) else {
            *self = Self::Nothing;
            return;
        };
        *turn.last = turn.last.wrapping_add(1);
        let query = *turn.last;
        let server = turn.conf.servers[attempt % turn.conf.servers.len()];
        let packet = question.message_with_edns();
        turn.actions.push(Action::Send { query, server, tcp, packet });
        let until = turn.now + turn.conf.timeout;
        *self = Self::Asks { query, question, attempt, tcp, truncated: false, until };
    }
}
