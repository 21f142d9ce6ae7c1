//! A journal, read from a cursor up to the durable mark. Blocks; runs on threads for that.

use std::path::PathBuf;

use edge::disk::Files;
use journal::{LogOffset, Superblock, Tail, TailError, TailItem};

use super::batch::Batch;

/// A journal of this boot, as a follower needs it.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    /// Whose it is.
    pub(crate) shard: u16,
    /// Where it lies.
    pub(crate) directory: PathBuf,
    /// The superblock of this boot.
    pub(crate) superblock: Superblock,
}

/// A follower's place in a journal.
pub(super) struct Reader {
    files: Files,
    tail: Tail,
}

impl Reader {
    /// Begins at `from`.
    pub(super) fn new(journal: &Journal, from: LogOffset) -> Reader {
        Reader { files: Files::to_read(&journal.directory), tail: Tail::new(&journal.superblock, from) }
    }

    /// The next records before `durable`; an empty batch when there are none.
    pub(super) fn read(&mut self, durable: LogOffset) -> Result<Batch, TailError> {
        let mut batch = Batch::at(self.tail.cursor().0);
        while !batch.is_full() {
            match self.tail.read(&mut self.files, durable)? {
                Some(TailItem::Block(block)) => batch.add(&block),
                Some(TailItem::Damage(damage)) => {
                    let end = self.tail.cursor().0;
                    batch.add_damage(damage, end);
                }
                None => break,
            }
        }
        Ok(batch)
    }
}
