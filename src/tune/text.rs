//! A report as people read it.

use std::fmt::Write as _;

use tuning::{Area, CpuList, Finding, Report, State, Wanted};

/// Columns of a line; longer texts go on below.
const WIDTH: usize = 110;
/// Longest name that the others are lined up with.
const NAME_MAX: usize = 36;
/// Before a name stand two blanks, the state and a blank.
const BEFORE_NAME: usize = 7;

/// All of it: what was planned, each area, and a last line that counts.
pub(super) fn of(report: &Report, wanted: &Wanted) -> String {
    let mut out = head(report, wanted);
    let names = report.findings.iter().map(|finding| name(finding).chars().count());
    let column = names.filter(|&count| count <= NAME_MAX).max().unwrap_or(0);
    for area in Area::ALL {
        let _ = writeln!(out, "\n{}", area.name());
        for finding in report.findings.iter().filter(|finding| finding.area == area) {
            out += &told(finding, column);
        }
    }
    out + "\n" + &summary(report)
}

fn head(report: &Report, wanted: &Wanted) -> String {
    let plan = &wanted.plan;
    let list = |cpus: &[u16]| match cpus {
        [] => "none of their own".to_owned(),
        cpus => cpus.iter().copied().collect::<CpuList>().to_string(),
    };
    let mut out = format!(
        "plan     shards on {}, control plane on {}, followers on {}, interrupts on {}\n",
        list(&plan.shard_cpus),
        list(&plan.control_cpus),
        list(&plan.follower_cpus),
        list(&plan.irq_cpus)
    );
    let best = report.build.map_or("unknown", |build| build.name());
    let _ = writeln!(out, "build    {}; the best this host can run is {best}", wanted.build);
    let process = match wanted.pid {
        Some(pid) => format!("{pid}, the server that runs"),
        None => "this one, for no server runs on this data directory; the unit's limits are seen from ExecStartPre".to_owned(),
    };
    let _ = writeln!(out, "process  {process}");
    out
}

fn name(finding: &Finding) -> String {
    match &finding.subject {
        Some(subject) => format!("{} {subject}", finding.item),
        None => finding.item.to_owned(),
    }
}

/// One finding: a line, and below it whatever there is to do.
fn told(finding: &Finding, column: usize) -> String {
    let at = BEFORE_NAME + column + 2;
    let said = match finding.state {
        State::Na => finding.reason.clone(),
        State::Ok if finding.particular => format!("{}: {}", finding.current, finding.reason),
        State::Ok => finding.current.clone(),
        State::Warn | State::Fail => format!("{} → {}", finding.current, finding.wanted),
    };
    let mut out = format!("  {:4} {:column$}  {}\n", finding.state.name(), name(finding), wrapped(&said, at));
    if finding.state > State::Ok {
        for (what, text) in [("why", finding.reason.as_str()), ("risk", finding.risk)] {
            if !text.is_empty() {
                let _ = writeln!(out, "       {what:4}  {}", wrapped(text, BEFORE_NAME + 6));
            }
        }
    }
    if !finding.command.is_empty() {
        // Never broken: it is there to be copied.
        let what = if finding.state == State::Na { "look" } else { "do" };
        let _ = writeln!(out, "       {what:4}  {}", finding.command);
    }
    out
}

/// Words on lines of [`WIDTH`], all but the first indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut column = indent;
    for word in text.split(' ') {
        let count = word.chars().count();
        if column > indent && column + 1 + count > WIDTH {
            out += "\n";
            out += &" ".repeat(indent);
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += count;
    }
    out
}

fn summary(report: &Report) -> String {
    let count = |state| report.count(state);
    let mut out = format!(
        "{} items: {} OK, {} WARN, {} FAIL, {} NA\n",
        report.findings.len(),
        count(State::Ok),
        count(State::Warn),
        count(State::Fail),
        count(State::Na)
    );
    if report.worst() > State::Ok {
        out += "Commands are for root, and what they write below /proc and /sys lasts until the next start of the host; lines `name = value` in\n\
                /etc/sysctl.d/90-ringdesk.conf keep a sysctl. Weigh each risk first. Nothing was changed.\n";
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_finding(state: State) -> Finding {
        Finding {
            area: Area::Storage,
            item: "scheduler",
            subject: Some("vda".to_owned()),
            state,
            current: "mq-deadline".to_owned(),
            wanted: "none".to_owned(),
            reason: "the journal is one stream in order".to_owned(),
            particular: false,
            risk: "others wait",
            command: "echo none > x".to_owned(),
            path: String::new(),
        }
    }

    #[test]
    fn what_is_ill_is_told_with_why_risk_and_what_to_do() {
        assert_eq!(
            told(&a_finding(State::Warn), 15),
            "  WARN scheduler vda    mq-deadline → none\n       why   the journal is one stream in order\n       risk  others wait\n       do    echo none > x\n"
        );
    }

    #[test]
    fn what_is_well_takes_one_line() {
        let well = Finding { command: String::new(), ..a_finding(State::Ok) };
        assert_eq!(told(&well, 13), "  OK   scheduler vda  mq-deadline\n");
        let well = Finding { particular: true, ..well };
        assert_eq!(
            told(&well, 13),
            "  OK   scheduler vda  mq-deadline: the journal is one stream in order\n"
        );
        let unknown = Finding { current: String::new(), ..a_finding(State::Na) };
        assert_eq!(
            told(&unknown, 13),
            "  NA   scheduler vda  the journal is one stream in order\n       look  echo none > x\n"
        );
    }

    #[test]
    fn long_texts_go_on_below_and_no_word_is_lost() {
        let text = vec!["seven"; 60].join(" ");
        let lines = wrapped(&text, 20);
        assert!(
            lines
                .lines()
                .skip(1)
                .all(|line| line.starts_with(&" ".repeat(20)) && line.chars().count() <= WIDTH)
        );
        assert_eq!(lines.split_whitespace().count(), 60);
        assert_eq!(lines.lines().count(), 4);
    }
}
