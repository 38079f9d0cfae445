//! TOML to values, key by key, so that an invalid key never loses the other keys.
//!
//! Each value knows its line and its full name. A problem is one line for the console: the
//! credential, the line, the key, the cause and the next step. Values are never part of it, because
//! a credential may contain secrets.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The longest text that is parsed, in bytes. It is far above any node's settings and bounds the
/// memory that PID 1 needs.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// The number of problems that are kept for one credential. More of them do not help the reader.
const PROBLEMS_MAX: usize = 32;

/// A key of a table and the function that takes its value.
pub type Key<T> = (&'static str, fn(&mut T, &Value<'_>, &mut Problems));

/// A mistake in a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    credential: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The full name of the key, or nothing if the mistake is not about one key.
    pub key: String,
    cause: String,
    next: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { credential, line, key, cause, next } = self;
        let colon = if key.is_empty() { "" } else { ": " };
        write!(f, "{credential}:{line}: {key}{colon}{cause}; {next}")
    }
}

/// The mistakes of one credential.
#[derive(Debug, Default)]
pub struct Problems {
    credential: String,
    /// The offset of each line's first byte.
    lines: Vec<usize>,
    list: Vec<Problem>,
    /// The number of mistakes that were not kept.
    more: usize,
}

impl Problems {
    fn new(credential: &str, text: &str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(starts.map(|(at, _)| at + 1)).collect();
        Self { credential: credential.into(), lines, ..Self::default() }
    }

    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).max(1)
    }

    fn add(&mut self, line: usize, key: &str, cause: impl fmt::Display, next: impl fmt::Display) {
        if self.list.len() == PROBLEMS_MAX {
            self.more += 1;
            return;
        }
        self.list.push(Problem {
            credential: self.credential.clone(),
            line,
            key: key.into(),
            cause: cause.to_string(),
            next: next.to_string(),
        });
    }

    /// The number of mistakes so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len() + self.more
    }

    /// True if the text was ignored as a whole.
    #[must_use]
    pub fn is_void(&self) -> bool {
        self.list.iter().any(|problem| problem.key.is_empty())
    }

    /// The mistakes that were kept, in the order of their lines.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// Returns the lines for the console.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let more = (self.more > 0)
            .then(|| format!("{}: {} more mistakes, not shown", self.credential, self.more));
        self.list.iter().map(Problem::to_string).chain(more).collect()
    }
}

/// A value of a document.
pub struct Value<'a> {
    /// The full name, for example `data.disk.size`.
    pub path: String,
    /// The last part of the name.
    pub name: String,
    /// The line, counted from 1.
    pub line: usize,
    toml: &'a DeValue<'a>,
}

/// Parses a credential into `T` by a table of keys.
///
/// A text that is not TOML is ignored as a whole, because a guess about the author's intention
/// could be wrong. An unknown key, and a key with an invalid value, is ignored alone.
#[must_use]
pub fn document<T: Default>(credential: &str, bytes: &[u8], keys: &[Key<T>]) -> (T, Problems) {
    let mut target = T::default();
    let ignored = format_args!("{credential} is ignored as a whole until this is corrected");
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
            let mut problems = Problems::new(credential, &valid);
            problems.add(problems.lines.len(), "", "not UTF-8", ignored);
            return (target, problems);
        }
    };
    let mut problems = Problems::new(credential, text);
    if text.len() > TEXT_BYTES_MAX {
        problems.add(1, "", format_args!("longer than {TEXT_BYTES_MAX} bytes"), ignored);
        return (target, problems);
    }
    match DeTable::parse(text) {
        Ok(table) => {
            take(&mut target, &values("", table.get_ref(), &problems), keys, &mut problems);
        }
        Err(error) => {
            let line = problems.line(error.span().map_or(0, |span| span.start));
            problems.add(line, "", format_args!("not TOML: {}", error.message()), ignored);
        }
    }
    (target, problems)
}

/// Gives each value to the function of its key.
fn take<T>(target: &mut T, values: &[Value<'_>], keys: &[Key<T>], problems: &mut Problems) {
    for value in values {
        if let Some((_, read)) = keys.iter().find(|(name, _)| *name == value.name) {
            read(target, value, problems);
        } else {
            let known: Vec<_> = keys.iter().map(|(name, _)| *name).collect();
            let next = format!("the keys are {}", known.join(", "));
            value.refuse(problems, "unknown key, ignored", next);
        }
    }
}

/// Returns a table's values in the order of the text.
fn values<'a>(prefix: &str, table: &'a DeTable<'a>, problems: &Problems) -> Vec<Value<'a>> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries.into_iter().map(|(name, value)| entry(prefix, name, value, problems)).collect()
}

fn entry<'a>(
    prefix: &str,
    name: &Spanned<std::borrow::Cow<'a, str>>,
    value: &'a Spanned<DeValue<'a>>,
    problems: &Problems,
) -> Value<'a> {
    let (text, line) = (name.get_ref(), problems.line(name.span().start));
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let quoted = if !text.is_empty() && text.bytes().all(bare) {
        text.to_string()
    } else {
        format!("{text:?}")
    };
    let path = if prefix.is_empty() { quoted } else { format!("{prefix}.{quoted}") };
    Value { path, name: text.to_string(), line, toml: value.get_ref() }
}

impl Value<'_> {
    /// Reports a mistake in this value.
    pub fn refuse(
        &self,
        problems: &mut Problems,
        cause: impl fmt::Display,
        next: impl fmt::Display,
    ) {
        problems.add(self.line, &self.path, cause, next);
    }

    fn expect(&self, problems: &mut Problems, kind: &str) {
        let article = if kind.starts_with("integer") { "an" } else { "a" };
        let cause = format!("{} is not {article} {kind}, ignored", kind_of(self.toml));
        self.refuse(problems, cause, format_args!("write {article} {kind}"));
    }

    /// Returns the text of a string that is not empty and has no control character.
    pub fn text(&self, problems: &mut Problems) -> Option<String> {
        let DeValue::String(text) = self.toml else {
            self.expect(problems, "string");
            return None;
        };
        self.clean(text, problems)
    }

    fn clean(&self, text: &str, problems: &mut Problems) -> Option<String> {
        if text.is_empty() {
            self.refuse(problems, "empty, ignored", "give it a value or remove it");
        } else if text.chars().any(char::is_control) {
            self.refuse(problems, "has a control character, ignored", "write one line of text");
        } else {
            return Some(text.to_owned());
        }
        None
    }

    /// Returns the text of a string of any number of lines.
    pub fn lines(&self, problems: &mut Problems) -> Option<String> {
        if let DeValue::String(text) = self.toml {
            return Some(text.to_string());
        }
        self.expect(problems, "string");
        None
    }

    /// Returns the text of a string, or the digits of an integer.
    pub fn text_or_number(&self, problems: &mut Problems) -> Option<String> {
        match self.toml {
            DeValue::Integer(number) if number.radix() == 10 => {
                Some(number.as_str().trim_start_matches('+').to_owned())
            }
            _ => self.text(problems),
        }
    }

    /// Returns a boolean.
    pub fn flag(&self, problems: &mut Problems) -> Option<bool> {
        if let DeValue::Boolean(flag) = self.toml {
            return Some(*flag);
        }
        self.expect(problems, "boolean");
        None
    }

    /// Returns the items of a list of strings. An invalid item is reported and left out.
    pub fn texts(&self, problems: &mut Problems) -> Vec<String> {
        let DeValue::Array(items) = self.toml else {
            self.expect(problems, "list of strings");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let line = problems.line(item.span().start);
            let path = format!("{}[{index}]", self.path);
            let item = Value { path, name: self.name.clone(), line, toml: item.get_ref() };
            texts.extend(item.text(problems));
        }
        texts
    }

    /// Parses each item of a list of strings, and reports those for which `parse` has an error.
    pub fn parsed<T>(
        &self,
        problems: &mut Problems,
        next: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut parsed = Vec::new();
        for text in self.texts(problems) {
            match parse(&text) {
                Ok(value) => parsed.push(value),
                Err(cause) => self.refuse(problems, format_args!("{cause}, ignored"), next),
            }
        }
        parsed
    }

    /// Gives each value of a table to the function of its key.
    pub fn fields<T: Default>(&self, keys: &[Key<T>], problems: &mut Problems) -> T {
        let mut target = T::default();
        take(&mut target, &self.entries(problems), keys, problems);
        target
    }

    /// Returns the values of a table whose keys the author of the text chooses.
    pub fn entries(&self, problems: &mut Problems) -> Vec<Value<'_>> {
        if let DeValue::Table(table) = self.toml {
            return values(&self.path, table, problems);
        }
        self.expect(problems, "table");
        Vec::new()
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
