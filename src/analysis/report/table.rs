//! A table as text for people, programs and papers.

use crate::draw::plot::escape;

/// A table with a name for its files.
#[derive(Clone, Debug)]
pub struct ReportTable {
    pub name: &'static str,
    pub caption: String,
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

impl ReportTable {
    pub fn csv(&self) -> String {
        let quote = |s: &str| {
            if s.contains([',', '"', '\n']) { format!("\"{}\"", s.replace('"', "\"\"")) } else { s.to_owned() }
        };
        let line = |cells: Vec<String>| cells.join(",") + "\n";
        let mut out = line(self.head.iter().map(|h| quote(h)).collect());
        self.rows.iter().for_each(|r| out += &line(r.iter().map(|c| quote(c)).collect()));
        out
    }

    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = line(self.head.iter().map(|h| (*h).to_owned()).collect());
        out += &line(self.head.iter().enumerate().map(|(i, _)| if i == 0 { "---" } else { "---:" }.into()).collect());
        self.rows.iter().for_each(|r| out += &line(r.iter().map(|c| c.replace('|', "\\|")).collect()));
        out
    }

    /// A `tabular` with rules of the package booktabs.
    pub fn latex(&self) -> String {
        let text = |s: &str| {
            let mut out = String::new();
            for c in s.chars() {
                match c {
                    '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
                    '\\' => out += "\\textbackslash{}",
                    '~' => out += "\\textasciitilde{}",
                    '^' => out += "\\textasciicircum{}",
                    '±' => out += "$\\pm$",
                    c => out.push(c),
                }
            }
            out
        };
        let line = |cells: &[String]| cells.iter().map(|c| text(c)).collect::<Vec<_>>().join(" & ") + " \\\\\n";
        let head: Vec<String> = self.head.iter().map(|h| (*h).to_owned()).collect();
        let mut out = format!("% {}\n\\begin{{tabular}}{{l{}}}\n\\toprule\n", self.caption, "r".repeat(head.len() - 1));
        out += &line(&head);
        out += "\\midrule\n";
        self.rows.iter().for_each(|r| out += &line(r));
        out + "\\bottomrule\n\\end{tabular}\n"
    }

    pub(super) fn html(&self) -> String {
        let cells = |tag: &str, cells: Vec<String>| {
            let inner: String = cells.iter().map(|c| format!("<{tag}>{}</{tag}>", escape(c))).collect();
            format!("<tr>{inner}</tr>\n")
        };
        let head = cells("th", self.head.iter().map(|h| (*h).to_owned()).collect());
        let body: String = self.rows.iter().map(|r| cells("td", r.clone())).collect();
        format!(
            "<table><caption>{}</caption><thead>{head}</thead><tbody>{body}</tbody></table>\n",
            escape(&self.caption)
        )
    }
}

/// A number of points, without digits that mean nothing.
pub(super) fn points(v: f64) -> String {
    match v.abs() {
        x if !x.is_finite() => "-".into(),
        // The loss of a model.
        x if x > 0.0 && x < 0.1 => format!("{v:.4}"),
        _ => format!("{v:.0}"),
    }
}

/// How a number is shown, if there is one.
pub(super) fn told(v: f64, shown: impl std::fmt::Display) -> String {
    if v.is_finite() { shown.to_string() } else { "-".into() }
}
