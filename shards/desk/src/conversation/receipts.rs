//! Receipts: how far each side has got. They take no number, merge by maximum, and are written at most once a second.
//!
//! What is heard goes to `pending` (memory only); when its second is over the caller writes [`Conversations::take_receipts`] and applies it.
//! Nobody is told of a receipt before its record is durable.

use super::{ConvIx, Conversations, Party};
use crate::record::{Cursor, Record};

/// How far both sides have got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Receipts {
    /// The visitor, in visitor-stream numbers.
    pub visitor: Cursor,
    /// The agents, in agent-stream numbers.
    pub agent: Cursor,
}

impl Receipts {
    pub(super) fn merged(self, other: Receipts) -> Receipts {
        Receipts { visitor: self.visitor.merged(other.visitor), agent: self.agent.merged(other.agent) }
    }
}

/// A receipt worth keeping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    party: Party,
    cursor: Cursor,
}

impl Conversations {
    /// Somebody of `party` has seen everything up to `number` of that party's stream. Nothing if that is known already, or if there is
    /// no such number yet. What was seen was delivered.
    pub fn decide_seen(&self, ix: ConvIx, party: Party, number: u32) -> Option<Mark> {
        self.decide_mark(ix, party, Cursor { seen: number, delivered: number })
    }

    /// A device of `party` has received everything up to `number` of that party's stream. Nothing as in [`Conversations::decide_seen`].
    pub fn decide_delivered(&self, ix: ConvIx, party: Party, number: u32) -> Option<Mark> {
        self.decide_mark(ix, party, Cursor { seen: 0, delivered: number })
    }

    fn decide_mark(&self, ix: ConvIx, party: Party, cursor: Cursor) -> Option<Mark> {
        let conversation = self.conversation(ix);
        let (known, head) = match party {
            Party::Visitor => (conversation.pending.visitor, conversation.vs),
            Party::Agent => (conversation.pending.agent, conversation.s),
        };
        (cursor.delivered <= head && known.merged(cursor) != known).then_some(Mark { party, cursor })
    }

    /// Keeps a mark until it is written. True if it is the first since the last writing: the caller's second begins.
    pub fn mark(&mut self, ix: ConvIx, mark: Mark) -> bool {
        let conversation = self.rows.get_mut(ix);
        let was_clean = conversation.pending == conversation.receipts;
        let known = match mark.party {
            Party::Visitor => &mut conversation.pending.visitor,
            Party::Agent => &mut conversation.pending.agent,
        };
        *known = known.merged(mark.cursor);
        was_clean && conversation.pending != conversation.receipts
    }

    /// Whether something was marked that is not written yet.
    pub fn receipts_dirty(&self, ix: ConvIx) -> bool {
        let conversation = self.conversation(ix);
        conversation.pending != conversation.receipts
    }

    /// The record to write and apply, if something was marked since the last one.
    pub fn take_receipts(&self, ix: ConvIx) -> Option<Record<'static>> {
        let conversation = self.conversation(ix);
        let Receipts { visitor, agent } = conversation.pending;
        self.receipts_dirty(ix).then_some(Record::Receipts { c: conversation.id, visitor, agent })
    }
}
