//! Keywords with their values, as `bridge` takes them: `dev red vlan 10 master static`.

use std::str::FromStr;

use crate::cli::bridge::Word;
use crate::failure::Failure;

/// Words that are read one after the other.
pub struct Reader<'a> {
    /// The command, for messages.
    command: &'static str,
    words: std::slice::Iter<'a, Word>,
}

impl<'a> Reader<'a> {
    /// All words of a command.
    pub fn new(command: &'static str, words: &'a [Word]) -> Self {
        Self {
            command,
            words: words.iter(),
        }
    }

    /// The next keyword.
    pub fn next(&mut self) -> Option<&'a str> {
        self.words.next().map(|word| word.0.as_str())
    }

    /// What stands behind a keyword.
    pub fn value(&mut self, keyword: &str) -> Result<&'a str, Failure> {
        self.next()
            .ok_or_else(|| self.wrong(format!("{keyword} needs a value")))
    }

    /// The same, read.
    pub fn parsed<T: FromStr<Err: std::fmt::Display>>(&mut self, keyword: &str) -> Result<T, Failure> {
        let text = self.value(keyword)?;
        text.parse().map_err(|e| self.wrong(format!("{keyword} {text}: {e}")))
    }

    /// Something is wrong with the words.
    pub fn wrong(&self, cause: impl Into<String>) -> Failure {
        let hint = format!("`vswitchctl {} --help` shows examples; nothing was done", self.command);
        Failure::usage(self.command, cause, hint)
    }

    /// A keyword that the command does not know.
    pub fn unknown(&self, word: &str, there: &str) -> Failure {
        self.wrong(format!("there is no word {word:?}; there are {there}"))
    }
}
