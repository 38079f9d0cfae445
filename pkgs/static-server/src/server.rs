//! Sockets: one thread, one epoll loop, level-triggered.
//!
//! Every socket is non-blocking, and a connection gets a bounded number of steps per turn, so no
//! client can hold up another. What a connection does is decided in [`crate::connection`].

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use kiln_daemon::exit::Exit;
use kiln_daemon::signal::Termination;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::Client;
use crate::connection::Context;
use crate::date::http_date;
use crate::options::Options;
use crate::site::Site;

/// Most connections at once, if the limit of descriptors allows them. With full heads, which is
/// the worst that clients can do, they take 8 MiB together.
const MAX_CONNECTIONS: usize = 1024;

/// Descriptors that are not connections: standard streams, epoll, signals, listener, and some room.
const OTHER_DESCRIPTORS: u64 = 16;

/// What answers get after SIGTERM; the program has ended one second after it.
const STOP_TIME: Duration = Duration::from_millis(800);

/// Connections that are taken at once before those that are open get their turn.
const ACCEPTS: usize = 64;

/// How long a connection may wait for its client while others wait for a place.
const FAIR_WAIT: Duration = Duration::from_secs(1);

/// What epoll reports for these two; connections are reported by their index.
const LISTENER: u64 = u64::MAX;
const TERMINATION: u64 = u64::MAX - 1;

const NO_EVENT: epoll::Event =
    epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    options: Options,
    site: Site,
    listener: TcpListener,
    address: SocketAddr,
    epoll: OwnedFd,
    /// Clients by index. A freed index is used again; an event that was meant for the client
    /// before finds a socket with nothing to do, because all of them are non-blocking.
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    most: usize,
    /// Set while the listener is not waited for, because there is no room.
    pause: Option<Pause>,
    /// No deadline is before this moment.
    next_deadline: Option<Instant>,
    clock: Clock,
}

/// A time without new connections.
#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    /// Connections at its beginning: fewer end it.
    open: usize,
}

/// The time of one turn of the loop.
#[derive(Debug)]
struct Clock {
    now: Instant,
    posix: u64,
    date: String,
    stopping: bool,
}

impl Clock {
    fn new() -> Self {
        let mut clock = Self { now: Instant::now(), posix: 0, date: http_date(0), stopping: false };
        clock.update();
        clock
    }

    fn update(&mut self) {
        self.now = Instant::now();
        let posix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if posix != self.posix {
            self.posix = posix;
            self.date = http_date(posix);
        }
    }

    fn context<'a>(&'a self, options: &Options, site: &'a Site) -> Context<'a> {
        Context {
            site,
            now: self.now,
            date: &self.date,
            head_limit: options.head_limit,
            head_timeout: options.head_timeout,
            idle_timeout: options.idle_timeout,
            stopping: self.stopping,
        }
    }
}

impl Server {
    /// Opens the port. From now on clients wait in the kernel's queue.
    pub fn new(options: &Options, site: Site) -> anyhow::Result<Self> {
        let wanted = SocketAddr::new(options.address, options.port);
        let listener = TcpListener::bind(wanted)
            .map_err(|error| {
                let later = error.kind() == ErrorKind::AddrInUse;
                anyhow::Error::new(error).context(if later { Exit::TempFail } else { Exit::Config })
            })
            .with_context(|| format!("listening on {wanted}"))?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("creating an epoll")?;
        Ok(Self {
            address: listener.local_addr()?,
            options: options.clone(),
            site,
            listener,
            epoll,
            clients: Vec::new(),
            free: Vec::new(),
            most: most_connections(),
            pause: None,
            next_deadline: None,
            clock: Clock::new(),
        })
    }

    /// Where it listens, with the port that was chosen for port 0.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until SIGTERM or SIGINT, then ends within a second.
    pub fn run(&mut self, termination: &Termination) -> anyhow::Result<()> {
        let data = epoll::EventData::new_u64(TERMINATION);
        epoll::add(&self.epoll, termination, data, epoll::EventFlags::IN)
            .context("waiting for signals")?;
        self.listen()?;
        while !self.turn(self.next_deadline)? {
            self.resume()?;
        }
        self.stop()
    }

    /// One turn of the loop; true when the signal to end has come.
    fn turn(&mut self, until: Option<Instant>) -> anyhow::Result<bool> {
        let mut events = [NO_EVENT; 128];
        let count = self.wait(&mut events, until)?;
        self.clock.update();
        let mut ended = false;
        for event in &events[..count] {
            match event.data.u64() {
                LISTENER => self.accept(ACCEPTS),
                TERMINATION => ended = true,
                index => self.serve(usize::try_from(index)?),
            }
        }
        self.expire();
        Ok(ended)
    }

    fn wait(&self, events: &mut [epoll::Event], until: Option<Instant>) -> anyhow::Result<usize> {
        // Time that has passed since the clock was read only makes the next turn come sooner.
        let time = until.map(|until| until.saturating_duration_since(Instant::now()));
        let time = time.map(Timespec::try_from).transpose().ok().flatten();
        match epoll::wait(&self.epoll, events, time.as_ref()) {
            Ok(count) => Ok(count),
            Err(Errno::INTR) => Ok(0),
            Err(error) => Err(error).context("waiting for events"),
        }
    }

    /// Takes those who wait in the queue, some at once so that others get their turn.
    fn accept(&mut self, most: usize) {
        for _ in 0..most {
            if self.open() >= self.most && !self.make_room() {
                return self.pause();
            }
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_of_one_client(&error) => {}
                // Out of descriptors or memory. The listener stays readable, so without a pause
                // this would spin.
                Err(error) if !self.make_room() => {
                    tracing::warn!("no new connections for a while: {error}");
                    return self.pause();
                }
                Err(_) => {}
            }
        }
    }

    fn admit(&mut self, stream: TcpStream) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() - 1
        });
        let context = self.clock.context(&self.options, &self.site);
        match Client::new(stream, &self.epoll, index, &context) {
            Ok(client) => {
                self.note(client.connection.deadline());
                self.clients[index] = Some(client);
            }
            Err(error) => {
                tracing::debug!("a connection is gone before it began: {error}");
                self.free.push(index);
            }
        }
    }

    /// Connections that are open.
    fn open(&self) -> usize {
        self.clients.len() - self.free.len()
    }

    /// Closes the client that has waited longest without asking for anything whole, if that is
    /// long enough: so those who only hold connections cannot keep others out.
    fn make_room(&mut self) -> bool {
        let waiting = self.clients.iter().enumerate().filter_map(|(index, client)| {
            Some((client.as_ref()?.connection.waiting_since()?, index))
        });
        match waiting.min() {
            Some((since, index)) if since + FAIR_WAIT <= self.clock.now => {
                self.close(index);
                true
            }
            _ => false,
        }
    }

    /// Does for one client what can be done without waiting.
    fn serve(&mut self, index: usize) {
        let Some(Some(client)) = self.clients.get_mut(index) else { return };
        let context = self.clock.context(&self.options, &self.site);
        let open = client.step(&context) && client.follow(&self.epoll, index, &context);
        let deadline = client.connection.deadline();
        if open { self.note(deadline) } else { self.close(index) }
    }

    fn close(&mut self, index: usize) {
        // Closing the descriptor takes it out of the epoll too: nobody else holds a copy.
        if self.clients[index].take().is_some() {
            self.free.push(index);
        }
    }

    /// Leaves new connections in the kernel's queue until there may be room.
    fn pause(&mut self) {
        if self.pause.is_none() && epoll::delete(&self.epoll, &self.listener).is_ok() {
            self.pause = Some(Pause { until: self.clock.now + FAIR_WAIT, open: self.open() });
        }
    }

    /// Ends a pause when a connection has been closed or enough time has passed.
    fn resume(&mut self) -> anyhow::Result<()> {
        match self.pause {
            None => Ok(()),
            Some(Pause { until, open }) if self.open() >= open && self.clock.now < until => {
                self.note(until);
                Ok(())
            }
            Some(_) => {
                self.pause = None;
                self.listen()
            }
        }
    }

    fn listen(&self) -> anyhow::Result<()> {
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&self.epoll, &self.listener, data, epoll::EventFlags::IN)
            .context("waiting for connections")
    }

    fn note(&mut self, deadline: Instant) {
        self.next_deadline = Some(self.next_deadline.map_or(deadline, |next| next.min(deadline)));
    }

    /// Tells the connections whose time is over, and finds the next moment to look.
    fn expire(&mut self) {
        if self.next_deadline.is_none_or(|next| next > self.clock.now) {
            return;
        }
        self.next_deadline = None;
        for index in 0..self.clients.len() {
            let Some(client) = &mut self.clients[index] else { continue };
            let deadline = client.connection.deadline();
            if deadline > self.clock.now {
                self.note(deadline);
            } else {
                client.connection.expired(&self.clock.context(&self.options, &self.site));
                self.serve(index);
            }
        }
    }

    /// Answers what has been asked, closes the rest.
    fn stop(&mut self) -> anyhow::Result<()> {
        tracing::info!("ending");
        let end = self.clock.now + STOP_TIME;
        self.clock.stopping = true;
        self.accept(self.most);
        self.pause();
        for index in 0..self.clients.len() {
            self.serve(index);
        }
        while self.open() > 0 && self.clock.now < end {
            self.turn(Some(end))?;
        }
        tracing::info!(cut = self.open(), "ended");
        Ok(())
    }
}

/// Errors of accept(2) that are about the connection that was to be taken, not about us.
fn is_of_one_client(error: &io::Error) -> bool {
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    !ours.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// As many connections as there may be descriptors for, after raising the limit to the hard one.
fn most_connections() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let limit = if raised { maximum } else { current }.unwrap_or(u64::MAX);
    let room = limit.saturating_sub(OTHER_DESCRIPTORS).max(1);
    usize::try_from(room).unwrap_or(usize::MAX).min(MAX_CONNECTIONS)
}
