//! The superblock's file: made once, then overwritten one half after the other.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use journal::{SUPERBLOCK_COPIES, Superblock, SuperblockError};

use super::{DiskError, Doing, flush_directory};

/// The path of a journal's superblock.
pub(crate) fn path(directory: &Path) -> PathBuf {
    directory.join("superblock")
}

/// Reads the newest copy that holds. `Ok(None)`: there is no file.
pub(crate) fn load(directory: &Path) -> Result<Option<Result<Superblock, SuperblockError>>, DiskError> {
    let path = path(directory);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(Superblock::decode_best(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing("read the superblock", &path),
    }
}

/// Makes the file with all copies: it is there whole and flushed, or not at all.
pub(crate) fn create(directory: &Path, superblock: &Superblock) -> Result<(), DiskError> {
    let path = path(directory);
    let partial = directory.join("superblock.tmp");
    let copies: Vec<u8> = (0..SUPERBLOCK_COPIES).flat_map(|copy| superblock.encode(copy)).collect();
    let write = || -> io::Result<()> {
        let mut file = File::create(&partial)?;
        file.write_all(&copies)?;
        file.sync_all()?;
        fs::rename(&partial, &path)
    };
    write().doing("make the superblock", &path)?;
    flush_directory(directory)
}

/// Overwrites half of the copies, flushes, and then the other half.
pub(crate) fn store(directory: &Path, superblock: &Superblock) -> Result<(), DiskError> {
    let path = path(directory);
    let write = || -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&path)?;
        for (at, half) in superblock.halves() {
            file.write_all_at(&half, at)?;
            file.sync_data()?;
        }
        Ok(())
    };
    write().doing("write the superblock", &path)
}

/// Notes that a flush failed of what was acknowledged before it (level memory), so that the next recovery does not believe the page cache.
pub(crate) fn note_failed_flush(shard: u16, directory: &Path) {
    let noted = match load(directory) {
        Ok(Some(Ok(superblock))) => match superblock.in_doubt() {
            Some(doubtful) => store(directory, &doubtful).map(|()| true),
            None => Ok(false),
        },
        Ok(_) => Ok(false),
        Err(error) => Err(error),
    };
    match noted {
        Ok(true) => log::error!(
            "shard {shard}: words that were acknowledged at level memory may be gone with the flush that failed; the next start tells every client"
        ),
        Ok(false) => {}
        Err(error) => log::error!(
            "shard {shard}: words that were acknowledged at level memory may be gone with the flush that failed, and the next start will not know: {error}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use journal::Geometry;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_superblock_is_read_back_as_it_was_stored() {
        let scratch = Scratch::new("superblock");
        assert!(load(scratch.path()).unwrap().is_none());
        let geometry = Geometry { segment_size: 1 << 20, align: 512 };
        let first = Superblock::new([3; 16], 77, 1, 2, geometry);
        create(scratch.path(), &first).unwrap();
        assert_eq!(load(scratch.path()).unwrap().unwrap().unwrap(), first);
        let second = first.with_files(4);
        store(scratch.path(), &second).unwrap();
        assert_eq!(load(scratch.path()).unwrap().unwrap().unwrap(), second);
        assert!(!scratch.path().join("superblock.tmp").exists());
    }
}
