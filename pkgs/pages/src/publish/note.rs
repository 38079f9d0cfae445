//! Notes about a revision, which a tenant reads in the status of the site.

use std::fmt;

/// The most notes of one revision. Further ones are counted.
pub const NOTES_MAX: usize = 20;

/// The most characters of a path in a note.
const PATH_CHARS_MAX: usize = 200;

/// A remark about one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A submodule; its files are not part of the site.
    Submodule,
    /// A pointer of Git LFS in place of a file.
    Lfs,
    /// A link that leaves the site.
    Outside,
    /// A link without a target.
    Dangling,
    /// A link that leads back to itself.
    Loop,
    /// A file with more bytes than a file may have.
    TooLarge,
    /// A name that cannot be part of a path.
    BadName,
    /// A path that is too deep or too long.
    TooDeep,
    /// A path that differs from an earlier one only in case or in the form of its letters.
    Collision(String),
    /// An invalid line of `_headers` or `_redirects`.
    Line(usize, String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submodule => f.write_str("is a submodule; left out"),
            Self::Lfs => f.write_str("is a pointer of Git LFS without an object; left out"),
            Self::Outside => f.write_str("is a link that leaves the site; left out"),
            Self::Dangling => f.write_str("is a link without a target; left out"),
            Self::Loop => f.write_str("is a link in a loop; left out"),
            Self::TooLarge => f.write_str("is larger than a file may be; left out"),
            Self::BadName => f.write_str("has a name that is not allowed; left out"),
            Self::TooDeep => f.write_str("has a path that is too deep or too long; left out"),
            Self::Collision(other) => {
                write!(f, "differs from {other} only in the form of its letters")
            }
            Self::Line(line, what) => write!(f, "has an invalid line {line}: {what}"),
        }
    }
}

/// The notes of a revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    texts: Vec<String>,
    others: usize,
}

impl Notes {
    /// Adds a note about a path.
    pub fn add(&mut self, path: &[u8], note: &Note) {
        if self.texts.len() < NOTES_MAX {
            self.texts.push(format!("{} {note}", shown(path)));
        } else {
            self.others += 1;
        }
    }

    /// Adds all notes of another list.
    pub fn extend(&mut self, other: Self) {
        for text in other.texts {
            if self.texts.len() < NOTES_MAX {
                self.texts.push(text);
            } else {
                self.others += 1;
            }
        }
        self.others += other.others;
    }

    /// Returns the notes as lines.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.texts.clone();
        if self.others > 0 {
            lines.push(format!("and {} more", self.others));
        }
        lines
    }

    /// True if there is no note.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

/// Returns a path for people: without control characters, and not too long.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let clean = text.chars().map(|one| if one.is_control() { '\u{fffd}' } else { one });
    clean.take(PATH_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::{NOTES_MAX, Note, Notes, shown};

    #[test]
    fn notes_are_bounded_and_counted() {
        let mut notes = Notes::default();
        for _ in 0..NOTES_MAX + 5 {
            notes.add(b"/a", &Note::Submodule);
        }
        let lines = notes.lines();
        assert_eq!(lines.len(), NOTES_MAX + 1);
        assert_eq!(lines.last().unwrap(), "and 5 more");
    }

    #[test]
    fn a_path_cannot_forge_lines() {
        assert_eq!(shown(b"/a\nb\x1b[2J"), "/a\u{fffd}b\u{fffd}[2J");
        assert_eq!(shown(&[b'a'; 1000]).len(), 200);
    }
}
