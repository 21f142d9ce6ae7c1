//! A shard's journal directory, as the journal crate reads it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use journal::{FileSlot, FileSlotId, Medium};

use super::{DiskError, Doing, Strategy};

const SEGMENT: &str = "seg";
const PARTIAL: &str = "tmp";

/// The directory of one shard's journal.
pub fn journal_directory(data_dir: &Path, generation: u32, shard: u16) -> PathBuf {
    data_dir.join("journal").join(generation.to_string()).join(shard.to_string())
}

/// The generation of journals that is in use: the highest there is, or 1 in a new data directory.
///
/// # Errors
/// When the directory is there and cannot be listed.
pub fn generation_of(data_dir: &Path) -> Result<u32, DiskError> {
    let path = data_dir.join("journal");
    let listing = match fs::read_dir(&path) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(1),
        Err(error) => return Err(error).doing("list the directory", &path),
    };
    let mut highest = 1;
    for entry in listing {
        let name = entry.doing("list the directory", &path)?.file_name();
        if let Some(number) = name.to_str().and_then(|name| name.parse().ok()) {
            highest = highest.max(number);
        }
    }
    Ok(highest)
}

/// The path of a segment file.
pub(crate) fn segment_path(directory: &Path, id: FileSlotId) -> PathBuf {
    directory.join(format!("{:08}.{SEGMENT}", id.0))
}

/// The path of a segment file that is being made.
pub(crate) fn partial_path(directory: &Path, id: FileSlotId) -> PathBuf {
    directory.join(format!("{:08}.{PARTIAL}", id.0))
}

/// Opens a whole segment file for the ring to write to.
pub(crate) fn open_segment(directory: &Path, id: FileSlotId, direct: Option<Strategy>) -> io::Result<File> {
    let flags = if direct == Some(Strategy::Overwrite) { libc::O_DIRECT | libc::O_DSYNC } else { 0 };
    OpenOptions::new().write(true).custom_flags(flags).open(segment_path(directory, id))
}

/// Removes what a crash left of segments that were being made.
pub(crate) fn remove_partial(directory: &Path) -> Result<(), DiskError> {
    for entry in fs::read_dir(directory).doing("list the directory", directory)? {
        let path = entry.doing("list the directory", directory)?.path();
        if path.extension().is_some_and(|extension| extension == PARTIAL) {
            fs::remove_file(&path).doing("remove", &path)?;
        }
    }
    Ok(())
}

/// The segment files of one journal directory. Every look lists the directory again, so a reader sees segments that come later.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    /// Flush a file before its first read, as recovery wants it; what is read is then also on the device.
    flush: bool,
    /// A flush failed: what a killed process left in the page cache is not to be believed.
    flush_failed: bool,
    open: Vec<(FileSlotId, File)>,
}

impl Files {
    /// For recovery: each file is flushed before it is read.
    pub(crate) fn to_recover(directory: &Path) -> Files {
        Files { directory: directory.to_owned(), flush: true, flush_failed: false, open: Vec::new() }
    }

    /// For followers and for `journal dump|verify`: changes nothing, flushes nothing. Beside a running server only what it reported durable may be
    /// believed.
    pub fn to_read(directory: &Path) -> Files {
        Files { directory: directory.to_owned(), flush: false, flush_failed: false, open: Vec::new() }
    }

    /// Whether a flush has failed.
    pub(crate) fn has_failed_to_flush(&self) -> bool {
        self.flush_failed
    }

    fn file(&self, id: FileSlotId) -> io::Result<&File> {
        let found = self.open.binary_search_by_key(&id, |(id, _)| *id);
        found.map(|at| &self.open[at].1).map_err(|_| io::ErrorKind::NotFound.into())
    }

    fn list(&self) -> io::Result<Vec<FileSlotId>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let segment = path.extension().is_some_and(|extension| extension == SEGMENT);
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            if let (true, Some(number)) = (segment, number) {
                found.push(FileSlotId(number));
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Drops what the page cache holds of a file, so that the next read asks the device.
///
/// After a write-back that failed Linux keeps the pages and calls them clean: they read back right, and the device does not have them. A flush on a new
/// descriptor does not report that again. Recovery must not call durable what only such a page holds.
fn forget_cached(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed; the call reads and writes no memory of ours.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

impl Medium for Files {
    fn segments(&mut self) -> io::Result<Vec<FileSlot>> {
        let found = self.list()?;
        self.open.retain(|(id, _)| found.binary_search(id).is_ok());
        let mut slots = Vec::with_capacity(found.len());
        for id in found {
            let at = match self.open.binary_search_by_key(&id, |(id, _)| *id) {
                Ok(at) => at,
                Err(at) => {
                    let file = File::open(segment_path(&self.directory, id))?;
                    if self.flush {
                        if let Err(error) = file.sync_all() {
                            self.flush_failed = true;
                            return Err(error);
                        }
                        forget_cached(&file)?;
                    }
                    self.open.insert(at, (id, file));
                    at
                }
            };
            slots.push(FileSlot { id, len: self.open[at].1.metadata()?.len() });
        }
        Ok(slots)
    }

    fn read_at(&mut self, slot: FileSlotId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file(slot)?.read_at(buf, offset)
    }

    fn len(&mut self, slot: FileSlotId) -> io::Result<u64> {
        Ok(self.file(slot)?.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn segments_are_found_by_number_and_nothing_else_is() {
        let scratch = Scratch::new("files");
        let at = |name: &str| scratch.path().join(name);
        fs::write(at("00000002.seg"), b"two").unwrap();
        fs::write(at("00000001.seg"), b"one").unwrap();
        fs::write(at("00000003.tmp"), b"partial").unwrap();
        fs::write(at("superblock"), b"other").unwrap();
        let mut files = Files::to_recover(scratch.path());
        let found = files.segments().unwrap();
        assert_eq!(found, [1, 2].map(|id| FileSlot { id: FileSlotId(id), len: 3 }));
        let mut bytes = [0; 8];
        assert_eq!(files.read_at(FileSlotId(2), 1, &mut bytes).unwrap(), 2);
        assert_eq!(&bytes[..2], b"wo");
        remove_partial(scratch.path()).unwrap();
        assert!(!at("00000003.tmp").exists() && at("00000002.seg").exists());
        fs::write(at("00000007.seg"), b"later").unwrap();
        assert_eq!(files.segments().unwrap().len(), 3, "a look lists the directory again");
    }

    #[test]
    fn the_highest_generation_is_in_use() {
        let scratch = Scratch::new("generation");
        assert_eq!(generation_of(scratch.path()).unwrap(), 1);
        fs::create_dir_all(scratch.path().join("journal/3")).unwrap();
        fs::create_dir_all(scratch.path().join("journal/12")).unwrap();
        assert_eq!(generation_of(scratch.path()).unwrap(), 12);
    }
}
