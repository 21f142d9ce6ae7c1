//! The rows of a shard's conversations: pages that never move, so that growing copies nothing.

use super::{ConvIx, Conversation};

const ROWS_PER_PAGE: usize = 128;
const PAGES_AT_ONCE: usize = 1024;

#[derive(Debug)]
pub(super) struct Rows {
    pages: Vec<Vec<Conversation>>,
    count: u32,
    grown: u64,
}

impl Rows {
    pub(super) fn new() -> Rows {
        Rows { pages: Vec::with_capacity(PAGES_AT_ONCE), count: 0, grown: 0 }
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn grown(&self) -> u64 {
        self.grown
    }

    pub(super) fn get(&self, ix: ConvIx) -> &Conversation {
        &self.pages[ix.0 as usize / ROWS_PER_PAGE][ix.0 as usize % ROWS_PER_PAGE]
    }

    pub(super) fn get_mut(&mut self, ix: ConvIx) -> &mut Conversation {
        &mut self.pages[ix.0 as usize / ROWS_PER_PAGE][ix.0 as usize % ROWS_PER_PAGE]
    }

    pub(super) fn push(&mut self, row: Conversation) -> ConvIx {
        if self.count as usize == self.pages.len() * ROWS_PER_PAGE {
            self.grown += u64::from(self.pages.len() == self.pages.capacity());
            self.pages.push(Vec::with_capacity(ROWS_PER_PAGE));
            self.grown += 1;
        }
        let ix = ConvIx(self.count);
        assert!(ix.0 < 1 << 31, "a shard holds fewer than 2^31 conversations");
        self.count += 1;
        self.pages.last_mut().expect("a page was made above").push(row);
        ix
    }
}
