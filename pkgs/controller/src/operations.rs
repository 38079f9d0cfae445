//! The operations port: `/live`, `/ready` and `/metrics` over HTTP/1.1, one request per connection.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kiln_daemon::exit::Exit;
use kiln_server::ops::{Page, page};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// The most bytes of a request's head that are read.
const HEAD_BYTES_MAX: usize = 4096;

/// The longest time of a connection. Connections are served one after another.
const CONNECTION_MAX: Duration = Duration::from_secs(2);

/// The pause after a failed accept, which fails while the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The state that the port shows.
pub trait State {
    /// True if the program does its work.
    fn is_ready(&self) -> bool;

    /// Returns the metrics for Prometheus.
    fn metrics(&self) -> String;
}

/// Opens the port.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another --operations"))
        .context(Exit::Config)
}

/// Answers requests, forever.
pub async fn serve(port: TcpListener, state: &impl State) {
    loop {
        match port.accept().await {
            Ok((client, _)) => match timeout(CONNECTION_MAX, answer(client, state)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a client of the operations port failed"),
                Err(_) => tracing::debug!("a client of the operations port was too slow"),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the operations port");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(mut client: TcpStream, state: &impl State) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    client.write_all(response(&head, state).as_bytes()).await?;
    client.shutdown().await
}

/// Returns the whole response to a request's head.
fn response(head: &[u8], state: &impl State) -> String {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let Page { status, text } = match (words.next(), words.next()) {
        (Some(b"GET"), Some(path)) => page(path, state.is_ready(), || state.metrics())
            .unwrap_or(Page { status: "404 Not Found", text: "not found\n".into() }),
        _ => Page { status: "405 Method Not Allowed", text: "only GET is allowed\n".into() },
    };
    let length = text.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    )
}

#[cfg(test)]
mod tests {
    use super::{State, response};

    struct Busy;

    impl State for Busy {
        fn is_ready(&self) -> bool {
            false
        }

        fn metrics(&self) -> String {
            "x 1\n".to_owned()
        }
    }

    fn check(head: &str, expected: &str) {
        let response = response(head.as_bytes(), &Busy);
        assert!(response.starts_with(expected), "{head}: {response}");
    }

    #[test]
    fn each_path_has_its_answer() {
        check("GET /live HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n");
        check("GET /ready HTTP/1.1\r\n\r\n", "HTTP/1.1 503 Service Unavailable\r\n");
        check("GET /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n");
        check("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found\r\n");
        check("POST /live HTTP/1.1\r\n\r\n", "HTTP/1.1 405 Method Not Allowed\r\n");
    }
}
