//! A loss of power at level `memory`: what had been flushed stays, with all that stands before it in its conversation; the rest may be unsaid.

use super::{Audience, Checker, Conversation, Intent, Stream};

/// The highest numbers that must still be there, by stream.
type Safe = [u32; 2];

impl Checker {
    /// A new history of a conversation: only what was told before `safe_us` is still demanded.
    pub(super) fn rewind(&mut self, c: u128, safe_us: u64) {
        let Some(before) = self.conversations.remove(&c) else { return };
        let safe: Safe = core::array::from_fn(|stream| self.safe_head(&before.streams[stream], safe_us));
        let mut after = Conversation::new();
        for (stream, (old, safe)) in before.streams.into_iter().zip(safe).enumerate() {
            let Stream { mut facts, mut acks, .. } = old;
            self.unsaid += u64::from(!facts.split_off(&(safe + 1)).is_empty());
            acks.split_off(&(safe + 1));
            after.heard |= !facts.is_empty() || !acks.is_empty();
            after.streams[stream] = Stream { facts, acks, final_head: None };
        }
        // Nobody has seen more than he said.
        after.seen = before.seen;
        after.started = before.started && after.heard;
        self.kept += u64::from(after.heard);
        for intent in self.intents.iter_mut().filter(|intent| intent.c == Some(c)) {
            if !intent.stands(c, safe) {
                intent.rewind();
            }
        }
        self.conversations.insert(c, after);
    }

    fn safe_head(&self, stream: &Stream, safe_us: u64) -> u32 {
        let told = stream.facts.iter().rev().find(|(_, fact)| fact.first_us < safe_us);
        let acked =
            stream.acks.iter().rev().find(|&(_, &intent)| {
                self.intents[intent].acked_us.is_some_and(|acked_us| acked_us < safe_us)
            });
        told.map_or(0, |(&number, _)| number).max(acked.map_or(0, |(&number, _)| number))
    }
}

impl Intent {
    /// Whether it is known to be among what must still be there.
    fn stands(&self, c: u128, safe: Safe) -> bool {
        let own = if self.by_agent { Audience::Agent } else { Audience::Visitor };
        let acked = self.acked.is_some_and(|number| number > 0 && number <= safe[own as usize]);
        let told = self.told.iter().zip(safe);
        acked
            || told.into_iter().any(|(told, safe)| told.is_some_and(|(of, number)| of == c && number <= safe))
    }
}
