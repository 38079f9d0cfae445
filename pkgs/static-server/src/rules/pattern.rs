//! Patterns of paths and hosts: `*` (the splat) stands for anything and may occur once; `:name`
//! stands for anything up to the next `/`, or in a host up to the next `.`.

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
    /// The bytes that end a placeholder.
    delimiters: &'static [u8],
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Splat,
    Placeholder(Vec<u8>),
}

/// The texts that the parts of a pattern stood for, by name (`splat` for the splat).
pub type Captures = Vec<(Vec<u8>, Vec<u8>)>;

/// The most steps of one match: parts of the pattern times bytes of the text.
const WORK_MAX: usize = 1 << 20;

impl Pattern {
    /// Parses a pattern of paths, and decodes its escapes.
    pub fn path(text: &[u8]) -> Result<Self, &'static str> {
        let decoded = decode(text).ok_or("invalid percent escape")?;
        Self::new(&decoded, b"/")
    }

    /// Parses a pattern of hosts, in lower case.
    pub fn host(text: &[u8]) -> Result<Self, &'static str> {
        Self::new(&text.to_ascii_lowercase(), b"/.")
    }

    fn new(text: &[u8], delimiters: &'static [u8]) -> Result<Self, &'static str> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some((first, after)) = rest.split_first() {
            let name = if *first == b':' { name(after) } else { &[] };
            if *first != b'*' && name.is_empty() {
                literal.push(*first);
                rest = after;
                continue;
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(if name.is_empty() { Part::Splat } else { Part::Placeholder(name.into()) });
            rest = &after[name.len()..];
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        match parts.iter().filter(|part| matches!(part, Part::Splat)).count() {
            0 | 1 => Ok(Self { parts, delimiters }),
            _ => Err("more than one splat"),
        }
    }

    /// Returns the text of a pattern without splat and placeholders.
    #[must_use]
    pub fn literal(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [Part::Literal(only)] => Some(only),
            _ => None,
        }
    }

    /// True if the pattern has neither a splat nor a placeholder.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.literal().is_some()
    }

    /// True if a template has the name of one of this pattern's captures.
    #[must_use]
    pub fn fills(&self, template: &[u8]) -> bool {
        let known = |name: &[u8]| {
            self.parts.iter().any(|part| match part {
                Part::Literal(_) => false,
                Part::Splat => name == b"splat",
                Part::Placeholder(own) => name == own,
            })
        };
        template.split(|byte| *byte == b':').skip(1).any(|after| known(name(after)))
    }

    /// Matches a whole text. Each part takes as many bytes as it can, beginning with the first.
    ///
    /// The time is bounded by parts times bytes: a first pass, from the end, marks the positions
    /// from which the rest of the pattern can match; a second pass, from the beginning, follows
    /// these marks.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> Option<Captures> {
        let first = self.parts.first();
        if let Some(Part::Literal(literal)) = first
            && !text.starts_with(literal)
        {
            return None;
        }
        let width = text.len() + 1;
        if self.parts.len() * width > WORK_MAX {
            return None;
        }
        let mut can = vec![false; (self.parts.len() + 1) * width];
        can[self.parts.len() * width + text.len()] = true;
        for (number, part) in self.parts.iter().enumerate().rev() {
            let (before, after) = can.split_at_mut((number + 1) * width);
            self.reach(part, text, &mut before[number * width..], after);
        }
        can[0].then(|| self.captures(text, &can, width))
    }

    /// Marks the positions at which a part can begin, given the positions (`after`) at which the
    /// rest can.
    fn reach(&self, part: &Part, text: &[u8], here: &mut [bool], after: &[bool]) {
        match part {
            Part::Literal(literal) => {
                for start in 0..=text.len() {
                    here[start] =
                        text[start..].starts_with(literal) && after[start + literal.len()];
                }
            }
            Part::Splat => {
                let mut any = false;
                for start in (0..=text.len()).rev() {
                    any |= after[start];
                    here[start] = any;
                }
            }
            Part::Placeholder(_) => {
                for start in (0..text.len()).rev() {
                    let taken = !self.delimiters.contains(&text[start]);
                    here[start] = taken && (after[start + 1] || here[start + 1]);
                }
            }
        }
    }

    /// Follows the marks of a text that matches.
    fn captures(&self, text: &[u8], can: &[bool], width: usize) -> Captures {
        let mut captures = Vec::new();
        let mut start = 0;
        for (number, part) in self.parts.iter().enumerate() {
            let after = &can[(number + 1) * width..(number + 2) * width];
            let end = match part {
                Part::Literal(literal) => start + literal.len(),
                Part::Splat => (start..width).rev().find(|end| after[*end]).unwrap_or(start),
                Part::Placeholder(_) => {
                    let stop = text[start..].iter().position(|byte| self.delimiters.contains(byte));
                    let stop = stop.map_or(text.len(), |stop| start + stop);
                    (start + 1..=stop).rev().find(|end| after[*end]).unwrap_or(stop)
                }
            };
            match part {
                Part::Literal(_) => {}
                Part::Splat => captures.push((b"splat".to_vec(), text[start..end].to_vec())),
                Part::Placeholder(name) => captures.push((name.clone(), text[start..end].to_vec())),
            }
            start = end;
        }
        captures
    }
}

/// Returns the name at the beginning: a letter, then letters, digits and `_`.
fn name(text: &[u8]) -> &[u8] {
    if !text.first().is_some_and(u8::is_ascii_alphabetic) {
        return &[];
    }
    let end = text.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
    &text[..end.unwrap_or(text.len())]
}

/// Replaces each `:name` in a template by its capture. An unknown name stays as it is.
#[must_use]
pub fn expand(template: &[u8], captures: &Captures, quote: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut text = Vec::new();
    let mut rest = template;
    while let Some((first, after)) = rest.split_first() {
        let name = if *first == b':' { name(after) } else { &[] };
        let known = captures.iter().find(|(known, _)| known == name && !name.is_empty());
        if let Some((_, value)) = known {
            text.extend(quote(value));
            rest = &after[name.len()..];
        } else {
            text.push(*first);
            rest = after;
        }
    }
    text
}

/// Percent-escapes the bytes that a path must not have (RFC 3986 section 3.3).
#[must_use]
pub fn escape(path: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(path.len());
    for byte in path {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(byte) {
            text.push(*byte);
        } else {
            text.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    text
}

/// Decodes percent escapes; `None` for an invalid one.
#[must_use]
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        decoded.push(if *byte == b'%' {
            let mut digit = || char::from(*bytes.next()?).to_digit(16);
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            *byte
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::{Part, Pattern, escape, expand};
    use proptest::prelude::*;

    fn check(pattern: &str, path: &str, expected: Option<&str>) {
        let captures = Pattern::path(pattern.as_bytes()).unwrap().matches(path.as_bytes());
        let found = captures.map(|captures| {
            let all = captures.iter().map(|(name, value)| [name, &b"="[..], value].concat());
            all.map(|text| String::from_utf8(text).unwrap()).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(found.as_deref(), expected, "{pattern} {path}");
    }

    #[test]
    fn parts_are_greedy() {
        check("/a", "/a", Some(""));
        check("/a", "/a/", None);
        check("/*", "/a/b", Some("splat=a/b"));
        check("/*", "/", Some("splat="));
        check("/a/*/c", "/a/b/c/c", Some("splat=b/c"));
        check("/:x/:y", "/a/b", Some("x=a y=b"));
        check("/:x", "/a/b", None);
        check("/:x", "/", None);
        check("/:x-:y", "/a-b-c", Some("x=a-b y=c"));
        check("/:year_1.html", "/1999.html", Some("year_1=1999"));
        check("/a%20b/:x", "/a b/c", Some("x=c"));
        check("/a:1", "/a:1", Some(""));
        check("/", "", None);
    }

    #[test]
    fn a_host_is_matched_label_by_label() {
        let host = Pattern::host(b":sub.Example.com").unwrap();
        assert!(host.matches(b"a.example.com").is_some());
        assert!(host.matches(b"a.b.example.com").is_none());
        assert!(Pattern::path(b"/*/*").is_err());
        assert!(Pattern::path(b"/%zz").is_err());
    }

    #[test]
    fn a_template_with_a_capture_is_recognised() {
        let pattern = Pattern::path(b"/:x/*").unwrap();
        assert!(pattern.fills(b"https://a/:x") && pattern.fills(b":splat"));
        assert!(!pattern.fills(b"https://a:80/:xy :") && !pattern.fills(b"x splat"));
    }

    #[test]
    fn templates_take_known_names() {
        let captures = vec![(b"splat".to_vec(), b"a b".to_vec())];
        assert_eq!(
            expand(b"https://a:80/:splat?:other", &captures, escape),
            b"https://a:80/a%20b?:other"
        );
    }

    /// Matches by trying every length of every part.
    fn matches_by_trial(parts: &[Part], text: &[u8]) -> bool {
        let Some((part, rest)) = parts.split_first() else { return text.is_empty() };
        let mut lengths = match part {
            Part::Literal(literal) if text.starts_with(literal) => literal.len()..=literal.len(),
            Part::Literal(_) => return false,
            Part::Splat => 0..=text.len(),
            Part::Placeholder(_) => {
                1..=text.iter().position(|byte| *byte == b'/').unwrap_or(text.len())
            }
        };
        lengths.any(|length| matches_by_trial(rest, &text[length..]))
    }

    proptest! {
        #[test]
        fn captures_put_back_give_the_text(
            pattern in "/([a-b/-]|:[xy]|\\*){0,6}", text in "/[a-b/-]{0,12}"
        ) {
            if let Ok(compiled) = Pattern::path(pattern.as_bytes())
                && let Some(captures) = compiled.matches(text.as_bytes())
            {
                let mut values = captures.iter().map(|(_, value)| value);
                let again = compiled.parts.iter().map(|part| match part {
                    Part::Literal(literal) => literal,
                    Part::Splat | Part::Placeholder(_) => values.next().unwrap(),
                });
                let again: Vec<u8> = again.flatten().copied().collect();
                prop_assert_eq!(again, text.as_bytes());
                prop_assert_eq!(values.next(), None);
            }
        }

        #[test]
        fn a_match_agrees_with_trying_everything(
            pattern in prop_oneof![
                "/([a-b/-]|:[xy]|\\*){0,6}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..9),
            ],
            text in prop_oneof![
                "/[a-b/-]{0,12}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..9),
            ],
        ) {
            if let Ok(compiled) = Pattern::path(&pattern) {
                let expected = matches_by_trial(&compiled.parts, &text);
                prop_assert_eq!(compiled.matches(&text).is_some(), expected);
            }
        }
    }
}
