//! Followers: readers of journals. A follower takes a batch of records and returns a cursor; it goes at its own pace and nothing in the chat waits for it.

mod batch;
mod count;
mod drive;
mod progress;
mod reader;

pub(crate) use count::Count;
pub(crate) use drive::drive;
pub(crate) use progress::Progress;
pub(crate) use reader::Journal;

use batch::Batch;

use crate::store::Cursor;

/// A reader of journals. One value per journal.
pub(crate) trait Follower: Send + 'static {
    /// Its name in control.db and in `/metrics`; never changes.
    fn name(&self) -> &'static str;

    /// Takes a batch that begins where `cursor` ends, and returns the cursor to go on from: at most the end of the batch. May block.
    ///
    /// # Errors
    /// In words for the log; the same batch comes again after a pause.
    fn take(&mut self, cursor: Cursor, batch: &Batch) -> Result<Cursor, String>;
}
