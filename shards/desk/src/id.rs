//! Ids: 128 bits that name their slot and their kind.
//!
//! ```text
//!  127        116 115   112 111                                   0
//! +--------------+---------+---------------------------------------+
//! |   slot (12)  | kind(4) |        random (112), CSPRNG           |
//! +--------------+---------+---------------------------------------+
//! ```
//! Text form: 26 characters of Crockford base32 (128 bits and two leading zero bits), upper case; lower case is accepted.

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// Number of slots the key space is divided into; part of every visitor, contact and conversation id for ever.
pub const SLOT_COUNT: u16 = 4096;
/// Length of an id's text form in bytes.
pub const ID_TEXT_SIZE: usize = 26;

/// One of the 4,096 fixed parts of the key space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(u16);

impl Slot {
    /// A slot, or `None` for a number of 4,096 or more.
    pub fn new(number: u16) -> Option<Slot> {
        (number < SLOT_COUNT).then_some(Slot(number))
    }
    /// Its number, below 4,096.
    pub fn number(self) -> u16 {
        self.0
    }
}

/// The shard's source of chance: ChaCha12, seeded by an input so that a seed replays.
pub struct Entropy(ChaCha12Rng);

impl Entropy {
    /// Starts the stream that `seed` names.
    pub fn new(seed: [u8; 32]) -> Entropy {
        Entropy(ChaCha12Rng::from_seed(seed))
    }
    /// The next 64 bits.
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }
    /// The next 128 bits.
    pub fn u128(&mut self) -> u128 {
        (u128::from(self.u64()) << 64) | u128::from(self.u64())
    }
    /// A number below `bound` (> 0); the bias is below 2⁻³² for bounds of 32 bits.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a bound of zero has no number below it");
        ((u128::from(self.u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// The text form of an id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdText([u8; ID_TEXT_SIZE]);

impl IdText {
    /// As ASCII bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
    /// As a string slice.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

impl core::fmt::Display for IdText {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The value of each letter, either case; [`NO_LETTER`] for what is none. `I` and `L` read as 1, `O` as 0, as Crockford says.
const VALUES: [u8; 256] = {
    let mut values = [NO_LETTER; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        let letter = ALPHABET[value];
        values[letter as usize] = value as u8;
        values[letter.to_ascii_lowercase() as usize] = value as u8;
        value += 1;
    }
    let mut alias = 0;
    while alias < b"IiLlOo".len() {
        values[b"IiLlOo"[alias] as usize] = if alias < 4 { 1 } else { 0 };
        alias += 1;
    }
    values
};
const NO_LETTER: u8 = 0xFF;
/// Letters that make 60 bits: ids are written and read in words of 64 bits, not 128.
const HALF: usize = 12;

/// The 26-character text form of 128 bits.
pub fn text_of(bits: u128) -> IdText {
    let mut text = [0u8; ID_TEXT_SIZE];
    let (top, halves) = text.split_at_mut(ID_TEXT_SIZE - 2 * HALF);
    let (high, low) = halves.split_at_mut(HALF);
    for (letters, mut word) in [(top, (bits >> 120) as u64), (high, (bits >> 60) as u64), (low, bits as u64)]
    {
        // Two letters at a time: ids are most of what is written about a message.
        for pair in letters.as_chunks_mut::<2>().0.iter_mut().rev() {
            *pair = PAIRS[(word & 1023) as usize];
            word >>= 10;
        }
    }
    IdText(text)
}

/// Every pair of letters, by its ten bits.
static PAIRS: [[u8; 2]; 1024] = {
    let mut pairs = [[0; 2]; 1024];
    let mut bits = 0;
    while bits < 1024 {
        pairs[bits] = [ALPHABET[bits >> 5], ALPHABET[bits & 31]];
        bits += 1;
    }
    pairs
};
const _: () = assert!(HALF.is_multiple_of(2) && ID_TEXT_SIZE.is_multiple_of(2), "letters come in pairs");

/// The 128 bits of a text form in either case, or `None` if it is not one.
pub fn bits_of(text: &str) -> Option<u128> {
    bits_of_text(text.as_bytes().try_into().ok()?)
}

/// The same of bytes that may be anything.
pub(crate) fn bits_of_text(text: &[u8; ID_TEXT_SIZE]) -> Option<u128> {
    // 26 letters would hold 130 bits.
    if !matches!(text[0], b'0'..=b'7') {
        return None;
    }
    let (top, halves) = text.split_at(ID_TEXT_SIZE - 2 * HALF);
    let (high, low) = halves.split_at(HALF);
    let mut seen = 0;
    let mut word = |letters: &[u8]| {
        letters.iter().fold(0u64, |word, &letter| {
            let value = VALUES[usize::from(letter)];
            seen |= value;
            (word << 5) | u64::from(value & 31)
        })
    };
    let bits = (u128::from(word(top)) << 120) | (u128::from(word(high)) << 60) | u128::from(word(low));
    // Values of letters stay below 32, so the top bit tells that one was none.
    (seen & 0x80 == 0).then_some(bits)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The four bits that tell this kind of id from the others.
            pub const KIND: u8 = $kind;
            /// A new id in `slot`.
            pub fn mint(slot: Slot, entropy: &mut Entropy) -> Self {
                let random = entropy.u128() >> 16;
                Self((u128::from(slot.number()) << 116) | (u128::from(Self::KIND) << 112) | random)
            }
            /// Reads bits that may have come from outside; `None` if they are of another kind.
            pub fn from_bits(bits: u128) -> Option<Self> {
                ((bits >> 112) as u8 & 0xF == Self::KIND).then_some(Self(bits))
            }
            /// Reads the text form; `None` if it is none of this kind.
            pub fn parse(text: &str) -> Option<Self> {
                Self::from_bits(bits_of(text)?)
            }
            /// All 128 bits.
            pub fn bits(self) -> u128 {
                self.0
            }
            /// The slot it lies in.
            pub fn slot(self) -> Slot {
                Slot((self.0 >> 116) as u16)
            }
            /// Its text form.
            pub fn text(self) -> IdText {
                text_of(self.0)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.text().as_str())
            }
        }
        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}({})", stringify!($name), self.text())
            }
        }
    )*};
}

ids! {
    /// A site: the tenant.
    SiteId = 1;
    /// An inbox of a site: one place on the web where visitors come from.
    InboxId = 2;
    /// An anonymous visitor.
    VisitorId = 3;
    /// A known person behind one or more visitors.
    ContactId = 4;
    /// A person who answers.
    AgentId = 5;
    /// A conversation; it has the slot of its visitor.
    ConversationId = 6;
    /// One tab's session; it has a slot of the shard that holds it.
    SessionId = 7;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text_in_either_case() {
        let mut entropy = Entropy::new([7; 32]);
        for number in [0, 1, 4095] {
            let id = VisitorId::mint(Slot::new(number).unwrap(), &mut entropy);
            assert_eq!(VisitorId::parse(id.text().as_str()), Some(id));
            assert_eq!(VisitorId::parse(&id.text().as_str().to_lowercase()), Some(id));
            assert_eq!(id.slot().number(), number);
        }
    }

    #[test]
    fn every_bit_has_its_place_in_the_text() {
        for shift in 0..128 {
            let text = text_of(1 << shift);
            assert_eq!(bits_of(text.as_str()), Some(1 << shift));
            let place = ID_TEXT_SIZE - 1 - shift / 5;
            assert_eq!(text.as_str().as_bytes()[place], b"1248G"[shift % 5]);
        }
        assert_eq!(text_of(u128::MAX).as_str(), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        assert_eq!(bits_of("7zzzzzzzzzzzzzzzzzzzzzzzzz"), Some(u128::MAX));
    }

    #[test]
    fn every_byte_that_is_no_letter_is_refused_in_every_place_and_look_alikes_are_read() {
        for place in 1..ID_TEXT_SIZE {
            for byte in 0..128u8 {
                let mut text = *b"00000000000000000000000000";
                text[place] = byte;
                let found = bits_of(core::str::from_utf8(&text).unwrap());
                let value = match byte.to_ascii_uppercase() {
                    b'O' => Some(0),
                    b'I' | b'L' => Some(1),
                    upper => ALPHABET.iter().position(|&letter| letter == upper),
                };
                assert_eq!(found, value.map(|value| (value as u128) << (5 * (ID_TEXT_SIZE - 1 - place))));
            }
        }
        assert_eq!(bits_of("é000000000000000000000000"), None);
    }

    #[test]
    fn an_id_of_another_kind_or_a_damaged_text_is_refused() {
        let mut entropy = Entropy::new([7; 32]);
        let id = VisitorId::mint(Slot::new(3).unwrap(), &mut entropy);
        assert_eq!(AgentId::parse(id.text().as_str()), None);
        assert_eq!(VisitorId::parse(&id.text().as_str()[1..]), None);
        assert_eq!(VisitorId::parse("ZZZZZZZZZZZZZZZZZZZZZZZZZZ"), None);
        assert_eq!(VisitorId::parse("0000000000000000000000000U"), None);
        assert_eq!(Slot::new(SLOT_COUNT), None);
    }
}
