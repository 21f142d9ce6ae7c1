//! What the host itself costs: one write to the disk, and one ping-pong over loopback.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

const BLOCK: usize = 4096;
const FILE_BLOCKS: usize = 4096;

/// A histogram of nanoseconds, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are sound")
}

/// One 4 KiB overwrite after the other, O_DIRECT and O_DSYNC, in a file that was written before.
pub(crate) fn disk(dir: &Path, time: Duration) -> Result<Histogram<u64>, String> {
    let path = dir.join(format!("ringdesk-bench-disk-{}", std::process::id()));
    let doing = |error: std::io::Error| format!("{}: {error}", path.display());
    std::fs::write(&path, vec![0; BLOCK * FILE_BLOCKS]).map_err(doing)?;
    std::fs::File::open(&path).and_then(|file| file.sync_all()).map_err(doing)?;
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT | libc::O_DSYNC)
        .open(&path)
        .map_err(doing)?;
    let layout = Layout::from_size_align(BLOCK, BLOCK).expect("a page is a layout");
    // SAFETY: the layout has a size above zero.
    let block = unsafe { alloc_zeroed(layout) };
    assert!(!block.is_null(), "a page can be had");
    let mut times = histogram();
    let began = Instant::now();
    let mut at = 0;
    while began.elapsed() < time {
        let offset = (at % FILE_BLOCKS * BLOCK) as libc::off_t;
        let start = Instant::now();
        // SAFETY: the block is BLOCK bytes and lives until the end of this function.
        let written = unsafe { libc::pwrite(file.as_raw_fd(), block.cast(), BLOCK, offset) };
        times.saturating_record(start.elapsed().as_nanos() as u64);
        if written != BLOCK as isize {
            return Err(doing(std::io::Error::last_os_error()));
        }
        at += 1;
    }
    // SAFETY: it was allocated above with this layout, and nothing writes from it any more.
    unsafe { dealloc(block, layout) };
    std::fs::remove_file(&path).map_err(doing)?;
    Ok(times)
}

/// 64 bytes there and back over one loopback connection between two threads that block.
pub(crate) fn ping_pong(time: Duration) -> Result<Histogram<u64>, String> {
    let doing = |error: std::io::Error| error.to_string();
    let listener = TcpListener::bind("127.0.0.1:0").map_err(doing)?;
    let address = listener.local_addr().map_err(doing)?;
    let echo = std::thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let _ = stream.set_nodelay(true);
        let mut bytes = [0; 64];
        while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
    });
    let mut stream = TcpStream::connect(address).map_err(doing)?;
    stream.set_nodelay(true).map_err(doing)?;
    let mut bytes = [7; 64];
    let mut times = histogram();
    let began = Instant::now();
    while began.elapsed() < time {
        let start = Instant::now();
        stream.write_all(&bytes).and_then(|()| stream.read_exact(&mut bytes)).map_err(doing)?;
        times.saturating_record(start.elapsed().as_nanos() as u64);
    }
    drop(stream);
    let _ = echo.join();
    Ok(times)
}

/// `p50/p99/p99.9/max` in microseconds.
pub(crate) fn line(name: &str, times: &Histogram<u64>) -> String {
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    format!(
        "{name:<28} n {:>8}  p50 {:>9.1}  p99 {:>9.1}  p99.9 {:>9.1}  max {:>9.1} µs",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        times.max() as f64 / 1000.0
    )
}
