//! Bytes → coded bytes, where compression helps.
//!
//! No coder writes a time, a name or its number of threads, so equal bytes and equal effort give equal
//! coded bytes. A server does not call this module, and the linker leaves the compressors out of it.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::index::Coding;

/// The bytes of a body in one packet over Ethernet: 1,500 without the headers of IP and TCP.
const PACKET: usize = 1448;

/// The bytes of an answer's head, roughly.
const HEAD: usize = 320;

/// A coded body must save at least one part in this many to be worth the client's work.
const SAVED: usize = 20;

/// The largest window of zstd that every browser accepts (RFC 9659: 8 MiB).
const ZSTD_WINDOW: u32 = 23;

const BROTLI_WINDOW: u32 = 22;

/// The levels of the coders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// The level of gzip, from 1 to 9.
    pub gzip: u32,
    /// The level of zstd, from 1 to 19.
    pub zstd: i32,
    /// The quality of Brotli, from 0 to 11.
    pub brotli: u32,
}

impl Effort {
    /// The highest levels, for a pack that is made once and read often.
    pub const HIGHEST: Self = Self { gzip: 9, zstd: 19, brotli: 11 };

    /// Levels that cost about as much time as reading the files from a network, for packs that are
    /// made after every push.
    pub const QUICK: Self = Self { gzip: 6, zstd: 9, brotli: 5 };
}

/// False for media types that are compressed already or do not compress well.
#[must_use]
pub fn is_worth_trying(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default();
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || [
            "application/json",
            "application/xml",
            "application/wasm",
            "application/toml",
            "application/yaml",
            "application/x-tar",
            "application/manifest+json",
            "font/ttf",
            "font/otf",
            "image/bmp",
            "image/vnd.microsoft.icon",
        ]
        .contains(&essence)
}

/// The coded forms of one body.
pub type Forms = Vec<(Coding, Vec<u8>)>;

/// Returns the worthwhile coded forms of each body, in the order of the bodies.
pub fn all(bodies: &[&[u8]], effort: Effort, threads: usize) -> anyhow::Result<Vec<Forms>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![Vec::new(); bodies.len()]);
    let work = || -> anyhow::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(body) = bodies.get(number) else { return Ok(()) };
            let coded = coded(body, effort)?;
            done.lock().unwrap_or_else(PoisonError::into_inner)[number] = coded;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|worker| {
            worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a coder panicked")))
        });
        ended.collect::<Vec<_>>().into_iter().collect::<anyhow::Result<()>>()
    })?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Returns the coded forms of a body that help. Every client accepts gzip, so another form must be shorter than
/// gzip's by a packet too.
pub fn coded(body: &[u8], effort: Effort) -> anyhow::Result<Forms> {
    if packets(body.len()) < 2 {
        return Ok(Vec::new());
    }
    let gzip = gzip(body, effort.gzip)?;
    let mut least = body.len();
    let mut forms = Vec::new();
    if helps(gzip.len(), body.len()) {
        least = gzip.len();
        forms.push((Coding::Gzip, gzip));
    }
    for (coding, form) in
        [(Coding::Zstd, zstd(body, effort.zstd)?), (Coding::Brotli, brotli(body, effort.brotli)?)]
    {
        if helps(form.len(), body.len()) && packets(form.len()) < packets(least) {
            forms.push((coding, form));
        }
    }
    Ok(forms)
}

/// Returns the number of packets of an answer with a body of this length.
const fn packets(body: usize) -> usize {
    (HEAD + body).div_ceil(PACKET)
}

/// True if a coded form is short enough to be worth it: it saves a twentieth and at least one
/// packet, because a client notices nothing else.
#[must_use]
pub const fn helps(coded: usize, plain: usize) -> bool {
    coded + plain / SAVED < plain && packets(coded) < packets(plain)
}

fn gzip(body: &[u8], level: u32) -> anyhow::Result<Vec<u8>> {
    let level = flate2::Compression::new(level);
    let mut coder = flate2::GzBuilder::new().operating_system(255).write(Vec::new(), level);
    coder.write_all(body)?;
    Ok(coder.finish()?)
}

fn zstd(body: &[u8], level: i32) -> anyhow::Result<Vec<u8>> {
    let mut coder = zstd::bulk::Compressor::new(level)?;
    coder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(ZSTD_WINDOW))?;
    coder.set_parameter(zstd::zstd_safe::CParameter::ContentSizeFlag(true))?;
    Ok(coder.compress(body)?)
}

fn brotli(body: &[u8], quality: u32) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut coder = brotli::CompressorWriter::new(&mut out, 1 << 16, quality, BROTLI_WINDOW);
    coder.write_all(body)?;
    drop(coder);
    Ok(out)
}

/// True if coded bytes are a form of a body. Unpacks no more than the body's length.
#[must_use]
pub fn is_coded_form(coding: Coding, coded: &[u8], body: &[u8]) -> bool {
    let mut plain = Vec::new();
    let room = body.len() as u64 + 1;
    let read = match coding {
        Coding::Identity => return coded == body,
        Coding::Gzip => flate2::read::MultiGzDecoder::new(coded).take(room).read_to_end(&mut plain),
        Coding::Zstd => match zstd::stream::read::Decoder::new(coded) {
            Ok(decoder) => decoder.take(room).read_to_end(&mut plain),
            Err(error) => Err(error),
        },
        Coding::Brotli => {
            brotli::Decompressor::new(coded, 1 << 16).take(room).read_to_end(&mut plain)
        }
    };
    read.is_ok() && plain == body
}

#[cfg(test)]
mod tests {
    use super::{Effort, all, helps, is_coded_form, is_worth_trying};
    use crate::index::Coding;

    #[test]
    fn a_form_that_saves_no_packet_is_left_out() {
        assert!(!helps(600, 1100) && helps(1000, 1500) && helps(9000, 12_000));
        assert!(!helps(99_000, 100_000), "less than a twentieth");
        let numbers: Vec<String> = (0..20_000_u32)
            .map(|number| format!("{:x}", number.wrapping_mul(2_654_435_761)))
            .collect();
        let numbers = numbers.join(" ");
        let forms = all(&[numbers.as_bytes()], Effort::HIGHEST, 1).unwrap();
        let lengths: Vec<usize> = forms[0].iter().map(|(_, form)| form.len()).collect();
        assert_eq!(lengths.len(), 3);
        assert!(lengths[1..].iter().all(|len| len + 1448 < lengths[0]), "{lengths:?}");
    }

    #[test]
    fn coded_bodies_unpack_to_the_same_bytes_with_any_number_of_threads() {
        let text = "a line of text, again and again\n".repeat(100);
        let bodies = [text.as_bytes(), b"short", &[]];
        for effort in [Effort::HIGHEST, Effort::QUICK] {
            let one = all(&bodies, effort, 1).unwrap();
            assert_eq!(one, all(&bodies, effort, 4).unwrap());
            assert_eq!(one.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 0]);
            for (coding, coded) in &one[0] {
                assert!(is_coded_form(*coding, coded, text.as_bytes()), "{coding:?}");
                assert!(!is_coded_form(*coding, coded, &text.as_bytes()[1..]), "{coding:?}");
                assert!(!is_coded_form(*coding, b"damaged", text.as_bytes()), "{coding:?}");
            }
        }
    }

    #[test]
    fn a_body_that_does_not_shrink_has_no_coded_form() {
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(747_796_405).wrapping_add(1);
            (state >> 24).to_le_bytes()[0]
        })
        .take(5000)
        .collect();
        assert!(all(&[&noise], Effort::HIGHEST, 1).unwrap()[0].is_empty());
    }

    #[test]
    fn media_that_are_compressed_are_left_alone() {
        assert!(is_worth_trying("text/html; charset=utf-8") && is_worth_trying("image/svg+xml"));
        assert!(!is_worth_trying("image/png") && !is_worth_trying("font/woff2"));
        assert_eq!(Coding::ALL.len(), 4);
    }
}
