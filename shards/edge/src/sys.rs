//! Small safe doors to system calls that the standard library does not have.

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Turns the C convention "negative means look at errno" into a result.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes over a descriptor that a system call has just returned.
pub(crate) fn own(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0, "a descriptor is not negative");
    // SAFETY: the caller has just got this number from the kernel and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A second descriptor for the same thing, closed on exec.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed; a number that is no descriptor is answered with an error.
    let fd = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) })?;
    Ok(own(fd))
}

/// A new event counter at 0, non-blocking and closed on exec.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    Ok(own(fd))
}

/// Adds one to an event counter; whoever polls it wakes.
pub(crate) fn ring_eventfd(fd: BorrowedFd<'_>) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: the buffer is eight readable bytes. A full counter (EAGAIN) is already readable, so nothing is lost.
    let _ = unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

/// Sets an event counter back to 0 and says whether it was above.
pub(crate) fn clear_eventfd(fd: BorrowedFd<'_>) -> bool {
    let mut count = [0u8; 8];
    // SAFETY: the buffer is eight writable bytes.
    let read = unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    read == 8
}

/// Sets an integer socket option.
pub(crate) fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let size = mem::size_of::<i32>() as libc::socklen_t;
    // SAFETY: the pointer is to an i32 and the size says so; the kernel only reads it.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size) }).map(drop)
}

/// Ends our half of a connection: what was sent is delivered, then the peer reads an end.
pub(crate) fn shut_down_writing(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) }).map(drop)
}

/// Nanoseconds of the monotonic clock.
pub(crate) fn mono_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    clock_ns(libc::CLOCK_REALTIME) / 1_000_000
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that outlives the call.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(result, 0, "both clocks exist on every Linux");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Fills `bytes` from the kernel's source of chance.
pub(crate) fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &mut bytes[done..];
        // SAFETY: the pointer and the length are of the same writable slice.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        if got < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        } else {
            done += got as usize;
        }
    }
    Ok(())
}

/// The kernel's number of this thread.
pub(crate) fn thread_id() -> libc::pid_t {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::gettid() }
}

/// A soft and a hard limit of this process; `u64::MAX` is none.
pub(crate) fn limit(which: libc::__rlimit_resource_t) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to an rlimit that outlives the call.
    check(unsafe { libc::getrlimit(which, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets a soft limit; `hard` stays what it is.
pub(crate) fn set_limit(which: libc::__rlimit_resource_t, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the pointer is to an rlimit that outlives the call; the kernel only reads it.
    check(unsafe { libc::setrlimit(which, &raw const limit) }).map(drop)
}

/// What a file system says about direct I/O on a file: how memory and offsets must be aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DirectAlign {
    pub(crate) memory: u32,
    pub(crate) offset: u32,
}

/// Asks `statx` for the alignment of direct I/O; `None` where the file system does not say or cannot do it.
pub(crate) fn direct_align(path: &Path) -> io::Result<Option<DirectAlign>> {
    const STATX_DIOALIGN: u32 = 0x2000;
    let name = c_path(path)?;
    // SAFETY: `statx` is plain numbers; all zeros is a valid value.
    let mut found: libc::statx = unsafe { mem::zeroed() };
    // SAFETY: the name is a C string and the result a statx, and both outlive the call.
    check(unsafe { libc::statx(libc::AT_FDCWD, name.as_ptr(), 0, STATX_DIOALIGN, &raw mut found) })?;
    let known = found.stx_mask & STATX_DIOALIGN != 0 && found.stx_dio_offset_align != 0;
    Ok(known.then_some(DirectAlign { memory: found.stx_dio_mem_align, offset: found.stx_dio_offset_align }))
}

/// A path as a C string.
pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path with a zero byte"))
}

/// Tries to take an exclusive lock on an open file that dies with its last descriptor; `false` if another has it.
pub(crate) fn try_lock(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut lock = whole_file_lock(libc::F_WRLCK);
    // SAFETY: the pointer is to a flock that outlives the call.
    match check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) }) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn whole_file_lock(kind: libc::c_int) -> libc::flock {
    // SAFETY: `flock` is plain numbers; all zeros is a valid value (and l_pid must be 0 for this kind of lock).
    let mut lock: libc::flock = unsafe { mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}
