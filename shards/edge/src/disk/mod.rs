//! Files: one lock, and for each shard a directory with a superblock and segments.
//!
//! ```text
//! data_dir/
//!   lock                              held by the running server; holds its process id
//!   disk                              what was measured of this disk, and so how blocks are written
//!   journal/<generation>/<shard>/
//!     superblock                      four copies of one page
//!     00000001.seg 00000002.seg …     segments, whole and zero-written before they are used
//!     00000003.tmp                    one that is being made; removed at the next start
//! ```
//! Everything here blocks, so it runs before a shard serves, or on the thread that prepares segments. Blocks themselves are written by the ring.

mod files;
mod lock;
mod measure;
mod prepare;
mod superblock;

pub use files::{Files, generation_of, journal_directory};
pub use lock::Lock;
pub use measure::{Figures, Measured, alignment, measure};

pub(crate) use files::{open_segment, remove_partial};
pub(crate) use lock::LockError;
pub(crate) use measure::remembered_or_measured;
pub(crate) use prepare::{Answers, Job, Make, Prepared, Preparer};
pub(crate) use superblock::{
    create as create_superblock, load as load_superblock, note_failed_flush, path as superblock_path,
    store as store_superblock,
};

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// How a block gets to the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// One write through `O_DIRECT | O_DSYNC` over zero-written blocks: where the device confirms single writes, no flush at all.
    Overwrite,
    /// A write into the page cache, and when it has completed an `fdatasync`.
    WriteThenFlush,
}

impl Strategy {
    /// Its name in files, reports and settings.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Overwrite => "overwrite",
            Strategy::WriteThenFlush => "flush",
        }
    }

    /// The strategy of that name.
    pub fn parse(name: &str) -> Option<Strategy> {
        [Strategy::Overwrite, Strategy::WriteThenFlush].into_iter().find(|strategy| strategy.name() == name)
    }
}

/// Who chooses the strategy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Choice {
    /// A measurement at the first start with this disk and this number of shards, which is remembered.
    #[default]
    Measured,
    /// The operator.
    Fixed(Strategy),
}

/// A file operation that failed: what was being done, to which file, and what the kernel said.
#[derive(Debug)]
pub struct DiskError {
    /// As in "cannot … ".
    pub doing: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the kernel said.
    pub error: io::Error,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} ({}): {}", self.doing, self.path.display(), self.error)?;
        match self.error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => f.write_str(". Make room on that file system"),
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
                f.write_str(". Give ringdesk's user the right to write there")
            }
            Some(libc::EIO) => f.write_str(". The device fails: look at `dmesg`, restore from a backup"),
            _ => f.write_str(". `ringdesk doctor` looks at the directory and the disk"),
        }
    }
}

impl std::error::Error for DiskError {}

/// Adds to an error of the kernel what was being done to which file.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|error| DiskError { doing, path: path.to_owned(), error })
    }
}

/// Makes a directory and those above it, and flushes the entries of the new ones.
pub(crate) fn make_directory(path: &Path) -> Result<(), DiskError> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        make_directory(above)?;
    }
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).doing("make the directory", path),
    }
    flush_directory(above.unwrap_or(Path::new(".")))
}

/// Flushes a directory, so that the names in it survive a power cut.
pub(crate) fn flush_directory(path: &Path) -> Result<(), DiskError> {
    File::open(path).and_then(|directory| directory.sync_all()).doing("flush the directory", path)
}
