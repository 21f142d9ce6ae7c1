//! How this crate reads: through a trait that a directory of files and the simulator's byte arrays both meet.

use std::io;

use crate::buffer::BlockBuf;

/// One file of the journal's directory, by the number that its owner gave it. Says nothing about its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileSlotId(pub u32);

/// A segment file as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSlot {
    /// Which file.
    pub id: FileSlotId,
    /// Its length in bytes. A whole segment file is exactly `segment_size` long; a shorter one was truncated.
    pub len: u64,
}

/// The segment files of one shard's journal, to read.
///
/// Whoever opens them flushes each file *before* the first read, so that what is read is also on the device;
/// recovery relies on it when it calls a block acknowledged.
pub trait Medium {
    /// All segment files, in any order.
    fn segments(&mut self) -> io::Result<Vec<FileSlot>>;

    /// Reads at most `buf.len()` bytes at `offset`; 0 means the end of the file. Short reads are fine.
    fn read_at(&mut self, slot: FileSlotId, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// The length of a file in bytes.
    fn len(&mut self, slot: FileSlotId) -> io::Result<u64>;
}

/// Bytes of a file that the medium refused to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) file: FileSlotId,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) error: io::ErrorKind,
}

/// A window on one file at a time, so that small blocks do not cost a read each.
///
/// Bytes past the end of a file, and bytes that cannot be read, show as zeros; the latter are remembered.
pub(crate) struct Window {
    /// Made when it is first needed: the window that looks ahead often never is.
    buf: Option<BlockBuf>,
    size: u32,
    file: Option<FileSlotId>,
    base: u64,
    filled: usize,
    align: usize,
    pub(crate) unreadable: Vec<Unreadable>,
}

impl Window {
    pub(crate) fn new(size: u32, align: u32) -> Self {
        Window {
            buf: None,
            size,
            file: None,
            base: 0,
            filled: 0,
            align: align as usize,
            unreadable: Vec::new(),
        }
    }

    /// `want` bytes at `at`, which is a multiple of the alignment. Reads no byte at or past `limit`.
    pub(crate) fn view(
        &mut self,
        medium: &mut dyn Medium,
        file: FileSlotId,
        at: u64,
        want: usize,
        limit: u64,
    ) -> &[u8] {
        let held =
            self.file == Some(file) && at >= self.base && at + want as u64 <= self.base + self.filled as u64;
        if !held {
            self.fill(medium, file, at, limit.max(at + want as u64));
        }
        let from = (at - self.base) as usize;
        &self.buf.as_ref().expect("a window was filled").as_bytes()[from..from + want]
    }

    fn fill(&mut self, medium: &mut dyn Medium, file: FileSlotId, at: u64, limit: u64) {
        self.file = Some(file);
        self.base = at;
        let buf = self.buf.get_or_insert_with(|| BlockBuf::with_capacity(self.size as usize));
        self.filled = (limit - at).min(buf.capacity() as u64) as usize;
        buf.set_len(self.filled);
        let bytes = buf.as_mut_bytes();
        if read_whole(medium, file, at, bytes).is_ok() {
            return;
        }
        // Something in here cannot be read. Find out what, unit by unit, and keep the rest.
        for start in (0..bytes.len()).step_by(self.align) {
            let end = (start + self.align).min(bytes.len());
            if let Err(error) = read_whole(medium, file, at + start as u64, &mut bytes[start..end]) {
                bytes[start..end].fill(0);
                let (from, to) = (at + start as u64, at + end as u64);
                self.unreadable.push(Unreadable { file, from, to, error: error.kind() });
            }
        }
    }
}

/// Fills `buf` from the file, with zeros past its end.
pub(crate) fn read_whole(
    medium: &mut dyn Medium,
    file: FileSlotId,
    offset: u64,
    buf: &mut [u8],
) -> io::Result<()> {
    let mut done = 0;
    while done < buf.len() {
        match medium.read_at(file, offset + done as u64, &mut buf[done..]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buf[done..].fill(0);
    Ok(())
}
