//! Command line, environment and file of settings.
//!
//! Every setting is one row of [`settings::SETTINGS`]. Precedence: flag, our variable, the variable
//! of KISS (the server that this one stands in for), file, default. An empty variable counts as not
//! set.

mod file;
mod settings;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use kiln_daemon::exit::Exit;

use crate::connection::Limits;
use crate::index::policy::Policy;
use crate::listen::Place;
use crate::options::settings::{Kind, SETTINGS, Setting};
use crate::source::Source;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `--help`.
    Help,
    /// Everything else.
    Serve(Box<Options>),
}

/// How to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Address to listen on; `::` takes both families.
    pub address: IpAddr,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Unix socket to listen on in place of the port.
    pub unix: Option<PathBuf>,
    /// Descriptor that listens already, in place of the port.
    pub descriptor: Option<RawFd>,
    /// Folder with the content.
    pub folder: PathBuf,
    /// Pack with the content, in place of the folder.
    pub pack: Option<PathBuf>,
    /// Folder with the content of each host, in place of the folder.
    pub hosts: Option<PathBuf>,
    /// Sizes and times of connections.
    pub limits: Limits,
    /// How the content is presented.
    pub policy: Policy,
    /// Most bytes of content in memory.
    pub memory_limit: u64,
    /// Time between two looks at the content; none for never.
    pub poll: Option<Duration>,
    /// What would be left out or is wrong ends the program at the start.
    pub strict: bool,
    /// Address for live, ready and metrics; none for none.
    pub operators: Option<SocketAddr>,
    /// Whether answers are logged.
    pub access_log: bool,
    /// Time between SIGTERM and the end of accepting, with readiness false.
    pub drain_delay: Duration,
    /// Number of threads that serve; none for as many as there are processors.
    pub workers: Option<usize>,
    /// Most connections at once; none for as many as descriptors allow.
    pub connections: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 8080,
            unix: None,
            descriptor: None,
            folder: "./content".into(),
            pack: None,
            hosts: None,
            limits: Limits {
                head: 8192,
                time: Duration::from_secs(30),
                idle: Duration::from_secs(5),
            },
            policy: Policy::default(),
            memory_limit: 256 << 20,
            poll: Some(Duration::from_secs(1)),
            strict: false,
            operators: None,
            access_log: false,
            drain_delay: Duration::ZERO,
            workers: None,
            connections: None,
        }
    }
}

impl Options {
    /// Where the content comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        match (&self.hosts, &self.pack) {
            (Some(hosts), _) => Source::Hosts(hosts.clone()),
            (None, Some(pack)) => Source::Pack(pack.clone()),
            (None, None) => Source::Folder(self.folder.clone()),
        }
    }

    /// Where to listen.
    #[must_use]
    pub fn place(&self) -> Place {
        match (self.descriptor, &self.unix) {
            (Some(number), _) => Place::Passed(number),
            (None, Some(path)) => Place::Unix(path.clone()),
            (None, None) => Place::Tcp(SocketAddr::new(self.address, self.port)),
        }
    }
}

/// What the outside says: arguments without the program's name, variables, files.
pub struct Outside<'a> {
    /// Arguments without the program's name.
    pub args: Vec<OsString>,
    /// A variable's value.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// A file's text.
    pub file: &'a dyn Fn(&OsStr) -> std::io::Result<String>,
}

/// A setting that was named, with its value and where it was named.
struct Given {
    setting: &'static Setting,
    value: OsString,
    place: String,
}

/// Reads all of it.
pub fn parse(outside: &Outside<'_>) -> anyhow::Result<Command> {
    let Some(flags) = flags(&outside.args).context(Exit::Usage)? else { return Ok(Command::Help) };
    let variables = variables(outside.variable);
    let named = |given: &&Given| given.setting.long == settings::CONFIG;
    // The last flag counts, and a flag before a variable.
    let config = flags.iter().rfind(named).or_else(|| variables.iter().rfind(named));
    let lines = match config {
        Some(Given { value, .. }) => from_file(value, outside.file).context(Exit::Config)?,
        None => Vec::new(),
    };
    let mut options = Options::default();
    for (givens, exit) in [(lines, Exit::Config), (variables, Exit::Config), (flags, Exit::Usage)] {
        for Given { setting, value, place } in givens {
            (setting.set)(&mut options, &value).context(place).context(exit)?;
        }
    }
    if options.pack.is_some() && options.hosts.is_some() {
        return Err(anyhow!("--pack and --hosts exclude each other").context(Exit::Usage));
    }
    Ok(Command::Serve(Box::new(options)))
}

/// The keys of a file are the long flags without their dashes.
fn from_file(
    name: &OsStr,
    read: impl Fn(&OsStr) -> std::io::Result<String>,
) -> anyhow::Result<Vec<Given>> {
    let text = read(name).with_context(|| format!("reading {}", name.display()))?;
    let lines = file::parse(&text).map_err(|error| anyhow!("{}:{error}", name.display()))?;
    let given = |line: file::Line| {
        let place = format!("{}:{}: {}", name.display(), line.number, line.key);
        let setting = SETTINGS.iter().find(|setting| {
            setting.long.strip_prefix("--") == Some(&line.key) && setting.long != settings::CONFIG
        });
        let setting =
            setting.with_context(|| format!("{place} is not a setting; --help lists them"))?;
        Ok(Given { setting, value: line.value.into(), place })
    };
    lines.into_iter().map(given).collect()
}

/// Variables that are set, those of KISS first.
///
/// Kubernetes sets `NAME_PORT=tcp://…` in every pod for a Service called `name`: such a value of a
/// port's variable was not meant for us.
fn variables(environment: impl Fn(&str) -> Option<OsString>) -> Vec<Given> {
    let all =
        |number: usize| SETTINGS.iter().map(move |setting| (setting, setting.variables[number]));
    let mut given = Vec::new();
    for (setting, name) in all(1).chain(all(0)).filter(|(_, name)| !name.is_empty()) {
        let Some(value) = environment(name).filter(|value| !value.is_empty()) else { continue };
        if setting.long == "--port" && value.as_encoded_bytes().starts_with(b"tcp://") {
            tracing::info!("{name}={} is a Service's address, ignored", value.display());
            continue;
        }
        given.push(Given { setting, value, place: name.to_owned() });
    }
    given
}

/// Takes `--name value`, `--name=value`, `-n value`, `-nvalue`, and `--name` for a switch; none
/// for a call for help.
fn flags(args: &[OsString]) -> anyhow::Result<Option<Vec<Given>>> {
    let mut given = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--help" || arg == "-h" {
            return Ok(None);
        }
        let text = arg.to_str().unwrap_or_default();
        let unknown = || format!("unknown option {}; --help lists them", arg.display());
        let found = SETTINGS.iter().find_map(|setting| setting.cut(text));
        let (setting, attached) = found.with_context(unknown)?;
        let value: OsString = match (attached, setting.kind) {
            ("", Kind::Switch) => "true".into(),
            ("", Kind::Value) => {
                let next = args.next().cloned();
                next.with_context(|| format!("{} needs a value", setting.long))?
            }
            _ => attached.strip_prefix('=').unwrap_or(attached).into(),
        };
        given.push(Given { setting, value, place: setting.long.to_owned() });
    }
    Ok(Some(given))
}

impl Setting {
    /// If `text` is this setting's flag: the setting, and what is attached to the flag.
    fn cut<'a>(&'static self, text: &'a str) -> Option<(&'static Self, &'a str)> {
        let long = text.strip_prefix(self.long);
        let long = long.filter(|attached| attached.is_empty() || attached.starts_with('='));
        let short = || text.strip_prefix(self.short).filter(|_| !self.short.is_empty());
        Some((self, long.or_else(short)?))
    }
}

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Serves immutable content over HTTP/1.1.\n\nusage: static-server [option value]...\n\n",
    );
    for setting in &SETTINGS {
        let Setting { long, short, variables: [ours, kiss], default, about, kind, .. } = setting;
        let short = if short.is_empty() { String::new() } else { format!("{short}, ") };
        let value = if *kind == Kind::Switch { "" } else { " VALUE" };
        let kiss = if kiss.is_empty() { String::new() } else { format!(", {kiss}") };
        let default = if default.is_empty() { "none" } else { default };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {short}{long}{value}\n      {about}");
        let _ = writeln!(text, "      [default: {default}; {ours}{kiss}]");
    }
    text.push_str(
        "  -h, --help\n  -V, --version\n\n\
         A flag counts before a variable, a variable before the file of --config, whose keys are the\n\
         flags without dashes. /health and /ready answer unless a file has that name.\n\
         SIGHUP reads settings and content again; address, workers and log stay as they are.\n\
         KILN_LOG sets the lowest level to log (off, error, warn, info, debug, trace).\n",
    );
    text
}
