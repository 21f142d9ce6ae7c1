//! What is wrong with the configuration, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A line of a file; counted from 1.
    Line(PathBuf, usize),
    /// A file as a whole.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
    /// Nowhere: it is the default.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(path, line) => write!(f, "{}:{line}", path.display()),
            Place::File(path) => write!(f, "{}", path.display()),
            Place::Variable(name) => write!(f, "environment {name}"),
            Place::Flag(name) => write!(f, "flag {name}"),
            Place::Default => write!(f, "default"),
        }
    }
}

/// One mistake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Complaint {
    /// Where it stands.
    pub(crate) place: Place,
    /// `section.key`, or empty if it concerns no key.
    pub(crate) name: String,
    /// What is wrong, with the bound.
    pub(crate) what: String,
}

impl Complaint {
    /// A mistake that concerns a file as a whole.
    pub(crate) fn whole_file(path: &Path, what: String) -> Complaint {
        Complaint { place: Place::File(path.to_owned()), name: String::new(), what }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_str() {
            "" => write!(f, "{}: {}", self.place, self.what),
            name => write!(f, "{}: {name}: {}", self.place, self.what),
        }
    }
}

/// All mistakes, in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Complaints(pub(crate) Vec<Complaint>);

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for complaint in &self.0 {
            writeln!(f, "{complaint}")?;
        }
        write!(f, "nothing was applied; `ringdesk init --config -` prints every setting with its bounds")
    }
}
