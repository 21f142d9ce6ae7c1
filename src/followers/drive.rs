//! Drives one follower along one journal: waits for the durable mark, reads, lets it take, keeps the cursor.

use std::sync::Arc;
use std::time::Duration;

use journal::{LogOffset, TailError};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Follower;
use super::progress::Progress;
use super::reader::{Journal, Reader};
use crate::control::Mark;
use crate::store::{Cursor, Store, StoreError};

/// How often a cursor that moved is kept. After a crash at most this much is taken again, from the cursor that was kept with its counts.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// After an error.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until the journal is sealed and all of it was taken, or the runtime ends.
pub(crate) async fn drive<F: Follower>(
    mut follower: F,
    journal: Journal,
    mut mark: watch::Receiver<Mark>,
    store: Store,
    progress: Arc<Progress>,
) -> Result<(), StoreError> {
    let (name, shard) = (follower.name(), journal.shard);
    let kept = store.cursor(name, shard).await?;
    let mut cursor = begin(kept, &journal, mark.borrow().durable);
    let mut reader = Reader::new(&journal, LogOffset(cursor.place));
    let (mut kept, mut kept_at) = (cursor, Instant::now());
    progress.moved(name, shard, cursor, 0);
    loop {
        let now = *mark.borrow_and_update();
        let (back, batch) = read(reader, now.durable).await;
        reader = back;
        match batch {
            Ok(batch) if batch.is_empty() => {}
            Ok(batch) => {
                for damage in batch.damage() {
                    log::error!("follower {name}, shard {shard}: {damage}");
                }
                let before = cursor;
                let (back, taken, damage) = take(follower, cursor, batch).await;
                follower = back;
                match taken {
                    Ok(after) => cursor = after,
                    Err(error) => {
                        log::warn!("follower {name}, shard {shard}: {error}; it tries again");
                        reader = Reader::new(&journal, LogOffset(before.place));
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                }
                progress.moved(name, shard, cursor, damage);
                if kept_at.elapsed() >= KEEP_EVERY {
                    store.keep_cursors(name, &[(shard, cursor)]).await?;
                    (kept, kept_at) = (cursor, Instant::now());
                }
                continue;
            }
            Err(TailError::Lost { wanted, oldest }) => {
                log::warn!(
                    "follower {name}, shard {shard}: offsets {wanted}..{oldest} were recycled before it came; it goes on behind them"
                );
                cursor.place = oldest.0;
                reader = Reader::new(&journal, oldest);
                continue;
            }
            Err(error) => {
                log::error!("follower {name}, shard {shard}: {error}; it tries again");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        if cursor != kept && (now.sealed || kept_at.elapsed() >= KEEP_EVERY) {
            store.keep_cursors(name, &[(shard, cursor)]).await?;
            (kept, kept_at) = (cursor, Instant::now());
        }
        if now.sealed {
            return Ok(());
        }
        let wait = if cursor == kept { Duration::from_secs(3_600) } else { KEEP_EVERY };
        // An error means that boot ended; the runtime ends with it.
        if let Ok(Err(_)) = tokio::time::timeout(wait, mark.changed()).await {
            return Ok(());
        }
    }
}

/// Where to go on. A cursor of another generation, or beyond the log, belongs to journals that are not there any more.
fn begin(kept: Option<Cursor>, journal: &Journal, durable: LogOffset) -> Cursor {
    let generation = u64::from(journal.superblock.generation);
    let first = journal.superblock.geometry.first().0;
    match kept {
        Some(cursor) if cursor.generation == generation && cursor.place <= durable.0 => cursor,
        Some(cursor) => {
            log::warn!(
                "shard {}: a follower's cursor ({}, {}) is not in this journal ({generation}, up to {durable}); it begins again",
                journal.shard,
                cursor.generation,
                cursor.place
            );
            Cursor { generation, place: first, ..Cursor::default() }
        }
        None => Cursor { generation, place: first, ..Cursor::default() },
    }
}

async fn read(mut reader: Reader, durable: LogOffset) -> (Reader, Result<super::Batch, TailError>) {
    let done = tokio::task::spawn_blocking(move || {
        let batch = reader.read(durable);
        (reader, batch)
    });
    done.await.expect("reading a journal does not panic")
}

async fn take<F: Follower>(
    mut follower: F,
    cursor: Cursor,
    batch: super::Batch,
) -> (F, Result<Cursor, String>, usize) {
    let done = tokio::task::spawn_blocking(move || {
        let taken = follower.take(cursor, &batch);
        if let Ok(after) = &taken {
            assert!(after.place <= batch.end(), "a follower goes no further than its batch");
        }
        (follower, taken, batch.damage().len())
    });
    done.await.expect("the follower panicked")
}

#[cfg(test)]
mod tests;
