//! `ringdesk doctor`: looks at the host and says what keeps the server from serving well, and what to do. Changes nothing.

mod host;
mod place;

pub(crate) use place::existing;

use serde::Serialize;

use crate::boot::Layout;
use crate::cli::Overrides;
use crate::exit::Exit;
use crate::verbs::{complain, say};

/// How good a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum State {
    /// As it should be.
    Ok,
    /// It serves, and could be better.
    Warn,
    /// It does not serve like this.
    Fail,
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Finding {
    /// What was looked at.
    check: &'static str,
    state: State,
    /// What is there.
    found: String,
    /// What to do; empty if nothing.
    advice: String,
    /// What the process would end with, if this alone kept it from serving.
    #[serde(skip)]
    status: Option<i32>,
}

impl Finding {
    fn new(check: &'static str, state: State, found: impl Into<String>) -> Finding {
        Finding { check, state, found: found.into(), advice: String::new(), status: None }
    }
    fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        Finding::new(check, State::Ok, found)
    }
    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { advice: advice.into(), ..Finding::new(check, State::Warn, found) }
    }
    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { advice: advice.into(), ..Finding::new(check, State::Fail, found) }
    }
}

/// Runs every check. Ends with 0 if the server would serve (warnings included); with the status that `serve` would end with, where one is known; else 5.
pub(crate) fn doctor(overrides: Overrides, json: bool) -> Exit {
    let config = match overrides.load() {
        Ok(config) => config,
        Err(complaints) => {
            complain(complaints);
            return Exit::Config;
        }
    };
    let layout = Layout::of(&config);
    let mut findings = vec![host::kernel(), host::ring(), host::filter()];
    match &layout {
        Ok(layout) => findings.extend([host::descriptors(layout), host::cores(layout)]),
        Err(error) => findings.push(Finding::fail("cores", error.to_string(), "is /proc mounted?")),
    }
    let shards = layout.as_ref().map_or(1, |layout| layout.plan.shard_cpus.len() as u16);
    findings.extend([host::locked_memory(shards), host::memory(&config), host::clock()]);
    findings.extend(place::all(&config, shards));
    let worst = findings.iter().map(|finding| finding.state).max().unwrap_or(State::Ok);
    if json {
        let report =
            serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "state": worst, "findings": findings });
        say(&format!("{report}\n"));
    } else {
        findings.iter().for_each(|finding| say(&line(finding)));
    }
    match worst {
        State::Fail => {
            let status = findings.iter().filter(|f| f.state == State::Fail).find_map(|f| f.status);
            status.map_or(Exit::Unfit, Exit::Edge)
        }
        State::Ok | State::Warn => Exit::Good,
    }
}

fn line(finding: &Finding) -> String {
    let state = match finding.state {
        State::Ok => "OK  ",
        State::Warn => "WARN",
        State::Fail => "FAIL",
    };
    let advice = match finding.advice.as_str() {
        "" => String::new(),
        advice => format!("\n                     → {advice}"),
    };
    format!("{state} {:15} {}{advice}\n", finding.check, finding.found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_well_comes_with_what_to_do() {
        let config =
            crate::config::Config::load(None, std::iter::empty(), crate::config::Layer::default()).unwrap();
        let layout = Layout::of(&config).unwrap();
        let findings = [
            host::kernel(),
            host::ring(),
            host::filter(),
            host::descriptors(&layout),
            host::cores(&layout),
            host::locked_memory(1),
            host::memory(&config),
            host::clock(),
        ];
        for finding in findings {
            assert_eq!(finding.state == State::Ok, finding.advice.is_empty(), "{finding:?}");
            assert!(!finding.found.is_empty());
        }
    }
}
