//! Patterns of branches: `*` stands for any characters, slashes too.

/// True if a branch matches a pattern. Takes at most the product of both lengths in steps.
#[must_use]
pub fn matches(pattern: &str, branch: &str) -> bool {
    let (pattern, branch) = (pattern.as_bytes(), branch.as_bytes());
    let (mut at, mut place) = (0, 0);
    // The last star, and the part of the branch that it stands for.
    let mut star: Option<(usize, usize)> = None;
    while place < branch.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, place));
            at += 1;
        } else if pattern.get(at) == Some(&branch[place]) {
            at += 1;
            place += 1;
        } else if let Some((last, end)) = star {
            star = Some((last, end + 1));
            (at, place) = (last + 1, end + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Returns the part of a pattern before its first star, by which a server can filter its list.
#[must_use]
pub fn start(pattern: &str) -> &str {
    pattern.split('*').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{matches, start};
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, branch, expected) in [
            ("next", "next", true),
            ("next", "next2", false),
            ("feature/*", "feature/a/b", true),
            ("feature/*", "feature/", true),
            ("feature/*", "feature", false),
            ("*", "", true),
            ("*-ok", "a-ok-ok", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, branch), expected, "{pattern} {branch}");
        }
        assert_eq!((start("feature/*"), start("*"), start("next")), ("feature/", "", "next"));
    }

    /// The definition, without regard to time.
    fn slow(pattern: &[u8], branch: &[u8]) -> bool {
        match pattern {
            [] => branch.is_empty(),
            [b'*', rest @ ..] => (0..=branch.len()).any(|end| slow(rest, &branch[end..])),
            [byte, rest @ ..] => branch.first() == Some(byte) && slow(rest, &branch[1..]),
        }
    }

    proptest! {
        #[test]
        fn the_loop_is_the_definition(pattern in "[ab*]{0,6}", branch in "[ab]{0,8}") {
            prop_assert_eq!(matches(&pattern, &branch), slow(pattern.as_bytes(), branch.as_bytes()));
            prop_assert!(!matches(&pattern, &branch) || branch.starts_with(start(&pattern)));
        }
    }
}
