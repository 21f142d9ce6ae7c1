//! Checkpoints: what lets the log before them be forgotten.
//!
//! A conversation's checkpoint is a few SNAPSHOT_EVENTS chunks, spread over as many turns as they need, and then one SNAPSHOT_CONVERSATION
//! with the rest. Events never change, so a chunk is right whenever it is written; the small state is written in one piece and replaces what
//! replay had. **Why a replay that starts at the first chunk is complete:** every event up to the head at the moment of the
//! SNAPSHOT_CONVERSATION is in a chunk; what happened to the small state before that moment is in it; what happened later is in
//! the log behind it. Whatever replay meets before the first chunk, or twice, is kept if it is an event and replaced if it is not.

use super::{ConvIx, Conversations, Receipts};
use crate::record::{ChunkBuilder, Record, SnapshotConversation, SnapshotEvents};

/// How far the checkpoint of one conversation has got, and the room it needs; kept and used for one conversation after the other.
#[derive(Debug)]
pub struct SnapCursor {
    /// The next event to write.
    next: u32,
    chunk: ChunkBuilder,
}

impl SnapCursor {
    /// At the beginning of whichever conversation comes first.
    pub fn new() -> SnapCursor {
        SnapCursor { next: 1, chunk: ChunkBuilder::new() }
    }

    /// Back to the beginning: the next call may be for another conversation.
    pub fn restart(&mut self) {
        self.next = 1;
    }
}

impl Default for SnapCursor {
    fn default() -> SnapCursor {
        SnapCursor::new()
    }
}

impl Conversations {
    /// Goes on with the checkpoint of `ix`: at most about `budget_size` bytes of records, at least one, given to `emit` to be journaled
    /// (not applied). True when it is complete; then the cursor is ready for the next conversation. Between two calls for one conversation
    /// anything may be applied.
    pub fn snapshot(
        &self,
        ix: ConvIx,
        cursor: &mut SnapCursor,
        budget_size: usize,
        emit: &mut dyn FnMut(Record<'_>),
    ) -> bool {
        let conversation = self.conversation(ix);
        let mut left = budget_size;
        while cursor.next <= conversation.s {
            let first = self.fill_chunk(ix, cursor, left);
            let (count, records) = (cursor.chunk.count(), cursor.chunk.records());
            if count > 0 {
                emit(Record::SnapshotEvents(SnapshotEvents { c: conversation.id, first, count, records }));
            }
            left = left.saturating_sub(records.len());
            if left == 0 {
                return false;
            }
        }
        let Receipts { visitor, agent } = conversation.receipts;
        emit(Record::SnapshotConversation(SnapshotConversation {
            started: self.started(ix),
            changed_ms: conversation.changed_ms,
            s: conversation.s,
            vs: conversation.vs,
            status: conversation.status,
            owner: conversation.owner,
            epoch: conversation.epoch,
            ticket: conversation.ticket,
            visitor,
            agent,
        }));
        cursor.restart();
        true
    }

    /// Fills the cursor's chunk with the next events that are there, and gives the number of the first.
    fn fill_chunk(&self, ix: ConvIx, cursor: &mut SnapCursor, size_max: usize) -> u32 {
        cursor.chunk.clear();
        let mut first = 0;
        while cursor.next <= self.conversation(ix).s {
            if let Some(record) = self.record(ix, cursor.next) {
                if !cursor.chunk.push(&record, size_max) {
                    break;
                }
                if first == 0 {
                    first = cursor.next;
                }
            }
            cursor.next += 1;
        }
        first
    }
}
