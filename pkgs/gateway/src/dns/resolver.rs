//! Which question goes to which server when, and what holds until when.
//!
//! The names are known beforehand (they are the backends of the configuration), so they are asked
//! for ahead of their use and again when their time is over: no connection waits for a server but
//! the first ones. Addresses that were found stay in use while servers do not answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use kiln_daemon::dns::{Answer, Family, Question};

use super::conf::Conf;

/// Bounds of the time that an answer holds, in seconds: no faster than this is asked again, and
/// no slower, so that a mistake in a zone does not stay for a week.
const TTL: (u32, u32) = (1, 3600);

/// Milliseconds until a name that does not exist is asked for again.
const RETRY_NOTHING: u64 = 5_000;

/// Milliseconds until a name is asked for again when no server answered; doubled up to the most.
const RETRY_FAILURE: (u64, u64) = (1_000, 30_000);

/// Names a question that is under way.
pub type QueryId = u32;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this from a socket of its own.
    Send {
        /// To be named when something comes back.
        query: QueryId,
        /// Where to.
        server: SocketAddr,
        /// Over TCP, because the answer does not fit otherwise.
        tcp: bool,
        /// The message, without TCP's length before it.
        packet: Vec<u8>,
    },
    /// Close the question's socket.
    Close(QueryId),
}

#[derive(Debug)]
struct Entry {
    /// `None` until something is known.
    addresses: Option<Vec<IpAddr>>,
    failures: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// What is known holds until this moment.
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
        step: usize,
        tcp: bool,
        /// The answer was cut: the same server is to be asked over TCP.
        cut: bool,
        until: u64,
    },
    Found(Vec<IpAddr>, u32),
    Nothing,
    Failed,
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// All names and the questions under way.
#[derive(Debug)]
pub struct Resolver {
    conf: Conf,
    names: BTreeMap<String, Entry>,
    last: QueryId,
}

impl Resolver {
    /// Begins without names.
    #[must_use]
    pub const fn new(conf: Conf) -> Self {
        Self { conf, names: BTreeMap::new(), last: 0 }
    }

    /// Takes changed files: everything is asked for again, and nothing is forgotten meanwhile.
    pub fn configure(&mut self, conf: Conf, now: u64) -> Vec<Action> {
        self.conf = conf;
        let mut actions = Vec::new();
        for entry in self.names.values_mut() {
            entry.close(&mut actions);
            entry.state = State::Rests(now);
        }
        actions
    }

    /// These names are in use from now on, and no others.
    pub fn want<'a>(&mut self, names: impl IntoIterator<Item = &'a str>, now: u64) -> Vec<Action> {
        let mut old = std::mem::take(&mut self.names);
        for name in names {
            let fresh = || Entry { addresses: None, failures: 0, state: State::Rests(now) };
            if !self.names.contains_key(name) {
                let entry = old.remove(name).unwrap_or_else(fresh);
                self.names.insert(name.to_owned(), entry);
            }
        }
        let mut actions = Vec::new();
        for entry in old.values() {
            entry.close(&mut actions);
        }
        actions
    }

    /// What is known of a name: `None` while nothing is, empty if it has no address.
    #[must_use]
    pub fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        self.names.get(name)?.addresses.as_deref()
    }

    /// Does what is due. `random` makes the questions' numbers.
    pub fn turn(&mut self, now: u64, random: &mut dyn FnMut() -> u16) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut last = self.last;
        for (name, entry) in &mut self.names {
            if matches!(entry.state, State::Rests(until) if until <= now) {
                entry.begin(name, &self.conf, now);
            }
            let mut context =
                Turn { conf: &self.conf, now, random, last: &mut last, actions: &mut actions };
            entry.go_on(&mut context);
        }
        self.last = last;
        actions
    }

    /// When [`Self::turn`] is to be called next.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.names.values().map(Entry::next).min()
    }

    /// A message came for a question; call [`Self::turn`] afterwards.
    pub fn received(&mut self, query: QueryId, packet: &[u8]) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(half) = self.half(query) {
            half.received(packet, &mut actions);
        }
        actions
    }

    /// A question's socket failed; call [`Self::turn`] afterwards.
    pub fn failed(&mut self, query: QueryId) {
        if let Some(Half::Asks { until, .. }) = self.half(query) {
            *until = 0;
        }
    }

    fn half(&mut self, query: QueryId) -> Option<&mut Half> {
        self.names.values_mut().find_map(|entry| {
            let State::Asks(lookup) = &mut entry.state else { return None };
            lookup.halves.iter_mut().find(|half| half.query() == Some(query))
        })
    }
}

/// What one turn hands down.
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
            self.state = State::Rests(now + u64::from(TTL.1) * 1000);
            return;
        }
        let candidates = conf.candidates(name);
        let halves = [Half::Begins, Half::Begins];
        self.state = State::Asks(Lookup { candidates, index: 0, halves });
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

    /// Sends what is to be sent, and ends the lookup when both families are known.
    fn go_on(&mut self, turn: &mut Turn<'_>) {
        while let State::Asks(lookup) = &mut self.state {
            let name = &lookup.candidates[lookup.index];
            for (half, family) in lookup.halves.iter_mut().zip(FAMILIES) {
                half.go_on(name, family, turn);
            }
            if lookup.halves.iter().any(|half| matches!(half, Half::Asks { .. })) {
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

    /// Takes over what was found; milliseconds until the next lookup.
    fn finish(&mut self) -> u64 {
        let State::Asks(lookup) = &mut self.state else { return 0 };
        let failed = lookup.halves.iter().any(|half| matches!(half, Half::Failed));
        let mut found = Vec::new();
        let mut shortest = TTL.1;
        for half in &mut lookup.halves {
            if let Half::Found(addresses, ttl) = half {
                found.append(addresses);
                shortest = shortest.min((*ttl).max(TTL.0));
            }
        }
        match (found.is_empty(), failed) {
            (false, _) => {
                self.addresses = Some(found);
                self.failures = 0;
                // Half an answer holds only until the other half may be had.
                if failed { RETRY_NOTHING } else { u64::from(shortest) * 1000 }
            }
            (true, false) => {
                self.addresses = Some(Vec::new());
                self.failures = 0;
                RETRY_NOTHING
            }
            (true, true) => {
                let wait = RETRY_FAILURE.0 << self.failures.min(5);
                self.failures += 1;
                // So that who waits for the first answer hears that there is none.
                self.addresses.get_or_insert_with(Vec::new);
                wait.min(RETRY_FAILURE.1)
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

    const fn next(&self) -> u64 {
        match self {
            Self::Asks { until, .. } => *until,
            Self::Begins => 0,
            _ => u64::MAX,
        }
    }

    fn received(&mut self, packet: &[u8], actions: &mut Vec<Action>) {
        let Self::Asks { query, question, tcp, cut, until, .. } = self else { return };
        // What is no answer to the question is somebody else's: the wait goes on.
        let Some(answer) = question.answer(packet) else { return };
        let query = *query;
        match answer {
            Answer::Addresses(addresses, ttl) => *self = Self::Found(addresses, ttl),
            Answer::Nothing => *self = Self::Nothing,
            Answer::Truncated(_) | Answer::Failure => {
                *cut = answer != Answer::Failure && !*tcp;
                *until = 0;
            }
        }
        if !matches!(self, Self::Asks { .. }) {
            actions.push(Action::Close(query));
        }
    }

    /// Asks the next server when the one before had its time.
    fn go_on(&mut self, name: &str, family: Family, turn: &mut Turn<'_>) {
        let (step, tcp) = match self {
            Self::Begins => (0, false),
            Self::Asks { cut: true, step, query, .. } => {
                turn.actions.push(Action::Close(*query));
                (*step, true)
            }
            Self::Asks { until, step, query, .. } if *until <= turn.now => {
                turn.actions.push(Action::Close(*query));
                (*step + 1, false)
            }
            _ => return,
        };
        if step >= turn.conf.servers.len() * turn.conf.attempts {
            *self = Self::Failed;
            return;
        }
        let Some(question) = Question::new((turn.random)(), name, family) else {
            *self = Self::Nothing;
            return;
        };
        *turn.last = turn.last.wrapping_add(1);
        let query = *turn.last;
        let server = turn.conf.servers[step % turn.conf.servers.len()];
        let packet = question.message_with_edns();
        turn.actions.push(Action::Send { query, server, tcp, packet });
        let until = turn.now + turn.conf.timeout;
        *self = Self::Asks { query, question, step, tcp, cut: false, until };
    }
}
