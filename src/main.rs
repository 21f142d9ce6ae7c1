//! ringdesk: self-hosted live chat.
fn main() {}
