//! A device with a write cache that forgets: a file served by FUSE, for a loop device to lie on. What was written and not flushed lives in memory only;
//! a power cut keeps some of its sectors and drops the rest. The ext4 shutdown of `mount` cannot show a missing flush of the device itself; this can.
//!
//! The kernel's side is a file system whose root is one regular file (fuse(4), protocol 7.31). Needs root.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::chance::Chance;

const SECTOR: usize = 512;
/// How long a flush takes: long enough that a cut at a random moment often finds one under way.
const FLUSH_TIME: Duration = Duration::from_millis(1);
/// Largest write the kernel may pass on.
const WRITE_MAX: usize = 256 << 10;

/// What a cut leaves of the cache.
#[derive(Clone, Copy, Debug)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// Each sector of 512 bytes with the chance of a coin.
    Sectors,
    /// Each block of 4,096 bytes with the chance of a coin.
    Blocks,
    /// All: the cache had just been written when the power went.
    All,
}

/// What fails from some moment on, every time and for everybody, until it is mended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Flushes; what they should have flushed is forgotten.
    Flush,
    /// Writes.
    Write,
    /// Both.
    Both,
}

struct Cache {
    durable: File,
    size: u64,
    /// Sectors written since the last flush.
    unflushed: BTreeMap<u64, [u8; SECTOR]>,
    off: bool,
    /// Says yes to a flush and flushes nothing.
    deaf: bool,
    fault: Option<Fault>,
    /// Places to which nothing can be written.
    bad: Vec<Range<u64>>,
    flushes: u64,
}

/// A device with a write cache.
pub struct Volatile {
    file: PathBuf,
    cache: Arc<Mutex<Cache>>,
}

impl Volatile {
    /// Makes a device of `mb` MiB: its durable part lies in `durable`, and the file to use is `file`.
    ///
    /// # Errors
    /// If this is not root or there is no FUSE.
    pub fn new(durable: &Path, mb: u64, file: &Path) -> io::Result<Volatile> {
        let size = mb << 20;
        let durable = File::options().read(true).write(true).create(true).truncate(true).open(durable)?;
        durable.set_len(size)?;
        File::create(file)?;
        let kernel = File::options().read(true).write(true).open("/dev/fuse")?;
        mount(&kernel, file)?;
        let cache = Cache {
            durable,
            size,
            unflushed: BTreeMap::new(),
            off: false,
            deaf: false,
            fault: None,
            bad: Vec::new(),
            flushes: 0,
        };
        let cache = Arc::new(Mutex::new(cache));
        let served = Arc::clone(&cache);
        std::thread::Builder::new().name("volatile".to_owned()).spawn(move || serve(kernel, &served))?;
        Ok(Volatile { file: file.to_owned(), cache })
    }

    /// The file that is the device.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The power goes. Returns how many sectors were in the cache and how many of them were kept.
    pub fn cut(&self, kept: Kept, chance: &mut Chance) -> io::Result<(usize, usize)> {
        let mut cache = self.lock();
        cache.off = true;
        let unflushed = core::mem::take(&mut cache.unflushed);
        let (count, mut left, mut block) = (unflushed.len(), 0, (u64::MAX, false));
        for (sector, bytes) in unflushed {
            let keep = match kept {
                Kept::Nothing => false,
                Kept::All => true,
                Kept::Sectors => chance.often(500),
                Kept::Blocks => {
                    if block.0 != sector / 8 {
                        block = (sector / 8, chance.often(500));
                    }
                    block.1
                }
            };
            if keep {
                left += 1;
                cache.durable.write_all_at(&bytes, sector * SECTOR as u64)?;
            }
        }
        Ok((count, left))
    }

    /// The power is back.
    pub fn restore(&self) {
        self.lock().off = false;
    }

    /// From now on flushes are answered and do nothing, as if nobody had asked for them.
    pub fn deafen(&self) {
        self.lock().deaf = true;
    }

    /// From now on it fails.
    pub fn fail(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// From now on nothing can be written to these places, in bytes; everything else works.
    pub fn fail_at(&self, bad: Vec<Range<u64>>) {
        self.lock().bad = bad;
    }

    /// It works again.
    pub fn mend(&self) {
        let mut cache = self.lock();
        cache.fault = None;
        cache.bad.clear();
    }

    /// Flushes that have reached the device.
    pub fn flushes(&self) -> u64 {
        self.lock().flushes
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        lock(&self.cache)
    }
}

impl Drop for Volatile {
    fn drop(&mut self) {
        // The thread ends when the kernel hangs up.
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.file).output();
    }
}

impl Cache {
    fn read(&self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        let size = (size as u64).min(self.size.saturating_sub(offset)) as usize;
        let mut bytes = vec![0; size];
        self.durable.read_exact_at(&mut bytes, offset)?;
        let first = offset / SECTOR as u64;
        let last = (offset + size as u64).div_ceil(SECTOR as u64);
        for (&sector, cached) in self.unflushed.range(first..last) {
            // A part of the first and the last sector may lie outside.
            let at = sector * SECTOR as u64;
            let (from, to) = (at.max(offset), (at + SECTOR as u64).min(offset + size as u64));
            bytes[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&cached[(from - at) as usize..(to - at) as usize]);
        }
        Ok(bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.off || matches!(self.fault, Some(Fault::Write | Fault::Both)) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let end = offset + bytes.len() as u64;
        if end > self.size {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        if self.bad.iter().any(|bad| bad.start < end && offset < bad.end) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let mut at = offset;
        let mut left = bytes;
        while !left.is_empty() {
            let sector = at / SECTOR as u64;
            let within = (at % SECTOR as u64) as usize;
            let count = left.len().min(SECTOR - within);
            let mut whole = [0; SECTOR];
            if count < SECTOR {
                let before = self.read(sector * SECTOR as u64, SECTOR)?;
                whole[..before.len()].copy_from_slice(&before);
            }
            whole[within..within + count].copy_from_slice(&left[..count]);
            self.unflushed.insert(sector, whole);
            at += count as u64;
            left = &left[count..];
        }
        Ok(())
    }

    /// The end of a flush that began when the cache was `then`. What was written since is not covered by it.
    fn flushed(&mut self, then: &BTreeMap<u64, [u8; SECTOR]>) -> io::Result<()> {
        if self.off {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        if matches!(self.fault, Some(Fault::Flush | Fault::Both)) {
            self.unflushed.retain(|sector, bytes| then.get(sector) != Some(bytes));
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.flushes += 1;
        if self.deaf {
            return Ok(());
        }
        for (&sector, bytes) in then {
            self.durable.write_all_at(bytes, sector * SECTOR as u64)?;
            if self.unflushed.get(&sector) == Some(bytes) {
                self.unflushed.remove(&sector);
            }
        }
        Ok(())
    }
}

fn mount(kernel: &File, file: &Path) -> io::Result<()> {
    let target = CString::new(file.as_os_str().as_bytes())?;
    let options = CString::new(format!("fd={},rootmode=100600,user_id=0,group_id=0", kernel.as_raw_fd()))?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOATIME;
    // SAFETY: all four strings end with a zero byte and live longer than the call.
    let done = unsafe {
        libc::mount(
            c"ringdesk-crash".as_ptr(),
            target.as_ptr(),
            c"fuse".as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

// Operations of <linux/fuse.h>.
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// Bytes of a request before its arguments: length, operation, unique, node, uid, gid, pid, padding.
const HEAD: usize = 40;

fn serve(kernel: File, cache: &Arc<Mutex<Cache>>) {
    let kernel = Arc::new(kernel);
    let mut request = vec![0; WRITE_MAX + 8192];
    loop {
        let size = match (&*kernel).read(&mut request) {
            Ok(size) if size >= HEAD => size,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ENOENT | libc::EAGAIN)) => {
                continue;
            }
            // ENODEV: unmounted.
            _ => return,
        };
        let (operation, unique) = (u32_at(&request, 4), u64_at(&request, 8));
        match operation {
            FORGET | INTERRUPT | BATCH_FORGET => {}
            FSYNC => {
                let (kernel, cache) = (Arc::clone(&kernel), Arc::clone(cache));
                let then = lock(&cache).unflushed.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(FLUSH_TIME);
                    let done = lock(&cache).flushed(&then);
                    reply(&kernel, unique, done.map(|()| Vec::new()));
                });
            }
            _ => reply(&kernel, unique, answer(operation, &request[HEAD..size], &mut lock(cache))),
        }
    }
}

fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reply(mut kernel: &File, unique: u64, answer: io::Result<Vec<u8>>) {
    let (error, body) = match answer {
        Ok(body) => (0, body),
        Err(error) => (-error.raw_os_error().unwrap_or(libc::EIO), Vec::new()),
    };
    let mut reply = Vec::with_capacity(16 + body.len());
    reply.extend_from_slice(&(16 + body.len() as u32).to_ne_bytes());
    reply.extend_from_slice(&error.to_ne_bytes());
    reply.extend_from_slice(&unique.to_ne_bytes());
    reply.extend_from_slice(&body);
    // ENOENT: whoever asked has gone.
    let _ = kernel.write(&reply);
}

fn answer(operation: u32, body: &[u8], cache: &mut Cache) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match operation {
        INIT => {
            const BIG_WRITES: u32 = 1 << 5;
            const MAX_PAGES: u32 = 1 << 22;
            // major, minor, max_readahead, flags
            for word in [7u32, 31, u32_at(body, 8), BIG_WRITES | MAX_PAGES] {
                out.extend_from_slice(&word.to_ne_bytes());
            }
            // max_background, congestion_threshold
            out.extend_from_slice(&[16, 0, 12, 0]);
            // max_write, time_gran
            out.extend_from_slice(&(WRITE_MAX as u32).to_ne_bytes());
            out.extend_from_slice(&1u32.to_ne_bytes());
            out.extend_from_slice(&((WRITE_MAX / 4096) as u16).to_ne_bytes());
            out.resize(64, 0);
        }
        GETATTR => {
            out.resize(16, 0);
            for word in [1, cache.size, cache.size / 512, 0, 0, 0] {
                out.extend_from_slice(&word.to_ne_bytes());
            }
            // Three nanoseconds, mode, nlink, uid, gid, rdev, blksize, flags.
            for word in [0u32, 0, 0, libc::S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0] {
                out.extend_from_slice(&word.to_ne_bytes());
            }
        }
        OPEN => out.resize(16, 0),
        READ => out = cache.read(u64_at(body, 8), u32_at(body, 16) as usize)?,
        WRITE => {
            let size = u32_at(body, 16);
            cache.write(u64_at(body, 8), &body[HEAD..HEAD + size as usize])?;
            out.extend_from_slice(&size.to_ne_bytes());
            out.resize(8, 0);
        }
        STATFS => {
            out.resize(80, 0);
            out[40..44].copy_from_slice(&4096u32.to_ne_bytes());
            out[44..48].copy_from_slice(&255u32.to_ne_bytes());
        }
        // A close flushes nothing.
        FLUSH | RELEASE => {}
        _ => return Err(io::Error::from_raw_os_error(libc::ENOSYS)),
    }
    Ok(out)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_flushed_is_forgotten() {
        let path = std::env::temp_dir().join(format!("ringdesk-crash-volatile-{}", std::process::id()));
        let durable = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        durable.set_len(1 << 20).unwrap();
        let cache = Cache {
            durable,
            size: 1 << 20,
            unflushed: BTreeMap::new(),
            off: false,
            deaf: false,
            fault: None,
            bad: Vec::new(),
            flushes: 0,
        };
        let volatile = Volatile { file: path.clone(), cache: Arc::new(Mutex::new(cache)) };
        let mut chance = Chance::new(1);
        volatile.lock().write(100, b"flushed").unwrap();
        let then = volatile.lock().unflushed.clone();
        volatile.lock().write(2_048, b"after the flush began").unwrap();
        volatile.lock().flushed(&then).unwrap();
        volatile.lock().write(102, b"not flushed, over two sectors").unwrap();
        volatile.lock().write(500, &[7; 1_000]).unwrap();
        assert_eq!(volatile.lock().read(498, 4).unwrap(), [0, 0, 7, 7]);
        assert_eq!(&volatile.lock().read(100, 8).unwrap(), b"flnot fl");
        assert_eq!(volatile.cut(Kept::Nothing, &mut chance).unwrap(), (4, 0));
        assert!(volatile.lock().write(0, b"x").is_err() && volatile.lock().flushed(&then).is_err());
        volatile.restore();
        assert_eq!(&volatile.lock().read(100, 8).unwrap(), b"flushed\0");
        assert_eq!(volatile.lock().read(2_048, 5).unwrap(), [0; 5]);
        volatile.lock().write(0, &[1; 4096]).unwrap();
        let (count, left) = volatile.cut(Kept::Sectors, &mut chance).unwrap();
        assert!(count == 8 && (1..8).contains(&left), "{left} of {count}");
        std::fs::remove_file(path).unwrap();
    }
}
