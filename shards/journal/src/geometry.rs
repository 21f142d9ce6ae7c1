//! Places in the log, and the two sizes that decide how they lie on a disk.

use std::fmt;

/// The largest block in bytes: what one write carries at most.
pub const BLOCK_SIZE_MAX: u32 = 1 << 20;
/// The smallest segment in bytes. Servers use 64 MiB and more; the simulator likes to roll often.
pub const SEGMENT_SIZE_MIN: u32 = 64 << 10;
/// The largest segment in bytes.
pub const SEGMENT_SIZE_MAX: u32 = 256 << 20;

const _: () =
    assert!(SEGMENT_SIZE_MIN <= BLOCK_SIZE_MAX, "a small segment bounds its blocks, not the reverse");
const _: () = assert!(SEGMENT_SIZE_MAX.is_multiple_of(4096), "segments are whole pages");

/// A place in one shard's log: `segment number × segment size + offset in that segment`.
///
/// Segment numbers start at 1 and never repeat, so 0 is no place and means "none". The end of a segment and
/// the start of the next are the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogOffset(pub u64);

impl LogOffset {
    /// No place at all.
    pub const NONE: LogOffset = LogOffset(0);

    /// This place, `bytes` further on.
    #[inline]
    pub fn plus(self, bytes: u64) -> LogOffset {
        LogOffset(self.0 + bytes)
    }
}

impl fmt::Display for LogOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number that says which commit a record belongs to; it rises by one with each block of this boot.
///
/// A record with commit point `p` may be told once `Writer::durable_point() >= p`. Points are not stored: they
/// begin at 1 with each boot, because nothing that waits for one outlives the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitPoint(pub u64);

/// How a journal is cut up. Fixed for a generation of journals; stored in the superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of one segment file: a multiple of `align`, [`SEGMENT_SIZE_MIN`]..=[`SEGMENT_SIZE_MAX`].
    pub segment_size: u32,
    /// What writes are aligned and padded to: 512 or 4096 bytes.
    pub align: u32,
}

/// Why a [`Geometry`] cannot be used. Usually a setting out of its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeometryError {
    /// `align` is neither 512 nor 4096.
    Align(u32),
    /// `segment_size` is out of bounds or not a multiple of `align`.
    SegmentSize(u32),
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GeometryError::Align(align) => write!(f, "journal alignment {align} is neither 512 nor 4096"),
            GeometryError::SegmentSize(size) => write!(
                f,
                "journal segment size {size} is not a multiple of the alignment between {SEGMENT_SIZE_MIN} and \
                 {SEGMENT_SIZE_MAX}"
            ),
        }
    }
}

impl std::error::Error for GeometryError {}

impl Geometry {
    /// Says what is wrong with these sizes, if anything is.
    pub fn check(&self) -> Result<(), GeometryError> {
        if self.align != 512 && self.align != 4096 {
            return Err(GeometryError::Align(self.align));
        }
        let bounds = SEGMENT_SIZE_MIN..=SEGMENT_SIZE_MAX;
        if !bounds.contains(&self.segment_size) || !self.segment_size.is_multiple_of(self.align) {
            return Err(GeometryError::SegmentSize(self.segment_size));
        }
        Ok(())
    }

    /// The largest block in bytes: a block never crosses a segment.
    #[inline]
    pub fn block_max(&self) -> u32 {
        BLOCK_SIZE_MAX.min(self.segment_size)
    }

    /// Which segment a place lies in. For the end of a segment that is the next one.
    #[inline]
    pub fn segment_of(&self, place: LogOffset) -> u32 {
        (place.0 / u64::from(self.segment_size)) as u32
    }

    /// How far into its segment a place lies, in bytes.
    #[inline]
    pub fn within(&self, place: LogOffset) -> u32 {
        (place.0 % u64::from(self.segment_size)) as u32
    }

    /// The first place of a segment.
    #[inline]
    pub fn start_of(&self, segment: u32) -> LogOffset {
        LogOffset(u64::from(segment) * u64::from(self.segment_size))
    }

    /// The first place of a new log.
    #[inline]
    pub fn first(&self) -> LogOffset {
        self.start_of(1)
    }

    /// `bytes` rounded up to whole units of `align`.
    #[inline]
    pub fn padded(&self, bytes: u32) -> u32 {
        bytes.next_multiple_of(self.align)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_its_segment_and_the_way_into_it() {
        let geometry = Geometry { segment_size: 1 << 20, align: 512 };
        let place = LogOffset(3 * (1 << 20) + 512);
        assert_eq!(geometry.segment_of(place), 3);
        assert_eq!(geometry.within(place), 512);
        assert_eq!(geometry.start_of(4), geometry.start_of(3).plus(1 << 20));
    }

    #[test]
    fn sizes_out_of_bounds_are_named() {
        assert_eq!(Geometry { segment_size: 1 << 20, align: 1024 }.check(), Err(GeometryError::Align(1024)));
        for segment_size in [0, SEGMENT_SIZE_MIN - 512, SEGMENT_SIZE_MAX + 512, (1 << 20) + 1] {
            let geometry = Geometry { segment_size, align: 512 };
            assert_eq!(geometry.check(), Err(GeometryError::SegmentSize(segment_size)));
        }
        assert_eq!(Geometry { segment_size: SEGMENT_SIZE_MAX, align: 4096 }.check(), Ok(()));
    }
}
