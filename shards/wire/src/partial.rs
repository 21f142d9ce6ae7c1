//! What a connection keeps while a frame or a message is incomplete, and the pool that recycles it.

use crate::header::{FrameHeader, Opcode, Violation};
use crate::mask;

/// An incomplete message, and perhaps an incomplete control frame between its fragments.
///
/// Bytes of the data message and of a control frame live apart, because a control frame may come, itself cut,
/// between two fragments (RFC 6455 §5.4).
#[derive(Debug, Default)]
pub(crate) struct Partial {
    /// The data message so far, unmasked. While `held` is `Message`, it may carry padding behind `held_size`.
    message: Vec<u8>,
    /// The control frame so far, unmasked; at most 125 bytes, and padding as above.
    control: Vec<u8>,
    /// `message[..utf8_size]` is whole, valid code points. What follows, at most 3 bytes, may become one.
    utf8_size: usize,
    open: Option<Kind>,
    fragment_count: u16,
    frame: Option<OpenFrame>,
    held: Option<Held>,
    /// The size of what is held, without padding.
    held_size: usize,
}

/// What kind of data message is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Binary,
}

/// Which buffer was handed out and is to be cleared before the next frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Message,
    Control,
}

/// A frame whose header is known and whose payload is still coming.
#[derive(Clone, Copy, Debug)]
struct OpenFrame {
    opcode: Opcode,
    fin: bool,
    size_left: u32,
    /// Rotated, so that its first byte belongs to the next payload byte.
    mask: [u8; 4],
}

/// What ended with the bytes just taken. Its payload is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Message(Kind),
    Control(Opcode),
}

impl Partial {
    pub(crate) fn message_open(&self) -> bool {
        self.open.is_some()
    }

    pub(crate) fn frame_open(&self) -> bool {
        self.frame.is_some()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_none() && self.frame.is_none() && self.held.is_none()
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Size of the open message so far in bytes; 0 between messages.
    pub(crate) fn message_size(&self) -> usize {
        if self.message_open() { self.message.len() } else { 0 }
    }

    /// Frames of the open message so far; 0 between messages.
    pub(crate) fn fragment_count(&self) -> u16 {
        self.fragment_count
    }

    /// Bytes kept of what is incomplete, control frame included.
    pub(crate) fn incomplete_size(&self) -> usize {
        let control = if self.held == Some(Held::Control) { 0 } else { self.control.len() };
        self.message_size() + control
    }

    /// Begins a frame. The caller has checked `header` against the state.
    pub(crate) fn begin(&mut self, header: FrameHeader) {
        assert!(self.frame.is_none(), "one frame at a time");
        assert!(self.held.is_none(), "what was held is cleared first");
        if !header.opcode.is_control() {
            match header.opcode {
                Opcode::Text => self.open = Some(Kind::Text),
                Opcode::Binary => self.open = Some(Kind::Binary),
                Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => {}
            }
            assert!(self.open.is_some(), "a continuation belongs to an open message");
            self.fragment_count += 1;
        }
        let FrameHeader { opcode, fin, size, mask } = header;
        self.frame = Some(OpenFrame { opcode, fin, size_left: size, mask });
    }

    /// Takes from `bytes` what belongs to the open frame; returns how many, and what ended.
    ///
    /// # Errors
    /// [`Violation::BadUtf8`] as soon as the bytes so far cannot be the beginning of valid UTF-8.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Ended>), Violation> {
        let frame = self.frame.as_mut().expect("the caller checked that a frame is open");
        let taken = bytes.len().min(frame.size_left as usize);
        let to = if frame.opcode.is_control() { &mut self.control } else { &mut self.message };
        let from = to.len();
        to.extend_from_slice(&bytes[..taken]);
        mask::apply(&mut to[from..], frame.mask);
        frame.mask = mask::advanced(frame.mask, taken);
        frame.size_left -= taken as u32;
        let frame = *frame;

        if !frame.opcode.is_control() && self.open == Some(Kind::Text) {
            self.validate()?;
        }
        if frame.size_left > 0 {
            return Ok((taken, None));
        }
        self.frame = None;
        Ok((taken, self.end_frame(frame)?))
    }

    fn end_frame(&mut self, frame: OpenFrame) -> Result<Option<Ended>, Violation> {
        if frame.opcode.is_control() {
            self.held = Some(Held::Control);
            self.held_size = self.control.len();
            return Ok(Some(Ended::Control(frame.opcode)));
        }
        if !frame.fin {
            return Ok(None);
        }
        let kind = self.open.take().expect("a data frame ends inside its message");
        // The last code point must be whole when the message ends.
        if kind == Kind::Text && self.utf8_size != self.message.len() {
            return Err(Violation::BadUtf8);
        }
        self.held = Some(Held::Message);
        self.held_size = self.message.len();
        Ok(Some(Ended::Message(kind)))
    }

    /// Validates what came since the last call. A code point that is not complete yet is looked at again
    /// with the bytes that follow it, so at most 3 bytes are read twice.
    fn validate(&mut self) -> Result<(), Violation> {
        match simdutf8::compat::from_utf8(&self.message[self.utf8_size..]) {
            Ok(_) => self.utf8_size = self.message.len(),
            // No error length means: the end came inside a code point that may still become valid.
            Err(error) if error.error_len().is_none() => self.utf8_size += error.valid_up_to(),
            Err(_) => return Err(Violation::BadUtf8),
        }
        assert!(self.message.len() - self.utf8_size <= 3, "a code point has at most 4 bytes");
        Ok(())
    }

    /// What was handed out; empty if nothing is held.
    pub(crate) fn held_mut(&mut self) -> &mut [u8] {
        match self.held {
            None => &mut [],
            Some(Held::Message) => &mut self.message[..self.held_size],
            Some(Held::Control) => &mut self.control[..self.held_size],
        }
    }

    /// What was handed out, with at least `padding` zero bytes behind it; and its size without them.
    pub(crate) fn held_padded(&mut self, padding: usize) -> (&mut Vec<u8>, usize) {
        let size = self.held_size;
        let buffer = match self.held.expect("only a held message has a padded buffer") {
            Held::Message => &mut self.message,
            Held::Control => &mut self.control,
        };
        buffer.resize(size + padding, 0);
        (buffer, size)
    }

    /// Forgets what was handed out; an open message stays. If nothing is open the buffer is idle and belongs to the pool.
    pub(crate) fn clear_held(&mut self) {
        match self.held.take() {
            None => {}
            // Nothing is open behind a whole message: the pool takes all of it, and clears it.
            Some(Held::Message) => assert!(self.is_idle(), "a message that ended leaves nothing open"),
            Some(Held::Control) => self.control.clear(),
        }
        self.held_size = 0;
    }

    /// Forgets everything and keeps the memory, up to `kept_size_max` bytes.
    fn clear(&mut self, kept_size_max: usize) {
        let Partial { mut message, mut control, .. } = std::mem::take(self);
        message.clear();
        message.shrink_to(kept_size_max);
        control.clear();
        control.shrink_to(kept_size_max);
        *self = Partial { message, control, ..Partial::default() };
    }

    fn capacity(&self) -> usize {
        self.message.capacity() + self.control.capacity()
    }
}

/// Recycles the buffers of incomplete messages, one pool per shard.
///
/// Connections that are idle own none, so the pool need only hold as many as are incomplete at once. Its memory is
/// bounded by `count_max` buffers of `kept_size_max` bytes; what comes back beyond that is freed.
#[derive(Debug)]
pub struct PartialPool {
    // Boxed, because they move between a decoder and the pool, and an idle decoder must be small.
    #[expect(clippy::vec_box, reason = "the boxes are what is recycled")]
    empty: Vec<Box<Partial>>,
    count_max: usize,
    kept_size_max: usize,
}

impl PartialPool {
    /// Buffers kept by [`PartialPool::default`].
    pub const COUNT_MAX: usize = 64;
    /// Bytes kept per buffer by [`PartialPool::default`]: twice a message of the default limit, since buffers grow
    /// by doubling.
    pub const KEPT_SIZE_MAX: usize = 128 * 1024;

    /// A pool that keeps at most `count_max` empty buffers, each of at most `kept_size_max` bytes.
    pub fn new(count_max: usize, kept_size_max: usize) -> Self {
        PartialPool { empty: Vec::new(), count_max, kept_size_max }
    }

    /// The number of buffers that wait to be used.
    pub fn count(&self) -> usize {
        self.empty.len()
    }

    /// The bytes of memory in the buffers that wait to be used.
    pub fn kept_size(&self) -> usize {
        self.empty.iter().map(|partial| partial.capacity()).sum()
    }

    pub(crate) fn take(&mut self) -> Box<Partial> {
        self.empty.pop().unwrap_or_default()
    }

    pub(crate) fn put(&mut self, mut partial: Box<Partial>) {
        if self.empty.len() < self.count_max {
            partial.clear(self.kept_size_max);
            self.empty.push(partial);
        }
    }
}

impl Default for PartialPool {
    fn default() -> Self {
        PartialPool::new(PartialPool::COUNT_MAX, PartialPool::KEPT_SIZE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_keeps_no_more_buffers_and_no_more_bytes_than_it_was_told() {
        let mut pool = PartialPool::new(2, 1_000);
        for _ in 0..3 {
            let partial = Box::new(Partial { message: Vec::with_capacity(5_000), ..Partial::default() });
            pool.put(partial);
        }
        assert_eq!(pool.count(), 2);
        assert!(pool.kept_size() <= 2 * 1_000, "{}", pool.kept_size());
        assert!(pool.take().is_idle());
        assert_eq!(pool.count(), 1);
    }

    #[test]
    fn a_buffer_comes_back_empty_whatever_it_held() {
        let mut pool = PartialPool::default();
        let mut partial = pool.take();
        partial.begin(FrameHeader { opcode: Opcode::Text, fin: false, size: 2, mask: [0; 4] });
        assert_eq!(partial.take(&[0xc3]), Ok((1, None)));
        pool.put(partial);
        let partial = pool.take();
        assert!(partial.is_idle());
        assert_eq!((partial.incomplete_size(), partial.fragment_count(), partial.utf8_size), (0, 0, 0));
    }
}
