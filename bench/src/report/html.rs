//! `report.html`: one file, no scripts, nothing fetched; a person understands it in a minute.

use std::fmt::Write as _;

use super::Report;
use super::plot::{Line, Plot, Scale};
use crate::figures::Times;

/// The order in which times are shown; names that are not here come last.
const ORDER: &[&str] = &[
    "delivered",
    "acknowledged",
    "noticed",
    "came back",
    "login again",
    "echo",
    "logged in",
    "connect",
    "schedule lag",
];

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6576; --rule: #d9dee7; --paper: #fff; --good: #12704a; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #9aa4b5; --rule: #353c4a; --paper: #171b22; --good: #5fd0a0; --bad: #ff8f86; } }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; }
.verdict { font-weight: 600; font-size: 1.1rem; margin: 1rem 0; } .good { color: var(--good); } .bad { color: var(--bad); }
.soft { color: var(--soft); } code { font-size: .9em; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1rem; margin: 1.5rem 0; }
.facts div { border: 1px solid var(--rule); border-radius: .5rem; padding: .75rem 1rem; }
.facts b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--rule); white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font: 12px system-ui, sans-serif; } .grid { stroke: var(--rule); } .line { fill: none; stroke-width: 2; }
.c0 { stroke: #2f6fde; } .c1 { stroke: #d9822b; } .c2 { stroke: #2a9d6f; } .c3 { stroke: #a855c7; } .c4 { stroke: #c0392b; } .c5 { stroke: #7a8699; }
.key { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; font-size: .9rem; } .key i { display: inline-block; width: 1.25rem; border-top: 3px solid; vertical-align: middle; margin-right: .4rem; }
.key .c0 { border-color: #2f6fde; } .key .c1 { border-color: #d9822b; } .key .c2 { border-color: #2a9d6f; } .key .c3 { border-color: #a855c7; } .key .c4 { border-color: #c0392b; } .key .c5 { border-color: #7a8699; }
";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// With separators, so that a number is read at a glance.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn micros(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

fn bytes(count: f64) -> String {
    match count {
        count if count < 10_485_760.0 => format!("{:.0} KiB", count / 1024.0),
        count => format!("{:.0} MiB", count / 1_048_576.0),
    }
}

/// The page.
pub(crate) fn html(report: &Report) -> String {
    let Report { scenario, figures, .. } = report;
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>ringdesk bench: {0}</title><style>{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
        escaped(&scenario.about)
    );
    let _ = writeln!(page, "<div class=\"soft\"><code>{}</code></div>", escaped(&report.command_line));
    let problems = report.problems();
    match problems.as_slice() {
        [] => {
            let early = if report.stopped_early { "Stopped early. " } else { "" };
            let _ = writeln!(
                page,
                "<p class=\"verdict good\">{early}Nothing was lost, doubled, out of order or altered; no connection failed.</p>"
            );
        }
        problems => {
            let _ = writeln!(page, "<p class=\"verdict bad\">{}</p>", escaped(&problems.join("; ")));
        }
    }
    facts(&mut page, report);

    let mut names: Vec<&String> = figures.times.keys().collect();
    names.sort_by_key(|name| ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len()));
    if !names.is_empty() {
        page.push_str("<h2>Times by percentile</h2>\n");
        let waited = match scenario.rate > 0.0 {
            true => {
                "An open loop: times count from when a message <em>should</em> have been sent, so a server that stalls cannot hide it. How late the generator itself was is the schedule lag."
            }
            false => {
                "A closed loop: each connection waits for its answer before it sends again. It says how much goes through; times are flattered."
            }
        };
        let _ = writeln!(page, "<p class=\"soft\">{waited} Both axes are logarithmic.</p>");
        let lines = names.iter().map(|name| Line::new(name, percentiles(&figures.times[*name]))).collect();
        let ticks = [
            (0.0, "0 %"),
            (1.0, "90 %"),
            (2.0, "99 %"),
            (3.0, "99.9 %"),
            (4.0, "99.99 %"),
            (5.0, "99.999 %"),
        ];
        Plot {
            lines,
            x_ticks: ticks.map(|(at, text)| (at, text.to_owned())).to_vec(),
            scale: Scale::Log,
            unit: micros,
        }
        .write(&mut page);
        page.push_str("<div class=\"wide\"><table><tr><th></th><th>count</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>p99.99</th><th>max</th></tr>\n");
        for name in &names {
            let times = &figures.times[*name];
            let _ = write!(page, "<tr><td>{}</td><td>{}</td>", escaped(name), grouped(times.0.len()));
            for quantile in [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0] {
                let _ = write!(page, "<td>{}</td>", micros(times.us(quantile)));
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</table></div>\n");
    }
    over_time(&mut page, report);
    server(&mut page, report);
    let _ = writeln!(
        page,
        "<h2>Where</h2>\n<p>Generator: {} ({} cores, {}), Linux {}; {} worker processes. Server: {}, {} shards, durability <code>{}</code>.</p>",
        escaped(&report.host.processor),
        report.host.cores,
        bytes(report.host.memory as f64),
        escaped(&report.host.kernel),
        report.workers,
        escaped(&report.server),
        scenario.shards,
        escaped(&scenario.durability)
    );
    tuned(&mut page, report);
    page.push_str("</body></html>\n");
    page
}

/// What the host lacks.
fn tuned(page: &mut String, report: &Report) {
    let Some(tuning) = &report.host.tuning else { return };
    let _ = writeln!(
        page,
        "<p><code>ringdesk tune --check</code>: {} items are as they should be, {} could be better.</p>",
        tuning.ok,
        tuning.ill.len()
    );
    if tuning.ill.is_empty() {
        return;
    }
    page.push_str("<details><summary>What could be better</summary><div class=\"wide\"><table><tr><th></th><th>is</th><th>should be</th></tr>\n");
    for ill in &tuning.ill {
        let _ = writeln!(
            page,
            "<tr><td>{} {}</td><td>{}</td><td>{}</td></tr>",
            escaped(&ill.state),
            escaped(&ill.item),
            escaped(&ill.current),
            escaped(&ill.wanted)
        );
    }
    page.push_str("</table></div></details>\n");
}

fn facts(page: &mut String, report: &Report) {
    let Report { scenario, figures, .. } = report;
    let counts = &figures.counts;
    let mut facts = vec![
        (
            grouped(counts.standing()),
            format!("connections, in {:.1} s", report.connected_in_ms as f64 / 1000.0),
        ),
        (grouped(counts.sent), format!("messages of {} characters sent", scenario.payload)),
    ];
    if counts.answered > 0 {
        facts.push((grouped(counts.answered), format!("acknowledged, durability {}", scenario.durability)));
    }
    facts.push((grouped(counts.received), "received by whom they were for".into()));
    if counts.crossed > 0 {
        let share = 100.0 * counts.crossed as f64 / counts.received as f64;
        facts.push((format!("{share:.0} %"), "of them crossed shards".into()));
    }
    for name in ["delivered", "noticed", "came back", "echo"] {
        if let Some(times) = figures.times.get(name) {
            facts.push((micros(times.us(0.5)), format!("{name}, median")));
            facts.push((micros(times.us(0.99)), format!("{name}, 99 of 100")));
        }
    }
    if counts.noticed > 0 {
        facts.push((grouped(counts.noticed), "notices told".into()));
    }
    if counts.came_back > 0 {
        let what = format!("cut off and back, {} of them resumed", grouped(counts.resumed));
        facts.push((grouped(counts.came_back), what));
    }
    if counts.to_slow > 0 {
        let what = format!("of {} who read slowly or not were closed", scenario.slow + scenario.stuck);
        facts.push((grouped(counts.slow_closed), what));
    }
    if let Some(growth) = report.growth() {
        let mib = |bytes: f64| bytes / 1048576.0;
        let what = format!("MiB an hour more memory, ± {:.2}", mib(growth.error));
        facts.push((format!("{:.2}", mib(growth.per_hour)), what));
    }
    if let Some(audit) = &report.audit {
        let what = format!("acknowledged messages read back after kill -9, {} gone", audit.lost);
        facts.push((grouped(audit.acknowledged - audit.lost), what));
    }
    if let Some(spent) = &report.spent {
        facts.push((format!("{:.2}", spent.shard_cores), "cores that shards kept busy".into()));
        facts.push((bytes(spent.resident as f64), "resident memory of the server".into()));
    }
    page.push_str("<div class=\"facts\">");
    for (figure, what) in facts {
        let _ = write!(page, "<div><b>{figure}</b><span class=\"soft\">{}</span></div>", escaped(&what));
    }
    page.push_str("</div>\n");
}

/// Points of the plot: how many nines, and microseconds.
fn percentiles(times: &Times) -> Vec<(f64, f64)> {
    let most = (times.0.len() as f64).log10().min(5.0);
    (0..=100)
        .map(|step| most * f64::from(step) / 100.0)
        .map(|nines| (nines, times.us(1.0 - 10f64.powf(-nines))))
        .collect()
}

fn over_time(page: &mut String, report: &Report) {
    // The first and last are not whole seconds.
    let seconds: Vec<_> = report
        .seconds
        .windows(2)
        .filter(|pair| pair[1].at_s - pair[0].at_s > 0.5)
        .map(|pair| &pair[1])
        .collect();
    let (Some(first), Some(last)) = (seconds.first(), seconds.last()) else { return };
    let ticks: Vec<(f64, String)> = {
        let step = ((last.at_s - first.at_s) / 6.0).ceil().max(1.0);
        (0..)
            .map(|at| first.at_s.ceil() + step * f64::from(at))
            .take_while(|&at| at <= last.at_s)
            .map(|at| (at, format!("{at:.0} s")))
            .collect()
    };
    let line = |name: &str, of: fn(&super::Second) -> f64| {
        Line::new(name, seconds.iter().map(|second| (second.at_s, of(second))).collect())
    };
    let mut plot = |title: &str, lines: Vec<Line>, unit: fn(f64) -> String| {
        let _ = writeln!(page, "<h2>{title}</h2>");
        Plot { lines, x_ticks: ticks.clone(), scale: Scale::Linear, unit }.write(page);
    };
    if report.figures.counts.sent > 0 {
        let lines = vec![line("sent", |second| second.sent), line("received", |second| second.received)];
        plot("Messages a second", lines, |number| grouped(number as u64));
    }
    if report.spent.is_some() {
        plot("Cores that shards kept busy", vec![line("shards", |second| second.shard_cores)], |cores| {
            format!("{cores:.2}")
        });
        plot("Resident memory of the server", vec![line("resident", |second| second.resident as f64)], bytes);
    }
}

fn server(page: &mut String, report: &Report) {
    let Some(spent) = &report.spent else { return };
    let rows = [
        ("CPU seconds of shards for a million messages", format!("{:.2}", spent.shard_s_per_million)),
        (
            "CPU seconds of the rest of the server for a million messages",
            format!("{:.2}", spent.other_s_per_million),
        ),
        ("System calls into rings for each message", format!("{:.3}", spent.enters_per_message)),
        ("Completions for each of those", format!("{:.2}", spent.completions_per_enter)),
        ("Context switches for each message", format!("{:.3}", spent.switches_per_message)),
        ("Journal blocks written a second", format!("{:.0}", spent.commits_per_second)),
        ("Journal bytes written for each message", format!("{:.0}", spent.written_per_message)),
        ("Slab and TCP buffers of the host", bytes(spent.kernel as f64)),
        ("Time the hypervisor took", format!("{:.2} %", spent.steal * 100.0)),
    ];
    page.push_str("<h2>What it cost the server</h2>\n<div class=\"wide\"><table>\n");
    for (what, figure) in rows {
        let _ = writeln!(page, "<tr><td>{what}</td><td>{figure}</td></tr>");
    }
    page.push_str("</table></div>\n");
}
