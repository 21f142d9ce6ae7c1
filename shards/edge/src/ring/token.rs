//! What a completion says it is about.
//!
//! ```text
//!  63        56 55                    32 31                              0
//! +------------+------------------------+---------------------------------+
//! |  op (8)    |  index (24)            |  generation (32)                |
//! +------------+------------------------+---------------------------------+
//! ```
//! `index` and `generation` are those of a door, or a place in a small table of the op's own. Op 0 is no op of ours: then all 64 bits are the address of a
//! `Moved` that another ring sent along with a connection, and user addresses have a zero in their highest byte.

use shard::Door;

/// What was submitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Op {
    /// Nothing to do when it ends.
    Ignore = 1,
    /// Another shard rang.
    Wake = 2,
    /// The control plane, or the thread that prepares segments, rang.
    Bell = 3,
    /// An accept; the index is its place in the table of accepts.
    Accept = 4,
    /// The multishot poll of an idle door.
    Poll = 5,
    /// A single receive.
    Receive = 6,
    /// The multishot receive of a busy door.
    ReceiveMany = 7,
    /// A send.
    Send = 8,
    /// An ordinary descriptor for a moment, to end our half of the connection.
    Half = 9,
    /// The close of a door.
    Close = 10,
    /// A door goes to another ring.
    Move = 11,
    /// A door becomes an ordinary descriptor for the control plane.
    Install = 12,
    /// The close that is linked behind `Move` or `Install`.
    CloseLinked = 13,
    /// An ordinary descriptor becomes a door; the index is its place in the table of adoptions.
    Adopt = 14,
    /// A write of the journal.
    Write = 15,
    /// A flush of the journal.
    Flush = 16,
}

const OPS: [Op; 16] = [
    Op::Ignore,
    Op::Wake,
    Op::Bell,
    Op::Accept,
    Op::Poll,
    Op::Receive,
    Op::ReceiveMany,
    Op::Send,
    Op::Half,
    Op::Close,
    Op::Move,
    Op::Install,
    Op::CloseLinked,
    Op::Adopt,
    Op::Write,
    Op::Flush,
];

/// Largest index a token can carry.
pub(crate) const INDEX_MAX: u32 = (1 << 24) - 1;
const _: () = assert!(crate::limits::TABLE_MAX <= INDEX_MAX, "every door fits into a token");

/// An op, an index and a generation in 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token(pub(crate) u64);

impl Token {
    pub(crate) fn new(op: Op, index: u32, generation: u32) -> Token {
        assert!(index <= INDEX_MAX, "an index has 24 bits");
        Token(u64::from(op as u8) << 56 | u64::from(index) << 32 | u64::from(generation))
    }

    pub(crate) fn of(op: Op, door: Door) -> Token {
        Token::new(op, door.index, door.generation)
    }

    /// The op; `None` says that the 64 bits are an address.
    pub(crate) fn op(self) -> Option<Op> {
        let number = (self.0 >> 56) as usize;
        if number == 0 {
            return None;
        }
        Some(*OPS.get(number - 1).expect("only our own tokens come back"))
    }

    pub(crate) fn index(self) -> u32 {
        (self.0 >> 32) as u32 & INDEX_MAX
    }

    pub(crate) fn door(self) -> Door {
        Door { index: self.index(), generation: self.0 as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_back_what_was_put_in() {
        for (place, op) in OPS.into_iter().enumerate() {
            assert_eq!(op as usize, place + 1);
            let door = Door { index: INDEX_MAX, generation: u32::MAX - 1 };
            let token = Token::of(op, door);
            assert_eq!(token.op(), Some(op));
            assert_eq!(token.door(), door);
        }
    }

    #[test]
    fn an_address_is_no_op() {
        let boxed = Box::new(7u64);
        let address = &raw const *boxed as u64;
        assert_eq!(Token(address).op(), None);
    }
}
