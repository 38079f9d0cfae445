//! nginx in front of `git http-backend` (git-http-backend(1)), which fcgiwrap starts for each request.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::certificates;
use super::layout::{Layout, PASSWORD, PRIVATE, USER};
use super::programs::Programs;
use crate::cluster::component::Component;
use crate::process::Command;

/// The number of requests that run `git http-backend` at the same time.
const WORKERS: &str = "8";

/// Starts both programs, and waits until nginx answers.
pub(super) fn start(programs: &Programs, server: &Layout) -> Result<Vec<Component>> {
    let logs = server.path("logs");
    let cgi = format!("tcp:{}:{}", Ipv4Addr::LOCALHOST, server.ports.cgi);
    let cgi = programs.fcgiwrap.command()?.args(["-f", "-c", WORKERS, "-s", &cgi]);
    let cgi = Component::start("fcgiwrap", cgi.env("HOME", server.path("home")), &logs)?;
    let scratch = server.path("nginx");
    fs::create_dir_all(&scratch).context("cannot create nginx's folder")?;
    let config = scratch.join("nginx.conf");
    fs::write(users(server), format!("{USER}:{{PLAIN}}{PASSWORD}\n"))
        .and_then(|()| fs::write(&config, text(server)))
        .context("cannot write nginx's configuration")?;
    let nginx: Command = programs.nginx.command()?.arg("-p").arg(&scratch).arg("-c").arg(&config);
    let mut nginx = Component::start("nginx", nginx.args(["-e", "stderr"]), &logs)?;
    nginx.wait_until_ready(&format!(
        "http://{}:{}/ready",
        server.settings.listen, server.ports.http
    ))?;
    Ok(vec![cgi, nginx])
}

/// Returns nginx.conf. nginx started by root would switch to an unprivileged user, which may not read
/// the folder.
fn text(server: &Layout) -> String {
    let scratch = server.path("nginx").display().to_string();
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {scratch}/{name};\n"))
        .concat();
    let mut text = format!(
        "daemon off;\nworker_processes 1;\npid {scratch}/nginx.pid;\nerror_log stderr warn;\n{user}\n\
         events {{ worker_connections 512; }}\nhttp {{\n{temporary}access_log off;\n\
         client_max_body_size 0;\n"
    );
    let listen = |port: u16| format!("listen {}:{port}", server.settings.listen);
    let locations = locations(server);
    let _ = writeln!(text, "server {{ {};\n{locations}}}", listen(server.ports.http));
    let [unknown, other, expired] = server.ports.wrong;
    for (port, name) in [
        (server.ports.https, certificates::SERVER),
        (unknown, certificates::UNKNOWN),
        (other, certificates::OTHER),
        (expired, certificates::EXPIRED),
    ] {
        let path = server.path("certificates").join(name).display().to_string();
        let _ = writeln!(
            text,
            "server {{ {} ssl;\nssl_certificate {path}.crt;\nssl_certificate_key {path}.key;\n\
             {locations}}}",
            listen(port)
        );
    }
    text.push_str("}\n");
    text
}

/// Returns the path of the file with users and passwords.
pub(super) fn users(server: &Layout) -> PathBuf {
    server.path("nginx").join("users")
}

fn locations(server: &Layout) -> String {
    let parameters = [
        ("SCRIPT_FILENAME", server.program("git-http-backend").display().to_string()),
        ("GIT_PROJECT_ROOT", server.path("repositories").display().to_string()),
        ("GIT_HTTP_EXPORT_ALL", "1".to_owned()),
        ("GIT_PROTOCOL", "$http_git_protocol".to_owned()),
        ("PATH_INFO", "$uri".to_owned()),
        ("QUERY_STRING", "$query_string".to_owned()),
        ("REQUEST_METHOD", "$request_method".to_owned()),
        ("CONTENT_TYPE", "$content_type".to_owned()),
        ("CONTENT_LENGTH", "$content_length".to_owned()),
        ("REMOTE_USER", "$remote_user".to_owned()),
        ("REMOTE_ADDR", "$remote_addr".to_owned()),
    ];
    let pass = format!(
        "fastcgi_pass {}:{};\nfastcgi_read_timeout 10m;\n",
        Ipv4Addr::LOCALHOST,
        server.ports.cgi
    );
    let pass = parameters
        .iter()
        .fold(pass, |text, (name, value)| text + &format!("fastcgi_param {name} \"{value}\";\n"));
    let users = users(server);
    format!(
        "location = /ready {{ return 200 \"ready\"; }}\nlocation / {{\n{pass}}}\n\
         location /{PRIVATE}/ {{\nauth_basic git;\nauth_basic_user_file {};\n{pass}}}\n",
        users.display()
    )
}
