//! What a run does: a commented TOML file, and what the command line changes in it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

use crate::schedule::Pace;

/// The scenarios that are built in.
const BUILT_IN: &[(&str, &str)] = &[
    ("broadcast", include_str!("../scenarios/broadcast.toml")),
    ("chat", include_str!("../scenarios/chat.toml")),
    ("echo", include_str!("../scenarios/echo.toml")),
    ("idle", include_str!("../scenarios/idle.toml")),
    ("peak", include_str!("../scenarios/peak.toml")),
    ("slow", include_str!("../scenarios/slow.toml")),
    ("soak", include_str!("../scenarios/soak.toml")),
    ("storm", include_str!("../scenarios/storm.toml")),
];

/// Conversations that one account takes at most.
const AGENT_CAPACITY: u32 = 500;

/// What the connections do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Stand logged in and answer heartbeats.
    Idle,
    /// Send to the echo path and hear it again.
    Echo,
    /// Visitors and agents talk, one to one, durably.
    Chat,
}

/// How everybody loses his connection at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Storm {
    /// The network cuts all of them: the server hears the end of each.
    Cut,
    /// All fall silent without an end, as behind a dead router, and come back on new connections.
    HalfOpen,
    /// The server is killed with -9 and started again.
    Restart,
}

/// A run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// One sentence for the report.
    pub(crate) about: String,
    /// What the connections do.
    pub(crate) kind: Kind,
    /// Connections in all.
    pub(crate) connections: u32,
    /// Messages a second in all; 0 is a closed loop: each connection sends when it has heard.
    #[serde(default)]
    pub(crate) rate: f64,
    /// How messages of an open loop follow each other.
    #[serde(default = "poisson")]
    pub(crate) pace: Pace,
    /// Characters of a message, at least those that carry number, time and checksum.
    #[serde(default = "payload")]
    pub(crate) payload: usize,
    /// Conversations that are talked in.
    #[serde(default)]
    pub(crate) chats: u32,
    /// Conversations of each agent session.
    #[serde(default = "chats_per_agent")]
    pub(crate) chats_per_agent: u32,
    /// Of the visitors who do not talk so many leave every second, and as many new ones come.
    #[serde(default)]
    pub(crate) churn: f64,
    /// A third of the measured time in, everybody loses his connection, comes back and goes on.
    #[serde(default)]
    pub(crate) storm: Option<Storm>,
    /// Within this time after it everybody makes his first attempt to come back.
    #[serde(default = "at_once", with = "span")]
    pub(crate) storm_spread: Duration,
    /// Of those who talk so many visitors read a kilobyte a second. They say nothing.
    #[serde(default)]
    pub(crate) slow: u32,
    /// And so many read nothing at all.
    #[serde(default)]
    pub(crate) stuck: u32,
    /// Notices a second that everybody is told, by the private listener.
    #[serde(default)]
    pub(crate) notices: f64,
    /// Of 100 messages so many are announced by `typing`.
    #[serde(default)]
    pub(crate) typing_percent: u32,
    /// Of 100 messages heard so many are marked as seen.
    #[serde(default)]
    pub(crate) seen_percent: u32,
    /// Not measured.
    #[serde(with = "span")]
    pub(crate) warm_up: Duration,
    /// Measured.
    #[serde(with = "span")]
    pub(crate) duration: Duration,
    /// Of a server that the generator starts: what an acknowledgement promises.
    #[serde(default = "disk")]
    pub(crate) durability: String,
    /// Of a server that the generator starts.
    #[serde(default = "one")]
    pub(crate) shards: u16,
}

fn poisson() -> Pace {
    Pace::Poisson
}
fn payload() -> usize {
    128
}
fn chats_per_agent() -> u32 {
    16
}
fn disk() -> String {
    "disk".into()
}
fn at_once() -> Duration {
    Duration::ZERO
}
fn one() -> u16 {
    1
}

/// Why there is no scenario.
#[derive(Debug)]
pub(crate) struct BadScenario(String);

impl fmt::Display for BadScenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scenario {
    /// Names of those that are built in.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|&(name, _)| name)
    }

    /// A built-in one, or a file.
    ///
    /// # Errors
    /// No such scenario, or a file that is not one; in words.
    pub(crate) fn find(name: &str) -> Result<Scenario, BadScenario> {
        let built_in = BUILT_IN.iter().find(|&&(known, _)| known == name).map(|&(_, text)| text.to_owned());
        let text = match built_in {
            Some(text) => text,
            None if name.ends_with(".toml") => {
                std::fs::read_to_string(name).map_err(|error| BadScenario(format!("{name}: {error}")))?
            }
            None => {
                let names: Vec<_> = Scenario::names().collect();
                return Err(BadScenario(format!(
                    "there is no scenario {name}; there are {}, and files that end in .toml",
                    names.join(", ")
                )));
            }
        };
        toml::from_str(&text).map_err(|error| BadScenario(format!("{name}: {error}")))
    }

    /// Agent sessions.
    pub(crate) fn agents(&self) -> u32 {
        match self.kind {
            Kind::Chat => self.chats.div_ceil(self.chats_per_agent),
            Kind::Idle | Kind::Echo => 0,
        }
    }

    /// From the beginning of the measured time until everybody loses his connection.
    pub(crate) fn storm_after(&self) -> Duration {
        self.duration / 3
    }

    /// Times of all notices, from the beginning of the run.
    pub(crate) fn notice_times(&self) -> impl Iterator<Item = Duration> + use<> {
        let (rate, whole) = (self.notices, self.warm_up + self.duration);
        let count = if rate > 0.0 { (whole.as_secs_f64() * rate) as u32 } else { 0 };
        (0..count).map(move |number| Duration::from_secs_f64(f64::from(number) / rate))
    }

    /// Sessions that one account can have with all its conversations within its capacity.
    pub(crate) fn sessions_per_agent(&self) -> u32 {
        (AGENT_CAPACITY / self.chats_per_agent.max(1)).max(1)
    }

    /// Whether the numbers make sense together.
    ///
    /// # Errors
    /// The key, its bound and what it is.
    pub(crate) fn check(&self) -> Result<(), BadScenario> {
        let bad = |what: String| Err(BadScenario(what));
        if self.connections == 0 || self.connections > 1_000_000 {
            return bad(format!("connections must be 1 to 1000000; it is {}", self.connections));
        }
        if !(0.0..=10_000_000.0).contains(&self.rate) {
            return bad(format!("rate must be 0 to 10000000 messages a second; it is {}", self.rate));
        }
        if self.payload < crate::verify::BODY_HEAD || self.payload > 10_000 {
            let least = crate::verify::BODY_HEAD;
            return bad(format!("payload must be {least} to 10000 characters; it is {}", self.payload));
        }
        if self.duration.is_zero() {
            return bad("duration must be above zero".into());
        }
        if !(0.0..=100_000.0).contains(&self.churn) {
            return bad(format!("churn must be 0 to 100000 visitors a second; it is {}", self.churn));
        }
        if self.churn > 0.0 && (self.kind == Kind::Echo || self.connections <= self.chats + self.agents()) {
            return bad("churn needs visitors who do not talk: more connections, or fewer chats".into());
        }
        if !(0.0..=1_000.0).contains(&self.notices) {
            return bad(format!("notices must be 0 to 1000 a second; it is {}", self.notices));
        }
        if self.notices > 0.0 && (self.kind == Kind::Echo || self.churn > 0.0 || self.storm.is_some()) {
            return bad("notices are for those who stay: no echo, no churn, no storm".into());
        }
        if self.storm.is_some() && (self.kind == Kind::Echo || self.churn > 0.0) {
            return bad("a storm is for those who stay and have a session: no echo, no churn".into());
        }
        if self.slow + self.stuck > 0 {
            if self.kind != Kind::Chat || self.storm.is_some() || self.churn > 0.0 || self.notices > 0.0 {
                return bad("slow and stuck readers are for chat, without storm, churn and notices".into());
            }
            if self.slow + self.stuck >= self.chats {
                return bad(format!(
                    "{} of {} chats are slow or stuck: somebody must read",
                    self.slow + self.stuck,
                    self.chats
                ));
            }
        }
        if self.kind == Kind::Chat {
            if self.rate == 0.0 {
                return bad("chat needs a rate: people do not wait for each other".into());
            }
            if self.chats == 0 || self.chats_per_agent == 0 {
                return bad("chats and chats_per_agent must be above zero".into());
            }
            if self.chats_per_agent > AGENT_CAPACITY {
                return bad(format!(
                    "chats_per_agent must be at most {AGENT_CAPACITY}; it is {}",
                    self.chats_per_agent
                ));
            }
            let agents = self.agents();
            if self.chats + agents > self.connections {
                return bad(format!(
                    "{} chats need {} connections; there are {}",
                    self.chats,
                    self.chats + agents,
                    self.connections
                ));
            }
        }
        Ok(())
    }
}

/// Whether message `number`, from 1 on, is one of so many in a hundred: they are spread evenly.
pub(crate) fn is_among(percent: u32, number: u64) -> bool {
    let percent = u64::from(percent);
    number * percent / 100 != (number - 1) * percent / 100
}

/// Reads `1500ms`, `60s`, `5m` or `1h`.
///
/// # Errors
/// What it should have been.
pub(crate) fn read_span(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 =
        text[..digits].parse().map_err(|_| format!("{text} is not a time like 500ms, 60s, 5m or 1h"))?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        _ => Err(format!("{text} is not a time like 500ms, 60s, 5m or 1h")),
    }
}

mod span {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{}ms", span.as_millis()))
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        super::read_span(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_is_sound() {
        for name in Scenario::names() {
            let scenario = Scenario::find(name).unwrap_or_else(|error| panic!("{name}: {error}"));
            scenario.check().unwrap_or_else(|error| panic!("{name}: {error}"));
            let again: Scenario = serde_json::from_str(&serde_json::to_string(&scenario).unwrap()).unwrap();
            assert_eq!(again, scenario, "it travels to workers");
        }
    }

    #[test]
    fn a_wrong_scenario_is_told_what_is_wrong() {
        assert!(
            Scenario::find("nonsense")
                .unwrap_err()
                .0
                .contains("broadcast, chat, echo, idle, peak, slow, soak, storm")
        );
        let mut chat = Scenario::find("chat").unwrap();
        chat.connections = 10;
        assert!(chat.check().unwrap_err().0.contains("need"));
        chat.payload = 3;
        chat.connections = 100_000;
        assert!(chat.check().unwrap_err().0.starts_with("payload must be 49 to 10000"));
        assert_eq!(read_span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(read_span("250ms"), Ok(Duration::from_millis(250)));
        assert!(read_span("5 minutes").is_err() && read_span("s").is_err());
    }
}
