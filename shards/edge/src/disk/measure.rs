//! Which way to write is right for this disk: measured, not believed.
//!
//! As many streams as there are shards write 4 KiB blocks over a file that was written before, one write in flight each, as the shards will. Both
//! strategies get the same time. What has the lower mean wins, because a group commit is as long as its write.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use journal::{BlockBuf, Level};

use super::{Choice, DiskError, Doing, Strategy, make_directory};
use crate::sys;

/// Bytes of a measured block.
const BLOCK: usize = 4096;
/// Bytes of the file each stream writes over.
const FILE: u64 = 4 << 20;
/// How long each strategy is measured.
const WINDOW_NS: u64 = 300_000_000;

/// How long the writes of one strategy took, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Half of the writes were at least this quick.
    pub p50_us: u64,
    /// 99 of 100 were.
    pub p99_us: u64,
    /// The mean.
    pub mean_us: u64,
}

/// What was measured of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Measured {
    /// The device's number, so that a move to another disk is noticed.
    pub device: u64,
    /// How many streams wrote at a time.
    pub streams: u16,
    /// Overwriting with `O_DIRECT | O_DSYNC`; `None` where the file system cannot.
    pub overwrite: Option<Figures>,
    /// A write, then `fdatasync`.
    pub flush: Figures,
}

impl Measured {
    /// The strategy with the lower mean.
    pub fn choice(&self) -> Strategy {
        match self.overwrite {
            Some(overwrite) if overwrite.mean_us <= self.flush.mean_us => Strategy::Overwrite,
            _ => Strategy::WriteThenFlush,
        }
    }

    fn to_text(self) -> String {
        let figures = |name: &str, it: Figures| {
            format!(
                "{name}_p50_us={}\n{name}_p99_us={}\n{name}_mean_us={}\n",
                it.p50_us, it.p99_us, it.mean_us
            )
        };
        let mut text = format!("device={}\nstreams={}\n", self.device, self.streams);
        text.push_str(&figures("flush", self.flush));
        if let Some(overwrite) = self.overwrite {
            text.push_str(&figures("overwrite", overwrite));
        }
        text
    }

    fn from_text(text: &str) -> Option<Measured> {
        let number = |name: &str| -> Option<u64> {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            lines.clone().find(|(key, _)| *key == name)?.1.parse().ok()
        };
        let figures = |name: &str| {
            Some(Figures {
                p50_us: number(&format!("{name}_p50_us"))?,
                p99_us: number(&format!("{name}_p99_us"))?,
                mean_us: number(&format!("{name}_mean_us"))?,
            })
        };
        Some(Measured {
            device: number("device")?,
            streams: number("streams")? as u16,
            overwrite: figures("overwrite"),
            flush: figures("flush")?,
        })
    }
}

/// What writes to files in `directory` must be aligned to: 512 or 4,096 bytes. What the file system says of direct I/O decides; where it says nothing,
/// 4,096.
///
/// # Errors
/// When a file cannot be made there.
pub fn alignment(directory: &Path) -> Result<u32, DiskError> {
    make_directory(directory)?;
    let path = directory.join("align.tmp");
    let ask = || -> io::Result<_> {
        File::create(&path)?;
        let found = sys::direct_align(&path);
        fs::remove_file(&path)?;
        found
    };
    let found = ask().doing("ask for the alignment of", &path)?;
    Ok(match found {
        // Our buffers are whole pages, so only the offset decides.
        Some(align) if align.offset <= 512 && align.memory <= 4096 => 512,
        _ => 4096,
    })
}

/// Measures both strategies with so many streams (> 0), for about a second, in files that are removed afterwards.
///
/// # Errors
/// When the files cannot be made, written or flushed.
pub fn measure(directory: &Path, streams: u16) -> Result<Measured, DiskError> {
    assert!(streams > 0, "a server has a shard");
    make_directory(directory)?;
    let device = fs::metadata(directory).doing("look at", directory)?.dev();
    let paths: Vec<PathBuf> =
        (0..streams).map(|stream| directory.join(format!("measure-{stream}.tmp"))).collect();
    let result = measure_files(&paths, directory);
    for path in &paths {
        let _ = fs::remove_file(path);
    }
    let (overwrite, flush) = result?;
    Ok(Measured { device, streams, overwrite, flush })
}

/// The strategy to use: the operator's, or what was measured once for this disk and so many streams. `None` at level memory, which flushes nothing.
pub(crate) fn remembered_or_measured(
    data_dir: &Path,
    choice: Choice,
    level: Level,
    streams: u16,
) -> Result<(Option<Strategy>, Option<Measured>), DiskError> {
    if level == Level::Memory {
        return Ok((None, None));
    }
    if let Choice::Fixed(strategy) = choice {
        return Ok((Some(strategy), None));
    }
    let path = data_dir.join("disk");
    let device = fs::metadata(data_dir).doing("look at", data_dir)?.dev();
    let remembered = fs::read_to_string(&path).ok().and_then(|text| Measured::from_text(&text));
    let measured = match remembered {
        Some(it) if it.device == device && it.streams == streams => it,
        _ => {
            let it = measure(data_dir, streams)?;
            let partial = data_dir.join("disk.tmp");
            fs::write(&partial, it.to_text()).doing("remember the disk in", &partial)?;
            fs::rename(&partial, &path).doing("remember the disk in", &path)?;
            it
        }
    };
    Ok((Some(measured.choice()), Some(measured)))
}

fn measure_files(paths: &[PathBuf], directory: &Path) -> Result<(Option<Figures>, Figures), DiskError> {
    let mut block = BlockBuf::with_capacity(BLOCK);
    block.set_len(BLOCK);
    for path in paths {
        let write = || -> io::Result<()> {
            let file = File::create(path)?;
            for at in (0..FILE).step_by(BLOCK) {
                file.write_all_at(block.as_bytes(), at)?;
            }
            file.sync_all()
        };
        write().doing("measure the disk with", path)?;
    }
    // A file system without direct I/O refuses to open, or refuses the first write: then there is nothing to compare.
    let overwrite = run(paths, Strategy::Overwrite).ok();
    let flush = run(paths, Strategy::WriteThenFlush).doing("measure the disk in", directory)?;
    Ok((overwrite, flush))
}

fn run(paths: &[PathBuf], strategy: Strategy) -> io::Result<Figures> {
    let each: Vec<io::Result<Vec<u64>>> = thread::scope(|scope| {
        let streams: Vec<_> = paths.iter().map(|path| scope.spawn(|| stream(path, strategy))).collect();
        streams.into_iter().map(|stream| stream.join().expect("a stream does not panic")).collect()
    });
    let mut times = Vec::new();
    for stream in each {
        times.extend(stream?);
    }
    Ok(figures(times))
}

fn stream(path: &Path, strategy: Strategy) -> io::Result<Vec<u64>> {
    let direct = strategy == Strategy::Overwrite;
    let flags = if direct { libc::O_DIRECT | libc::O_DSYNC } else { 0 };
    let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
    let mut block = BlockBuf::with_capacity(BLOCK);
    block.set_len(BLOCK);
    block.as_mut_bytes().fill(0xA5);
    let mut times = Vec::with_capacity(4096);
    let begin = sys::mono_ns();
    let mut at = 0;
    loop {
        let before = sys::mono_ns();
        if before - begin > WINDOW_NS && !times.is_empty() {
            return Ok(times);
        }
        file.write_all_at(block.as_bytes(), at)?;
        if !direct {
            file.sync_data()?;
        }
        times.push(sys::mono_ns() - before);
        at = (at + BLOCK as u64) % FILE;
    }
}

fn figures(mut times: Vec<u64>) -> Figures {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100] / 1000;
    let mean = times.iter().sum::<u64>() / times.len() as u64 / 1000;
    Figures { p50_us: at(50), p99_us: at(99), mean_us: mean }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_measurement_is_remembered_for_its_disk_and_its_streams() {
        let scratch = Scratch::new("measure");
        let (strategy, measured) =
            remembered_or_measured(scratch.path(), Choice::Measured, Level::Disk, 2).unwrap();
        let measured = measured.unwrap();
        assert_eq!(strategy, Some(measured.choice()));
        assert_eq!(measured.streams, 2);
        assert!(measured.flush.p50_us <= measured.flush.p99_us);
        let text = fs::read_to_string(scratch.path().join("disk")).unwrap();
        assert_eq!(Measured::from_text(&text), Some(measured));
        let again = remembered_or_measured(scratch.path(), Choice::Measured, Level::Disk, 2).unwrap().1;
        assert_eq!(again, Some(measured), "not measured twice");
        let names: Vec<_> = fs::read_dir(scratch.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, ["disk"], "nothing is left behind");
    }

    #[test]
    fn the_operator_decides_and_memory_needs_no_strategy() {
        let scratch = Scratch::new("choice");
        let fixed = Choice::Fixed(Strategy::Overwrite);
        let of = |choice, level| remembered_or_measured(scratch.path(), choice, level, 1).unwrap().0;
        assert_eq!(of(fixed, Level::Disk), Some(Strategy::Overwrite));
        assert_eq!(of(Choice::Measured, Level::Memory), None);
    }

    #[test]
    fn the_lower_mean_wins_and_no_direct_io_means_a_flush() {
        let figures = |mean_us| Figures { p50_us: 1, p99_us: 1, mean_us };
        let measured = |overwrite: Option<u64>| Measured {
            device: 1,
            streams: 1,
            overwrite: overwrite.map(figures),
            flush: figures(50),
        };
        assert_eq!(measured(Some(40)).choice(), Strategy::Overwrite);
        assert_eq!(measured(Some(60)).choice(), Strategy::WriteThenFlush);
        assert_eq!(measured(None).choice(), Strategy::WriteThenFlush);
    }
}
