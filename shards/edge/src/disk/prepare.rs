//! Makes segments ready on a thread of its own: allocate, write zeros, flush file and directory. The only place where a full disk may show.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use journal::{BlockBuf, FileSlotId};
use mail::queue::Outbox;
use mail::sleep::Doorbell;
use shard::StorageError;

use super::files::{open_segment, partial_path, segment_path};
use super::{Strategy, flush_directory};
use crate::{exit, sys};

/// Jobs that may wait; a shard asks for one segment at a time, so this is for 64 shards.
const JOBS: usize = 256;
/// Bytes of zeros written at once.
const CHUNK: usize = 1 << 20;

/// A segment to be made ready.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) shard: u16,
    pub(crate) directory: Arc<Path>,
    pub(crate) segment: u32,
    /// The file to hold it.
    pub(crate) id: FileSlotId,
    pub(crate) make: Make,
    pub(crate) size: u32,
    /// How the ring will write to it; `None` = without a flush.
    pub(crate) strategy: Option<Strategy>,
}

/// What there is already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Make {
    /// No such file.
    New,
    /// A file that holds nothing of the log: zeros over it.
    Wipe,
    /// A segment of the log: it is only opened.
    Open,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) segment: u32,
    pub(crate) id: FileSlotId,
    pub(crate) make: Make,
    /// The file, opened as the ring writes to it.
    pub(crate) result: Result<File, StorageError>,
}

/// The way back to one shard.
pub(crate) struct Answers {
    pub(crate) outbox: Outbox<Prepared>,
    pub(crate) doorbell: Doorbell,
    pub(crate) wake: Arc<OwnedFd>,
}

/// The sender's end, one for each shard. The thread ends with the last of them.
#[derive(Clone)]
pub(crate) struct Preparer {
    jobs: SyncSender<Job>,
}

impl Preparer {
    /// Starts the thread. `answers[i]` leads to shard `i`.
    pub(crate) fn start(answers: Vec<Answers>) -> io::Result<Preparer> {
        let (jobs, queue) = sync_channel(JOBS);
        thread::Builder::new().name("segments".into()).spawn(move || serve(queue, answers))?;
        Ok(Preparer { jobs })
    }

    /// Hands a job over; never waits. `false`: the thread is behind by 256 jobs, or gone.
    pub(crate) fn send(&self, job: Job) -> bool {
        match self.jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

fn serve(queue: Receiver<Job>, mut answers: Vec<Answers>) {
    exit::on_panic(
        "the thread that prepares segments panicked; a journal without a next segment cannot go on".into(),
    );
    let mut zeros = BlockBuf::with_capacity(CHUNK);
    zeros.set_len(CHUNK);
    for job in queue {
        let result = prepare(&job, zeros.as_bytes()).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => StorageError::Full,
            _ => StorageError::Failed(format!("segment {} cannot be prepared: {error}", job.segment)),
        });
        let answers = &mut answers[usize::from(job.shard)];
        answers.outbox.push(Prepared { segment: job.segment, id: job.id, make: job.make, result });
        answers.outbox.flush();
        answers.doorbell.ring(|| sys::ring_eventfd(answers.wake.as_fd()));
    }
}

/// Makes one segment ready. On an error nothing new is left behind.
pub(crate) fn prepare(job: &Job, zeros: &[u8]) -> io::Result<File> {
    let path = segment_path(&job.directory, job.id);
    match job.make {
        Make::Open => {}
        Make::Wipe => {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(job.size.into())?;
            fill(&file, job.size, zeros)?;
        }
        Make::New => {
            let partial = partial_path(&job.directory, job.id);
            let made = make(&partial, job.size, zeros).and_then(|()| fs::rename(&partial, &path));
            if let Err(error) = made {
                let _ = fs::remove_file(&partial);
                return Err(error);
            }
        }
    }
    flush_directory(&job.directory).map_err(|failed| failed.error)?;
    open_segment(&job.directory, job.id, job.strategy)
}

fn make(path: &Path, size: u32, zeros: &[u8]) -> io::Result<()> {
    let file = File::create(path)?;
    // Contiguous room first, where the file system can; then zeros over it, so that later writes change no metadata.
    // SAFETY: no pointers are passed.
    let allocated = sys::check(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, size.into()) });
    match allocated {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => Err(error),
        _ => fill(&file, size, zeros),
    }
}

fn fill(file: &File, size: u32, zeros: &[u8]) -> io::Result<()> {
    let mut at = 0u64;
    while at < u64::from(size) {
        let chunk = zeros.len().min((u64::from(size) - at) as usize);
        file.write_all_at(&zeros[..chunk], at)?;
        at += chunk as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn job(directory: &Path, id: u32, size: u32) -> Job {
        let directory = Arc::from(directory);
        let strategy = Some(Strategy::WriteThenFlush);
        Job { shard: 0, directory, segment: id, id: FileSlotId(id), make: Make::New, size, strategy }
    }

    #[test]
    fn a_segment_is_whole_zero_and_under_its_name() {
        let scratch = Scratch::new("prepare");
        let zeros = vec![0; CHUNK];
        prepare(&job(scratch.path(), 1, 3 << 20), &zeros).unwrap();
        let bytes = fs::read(scratch.path().join("00000001.seg")).unwrap();
        assert_eq!(bytes.len(), 3 << 20);
        assert!(bytes.iter().all(|byte| *byte == 0));
        assert!(!scratch.path().join("00000001.tmp").exists());
    }

    #[test]
    fn a_free_file_is_wiped_and_brought_to_size() {
        let scratch = Scratch::new("reuse");
        let path = scratch.path().join("00000004.seg");
        fs::write(&path, vec![7; 100_000]).unwrap();
        prepare(&Job { make: Make::Wipe, ..job(scratch.path(), 4, 1 << 20) }, &vec![0; CHUNK]).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 1 << 20);
        assert!(bytes.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_full_disk_shows_here_and_leaves_nothing_behind() {
        let scratch = Scratch::new("full");
        let Some(small) = SmallDisk::mount(scratch.path(), 2 << 20) else {
            eprintln!("skipped: mounting a tmpfs is not permitted here");
            return;
        };
        let zeros = vec![0; CHUNK];
        prepare(&job(small.path, 1, 1 << 20), &zeros).unwrap();
        let error = prepare(&job(small.path, 2, 4 << 20), &zeros).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        let names: Vec<_> =
            fs::read_dir(small.path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["00000001.seg"], "the partial file is gone");
        fs::remove_file(small.path.join("00000001.seg")).unwrap();
        prepare(&job(small.path, 2, 1 << 20), &zeros).expect("there is room again");
    }

    /// A tmpfs of a few megabytes, unmounted at the end.
    struct SmallDisk<'a> {
        path: &'a Path,
    }

    impl<'a> SmallDisk<'a> {
        fn mount(path: &'a Path, bytes: u32) -> Option<SmallDisk<'a>> {
            let target = sys::c_path(path).unwrap();
            let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
            // SAFETY: all four pointers are to C strings that outlive the call.
            let result = unsafe {
                libc::mount(c"tmpfs".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast())
            };
            (result == 0).then_some(SmallDisk { path })
        }
    }

    impl Drop for SmallDisk<'_> {
        fn drop(&mut self) {
            let target = sys::c_path(self.path).unwrap();
            // SAFETY: the pointer is to a C string that outlives the call.
            unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        }
    }
}
