//! What recovery says about bytes that do not hold.

use std::fmt;

use crate::geometry::LogOffset;

/// Bytes inside the acknowledged part of a log that do not hold. Nothing of them is ever handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment they lie in.
    pub segment: u32,
    /// The first place of the range.
    pub from: LogOffset,
    /// The first place behind it.
    pub to: LogOffset,
    /// What does not hold.
    pub what: DamageKind,
    /// The slot that lost a record, where the record's header can still be trusted.
    pub slot: Option<u16>,
}

/// What kind of bytes do not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// A stretch without a usable block header: one block or several.
    Stretch,
    /// One record (or, where its header is gone too, a run of neighbours).
    Record,
    /// Padding that is not zero. No record is lost.
    Padding,
    /// A segment file that is missing or too short.
    Missing,
    /// The medium refuses to read it.
    Unreadable,
}

impl DamageKind {
    /// One word for reports.
    pub fn name(self) -> &'static str {
        match self {
            DamageKind::Stretch => "stretch",
            DamageKind::Record => "record",
            DamageKind::Padding => "padding",
            DamageKind::Missing => "missing",
            DamageKind::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            DamageKind::Stretch => "blocks that do not hold",
            DamageKind::Record => "a record that does not hold",
            DamageKind::Padding => "padding that is not zero (nothing lost)",
            DamageKind::Missing => "a segment file is missing or too short",
            DamageKind::Unreadable => "the device cannot read it",
        };
        write!(f, "segment {}, offsets {}..{}: {what}", self.segment, self.from, self.to)?;
        match self.slot {
            Some(slot) => write!(f, ", slot {slot}"),
            None => Ok(()),
        }
    }
}

/// A last block that was being written when the process or the power ended. Nobody was told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Where it begins; the next boot writes here.
    pub at: LogOffset,
    /// Its size in bytes, as its header says; what remains of a header may say too much or too little.
    pub size: u32,
}
