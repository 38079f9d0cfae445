//! gitoxide's transport for processes over russh.
//!
//! A connection goes to an address that [`Guard`] has checked, and sends nothing before the server has
//! proved a known host key. There is no agent, no forwarding, no shell and no configuration of the
//! machine: one key, one command, `git-upload-pack 'PATH'`. The protocol's version is asked for with the
//! variable `GIT_PROTOCOL` (git-upload-pack(1)); a server that ignores it answers with an older one.
//!
//! The connection has a small runtime of its own, which runs while a caller waits for bytes.

use std::future::Future;
use std::io::{self, Cursor, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use gix_transport::Protocol;
use gix_transport::client::blocking_io::Transport;
use gix_transport::client::git::ConnectMode;
use gix_transport::client::git::blocking_io::Connection;
use russh::client::{self, AuthResult, Handle, Msg};
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Preferred, cipher, kex, mac};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::git::known::{Known, RSA_HASH};
use crate::git::limits::Failure;
use crate::git::meter::Meter;
use crate::guard::lookup::Guard;
use crate::guard::url::GitUrl;

/// Key exchanges with elliptic curves, the first one also safe from quantum computers.
const KEX: [kex::Name; 5] = [
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

/// Ciphers; the last two are used with a MAC of [`MACS`].
const CIPHERS: [cipher::Name; 5] = [
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_128_CTR,
];

/// MACs over the encrypted bytes.
const MACS: [mac::Name; 2] = [mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];

/// The most bytes of a server's messages that are kept.
const SAID_BYTES_MAX: usize = 1000;

/// The user of a URL and a Secret that name none.
pub const USER: &str = "git";

/// Everything that a connection needs.
#[derive(Debug)]
pub struct Target<'a> {
    /// The repository.
    pub url: &'a GitUrl,
    /// The account.
    pub user: &'a str,
    /// The private key as text.
    pub key: &'a str,
    /// The host keys.
    pub known: Known,
}

/// Connects, logs in and starts the command.
pub fn connect(
    guard: &Guard,
    meter: &Arc<Meter>,
    target: &Target<'_>,
) -> Result<Box<dyn Transport + Send>, Failure> {
    let key = private_key(target.key)?;
    if target.known.is_empty() {
        return Err(Failure::UnknownHost(target.url.host.clone()));
    }
    let time = meter.remaining().map_err(|error| Failure::Connection(error.to_string()))?;
    let addresses = guard.addresses(target.url, time)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Connection(error.to_string()))?;
    let opened = wait(&runtime, meter, open(&addresses, meter, target, key));
    let (handle, read, write) =
        opened.map_err(|error| Failure::Connection(error.to_string()))??;
    let link = Arc::new(Link { runtime, meter: meter.clone(), _handle: handle });
    let reader =
        Reader { link: link.clone(), half: read, rest: Cursor::default(), said: Vec::new() };
    let writer = Writer { link, half: write };
    let path = target.url.path.as_str();
    let none = None::<(&str, Option<u16>)>;
    let mode = ConnectMode::Process;
    Ok(Box::new(Connection::new(reader, writer, Protocol::V2, path, none, mode, false)))
}

/// Reads a private key. Its text is no part of an error.
fn private_key(text: &str) -> Result<PrivateKey, Failure> {
    let key = russh::keys::decode_secret_key(text, None).map_err(|error| {
        Failure::Credentials(match error {
            russh::keys::Error::KeyIsEncrypted => {
                "the private key has a passphrase; store a key without one"
            }
            _ => "the private key cannot be read",
        })
    })?;
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::Rsa { .. } => Ok(key),
        _ => Err(Failure::Credentials("the private key is not of the kind Ed25519, ECDSA or RSA")),
    }
}

/// Waits for a future, but not longer than the fetch may take.
fn wait<T>(runtime: &Runtime, meter: &Meter, work: impl Future<Output = T>) -> io::Result<T> {
    let time = meter.remaining()?;
    runtime.block_on(async {
        let done = tokio::time::timeout(time, work).await;
        done.map_err(|_| meter.end(Failure::TimedOut(meter.limits().time)))
    })
}

type Opened = (Handle<Host>, ChannelReadHalf, ChannelWriteHalf<Msg>);

/// Opens the connection, and starts the command.
async fn open(
    addresses: &[SocketAddr],
    meter: &Arc<Meter>,
    target: &Target<'_>,
    key: PrivateKey,
) -> Result<Opened, Failure> {
    let stream = dial(addresses, meter).await?;
    let stream = Counted { inner: stream, meter: meter.clone() };
    let preferred = Preferred {
        kex: KEX.to_vec().into(),
        key: target.known.algorithms().into(),
        cipher: CIPHERS.to_vec().into(),
        mac: MACS.to_vec().into(),
        compression: vec![russh::compression::NONE].into(),
        ..Preferred::DEFAULT
    };
    let config = client::Config { preferred, nodelay: true, ..client::Config::default() };
    let host = Host { known: target.known.clone(), name: target.url.host.clone() };
    let mut handle = client::connect_stream(Arc::new(config), stream, host).await?;
    log_in(&mut handle, target.user, key).await?;
    let channel = handle.channel_open_session().await?;
    channel.set_env(false, "GIT_PROTOCOL", "version=2").await?;
    // The URL has no quote.
    channel.exec(true, format!("git-upload-pack '{}'", target.url.path)).await?;
    let (read, write) = channel.split();
    Ok((handle, read, write))
}

/// Connects to the first address that answers. Each one has its part of the time.
async fn dial(addresses: &[SocketAddr], meter: &Meter) -> Result<TcpStream, Failure> {
    let mut last = Failure::Connection("it has no address".to_owned());
    for (at, address) in addresses.iter().enumerate() {
        let left = meter.remaining().map_err(|error| Failure::Connection(error.to_string()))?;
        let part = left / u32::try_from(addresses.len() - at).unwrap_or(1);
        match tokio::time::timeout(part, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            // The kernel's words have no address.
            Ok(Err(error)) => last = Failure::Connection(error.kind().to_string()),
            Err(_) => last = Failure::TimedOut(meter.limits().time),
        }
    }
    Err(last)
}

async fn log_in(handle: &mut Handle<Host>, user: &str, key: PrivateKey) -> Result<(), Failure> {
    let mut hash = None;
    if matches!(key.algorithm(), Algorithm::Rsa { .. }) {
        hash = match handle.best_supported_rsa_hash().await? {
            None => Some(RSA_HASH),
            Some(Some(hash)) => Some(hash),
            Some(None) => {
                return Err(Failure::Credentials(
                    "the git server accepts RSA keys with SHA-1 only; use another kind of key",
                ));
            }
        };
    }
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    match handle.authenticate_publickey(user, key).await? {
        AuthResult::Success => Ok(()),
        AuthResult::Failure { .. } => Err(Failure::Denied),
    }
}

/// The check of the server's key.
struct Host {
    known: Known,
    name: String,
}

impl client::Handler for Host {
    type Error = Failure;

    async fn check_server_key(
        &mut self,
        proof: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, Failure> {
        match proof {
            russh::keys::PublicKeyOrCertificate::PublicKey { key, .. }
                if self.known.contains(key) =>
            {
                Ok(true)
            }
            _ => Err(Failure::WrongHostKey(self.name.clone())),
        }
    }
}

impl From<russh::Error> for Failure {
    fn from(error: russh::Error) -> Self {
        match error {
            russh::Error::IO(error) => Self::Connection(error.kind().to_string()),
            russh::Error::NoCommonAlgo { kind: russh::AlgorithmKind::Key, .. } => {
                Self::Connection("it has no host key of the known kinds".to_owned())
            }
            russh::Error::NoCommonAlgo { kind, .. } => {
                Self::Connection(format!("it has no modern algorithm ({kind:?})"))
            }
            russh::Error::HUP | russh::Error::Disconnect | russh::Error::SendError => {
                Self::Connection("it ended the connection".to_owned())
            }
            other => Self::Protocol(other.to_string()),
        }
    }
}

/// The connection of a reader and a writer.
struct Link {
    runtime: Runtime,
    meter: Arc<Meter>,
    /// The connection ends with it.
    _handle: Handle<Host>,
}

/// The output of the command.
struct Reader {
    link: Arc<Link>,
    half: ChannelReadHalf,
    /// Bytes that the caller's last buffer had no room for.
    rest: Cursor<Vec<u8>>,
    /// The beginning of the command's error output.
    said: Vec<u8>,
}

impl Reader {
    /// Waits for more bytes; nothing at the end.
    fn more(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Link { runtime, meter, .. } = &*self.link;
        loop {
            match wait(runtime, meter, self.half.wait())? {
                Some(ChannelMsg::Data { data }) => return Ok(Some(data.to_vec())),
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    let room = SAID_BYTES_MAX - self.said.len();
                    self.said.extend_from_slice(&data[..data.len().min(room)]);
                }
                Some(ChannelMsg::Failure) => {
                    let failure = Failure::Protocol("it runs no command of git".to_owned());
                    return Err(meter.end(failure));
                }
                Some(ChannelMsg::ExitStatus { exit_status }) if exit_status != 0 => {
                    return Err(meter.end(failed(&self.said)));
                }
                Some(ChannelMsg::Close) | None => return Ok(None),
                Some(_) => {}
            }
        }
    }
}

/// Returns the cause for which the command failed, from its error output.
fn failed(said: &[u8]) -> Failure {
    let said = String::from_utf8_lossy(said);
    let is_missing =
        ["not found", "not exist", "not be found", "not appear to be a git repository"];
    if is_missing.iter().any(|text| said.to_lowercase().contains(text)) {
        return Failure::NotFound;
    }
    let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason");
    let line: String = line.chars().filter(|char| !char.is_control()).collect();
    Failure::Protocol(format!("git-upload-pack failed there: {line}"))
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.rest.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.more()? {
                Some(bytes) => self.rest = Cursor::new(bytes),
                None => return Ok(0),
            }
        }
    }
}

/// The input of the command.
struct Writer {
    link: Arc<Link>,
    half: ChannelWriteHalf<Msg>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Link { runtime, meter, .. } = &*self.link;
        let sent = wait(runtime, meter, self.half.data(bytes))?;
        sent.map_err(|error| meter.end(error.into()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection that counts the bytes from the server.
struct Counted {
    inner: TcpStream,
    meter: Arc<Meter>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = polled {
            return Poll::Ready(self.meter.count(buffer.filled().len() - before));
        }
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
