//! One site's dispatcher.
mod short;
mod words;

pub use short::Short;
pub use words::{Out, RefuseCode, RequestRef, Row, Shard};
