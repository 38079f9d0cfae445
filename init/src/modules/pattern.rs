//! Shell patterns with the rules of fnmatch(3) without flags: `*`, `?` and `[set]`.

/// True if `pattern` matches all of `text`.
///
/// It takes time linear in pattern times text, because after a mismatch only the last `*` is
/// retried.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p + 1, t));
            p += 1;
        } else if let Some(length) = pattern.get(p..).and_then(|rest| one(rest, text[t])) {
            p += length;
            t += 1;
        } else if let Some((star, from)) = retry {
            retry = Some((star, from + 1));
            (p, t) = (star, from + 1);
        } else {
            return false;
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|&byte| byte == b'*')
}

/// Returns the length of the pattern's first element if it matches the byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'[' => {
            let end = pattern.iter().position(|&byte| byte == b']')?;
            in_set(&pattern[1..end], byte).then_some(end + 1)
        }
        literal => (literal == byte).then_some(1),
    }
}

fn in_set(set: &[u8], byte: u8) -> bool {
    match set {
        [low, b'-', high, rest @ ..] => (*low..=*high).contains(&byte) || in_set(rest, byte),
        [single, rest @ ..] => *single == byte || in_set(rest, byte),
        [] => false,
    }
}

/// Returns a pattern in kmod's form, with `_` for `-` outside sets.
#[must_use]
pub fn canonical(pattern: &str) -> String {
    let mut in_set = false;
    let same = |c| {
        in_set = (in_set || c == '[') && c != ']';
        if c == '-' && !in_set { '_' } else { c }
    };
    pattern.chars().map(same).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{canonical, matches};

    #[test]
    fn patterns_match_like_fnmatch() {
        let yes = [
            ("pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"),
            ("a[0-9a-c]z", "abz"),
            ("*", ""),
            ("a*", "a"),
            ("?b", "ab"),
        ];
        for (pattern, text) in yes {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("a?", "a"), ("[0-9]", "a"), ("[", "["), ("a*b", "ac")]
        {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn a_dash_is_an_underscore_but_not_in_a_set() {
        assert_eq!(canonical("net-pf-[0-9]-x"), "net_pf_[0-9]_x");
    }

    proptest! {
        #[test]
        fn matching_agrees_with_a_simple_recursion(
            pattern in "[ab*?]{0,10}",
            text in "[ab]{0,10}",
        ) {
        fn model(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern.split_first(), text.split_first()) {
                (None, None) => true,
                (Some((b'*', rest)), _) if model(rest, text) => true,
                (Some((b'*', _)), Some((_, tail))) => model(pattern, tail),
                (Some((b'?', rest)), Some((_, tail))) => model(rest, tail),
                (Some((p, rest)), Some((t, tail))) => p == t && model(rest, tail),
                _ => false,
            }
        }
        let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
        prop_assert_eq!(matches(pattern, text), model(pattern, text));
        }

        #[test]
        fn a_text_matches_itself_and_a_set_of_its_first_byte(text in "[a-z0-9:]{1,40}") {
            let set = format!("[{}]{}", &text[..1], &text[1..]);
            for pattern in [text.clone(), format!("{text}*"), set] {
                prop_assert!(matches(pattern.as_bytes(), text.as_bytes()), "{}", pattern);
            }
        }
    }
}
