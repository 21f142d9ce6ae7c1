//! What is said: every text names who said it and which of his words it is, so that a listener, who is told no `cid`, recognises it.

use serde_json::Value;

use crate::chance::{Chance, mix};

/// One thing a client said: the client, and the number among all it ever said.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Word {
    /// Who.
    pub client: u16,
    /// Which, from 1.
    pub k: u32,
}

impl Word {
    /// The `cid`: the same for every try, different for every word of every run.
    pub fn cid(self, seed: u64) -> String {
        let own = (u64::from(self.client) << 32) | u64::from(self.k);
        format!("{:016x}{:016x}", mix(seed ^ mix(own)), own)
    }

    /// A text: mostly a line, sometimes a page, with letters of several scripts.
    pub fn body(self, chance: &mut Chance) -> String {
        const SCRAPS: [&str; 8] = ["hello ", "zażółć ", "你好 ", "🦀 ", "\"q\" ", "\\ ", "line\n", "tab\t"];
        let characters = match chance.below(200) {
            0 => 6_000,
            1..=9 => 1_000,
            _ => 10 + chance.below(90),
        };
        let mut body = format!("{}.{}. ", self.client, self.k);
        let mut length = body.chars().count() as u64;
        while length < characters {
            let scrap = SCRAPS[chance.below(SCRAPS.len() as u64) as usize];
            body.push_str(scrap);
            length += scrap.chars().count() as u64;
        }
        body
    }

    /// Whose word a text is.
    pub fn of_body(body: &str) -> Option<Word> {
        let mut parts = body.splitn(3, '.');
        let client = parts.next()?.parse().ok()?;
        let k = parts.next()?.parse().ok()?;
        parts.next()?;
        Some(Word { client, k })
    }
}

/// 64 bits of FNV-1a.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What a numbered event says, apart from its number: the same for every listener and for ever.
pub fn content(op: &str, d: &Value) -> u64 {
    // Objects are ordered by key here, so the text is canonical.
    hash(format!("{op} {d}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_its_word() {
        let mut chance = Chance::new(1);
        for k in 1..500 {
            let word = Word { client: 7, k };
            let body = word.body(&mut chance);
            assert_eq!(Word::of_body(&body), Some(word));
            assert!(body.chars().count() <= 10_000);
        }
        assert_eq!(Word::of_body("hello"), None);
        assert_ne!(Word { client: 1, k: 2 }.cid(0), Word { client: 2, k: 1 }.cid(0));
    }
}
