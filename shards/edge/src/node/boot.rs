//! One shard from its thread's first instruction to its last: pin, ring, recover, serve.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use core_affinity::CoreId;
use journal::{Geometry, Level, Medium, Recovered, Superblock, recover};
use mail::queue::Inbox;
use mail::sleep::Sleeper;
use shard::Config;

use super::{ShardBoot, StartError, Tuning};
use crate::accepts::{Accepts, Adoptions};
use crate::disk::{self, DiskError, Doing, Files, Prepared, Preparer, Strategy};
use crate::driven::Recovery;
use crate::log::{Log, Place};
use crate::mesh::{Mesh, Peer};
use crate::pace::Pace;
use crate::plane::Plane;
use crate::probe;
use crate::ring::{self, Setup};
use crate::sockets::{Manners, Sockets};
use crate::turn::{Clock, Scratch, Turning};
use crate::watchdog::Pulse;
use crate::{exit, sys};

/// Everything a shard's thread is given.
pub(crate) struct Seat {
    pub(crate) config: Config,
    pub(crate) core: Option<usize>,
    /// Processors without a shard.
    pub(crate) spare: Arc<[usize]>,
    pub(crate) tuning: Tuning,
    pub(crate) table: u32,
    pub(crate) journal: Journal,
    pub(crate) listener: OwnedFd,
    pub(crate) peers: Vec<Option<Peer>>,
    pub(crate) plane: Plane,
    pub(crate) sleeper: Sleeper,
    pub(crate) preparer: Preparer,
    pub(crate) prepared: Inbox<Prepared>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) clock: Clock,
    pub(crate) ready: Sender<Result<Ready, StartError>>,
    pub(crate) go: Receiver<Go>,
    /// Held as long as any shard lives.
    pub(crate) lock: Arc<disk::Lock>,
}

/// Which journal, and how it is written.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    pub(crate) data_dir: PathBuf,
    pub(crate) generation: u32,
    pub(crate) level: Level,
    /// Of a new journal; its alignment is what the disk wants now.
    pub(crate) geometry: Geometry,
    pub(crate) strategy: Option<Strategy>,
}

/// A shard has recovered.
pub(crate) struct Ready {
    pub(crate) ring: OwnedFd,
    pub(crate) boot: ShardBoot,
}

/// All shards have.
pub(crate) struct Go {
    pub(crate) rings: Arc<[OwnedFd]>,
}

/// The body of a shard's thread. A panic ends the process: half a server is worse than none.
///
/// It ends before the stack unwinds: what would be freed on the way is lent to the kernel.
pub(crate) fn run<R: Recovery>(seat: Seat, build: &(dyn Fn(Config) -> R + Send + Sync)) {
    let shard = seat.config.shard;
    exit::on_panic(format!(
        "shard {shard} panicked: the process ends, and serves again from what the disk holds when it is started"
    ));
    let ready = seat.ready.clone();
    if let Err(error) = serve(seat, build) {
        // The other end is there until it has heard of every shard.
        let _ = ready.send(Err(error));
    }
}

fn serve<R: Recovery>(seat: Seat, build: &(dyn Fn(Config) -> R + Send + Sync)) -> Result<(), StartError> {
    pin(seat.core)?;
    let tuning = &seat.tuning;
    let setup = Setup {
        submissions: tuning.submissions,
        completions: tuning.completions,
        table: seat.table,
        buffer_count: tuning.buffer_count,
        buffer_size: tuning.buffer_size,
        spare: Arc::clone(&seat.spare),
    };
    let mut uring = ring::build(&setup).map_err(no_ring)?;
    let handle = sys::duplicate(uring.as_raw_fd()).map_err(no_ring)?;
    let mut builder = build(seat.config.clone());
    let boot = recover_journal(&seat, &mut builder)?;
    let (ring, buffers, features) = ring::prepare(&mut uring, &setup).map_err(no_ring)?;
    let (superblock, recovered) = (boot.superblock.clone(), boot.recovered.clone());
    let place = Place {
        shard: boot.shard,
        directory: Arc::from(boot.directory.as_path()),
        geometry: superblock.geometry,
        strategy: strategy_for(&seat.journal, &superblock),
    };
    let log = Log::open(place, &recovered, boot.superblock.replay_from, seat.preparer, seat.prepared)?;
    let _ = seat.ready.send(Ok(Ready { ring: handle, boot }));
    // Without a word another shard could not start, and the node with it.
    let Ok(Go { rings }) = seat.go.recv() else { return Ok(()) };

    let mut scratch = Scratch::default();
    let now = seat.clock.now().1;
    let core = builder.start(now, &recovered, superblock, &mut scratch.effects);
    let manners = Manners { table: seat.table, demote_ms: tuning.demote_ms, linger_ms: tuning.linger_ms };
    let pulse = Arc::clone(&seat.pulse);
    pulse.begin();
    let turning = Turning {
        core,
        ring,
        buffers,
        sockets: Sockets::new(manners, Arc::clone(&rings)),
        accepts: Accepts::new(seat.listener, tuning.accepts, seat.table),
        adoptions: Adoptions::default(),
        log,
        mesh: Mesh::new(seat.peers, rings),
        plane: seat.plane,
        sleeper: seat.sleeper,
        pulse: seat.pulse,
        pace: Pace::new(if features.min_wait { tuning.min_wait_us } else { 0 }),
        clock: seat.clock,
        shard: seat.config.shard,
        scratch,
    };
    turning.run();
    pulse.end();
    drop(seat.lock);
    Ok(())
}

fn pin(core: Option<usize>) -> Result<(), StartError> {
    // A set of processors has a fixed size, and the library below does not look.
    let pinned = |id: usize| id < libc::CPU_SETSIZE as usize && core_affinity::set_for_current(CoreId { id });
    match core {
        Some(id) if !pinned(id) => Err(StartError::Plan(format!(
            "core {id} cannot be used: it is not there, or not in this process's CPU set (`taskset -cp $$`)"
        ))),
        _ => Ok(()),
    }
}

fn no_ring(error: std::io::Error) -> StartError {
    StartError::NoRing(probe::refusal(error))
}

/// Direct writes must be aligned as this disk wants; a journal that was made on another one may be too fine for that.
fn strategy_for(journal: &Journal, superblock: &Superblock) -> Option<Strategy> {
    match journal.strategy {
        Some(Strategy::Overwrite) if superblock.geometry.align < journal.geometry.align => {
            Some(Strategy::WriteThenFlush)
        }
        other => other,
    }
}

/// Reads the journal, replays it into `builder`, and makes this boot durable before anything is appended.
fn recover_journal<R: Recovery>(seat: &Seat, builder: &mut R) -> Result<ShardBoot, StartError> {
    let begin_ns = sys::mono_ns();
    let shard = seat.config.shard;
    let directory = disk::journal_directory(&seat.journal.data_dir, seat.journal.generation, shard);
    let mut files = Files::to_recover(&directory);
    let superblock = superblock_of(seat, &directory)?;
    let kernel_boot = kernel_boot_id()?;
    let recovered = recover(&mut files, &superblock, &kernel_boot, &mut |record| builder.replay(&record));
    if files.has_failed_to_flush() {
        disk::note_failed_flush(shard, &directory);
    }
    let recovered =
        recovered.map_err(|error| StartError::JournalDamaged { directory: directory.clone(), error })?;
    tell_findings(shard, &recovered);
    if let Some(what) = builder.refusal() {
        return Err(StartError::ForeignJournal { path: directory, what });
    }
    if let Some(findings) = builder.findings() {
        log::warn!("shard {shard}: {findings}");
    }
    // What a killed process left in the page cache is about to be called durable, and relied on by checkpoints: `Files` has flushed what it read.
    let superblock = superblock.begin_boot(&recovered, kernel_boot, seat.journal.level);
    disk::store_superblock(&directory, &superblock)?;
    let took = Duration::from_nanos(sys::mono_ns() - begin_ns);
    Ok(ShardBoot { shard, directory, superblock, recovered, took })
}

/// Makes the journals of a new node, all of them before any is used: so one that is missing later was lost.
///
/// # Errors
/// A journal is missing where others have been used, or has segments and no superblock.
pub(crate) fn make_journals(seats: &[Seat]) -> Result<(), StartError> {
    let (mut missing, mut used) = (Vec::new(), None);
    for seat in seats {
        let directory =
            disk::journal_directory(&seat.journal.data_dir, seat.journal.generation, seat.config.shard);
        disk::make_directory(&directory)?;
        disk::remove_partial(&directory)?;
        match disk::load_superblock(&directory)? {
            Some(Ok(found)) => {
                is_planned(&found, seat.config.shard_count).map_err(|what| StartError::ForeignJournal {
                    path: disk::superblock_path(&directory),
                    what,
                })?;
                used = used.or(Some(found).filter(|found| found.boot_id > 0));
            }
            // One that cannot be read is its own shard's business.
            Some(Err(_)) => {}
            None => missing.push((seat, directory)),
        }
    }
    for (seat, directory) in missing {
        let path = disk::superblock_path(&directory);
        let foreign = |what: String| StartError::ForeignJournal { path: path.clone(), what };
        let segments = Files::to_recover(&directory).segments().doing("list the directory", &directory)?;
        if !segments.is_empty() {
            let count = segments.len();
            return Err(foreign(format!(
                "it is missing, and {count} segments are beside it: restore it from a backup"
            )));
        }
        if let Some(used) = &used {
            return Err(foreign(format!(
                "shard {} has no journal, and that of shard {} has been used: what this one held is gone; restore the directory from a backup",
                seat.config.shard, used.shard
            )));
        }
        make_journal(seat, &directory)?;
    }
    Ok(())
}

fn is_planned(superblock: &Superblock, planned: u16) -> Result<(), String> {
    match superblock.shards {
        old if old == planned => Ok(()),
        old => Err(format!("its node had {old} shards and {planned} are planned (--shards {old})")),
    }
}

fn make_journal(seat: &Seat, directory: &Path) -> Result<(), StartError> {
    let config = &seat.config;
    let mut salt = [0; 8];
    sys::fill_random(&mut salt).doing("draw a secret for", &disk::superblock_path(directory))?;
    let salt = u64::from_ne_bytes(salt);
    let uuid = config.site.bits().to_be_bytes();
    let mut superblock = Superblock::new(uuid, salt, config.shard, config.shard_count, seat.journal.geometry);
    superblock.generation = seat.journal.generation;
    disk::create_superblock(directory, &superblock)?;
    Ok(())
}

/// The journal's superblock, if it is this shard's of this node.
fn superblock_of(seat: &Seat, directory: &Path) -> Result<Superblock, StartError> {
    let path = disk::superblock_path(directory);
    let foreign = |what: String| StartError::ForeignJournal { path: path.clone(), what };
    let config = &seat.config;
    let uuid = config.site.bits().to_be_bytes();
    let Some(found) = disk::load_superblock(directory)? else {
        return Err(foreign("it is missing".into()));
    };
    let superblock = found.map_err(|error| StartError::Superblock { path: path.clone(), error })?;
    if superblock.uuid != uuid {
        return Err(foreign("it belongs to another site".into()));
    }
    is_planned(&superblock, config.shard_count).map_err(foreign)?;
    if superblock.shard != config.shard || superblock.generation != seat.journal.generation {
        let (shard, generation) = (superblock.shard, superblock.generation);
        return Err(foreign(format!(
            "it was made for shard {shard} of generation {generation}: the directory was moved"
        )));
    }
    Ok(superblock)
}

/// What recovery met, for the log.
fn tell_findings(shard: u16, recovered: &Recovered) {
    for damage in &recovered.damage {
        log::error!(
            "shard {shard}: damaged and not served: {damage}; `ringdesk journal verify` shows all of it"
        );
    }
    if let Some(torn) = recovered.torn_tail {
        log::info!(
            "shard {shard}: the last write before the stop was torn at offset {}: cut, nobody was told of it",
            torn.at
        );
    }
    if let Some(cut) = recovered.cut {
        log::warn!(
            "shard {shard}: durability is `memory` and the host was restarted: the log is cut at its first hole, offset {}",
            cut.at
        );
    }
}

fn kernel_boot_id() -> Result<[u8; 16], DiskError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).doing("read the kernel's boot id from", path)?;
    Ok(boot_id_of(&text))
}

/// The 16 bytes of a boot id's hexadecimal digits.
fn boot_id_of(text: &str) -> [u8; 16] {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
        *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_is_read_from_its_digits() {
        let id = boot_id_of("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0\n");
        assert_eq!(id[..4], [0x0f, 0x1e, 0x2d, 0x3c]);
        assert_eq!(id[15], 0xf0);
        assert_eq!(kernel_boot_id().unwrap(), kernel_boot_id().unwrap());
    }
}
