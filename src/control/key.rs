//! The key of the private listener: made at the first start, kept in the data directory, readable by the server's user alone.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::store::{StoreError, random};

const FILE: &str = "admin.key";

/// The key.
pub(crate) struct AdminKey(String);

impl AdminKey {
    /// Reads the key, or makes one.
    pub(crate) fn open(data_dir: &Path) -> Result<AdminKey, StoreError> {
        let path = data_dir.join(FILE);
        let failed = |error| StoreError::File(path.clone(), error);
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().len() >= 32 => return Ok(AdminKey(text.trim().to_owned())),
            Ok(_) => log::warn!("{} is no key; a new one is made", path.display()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let bytes: [u8; 16] = random()?;
        let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        writeln!(file, "{key}").and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(AdminKey(key))
    }

    /// Whether this is the key; how long it takes says nothing of where they differ.
    pub(crate) fn matches(&self, shown: &str) -> bool {
        let differ = self.0.bytes().zip(shown.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b));
        self.0.len() == shown.len() && std::hint::black_box(differ) == 0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_key_stays_the_same_and_is_readable_by_its_owner_alone() {
        let scratch = Scratch::new();
        let key = AdminKey::open(&scratch.0).unwrap();
        let path = scratch.0.join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(key.matches(text.trim()) && AdminKey::open(&scratch.0).unwrap().matches(text.trim()));
        for wrong in ["", "x", &text.trim()[1..], &text.trim().replace(&text[..1], "x")] {
            assert!(!key.matches(wrong), "{wrong}");
        }
    }
}
