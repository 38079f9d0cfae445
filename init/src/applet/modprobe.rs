//! `modprobe` (modprobe(8)): for the kernel's own calls (`modprobe -q -- fs-ext4`), kubelet, and
//! anything else on the host. Safe with an empty environment: it reads files at fixed paths only.

use std::ffi::CString;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::modules::{self, Found, Index, Step, canonical};
use crate::parameters;

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    names: Vec<String>,
    options: String,
    quiet: bool,
    verb: Verb,
}

/// What to do with the modules.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum Verb {
    #[default]
    Load,
    Remove,
    /// Print what would be loaded.
    Show,
    /// Look the modules up only.
    Nothing,
}

/// Runs the applet.
#[must_use]
pub fn run(args: &[String]) -> i32 {
    let request = parse(args);
    let quiet = request.as_ref().is_ok_and(|request| request.quiet);
    match request.and_then(|request| perform(&request)) {
        Ok(()) => 0,
        Err(error) => {
            if !quiet {
                eprintln!("modprobe: FATAL: {error:#}");
            }
            1
        }
    }
}

/// Reads the arguments: options, then one module and its parameters, or with `-a` many modules.
pub fn parse(args: &[String]) -> Result<Request> {
    let mut request = Request::default();
    let (mut all, mut words) = (false, Vec::new());
    for arg in args {
        match arg.as_str() {
            "--all" => all = true,
            "--quiet" => request.quiet = true,
            "--remove" => (request.verb, all) = (Verb::Remove, true),
            "--dry-run" | "--show" => request.verb = Verb::Nothing,
            "--show-depends" => request.verb = Verb::Show,
            "--" | "--verbose" | "--use-blacklist" | "--syslog" | "--first-time" => {}
            short if short.starts_with('-') && !short.starts_with("--") => {
                for letter in short[1..].chars() {
                    all |= request.take(letter)?;
                }
            }
            long if long.starts_with("--") => bail!("unknown {long}"),
            word => words.push(word.to_owned()),
        }
    }
    let parameters = if all { Vec::new() } else { words.split_off(words.len().min(1)) };
    request.options = parameters.join(" ");
    request.names = words;
    if request.names.is_empty() {
        bail!("no module given");
    }
    Ok(request)
}

impl Request {
    /// One letter; true when all words are modules from now on.
    fn take(&mut self, letter: char) -> Result<bool> {
        match letter {
            'a' => return Ok(true),
            'r' => self.verb = Verb::Remove,
            'q' => self.quiet = true,
            'n' => self.verb = Verb::Nothing,
            'D' => self.verb = Verb::Show,
            'b' | 's' | 'v' => {}
            _ => bail!("unknown -{letter}"),
        }
        Ok(letter == 'r')
    }
}

fn perform(request: &Request) -> Result<()> {
    let index = Index::of_running_kernel()?;
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    for name in &request.names {
        match index.find(name) {
            Found::Load(steps) if request.verb == Verb::Remove => remove(&steps)?,
            Found::Load(steps) => load(request, name, &steps, &line)?,
            Found::Builtin => {}
            Found::Unknown => {
                bail!("Module {name} not found in directory {}", index.folder().display())
            }
        }
    }
    Ok(())
}

fn load(request: &Request, name: &str, steps: &[Step], line: &str) -> Result<()> {
    for step in steps {
        let mut options = options_from(line, &step.name);
        if step.name == canonical(name) {
            options = format!("{options} {}", request.options);
        }
        let options = options.trim();
        match request.verb {
            Verb::Show => println!("insmod {} {options}", step.file.display()),
            Verb::Load => modules::load_file(&step.file, options)?,
            Verb::Remove | Verb::Nothing => {}
        }
    }
    Ok(())
}

/// Parameters of a module on the kernel's command line: `MODULE.NAME=VALUE`.
fn options_from(line: &str, module: &str) -> String {
    let words = parameters::words(line);
    let options = words.iter().filter_map(|word| {
        let (name, option) = word.split_once('.')?;
        (canonical(name) == module).then_some(option)
    });
    options.collect::<Vec<_>>().join(" ")
}

/// Removes the module itself; what it needed stays, since others may use it.
fn remove(steps: &[Step]) -> Result<()> {
    let Some(step) = steps.last() else { return Ok(()) };
    let name = CString::new(step.name.as_str())?;
    rustix::system::delete_module(&name, libc::O_NONBLOCK)
        .with_context(|| format!("Module {} cannot be removed", step.name))
}

#[cfg(test)]
mod tests {
    use super::{Request, options_from, parse};

    fn request(line: &str) -> anyhow::Result<Request> {
        parse(&line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_kernel_s_call_is_understood() {
        let found = request("-q -- fs-ext4").unwrap();
        assert_eq!((found.names, found.quiet), (vec!["fs-ext4".to_owned()], true));
    }

    #[test]
    fn words_after_a_module_are_its_parameters_but_modules_with_a() {
        assert_eq!(request("loop max_loop=4").unwrap().options, "max_loop=4");
        assert_eq!(request("-va a b").unwrap().names, ["a", "b"]);
        assert_eq!(request("-r a b").unwrap().names.len(), 2);
        assert!(request("").is_err() && request("-q").is_err() && request("--what a").is_err());
    }

    #[test]
    fn parameters_on_the_command_line_belong_to_their_module() {
        let line = "quiet nf-conntrack.a=1 nf_conntrack.b=\"x y\" other.c=2";
        assert_eq!(options_from(line, "nf_conntrack"), "a=1 b=x y");
    }
}
