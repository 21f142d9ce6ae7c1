//! settings.bin: the last settings given to the shards, so that they start while the control plane cannot.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use desk::settings::Settings;

use super::StoreError;

const FILE: &str = "settings.bin";

/// Where the copy lies.
#[derive(Clone, Debug)]
pub(crate) struct SettingsFile {
    folder: PathBuf,
}

impl SettingsFile {
    /// In this data directory.
    pub(crate) fn new(data_dir: &Path) -> SettingsFile {
        SettingsFile { folder: data_dir.to_owned() }
    }

    /// The last settings; `None` if there are none, or if the copy is damaged (which is logged: the database has the truth).
    pub(crate) fn read(&self) -> Result<Option<Settings>, StoreError> {
        let path = self.folder.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => match Settings::decode(&bytes) {
                Ok(settings) => Ok(Some(settings)),
                Err(error) => {
                    log::warn!("{}: {error}; it is made again from control.db", path.display());
                    Ok(None)
                }
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::File(path, error)),
        }
    }

    /// Replaces the copy: after a crash at any moment there is the old one or the new one, whole.
    pub(crate) fn write(&self, settings: &Settings) -> Result<(), StoreError> {
        let (path, fresh) = (self.folder.join(FILE), self.folder.join("settings.bin.new"));
        let failed = |error| StoreError::File(path.clone(), error);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(failed)?;
        file.write_all(&settings.encode()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&fresh, &path).map_err(failed)?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}
