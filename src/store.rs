//! control.db: accounts, inboxes, keys, the settings' version and followers' cursors. And settings.bin, the copy from which shards start without it.

mod accounts;
mod cursors;
mod durable;
mod first;
mod known;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

pub(crate) use accounts::{Account, NewAgent};
pub(crate) use cursors::Cursor;
pub(crate) use durable::SettingsFile;
pub(crate) use first::FirstLogin;
pub(crate) use known::Known;

/// The file's name in the data directory.
const FILE: &str = "control.db";
/// Connections at most; SQLite writes one at a time anyway.
const CONNECTIONS: u32 = 4;
/// How long a statement waits for another process (`ringdesk admin`) or connection that writes.
const BUSY: Duration = Duration::from_secs(5);

/// Every migration, oldest first. One that has been released never changes.
const MIGRATIONS: &[(i64, &str, &str)] = &[(1, "first", include_str!("../migrations/0001_first.sql"))];

/// What can go wrong with the store.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// The database cannot be opened, read or written.
    Database(PathBuf, sqlx::Error),
    /// The database is newer than this server, or was changed by hand.
    Migration(PathBuf, MigrateError),
    /// settings.bin cannot be read or written.
    File(PathBuf, std::io::Error),
    /// A row holds what this server never writes.
    Row(&'static str),
    /// The first login cannot be told.
    Untold(std::io::Error),
    /// The system has no randomness.
    Random(getrandom::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Database(path, error) => {
                write!(f, "{}: {error}; look at its permissions and at the room on the disk", path.display())
            }
            StoreError::Migration(path, error) => write!(
                f,
                "{}: {error}; it belongs to another version of ringdesk: start that one, or put a backup in its place",
                path.display()
            ),
            StoreError::File(path, error) => {
                write!(f, "{}: {error}; look at its permissions and at the room on the disk", path.display())
            }
            StoreError::Row(what) => write!(f, "control.db holds {what}; put a backup in its place"),
            StoreError::Untold(error) => write!(
                f,
                "standard output: {error}; the first login cannot be told, so nothing was made: start again where standard output can be written"
            ),
            StoreError::Random(error) => write!(f, "no randomness: {error}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// An open control.db. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: SqlitePool,
    path: PathBuf,
}

impl Store {
    /// Opens control.db in the data directory, makes it if it is not there, and brings its tables up to date.
    pub(crate) async fn open(data_dir: &Path) -> Result<Store, StoreError> {
        Store::open_or(data_dir, true).await
    }

    /// Opens control.db, which must be there: a new and empty one would know none of the accounts that the shards know.
    pub(crate) async fn open_existing(data_dir: &Path) -> Result<Store, StoreError> {
        Store::open_or(data_dir, false).await
    }

    async fn open_or(data_dir: &Path, create: bool) -> Result<Store, StoreError> {
        let path = data_dir.join(FILE);
        let failed = |error| StoreError::Database(path.clone(), error);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(create)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .thread_name(|number| format!("control-db-{number}"));
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(BUSY)
            .connect_with(options)
            .await
            .map_err(failed)?;
        let migrations = MIGRATIONS.iter().map(|&(version, name, sql)| {
            Migration::new(
                version,
                name.into(),
                MigrationType::Simple,
                sqlx::SqlSafeStr::into_sql_str(sql),
                false,
            )
        });
        let migrator = Migrator::with_migrations(migrations.collect());
        migrator.run(&pool).await.map_err(|error| StoreError::Migration(path.clone(), error))?;
        Ok(Store { pool, path })
    }

    fn failed(&self, error: sqlx::Error) -> StoreError {
        StoreError::Database(self.path.clone(), error)
    }

    /// Rises whenever another process changed something that shards should know.
    pub(crate) async fn changes(&self) -> Result<i64, StoreError> {
        self.counter("changes").await
    }

    async fn counter(&self, name: &str) -> Result<i64, StoreError> {
        sqlx::query_scalar("SELECT value FROM counter WHERE name = ?")
            .bind(name)
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.failed(error))
    }

    /// Closes all connections; what was written is on the disk.
    pub(crate) async fn close(self) {
        self.pool.close().await;
    }
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(StoreError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
