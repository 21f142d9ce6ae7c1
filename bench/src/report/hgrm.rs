//! The text form of percentiles that HdrHistogram's plotters read (`*.hgrm`).

use crate::figures::Times;
use std::fmt::Write as _;

/// The distribution in microseconds, five steps for each halving of the distance to 100 %.
pub(crate) fn hgrm(times: &Times) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut counted = 0;
    for step in times.0.iter_quantiles(5) {
        counted += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / 1000.0;
        let quantile = step.quantile_iterated_to();
        let _ = match quantile < 1.0 {
            true => {
                writeln!(text, "{value:12.3} {quantile:2.12} {counted:10} {:14.2}", 1.0 / (1.0 - quantile))
            }
            false => writeln!(text, "{value:12.3} {quantile:2.12} {counted:10}"),
        };
    }
    let histogram = &times.0;
    let _ = writeln!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]\n#[Buckets = {:12}, SubBuckets     = {:12}]",
        histogram.mean() / 1000.0,
        histogram.stdev() / 1000.0,
        histogram.max() as f64 / 1000.0,
        histogram.len(),
        histogram.buckets(),
        histogram.distinct_values(),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_ends_with_everything_and_its_summary() {
        let mut times = Times::default();
        (1..=10_000u64).for_each(|us| times.record(us * 1000));
        let text = hgrm(&times);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("Value") && !line.is_empty())
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        assert!(rows.len() > 20);
        assert!(
            rows.windows(2)
                .all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] <= pair[1][1] && pair[0][2] <= pair[1][2])
        );
        let half = rows.iter().find(|row| row[1] == 0.5).unwrap();
        assert!((4_995.0..5_010.0).contains(&half[0]) && half[3] == 2.0, "{half:?}");
        assert_eq!(rows.last().unwrap()[1..], [1.0, 10_000.0]);
        assert!(text.contains("Total count    =        10000]"));
    }
}
