//! Text to [`Config`]: finds all problems of a file at once, each with its line.

use std::fmt::{Display, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::raw::{self, Text};
use super::{
    Backend, Check, Config, Get, Host, Kind, Listener, Policy, Ports, Problem, ProxyVersion, Route,
    Timeouts,
};
use crate::http::headers::Rules;
use crate::name::{self, Pattern};

/// Parses and checks a file's text.
///
/// # Errors
/// All problems, in the order of the file.
pub fn parse(text: &str, ports: Ports) -> Result<Config, Vec<Problem>> {
    let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at);
    let mut reader = Reader { text, line_ends: ends.collect(), problems: Vec::new() };
    let (file, rules) = match reader.file() {
        Ok(file) => file,
        Err(problem) => return Err(vec![problem]),
    };
    let listeners = reader.listeners(&file, ports);
    let mut routes = reader.legacy(&file, &listeners);
    for (route, headers) in file.route.iter().zip(rules) {
        routes.extend(reader.route(route, headers, &listeners));
    }
    let (has_listeners, allow_empty) = (!file.listener.is_empty(), file.allow_empty);
    let config = Config { listeners, has_listeners, routes, allow_empty };
    reader.problems.extend(super::check::problems(&config));
    reader.problems.sort();
    if reader.problems.is_empty() { Ok(config) } else { Err(reader.problems) }
}

struct Reader<'a> {
    text: &'a str,
    /// The offsets of all line ends.
    line_ends: Vec<usize>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// Parses the text: the tables, and the header rules of each `[[route]]`.
    fn file(&self) -> Result<(raw::File, Vec<Rules>), Problem> {
        let mut document = DeTable::parse(self.text).map_err(|error| self.syntax(&error))?;
        let mut rules = Vec::new();
        if let Some(DeValue::Array(routes)) =
            document.get_mut().get_mut("route").map(Spanned::get_mut)
        {
            for route in routes.iter_mut() {
                rules.push(self.rules(route.get_mut())?);
            }
        }
        let file = raw::File::deserialize(toml::Deserializer::from(document));
        Ok((file.map_err(|error| self.syntax(&error))?, rules))
    }

    fn rules(&self, route: &mut DeValue<'_>) -> Result<Rules, Problem> {
        let DeValue::Table(table) = route else { return Ok(Rules::default()) };
        Rules::take(table).map_err(|(key, place)| {
            let line = self.line(place.start);
            Problem { line, text: format!("`{key}`: must be true or false") }
        })
    }

    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let line = self.line(error.span().map_or(0, |span| span.start));
        let mut text = error.message().replace('\n', " ");
        // serde's list of a route's keys lacks the header rules.
        if text.starts_with("unknown field") && text.contains("`proxy-out`") {
            for key in Rules::keys() {
                let _ = write!(text, ", `{key}`");
            }
        }
        Problem { line, text }
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.line_ends.partition_point(|end| *end < offset)
    }

    fn problem<T>(&mut self, at: &Spanned<T>, key: &str, text: impl Display) {
        let line = self.line(at.span().start);
        self.problems.push(Problem { line, text: format!("`{key}`: {text}") });
    }

    /// Returns a parsed value, or records a problem that states the wanted form.
    fn value<T>(&mut self, text: &Text, key: &str, wanted: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.problem(text, key, format_args!("`{}` is not {wanted}", text.get_ref()));
        }
        value
    }

    fn listeners(&mut self, file: &raw::File, ports: Ports) -> Vec<Listener> {
        if file.listener.is_empty() {
            return vec![
                implicit("https", ports.https, Kind::Tls),
                implicit("http", ports.http, Kind::Http),
            ];
        }
        let mut listeners: Vec<Listener> = Vec::new();
        for raw in &file.listener {
            let Some(listener) = self.listener(raw.get_ref()) else { continue };
            if listeners.iter().any(|other| overlap(other.address, listener.address)) {
                let text = format_args!("another listener is on {}", listener.address);
                self.problem(raw, "address", text);
            } else if listeners.iter().any(|other| other.name == listener.name) {
                self.problem(raw, "name", format_args!("`{}` is used twice", listener.name));
            } else {
                listeners.push(listener);
            }
        }
        listeners
    }

    fn listener(&mut self, raw: &raw::Listener) -> Option<Listener> {
        let address = listen_address(raw.address.get_ref());
        let address = self.value(
            &raw.address,
            "address",
            "an address with a port, such as [::]:443",
            address,
        );
        let kind = match raw.kind.get_ref().as_str() {
            "tls" => Some(Kind::Tls),
            "http" => Some(Kind::Http),
            _ => None,
        };
        let kind = self.value(&raw.kind, "kind", "`tls` or `http`", kind);
        let listener = Listener {
            name: raw.name.as_ref().unwrap_or(&raw.address).get_ref().clone(),
            proxy_in: self.networks("proxy-in", &raw.proxy_in),
            trusted: self.networks("trusted", &raw.trusted),
            max_connections: self.positive("max-connections", raw.max_connections.as_ref()),
            max_per_address: self
                .positive("max-connections-per-address", raw.max_connections_per_address.as_ref()),
            timeouts: self.timeouts(raw),
            address: address?,
            kind: kind?,
        };
        Some(listener)
    }

    fn timeouts(&mut self, raw: &raw::Listener) -> Timeouts {
        let usual = Timeouts::default();
        Timeouts {
            hello: self.millis("hello-timeout", raw.hello_timeout.as_ref()).unwrap_or(usual.hello),
            connect: self
                .millis("connect-timeout", raw.connect_timeout.as_ref())
                .unwrap_or(usual.connect),
            idle: self.millis("idle-timeout", raw.idle_timeout.as_ref()).unwrap_or(usual.idle),
            half_closed: self
                .millis("half-closed-timeout", raw.half_closed_timeout.as_ref())
                .unwrap_or(usual.half_closed),
            lifetime: self.millis("lifetime", raw.lifetime.as_ref()),
        }
    }

    fn networks(&mut self, key: &str, texts: &[Text]) -> Vec<IpNet> {
        let wanted = "an address or a network, such as 10.0.0.0/8";
        let mut parse = |text: &Text| self.value(text, key, wanted, network(text.get_ref()));
        texts.iter().filter_map(&mut parse).collect()
    }

    fn positive(&mut self, key: &str, value: Option<&Spanned<u32>>) -> Option<u32> {
        let value = value?;
        if *value.get_ref() == 0 {
            self.problem(value, key, "must be at least 1; remove the key for no limit");
        }
        Some(*value.get_ref())
    }

    /// Converts seconds to milliseconds. Accepts one millisecond to one year.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
    fn millis(&mut self, key: &str, value: Option<&Spanned<f64>>) -> Option<u64> {
        let value = value?;
        let seconds = *value.get_ref();
        if !(0.001..=31_536_000.0).contains(&seconds) {
            let text = format_args!("{seconds} is not 0.001 to 31536000 seconds");
            self.problem(value, key, text);
            return None;
        }
        Some((seconds * 1000.0) as u64)
    }

    /// Reads the routes of kiagateway's two tables.
    fn legacy(&mut self, file: &raw::File, listeners: &[Listener]) -> Vec<Route> {
        let mut routes = Vec::new();
        for (key, table, kind) in [
            ("https_backends", &file.https_backends, Kind::Tls),
            ("http_backends", &file.http_backends, Kind::Http),
        ] {
            let all = listeners.iter().enumerate();
            let of_kind = all.filter(|(_, listener)| listener.kind == kind).map(|(index, _)| index);
            let served: Vec<usize> = of_kind.collect();
            for (name, backend) in table {
                let Some(pattern) = self.pattern(key, name) else { continue };
                let Some(backend) = self.backend(key, backend) else { continue };
                routes.push(Route {
                    names: vec![pattern],
                    listeners: served.clone(),
                    backends: vec![backend],
                    ..empty(self.line(name.span().start))
                });
            }
        }
        routes
    }

    fn route(
        &mut self,
        raw: &Spanned<raw::Route>,
        headers: Rules,
        listeners: &[Listener],
    ) -> Option<Route> {
        let line = self.line(raw.span().start);
        let table = raw.get_ref();
        let names: Vec<Pattern> =
            table.names.iter().filter_map(|name| self.pattern("names", name)).collect();
        let backends =
            table.backends.iter().filter_map(|text| self.backend("backends", text)).collect();
        let route = Route {
            default: table.default,
            listeners: self.served(table, listeners),
            backends,
            policy: self.policy(table.policy.as_ref()),
            proxy_out: self.proxy_out(table.proxy_out.as_ref()),
            redirect: self.redirect(table.redirect.as_ref()),
            headers,
            alpn: self.alpn(&table.alpn),
            check: table.check.as_ref().and_then(|check| self.check(check)),
            names,
            ..empty(line)
        };
        if table.names.is_empty() && !table.default {
            self.problem(raw, "route", "needs `names` or `default = true`");
            return None;
        }
        if table.backends.is_empty() && !route.redirect {
            self.problem(raw, "route", "needs `backends` or `redirect = \"https\"`");
            return None;
        }
        Some(route)
    }

    /// Returns the indices of a route's listeners; by default all listeners of a matching kind.
    fn served(&mut self, table: &raw::Route, listeners: &[Listener]) -> Vec<usize> {
        let only = match (table.redirect.is_some(), !table.alpn.is_empty()) {
            (true, _) => Some(Kind::Http),
            (false, true) => Some(Kind::Tls),
            (false, false) => None,
        };
        let fits = |index: &usize| only.is_none_or(|kind| listeners[*index].kind == kind);
        let Some(named) = &table.listeners else {
            return (0..listeners.len()).filter(fits).collect();
        };
        let mut served = Vec::new();
        for name in named.get_ref() {
            match listeners.iter().position(|listener| listener.name == *name.get_ref()) {
                None => {
                    let text = format_args!("there is no listener `{}`", name.get_ref());
                    self.problem(name, "listeners", text);
                }
                Some(index) if !fits(&index) => {
                    let what = if table.redirect.is_some() { "redirect" } else { "alpn" };
                    let text = format_args!("`{what}` has no effect on `{}`", name.get_ref());
                    self.problem(name, "listeners", text);
                }
                Some(index) => served.push(index),
            }
        }
        served
    }

    fn pattern(&mut self, key: &str, text: &Text) -> Option<Pattern> {
        let wanted = "a name, such as a.test, *.a.test or (in punycode) xn--bcher-kva.test";
        self.value(text, key, wanted, Pattern::parse(text.get_ref()))
    }

    fn backend(&mut self, key: &str, text: &Text) -> Option<Backend> {
        let wanted = "a backend, such as 10.0.0.1:443 or name:443";
        self.value(text, key, wanted, backend(text.get_ref()))
    }

    fn policy(&mut self, text: Option<&Text>) -> Policy {
        let Some(text) = text else { return Policy::Ordered };
        let policy = match text.get_ref().as_str() {
            "ordered" => Some(Policy::Ordered),
            "round-robin" => Some(Policy::RoundRobin),
            _ => None,
        };
        self.value(text, "policy", "`ordered` or `round-robin`", policy).unwrap_or(Policy::Ordered)
    }

    fn proxy_out(&mut self, text: Option<&Text>) -> Option<ProxyVersion> {
        let text = text?;
        let version = match text.get_ref().as_str() {
            "v1" => Some(ProxyVersion::V1),
            "v2" => Some(ProxyVersion::V2),
            _ => None,
        };
        self.value(text, "proxy-out", "`v1` or `v2`", version)
    }

    fn redirect(&mut self, text: Option<&Text>) -> bool {
        let Some(text) = text else { return false };
        self.value(text, "redirect", "`https`", (text.get_ref() == "https").then_some(())).is_some()
    }

    fn alpn(&mut self, texts: &[Text]) -> Vec<String> {
        let mut taken = Vec::new();
        for text in texts {
            let fits = (1..=255).contains(&text.get_ref().len());
            let value = fits.then(|| text.get_ref().clone());
            taken.extend(self.value(text, "alpn", "a protocol, such as acme-tls/1", value));
        }
        taken
    }

    fn check(&mut self, raw: &Spanned<raw::Check>) -> Option<Check> {
        let table = raw.get_ref();
        let http = match table.kind.get_ref().as_str() {
            "tcp" => None,
            "http" => Some(self.get(table)?),
            _ => return self.value(&table.kind, "kind", "`tcp` or `http`", None),
        };
        if http.is_none()
            && (table.path.is_some() || table.status.is_some() || table.host.is_some())
        {
            self.problem(raw, "check", "`path`, `host` and `status` need `kind = \"http\"`");
        }
        let interval = self.millis("interval", table.interval.as_ref()).unwrap_or(5_000);
        Some(Check {
            http,
            interval,
            timeout: self.millis("timeout", table.timeout.as_ref()).unwrap_or(2_000).min(interval),
            rise: self.positive("rise", table.rise.as_ref()).unwrap_or(2),
            fall: self.positive("fall", table.fall.as_ref()).unwrap_or(3),
        })
    }

    fn get(&mut self, table: &raw::Check) -> Option<Get> {
        let is_path =
            |path: &str| path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
        let path = match &table.path {
            None => "/".to_owned(),
            Some(text) => {
                let path = text.get_ref();
                self.value(
                    text,
                    "path",
                    "a path, such as /health",
                    is_path(path).then(|| path.clone()),
                )?
            }
        };
        let host = match &table.host {
            None => None,
            Some(text) => {
                let good =
                    name::authority(text.get_ref().as_bytes()).map(|_| text.get_ref().clone());
                Some(self.value(text, "host", "a host", good)?)
            }
        };
        let status = table.status.as_ref().map(|status| *status.get_ref());
        if let Some(raw) = table.status.as_ref().filter(|s| !(200..=599).contains(s.get_ref())) {
            self.problem(raw, "status", "must be a final status, 200 to 599");
        }
        Some(Get { path, host, status })
    }
}

fn implicit(name: &str, port: u16, kind: Kind) -> Listener {
    Listener {
        name: name.to_owned(),
        address: SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
        kind,
        proxy_in: Vec::new(),
        trusted: Vec::new(),
        max_connections: None,
        max_per_address: None,
        timeouts: Timeouts::default(),
    }
}

fn empty(line: usize) -> Route {
    Route {
        names: Vec::new(),
        default: false,
        listeners: Vec::new(),
        backends: Vec::new(),
        policy: Policy::Ordered,
        proxy_out: None,
        redirect: false,
        headers: Rules::default(),
        alpn: Vec::new(),
        check: None,
        line,
    }
}

/// Parses an address or a network; an address stands for a network with one address.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Parses an address with a port; `:443` stands for all addresses.
fn listen_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix(':') {
        Some(port) => Some(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port.parse().ok()?)),
        None => text.parse().ok(),
    }
}

/// True if two listeners cannot be open at the same time. Port 0 is a different port each time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let all = |address: SocketAddr| address.ip().is_unspecified() && address.is_ipv6();
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || all(one) || all(other))
}

/// Parses `host:port`, with an IPv6 address in brackets.
fn backend(text: &str) -> Option<Backend> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(Backend { host: Host::Address(address.ip()), port });
    }
    let looks_like_address =
        host.trim_end_matches('.').rsplit('.').next()?.bytes().all(|byte| byte.is_ascii_digit());
    if looks_like_address || host.parse::<IpAddr>().is_ok() {
        return None;
    }
    // The trailing dot is kept, because it means that no search domain is tried.
    let dot = if host.ends_with('.') { "." } else { "" };
    Some(Backend { host: Host::Name(name::normalise(host.as_bytes())? + dot), port })
}
