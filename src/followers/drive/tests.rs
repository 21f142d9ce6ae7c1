use std::fs;

use super::*;
use crate::followers::Count;
use crate::followers::batch::Batch;
use crate::scratch::Scratch;
use crate::small_journal::SmallJournal;

struct Rig {
    scratch: Scratch,
    journal: SmallJournal,
    mark: watch::Sender<Mark>,
    progress: Arc<Progress>,
}

impl Rig {
    fn new() -> Rig {
        let scratch = Scratch::new();
        let journal = SmallJournal::new(&scratch.0, 0, 1);
        let first = journal.journal.superblock.geometry.first();
        let mark = watch::Sender::new(Mark { durable: first, sealed: false });
        Rig { scratch, journal, mark, progress: Arc::default() }
    }

    fn durable(&self, durable: LogOffset, sealed: bool) {
        self.mark.send_replace(Mark { durable, sealed });
    }

    async fn store(&self) -> Store {
        Store::open(&self.scratch.0).await.unwrap()
    }

    fn drive<F: Follower>(
        &self,
        follower: F,
        store: &Store,
    ) -> impl Future<Output = Result<(), StoreError>> + use<F> {
        let mark = self.mark.subscribe();
        drive(follower, self.journal.journal.clone(), mark, store.clone(), Arc::clone(&self.progress))
    }
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

#[test]
fn it_counts_what_is_durable_and_nothing_else_and_keeps_its_place() {
    run(async {
        let mut rig = Rig::new();
        let store = rig.store().await;
        let first = rig.journal.write(&[10, 20, 30]);
        rig.journal.write(&[40]);
        rig.durable(first, false);
        let task = tokio::spawn(rig.drive(Count, &store));
        while rig.progress.rows().first().is_none_or(|row| row.records < 3) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let row = rig.progress.rows()[0];
        assert_eq!((row.records, row.place, row.damage), (3, first.0, 0), "the second block is not durable");

        let end = rig.journal.seal();
        rig.durable(end, true);
        task.await.unwrap().unwrap();
        let cursor = store.cursor("count", 0).await.unwrap().unwrap();
        assert_eq!((cursor.records, cursor.place, cursor.generation), (4, end.0, 1));

        // The next start goes on from there: nothing is counted twice.
        rig.drive(Count, &store).await.unwrap();
        assert_eq!(store.cursor("count", 0).await.unwrap().unwrap(), cursor);
    });
}

#[test]
fn it_follows_over_segments_in_batches() {
    run(async {
        let mut rig = Rig::new();
        let store = rig.store().await;
        for _ in 0..60 {
            rig.journal.write(&[4_000, 4_000]);
        }
        let end = rig.journal.seal();
        rig.durable(end, true);
        rig.drive(Count, &store).await.unwrap();
        let cursor = store.cursor("count", 0).await.unwrap().unwrap();
        assert_eq!((cursor.records, cursor.place), (120, end.0));
        assert!(cursor.bytes >= 120 * 4_000 && rig.journal.segment(8).exists());
    });
}

#[test]
fn damage_is_met_counted_and_passed() {
    run(async {
        let mut rig = Rig::new();
        let store = rig.store().await;
        rig.journal.write(&[100, 100]);
        let end = rig.journal.seal();
        let path = rig.journal.segment(1);
        let mut bytes = fs::read(&path).unwrap();
        bytes[200] ^= 1;
        fs::write(&path, bytes).unwrap();
        rig.durable(end, true);
        rig.drive(Count, &store).await.unwrap();
        let row = rig.progress.rows()[0];
        assert_eq!((row.records, row.damage, row.place), (1, 1, end.0));
    });
}

#[test]
fn a_cursor_of_journals_that_are_gone_begins_again() {
    run(async {
        let mut rig = Rig::new();
        let store = rig.store().await;
        rig.journal.write(&[1]);
        let end = rig.journal.seal();
        rig.durable(end, true);
        for foreign in [
            Cursor { generation: 9, place: end.0, records: 77, bytes: 7 },
            Cursor { generation: 1, place: end.0 + 512, records: 77, bytes: 7 },
        ] {
            store.keep_cursors("count", &[(0, foreign)]).await.unwrap();
            rig.drive(Count, &store).await.unwrap();
            assert_eq!(store.cursor("count", 0).await.unwrap().unwrap().records, 1);
        }
    });
}

/// Refuses its first batch.
struct Late(bool);

impl Follower for Late {
    fn name(&self) -> &'static str {
        "late"
    }
    fn take(&mut self, cursor: Cursor, batch: &Batch) -> Result<Cursor, String> {
        if std::mem::take(&mut self.0) {
            return Err("the other side is down".to_owned());
        }
        Ok(Cursor { place: batch.end(), records: cursor.records + batch.records().len() as u64, ..cursor })
    }
}

#[test]
fn a_batch_that_was_refused_comes_again() {
    run(async {
        let mut rig = Rig::new();
        let store = rig.store().await;
        rig.journal.write(&[1, 2]);
        let end = rig.journal.seal();
        rig.durable(end, true);
        rig.drive(Late(true), &store).await.unwrap();
        assert_eq!(store.cursor("late", 0).await.unwrap().unwrap().records, 2);
    });
}
