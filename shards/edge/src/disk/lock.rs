//! One server on one data directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::{DiskError, Doing, make_directory};
use crate::sys;

/// How often a taken lock is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// A ring of a killed process may hold the lock for a moment longer than the process lives.
const TRIES: u32 = 50;

/// The lock of a data directory, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another process has it; perhaps we know which.
    Held { pid: Option<u32> },
    /// The file cannot be used.
    Disk(DiskError),
}

impl Lock {
    /// Takes the lock of `data_dir`, which is made if it is not there; tries for five seconds.
    pub(crate) fn take(data_dir: &Path) -> Result<Lock, LockError> {
        Self::take_within(data_dir, TRIES)
    }

    fn take_within(data_dir: &Path, tries: u32) -> Result<Lock, LockError> {
        make_directory(data_dir).map_err(LockError::Disk)?;
        let path = data_dir.join("lock");
        let mut file = open(&path).map_err(LockError::Disk)?;
        for attempt in 0..tries {
            if attempt > 0 {
                wait();
            }
            if sys::try_lock(file.as_fd()).doing("lock", &path).map_err(LockError::Disk)? {
                // The number is a courtesy to whoever comes second; the lock itself is the kernel's.
                let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
                return Ok(Lock { _file: file });
            }
        }
        Err(LockError::Held { pid: holder(&path) })
    }

    /// Who holds the lock of a data directory, without taking it: `None` if it is free, or if the holder left no number.
    pub fn holder(data_dir: &Path) -> Option<u32> {
        let path: PathBuf = data_dir.join("lock");
        let file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
        if sys::try_lock(file.as_fd()).unwrap_or(true) { None } else { holder(&path) }
    }
}

fn open(path: &Path) -> Result<File, DiskError> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).doing("open", path)
}

fn holder(path: &Path) -> Option<u32> {
    let mut file = File::open(path).ok()?;
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "before any shard runs; nothing else is to be done meanwhile")]
fn wait() {
    thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_second_server_is_refused_and_told_who_holds_the_directory() {
        let scratch = Scratch::new("lock");
        let first = Lock::take_within(scratch.path(), 1).unwrap();
        assert_eq!(Lock::holder(scratch.path()), Some(std::process::id()));
        match Lock::take_within(scratch.path(), 3) {
            Err(LockError::Held { pid }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("the lock was given twice: {other:?}"),
        }
        drop(first);
        assert_eq!(Lock::holder(scratch.path()), None);
        Lock::take_within(scratch.path(), 1).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let scratch = Scratch::new("lock-file");
        let file = scratch.path().join("a-file");
        File::create(&file).unwrap();
        match Lock::take_within(&file.join("data"), 1) {
            Err(LockError::Disk(error)) => assert!(error.to_string().contains("a-file")),
            other => panic!("a file is no directory: {other:?}"),
        }
    }
}
