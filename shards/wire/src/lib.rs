//! The server's side of RFC 6455: the upgrade request and frames, bytes in and bytes out.
//!
//! It never touches a socket, a clock or a thread, and never learns what a message means. A whole frame
//! that lies in one buffer is unmasked where it lies and handed out as a range of it; only what arrived
//! incomplete is copied, into a buffer that a [`PartialPool`] recycles. A peer's fault comes back as a
//! typed error that names the HTTP response or the close code; our own fault is an assert.
#![forbid(unsafe_code)]

mod encode;
mod frame;
mod head;
mod header;
mod mask;
mod partial;
mod upgrade;

pub use encode::{
    TextMark, begin_text, close_code_valid, end_text, put_binary, put_close, put_close_empty, put_ping,
    put_pong, put_text,
};
pub use frame::{Decoder, Message, Place};
pub use head::{HEAD_SIZE_MAX, HEADER_COUNT_MAX, Head, HeadError, HeadParse, parse_head, response_for};
pub use header::{Limits, Violation};
pub use partial::PartialPool;
pub use upgrade::{PROTOCOL_JSON, Upgrade, UpgradeError, check_upgrade, write_accept};

/// The largest payload of a control frame in bytes (RFC 6455 §5.5).
pub const CONTROL_SIZE_MAX: usize = 125;
