//! One layer of the configuration: values as they were written, and where.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::complaint::{Complaint, Place};
use super::list::SETTINGS;
use super::nearest::nearest;

/// A value as it was written.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Raw {
    /// A text.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// True or false.
    Truth(bool),
    /// A list.
    List(Vec<Raw>),
    /// Something no setting takes; the name of its type.
    Other(&'static str),
    /// A text from the environment or a flag, which stands for whatever the setting wants.
    Loose(String),
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Raw::Text(text) | Raw::Loose(text) => {
                write!(f, "{:?}", text.chars().take(60).collect::<String>())
            }
            Raw::Whole(number) => write!(f, "{number}"),
            Raw::Truth(value) => write!(f, "{value}"),
            Raw::List(_) => write!(f, "a list"),
            Raw::Other(kind) => write!(f, "a {kind}"),
        }
    }
}

/// A value and its place.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Found {
    /// As it was written.
    pub(crate) raw: Raw,
    /// Where.
    pub(crate) place: Place,
}

/// Values by section and key.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Layer(BTreeMap<(&'static str, &'static str), Found>);

/// In front of every variable that is a setting.
const PREFIX: &str = "RINGDESK__";

impl Layer {
    /// The value of a setting in this layer.
    pub(crate) fn get(&self, section: &str, key: &str) -> Option<&Found> {
        self.0.iter().find(|((s, k), _)| *s == section && *k == key).map(|(_, found)| found)
    }

    /// Adds the value of a flag, if it was given. The setting must exist.
    pub(crate) fn flag(&mut self, name: &'static str, section: &str, key: &str, value: Option<String>) {
        let setting = SETTINGS.iter().find(|s| s.section == section && s.key == key);
        let setting = setting.expect("every flag names a setting");
        if let Some(value) = value {
            let found = Found { raw: Raw::Loose(value), place: Place::Flag(name) };
            self.0.insert((setting.section, setting.key), found);
        }
    }

    /// Reads a TOML file.
    pub(super) fn from_toml(path: &Path, text: &str, complaints: &mut Vec<Complaint>) -> Layer {
        let place = |offset: usize| {
            let before = &text.as_bytes()[..offset.min(text.len())];
            Place::Line(path.to_owned(), 1 + before.iter().filter(|&&b| b == b'\n').count())
        };
        let mut layer = Layer::default();
        let document = match DeTable::parse(text) {
            Ok(document) => document,
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                complaints.push(Complaint {
                    place: place(at),
                    name: String::new(),
                    what: error.message().to_owned(),
                });
                return layer;
            }
        };
        for (section, value) in document.get_ref() {
            let (name, at) = (section.get_ref().as_ref(), place(section.span().start));
            let mut refuse =
                |what: String| complaints.push(Complaint { place: at.clone(), name: name.to_owned(), what });
            let Some(table) = value.get_ref().as_table() else {
                refuse("settings stand in sections, such as [server]".to_owned());
                continue;
            };
            if !SETTINGS.iter().any(|s| s.section == name) {
                refuse(unknown("section", name, SETTINGS.iter().map(|s| s.section)));
                continue;
            }
            for (key, value) in table {
                let Some(setting) =
                    SETTINGS.iter().find(|s| s.section == name && s.key == key.get_ref().as_ref())
                else {
                    let keys = SETTINGS.iter().filter(|s| s.section == name).map(|s| s.key);
                    complaints.push(Complaint {
                        place: place(key.span().start),
                        name: format!("{name}.{}", key.get_ref()),
                        what: unknown("setting", key.get_ref(), keys),
                    });
                    continue;
                };
                let found = Found { raw: raw(value.get_ref()), place: place(value.span().start) };
                layer.0.insert((setting.section, setting.key), found);
            }
        }
        // The table sorts its keys; people read from the top.
        complaints.sort_by_key(|complaint| match &complaint.place {
            Place::Line(_, line) => *line,
            _ => 0,
        });
        layer
    }

    /// Reads `RINGDESK__SECTION__KEY`. Other variables are none of ours.
    pub(super) fn from_environment(
        variables: impl Iterator<Item = (String, String)>,
        complaints: &mut Vec<Complaint>,
    ) -> Layer {
        let mut layer = Layer::default();
        let mut variables: Vec<(String, String)> =
            variables.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        for (name, value) in variables {
            let place = Place::Variable(name.clone());
            match SETTINGS.iter().find(|setting| setting.variable() == name) {
                Some(setting) => {
                    layer.0.insert((setting.section, setting.key), Found { raw: Raw::Loose(value), place });
                }
                None => {
                    let names: Vec<String> =
                        SETTINGS.iter().map(|setting| setting.variable().to_lowercase()).collect();
                    let near = nearest(&name, names.iter().map(String::as_str)).map(str::to_uppercase);
                    let what = match near {
                        Some(near) => format!("no such setting; did you mean {near}?"),
                        None => "no such setting".to_owned(),
                    };
                    complaints.push(Complaint { place, name: String::new(), what });
                }
            }
        }
        layer
    }
}

fn unknown<'a>(what: &str, given: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(given, known) {
        Some(near) => format!("no such {what}; did you mean `{near}`?"),
        None => format!("no such {what}"),
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            i64::from_str_radix(&digits, number.radix()).map_or(Raw::Other("number too large"), Raw::Whole)
        }
        DeValue::Boolean(value) => Raw::Truth(*value),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Float(_) => Raw::Other("number with a fraction"),
        DeValue::Datetime(_) => Raw::Other("date"),
        DeValue::Table(_) => Raw::Other("table"),
    }
}
