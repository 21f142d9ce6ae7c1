//! The way to a host's texts: whoever calls brings it, the real files or a map of them.

use core::fmt;

/// Why a text could not be had. It ends in a finding, so that nothing is guessed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unread {
    /// There is no such file or folder.
    Missing,
    /// This process may not read it.
    Refused,
    /// Anything else, as the system says it.
    Other(String),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unread::Missing => f.write_str("does not exist here"),
            Unread::Refused => f.write_str("may not be read by this user"),
            Unread::Other(what) => write!(f, "cannot be read: {what}"),
        }
    }
}

/// A host, seen through the texts of `/proc` and `/sys`.
pub trait Host {
    /// The text of a file.
    fn text(&self, path: &str) -> Result<String, Unread>;

    /// The names in a folder, in any order.
    fn names(&self, path: &str) -> Result<Vec<String>, Unread>;

    /// The text without white space around it.
    fn word(&self, path: &str) -> Result<String, Unread> {
        Ok(self.text(path)?.trim().to_owned())
    }

    /// The only number in a file.
    fn number(&self, path: &str) -> Result<i64, Unread> {
        let word = self.word(path)?;
        word.parse().map_err(|_| Unread::Other(format!("{word:?} is no number")))
    }

    /// Whether there is such a file.
    fn has(&self, path: &str) -> bool {
        !matches!(self.text(path), Err(Unread::Missing))
    }

    /// The names in a folder that begin with `prefix` and a number after it, by that number.
    fn numbered(&self, path: &str, prefix: &str) -> Vec<u32> {
        let names = self.names(path).unwrap_or_default();
        let mut numbers: Vec<u32> =
            names.iter().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// Which word of `always [madvise] never` is chosen.
pub(crate) fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

/// The value of the first `key:` line.
pub(crate) fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then_some(value.trim())
    })
}

/// The value of `key=…` on the kernel's command line; empty if it stands alone. Later ones win, and what follows `--` is for init.
pub(crate) fn boot_option<'a>(command_line: &'a str, key: &str) -> Option<&'a str> {
    let words = command_line.split_whitespace().take_while(|&word| word != "--");
    words
        .filter_map(|word| match word.split_once('=') {
            Some((name, value)) => (name == key).then_some(value),
            None => (word == key).then_some(""),
        })
        .last()
}

/// A name, fit to be pasted into a shell.
pub(crate) fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:,@".contains(c);
    if !name.is_empty() && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_options_and_fields_are_found_as_the_kernel_writes_them() {
        assert_eq!(chosen("none [mq-deadline] kyber"), Some("mq-deadline"));
        assert_eq!(chosen("none"), None);
        assert_eq!(field("Name:\tcat\nSeccomp:\t2\nSeccomp_filters:\t1\n", "Seccomp"), Some("2"));
        let line = "quiet isolcpus=1 mitigations=auto isolcpus=2-3 -- mitigations=off";
        assert_eq!(boot_option(line, "isolcpus"), Some("2-3"));
        assert_eq!(boot_option(line, "quiet"), Some(""));
        assert_eq!(boot_option(line, "mitigations"), Some("auto"));
        assert_eq!(boot_option(line, "nohz_full"), None);
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_a_command() {
        assert_eq!(quoted("eth0.100"), "eth0.100");
        assert_eq!(quoted("a;reboot"), "'a;reboot'");
        assert_eq!(quoted("a'b"), r"'a'\''b'");
        assert_eq!(quoted(""), "''");
    }
}
