//! The rows of a shard's conversations.

use super::{ConvIx, Conversation};
use crate::pages::Pages;

#[derive(Debug, Default)]
pub(super) struct Rows(Pages<Conversation>);

impl Rows {
    pub(super) fn count(&self) -> u32 {
        self.0.len() as u32
    }

    pub(super) fn grown(&self) -> u64 {
        self.0.grown()
    }

    pub(super) fn get(&self, ix: ConvIx) -> &Conversation {
        &self.0[ix.0 as usize]
    }

    pub(super) fn get_mut(&mut self, ix: ConvIx) -> &mut Conversation {
        &mut self.0[ix.0 as usize]
    }

    pub(super) fn push(&mut self, row: Conversation) -> ConvIx {
        assert!(self.count() < 1 << 31, "a shard holds fewer than 2^31 conversations");
        ConvIx(self.0.push(row) as u32)
    }
}
