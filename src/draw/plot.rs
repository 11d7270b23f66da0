//! Learning curves as SVG, drawn by hand: no dependency, the same bytes for the same numbers.
//!
//! A plot is a list of series over environment steps (a line, or evaluation points with a band of one standard
//! deviation), reference lines that say what a return is worth, and axes with round numbers. Colours are Okabe and
//! Ito's, which colour-blind readers tell apart. The card is white, so that it reads on dark pages too.

use std::fmt::{self, Write as _};

/// One measured point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Usually environment steps.
    pub x: f64,
    /// Mean.
    pub y: f64,
    /// Half the height of the band, 0 for none.
    pub spread: f64,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Line, dots at the points, band of the spread.
    Measured,
    /// Thin pale line: many noisy points.
    Faint,
}

/// One curve.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name in the legend.
    pub label: String,
    /// Points in order of x.
    pub points: Vec<Point>,
    /// How it is drawn.
    pub look: Look,
    /// Index into the colours; series of one run share it.
    pub color: usize,
}

/// A level, or a band of levels, that gives the curve its meaning.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Name, written at the right end of the line.
    pub label: String,
    /// Lower value.
    pub low: f64,
    /// Upper value; the same as `low` for a line.
    pub high: f64,
}

/// Everything on one picture.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Headline.
    pub title: String,
    /// A line below it; may be empty.
    pub subtitle: String,
    /// Under the horizontal axis.
    pub x_label: String,
    /// Above the vertical axis.
    pub y_label: String,
    /// The curves.
    pub series: Vec<Series>,
    /// The levels.
    pub references: Vec<Reference>,
    /// Moments, as `(x, name)`: dotted vertical lines.
    pub marks: Vec<(f64, String)>,
}

pub const COLORS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555"];
/// Dashes that tell curves of the same colour apart, where there are more curves than colours.
const DASHES: [&str; 4] = ["", "9 5", "2 4", "10 4 2 4"];
const W: f64 = 960.0;
/// Height with a legend of one row.
const H: f64 = 540.0;
const LEFT: f64 = 86.0;
const RIGHT: f64 = 36.0;
const BOTTOM: f64 = 64.0;
/// Height of a row of the legend.
const ROW: f64 = 22.0;

/// Round values from at or below `low` to at or above `high`, about `count` of them: steps of 1, 2 or 5 times ten to a
/// power.
pub fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = if high > low { high - low } else { 1.0 };
    let rough = span / count.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= rough * 0.999).unwrap_or(10.0) * power;
    let (first, last) = ((low / step + 1e-9).floor() as i64, (high / step - 1e-9).ceil() as i64);
    (first..=last.max(first + 1)).map(|i| i as f64 * step).collect()
}

/// A number as axes and tables show it: `0`, `1,500`, `250k`, `1.5M`.
pub struct Label(pub f64);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let v = self.0;
        let a = v.abs();
        let (scaled, unit) = match a {
            _ if a >= 1e9 => (v / 1e9, "G"),
            _ if a >= 1e6 => (v / 1e6, "M"),
            _ if a >= 2e4 => (v / 1e3, "k"),
            _ if a >= 1e3 => {
                let n = a.round() as i64;
                return write!(f, "{}{},{:03}", if v < 0.0 { "−" } else { "" }, n / 1000, n % 1000);
            }
            _ => (v, ""),
        };
        if a > 0.0 && a < 1e-3 {
            // `{:e}` of the number itself shows the last bits.
            let round: f64 = format!("{a:.3e}").parse().unwrap_or(a);
            return write!(f, "{}{round:e}", if v < 0.0 { "−" } else { "" });
        }
        // Ticks are round: six decimals hide the last bits of a product with 0.1 and cut no tick.
        let r = (scaled * 1e6).round() / 1e6;
        let (sign, r) = if r < 0.0 { ("−", -r) } else { ("", r.abs()) };
        write!(f, "{sign}{r}{unit}")
    }
}

/// Text that may stand in SVG.
pub fn escape(s: &str) -> String {
    s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Plot {
    /// Axes of return over environment steps, nothing on them.
    pub fn returns() -> Self {
        Self {
            title: String::new(),
            subtitle: String::new(),
            x_label: "environment steps".into(),
            y_label: "return of an episode".into(),
            series: vec![],
            references: vec![],
            marks: vec![],
        }
    }

    /// The picture.
    pub fn svg(&self) -> String {
        let mut s = String::new();
        // Writing to a String cannot fail.
        let _ = self.draw(&mut s);
        s
    }

    fn draw(&self, s: &mut String) -> fmt::Result {
        let shown: Vec<&Series> = self.series.iter().filter(|c| !c.points.is_empty()).collect();
        let points = || shown.iter().flat_map(|c| c.points.iter()).filter(|p| p.x.is_finite() && p.y.is_finite());
        let max_x = points().map(|p| p.x).fold(0.0, f64::max);
        // A wide band of a few bad episodes must not press the means together: bands count up to twice the mean's
        // range.
        let mut low = points().map(|p| p.y).fold(0.0, f64::min);
        let mut high = points().map(|p| p.y).fold(0.0, f64::max);
        for r in &self.references {
            low = low.min(r.low);
            high = high.max(r.high * 1.05);
        }
        let reach = (high - low).max(1e-9);
        low = points().map(|p| p.y - p.spread).fold(low, f64::min).max(low - 0.25 * reach);
        high = points().map(|p| p.y + p.spread).fold(high, f64::max).min(high + 0.5 * reach);
        let (xs, ys) = (ticks(0.0, if max_x > 0.0 { max_x } else { 1.0 }, 7), ticks(low, high, 8));
        let legend = legend(&shown);
        // The picture grows with its legend, so that the curves keep their room.
        let more = ROW * legend.last().map_or(0.0, |entry| entry.row as f64);
        let height = H + more;
        let first = if self.subtitle.is_empty() { 68.0 } else { 90.0 };
        let top = first + 36.0 + more;
        // The horizontal axis ends where the data does; the vertical one at round numbers.
        let x_end = if max_x > 0.0 { max_x } else { 1.0 };
        let (y0, y1) = (ys[0], ys[ys.len() - 1]);
        let px = |x: f64| LEFT + (W - LEFT - RIGHT) * x / x_end;
        let py = |y: f64| top + (height - BOTTOM - top) * (y1 - y) / (y1 - y0);
        let (plot_right, plot_bottom) = (W - RIGHT, height - BOTTOM);

        write!(
            s,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {W} {height}\" width=\"{W}\" height=\"{height}\" \
             font-family=\"Inter, Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n\
             <title>{title}</title>\n\
             <defs><clipPath id=\"area\"><rect x=\"{LEFT}\" y=\"{top}\" width=\"{w}\" height=\"{h}\"/></clipPath></defs>\n\
             <rect width=\"{W}\" height=\"{height}\" rx=\"10\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"42\" font-size=\"21\" font-weight=\"600\" fill=\"#1a1f26\">{title}</text>\n",
            title = escape(&self.title),
            w = plot_right - LEFT,
            h = plot_bottom - top,
        )?;
        if !self.subtitle.is_empty() {
            writeln!(
                s,
                "<text x=\"{LEFT}\" y=\"65\" font-size=\"13.5\" fill=\"#66707c\">{}</text>",
                escape(&self.subtitle)
            )?;
        }
        legend.iter().try_for_each(|entry| entry.draw(s, first))?;

        for &y in &ys {
            let at = py(y);
            let ink = if y == 0.0 { "#9aa3ad" } else { "#e8ebee" };
            writeln!(
                s,
                "<line x1=\"{LEFT}\" x2=\"{plot_right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{ink}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"13\" fill=\"#66707c\" text-anchor=\"end\">{}</text>",
                LEFT - 10.0,
                at + 4.5,
                Label(y)
            )?;
        }
        for &x in xs.iter().filter(|&&x| x <= x_end * 1.0001) {
            let at = px(x);
            writeln!(
                s,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{plot_bottom}\" y2=\"{:.1}\" stroke=\"#9aa3ad\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" font-size=\"13\" fill=\"#66707c\" text-anchor=\"middle\">{}</text>",
                plot_bottom + 6.0,
                plot_bottom + 23.0,
                Label(x)
            )?;
        }
        writeln!(
            s,
            "<line x1=\"{LEFT}\" x2=\"{plot_right}\" y1=\"{plot_bottom}\" y2=\"{plot_bottom}\" stroke=\"#9aa3ad\"/>"
        )?;
        writeln!(
            s,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"13.5\" fill=\"#3c4550\" text-anchor=\"middle\">{}</text>",
            (LEFT + plot_right) / 2.0,
            height - 16.0,
            escape(&self.x_label)
        )?;
        writeln!(
            s,
            "<text transform=\"translate(24 {:.1}) rotate(-90)\" font-size=\"13.5\" fill=\"#3c4550\" text-anchor=\"middle\">{}</text>",
            (top + plot_bottom) / 2.0,
            escape(&self.y_label)
        )?;

        writeln!(s, "<g clip-path=\"url(#area)\">")?;
        for r in self.references.iter().filter(|r| r.high > r.low) {
            writeln!(
                s,
                "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#7d8791\" opacity=\"0.16\"/>",
                py(r.high),
                plot_right - LEFT,
                py(r.low) - py(r.high)
            )?;
        }
        for r in &self.references {
            let at = py((r.low + r.high) / 2.0);
            writeln!(
                s,
                "<line x1=\"{LEFT}\" x2=\"{plot_right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#7d8791\" stroke-width=\"1.3\" stroke-dasharray=\"5 4\"/>"
            )?;
        }
        // Bands first, then pale lines, then means: no band covers another run's mean.
        for c in &shown {
            band(s, c, &px, &py)?;
        }
        for look in [Look::Faint, Look::Measured] {
            for c in shown.iter().filter(|c| c.look == look) {
                curve(s, c, &px, &py)?;
            }
        }
        for (x, name) in &self.marks {
            let at = px(*x);
            writeln!(
                s,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{plot_bottom}\" stroke=\"#b0232a\" stroke-dasharray=\"2 4\"/>\
                 <text transform=\"translate({:.1} {:.1}) rotate(-90)\" font-size=\"11.5\" fill=\"#b0232a\" text-anchor=\"end\">{}</text>",
                at - 4.0,
                top + 4.0,
                escape(name)
            )?;
        }
        writeln!(s, "</g>")?;
        // Outside the clip: the first and last dot stand on its edge.
        for c in &shown {
            dots(s, c, &px, &py)?;
        }

        // Names of the levels stand on top of the curves, on a white outline.
        for r in &self.references {
            let value = if r.high > r.low {
                format!("{}–{}", Label(r.low), Label(r.high))
            } else {
                format!("{}", Label(r.low))
            };
            writeln!(
                s,
                "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"12.5\" fill=\"#59636e\" text-anchor=\"end\" paint-order=\"stroke\" stroke=\"#ffffff\" stroke-width=\"3.5\" stroke-linejoin=\"round\">{} · {value}</text>",
                plot_right - 6.0,
                // A level near the bottom is where an untrained run's curve is: its name goes below, if there is room.
                if (22.0..60.0).contains(&(plot_bottom - py(r.low))) { py(r.low) + 15.0 } else { py(r.high) - 6.0 },
                escape(&r.label)
            )?;
        }
        if shown.is_empty() {
            writeln!(
                s,
                "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"16\" fill=\"#9aa3ad\" text-anchor=\"middle\">nothing measured yet</text>",
                (LEFT + plot_right) / 2.0,
                (top + plot_bottom) / 2.0
            )?;
        }
        writeln!(s, "</svg>")
    }
}

/// A name in the legend and where it stands.
struct Entry<'a> {
    series: &'a Series,
    label: String,
    x: f64,
    row: usize,
}

/// The legend in rows as wide as the plot.
fn legend<'a>(shown: &[&'a Series]) -> Vec<Entry<'a>> {
    // About the width of a character; an exact one needs a font.
    const CHARACTER: f64 = 7.1;
    const BEFORE: f64 = 32.0;
    const BETWEEN: f64 = 28.0;
    let room = ((W - LEFT - RIGHT - BEFORE) / CHARACTER) as usize;
    let (mut x, mut row, mut entries) = (LEFT, 0, Vec::new());
    for &series in shown {
        let mut label = series.label.clone();
        if label.chars().count() > room {
            label = label.chars().take(room - 1).chain(['…']).collect();
        }
        let width = BEFORE + CHARACTER * label.chars().count() as f64;
        if x > LEFT && x + width > W - RIGHT {
            (x, row) = (LEFT, row + 1);
        }
        entries.push(Entry { series, label, x, row });
        x += width + BETWEEN;
    }
    entries
}

impl Entry<'_> {
    fn draw(&self, s: &mut String, first: f64) -> fmt::Result {
        let (c, x, y) = (self.series, self.x, first + ROW * self.row as f64);
        let (width, opacity) = if c.look == Look::Faint { (1.6, 0.45) } else { (2.6, 1.0) };
        let (color, dash) = (color(c), dash(c));
        write!(
            s,
            "<line x1=\"{x:.1}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{color}\"{dash} stroke-width=\"{width}\" opacity=\"{opacity}\" stroke-linecap=\"round\"/>",
            x + 24.0
        )?;
        if c.look == Look::Measured {
            write!(s, "<circle cx=\"{:.1}\" cy=\"{y}\" r=\"3.6\" fill=\"{color}\"/>", x + 12.0)?;
        }
        writeln!(
            s,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"13.5\" fill=\"#3c4550\">{}</text>",
            x + 32.0,
            y + 4.7,
            escape(&self.label)
        )
    }
}

fn color(c: &Series) -> &'static str {
    COLORS[c.color % COLORS.len()]
}

/// The attribute that dashes a curve; nothing for the first of its colour.
fn dash(c: &Series) -> String {
    match DASHES[c.color / COLORS.len() % DASHES.len()] {
        "" => String::new(),
        dashes => format!(" stroke-dasharray=\"{dashes}\""),
    }
}

fn finite(c: &Series) -> impl Iterator<Item = &Point> + Clone {
    c.points.iter().filter(|p| p.x.is_finite() && p.y.is_finite())
}

fn band(s: &mut String, c: &Series, px: &impl Fn(f64) -> f64, py: &impl Fn(f64) -> f64) -> fmt::Result {
    if !finite(c).any(|p| p.spread > 0.0) {
        return Ok(());
    }
    write!(s, "<polygon fill=\"{}\" opacity=\"0.15\" points=\"", color(c))?;
    for p in finite(c) {
        write!(s, "{:.1},{:.1} ", px(p.x), py(p.y + p.spread))?;
    }
    let points: Vec<&Point> = finite(c).collect();
    for p in points.iter().rev() {
        write!(s, "{:.1},{:.1} ", px(p.x), py(p.y - p.spread))?;
    }
    writeln!(s, "\"/>")
}

fn curve(s: &mut String, c: &Series, px: &impl Fn(f64) -> f64, py: &impl Fn(f64) -> f64) -> fmt::Result {
    let (color, dash) = (color(c), dash(c));
    let (width, opacity) = if c.look == Look::Faint { (1.2, 0.4) } else { (2.4, 1.0) };
    write!(
        s,
        "<polyline fill=\"none\" stroke=\"{color}\"{dash} stroke-width=\"{width}\" opacity=\"{opacity}\" stroke-linejoin=\"round\" stroke-linecap=\"round\" points=\""
    )?;
    for p in finite(c) {
        write!(s, "{:.1},{:.1} ", px(p.x), py(p.y))?;
    }
    writeln!(s, "\"/>")?;
    Ok(())
}

/// Dots show where evaluations were; past fifty they only thicken the line.
fn dots(s: &mut String, c: &Series, px: &impl Fn(f64) -> f64, py: &impl Fn(f64) -> f64) -> fmt::Result {
    if c.look == Look::Measured && finite(c).count() <= 50 {
        let color = color(c);
        for p in finite(c) {
            let (x, y) = (px(p.x), py(p.y));
            write!(s, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.1\" fill=\"{color}\" stroke=\"#ffffff\"/>")?;
        }
        writeln!(s)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover() {
        assert_eq!(ticks(0.0, 1000.0, 5), [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]);
        assert_eq!(ticks(-30.0, 90.0, 6), [-40.0, -20.0, 0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        for (low, high) in [(0.0, 0.0), (0.0, 1e-12), (-1e9, 3e7), (5.0, 5.0), (149.0, 8123.0)] {
            let t = ticks(low, high, 6);
            assert!(t.len() >= 2 && t.len() < 12 && t[0] <= low && t[t.len() - 1] >= high, "{low} {high} {t:?}");
        }
    }

    #[test]
    fn labels() {
        let s = |v: f64| Label(v).to_string();
        assert_eq!(
            [s(0.0), s(1500.0), s(-1500.0), s(250_000.0), s(1.5e6), s(0.30000000000000004), s(-0.0), s(-3e-7 * 1.1)],
            ["0", "1,500", "−1,500", "250k", "1.5M", "0.3", "0", "−3.3e-7"]
        );
    }

    #[test]
    fn a_legend_of_many_curves_stays_on_the_picture_and_tells_them_apart() {
        let points = vec![Point { x: 0.0, y: 1.0, spread: 0.0 }, Point { x: 1.0, y: 2.0, spread: 0.0 }];
        let series = |i: usize| Series {
            label: format!("run_with_a_name_of_its_own_s{i}{}", "x".repeat(if i == 5 { 200 } else { 0 })),
            points: points.clone(),
            look: Look::Faint,
            color: i,
        };
        let svg = Plot { series: (0..16).map(series).collect(), ..Plot::returns() }.svg();
        let numbers = |key: &str| -> Vec<f64> {
            let names = svg.lines().filter(|l| l.contains("run_with_a_name"));
            names
                .map(|l| l.split("<text").nth(1).unwrap().split(key).nth(1).unwrap())
                .map(|l| l.split('"').next().unwrap().parse().unwrap())
                .collect()
        };
        let (x, y) = (numbers(" x=\""), numbers(" y=\""));
        assert!(x.len() == 16 && x.iter().all(|x| *x < W - RIGHT - 200.0), "{x:?}");
        assert!(y.windows(2).all(|y| y[0] <= y[1]) && y[15] > y[0] + 4.0 * ROW, "{y:?}");
        let mut looks: Vec<&str> = svg
            .lines()
            .filter(|l| l.starts_with("<polyline"))
            .map(|l| l.split(" stroke-width").next().unwrap())
            .collect();
        looks.sort_unstable();
        looks.dedup();
        assert_eq!(looks.len(), 16, "{looks:?}");
    }

    #[test]
    fn an_empty_plot_and_broken_numbers_are_drawn() {
        assert!(Plot::returns().svg().contains("nothing measured yet"));
        let points = vec![Point { x: 0.0, y: f64::NAN, spread: 0.0 }, Point { x: 1e6, y: 10.0, spread: 2.0 }];
        let series = vec![Series { label: "a<b".into(), points, look: Look::Measured, color: 9 }];
        let svg = Plot { series, ..Plot::returns() }.svg();
        assert!(svg.contains("a&lt;b") && !svg.contains("NaN"), "{svg}");
    }
}
