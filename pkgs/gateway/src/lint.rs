//! `gateway check FILE` and `gateway routes FILE NAME`: the meaning of a file, without serving.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::{Config, Kind, Ports};
use crate::name;
use crate::route::Table;
use crate::serve;

/// Prints the problems of a file, one line each. Returns the exit status, 0 or 1.
#[must_use]
pub fn check(file: &Path, ports: Ports) -> i32 {
    match serve::read(file, ports) {
        Ok(config) => {
            let (listeners, routes) = (config.listeners.len(), config.routes.len());
            println!("{}: {listeners} listeners, {routes} routes", file.display());
            0
        }
        Err(error) => {
            eprintln!("{error:#}");
            1
        }
    }
}

/// Prints for each listener where a client that asks for a name is sent. Returns the exit status: 1
/// if the file is invalid, the name is invalid, or no route has the name.
#[must_use]
pub fn routes(file: &Path, name: &str, ports: Ports) -> i32 {
    let config = match serve::read(file, ports) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error:#}");
            return 1;
        }
    };
    let Some(authority) = name::authority(name.as_bytes()) else {
        eprintln!("`{name}` is not a name or an address");
        return 1;
    };
    let lines = table(&config, &authority.host, &file.display().to_string());
    for (line, _) in &lines {
        println!("{line}");
    }
    i32::from(!lines.iter().any(|(_, served)| *served))
}

/// Returns one line per listener, with true if the listener has a route for the name. A protocol with
/// its own backends has its own line.
fn table(config: &Config, name: &str, file: &str) -> Vec<(String, bool)> {
    let table = Table::new(config);
    let mut lines = Vec::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let place = &listener.name;
        let usual = table.find(index, Some(name), b"");
        lines.push(line(config, place, usual, file));
        for protocol in protocols(config, listener.kind) {
            let length = u8::try_from(protocol.len()).unwrap_or(0);
            let offered = [&[length], protocol.as_bytes()].concat();
            let found = table.find(index, Some(name), &offered);
            if found != usual {
                lines.push(line(config, &format!("{place} ({protocol})"), found, file));
            }
        }
    }
    lines
}

/// Returns the protocols that routes for a kind of listener ask for.
fn protocols(config: &Config, kind: Kind) -> BTreeSet<&str> {
    let routes = config.routes.iter().filter(|_| kind == Kind::Tls);
    routes.flat_map(|route| &route.alpn).map(String::as_str).collect()
}

/// Returns the line for a route, with true if there is a route.
fn line(config: &Config, place: &str, route: Option<usize>, file: &str) -> (String, bool) {
    let Some(route) = route.map(|route| &config.routes[route]) else {
        return (format!("{place}: no route"), false);
    };
    let backends: Vec<String> = route.backends.iter().map(ToString::to_string).collect();
    let target = if route.redirect { "redirect to https".to_owned() } else { backends.join(", ") };
    (format!("{place}: {target} ({file}:{})", route.line), true)
}

#[cfg(test)]
mod tests {
    use super::table;
    use crate::config::{Ports, parse};

    #[test]
    fn each_listener_has_a_line_with_the_backends_of_a_name() {
        let text = "[https_backends]\n\"a.test\" = \"10.0.0.1:1\"\n[http_backends]\n\"b.test\" = \"10.0.0.2:2\"\n\
                    [[route]]\nnames = [\"a.test\"]\nalpn = [\"acme-tls/1\"]\nbackends = [\"10.0.0.3:3\"]\n\
                    [[route]]\nnames = [\"a.test\"]\nredirect = \"https\"\n";
        let config = parse(text, Ports::default()).unwrap();
        let lines: Vec<String> =
            table(&config, "a.test", "f").into_iter().map(|(line, _)| line).collect();
        assert_eq!(
            lines,
            [
                "https: 10.0.0.1:1 (f:2)",
                "https (acme-tls/1): 10.0.0.3:3 (f:5)",
                "http: redirect to https (f:9)"
            ]
        );
        assert!(table(&config, "c.test", "f").iter().all(|(_, served)| !served));
    }
}
