//! Properties that hold for any bytes: one function for each fuzz target.
//!
//! They do not depend on libFuzzer, so that `init/tests/fuzz.rs` can replay the checked-in inputs
//! in `seeds/` with a plain `cargo test`.

use std::collections::BTreeSet;
use std::path::Path;

use kiln_contract::setting::PARAMETERS;
use kiln_init::kernel::{mountinfo, uevent};
use kiln_init::log::kernel::{self, Origin};
use kiln_init::log::line::{self, Line, Stamper};
use kiln_init::log::stamp::Stamp;
use kiln_init::login1::connection::{Connection, Effect};
use kiln_init::login1::wire;
use kiln_init::machine::{parameters, smbios};
use kiln_init::modules::index::{Found, Index};
use kiln_init::modules::pattern::matches;
use kiln_init::modules::settings::Settings;
use kiln_init::storage::gpt::write::{self, Step};
use kiln_init::storage::{ext4, gpt, signature};
use kiln_init::supervise::notify;
use kiln_init::supervise::probe::Answer;
use kiln_init::timeline::loader;

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 18] = [
    ("cmdline", cmdline),
    ("dbus", dbus),
    ("ext4", ext4),
    ("gpt", gpt),
    ("join", join),
    ("kmsg", kmsg),
    ("kubelog", kubelog),
    ("line", line),
    ("loader", loader),
    ("modules", modules),
    ("mountinfo", mountinfo),
    ("nocloud", nocloud),
    ("node", node),
    ("notify", notify),
    ("probe", probe),
    ("signature", signature),
    ("smbios", smbios),
    ("uevent", uevent),
];

/// The kernel's command line: every parameter of Kiln is taken or reported, and every value is
/// valid.
pub fn cmdline(input: &[u8]) {
    let line = String::from_utf8_lossy(input);
    let words = parameters::words(&line);
    assert!(words.iter().all(|word| !word.is_empty() && !word.contains('"')));
    let found = parameters::parse(&line);
    for parameter in PARAMETERS {
        let text = found.text(&parameter);
        assert!(text == parameter.default || parameter.value.accepts(text));
    }
    let ours = words.iter().filter(|word| word.starts_with("kiln.")).count();
    assert!(found.warnings.len() <= ours + words.len());
}

/// The login1 conversation: the size of pieces changes nothing.
pub fn dbus(input: &[u8]) {
    let _ = wire::parse(input);
    let client = || Connection::new(1, 0, "0".repeat(32));
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    let fine = effects(&mut client(), input, &mut whole);
    let mut connection = client();
    let bytes = input.chunks(1).all(|chunk| effects(&mut connection, chunk, &mut parts));
    assert_eq!(fine, bytes);
    assert!(!fine || whole == parts);
}

/// Appends everything that one client makes the server do, as bytes.
fn effects(connection: &mut Connection, chunk: &[u8], into: &mut Vec<u8>) -> bool {
    let Ok(effects) = connection.receive(chunk) else { return false };
    for effect in effects {
        match effect {
            Effect::Send(bytes) => into.extend(bytes),
            other => into.extend(format!("{other:?}").into_bytes()),
        }
    }
    true
}

/// ext4's superblock: sizes are those that the kernel accepts.
pub fn ext4(input: &[u8]) {
    if let Some(found) = ext4::parse(input) {
        assert!((1024..=65536).contains(&found.block));
    }
}

/// A partition table: no size in it leads outside the bytes, and growing it writes nothing beyond the
/// disk.
pub fn gpt(input: &[u8]) {
    let geometry = gpt::Geometry { block: 512, blocks: 1 << 21 };
    let (block, entries) = input.split_at(input.len().min(512));
    let _ = write::marked(geometry, block);
    let Ok(header) = gpt::header(block) else { return };
    assert!(header.bytes() <= 1024 * 4096);
    for partition in gpt::partitions(&header, entries, &gpt::VAR).unwrap_or_default() {
        let entries = &entries[..header.bytes()];
        let growth = write::grow(geometry, &header, entries, &partition);
        for step in growth.map(|growth| growth.steps).unwrap_or_default() {
            if let Step::Write(at, bytes) = step {
                assert!(at + bytes.len() as u64 <= geometry.bytes());
            }
        }
    }
}

/// A record of the kernel's log: its text is never longer than the record, and only its beginning
/// decides the author.
pub fn kmsg(input: &[u8]) {
    let Some(record) = kernel::parse(input) else { return };
    assert!(record.text.len() < input.len());
    match record.origin(&["containerd", "kubelet"]) {
        Origin::Init(text) => assert!(record.text.ends_with(text)),
        Origin::Kernel(text) => assert_eq!(record.text, text),
        Origin::Copy => assert!(record.text.starts_with(b"kiln: ")),
    }
}

/// A log file's lines, and a service's output on its way into one: the size of pieces changes no
/// text, and a service cannot forge the start of a boot.
pub fn line(input: &[u8]) {
    if let Some(Line::Text(entry)) = line::parse(input) {
        assert!(entry.source.len() + entry.text.len() < input.len());
    }
    let (whole, parts) = (stamped(input, input.len().max(1)), stamped(input, 7));
    assert!(whole == parts || input.len() > line::TEXT_MAX);
    for written in whole.split_inclusive(|&byte| byte == b'\n') {
        assert!(written.len() <= line::LINE_MAX);
        let read = written.strip_suffix(b"\n").and_then(line::parse);
        assert!(matches!(read, Some(Line::Text(entry)) if entry.source == b"kubelet[7]"));
    }
}

/// Returns the lines of a service's output that is read in pieces of this size at one moment.
fn stamped(input: &[u8], size: usize) -> Vec<u8> {
    let (mut stamper, mut out) = (Stamper::new("kubelet"), Vec::new());
    let now = Stamp { real: 1_795_272_180_123_456, monotonic: 12_345_678 };
    input.chunks(size).for_each(|piece| stamper.feed(piece, now, 7, &mut out));
    stamper.flush(&mut out);
    out
}

/// A variable of the firmware and the helper's answer about it: the answer is read as it was
/// written.
pub fn loader(input: &[u8]) {
    let micros = loader::microseconds(input);
    assert!(micros.is_none() || input.len() >= 2);
    for times in [loader::Times::parse(input), loader::Times::of(micros, Some(u64::MAX))] {
        assert_eq!(loader::Times::parse(times.to_string().as_bytes()), times);
    }
}

/// Module indexes and settings, which are parts of the input, split at NULs. The answer to any name
/// has each module once.
pub fn modules(input: &[u8]) {
    let mut parts = input.split(|&byte| byte == 0).map(String::from_utf8_lossy);
    let mut next = || parts.next().unwrap_or_default().into_owned();
    let (name, dep, alias, soft) = (next(), next(), next(), next());
    let (builtin, builtin_alias, config, line) = (next(), next(), next(), next());
    let mut settings = Settings::default();
    settings.take_config(&config);
    settings.take_cmdline(&line);
    let index = Index::parse(Path::new("/m"), &dep, &alias, &soft, &builtin, &builtin_alias);
    let index = index.configured(&settings);
    if let Found::Load(files) = index.find(&name) {
        let names: BTreeSet<_> = files.iter().map(|file| &file.name).collect();
        assert!(names.len() == files.len() && !files.is_empty());
        assert!(files.iter().all(|file| !settings.options(&file.name).contains('\n')));
    }
    assert!(!matches(name.as_bytes(), b"") || name.bytes().all(|byte| byte == b'*'));
}

/// The list of mounts: at most one mount point per line.
pub fn mountinfo(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let points = mountinfo::points(&text);
    assert!(points.len() <= text.lines().count());
    for point in &points {
        assert!(mountinfo::is_below(point, point) && point.len() <= text.len());
    }
}

/// A notify message: at most one message per line.
pub fn notify(input: &[u8]) {
    let lines = input.split(|&byte| byte == b'\n').count();
    assert!(notify::parse(input).len() <= lines);
}

/// containerd's answer to a probe: the size of pieces changes nothing, and the answer ends.
pub fn probe(input: &[u8]) {
    let input = &input[..input.len().min(32 * 1024)];
    let whole = Answer::default().take(input);
    let mut answer = Answer::default();
    assert_eq!(input.chunks(1).find_map(|byte| answer.take(byte)), whole);
    let mut endless = Answer::default();
    assert!(input.len() < 1024 || (0..65).any(|_| endless.take(input).is_some()));
}

/// SMBIOS strings: credentials come only from the strings and are never longer.
pub fn smbios(input: &[u8]) {
    let strings = smbios::strings(input);
    let length: usize = strings.iter().map(|string| string.len() + 1).sum();
    assert!(length <= input.len() + 1);
    let credentials = smbios::credentials(input);
    assert!(credentials.len() <= strings.len());
    let value_bytes = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
    // A name that is not UTF-8 grows: each byte becomes a character of three.
    let bytes: usize = credentials.iter().map(|(_, value)| value_bytes(value)).sum();
    assert!(bytes <= length);
}

/// `kiln.join`: a cluster, or lines that say why not, and never the token in them.
pub fn join(input: &[u8]) {
    let (found, lines) = kiln_init::kubelet::join::parse(input);
    assert!(found.is_some() || !lines.is_empty());
    let _ = kiln_init::kubelet::join::of_kubeconfig(input);
    if let Some(found) = found {
        assert!(found.cluster.server.starts_with("https://"));
        let same = kiln_init::kubelet::join::of_kubeconfig(found.bootstrap.as_bytes());
        assert!(same.is_ok_and(|same| same.cluster.is(&found.cluster)));
    }
}

/// kubelet's log: no line of any bytes disturbs the watch, and a console line is short.
pub fn kubelog(input: &[u8]) {
    let mut watch = kiln_init::kubelet::report::Watch::default();
    for line in input.split(|byte| *byte == b'\n') {
        let news = watch.read(line, std::time::Instant::now());
        assert!(news.line.is_none_or(|line| line.len() < 1000));
    }
}

/// `meta-data` of a `NoCloud` disk: a name is a part of the text.
pub fn nocloud(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let name = kiln_init::machine::nocloud::hostname(&text);
    assert!(name.is_none_or(|name| !name.is_empty() && text.contains(&name)));
}

/// `kiln.node`: mistakes are bounded, and no path of a kernel setting leaves its folder.
pub fn node(input: &[u8]) {
    let (settings, problems) = kiln_init::settings::parse(input);
    assert!(problems.lines().len() <= 33);
    for (name, _) in &settings.sysctls {
        assert!(name.split('/').all(|part| !part.is_empty() && !part.starts_with('.')));
    }
    assert!(settings.hostname.is_none_or(|name| name.len() <= 63));
}

/// A kernel message: no stored field is longer than the message.
pub fn uevent(input: &[u8]) {
    if let Some(found) = uevent::parse(input) {
        assert!(!found.action.is_empty());
        let kept = [&found.action, &found.subsystem, &found.device, &found.path, &found.modalias];
        assert!(kept.iter().map(|text| text.len()).sum::<usize>() <= input.len());
    }
}

/// A device: a label and a UUID fit into the places that formats have for them, and a device's size
/// does not decide the number of bytes that are read.
pub fn signature(input: &[u8]) {
    let mut total = 0;
    let content = signature::identify(&mut |at, length| {
        total += length;
        let at = usize::try_from(at).ok()?;
        input.get(at..at.checked_add(length)?).map(<[u8]>::to_vec)
    });
    assert!(total < 128 * 1024);
    if let Some(content) = content {
        assert!(content.label.len() <= 2048 && content.uuid.len() <= 40);
        assert!(content.uuid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'));
    }
}
