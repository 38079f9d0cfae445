//! The codec, the authentication and the conversation on any bytes, and kubelet's recorded
//! conversation on sockets.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustix::event::{PollFd, poll};
use rustix::process::Pid;

use super::auth::{Auth, LINE_MAX, Progress};
use super::connection::{Broken, Connection, Effect, rule_matches};
use super::wire::{self, Body, MESSAGE_MAX, Message, Out, Value, WireError};
use super::{INHIBITOR_EXPECTED, News, PATIENCE, Server, Socket};

const GUID: &str = "0123456789abcdef0123456789abcdef";

/// The grace in the drop-in file of these tests.
const GRACE: Duration = Duration::from_secs(30);

/// The bytes that kubelet 1.36 (godbus 5.2.2) sent to this server as root, one line per write.
const RECORDED: &str = include_str!("kubelet.hex");

fn unhex(line: &str) -> Vec<u8> {
    let digits = line.trim().as_bytes();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Returns kubelet's recorded writes.
fn recorded() -> Vec<Vec<u8>> {
    let lines = RECORDED.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(unhex).collect()
}

/// Returns a call as godbus encodes it, in either byte order.
fn call(order: u8, interface: &str, member: &str, texts: &[&str], signal: Option<i32>) -> Vec<u8> {
    let number = |value: u32| match order {
        b'l' => value.to_le_bytes(),
        _ => value.to_be_bytes(),
    };
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(number(u32::try_from(text.len()).unwrap()));
        bytes.extend(text.bytes().chain([0]));
    };
    let mut body = Vec::new();
    for argument in texts {
        text(&mut body, argument);
    }
    if let Some(signal) = signal {
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(number(signal.cast_unsigned()));
    }
    let mut fields = Vec::new();
    for (code, kind, value) in [(1, b'o', "/o"), (2, b's', interface), (3, b's', member)] {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend([code, 1, kind, 0]);
        text(&mut fields, value);
    }
    let signature = format!("{}{}", "s".repeat(texts.len()), signal.map_or("", |_| "i"));
    if !signature.is_empty() {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend([8, 1, b'g', 0, u8::try_from(signature.len()).unwrap()]);
        fields.extend(signature.bytes().chain([0]));
    }
    let mut whole = vec![order, 1, 0, 1];
    whole.extend(number(u32::try_from(body.len()).unwrap()));
    whole.extend(number(7));
    whole.extend(number(u32::try_from(fields.len()).unwrap()));
    whole.extend(&fields);
    whole.resize(whole.len().next_multiple_of(8), 0);
    whole.extend(body);
    whole
}

fn parse(bytes: &[u8]) -> Result<Message, WireError> {
    assert_eq!(wire::frame(bytes)?, Some(bytes.len()));
    wire::parse(bytes)
}

#[test]
fn both_byte_orders_mean_the_same() {
    let [little, big] = [b'l', b'B']
        .map(|order| parse(&call(order, "a.b", "KillUnit", &["unit", "all"], Some(-2))).unwrap());
    assert_eq!(little, big);
    assert_eq!(little.member, "KillUnit");
    assert_eq!(little.body[2], Value::Signed(-2));
}

#[test]
fn a_length_that_leads_out_of_the_message_is_refused() {
    let mut long = call(b'l', "a.b", "Hello", &[], None);
    long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(wire::frame(&long), Err(WireError::Length));
    let mut inner = call(b'l', "a.b", "Get", &["x"], None);
    let length = inner.len() - 6;
    inner[length..length + 4].copy_from_slice(&1000_u32.to_le_bytes());
    assert_eq!(parse(&inner), Err(WireError::Length));
    let size = u32::try_from(MESSAGE_MAX).unwrap();
    let mut whole = call(b'l', "a.b", "Hello", &[], None);
    whole[4..8].copy_from_slice(&size.to_le_bytes());
    assert_eq!(wire::frame(&whole), Err(WireError::Length));
}

#[test]
fn padding_that_is_not_zero_is_refused() {
    let mut bytes = call(b'l', "a.b", "Hello", &[], None);
    let last = bytes.len() - 1;
    bytes[last] = 1;
    assert_eq!(parse(&bytes), Err(WireError::Padding));
}

#[test]
fn a_written_message_is_read_again() {
    let out = Out::Signal { path: "/a/b", interface: "c.d", member: "E" };
    let message = parse(&wire::message(3, ":1.1", "f.g", out, Body::Bool(true))).unwrap();
    assert_eq!((message.path.as_str(), message.interface.as_str()), ("/a/b", "c.d"));
    assert_eq!((message.kind, message.body), (4, vec![Value::Bool(true)]));
}

fn authenticate(lines: &str) -> (String, Progress) {
    let mut auth = Auth::new(0, GUID.into());
    let (mut input, mut output) = (lines.replace('\n', "\r\n").into_bytes(), Vec::new());
    let progress = auth.advance(&mut input, &mut output);
    (String::from_utf8(output).unwrap().replace("\r\n", "|"), progress)
}

#[test]
fn the_authentication_follows_the_specifications_diagram() {
    let ok = format!("OK {GUID}|");
    let open = Progress::Open;
    let done = |descriptors| Progress::Done { descriptors };
    let check = |lines: &str, answers: &str, progress: Progress| {
        assert_eq!(authenticate(lines), (answers.to_owned(), progress), "{lines:?}");
    };
    check("\0AUTH\n", "REJECTED EXTERNAL|", Progress::Open);
    check("\0AUTH EXTERNAL 30\nBEGIN\n", &ok, done(false));
    check("\0AUTH EXTERNAL\nDATA\nBEGIN\n", &format!("DATA|{ok}"), done(false));
    check("\0AUTH EXTERNAL\nDATA 30\nBEGIN\n", &format!("DATA|{ok}"), done(false));
    let agreed = format!("{ok}AGREE_UNIX_FD|");
    check("\0AUTH EXTERNAL 30\nNEGOTIATE_UNIX_FD\nBEGIN\n", &agreed, done(true));
    check("\0AUTH EXTERNAL 31\nBEGIN\n", "REJECTED EXTERNAL|", Progress::Broken);
    check(
        "\0AUTH ANONYMOUS\nAUTH EXTERNAL\nCANCEL\n",
        "REJECTED EXTERNAL|DATA|REJECTED EXTERNAL|",
        open,
    );
    check("\0NEGOTIATE_UNIX_FD\nHELO\nBEGIN\n", "ERROR|ERROR|", Progress::Broken);
    check("AUTH\n", "", Progress::Broken);
    check(&format!("\0{}", "A".repeat(LINE_MAX + 1)), "", Progress::Broken);
}

/// Feeds a conversation and returns all effects.
fn converse(connection: &mut Connection, writes: &[Vec<u8>]) -> Result<Vec<Effect>, Broken> {
    let mut effects = Vec::new();
    for bytes in writes {
        effects.extend(connection.receive(bytes)?);
    }
    Ok(effects)
}

/// Returns a client that has sent Hello and can take descriptors.
fn greeted() -> Connection {
    let mut connection = Connection::new(1, 0, GUID.into());
    let auth = b"\0AUTH EXTERNAL 30\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n".to_vec();
    let hello = call(b'l', "org.freedesktop.DBus", "Hello", &[], None);
    converse(&mut connection, &[auth, hello]).unwrap();
    assert!(connection.greeted());
    connection
}

#[test]
fn nothing_is_answered_before_hello() {
    let mut connection = Connection::new(1, 0, GUID.into());
    connection.receive(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n").unwrap();
    let manager = "org.freedesktop.login1.Manager";
    let inhibit = ["shutdown", "kubelet", "why", "delay"];
    let effects = connection.receive(&call(b'l', manager, "Inhibit", &inhibit, None)).unwrap();
    assert!(matches!(&effects[..], [Effect::Send(bytes)] if parse(bytes).unwrap().kind == 3));
}

#[test]
fn only_delays_of_a_shutdown_are_granted_and_only_with_descriptors() {
    let manager = "org.freedesktop.login1.Manager";
    let inhibit = |what| call(b'l', manager, "Inhibit", &[what, "a", "b", "delay"], None);
    let mut connection = greeted();
    let effects = converse(&mut connection, &[inhibit("shutdown"), inhibit("sleep")]).unwrap();
    assert!(matches!(&effects[..], [Effect::Inhibit { serial: 7 }, Effect::Send(_)]));
}

#[test]
fn only_a_reload_of_logind_is_a_reload() {
    let kill = |unit, signal| {
        call(b'l', "org.freedesktop.systemd1.Manager", "KillUnit", &[unit, "all"], Some(signal))
    };
    let mut connection = greeted();
    let calls = [kill("systemd-logind.service", 1), kill("sshd.service", 1), kill("x", 9)];
    let effects = converse(&mut connection, &calls).unwrap();
    assert!(matches!(
        &effects[..],
        [Effect::Reload { serial: 7 }, Effect::Send(_), Effect::Send(_)]
    ));
}

#[test]
fn a_rule_matches_the_announcement_only_if_all_its_parts_do() {
    let kubelet = "type='signal',interface='org.freedesktop.login1.Manager',\
                   member='PrepareForShutdown',path='/org/freedesktop/login1'";
    for yes in [kubelet, "", "type='signal'", "interface=org.freedesktop.login1.Manager"] {
        assert!(rule_matches(yes), "{yes}");
    }
    for no in ["type='method_call'", "member='PrepareForSleep'", "type='signal',arg0='x'", "x"] {
        assert!(!rule_matches(no), "{no}");
    }
}

/// Runs the server until it is idle and returns its news.
fn turn(server: &mut Server, kubelet: Pid) -> Vec<News> {
    let mut news = Vec::new();
    loop {
        let ready: Vec<Socket> = {
            let sockets: Vec<_> = server.sockets().collect();
            let mut fds: Vec<_> = sockets
                .iter()
                .map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
                .collect();
            poll(&mut fds, Some(&kiln_base::time::timespec(Duration::ZERO))).unwrap();
            let pairs = sockets.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
            pairs.map(|((socket, ..), _)| *socket).collect()
        };
        if ready.is_empty() {
            return news;
        }
        for socket in ready {
            news.extend(server.handle(socket, Some(kubelet), Instant::now()));
        }
    }
}

struct Bus {
    server: Server,
    path: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

fn bus() -> Bus {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("login1");
    let drop_in = folder.path().join("99-kubelet.conf");
    std::fs::write(&drop_in, "[Login]\nInhibitDelayMaxSec=30\n").unwrap();
    let server = Server::listen(path.to_str().unwrap(), GUID.into(), &drop_in).unwrap();
    Bus { server, path, _folder: folder }
}

impl Bus {
    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }
}

/// Returns everything that the client can read now, and the descriptor among it.
fn read(stream: &UnixStream) -> (Vec<u8>, Option<std::os::fd::OwnedFd>) {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let (mut bytes, mut descriptor) = (vec![0; 65_536], None);
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
    let length = recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        .map_or(0, |received| received.bytes);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptor = descriptors.last();
        }
    }
    bytes.truncate(length);
    (bytes, descriptor)
}

fn me() -> Pid {
    rustix::process::getpid()
}

/// Plays kubelet's recorded conversation and returns its stream, its inhibitor and the news.
fn play(bus: &mut Bus) -> (UnixStream, std::os::fd::OwnedFd, Vec<News>) {
    let mut stream = bus.connect();
    let (mut inhibitor, mut news) = (None, Vec::new());
    for bytes in recorded() {
        stream.write_all(&bytes).unwrap();
        news.extend(turn(&mut bus.server, me()));
        let (_, descriptor) = read(&stream);
        inhibitor = descriptor.or(inhibitor);
    }
    (stream, inhibitor.expect("an inhibitor"), news)
}

#[test]
fn kubelets_recorded_conversation_ends_with_an_inhibitor_and_the_announcement() {
    let mut bus = bus();
    assert!(!bus.server.announce(), "there is no client yet");
    let (stream, inhibitor, news) = play(&mut bus);
    assert_eq!(news, [News::Inhibited(GRACE)]);
    assert!(bus.server.due().is_none(), "kubelet may be silent from now on");

    assert!(bus.server.announce());
    let (bytes, _) = read(&stream);
    let signal = parse(&bytes).unwrap();
    assert_eq!(signal.member, "PrepareForShutdown");
    assert_eq!(signal.path, "/org/freedesktop/login1");
    assert_eq!(signal.interface, "org.freedesktop.login1.Manager");
    assert_eq!(signal.body, [Value::Bool(true)]);

    assert!(turn(&mut bus.server, me()).is_empty());
    drop(inhibitor);
    assert_eq!(turn(&mut bus.server, me()), [News::Released]);
    assert!(!bus.server.inhibited());
}

#[test]
fn a_kubelet_without_an_inhibitor_is_reported_once() {
    let mut bus = bus();
    let ready = Instant::now();
    let (early, late) = (ready + INHIBITOR_EXPECTED / 2, ready + INHIBITOR_EXPECTED);
    let complains = |server: &mut Server, expected: bool| {
        server.expected = expected;
        server.expect_inhibitor(ready);
        [early, late, late].map(|now| server.complaint(now).is_some())
    };
    assert_eq!(complains(&mut bus.server, true), [false, true, false]);
    assert_eq!(complains(&mut bus.server, false), [false; 3], "its configuration has no grace");
    let _inhibitor = play(&mut bus);
    assert_eq!(complains(&mut bus.server, true), [false; 3], "it took one");
}

#[test]
fn a_restarted_kubelet_takes_its_inhibitor_again() {
    let mut bus = bus();
    let (old, old_inhibitor, _) = play(&mut bus);
    let (_new, new_inhibitor, news) = play(&mut bus);
    assert_eq!(news, [News::Inhibited(GRACE)]);
    drop((old, old_inhibitor));
    assert_eq!(turn(&mut bus.server, me()), [News::Inhibited(GRACE)]);
    assert!(bus.server.inhibited());
    drop(new_inhibitor);
    assert_eq!(turn(&mut bus.server, me()), [News::Released]);
}

#[test]
fn another_process_is_disconnected_and_kubelet_still_gets_through() {
    let mut bus = bus();
    let strangers: Vec<UnixStream> = (0..200).map(|_| bus.connect()).collect();
    let stranger = Pid::from_raw(1).unwrap();
    turn(&mut bus.server, stranger);
    for mut stranger in strangers {
        assert_eq!(stranger.read(&mut [0; 1]).unwrap(), 0);
    }
    assert_eq!(bus.server.sockets().count(), 1);
    let (_stream, _inhibitor, news) = play(&mut bus);
    assert_eq!(news.len(), 1);
}

#[test]
fn an_incomplete_message_disconnects_its_sender() {
    let mut bus = bus();
    let mut silent = bus.connect();
    silent.write_all(b"\0AUTH").unwrap();
    turn(&mut bus.server, me());
    let due = bus.server.due().expect("a deadline");
    bus.server.expire(due.checked_sub(Duration::from_millis(1)).unwrap());
    assert_eq!(bus.server.sockets().count(), 2);
    bus.server.expire(due);
    assert_eq!(bus.server.sockets().count(), 1);

    let (mut stream, _inhibitor, _) = play(&mut bus);
    stream.write_all(b"l\x01\x00").unwrap();
    turn(&mut bus.server, me());
    bus.server.expire(Instant::now() + PATIENCE);
    assert!(!bus.server.sockets().any(|(socket, ..)| matches!(socket, Socket::Client(_))));
    assert!(bus.server.inhibited(), "the inhibitor is the descriptor, not the connection");
}

#[test]
fn garbage_disconnects_only_its_sender() {
    let mut bus = bus();
    let (_stream, _inhibitor, _) = play(&mut bus);
    let mut garbage = bus.connect();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    turn(&mut bus.server, me());
    assert_eq!(read(&garbage).0, b"");
    assert!(bus.server.announce());
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Some(length)) = wire::frame(&bytes) {
            prop_assert!((16..=MESSAGE_MAX).contains(&length));
        }
        if let Ok(message) = wire::parse(&bytes) {
            prop_assert!(message.serial != 0 && bytes.len() >= 16);
        }
    }

    #[test]
    fn a_message_with_one_wrong_byte_is_refused_or_whole(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = call(b'l', "org.freedesktop.DBus.Properties", "Get", &["a", "b"], None);
        prop_assert!(wire::parse(&bytes[..cut.index(bytes.len())]).is_err());
        let index = at.index(bytes.len());
        bytes[index] = byte;
        if let Ok(message) = wire::parse(&bytes) {
            prop_assert!(message.serial != 0 && message.body.len() <= 2);
        }
    }

    #[test]
    fn any_texts_come_through(texts in prop::collection::vec("[^\0]{0,20}", 0..5), big in any::<bool>()) {
        let order = if big { b'B' } else { b'l' };
        let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
        let message = parse(&call(order, "a.b", "C", &borrowed, Some(5))).unwrap();
        let expected: Vec<Value> = texts.into_iter().map(Value::Text).collect();
        prop_assert_eq!(&message.body[..expected.len()], &expected[..]);
    }

    #[test]
    fn any_conversation_keeps_to_its_bounds(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..20),
        skip in 0_usize..8,
    ) {
        let mut connection = Connection::new(1, 0, GUID.into());
        let mut prefix = recorded();
        prefix.truncate(skip);
        converse(&mut connection, &prefix).unwrap();
        if let Ok(effects) = converse(&mut connection, &chunks) {
            // Every effect takes at least a byte, but the first may end what the prefix began.
            prop_assert!(effects.len() <= chunks.concat().len() + 1);
        }
    }

    #[test]
    fn where_the_bytes_are_cut_changes_nothing(cuts in prop::collection::vec(1_usize..40, 1..60)) {
        let all = recorded().concat();
        let mut whole = Connection::new(1, 0, GUID.into());
        let expected = whole.receive(&all).unwrap();
        let (mut connection, mut got, mut rest) = (Connection::new(1, 0, GUID.into()), Vec::new(), &all[..]);
        for cut in cuts.into_iter().cycle() {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            got.extend(connection.receive(now).unwrap());
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        // Answers of the authentication come one by one or together; messages never do.
        let text = |effects: &[Effect]| -> Vec<u8> {
            effects.iter().flat_map(|effect| match effect {
                Effect::Send(bytes) => bytes.clone(),
                other => format!("{other:?}").into_bytes(),
            }).collect()
        };
        prop_assert_eq!(text(&got), text(&expected));
    }
}
