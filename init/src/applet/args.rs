//! Arguments as `getopt_long(3)` takes them: joined letters, long words, values in the same or the
//! next word, `--` before words that only look like options.

use std::slice::Iter;

use anyhow::{Context, Result};

/// One argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg<'a> {
    /// `-x`, also out of `-axb`.
    Letter(char),
    /// `--name`, also out of `--name=value`.
    Name(&'a str),
    /// Anything else.
    Word(&'a str),
}

/// The arguments from left to right.
#[derive(Debug)]
pub struct Args<'a> {
    words: Iter<'a, String>,
    /// Letters of the current word that are still to come.
    letters: &'a str,
    /// What follows `=` in the current word.
    value: Option<&'a str>,
    no_more_options: bool,
}

impl<'a> Args<'a> {
    /// Over all words after the program's name.
    #[must_use]
    pub fn new(words: &'a [String]) -> Self {
        Self { words: words.iter(), letters: "", value: None, no_more_options: false }
    }

    /// The value of the option that was just returned.
    pub fn value(&mut self) -> Result<&'a str> {
        let letters = std::mem::take(&mut self.letters);
        if !letters.is_empty() {
            return Ok(letters);
        }
        let value = self.value.take().or_else(|| self.words.next().map(String::as_str));
        value.context("the last option needs a value")
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = Arg<'a>;

    fn next(&mut self) -> Option<Arg<'a>> {
        if let Some(letter) = self.letters.chars().next() {
            self.letters = &self.letters[letter.len_utf8()..];
            return Some(Arg::Letter(letter));
        }
        let word = self.words.next()?.as_str();
        if self.no_more_options || word == "-" {
            return Some(Arg::Word(word));
        }
        if word == "--" {
            self.no_more_options = true;
            return self.next();
        }
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v)));
            self.value = value;
            return Some(Arg::Name(name));
        }
        let Some(letters) = word.strip_prefix('-') else { return Some(Arg::Word(word)) };
        self.value = None;
        self.letters = letters;
        self.next()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Arg, Args};

    #[test]
    fn letters_names_values_and_words_are_told_apart() {
        let words = ["-ab", "--name=v", "-ovalue", "-t", "x", "w", "--", "-c"].map(str::to_owned);
        let mut args = Args::new(&words);
        assert_eq!(args.next(), Some(Arg::Letter('a')));
        assert_eq!(args.next(), Some(Arg::Letter('b')));
        assert_eq!(args.next(), Some(Arg::Name("name")));
        assert_eq!(args.value().unwrap(), "v");
        assert_eq!(args.next(), Some(Arg::Letter('o')));
        assert_eq!(args.value().unwrap(), "value");
        assert_eq!(args.next(), Some(Arg::Letter('t')));
        assert_eq!(args.value().unwrap(), "x");
        assert_eq!(args.next(), Some(Arg::Word("w")));
        assert_eq!(args.next(), Some(Arg::Word("-c")));
        assert_eq!(args.next(), None);
        assert!(args.value().is_err());
    }

    proptest! {
        #[test]
        fn any_words_are_read(words in prop::collection::vec("-{0,2}[a-zäö=]{0,4}", 0..8)) {
            let length: usize = words.iter().map(|word| word.chars().count()).sum();
            prop_assert!(Args::new(&words).count() <= length + words.len());
        }
    }
}
