//! The names that have a fingerprint of their content, as bundlers write them.
//!
//! An answer with a fingerprint is cached for a year, which cannot be taken back. A name therefore
//! counts only if it has more entropy than names that people write: sizes (`1920x1080`), years,
//! versions, part numbers and camel case must not count. A fingerprint that is missed costs only
//! revalidations.
//!
//! Two lists of names next to this file show both sides.

/// The extensions of code and fonts, whose names rarely contain part numbers.
const CODE: [&[u8]; 9] =
    [b"css", b"js", b"mjs", b"wasm", b"woff", b"woff2", b"ttf", b"otf", b"eot"];

/// The extensions of images that build tools name by their content.
const IMAGES: [&[u8]; 8] = [b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"avif", b"ico"];

/// The length of the shortest fingerprint, which is the default of most tools.
const SHORTEST: usize = 8;

/// A hexadecimal fingerprint of this length leaves no doubt.
const LONG: usize = 16;

/// The kind of file that a name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Code,
    Image,
}

/// True if a file's name has a fingerprint between separators (`.`, `-`, `_`, `~`) before its
/// extension (`app.3f9a1c2b.js`, `index-BQ_zXx8K.js`, `chunk-IHX6WTRK.js`).
#[must_use]
pub fn is_fingerprinted(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let Some(dot) = name.iter().rposition(|byte| *byte == b'.') else { return false };
    let (stem, extension) = (&name[..dot], &name[dot + 1..]);
    let is_one_of = |known: &[&[u8]]| known.iter().any(|one| one.eq_ignore_ascii_case(extension));
    let sort = match (is_one_of(&CODE), is_one_of(&IMAGES)) {
        (true, _) => Sort::Code,
        (_, true) => Sort::Image,
        _ => return false,
    };
    if has_uuid(stem) {
        return false;
    }
    let mut pieces = stem.split(|byte| is_separator(*byte));
    let first = pieces.next().unwrap_or_default();
    is_first(first, stem, sort)
        || pieces.any(|piece| is_fingerprint(piece, sort))
        || ends_in_base64url(stem, sort)
}

const fn is_separator(byte: u8) -> bool {
    matches!(byte, b'.' | b'-' | b'_' | b'~')
}

/// True if the first piece of a name is a fingerprint. It needs more evidence, because most names
/// begin with a word.
fn is_first(piece: &[u8], stem: &[u8], sort: Sort) -> bool {
    let is_whole = piece.len() == stem.len();
    if piece.len() < LONG && !is_whole {
        return false;
    }
    is_hex(piece, sort) || (is_whole && piece.len() == SHORTEST && is_mixed(piece, Sort::Image))
}

fn is_fingerprint(piece: &[u8], sort: Sort) -> bool {
    is_hex(piece, sort) || is_mixed(piece, sort) || (sort == Sort::Code && is_base32(piece))
}

/// True for hexadecimal digits that are not a word with a number. Such names change between letters
/// and digits once (`cafe2024`) or have one digit or letter (`face2face`, `2024a001`).
fn is_hex(piece: &[u8], sort: Sort) -> bool {
    let is_lower = piece.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if piece.len() < SHORTEST || !piece.len().is_multiple_of(2) || !is_lower {
        return false;
    }
    let digits = piece.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = piece.len() - digits;
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let changes = piece.windows(2).filter(|two| is_digit(&two[0]) != is_digit(&two[1])).count();
    let letters_min = if sort == Sort::Image && piece.len() < LONG { 2 } else { 1 };
    digits >= 2 && letters >= letters_min && changes >= 2
}

/// True for digits of base64url (without its separators) that do not read like camel case:
/// capitals, small letters and digits, with about one oddity for each character.
fn is_mixed(piece: &[u8], sort: Sort) -> bool {
    let has = |is: fn(&u8) -> bool| piece.iter().any(is);
    let mixes =
        has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
    if piece.len() < SHORTEST || !mixes || !piece.iter().all(u8::is_ascii_alphanumeric) {
        return false;
    }
    odd_pairs(piece, false) + odd_tokens(piece) >= needed(piece, sort)
}

/// Returns the least number of oddities.
const fn needed(piece: &[u8], sort: Sort) -> usize {
    match sort {
        Sort::Code => piece.len() - 1,
        Sort::Image => piece.len() + 1,
    }
}

/// True for eight digits of base32 as esbuild and Bun write them, in one case. Without a decimal
/// digit, capitals need more oddities, and small letters do not count.
fn is_base32(piece: &[u8]) -> bool {
    if piece.len() != SHORTEST {
        return false;
    }
    let needed = if piece.iter().any(u8::is_ascii_digit) { 7 } else { 8 };
    let oddities = odd_pairs(piece, true) + odd_tokens(piece);
    let is_upper = piece.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'));
    let is_lower = piece.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'));
    (is_upper && oddities >= needed) || (is_lower && needed == 7 && oddities >= 9)
}

/// Counts neighbours that words do not have: a letter next to a digit (1), a small letter before a
/// capital (1), and two letters that are rare in English (2). Two capitals count only with
/// `capitals`, because acronyms are not words.
fn odd_pairs(piece: &[u8], capitals: bool) -> usize {
    let odd = |two: &[u8]| {
        let (a, b) = (two[0], two[1]);
        match (a.is_ascii_digit(), b.is_ascii_digit()) {
            (true, true) => 0,
            (true, false) | (false, true) => 1,
            _ if a.is_ascii_lowercase() && b.is_ascii_uppercase() => 1,
            _ if a.is_ascii_uppercase() && b.is_ascii_uppercase() && !capitals => 0,
            _ if is_common(a, b) => 0,
            _ => 2,
        }
    };
    piece.windows(2).map(odd).sum()
}

/// Short words that names contain between others (`IPv4toIPv6`, `WiFi`).
const SHORT_WORDS: [&[u8]; 10] =
    [b"to", b"vs", b"of", b"in", b"on", b"by", b"or", b"no", b"wi", b"fi"];

/// Counts letters in words of one or two letters. A word is a capital with the small letters behind
/// it, or a run of capitals.
fn odd_tokens(piece: &[u8]) -> usize {
    let mut odd = 0;
    let mut rest = piece;
    while let Some(first) = rest.first() {
        let small =
            |from: usize| rest[from..].iter().take_while(|byte| byte.is_ascii_lowercase()).count();
        let capitals = rest.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
        let len = match capitals {
            _ if first.is_ascii_digit() => {
                rest = &rest[1..];
                continue;
            }
            0 => small(0),
            1 => 1 + small(1),
            // The last capital begins the next word.
            _ if small(capitals) > 0 => capitals - 1,
            _ => capitals,
        };
        let (word, after) = rest.split_at(len.clamp(1, rest.len()));
        if word.len() <= 2 && !SHORT_WORDS.iter().any(|known| known.eq_ignore_ascii_case(word)) {
            odd += word.len();
        }
        rest = after;
    }
    odd
}

/// Pairs of letters that make up 97 of 100 pairs in English documentation: for each first letter
/// the second letters, as bits from `a`.
const COMMON: [u32; 26] = [
    0x1fe_bd6e, 0x116_4911, 0x11e_dd95, 0x116_597b, 0x1ff_fdff, 0x11e_4931, 0x016_79d1, 0x11e_5111,
    0x2ae_fc7f, 0x010_4011, 0x014_4111, 0x13c_c93d, 0x114_d91b, 0x13c_fd7d, 0x1fe_fd7f, 0x11e_c995,
    0x010_0000, 0x13e_fd7f, 0x15c_fdb5, 0x15e_d9bd, 0x00e_b97f, 0x004_4111, 0x006_6991, 0x008_8114,
    0x00c_b111, 0x000_0011,
];

fn is_common(a: u8, b: u8) -> bool {
    let place = |byte: u8| byte.to_ascii_lowercase().wrapping_sub(b'a');
    COMMON.get(usize::from(place(a))).is_some_and(|row| row >> place(b).min(31) & 1 == 1)
}

/// True if the last eight characters are digits of base64url that include `-` or `_`.
fn ends_in_base64url(stem: &[u8], sort: Sort) -> bool {
    let Some(start) = stem.len().checked_sub(SHORTEST) else { return false };
    let (before, last) = stem.split_at(start);
    let letters: Vec<u8> = last.iter().copied().filter(u8::is_ascii_alphanumeric).collect();
    let has = |is: fn(&u8) -> bool| letters.iter().any(is);
    let others =
        last.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    before.last().is_some_and(|byte| is_separator(*byte))
        && others
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit)
        && odd_pairs(last, false) + odd_tokens(&letters) >= needed(&letters, sort)
}

/// True if a name contains a UUID (RFC 9562 section 4), which names an object and not its content.
fn has_uuid(stem: &[u8]) -> bool {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    stem.windows(36).any(|part| {
        part.iter().enumerate().all(|(at, byte)| {
            if DASHES.contains(&at) { *byte == b'-' } else { byte.is_ascii_hexdigit() }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::is_fingerprinted;

    /// Names that people write.
    const HUMAN: &str = include_str!("human.txt");
    /// Names in the styles of webpack, Vite, esbuild, Next, Parcel, Astro, Nuxt, Hugo, Django,
    /// sprockets and others, with real digests.
    const BUNDLED: &str = include_str!("bundled.txt");

    #[test]
    fn a_name_that_a_person_writes_is_never_immutable() {
        assert!(HUMAN.lines().count() >= 200);
        let wrong = |name: &&str| is_fingerprinted(format!("/assets/{name}").as_bytes());
        assert_eq!(HUMAN.lines().filter(wrong).collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn most_names_of_bundlers_are_immutable() {
        let all = BUNDLED.lines().count();
        assert!(all >= 200);
        let missed: Vec<&str> =
            BUNDLED.lines().filter(|name| !is_fingerprinted(name.as_bytes())).collect();
        // One in seven short digests looks like words with numbers, or has no digit.
        assert!(missed.len() * 6 <= all, "{} of {all}: {missed:?}", missed.len());
    }

    #[test]
    fn only_the_last_name_of_files_with_known_extensions_counts() {
        for name in
            ["/page.3f9a1c2b.html", "/data.3f9a1c2b.json", "/a.3f9a1c2b.js/x.js", "/3f9a1c2b", ""]
        {
            assert!(!is_fingerprinted(name.as_bytes()), "{name}");
        }
        assert!(is_fingerprinted(b"/3f9a1c2b.JS"));
    }
}
