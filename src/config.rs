//! Every setting, its default, its bounds and its reason; parsed once, then a value.
//!
//! Three layers, later ones win: the file, `RINGDESK__SECTION__KEY` in the environment, flags. All of them are checked whole before anything is used, so a
//! bad file is never applied in part, and every mistake is told at once.

mod complaint;
mod kind;
mod layer;
mod list;
mod nearest;
mod template;

pub(crate) use complaint::{Complaint, Complaints, Place};
pub(crate) use kind::{Durability, LogFormat, LogLevel, Mib, Sync};
pub(crate) use layer::Layer;
pub(crate) use list::{Config, SETTINGS, Setting};
pub(crate) use template::{effective, template};

use std::path::Path;

use kind::Kind;

impl Config {
    /// Reads the file (if one is named), the environment and the flags, and checks all of it.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: Layer,
    ) -> Result<Config, Complaints> {
        let mut complaints = Vec::new();
        let mut layers = Vec::new();
        if let Some(path) = file {
            match std::fs::read_to_string(path) {
                Ok(text) => layers.push(Layer::from_toml(path, &text, &mut complaints)),
                Err(error) => complaints.push(Complaint::whole_file(path, error.to_string())),
            }
        }
        layers.push(Layer::from_environment(environment, &mut complaints));
        layers.push(flags);
        let config = Config::build(&layers, &mut complaints);
        if complaints.is_empty() {
            config.check(&layers, &mut complaints);
        }
        if complaints.is_empty() { Ok(config) } else { Err(Complaints(complaints)) }
    }

    /// What is in effect when `fresh` is read beside a running server: what is hot as it says, what is cold as it was. And the cold settings that
    /// `fresh` would have otherwise: those are what a restart would change, however often it is read meanwhile.
    pub(crate) fn taken_over(&self, mut fresh: Config) -> (Config, Vec<&'static Setting>) {
        let cold = SETTINGS.iter().filter(|setting| !setting.hot);
        let waiting: Vec<&Setting> =
            cold.filter(|setting| setting.show(&fresh) != setting.show(self)).collect();
        for setting in &waiting {
            setting.copy(&mut fresh, self);
        }
        (fresh, waiting)
    }

    /// Bounds that concern two settings at once.
    fn check(&self, layers: &[Layer], complaints: &mut Vec<Complaint>) {
        let mut refuse = |section, key, what: String| {
            let place = layers
                .iter()
                .rev()
                .find_map(|layer| layer.get(section, key))
                .map(|found| found.place.clone());
            complaints.push(Complaint {
                place: place.unwrap_or(Place::Default),
                name: format!("{section}.{key}"),
                what,
            });
        };
        if self.server.listen.port() != 0 && self.server.listen == self.server.admin_listen {
            refuse(
                "server",
                "admin_listen",
                "must differ from server.listen: administration is never public".to_owned(),
            );
        }
        let shards = u64::from(self.server.shards.max(1));
        // Each shard keeps at least four segments: one written, one ready, two for a checkpoint that turns.
        let least = 4 * shards * u64::from(self.storage.segment_mb.0);
        if u64::from(self.storage.journal_budget_mb.0) < least {
            refuse(
                "storage",
                "journal_budget_mb",
                format!(
                    "must be at least {}: four segments for each shard",
                    <Mib as Kind>::show_bound(least)
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests;
