//! What was found about one item: as it should be or not, why, what a change risks, and the command that makes it.

/// How good a finding is; worse is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum State {
    /// It could not be read here, or has no meaning here; the reason says which.
    Na,
    /// As it should be, or of no account to this server; the reason says which.
    Ok,
    /// It serves, and could be better.
    Warn,
    /// It does not serve like this, or loses what it promised to keep.
    Fail,
}

impl State {
    /// As people and programs read it.
    pub fn name(self) -> &'static str {
        match self {
            State::Na => "NA",
            State::Ok => "OK",
            State::Warn => "WARN",
            State::Fail => "FAIL",
        }
    }
}

/// What part of the host an item belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Area {
    /// Limits and rights of the server's process.
    Process,
    /// The control group it runs in.
    Cgroup,
    /// The kernel and its command line.
    Kernel,
    /// Processors.
    Cpu,
    /// Memory.
    Memory,
    /// The network stack.
    Network,
    /// Network devices.
    Nic,
    /// The disk that holds the data.
    Storage,
}

impl Area {
    /// All, in the order of a report.
    pub const ALL: [Area; 8] = [
        Area::Process,
        Area::Cgroup,
        Area::Kernel,
        Area::Cpu,
        Area::Memory,
        Area::Network,
        Area::Nic,
        Area::Storage,
    ];

    /// As people and programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Area::Process => "process",
            Area::Cgroup => "cgroup",
            Area::Kernel => "kernel",
            Area::Cpu => "cpu",
            Area::Memory => "memory",
            Area::Network => "network",
            Area::Nic => "nic",
            Area::Storage => "storage",
        }
    }
}

/// What was found about one item.
///
/// OK has neither a wanted value nor a command; WARN and FAIL have both; NA has no current value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Where it belongs.
    pub area: Area,
    /// What was looked at; stable, so that programs may ask for it.
    pub item: &'static str,
    /// Which device, where there may be several.
    pub subject: Option<String>,
    /// How good it is.
    pub state: State,
    /// What is there.
    pub current: String,
    /// What should be there.
    pub wanted: String,
    /// Why.
    pub reason: String,
    /// Whether the reason is about what was found and not about the item: then people are told it even where all is well.
    pub particular: bool,
    /// What a change may break; empty if nothing is known to.
    pub risk: &'static str,
    /// The command that mends it, to be run as root; begins with `none:` where no command can. For NA, where else to look, or empty.
    pub command: String,
    /// The file it was read from.
    pub path: String,
}

/// Longest value that is shown.
const VALUE_CHARS_MAX: usize = 200;

/// An item that is about to be judged.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) area: Area,
    pub(crate) item: &'static str,
    pub(crate) subject: Option<String>,
    pub(crate) path: String,
    pub(crate) reason: &'static str,
    pub(crate) risk: &'static str,
}

impl Item {
    pub(crate) fn new(area: Area, item: &'static str, path: impl Into<String>, reason: &'static str) -> Item {
        Item { area, item, subject: None, path: path.into(), reason, risk: "" }
    }

    pub(crate) fn risk(self, risk: &'static str) -> Item {
        Item { risk, ..self }
    }

    pub(crate) fn of(self, subject: &str) -> Item {
        Item { subject: Some(clean(subject)), ..self }
    }

    pub(crate) fn ok(self, current: impl AsRef<str>) -> Finding {
        let reason = self.reason;
        Finding { particular: false, ..self.fine(current, reason) }
    }

    /// As it should be, for a reason of its own.
    pub(crate) fn fine(self, current: impl AsRef<str>, reason: impl Into<String>) -> Finding {
        let finding = self.finding(State::Ok, current.as_ref(), "", reason.into(), String::new());
        Finding { particular: true, ..finding }
    }

    pub(crate) fn warn(
        self,
        current: impl AsRef<str>,
        wanted: impl AsRef<str>,
        command: impl Into<String>,
    ) -> Finding {
        let reason = self.reason.to_owned();
        self.finding(State::Warn, current.as_ref(), wanted.as_ref(), reason, command.into())
    }

    pub(crate) fn fail(
        self,
        current: impl AsRef<str>,
        wanted: impl AsRef<str>,
        command: impl Into<String>,
    ) -> Finding {
        Finding { state: State::Fail, ..self.warn(current, wanted, command) }
    }

    /// Not judged, and why not.
    pub(crate) fn na(self, why: impl Into<String>) -> Finding {
        self.finding(State::Na, "", "", why.into(), String::new())
    }

    /// Not judged, because its file could not be read.
    pub(crate) fn unread(self, error: &crate::host::Unread) -> Finding {
        let why = format!("{} {error}", self.path);
        self.na(why)
    }

    fn finding(self, state: State, current: &str, wanted: &str, reason: String, command: String) -> Finding {
        let current = match clean(current) {
            nothing if nothing.is_empty() && state != State::Na => "empty".to_owned(),
            current => current,
        };
        Finding {
            area: self.area,
            item: self.item,
            subject: self.subject,
            state,
            current,
            wanted: clean(wanted),
            reason: plain(&reason),
            particular: false,
            risk: self.risk,
            command,
            path: self.path,
        }
    }
}

impl Finding {
    /// With a reason that knows more.
    pub(crate) fn because(self, reason: impl Into<String>) -> Finding {
        Finding { reason: plain(&reason.into()), ..self }
    }

    /// With a place to look at instead.
    pub(crate) fn look(self, command: impl Into<String>) -> Finding {
        Finding { command: command.into(), ..self }
    }
}

/// What a host says, on one line, without anything that moves a terminal's cursor.
fn plain(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).collect()
}

/// The same, as long as a value may be.
fn clean(text: &str) -> String {
    plain(text).chars().take(VALUE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_says_cannot_move_the_cursor() {
        let item = Item::new(Area::Kernel, "kernel", "", "");
        let finding = item.of("eth\u{1b}[2J0").ok("4096\t16384 \u{1b}[31m4194304\n");
        assert_eq!(finding.current, "4096 16384 [31m4194304");
        assert_eq!(finding.subject.as_deref(), Some("eth[2J0"));
    }
}
