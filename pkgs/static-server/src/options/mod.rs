//! Command line, environment and file of settings.
//!
//! Every setting is a row of [`settings::SETTINGS`]. Precedence: flag, Kiln's variable, the
//! variable of KISS (the server that this one replaces), file, default. An empty variable counts as
//! unset.

mod file;
mod settings;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

use anyhow::{Context as _, anyhow, bail};
use kiln_daemon::exit::Exit;
use lexopt::Arg;

use crate::options::settings::{Kind, SETTINGS, Setting};
pub use crate::options::values::Options;

/// The action that the command line requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `--help`.
    Help,
    /// Serve with these options.
    Serve(Box<Options>),
}

/// The inputs: arguments, variables, files.
pub struct Outside<'a> {
    /// Arguments without the program's name.
    pub args: Vec<OsString>,
    /// Returns a variable's value.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Returns a file's text.
    pub file: &'a dyn Fn(&OsStr) -> std::io::Result<String>,
}

/// A setting with its value and the place where it was set.
struct Given {
    setting: &'static Setting,
    value: OsString,
    place: String,
}

/// Evaluates all inputs.
pub fn parse(outside: &Outside<'_>) -> anyhow::Result<Command> {
    let Some(flags) = flags(&outside.args).context(Exit::Usage)? else { return Ok(Command::Help) };
    let variables = variables(outside.variable);
    let named = |given: &&Given| given.setting.long == settings::CONFIG;
    // The last flag wins, and a flag wins over a variable.
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

/// Parses a file of settings. Its keys are the long flags without their dashes.
fn from_file(
    name: &OsStr,
    read: impl Fn(&OsStr) -> std::io::Result<String>,
) -> anyhow::Result<Vec<Given>> {
    let text = read(name).with_context(|| format!("cannot read {}", name.display()))?;
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

/// Returns the variables that are set, those of KISS first.
///
/// For a Service called `name`, Kubernetes sets `NAME_PORT=tcp://…` in every pod. Such a value of a
/// port's variable is ignored.
fn variables(environment: impl Fn(&str) -> Option<OsString>) -> Vec<Given> {
    let all =
        |number: usize| SETTINGS.iter().map(move |setting| (setting, setting.variables[number]));
    let mut given = Vec::new();
    for (setting, name) in all(1).chain(all(0)).filter(|(_, name)| !name.is_empty()) {
        let Some(value) = environment(name).filter(|value| !value.is_empty()) else { continue };
        if setting.long == "--port" && value.as_encoded_bytes().starts_with(b"tcp://") {
            tracing::info!("ignored {name}={}: it is the address of a Service", value.display());
            continue;
        }
        given.push(Given { setting, value, place: name.to_owned() });
    }
    given
}

/// Parses the flags; `None` for `--help`.
fn flags(args: &[OsString]) -> anyhow::Result<Option<Vec<Given>>> {
    let mut given = Vec::new();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        if matches!(arg, Arg::Long("help") | Arg::Short('h')) {
            return Ok(None);
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.is(&arg)) else {
            bail!("unknown option {}; --help lists them", written(arg));
        };
        let value = match setting.kind {
            Kind::Switch => parser.optional_value().unwrap_or_else(|| "true".into()),
            Kind::Value => parser.value().map_err(|_| anyhow!("{} needs a value", setting.long))?,
        };
        given.push(Given { setting, value, place: setting.long.to_owned() });
    }
    Ok(Some(given))
}

/// Formats an argument as the user wrote it.
fn written(arg: Arg<'_>) -> String {
    match arg {
        Arg::Long(name) => format!("--{name}"),
        Arg::Short(letter) => format!("-{letter}"),
        Arg::Value(value) => value.display().to_string(),
    }
}

impl Setting {
    /// True if the argument is this setting's flag, long or short.
    fn is(&self, arg: &Arg<'_>) -> bool {
        match arg {
            Arg::Long(name) => self.long.strip_prefix("--") == Some(name),
            Arg::Short(letter) => {
                self.short.strip_prefix('-').is_some_and(|short| short.chars().eq([*letter]))
            }
            Arg::Value(_) => false,
        }
    }
}

/// Returns the text of `--help`.
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
         A flag overrides a variable, and a variable the file of --config, whose keys are the flags\n\
         without dashes. /health and /ready answer unless a file has that name.\n\
         On SIGHUP settings and content are read again; address, workers and log stay as they are.\n\
         KILN_LOG sets the lowest level to log (off, error, warn, info, debug, trace).\n",
    );
    text
}
