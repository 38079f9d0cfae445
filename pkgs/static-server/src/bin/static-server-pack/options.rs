//! The command line of the packer.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use lexopt::Arg;
use static_server::index::policy::Policy;

/// The action that the command line requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `--help`.
    Help,
    /// Make a pack.
    Pack(Options),
    /// Compare the bodies of a pack with their digests.
    Verify(PathBuf),
    /// List the content of a pack.
    List(PathBuf),
}

/// The options for making a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The folder with the content.
    pub folder: PathBuf,
    /// The file to write.
    pub out: PathBuf,
    /// The choices for the site.
    pub policy: Policy,
    /// True if links that leave the folder are errors.
    pub strict: bool,
    /// The number of threads that compress. The pack does not depend on it.
    pub threads: usize,
}

/// `--help`.
pub const HELP: &str = "\
Makes a pack of a folder for static-server --pack.

usage: static-server pack --in DIR --out FILE [option]...
       static-server pack --verify FILE
       static-server pack --list FILE

  --in DIR                    the folder
  --out FILE                  the pack; replaced once the new pack is complete
  --clean-urls                /about serves about.html
  --single-page               a path without an answer gets /index.html
  --cache-html VALUE          Cache-Control of pages [default: no-cache]
  --cache-fingerprinted VALUE Cache-Control of names with a fingerprint
                              [default: public, max-age=31536000, immutable]
  --cache-other VALUE         Cache-Control of everything else [default: no-cache]
  --mtime                     store the files' times for Last-Modified
  --strict                    fail if a link leaves the folder
  --threads N                 threads that compress [default: all processors]
  --verify FILE               compare every body with its digest
  --list FILE                 list every path with type, sizes and cache policy
  -h, --help
  -V, --version

Equal names and bytes make an equal pack. Names that begin with a dot are left out, except
/.well-known. An invalid line in _headers or _redirects is an error.
";

/// Parses the arguments.
pub fn parse(args: Vec<OsString>) -> anyhow::Result<Command> {
    let mut options = Options {
        folder: PathBuf::new(),
        out: PathBuf::new(),
        policy: Policy::default(),
        strict: false,
        threads: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
    };
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        let name = match arg {
            Arg::Long(name) => format!("--{name}"),
            Arg::Short(letter) => format!("-{letter}"),
            Arg::Value(value) => {
                bail!("unknown argument {}; --help lists options", value.display())
            }
        };
        let mut value = || parser.value().map_err(|_| anyhow!("{name} needs a value"));
        match name.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--verify" => return Ok(Command::Verify(value()?.into())),
            "--list" => return Ok(Command::List(value()?.into())),
            "--in" => options.folder = value()?.into(),
            "--out" => options.out = value()?.into(),
            "--clean-urls" => options.policy.clean_urls = true,
            "--single-page" => options.policy.single_page = true,
            "--mtime" => options.policy.last_modified = true,
            "--strict" => options.strict = true,
            "--cache-html" => options.policy.cache_html = field(&value()?)?,
            "--cache-fingerprinted" => options.policy.cache_fingerprinted = field(&value()?)?,
            "--cache-other" => options.policy.cache_other = field(&value()?)?,
            "--threads" => options.threads = threads(&value()?)?,
            _ => bail!("unknown option {name}; --help lists them"),
        }
    }
    if options.folder.as_os_str().is_empty() || options.out.as_os_str().is_empty() {
        bail!("--in and --out are needed; --help lists all options");
    }
    Ok(Command::Pack(options))
}

fn threads(text: &OsStr) -> anyhow::Result<usize> {
    let number = text.to_str().and_then(|text| text.parse::<NonZeroUsize>().ok());
    Ok(number.context("--threads needs a number above 0")?.get())
}

/// Parses a value that a header field can have.
fn field(text: &OsStr) -> anyhow::Result<String> {
    let text = text.to_str().filter(|text| text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    text.map(str::to_owned).context("Cache-Control must be one line of ASCII")
}

#[cfg(test)]
mod tests {
    use super::{Command, HELP, parse};
    use std::ffi::OsString;

    fn run(args: &[&str]) -> Result<Command, String> {
        parse(args.iter().map(OsString::from).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_folder_and_the_file_are_needed() {
        assert!(run(&["--in", "a"]).unwrap_err().contains("--out"));
        let Command::Pack(options) = run(&["--in", "a", "--out", "b", "--single-page"]).unwrap()
        else {
            panic!("it is a pack");
        };
        assert!(options.policy.single_page && !options.policy.clean_urls && options.threads > 0);
    }

    #[test]
    fn errors_name_the_option() {
        for (args, expected) in [
            (&["--in"][..], "--in needs a value"),
            (&["--inn"], "unknown option --inn"),
            (&["--threads", "0"], "--threads needs a number"),
            (&["--cache-html", "a\r\nb"], "one line"),
        ] {
            assert!(run(args).unwrap_err().contains(expected), "{args:?}");
        }
        assert_eq!(run(&["--list", "x"]), Ok(Command::List("x".into())));
        assert!(HELP.contains("--verify FILE"));
    }
}
