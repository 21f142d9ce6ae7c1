//! The log: one line an event on standard error, no bodies, control characters escaped.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::config::{LogFormat, LogLevel};

struct Lines {
    format: LogFormat,
}

/// Starts the log, and from then on a panic speaks through it too. Only the first call has an effect.
pub(crate) fn start(level: LogLevel, format: LogFormat) {
    if log::set_boxed_logger(Box::new(Lines { format })).is_ok() {
        std::panic::set_hook(Box::new(panicked));
        log::set_max_level(match level {
            LogLevel::Error => LevelFilter::Error,
            LogLevel::Warn => LevelFilter::Warn,
            LogLevel::Info => LevelFilter::Info,
            LogLevel::Debug => LevelFilter::Debug,
        });
    }
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries below us may say what went wrong, not what they do.
        metadata.target().starts_with("ringdesk") || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let target = record.target();
            let area = target
                .strip_prefix("ringdesk::")
                .or_else(|| target.strip_prefix("ringdesk_"))
                .unwrap_or(target);
            let text = record.args().to_string();
            let line = line(self.format, now.as_millis() as u64, record.level(), area, &text);
            // A log that cannot be written has nobody to tell.
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// The words of a panic, wherever it is caught: in the configured format, one event a line.
fn panicked(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = panic.location().map(|place| format!(" at {place}")).unwrap_or_default();
    let what = panic.payload_as_str().unwrap_or("no message");
    log::error!(target: "panic", "thread {name} panicked{place}: {what}");
    // With RUST_BACKTRACE.
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        for line in backtrace.to_string().lines() {
            log::error!(target: "panic", "{line}");
        }
    }
}

fn line(format: LogFormat, now_ms: u64, level: Level, area: &str, text: &str) -> String {
    let (at, text) = (timestamp(now_ms), escaped(text));
    match format {
        LogFormat::Text => format!("{at} {level:5} {area}: {text}\n"),
        LogFormat::Json => {
            let object = serde_json::json!({ "ts": at, "level": level.as_str().to_lowercase(), "area": area, "msg": text });
            format!("{object}\n")
        }
    }
}

/// Control characters, and those that change the direction of text, as `\u{…}`: a peer cannot forge a line or steer a terminal.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}') =>
            {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// RFC 3339 in UTC, to the millisecond.
pub(crate) fn timestamp(ms: u64) -> String {
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    // Civil date from days (Howard Hinnant): years begin in March, so that the leap day is the last.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (h, m, s, ms) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_cannot_forge_a_line_or_steer_a_terminal() {
        let text =
            line(LogFormat::Text, 0, Level::Info, "control", "peer said \"a\r\nERROR x\u{1b}[2J\u{202e}\"");
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.contains(r"a\u{d}\u{a}ERROR x\u{1b}[2J\u{202e}"), "{text}");
        let json = line(LogFormat::Json, 0, Level::Warn, "control", "a\nb\u{7}");
        assert_eq!(json.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((value["level"].as_str(), value["msg"].as_str()), (Some("warn"), Some(r"a\u{a}b\u{7}")));
    }

    #[test]
    fn times_are_civil() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(ms), text);
        }
    }
}
