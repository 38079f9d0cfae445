//! The configuration of the other web servers: no access log, sendfile, one worker, no limit of
//! requests per connection, and their defaults for the rest. docs/benchmarks.md repeats it.

use std::net::SocketAddr;
use std::path::Path;

/// The address, content and folder of one server.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The folder that it serves.
    pub content: &'a Path,
    /// The folder for its own files.
    pub scratch: &'a Path,
}

/// Media types by extension for servers that bring no table of their own.
const TYPES: [(&str, &str); 9] = [
    (".html", "text/html"),
    (".css", "text/css"),
    (".js", "text/javascript"),
    (".txt", "text/plain"),
    (".json", "application/json"),
    (".svg", "image/svg+xml"),
    (".png", "image/png"),
    (".wasm", "application/wasm"),
    ("", "application/octet-stream"),
];

/// Returns nginx.conf. nginx started by root would switch to an unprivileged user, which may not
/// read the content.
pub fn nginx(site: Site<'_>, types: &Path, cached: bool) -> String {
    let Site { address, content, scratch } = site;
    let (content, scratch) = (content.display(), scratch.display());
    let cache = if cached {
        "open_file_cache max=20000 inactive=1h; open_file_cache_valid 1h; open_file_cache_min_uses 1;"
    } else {
        ""
    };
    let user = if is_root() { "user root;" } else { "" };
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("  {name}_temp_path {scratch}/{name};\n"))
        .concat();
    format!(
        "daemon off;\nworker_processes 1;\npid {scratch}/nginx.pid;\nerror_log stderr warn;\n{user}\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n{temporary}  include {types};\n  default_type application/octet-stream;\n  \
         access_log off;\n  sendfile on;\n  tcp_nopush on;\n  keepalive_requests 1000000000;\n  {cache}\n  \
         server {{ listen {address}; root {content}; }}\n}}\n",
        types = types.display()
    )
}

/// Returns lighttpd.conf. Its limit of requests per connection has 16 bits.
pub fn lighttpd(site: Site<'_>) -> String {
    let Site { address, content, .. } = site;
    let types: Vec<String> = TYPES.map(|(end, kind)| format!("\"{end}\" => \"{kind}\"")).into();
    format!(
        "server.document-root = \"{}\"\nserver.bind = \"{}\"\nserver.port = {}\n\
         server.max-keep-alive-requests = 65535\nserver.max-fds = 8192\n\
         index-file.names = ( \"index.html\" )\nmimetype.assign = ( {} )\n",
        content.display(),
        address.ip(),
        address.port(),
        types.join(", ")
    )
}

/// Returns h2o.conf. h2o started by root would switch to an unprivileged user, which may not read
/// the content.
pub fn h2o(site: Site<'_>) -> String {
    let Site { address, content, scratch } = site;
    let user = if is_root() { "user: root\n" } else { "" };
    format!(
        "num-threads: 1\nmax-connections: 4096\n{user}temp-buffer-path: {}\n\
         listen:\n  host: {}\n  port: {}\n\
         hosts:\n  default:\n    paths:\n      /:\n        file.dir: {}\n        file.send-compressed: OFF\n",
        scratch.display(),
        address.ip(),
        address.port(),
        content.display()
    )
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
