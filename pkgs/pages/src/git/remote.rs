//! Handshake, list of references, and pack.

use std::io::{self, BufRead, Cursor, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Instant;

use gix_hash::{Kind, ObjectId};
use gix_pack::data::input::Mode;
use gix_protocol::fetch::negotiate::{Action, Round, one_round};
use gix_protocol::fetch::{Arguments, Context, Negotiate, Options, Response, Shallow, Tags};
use gix_protocol::handshake::Ref;
use gix_protocol::ls_refs::RefPrefixes;
use gix_protocol::{Handshake, LsRefsCommand};
use gix_transport::client::blocking_io::Transport;
use gix_transport::client::blocking_io::http;
use gix_transport::{Protocol, Service, client};
use gix_utils::progress::{Discard, DynNestedProgress};
use ureq::tls::TlsConfig;

use crate::git::http::Client;
use crate::git::known::Known;
use crate::git::limits::{Failure, Limit, Limits};
use crate::git::login::Login;
use crate::git::meter::Meter;
use crate::git::snapshot::Snapshot;
use crate::git::ssh;
use crate::guard::lookup::Guard;
use crate::guard::url::{GitUrl, Scheme};

/// The name by which servers know this program.
const AGENT: &str = concat!("git/kiln-pages-", env!("CARGO_PKG_VERSION"));

/// The bytes before the first object of a pack: `PACK`, the version, the number of objects.
const PACK_HEADER: usize = 12;

/// The most bytes of a list of references: about 60,000 of them.
const LIST_BYTES_MAX: u64 = 4 << 20;

/// The reference at which a repository's default branch hangs; an empty repository lacks it.
const HEAD: &str = "HEAD";

/// The beginning of all branches' names.
const HEADS: &str = "refs/heads/";

/// A branch of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// The repository.
    pub url: GitUrl,
    /// The name without `refs/heads/`, or the full name of another reference.
    pub name: String,
    /// The login.
    pub login: Option<Login>,
}

impl Branch {
    /// Returns the full name of the reference.
    fn reference(&self) -> String {
        if self.name.starts_with("refs/") {
            self.name.clone()
        } else {
            format!("refs/heads/{}", self.name)
        }
    }
}

/// The things that all fetches share.
#[derive(Debug, Clone)]
pub struct Fetcher {
    /// The servers that may be contacted.
    pub guard: Guard,
    /// The limits of each fetch.
    pub limits: Limits,
    /// The certificate authorities.
    pub tls: TlsConfig,
    /// The file with host keys of SSH servers, read for each fetch.
    pub known_hosts: Option<PathBuf>,
}

/// The result of a fetch.
#[derive(Debug)]
pub enum Fetched {
    /// The branch is still at the known commit.
    Unchanged,
    /// The branch is at another commit.
    Commit(Box<Snapshot>),
}

impl Fetcher {
    /// Fetches the commit of a branch into a folder, unless it is the known one. Blocks, but never
    /// longer than the limit of time.
    pub fn fetch(
        &self,
        branch: &Branch,
        known: Option<&str>,
        scratch: &Path,
    ) -> Result<Fetched, Failure> {
        self.converse(branch, self.limits, |session| session.run(known, scratch))
    }

    /// Lists the references whose names begin with one of the prefixes, with their commits.
    pub fn list(
        &self,
        branch: &Branch,
        prefixes: &[String],
    ) -> Result<Vec<(String, String)>, Failure> {
        let limits = Limits { bytes: self.limits.bytes.min(LIST_BYTES_MAX), ..self.limits };
        self.converse(branch, limits, |session| session.list(prefixes))
    }

    /// Holds a conversation, but never longer than the limit of time.
    fn converse<T>(
        &self,
        branch: &Branch,
        limits: Limits,
        talk: impl FnOnce(Session<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let meter = Meter::start(limits);
        std::thread::scope(|scope| {
            let (done, wait) = mpsc::channel::<()>();
            let timer = meter.clone();
            scope.spawn(move || {
                let left = timer.deadline().saturating_duration_since(Instant::now());
                if wait.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
                    drop(timer.end(Failure::TimedOut(timer.limits().time)));
                }
            });
            let result = self
                .connect(branch, &meter)
                .and_then(|transport| talk(Session { transport, meter: &meter, branch }));
            drop(done);
            result.map_err(|failure| meter.cause_or(failure))
        })
    }

    fn connect(
        &self,
        branch: &Branch,
        meter: &Arc<Meter>,
    ) -> Result<Box<dyn Transport + Send>, Failure> {
        let Branch { url, login, .. } = branch;
        match (url.scheme, login) {
            (Scheme::Ssh, Some(Login::Key { user, key, known_hosts })) => {
                let own = self.known_hosts()?;
                let known = Known::find(&[&own, known_hosts], url);
                let user = url.user.as_deref().unwrap_or(user);
                ssh::connect(&self.guard, meter, &ssh::Target { url, user, key, known })
            }
            (Scheme::Ssh, _) => Err(Failure::Credentials(
                "an SSH repository needs a private key, in the key ssh-privatekey",
            )),
            (Scheme::Https, Some(Login::Password { user, password })) => {
                let account = client::Account {
                    username: user.clone(),
                    password: password.clone(),
                    oauth_refresh_token: None,
                };
                self.http(url, meter, Some(account))
            }
            (Scheme::Https | Scheme::Http, None) => self.http(url, meter, None),
            (Scheme::Http, Some(_)) => {
                Err(Failure::Credentials("a login is sent over https:// only"))
            }
            (Scheme::Https, Some(Login::Key { .. })) => {
                Err(Failure::Credentials("a private key is for ssh:// only"))
            }
        }
    }

    fn http(
        &self,
        url: &GitUrl,
        meter: &Arc<Meter>,
        account: Option<client::Account>,
    ) -> Result<Box<dyn Transport + Send>, Failure> {
        let text = url.to_string();
        let parsed = gix_url::parse(text.as_str()).map_err(|error| protocol(&error))?;
        let client = Client::new(self.guard.clone(), meter.clone(), self.tls.clone());
        let mut transport = http::Transport::new_http(client, parsed, Protocol::V2, false);
        if let Some(account) = account {
            client::TransportWithoutIO::set_identity(&mut transport, account)
                .map_err(|error| protocol(&error))?;
        }
        Ok(Box::new(transport))
    }

    /// Reads the administrator's list of host keys.
    fn known_hosts(&self) -> Result<String, Failure> {
        let Some(file) = &self.known_hosts else { return Ok(String::new()) };
        match std::fs::read_to_string(file) {
            // The ConfigMap is optional.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(|error| {
                Failure::Disk(format!("cannot read the list of --git-known-hosts: {error}"))
            }),
        }
    }
}

fn protocol(error: &dyn std::fmt::Display) -> Failure {
    Failure::Protocol(error.to_string())
}

/// One conversation with a server.
struct Session<'a> {
    transport: Box<dyn Transport + Send>,
    meter: &'a Arc<Meter>,
    branch: &'a Branch,
}

impl Session<'_> {
    fn handshake(&mut self) -> Result<Handshake, Failure> {
        gix_protocol::handshake(
            &mut self.transport,
            Service::UploadPack,
            |_| Ok(None),
            Vec::new(),
            &mut Discard,
        )
        .map_err(|error| protocol(&error))
    }

    fn list(mut self, prefixes: &[String]) -> Result<Vec<(String, String)>, Failure> {
        let mut handshake = self.handshake()?;
        let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        let refs = match handshake.refs.take() {
            Some(refs) => refs,
            None => self.refs(&handshake, &prefixes)?,
        };
        let known = refs.iter().filter_map(|found| {
            let (Ref::Direct { full_ref_name: name, object }
            | Ref::Peeled { full_ref_name: name, object, .. }
            | Ref::Symbolic { full_ref_name: name, object, .. }) = found
            else {
                return None;
            };
            let name = std::str::from_utf8(name).ok()?;
            let is_wanted = prefixes.iter().any(|prefix| name.starts_with(prefix));
            is_wanted.then(|| (name.to_owned(), object.to_string()))
        });
        Ok(known.collect())
    }

    fn run(mut self, known: Option<&str>, scratch: &Path) -> Result<Fetched, Failure> {
        let mut handshake = self.handshake()?;
        let commit = self.commit(&mut handshake)?;
        if known.is_some_and(|known| commit.to_string().as_str() == known) {
            return Ok(Fetched::Unchanged);
        }
        let folder = tempfile::Builder::new().prefix("fetch-").tempdir_in(scratch);
        let folder = folder.map_err(|error| Failure::Disk(error.to_string()))?;
        let index = self.pack(&mut handshake, commit, folder.path())?;
        let snapshot = Snapshot::open(folder, &index, commit, self.meter.limits().file_bytes)?;
        Ok(Fetched::Commit(Box::new(snapshot)))
    }

    /// Returns the commit of the branch.
    fn commit(&mut self, handshake: &mut Handshake) -> Result<ObjectId, Failure> {
        let name = self.branch.reference();
        let refs = match handshake.refs.take() {
            Some(refs) => refs,
            None => self.refs(handshake, &[&name, HEAD])?,
        };
        if let Some(commit) = refs.iter().find_map(|found| target(found, &name)) {
            return Ok(commit);
        }
        let is_unborn = |refs: &[Ref]| refs.iter().all(|found| matches!(found, Ref::Unborn { .. }));
        // The default branch may be missing although there are others.
        if is_unborn(&refs) && is_unborn(&self.refs(handshake, &[HEADS])?) {
            return Err(Failure::Empty);
        }
        Err(Failure::NoBranch(self.branch.name.clone()))
    }

    /// Lists the references with these prefixes.
    fn refs(&mut self, handshake: &Handshake, names: &[&str]) -> Result<Vec<Ref>, Failure> {
        if handshake.server_protocol_version != Protocol::V2 {
            return Ok(Vec::new());
        }
        let mut prefixes = RefPrefixes::new();
        prefixes.extend(names.iter().map(|name| (*name).into()));
        LsRefsCommand::new(Some(prefixes), &handshake.capabilities, agent())
            .invoke_blocking(&mut self.transport, &mut Discard, false)
            .map_err(|error| protocol(&error))
    }

    /// Receives the pack of one commit, and returns the path of its index.
    fn pack(
        &mut self,
        handshake: &mut Handshake,
        commit: ObjectId,
        folder: &Path,
    ) -> Result<PathBuf, Failure> {
        let limits = *self.meter.limits();
        let mut index = None;
        let kind = commit.kind();
        let meter = self.meter;
        let shallow = Shallow::DepthAtRemote(std::num::NonZeroU32::MIN);
        gix_protocol::fetch(
            &mut Want { commit, file_bytes: limits.file_bytes },
            |pack, progress, stop| {
                index = unpack(pack, kind, folder, meter, progress, stop)?;
                Ok(true)
            },
            Discard,
            &meter.stop,
            Context {
                handshake,
                transport: &mut self.transport,
                user_agent: agent(),
                trace_packetlines: false,
            },
            Options {
                shallow_file: folder.join("shallow"),
                shallow: &shallow,
                tags: Tags::None,
                reject_shallow_remote: false,
            },
        )
        .map_err(|error| protocol(&error))?;
        index.ok_or_else(|| Failure::Protocol("the server sent no objects".to_owned()))
    }
}

fn agent() -> (&'static str, Option<String>) {
    ("agent", Some(AGENT.to_owned()))
}

/// Returns the commit of a reference of this name.
fn target(found: &Ref, name: &str) -> Option<ObjectId> {
    match found {
        Ref::Direct { full_ref_name, object }
        | Ref::Peeled { full_ref_name, object, .. }
        | Ref::Symbolic { full_ref_name, object, .. } => (full_ref_name == name).then_some(*object),
        Ref::Unborn { .. } => None,
    }
}

/// Checks the number of objects, then stores and indexes the pack.
///
/// The number is in the header, and gitoxide would reserve memory for it. An object with more bytes
/// than a file may have ends the fetch before it is unpacked.
fn unpack(
    pack: &mut dyn BufRead,
    kind: Kind,
    folder: &Path,
    meter: &Meter,
    progress: &mut dyn DynNestedProgress,
    stop: &AtomicBool,
) -> gix_error::Result<Option<PathBuf>> {
    let limits = meter.limits();
    let mut header = [0; PACK_HEADER];
    pack.read_exact(&mut header).map_err(gix_error::Error::from_error)?;
    let [.., a, b, c, d] = header;
    if u32::from_be_bytes([a, b, c, d]) > limits.objects {
        let error = meter.end(Failure::Limit(Limit::Objects(limits.objects)));
        return Err(gix_error::Error::from_error(error));
    }
    let options = gix_pack::bundle::write::Options {
        thread_limit: Some(1),
        iteration_mode: Mode::Verify,
        alloc_limit_bytes: usize::try_from(limits.file_bytes).ok(),
        ..Default::default()
    };
    let mut pack = Cursor::new(header).chain(pack);
    let none = None::<gix_object::find::Never>;
    let written = gix_pack::Bundle::write_to_directory(
        &mut pack,
        Some(folder),
        progress,
        stop,
        none,
        kind,
        options,
    )?;
    Ok(written.index_path)
}

/// Asks for one commit, in one round.
struct Want {
    commit: ObjectId,
    file_bytes: u64,
}

impl Negotiate for Want {
    fn mark_complete_and_common_ref(&mut self) -> gix_error::Result<Action> {
        Ok(Action::MustNegotiate { remote_ref_target_known: vec![false] })
    }

    fn add_wants(&mut self, arguments: &mut Arguments, _known: &[bool]) -> bool {
        arguments.want(self.commit);
        if arguments.can_use_filter() {
            // The server leaves larger files out, and publishing reports them.
            arguments.filter(&format!("blob:limit={}", self.file_bytes + 1));
        }
        true
    }

    fn one_round(
        &mut self,
        _state: &mut one_round::State,
        _arguments: &mut Arguments,
        _previous: Option<&Response>,
    ) -> gix_error::Result<(Round, bool)> {
        let round = Round {
            haves_sent: 0,
            in_vain: 0,
            haves_to_send: 0,
            previous_response_had_at_least_one_in_common: false,
        };
        Ok((round, true))
    }
}
