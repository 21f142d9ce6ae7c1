//! Every entry that is ever submitted, one function each. What takes no memory is safe; what lends memory says who keeps it.

use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::squeue::Flags;
use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed, FsyncFlags};
use io_uring::{opcode, squeue};
use shard::{Door, Moved};

use super::Ring;
use super::buffers::GROUP;
use super::token::{Op, Token};

/// Where an accepted peer's address is written.
pub(crate) struct Target {
    pub(crate) address: libc::sockaddr_storage,
    pub(crate) size: libc::socklen_t,
}

impl Ring<'_> {
    /// Watches an idle door.
    pub(crate) fn poll(&mut self, door: Door) {
        let entry = opcode::PollAdd::new(Fixed(door.index), libc::POLLIN as u32).multi(true).build();
        self.push_plain(entry, Token::of(Op::Poll, door));
    }

    /// One receive into a provided buffer. `wait`: also if nothing is there yet.
    pub(crate) fn receive(&mut self, door: Door, wait: bool) {
        let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
        let entry =
            opcode::Recv::new(Fixed(door.index), std::ptr::null_mut(), 0).buf_group(GROUP).flags(flags);
        let entry = entry.build().flags(Flags::BUFFER_SELECT);
        self.push_plain(entry, Token::of(Op::Receive, door));
    }

    /// Receives into provided buffers until it is cancelled, the buffers end or the peer does.
    pub(crate) fn receive_many(&mut self, door: Door) {
        let entry = opcode::RecvMulti::new(Fixed(door.index), GROUP).build();
        self.push_plain(entry, Token::of(Op::ReceiveMany, door));
    }

    /// Ends what was submitted with exactly this token; its own completion still comes.
    pub(crate) fn cancel(&mut self, token: Token) {
        let entry = opcode::AsyncCancel::new(token.0).build().flags(Flags::SKIP_SUCCESS);
        self.push_plain(entry, Token::new(Op::Ignore, 0, 0));
    }

    /// Ends all accepts on a listener; each still has its completion.
    pub(crate) fn cancel_accepts(&mut self, listener: BorrowedFd<'_>) {
        let all = CancelBuilder::fd(Fd(listener.as_raw_fd())).all();
        let entry = opcode::AsyncCancel2::new(all).build().flags(Flags::SKIP_SUCCESS);
        self.push_plain(entry, Token::new(Op::Ignore, 0, 0));
    }

    /// Closes a door.
    pub(crate) fn close(&mut self, door: Door) {
        let entry = opcode::Close::new(Fixed(door.index)).build();
        self.push_plain(entry, Token::of(Op::Close, door));
    }

    /// Makes an ordinary descriptor of a door; the door stays.
    pub(crate) fn install(&mut self, door: Door) {
        let entry = opcode::FixedFdInstall::new(Fixed(door.index), 0).build();
        self.push_plain(entry, Token::of(Op::Half, door));
    }

    /// Makes an ordinary descriptor of a door and closes the door, or does neither.
    pub(crate) fn install_and_close(&mut self, door: Door) {
        self.reserve(2);
        let install = opcode::FixedFdInstall::new(Fixed(door.index), 0).build();
        // `flags` adds to what the opcode set itself.
        self.push_plain(install.flags(Flags::IO_LINK), Token::of(Op::Install, door));
        let close = opcode::Close::new(Fixed(door.index)).build();
        self.push_plain(close, Token::of(Op::CloseLinked, door));
    }

    /// Sends a door and what goes along with it to another ring and closes it here, or does neither.
    ///
    /// The other ring sees the box's address as a completion. With a result of 0 or more on this side the other side owns the box; with an error this
    /// side still does, and gets it back with [`take_back`].
    pub(crate) fn send_door(&mut self, ring: BorrowedFd<'_>, door: Door, moved: Box<Moved>) -> SentAlong {
        self.reserve(2);
        let address = Box::into_raw(moved);
        assert_eq!(address as u64 >> 56, 0, "user addresses have a zero in their highest byte");
        let target = DestinationSlot::auto_target();
        let send =
            opcode::MsgRingSendFd::new(Fd(ring.as_raw_fd()), Fixed(door.index), target, address as u64);
        self.push_plain(send.build().flags(Flags::IO_LINK), Token::of(Op::Move, door));
        let close = opcode::Close::new(Fixed(door.index)).build();
        self.push_plain(close, Token::of(Op::CloseLinked, door));
        SentAlong { address }
    }

    /// Ends the wait of another ring.
    pub(crate) fn wake(&mut self, ring: BorrowedFd<'_>) {
        let token = Token::new(Op::Wake, 0, 0);
        let entry = opcode::MsgRingData::new(Fd(ring.as_raw_fd()), 0, token.0, None).build();
        self.push_plain(entry.flags(Flags::SKIP_SUCCESS), Token::new(Op::Ignore, 0, 0));
    }

    /// Watches the bell of the control plane. Every ring of it completes once; nobody has to read it.
    pub(crate) fn watch_bell(&mut self, bell: BorrowedFd<'_>) {
        let entry = opcode::PollAdd::new(Fd(bell.as_raw_fd()), libc::POLLIN as u32).multi(true).build();
        self.push_plain(entry, Token::new(Op::Bell, 0, 0));
    }

    /// Flushes a file's data.
    pub(crate) fn flush(&mut self, file: BorrowedFd<'_>) {
        let entry = opcode::Fsync::new(Fd(file.as_raw_fd())).flags(FsyncFlags::DATASYNC).build();
        self.push_plain(entry, Token::new(Op::Flush, 0, 0));
    }

    /// Accepts one connection into the table; `target` gets its address.
    ///
    /// # Safety
    /// `target` stays where it is and is not touched until the completion.
    pub(crate) unsafe fn accept(&mut self, listener: BorrowedFd<'_>, place: u32, target: *mut Target) {
        // SAFETY: the caller says that the target is there.
        let address = unsafe { &raw mut (*target).address };
        // SAFETY: as above.
        let size = unsafe { &raw mut (*target).size };
        let entry = opcode::Accept::new(Fd(listener.as_raw_fd()), address.cast(), size)
            .file_index(Some(DestinationSlot::auto_target()))
            .flags(libc::SOCK_NONBLOCK);
        let entry = entry.build().user_data(Token::new(Op::Accept, place, 0).0);
        // SAFETY: the caller keeps the target until the completion.
        unsafe { self.push(&entry) };
    }

    /// Sends bytes.
    ///
    /// # Safety
    /// The bytes stay where they are, unchanged, until the completion.
    pub(crate) unsafe fn send(&mut self, door: Door, bytes: &[u8]) {
        let entry = opcode::Send::new(Fixed(door.index), bytes.as_ptr(), bytes.len() as u32);
        let entry = entry.flags(libc::MSG_NOSIGNAL).build().user_data(Token::of(Op::Send, door).0);
        // SAFETY: the caller keeps the bytes until the completion.
        unsafe { self.push(&entry) };
    }

    /// Writes bytes to a file.
    ///
    /// # Safety
    /// The bytes stay where they are, unchanged, until the completion.
    pub(crate) unsafe fn write(&mut self, file: BorrowedFd<'_>, at: u64, bytes: &[u8]) {
        let entry = opcode::Write::new(Fd(file.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32).offset(at);
        let entry = entry.build().user_data(Token::new(Op::Write, 0, 0).0);
        // SAFETY: the caller keeps the bytes until the completion.
        unsafe { self.push(&entry) };
    }

    /// Puts an ordinary descriptor into a free place of the table; the place is written over `*fd`.
    ///
    /// # Safety
    /// `fd` stays where it is and is not touched until the completion.
    pub(crate) unsafe fn adopt(&mut self, place: u32, fd: *mut i32) {
        let entry = opcode::FilesUpdate::new(fd, 1).offset(-1).build();
        let entry = entry.user_data(Token::new(Op::Adopt, place, 0).0);
        // SAFETY: the caller keeps the number until the completion.
        unsafe { self.push(&entry) };
    }

    /// Queues an entry that names no memory of ours.
    fn push_plain(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.0);
        // SAFETY: the entry has no pointers, or only into the registered buffers, which live as long as the ring.
        unsafe { self.push(&entry) };
    }
}

/// A `Moved` on its way to another ring, which may own it already.
pub(crate) struct SentAlong {
    address: *mut Moved,
}

impl SentAlong {
    /// Takes the box back after the send failed.
    ///
    /// # Safety
    /// The completion of the send had an error, so the other ring never saw the address.
    pub(crate) unsafe fn take_back(self) -> Box<Moved> {
        // SAFETY: the address came from `Box::into_raw`, and the caller says that nobody else has it.
        unsafe { Box::from_raw(self.address) }
    }
}

/// Takes over what another ring of this node sent along with a connection.
///
/// # Safety
/// `token` is of a completion without an op of ours that was seen for the first time, so its address came from [`Ring::send_door`].
pub(crate) unsafe fn take_moved(token: Token) -> Box<Moved> {
    assert!(token.op().is_none() && token.0 != 0, "an address, not one of our tokens");
    // SAFETY: only shards of this node can post to this ring, and they post nothing but this without an op.
    unsafe { Box::from_raw(token.0 as *mut Moved) }
}

const fn _moved_may_cross_threads() {
    const fn is_send<T: Send>() {}
    is_send::<Box<Moved>>();
}
