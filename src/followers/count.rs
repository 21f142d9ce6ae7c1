//! The first follower: it counts. What it shows is that following works, and how far behind a follower is.

use super::Follower;
use super::batch::Batch;
use crate::store::Cursor;

/// Counts records and their bytes.
pub(crate) struct Count;

impl Follower for Count {
    fn name(&self) -> &'static str {
        "count"
    }

    fn take(&mut self, cursor: Cursor, batch: &Batch) -> Result<Cursor, String> {
        let bytes: usize = batch.records().map(|(_, raw)| raw.len()).sum();
        Ok(Cursor {
            generation: cursor.generation,
            place: batch.end(),
            records: cursor.records + batch.records().len() as u64,
            bytes: cursor.bytes + bytes as u64,
        })
    }
}
