//! Plots as SVG text.

use std::fmt::Write as _;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 80.0;
const BOTTOM: f64 = 30.0;
const TOP: f64 = 10.0;
const RIGHT: f64 = 10.0;
/// Colours that the style sheet has.
const COLOURS: usize = 6;

/// How values are spread over the height.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From zero.
    Linear,
    /// By powers of ten.
    Log,
}

/// One line and its name.
pub(crate) struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Line {
    /// A line through points, left to right.
    pub(crate) fn new(name: &str, points: Vec<(f64, f64)>) -> Line {
        Line { name: name.to_owned(), points }
    }
}

/// A plot.
pub(crate) struct Plot {
    /// At most six are told apart.
    pub(crate) lines: Vec<Line>,
    /// Places on the horizontal axis, and what stands there.
    pub(crate) x_ticks: Vec<(f64, String)>,
    /// Of the vertical axis.
    pub(crate) scale: Scale,
    /// How a value is written.
    pub(crate) unit: fn(f64) -> String,
}

impl Plot {
    /// Appends the picture and its key. Without a point there is none.
    pub(crate) fn write(&self, page: &mut String) {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (mut left, mut right, mut low, mut high) = (f64::MAX, f64::MIN, f64::MAX, f64::MIN);
        for &(x, y) in points() {
            (left, right) = (left.min(x), right.max(x));
            (low, high) = (low.min(y), high.max(y));
        }
        if points().next().is_none() {
            return;
        }
        let right = right.max(left + 1e-9);
        let y_ticks: Vec<f64> = match self.scale {
            Scale::Linear => {
                let step = nice_step(high.max(1e-9) / 4.0);
                let top = (high / step).ceil().max(1.0);
                (0..=top as u32).map(|at| step * f64::from(at)).collect()
            }
            Scale::Log => {
                let (from, to) = (low.max(1e-3).log10().floor() as i32, high.max(1e-3).log10().ceil() as i32);
                (from..=to.max(from + 1)).map(|power| 10f64.powi(power)).collect()
            }
        };
        let along = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(1e-3).log10(),
        };
        let (bottom, top) = (along(y_ticks[0]), along(*y_ticks.last().expect("there are at least two")));
        let x_of = |x: f64| LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT);
        let y_of = |y: f64| TOP + (top - along(y)) / (top - bottom) * (HEIGHT - TOP - BOTTOM);

        let _ = writeln!(page, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
        for &value in &y_ticks {
            let y = y_of(value);
            let _ = writeln!(
                page,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                (self.unit)(value)
            );
        }
        for (at, text) in self.x_ticks.iter().filter(|(at, _)| (left..=right).contains(at)) {
            let x = x_of(*at);
            let anchor = if x > WIDTH - 60.0 { "end" } else { "middle" };
            let _ = writeln!(
                page,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{}\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{text}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - 8.0
            );
        }
        for (number, line) in self.lines.iter().enumerate() {
            let points: Vec<String> =
                line.points.iter().map(|&(x, y)| format!("{:.1},{:.1}", x_of(x), y_of(y))).collect();
            let _ = writeln!(
                page,
                "<polyline class=\"line c{}\" points=\"{}\"/>",
                number % COLOURS,
                points.join(" ")
            );
        }
        page.push_str("</svg>\n<div class=\"key\">");
        for (number, line) in self.lines.iter().enumerate() {
            let _ = write!(page, "<span><i class=\"c{}\"></i>{}</span>", number % COLOURS, line.name);
        }
        page.push_str("</div>\n");
    }
}

/// 1, 2 or 5 times a power of ten, not below `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|&step| step >= least)
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_lies_in_the_picture() {
        for scale in [Scale::Linear, Scale::Log] {
            for points in [
                vec![(0.0, 3.0), (1.0, 70_000.0), (5.0, 0.5)],
                vec![(2.0, 0.0)],
                vec![(0.0, 1.0), (1.0, 1.0)],
            ] {
                let mut page = String::new();
                let plot = Plot {
                    lines: vec![Line::new("one", points)],
                    x_ticks: vec![(1.0, "1".into())],
                    scale,
                    unit: |value| value.to_string(),
                };
                plot.write(&mut page);
                let line = page.lines().find(|line| line.contains("polyline")).unwrap();
                let points = line.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
                for point in points.split(' ') {
                    let (x, y) = point.split_once(',').unwrap();
                    assert!((LEFT - 0.1..=WIDTH).contains(&x.parse::<f64>().unwrap()), "{line}");
                    assert!((0.0..=HEIGHT - BOTTOM + 0.1).contains(&y.parse::<f64>().unwrap()), "{line}");
                }
                assert!(!page.contains("NaN") && !page.contains("inf"));
            }
        }
        assert_eq!([0.3, 1.0, 1.1, 7.0].map(nice_step), [0.5, 1.0, 2.0, 10.0]);
    }
}
