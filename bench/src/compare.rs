//! `compare A B`: two reports as ratios with 95 % intervals. What an interval around 1 covers is a tie, and is called one.

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use std::path::Path;

use crate::figures::Times;
use crate::report::Report;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;
/// Standard deviations of a normal distribution that hold 95 %.
const Z: f64 = 1.96;

/// A ratio and where it lies with 95 %.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Ratio {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Ratio {
    /// Whether the interval covers 1.
    pub(crate) fn is_tie(self) -> bool {
        self.low <= 1.0 && self.high >= 1.0
    }
}

/// Reads a report: a directory that `--out` named, or the file.
pub(crate) fn read(path: &Path) -> Result<Report, String> {
    let file = if path.is_dir() { path.join("report.json") } else { path.to_owned() };
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_str(&text)
        .map_err(|error| format!("{}: no report of this program: {error}", file.display()))
}

/// A quantile of B over that of A. The interval of each comes from its order statistics; both ends together are wider than 95 %.
fn quantiles(a: &Times, b: &Times, quantile: f64) -> Option<Ratio> {
    let of = |times: &Times| {
        let count = times.0.len() as f64;
        let spread = Z * (quantile * (1.0 - quantile) / count).sqrt();
        // Beyond the last sample nothing is known.
        (count * (1.0 - quantile) >= 10.0).then(|| {
            let at = |quantile: f64| times.0.value_at_quantile(quantile.clamp(0.0, 1.0)) as f64;
            (at(quantile), at(quantile - spread), at(quantile + spread))
        })
    };
    let ((a, a_low, a_high), (b, b_low, b_high)) = (of(a)?, of(b)?);
    Some(Ratio { value: b / a, low: b_low / a_high, high: b_high / a_low })
}

/// A mean over seconds of B over that of A, by a bootstrap with a fixed seed. Seconds of one run are not independent: the interval speaks of these two
/// runs, not of two hosts or two builds.
fn means(a: &[f64], b: &[f64]) -> Option<Ratio> {
    if a.len() < 5 || b.len() < 5 {
        return None;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    if mean(a) <= 0.0 || mean(b) <= 0.0 {
        return None;
    }
    let mut chance = ChaCha12Rng::seed_from_u64(1);
    let mut again = |values: &[f64]| {
        let picked: Vec<f64> =
            values.iter().map(|_| values[(chance.next_u64() % values.len() as u64) as usize]).collect();
        mean(&picked)
    };
    let mut ratios: Vec<f64> = (0..RESAMPLES).map(|_| again(b) / again(a).max(f64::MIN_POSITIVE)).collect();
    ratios.sort_by(f64::total_cmp);
    Some(Ratio {
        value: mean(b) / mean(a),
        low: ratios[RESAMPLES / 40],
        high: ratios[RESAMPLES - 1 - RESAMPLES / 40],
    })
}

/// CPU of shards for each message, second by second, of whole seconds that were measured.
fn cost(report: &Report) -> Vec<f64> {
    let warm_up = report.scenario.warm_up.as_secs_f64();
    let end = warm_up + report.scenario.duration.as_secs_f64();
    report
        .seconds
        .windows(2)
        .filter(|pair| pair[0].at_s >= warm_up && pair[1].at_s <= end && pair[1].at_s - pair[0].at_s > 0.5)
        .filter(|pair| pair[1].sent > 0.0)
        .map(|pair| pair[1].shard_cores / pair[1].sent)
        .collect()
}

/// The table.
pub(crate) fn table(a: &Report, b: &Report) -> String {
    let mut rows = Vec::new();
    for (name, times) in &a.figures.times {
        let Some(other) = b.figures.times.get(name) else { continue };
        for (quantile, label) in [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")] {
            if let Some(ratio) = quantiles(times, other, quantile) {
                rows.push((
                    format!("{name} {label}"),
                    format!("{:.0} µs", times.us(quantile)),
                    format!("{:.0} µs", other.us(quantile)),
                    ratio,
                ));
            }
        }
    }
    let (of_a, of_b) = (cost(a), cost(b));
    if let Some(ratio) = means(&of_a, &of_b) {
        let per_million = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64 * 1e6;
        rows.push((
            "shard CPU, s for a million".into(),
            format!("{:.2}", per_million(&of_a)),
            format!("{:.2}", per_million(&of_b)),
            ratio,
        ));
    }
    let mut text = String::new();
    for (name, report) in [("A", a), ("B", b)] {
        let problems = report.problems();
        let verdict =
            if problems.is_empty() { "sound".to_owned() } else { format!("ERRORS: {}", problems.join("; ")) };
        text += &format!("{name}: {} ({verdict})\n", report.command_line);
    }
    if a.scenario != b.scenario {
        text += "The two runs differ in more than the server: see their scenarios.\n";
    }
    text += &format!("\n{:<28}{:>12}{:>12}{:>9}  95 % interval\n", "", "A", "B", "B / A");
    for (name, a, b, ratio) in rows {
        let tie = if ratio.is_tie() { "  a tie" } else { "" };
        text += &format!(
            "{name:<28}{a:>12}{b:>12}{:>9.3}  {:.3} to {:.3}{tie}\n",
            ratio.value, ratio.low, ratio.high
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(factor: f64, count: u64) -> Times {
        let mut times = Times::default();
        // Exponential, as waiting times are.
        (1..=count).for_each(|at| {
            times.record((-(1.0 - at as f64 / (count + 1) as f64).ln() * 1e6 * factor) as u64)
        });
        times
    }

    #[test]
    fn the_same_twice_is_a_tie_and_twice_as_slow_is_none() {
        let (one, two) = (times(1.0, 20_000), times(2.0, 20_000));
        for quantile in [0.5, 0.99] {
            assert!(quantiles(&one, &one, quantile).unwrap().is_tie());
            let ratio = quantiles(&one, &two, quantile).unwrap();
            assert!(
                !ratio.is_tie() && (1.95..2.05).contains(&ratio.value) && ratio.low < 2.0 && ratio.high > 2.0,
                "{ratio:?}"
            );
        }
        assert_eq!(quantiles(&one, &times(1.0, 500), 0.999), None, "too few to know");
        let values: Vec<f64> = (0..30).map(|at| 1.0 + f64::from(at % 5) / 50.0).collect();
        let slower: Vec<f64> = values.iter().map(|value| value * 1.2).collect();
        assert!(means(&values, &values).unwrap().is_tie());
        let ratio = means(&values, &slower).unwrap();
        assert!(!ratio.is_tie() && (1.19..1.21).contains(&ratio.value), "{ratio:?}");
        assert_eq!(means(&values[..3], &values), None);
    }
}
