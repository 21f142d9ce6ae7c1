//! Small file systems on loop devices, to cut the power of, to fill and to break. Needs root.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// `EXT4_IOC_SHUTDOWN`, `_IOR('X', 125, __u32)`.
const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: stop at once; what was not flushed is gone.
const EXT4_GOING_FLAGS_NOLOGFLUSH: u32 = 2;

/// An ext4 on a loop device on a file.
pub struct Disk {
    image: PathBuf,
    device: String,
    point: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Makes a file of `mb` MiB at `image`, sparse, and an ext4 in it that is mounted at `point`.
    ///
    /// # Errors
    /// If this is not root, or there are no loop devices.
    pub fn new(image: &Path, mb: u64, point: &Path) -> io::Result<Disk> {
        File::create(image)?.set_len(mb << 20)?;
        Disk::on(image, point)
    }

    /// Makes an ext4 in a file that is there and has its size.
    ///
    /// # Errors
    /// As [`Disk::new`].
    pub fn on(image: &Path, point: &Path) -> io::Result<Disk> {
        std::fs::create_dir_all(point)?;
        let device = attach(image)?;
        let mut disk = Disk { image: image.to_owned(), device, point: point.to_owned(), mounted: false };
        // Blocks reserved for root would hide how full it is.
        run(Command::new("mkfs.ext4")
            .args(["-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            .arg(&disk.device))?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Mounts it; the kernel replays its journal first.
    ///
    /// # Errors
    /// If it cannot be mounted.
    pub fn mount(&mut self) -> io::Result<()> {
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", "errors=remount-ro"])
            .arg(&self.device)
            .arg(&self.point))?;
        self.mounted = true;
        Ok(())
    }

    /// Unmounts it; waits a little for whoever still holds it.
    ///
    /// # Errors
    /// If it stays busy.
    pub fn unmount(&mut self) -> io::Result<()> {
        for _ in 0..100 {
            match run(Command::new("umount").arg(&self.point)) {
                Ok(_) => {
                    self.mounted = false;
                    return Ok(());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        run(Command::new("umount").arg(&self.point)).map(|_| self.mounted = false)
    }

    /// Unmounts it, lets go of the device so that nothing of it stays in memory, and mounts it again.
    ///
    /// # Errors
    /// If it stays busy or cannot be mounted.
    pub fn reattach(&mut self, meanwhile: impl FnOnce()) -> io::Result<()> {
        self.unmount()?;
        run(Command::new("losetup").args(["--detach", &self.device]))?;
        meanwhile();
        self.device = attach(&self.image)?;
        self.mount()
    }

    /// Where a file of it lies on the device, in bytes.
    ///
    /// # Errors
    /// If the file system does not say.
    pub fn places(&self, file: &Path) -> io::Result<Vec<std::ops::Range<u64>>> {
        const FIBMAP: libc::c_ulong = 1;
        const FIGETBSZ: libc::c_ulong = 2;
        let file = File::open(file)?;
        let mut size: libc::c_int = 0;
        // SAFETY: the call writes one int through the pointer, which lives longer than the call.
        if unsafe { libc::ioctl(file.as_raw_fd(), FIGETBSZ, &raw mut size) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let size = size as u64;
        let mut places = Vec::new();
        for block in 0..file.metadata()?.len().div_ceil(size) {
            let mut number = block as libc::c_int;
            // SAFETY: the call reads and writes one int through the pointer, which lives longer than the call.
            if unsafe { libc::ioctl(file.as_raw_fd(), FIBMAP, &raw mut number) } != 0 {
                return Err(io::Error::last_os_error());
            }
            if number > 0 {
                places.push(number as u64 * size..(number as u64 + 1) * size);
            }
        }
        Ok(places)
    }

    /// The power is cut: nothing more reaches the device, and what was not flushed is gone after the next mount.
    ///
    /// # Errors
    /// If the file system does not know this.
    pub fn cut(&self) -> io::Result<()> {
        let root = File::open(&self.point)?;
        let flags = EXT4_GOING_FLAGS_NOLOGFLUSH;
        // SAFETY: the call reads one u32 through the pointer, which lives longer than the call.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const flags) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The kernel finds an error and makes the file system read-only, as it does when a device fails.
    ///
    /// # Errors
    /// If the kernel has no such switch.
    pub fn turn_read_only(&self) -> io::Result<()> {
        let name = self.device.rsplit('/').next().expect("a path has an end");
        std::fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "the checker\n")
    }

    /// Repairs it; it must not be mounted.
    ///
    /// # Errors
    /// If it cannot be repaired.
    pub fn repair(&self) -> io::Result<()> {
        let output = Command::new("e2fsck").args(["-fy"]).arg(&self.device).output()?;
        match output.status.code() {
            Some(0..=2) => Ok(()),
            _ => Err(io::Error::other(String::from_utf8_lossy(&output.stdout).into_owned())),
        }
    }

    /// Bytes that are free.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn free(&self) -> io::Result<u64> {
        let path = CString::new(self.point.as_os_str().as_bytes())?;
        let mut found = core::mem::MaybeUninit::<libc::statvfs>::zeroed();
        // SAFETY: the path ends with a zero byte, and the struct is of the right type; both live longer than the call.
        let done = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all of it was zeros, which is a value of it, before the call filled it.
        let found = unsafe { found.assume_init() };
        Ok(found.f_bavail * found.f_frsize)
    }

    /// Fills it up to the last `leave` bytes with a file of zeros; returns the file.
    ///
    /// # Errors
    /// If it cannot be filled.
    pub fn fill(&self, leave: u64) -> io::Result<PathBuf> {
        const PIECE: [u8; 4096] = [0; 4096];
        let path = self.point.join("filler");
        // Most of it at once; what the file system needs for itself shows towards the end.
        let most = self.free()?.saturating_sub(leave + (4 << 20));
        if most > 0 {
            run(Command::new("fallocate").args(["-l", &most.to_string()]).arg(&path))?;
        }
        let mut filler = File::options().create(true).append(true).open(&path)?;
        let mut count = 0u64;
        loop {
            if count.is_multiple_of(16) && self.free()? <= leave {
                break;
            }
            count += 1;
            match filler.write_all(&PIECE).and_then(|()| filler.sync_data()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
        Ok(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = self.unmount()
        {
            eprintln!("{} stays mounted: {error}", self.point.display());
        }
        let _ = run(Command::new("losetup").args(["--detach", &self.device]));
        let _ = std::fs::remove_file(&self.image);
    }
}

fn attach(image: &Path) -> io::Result<String> {
    let found = run(Command::new("losetup").args(["--find", "--show"]).arg(image))?;
    Ok(String::from_utf8_lossy(&found.stdout).trim().to_owned())
}

/// Everything that the kernel holds of files and need not write is forgotten: the next read asks the device.
///
/// # Errors
/// If this is not root.
pub fn drop_caches() -> io::Result<()> {
    std::fs::write("/proc/sys/vm/drop_caches", "3")
}

/// Everything written so far reaches the device of this file system.
///
/// # Errors
/// If it does not.
pub fn sync(path: &Path) -> io::Result<()> {
    run(Command::new("sync").arg("--file-system").arg(path)).map(|_| ())
}

fn run(command: &mut Command) -> io::Result<Output> {
    let output = command
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{:?}: {error}", command.get_program())))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
