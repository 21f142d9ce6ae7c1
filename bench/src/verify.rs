//! What came is checked while it comes: nothing lost, doubled, out of order or altered.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use xxhash_rust::xxh3::xxh3_64;

/// Numbers that are waited for at once; more of them are lost for good.
const MISSING_MAX: usize = 4096;

/// Faults of a stream, counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Faults {
    /// Never came.
    pub(crate) lost: u64,
    /// Came twice.
    pub(crate) doubled: u64,
    /// Came after a later one.
    pub(crate) reordered: u64,
    /// Came with another content than was sent.
    pub(crate) altered: u64,
}

impl Faults {
    /// Those of another stream too.
    pub(crate) fn add(&mut self, other: &Faults) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.altered += other.altered;
    }
}

/// One stream of numbers that must come as 1, 2, 3 and so on.
#[derive(Default)]
pub(crate) struct Stream {
    /// The highest that came.
    last: u64,
    missing: BTreeSet<u64>,
    given_up: u64,
    faults: Faults,
}

impl Stream {
    /// A stream of which everything up to `last` came before.
    pub(crate) fn after(last: u64) -> Stream {
        Stream { last, ..Stream::default() }
    }

    /// A number came.
    pub(crate) fn saw(&mut self, number: u64) {
        if number <= self.last {
            match self.missing.remove(&number) {
                true => self.faults.reordered += 1,
                false => self.faults.doubled += 1,
            }
            return;
        }
        let gap = number - self.last - 1;
        let kept = gap.min((MISSING_MAX - self.missing.len()) as u64);
        self.missing.extend(number - kept..number);
        self.given_up += gap - kept;
        self.last = number;
    }

    /// The highest number that came.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// A content was not what was sent.
    pub(crate) fn altered(&mut self) {
        self.faults.altered += 1;
    }

    /// What was wrong with it, if everything up to `sent` should have come by now.
    pub(crate) fn faults(&self, sent: u64) -> Faults {
        let lost = self.given_up + self.missing.len() as u64 + sent.saturating_sub(self.last);
        Faults { lost, ..self.faults }
    }
}

/// Characters of a body before its filling.
pub(crate) const BODY_HEAD: usize = 10 + 1 + 20 + 1 + 16 + 1;

/// What a body says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Body {
    /// Its number among those of its sender.
    pub(crate) number: u64,
    /// When it should have been sent, in nanoseconds of the host's monotonic clock.
    pub(crate) intended_ns: u64,
}

impl Body {
    /// Appends a body of `size` characters (at least [`BODY_HEAD`]): number, time, checksum of all the rest, and filling.
    pub(crate) fn write(self, out: &mut String, size: usize) {
        let start = out.len();
        let _ = write!(out, "{:010} {:020} {:016x} ", self.number, self.intended_ns, 0);
        while out.len() - start < size {
            let left = size - (out.len() - start);
            out.push_str(&FILLING[..left.min(FILLING.len())]);
        }
        let check = checksum(&out.as_bytes()[start..]);
        out.replace_range(start + 32..start + 48, &format!("{check:016x}"));
    }

    /// Reads one; `None` if it is not what somebody wrote.
    pub(crate) fn read(text: &str) -> Option<Body> {
        let bytes = text.as_bytes();
        if bytes.len() < BODY_HEAD || bytes[10] != b' ' || bytes[31] != b' ' || bytes[48] != b' ' {
            return None;
        }
        let check = u64::from_str_radix(text.get(32..48)?, 16).ok()?;
        (checksum(bytes) == check).then_some(())?;
        Some(Body { number: text.get(..10)?.parse().ok()?, intended_ns: text.get(11..31)?.parse().ok()? })
    }
}

const FILLING: &str = "It has been raining here since the morning, and the parcel is still not there. ";

/// Of everything but the checksum's own place.
fn checksum(body: &[u8]) -> u64 {
    xxh3_64(&body[..32]) ^ xxh3_64(&body[48..]).rotate_left(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(numbers: &[u64], sent: u64) -> Faults {
        let mut stream = Stream::default();
        numbers.iter().for_each(|&number| stream.saw(number));
        stream.faults(sent)
    }

    #[test]
    fn every_fault_is_told_apart() {
        let none = Faults::default();
        assert_eq!(faults(&[1, 2, 3], 3), none);
        assert_eq!(faults(&[1, 3], 3), Faults { lost: 1, ..none });
        assert_eq!(faults(&[1, 2], 4), Faults { lost: 2, ..none });
        assert_eq!(faults(&[1, 2, 2, 3], 3), Faults { doubled: 1, ..none });
        assert_eq!(faults(&[1, 3, 2], 3), Faults { reordered: 1, ..none });
        assert_eq!(faults(&[2, 1, 1, 5], 5), Faults { lost: 2, doubled: 1, reordered: 1, ..none });
        assert_eq!(faults(&[1_000_000], 1_000_000), Faults { lost: 999_999, ..none });
        let mut resumed = Stream::after(41);
        resumed.saw(42);
        resumed.altered();
        assert_eq!(resumed.faults(42), Faults { altered: 1, ..none });
    }

    #[test]
    fn a_body_reads_back_and_no_changed_byte_goes_unseen() {
        for size in [BODY_HEAD, 50, 64, 256, 2000] {
            let body = Body { number: 12_345, intended_ns: u64::MAX / 3 };
            let mut text = String::from("x");
            body.write(&mut text, size);
            let text = &text[1..];
            assert_eq!((text.len(), Body::read(text)), (size, Some(body)));
            for place in 0..size {
                for byte in [b'0', b'1', b' ', b'z'] {
                    let mut changed = text.as_bytes().to_vec();
                    changed[place] = byte;
                    let changed = String::from_utf8(changed).unwrap();
                    assert_eq!(Body::read(&changed) == Some(body), changed == text, "{size} {place} {byte}");
                }
            }
            assert_eq!(Body::read(&text[..size - 1]), None);
        }
    }
}
