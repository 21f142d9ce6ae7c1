//! How far followers have read.

use sqlx::Row as _;

use super::{Store, StoreError};

/// A follower's place in one journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Cursor {
    /// The journal's generation.
    pub(crate) generation: u64,
    /// Everything before this offset has been taken.
    pub(crate) place: u64,
    /// Records taken since the follower began.
    pub(crate) records: u64,
    /// Bytes of records taken since the follower began.
    pub(crate) bytes: u64,
}

impl Store {
    /// The cursor of a follower in a shard's journal; `None` if it has not begun.
    pub(crate) async fn cursor(&self, follower: &str, shard: u16) -> Result<Option<Cursor>, StoreError> {
        let row = sqlx::query(
            "SELECT generation, place, records, bytes FROM cursor WHERE follower = ? AND shard = ?",
        )
        .bind(follower)
        .bind(shard)
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.failed(error))?;
        let number = |row: &sqlx::sqlite::SqliteRow, column: usize| row.get::<i64, _>(column) as u64;
        Ok(row.map(|row| Cursor {
            generation: number(&row, 0),
            place: number(&row, 1),
            records: number(&row, 2),
            bytes: number(&row, 3),
        }))
    }

    /// Keeps the cursors of a follower, all or none.
    pub(crate) async fn keep_cursors(
        &self,
        follower: &str,
        cursors: &[(u16, Cursor)],
    ) -> Result<(), StoreError> {
        let failed = |error| self.failed(error);
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        for (shard, cursor) in cursors {
            sqlx::query(
                "INSERT INTO cursor (follower, shard, generation, place, records, bytes) VALUES (?, ?, ?, ?, ?, ?)
                 ON CONFLICT (follower, shard) DO UPDATE SET generation = excluded.generation, place = excluded.place,
                 records = excluded.records, bytes = excluded.bytes",
            )
            .bind(follower)
            .bind(*shard)
            .bind(cursor.generation as i64)
            .bind(cursor.place as i64)
            .bind(cursor.records as i64)
            .bind(cursor.bytes as i64)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }
}
