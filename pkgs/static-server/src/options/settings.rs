//! The table of settings: names, default, and the conversion from text to value.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::options::values::Options;

/// The flag that names a file of settings.
pub(super) const CONFIG: &str = "--config";

/// The kind of value that a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any value.
    Value,
    /// `true` or `false`; the flag alone means `true`.
    Switch,
}

/// A setting.
pub(super) struct Setting {
    pub(super) long: &'static str,
    /// The short flag, or empty.
    pub(super) short: &'static str,
    /// Kiln's environment variable, then the variable of KISS; empty for no variable.
    pub(super) variables: [&'static str; 2],
    /// The default value, or empty.
    pub(super) default: &'static str,
    pub(super) kind: Kind,
    pub(super) about: &'static str,
    pub(super) set: fn(&mut Options, &OsStr) -> anyhow::Result<()>,
}

/// Makes a setting with a value and no short names.
const fn value(
    long: &'static str,
    variable: &'static str,
    default: &'static str,
    about: &'static str,
    set: fn(&mut Options, &OsStr) -> anyhow::Result<()>,
) -> Setting {
    Setting { long, short: "", variables: [variable, ""], default, kind: Kind::Value, about, set }
}

/// Makes a switch that is off by default.
const fn switch(
    long: &'static str,
    variable: &'static str,
    about: &'static str,
    set: fn(&mut Options, &OsStr) -> anyhow::Result<()>,
) -> Setting {
    let variables = [variable, ""];
    Setting { long, short: "", variables, default: "false", kind: Kind::Switch, about, set }
}

/// Adds the names that KISS uses.
const fn kiss(mut setting: Setting, short: &'static str, variable: &'static str) -> Setting {
    setting.short = short;
    setting.variables[1] = variable;
    setting
}

pub(super) const SETTINGS: [Setting; 25] = [
    kiss(
        value(
            "--bind-ip",
            "KILN_WEB_BIND_IP",
            "0.0.0.0",
            "address to listen on, :: for both families",
            |o, text| number(text, "an IP address").map(|value| o.address = value),
        ),
        "-b",
        "KISS_BIND_IP",
    ),
    kiss(
        value(
            "--port",
            "KILN_WEB_PORT",
            "8080",
            "port to listen on, 0 for a free one",
            |o, text| number(text, "a port (0 to 65535)").map(|value| o.port = value),
        ),
        "-p",
        "KISS_PORT",
    ),
    value(
        "--unix-socket",
        "KILN_WEB_UNIX_SOCKET",
        "",
        "Unix socket to listen on, instead of the port",
        |o, text| {
            o.unix = path(text);
            Ok(())
        },
    ),
    value(
        "--listen-fd",
        "KILN_WEB_LISTEN_FD",
        "",
        "number of an inherited listening descriptor, instead of the port",
        |o, text| optional(text, |text| number(text, "a number")).map(|value| o.descriptor = value),
    ),
    kiss(
        value(
            "--static-dir",
            "KILN_WEB_STATIC_DIR",
            "./content",
            "folder with the content",
            |o, text| {
                o.folder = text.into();
                Ok(())
            },
        ),
        "-s",
        "KISS_STATIC_DIR",
    ),
    value(
        "--pack",
        "KILN_WEB_PACK",
        "",
        "pack with the content, instead of the folder",
        |o, text| {
            o.pack = path(text);
            Ok(())
        },
    ),
    value(
        "--hosts",
        "KILN_WEB_HOSTS",
        "",
        "folder that has a folder HOST or a pack HOST.pack for each host name",
        |o, text| {
            o.hosts = path(text);
            Ok(())
        },
    ),
    kiss(
        value(
            "--max-request-size",
            "KILN_WEB_MAX_REQUEST_SIZE",
            "8192",
            "the most bytes of a request's head (256 to 1048576)",
            |o, text| within(text, 256, 1 << 20).map(|value| o.limits.head = value),
        ),
        "-r",
        "KISS_MAX_REQUEST_SIZE",
    ),
    kiss(
        value(
            "--connection-timeout-secs",
            "KILN_WEB_CONNECTION_TIMEOUT",
            "30",
            "seconds for a whole head, for a whole body, and for an answer without progress",
            |o, text| seconds(text, 1).map(|value| o.limits.time = value),
        ),
        "-c",
        "KISS_CONNECTION_TIMEOUT",
    ),
    kiss(
        value(
            "--keepalive-timeout-secs",
            "KILN_WEB_KEEPALIVE_TIMEOUT",
            "5",
            "seconds that a connection may be idle between requests",
            |o, text| seconds(text, 1).map(|value| o.limits.idle = value),
        ),
        "-k",
        "KISS_KEEPALIVE_TIMEOUT",
    ),
    value(
        "--memory-limit",
        "KILN_WEB_MEMORY_LIMIT",
        "256",
        "the most MiB of content in memory; above it the largest files stay open instead",
        |o, text| within(text, 0, 1 << 20).map(|value| o.memory_limit = (value as u64) << 20),
    ),
    value(
        "--poll-secs",
        "KILN_WEB_POLL",
        "1",
        "seconds between two checks of the content, 0 for no checks",
        |o, text| seconds(text, 0).map(|value| o.poll = Some(value).filter(|time| !time.is_zero())),
    ),
    switch(
        "--strict",
        "KILN_WEB_STRICT",
        "do not start if anything in the content is left out or wrong",
        |o, text| truth(text).map(|value| o.strict = value),
    ),
    switch(
        "--clean-urls",
        "KILN_WEB_CLEAN_URLS",
        "serve about.html as /about, and redirect /about.html to it",
        |o, text| truth(text).map(|value| o.policy.clean_urls = value),
    ),
    switch(
        "--single-page",
        "KILN_WEB_SINGLE_PAGE",
        "answer a path without content with /index.html, unless its last segment has a dot",
        |o, text| truth(text).map(|value| o.policy.single_page = value),
    ),
    value(
        "--cache-html",
        "KILN_WEB_CACHE_HTML",
        "no-cache",
        "Cache-Control of HTML, empty for no field",
        |o, text| field(text).map(|value| o.policy.cache_html = value),
    ),
    value(
        "--cache-fingerprinted",
        "KILN_WEB_CACHE_FINGERPRINTED",
        "public, max-age=31536000, immutable",
        "Cache-Control of styles, scripts, fonts and images with a fingerprint in their name",
        |o, text| field(text).map(|value| o.policy.cache_fingerprinted = value),
    ),
    value(
        "--cache-other",
        "KILN_WEB_CACHE_OTHER",
        "no-cache",
        "Cache-Control of everything else, empty for no field",
        |o, text| field(text).map(|value| o.policy.cache_other = value),
    ),
    switch(
        "--last-modified",
        "KILN_WEB_LAST_MODIFIED",
        "send times of files as Last-Modified",
        |o, text| truth(text).map(|value| o.policy.last_modified = value),
    ),
    value(
        "--ops-addr",
        "KILN_WEB_OPS_ADDR",
        "",
        "address and port for /live, /ready and /metrics",
        |o, text| {
            optional(text, |text| number(text, "an address must not have a port"))
                .map(|value: Option<SocketAddr>| o.operators = value)
        },
    ),
    value(
        "--access-log",
        "KILN_WEB_ACCESS_LOG",
        "off",
        "off, or json for one line per answer on standard output",
        |o, text| match text.to_str() {
            Some("off") => {
                o.access_log = false;
                Ok(())
            }
            Some("json") => {
                o.access_log = true;
                Ok(())
            }
            _ => bail!("{} is neither off nor json", text.display()),
        },
    ),
    value(
        "--drain-delay-secs",
        "KILN_WEB_DRAIN_DELAY",
        "0",
        "seconds to continue serving after SIGTERM while /ready is a 503",
        |o, text| seconds(text, 0).map(|value| o.drain_delay = value),
    ),
    value(
        "--workers",
        "KILN_WEB_WORKERS",
        "",
        "worker threads, one per processor by default",
        |o, text| optional(text, |text| within(text, 1, 1024)).map(|value| o.workers = value),
    ),
    value(
        "--max-connections",
        "KILN_WEB_MAX_CONNECTIONS",
        "",
        "the most connections at once; by default 16384, or fewer if descriptors are limited",
        |o, text| {
            optional(text, |text| within(text, 1, 1 << 24)).map(|value| o.connections = value)
        },
    ),
    value(CONFIG, "KILN_WEB_CONFIG", "", "TOML file of settings", |_, _| Ok(())),
];

fn number<T: FromStr>(text: &OsStr, wanted: &str) -> anyhow::Result<T> {
    let parsed = text.to_str().and_then(|text| text.parse().ok());
    parsed.with_context(|| format!("{} is not {wanted}", text.display()))
}

fn within(text: &OsStr, least: usize, most: usize) -> anyhow::Result<usize> {
    let value = number(text, "a number")?;
    if !(least..=most).contains(&value) {
        bail!("{value} is not between {least} and {most}");
    }
    Ok(value)
}

fn seconds(text: &OsStr, least: usize) -> anyhow::Result<Duration> {
    let value = within(text, least, 86_400)?;
    Ok(Duration::from_secs(value as u64))
}

fn truth(text: &OsStr) -> anyhow::Result<bool> {
    number(text, "true or false")
}

/// Parses a value; an empty value gives `None`.
fn optional<T>(
    text: &OsStr,
    read: impl Fn(&OsStr) -> anyhow::Result<T>,
) -> anyhow::Result<Option<T>> {
    if text.is_empty() { Ok(None) } else { read(text).map(Some) }
}

fn path(text: &OsStr) -> Option<std::path::PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

/// Parses a text that a header field can have.
fn field(text: &OsStr) -> anyhow::Result<String> {
    let text = text.to_str().filter(|text| text.bytes().all(|byte| (b' '..0x7f).contains(&byte)));
    text.map(|text| text.trim().to_owned()).context("a field's value must be printable ASCII")
}
