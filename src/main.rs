//! ringdesk: self-hosted live chat. Arguments in, exit status out.
#![forbid(unsafe_code)]

mod cli;
mod config;
mod log;
mod password;
#[cfg(test)]
mod scratch;
mod store;

fn main() {}
