//! `modprobe` (modprobe(8)), for the kernel's own calls (`modprobe -q -- fs-ext4`), kubelet, and
//! other programs on the host. It reads files at fixed paths only, so it is safe with an empty
//! environment.
//!
//! Containers have a modprobe of their own and read `/lib/modules` with depmod's indexes. Texts and
//! exit statuses are those of kmod's modprobe.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use lexopt::Parser;
use lexopt::prelude::*;
use rustix::io::Errno;

use super::errno::describe;
use crate::console::{kmsg, once};
use crate::modules::index::{Found, Index, ModuleFile};
use crate::modules::load;
use crate::modules::name::canonical;
use crate::modules::settings::Settings;

/// The variable with options that kmod puts in front of all others.
const ENVIRONMENT: &str = "MODPROBE_OPTIONS";

/// A parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent option")]
pub struct Request {
    names: Vec<String>,
    options: String,
    quiet: bool,
    verbose: bool,
    /// True if the blacklist applies to names too.
    blacklist: bool,
    /// True if a module that is loaded already is an error.
    first_time: bool,
    verb: Verb,
}

/// The action on the modules.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum Verb {
    #[default]
    Load,
    Remove,
    /// Prints the modules that would be loaded.
    Show,
    /// Prints the modules that an alias stands for.
    Resolve,
    /// Only looks the modules up.
    Nothing,
    Version,
}

/// Runs the applet.
#[must_use]
pub fn run(args: &[String]) -> i32 {
    let environment = std::env::var(ENVIRONMENT).unwrap_or_default();
    let words = environment.split_ascii_whitespace().map(str::to_owned);
    let request = parse(&words.chain(args.iter().cloned()).collect::<Vec<_>>());
    let quiet = request.as_ref().is_ok_and(|request| request.quiet);
    match request.and_then(|request| perform(&request)) {
        Ok(()) => 0,
        Err(error) => {
            if !quiet {
                eprintln!("modprobe: {error:#}");
            }
            1
        }
    }
}

/// Parses the arguments: options, then one module and its parameters, or with `-a` many modules.
pub fn parse(args: &[String]) -> Result<Request> {
    let mut request = Request::default();
    let (mut all, mut words) = (false, Vec::new());
    let mut args = Parser::from_args(args);
    while let Some(arg) = args.next().context("ERROR")? {
        match arg {
            Short('a') | Long("all") => all = true,
            Short('q') | Long("quiet") => request.quiet = true,
            Short('v') | Long("verbose") => request.verbose = true,
            Short('b') | Long("use-blacklist") => request.blacklist = true,
            Long("first-time") => request.first_time = true,
            Short('r') | Long("remove") => (request.verb, all) = (Verb::Remove, true),
            Short('n') | Long("dry-run" | "show" | "simulate") => request.verb = Verb::Nothing,
            Short('D') | Long("show-depends") => request.verb = Verb::Show,
            Short('R') | Long("resolve-alias") => request.verb = Verb::Resolve,
            Short('V') | Long("version") => request.verb = Verb::Version,
            Short('i' | 's')
            | Long("ignore-install" | "ignore-remove" | "syslog" | "remove-holders") => {}
            // kmod waits until a module is unused; this applet does not wait.
            Short('w') | Long("wait") => drop(args.value().context("ERROR")?),
            Value(word) => words.push(word.string().context("ERROR")?),
            other => return Err(other.unexpected()).context("ERROR"),
        }
    }
    let parameters = if all { Vec::new() } else { words.split_off(words.len().min(1)) };
    request.options = parameters.join(" ");
    request.names = words;
    ensure!(
        !request.names.is_empty() || request.verb == Verb::Version,
        "ERROR: missing parameters. See -h."
    );
    Ok(request)
}

fn perform(request: &Request) -> Result<()> {
    if request.verb == Verb::Version {
        println!("kiln-init {}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    let settings = Settings::of_system();
    let index = Index::of_running_kernel().context("FATAL")?.configured(&settings);
    for name in &request.names {
        perform_one(request, &index, &settings, name)?;
    }
    Ok(())
}

fn perform_one(request: &Request, index: &Index, settings: &Settings, name: &str) -> Result<()> {
    match index.find(name) {
        Found::Load(_) if request.blacklist && settings.hides(&canonical(name)) => Ok(()),
        Found::Load(files) => match request.verb {
            Verb::Remove => remove(request, name, &files),
            Verb::Resolve => {
                files.last().into_iter().for_each(|module| println!("{}", module.name));
                Ok(())
            }
            _ => files.iter().try_for_each(|module| load(request, settings, name, module)),
        },
        Found::Builtin if request.verb == Verb::Remove => bail!("FATAL: Module {name} is builtin."),
        Found::Builtin if request.verb == Verb::Show => {
            println!("builtin {}", canonical(name));
            Ok(())
        }
        Found::Builtin => Ok(()),
        Found::Unknown => {
            bail!("FATAL: Module {name} not found in directory {}", index.folder().display())
        }
    }
}

fn load(request: &Request, settings: &Settings, name: &str, module: &ModuleFile) -> Result<()> {
    let own = module.name == canonical(name);
    let mut options = settings.options(&module.name);
    if own {
        options = format!("{options} {}", request.options);
    }
    let (options, file) = (options.trim(), module.file.display());
    if request.verb == Verb::Show || request.verbose {
        println!("insmod {file} {options}");
    }
    if request.verb != Verb::Load {
        return Ok(());
    }
    if own && request.first_time && load::is_loaded(&module.name) {
        bail!("ERROR: could not insert '{}': Module already in kernel", module.name);
    }
    insert(settings, module, options)
}

/// Loads a module. If modules are locked, the console reports the request too.
fn insert(settings: &Settings, module: &ModuleFile, options: &str) -> Result<()> {
    if load::is_loaded(&module.name) || settings.forbids(&module.name) {
        return Ok(());
    }
    load::insert(&module.file, options).map_err(|error| {
        if error == Errno::PERM && load::is_locked() {
            kmsg::open();
            once::say(&load::locked_message(&module.name));
        }
        anyhow::anyhow!("ERROR: could not insert '{}': {}", module.name, insert_error(error))
    })
}

/// Returns kmod's texts for errors about the module's file.
fn insert_error(error: Errno) -> String {
    match error {
        Errno::NOENT => "Unknown symbol in module, or unknown parameter (see dmesg)".into(),
        other => describe(other),
    }
}

/// Removes the module, then the modules that it needed and that have no other users.
fn remove(request: &Request, name: &str, files: &[ModuleFile]) -> Result<()> {
    let (own, others): (Vec<_>, Vec<_>) =
        files.iter().rev().partition(|module| module.name == canonical(name));
    let (own, others) = if own.is_empty() { (others, own) } else { (own, others) };
    for module in own {
        if !Path::new("/sys/module").join(&module.name).exists() {
            ensure!(!request.first_time, "FATAL: Module {} is not in kernel.", module.name);
            continue;
        }
        ensure!(load::is_unused(&module.name), "FATAL: Module {} is in use.", module.name);
        load::remove(&module.name).map_err(|error| {
            anyhow::anyhow!("ERROR: could not remove '{}': {}", module.name, describe(error))
        })?;
    }
    for module in others.into_iter().filter(|module| load::is_unused(&module.name)) {
        let _ = load::remove(&module.name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Request, Verb, parse};

    fn request(line: &str) -> anyhow::Result<Request> {
        parse(&line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_kernels_call_is_understood() {
        let found = request("-q -- fs-ext4").unwrap();
        assert_eq!((found.names, found.quiet), (vec!["fs-ext4".to_owned()], true));
    }

    #[test]
    fn kube_proxys_call_is_understood() {
        let found = request("-va ip_vs").unwrap();
        assert!(found.verbose && found.verb == Verb::Load && found.names == ["ip_vs"]);
    }

    #[test]
    fn words_after_a_module_are_its_parameters_or_with_a_more_modules() {
        assert_eq!(request("loop max_loop=4").unwrap().options, "max_loop=4");
        assert_eq!(request("-va a b").unwrap().names, ["a", "b"]);
        assert_eq!(request("-r a b").unwrap().names.len(), 2);
    }

    #[test]
    fn verbs_have_short_and_long_forms() {
        for (letter, name, verb) in [
            ("-n", "--dry-run", Verb::Nothing),
            ("-D", "--show-depends", Verb::Show),
            ("-R", "--resolve-alias", Verb::Resolve),
            ("-r", "--remove", Verb::Remove),
        ] {
            for option in [letter, name] {
                assert_eq!(request(&format!("{option} a")).unwrap().verb, verb, "{option}");
            }
        }
        assert!(request("-w 100 a").unwrap().names == ["a"]);
    }

    #[test]
    fn wrong_usage_is_an_error() {
        for line in ["", "-q", "--what a", "-X a", "a -w"] {
            assert!(request(line).is_err(), "{line}");
        }
    }
}
