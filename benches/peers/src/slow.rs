//! slowhttptest against our server: clients send or read as slowly as they can, while a probing
//! client must always be answered within three seconds.

use anyhow::{Context, Result, ensure};
use kiln_host::job::Programs;
use kiln_host::println;
use kiln_host::progress::Progress;
use kiln_host::tool::HostTool;

use crate::servers::{self, Kind, Place};

/// The package and its program.
const SLOW: &str = "slowhttptest";

/// One of slowhttptest's four tests.
#[derive(Debug)]
struct Attack {
    /// Its name in the report.
    name: &'static str,
    /// Its options (`slowhttptest(1)`).
    options: &'static str,
    /// True if the server must close connections, because the clients keep it waiting for a
    /// request.
    ends: bool,
}

/// The numbers are connections, new connections per second, and seconds, all more than a real site
/// sees. `-p 3` is the time that the probing client waits. Slow heads and bodies last longer than
/// the 30 s that the server gives to a request. Ranges count for GET only, in a head that is not
/// too long: 891 ranges take 6.4 KiB of the 8 that the server accepts.
const ATTACKS: [Attack; 4] = [
    Attack { name: "slow heads", options: "-H -c 4000 -r 400 -i 2 -l 45 -p 3", ends: true },
    Attack {
        name: "slow bodies",
        options: "-B -c 4000 -r 400 -i 2 -s 8192 -l 45 -p 3",
        ends: true,
    },
    Attack {
        name: "slow readers",
        options: "-X -c 2000 -r 400 -w 10 -y 20 -n 5 -z 32 -k 3 -l 30 -p 3",
        ends: false,
    },
    Attack {
        name: "many ranges",
        options: "-R -c 2000 -r 400 -a 10 -b 900 -t GET -l 30 -p 3",
        ends: false,
    },
];

/// The line of slowhttptest if it stops early because the server has closed all connections.
const NONE_LEFT: &str = "No open connections left";

/// The length of the page: large, so that slow readers leave a part of it unread.
const PAGE: usize = 4 << 20;

/// Runs all attacks, and prints a line for each.
pub fn check(programs: &Programs) -> Result<()> {
    let progress = Progress::new();
    let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
    let site = scratch.path().join("site");
    std::fs::create_dir(&site).context("cannot make the site")?;
    std::fs::write(site.join("page.txt"), vec![b'x'; PAGE]).context("cannot write the page")?;
    let own = scratch.path().join("own");
    let place = Place { content: &site, scratch: &own, core: None, probe: "/page.txt" };
    let server = servers::start(programs, Kind::Ours, place)?;
    for Attack { name, options, ends } in &ATTACKS {
        let _task = progress.task(&format!("slowhttptest: {name}"), None);
        let command = HostTool::new(programs.peer(SLOW)?, SLOW).command()?.args(options.split(' '));
        let url = format!("http://{}/page.txt", server.address);
        let text = command.arg("-u").arg(url).dir(scratch.path()).read()?;
        let (held, ended) = verdict(&text).with_context(|| name.to_string())?;
        ensure!(!ends || ended > 0, "{name}: the server closed no connection");
        println!("{name}: available all the time; {held} connections held, {ended} closed");
    }
    Ok(())
}

/// Returns the numbers of connections that slowhttptest held at the end and that the server closed.
/// Fails if the probing client ever got no answer.
fn verdict(text: &str) -> Result<(u32, u32)> {
    let values = |label: &str| -> Vec<String> {
        let found = text.lines().filter_map(|line| line.split_once(label));
        found.map(|(_, value)| plain(value)).collect()
    };
    let available = values("service available:");
    ensure!(!available.is_empty(), "slowhttptest does not report the service:\n{text}");
    ensure!(available.iter().all(|value| value == "YES"), "the service was not available");
    let last = |label: &str| -> Result<u32> {
        let value =
            values(label).pop().with_context(|| format!("slowhttptest does not report {label}"))?;
        value.parse().with_context(|| format!("{label} {value} is not a number"))
    };
    let (held, ended) = (last("connected:")?, last("closed:")?);
    // slowhttptest counts every five seconds, and stops once no connection is left.
    Ok(if text.contains(NONE_LEFT) { (0, held + ended) } else { (held, ended) })
}

/// Removes the colours of a terminal.
fn plain(value: &str) -> String {
    let mut text = String::new();
    let mut is_colour = false;
    for c in value.chars() {
        match c {
            '\u{1b}' => is_colour = true,
            'm' if is_colour => is_colour = false,
            _ if !is_colour => text.push(c),
            _ => {}
        }
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::verdict;

    #[test]
    fn a_service_that_was_unavailable_once_fails() {
        let part = |state| {
            format!(
                "\u{1b}[1mconnected:   \u{1b}[0m 7\nclosed: 3\nservice available:   \u{1b}[32m{state}\u{1b}[0m\n"
            )
        };
        assert_eq!(verdict(&part("YES")).unwrap(), (7, 3));
        assert_eq!(verdict(&(part("YES") + super::NONE_LEFT)).unwrap(), (0, 10));
        assert!(verdict(&[part("NO"), part("YES")].concat()).is_err());
        assert!(verdict("").is_err());
        assert!(verdict("service available: YES\n").is_err());
    }
}
