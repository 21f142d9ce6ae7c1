//! The real host.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read as _};

use tuning::{Host, Unread};

/// No file that is looked at is longer; what a stranger's process has in its environment might be.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// This host's `/proc` and `/sys`.
pub(super) struct Files;

impl Host for Files {
    fn text(&self, path: &str) -> Result<String, Unread> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unread)?;
        file.take(TEXT_BYTES_MAX).read_to_end(&mut bytes).map_err(unread)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn names(&self, path: &str) -> Result<Vec<String>, Unread> {
        let entries = fs::read_dir(path).map_err(unread)?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }
}

fn unread(error: Error) -> Unread {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Unread::Missing,
        ErrorKind::PermissionDenied => Unread::Refused,
        _ => Unread::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_missing() {
        assert!(Files.text("/proc/self/status").unwrap().starts_with("Name:"));
        assert_eq!(Files.text("/proc/self/no such file"), Err(Unread::Missing));
        assert_eq!(Files.names("/proc/self/status"), Err(Unread::Missing));
        assert!(Files.names("/proc/self").unwrap().contains(&"status".to_owned()));
    }
}
