//! Whom a client acts for.

/// Somebody with an identity, shared by all his tabs or sessions.
pub(crate) struct Person {
    pub(crate) is_agent: bool,
    /// The bits of his id, once known.
    pub(crate) id: Option<u128>,
    /// A visitor's token or an agent's ticket.
    pub(crate) token: Option<String>,
    /// A visitor's inbox, in text.
    pub(crate) inbox: String,
    /// A visitor's conversation, and the run of the server that told so last.
    pub(crate) c: Option<u128>,
    pub(crate) c_boot: u32,
    /// The slot he was told.
    pub(crate) slot: Option<u64>,
    /// Conversations that an agent believes to be his.
    pub(crate) owned: Vec<u128>,
    /// An agent's other sessions follow these too.
    pub(crate) known: Vec<u128>,
    pub(crate) devices: Vec<String>,
    /// Nothing of his is expected to be answered any more.
    pub(crate) gone: bool,
}

impl Person {
    /// A run of the server told which conversation he has, if any. A slow network brings the words of earlier runs late: they are old.
    pub(crate) fn learn(&mut self, boot: u32, c: Option<u128>) {
        if boot >= self.c_boot {
            (self.c, self.c_boot) = (c, boot);
        }
    }
}
