//! The configuration as a file: commented as `init` writes it, or as it is in effect.

use std::fmt::Write as _;

use super::list::{Config, SETTINGS};

const HEAD: &str = "\
# ringdesk's configuration. Every line that is commented out shows the default.
# Each key may also be given as RINGDESK__SECTION__KEY in the environment, which wins over this file.
# Check it with: ringdesk check --config FILE
";

/// The commented file.
pub(crate) fn template() -> String {
    let mut out = HEAD.to_owned();
    let mut section = "";
    for setting in SETTINGS.iter() {
        if setting.section != section {
            section = setting.section;
            let _ = write!(out, "\n[{section}]\n");
        }
        for line in setting.doc {
            let _ = writeln!(out, "#{line}");
        }
        let bounds =
            setting.bounds.as_ref().map(|(low, high)| format!("; from {low} to {high}")).unwrap_or_default();
        let heat = if setting.hot { "; taken over without a restart of the shards" } else { "" };
        let _ = writeln!(out, "# Wants {}{bounds}{heat}.", setting.wants);
        let _ = writeln!(out, "#{} = {}\n", setting.key, setting.default);
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// The configuration in effect, as a file that would give the same.
pub(crate) fn effective(config: &Config) -> String {
    let mut out = String::new();
    let mut section = "";
    for setting in SETTINGS.iter() {
        if setting.section != section {
            let gap = if section.is_empty() { "" } else { "\n" };
            section = setting.section;
            let _ = writeln!(out, "{gap}[{section}]");
        }
        let value = setting.show(config);
        let note = if value == setting.default { "" } else { "  # not the default" };
        let _ = writeln!(out, "{} = {value}{note}", setting.key);
    }
    out
}
