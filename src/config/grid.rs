//! Several values for a setting, as Hydra writes them: `seed=0,1,2`, `seed=range(0,3)`,
//! `alg=choice(pwm_small,shac_small)`.
//!
//! `env=` also takes the name of a set (`mt30`) and patterns of names (`walker-*`), a run for each; a list in brackets is
//! one run of several tasks.
//!
//! A comma inside brackets, braces or quotes, or behind a backslash, belongs to the value: `units=[64,64],[128]` has
//! two values. Quotes around a whole value are taken off.

use super::error::{ConfigError, ConfigErrors, SourceLocation};
use super::tasks::matching;

/// The most points of a grid: more is a slip of the pen.
const MOST: usize = 100_000;

/// All combinations of the values that overrides give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    /// The settings with several values, in the order in which they were given.
    pub axes: Vec<String>,
    /// For each point one override `key=value` a setting. Of the axes the last one changes fastest.
    pub points: Vec<Vec<String>>,
}

impl Grid {
    /// Reads overrides, each with one value or several. Of two for the same key the later counts.
    pub fn new<S: AsRef<str>>(overrides: &[S]) -> Result<Self, ConfigErrors> {
        let (mut read, mut errors): (Vec<(&str, Vec<String>)>, Vec<ConfigError>) = (vec![], vec![]);
        for text in overrides.iter().map(AsRef::as_ref) {
            let place = || SourceLocation::Override(text.into());
            let Some((key, value)) = text.split_once('=') else {
                errors.push(ConfigError::NotAnOverride { place: place(), suggestion: None });
                continue;
            };
            let key = plain(key);
            match values(value).and_then(|all| if key == "env" { matching(all) } else { Ok(all) }) {
                Ok(values) => {
                    read.retain(|(k, _)| *k != key);
                    read.push((key, values));
                }
                Err(message) => errors.push(ConfigError::Syntax { place: place(), message }),
            }
        }
        let count = read.iter().try_fold(1usize, |n, (_, v)| n.checked_mul(v.len()));
        if errors.is_empty() && count.is_none_or(|n| n > MOST) {
            let place = SourceLocation::Override(read.iter().map(|r| r.0).collect::<Vec<_>>().join(" "));
            errors.push(ConfigError::Syntax { place, message: format!("more than {MOST} combinations of values") });
        }
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        let axes = read.iter().filter(|(_, v)| v.len() > 1).map(|(k, _)| (*k).to_owned()).collect();
        let mut points = vec![vec![]];
        for (key, values) in &read {
            let with = |point: &Vec<String>, value: &String| {
                point.iter().cloned().chain([format!("{key}={value}")]).collect::<Vec<_>>()
            };
            points = points.iter().flat_map(|p| values.iter().map(move |v| with(p, v))).collect();
        }
        Ok(Self { axes, points })
    }
}

/// A key without the prefixes that Hydra's users write.
fn plain(key: &str) -> &str {
    let key = key.trim();
    key.strip_prefix("alg.").or_else(|| key.strip_prefix("env.")).unwrap_or(key)
}

/// The values that a text stands for.
fn values(text: &str) -> Result<Vec<String>, String> {
    let inner = |name: &str| text.trim().strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(list) = inner("range") {
        return range(list);
    }
    let list = inner("choice").unwrap_or(text);
    let parts = split(list);
    if parts.len() > 1 && parts.iter().any(String::is_empty) {
        return Err("there is nothing between two of its commas".into());
    }
    if let (Some(part), 2..) = (parts.iter().find(|p| p.starts_with("range(") || p.starts_with("choice(")), parts.len())
    {
        return Err(format!("`{part}` stands alone; write out the values of a list"));
    }
    Ok(parts)
}

/// `STOP`, `START,STOP` or `START,STOP,STEP`, whole numbers; the end is left out.
fn range(text: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("`range({text})` is written range(STOP), range(START,STOP) or range(START,STOP,STEP)");
    let numbers: Result<Vec<i64>, _> = text.split(',').map(|n| n.trim().parse()).collect();
    let (start, stop, step) = match numbers.map_err(|_| wrong() + " with whole numbers")?[..] {
        [stop] => (0, stop, 1),
        [start, stop] => (start, stop, 1),
        [start, stop, step] if step != 0 => (start, stop, step),
        _ => return Err(wrong()),
    };
    let inside = |x: &i64| if step > 0 { *x < stop } else { *x > stop };
    let numbers = std::iter::successors(Some(start), |x| x.checked_add(step)).take_while(inside);
    // One more than allowed, to be refused with the rest.
    let found: Vec<String> = numbers.take(MOST + 1).map(|x| x.to_string()).collect();
    if found.is_empty() { Err(format!("`range({text})` has no number in it")) } else { Ok(found) }
}

/// Splits at the commas that stand outside of brackets and quotes.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut depth, mut quote) = (vec![], String::new(), 0usize, None);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\\') if chars.peek() == Some(&',') => {
                chars.next();
                part.push(',');
                continue;
            }
            (Some(q), c) if q == c => quote = None,
            // An apostrophe inside a word is none.
            (None, '\'' | '"')
                if part.trim_end().is_empty() || part.trim_end().ends_with(['[', '{', '(', ',', ':']) =>
            {
                quote = Some(c);
            }
            (None, '[' | '{' | '(') => depth += 1,
            (None, ']' | '}' | ')') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    parts.iter().map(|p| unquoted(p.trim()).to_owned()).collect()
}

/// A value without the quotes around all of it.
fn unquoted(part: &str) -> &str {
    let inside = |q: char| part.strip_prefix(q)?.strip_suffix(q).filter(|p| !p.contains(q));
    inside('\'').or_else(|| inside('"')).unwrap_or(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_setting_changes_fastest() {
        let grid = Grid::new(&["env=a,b", "gamma=0.9", "alg=x,y", "env.seed=0,1"]).unwrap();
        assert_eq!(grid.axes, ["env", "alg", "seed"]);
        let points: Vec<String> = grid.points.iter().map(|p| p.join(" ")).collect();
        assert_eq!(points.len(), 8);
        assert_eq!(points[0], "env=a gamma=0.9 alg=x seed=0");
        assert_eq!(points[1], "env=a gamma=0.9 alg=x seed=1");
        assert_eq!(points[2], "env=a gamma=0.9 alg=y seed=0");
        assert_eq!(points[7], "env=b gamma=0.9 alg=y seed=1");
        // Without axes, and without anything, there is one point.
        assert_eq!(Grid::new(&["seed=3"]).unwrap(), Grid { axes: vec![], points: vec![vec!["seed=3".into()]] });
        assert_eq!(Grid::new::<&str>(&[]).unwrap().points, [Vec::<String>::new()]);
        // The later of two counts.
        assert_eq!(Grid::new(&["seed=0,1", "seed=7"]).unwrap().points, [["seed=7"]]);
    }

    #[test]
    fn commas_inside_brackets_and_quotes_belong_to_the_value() {
        for (text, expected) in [
            ("0,1,2", &["0", "1", "2"][..]),
            ("[64,64]", &["[64,64]"]),
            ("[64,64],[128]", &["[64,64]", "[128]"]),
            ("'a,b'", &["a,b"]),
            ("'a,b',c", &["a,b", "c"]),
            ("\"a,b\", 'c'", &["a,b", "c"]),
            ("['a,b',\"c]\"],d", &["['a,b',\"c]\"]", "d"]),
            ("{x: [1,2], y: 3},{}", &["{x: [1,2], y: 3}", "{}"]),
            ("a\\,b,c", &["a,b", "c"]),
            ("o'brien.yaml,x", &["o'brien.yaml", "x"]),
            ("choice(pwm_small,shac_small)", &["pwm_small", "shac_small"]),
            ("choice([1,2],3)", &["[1,2]", "3"]),
            ("range(3)", &["0", "1", "2"]),
            ("range(2,5)", &["2", "3", "4"]),
            ("range(0, 10, 4)", &["0", "4", "8"]),
            ("range(3,0,-2)", &["3", "1"]),
            ("", &[""]),
            ("1e-3", &["1e-3"]),
            ("f(a,b)", &["f(a,b)"]),
        ] {
            assert_eq!(values(text).unwrap(), expected, "{text}");
        }
        for text in [
            "0,,1",
            "0,",
            ",",
            "range(0)",
            "range(a,b)",
            "range(0,1,0)",
            "range(1,2,3,4)",
            "range(3),7",
            "1,choice(2,3)",
        ] {
            assert!(values(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let text = Grid::new(&["seed=0,,1", "seed"]).unwrap_err().to_string();
        assert!(text.contains("override `seed=0,,1`") && text.contains("override `seed`"), "{text}");
        let text = Grid::new(&["seed=range(0,1_000)", "gamma=range(0,1000000000)"]).unwrap_err().to_string();
        assert!(text.contains("whole numbers"), "{text}");
        let text = Grid::new(&["seed=range(1000)", "num_envs=range(1,1000)"]).unwrap_err().to_string();
        assert!(text.contains("more than 100000"), "{text}");
    }

    #[test]
    fn sets_and_patterns_of_environments() {
        let of = |text: &str| Grid::new(&[text]).map(|g| g.points.concat());
        let all = of("env=mt30").unwrap();
        assert_eq!((all.len(), all[0].as_str(), all[29].as_str()), (30, "env=walker-stand", "env=pendulum-spin"));
        assert_eq!(of("env=mine.yaml,reacher-?asy").unwrap(), ["env=mine.yaml", "env=reacher-easy"]);
        assert_eq!(of("env=walker-*").unwrap().len(), 5);
        assert_eq!(of("env=my/walker-*.yaml").unwrap(), ["env=my/walker-*.yaml"]);
        assert!(of("env=walkers-*").unwrap_err().to_string().contains("no shipped environment"));
        assert_eq!(of("alg=mt30").unwrap(), ["alg=mt30"]);
    }
}
