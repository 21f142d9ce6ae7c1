//! Stopping: no more accepts, `goaway`, commit, close 1001, seal, end.

use desk::encode;

use crate::door::Phase;
use crate::effect::Effect;
use crate::shard::Shard;

/// How long sockets may take to close before the seal is written without them, in milliseconds.
const CLOSE_MS: u64 = 2_000;

/// How far the stop has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stopping {
    Serving,
    /// Clients were told to go; they are closed at this time.
    Goaway {
        close_at_ms: u64,
    },
    /// Close frames were sent; the seal is written when the sockets are gone, or at this time.
    Closing {
        seal_at_ms: u64,
    },
    /// Waits for everything pending, then for the seal.
    Sealing,
    Sealed,
}

impl Stopping {
    /// Whether new connections are refused.
    pub(crate) fn refuses(self) -> bool {
        self != Stopping::Serving
    }
}

impl Shard {
    pub(crate) fn drain(&mut self, after_ms: u32, grace_ms: u32) {
        if self.stopping != Stopping::Serving {
            return;
        }
        self.effects.push(Effect::StopAccepting);
        self.stopping = Stopping::Goaway { close_at_ms: self.now.mono_ms + u64::from(grace_ms) };
        for index in 0..self.doors.places() as u32 {
            let Some(door) = self.doors.door_at(index) else { continue };
            if matches!(self.doors.phase(door), Some(Phase::Live | Phase::Hello)) {
                // Not everybody at the same moment: the server that comes next has to take them all.
                let spread = self.entropy.below(u64::from(after_ms.max(1))) as u32;
                self.push(index, |out| encode::goaway(out, after_ms.saturating_add(spread)));
            }
        }
    }

    /// Takes the next step of a stop whose time has come. Runs at the end of every turn.
    pub(crate) fn stop_step(&mut self) {
        let now = self.now.mono_ms;
        match self.stopping {
            Stopping::Goaway { close_at_ms } if now >= close_at_ms && self.line.len() == 0 => {
                self.close_all()
            }
            Stopping::Closing { seal_at_ms } if now >= seal_at_ms || self.doors.count == 0 => {
                self.stopping = Stopping::Sealing;
                self.log.want_seal();
            }
            Stopping::Serving
            | Stopping::Goaway { .. }
            | Stopping::Closing { .. }
            | Stopping::Sealing
            | Stopping::Sealed => {}
        }
    }

    fn close_all(&mut self) {
        self.stopping = Stopping::Closing { seal_at_ms: self.now.mono_ms + CLOSE_MS };
        for index in 0..self.doors.places() as u32 {
            let Some(door) = self.doors.door_at(index) else { continue };
            match self.doors.phase(door) {
                Some(Phase::Live | Phase::Hello | Phase::Echo) => {
                    self.close(door, 1001, "the server is stopping; come back soon");
                }
                Some(Phase::Head) => {
                    self.doors.at(index).phase = Phase::Done;
                    self.doors.touch(index);
                }
                Some(Phase::Closing | Phase::Done) | None => {}
            }
        }
    }
}
