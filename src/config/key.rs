//! What is known about a key besides its value: section, default, unit, allowed range, explanation.

use super::schema::Config;

/// One row of the key table.
pub struct Key {
    /// The name in YAML, on the command line and of the field.
    pub name: &'static str,
    pub section: KeySection,
    pub effect: Effect,
    /// What type of value it takes ("whole number").
    pub kind: &'static str,
    /// The words it takes, where it is a choice.
    pub words: &'static [&'static str],
    /// What each of the words means.
    pub meanings: &'static [&'static str],
    pub range: Range,
    /// The unit of a number, empty where it has none.
    pub unit: &'static str,
    /// The explanation, one paragraph.
    pub doc: &'static str,
}

/// The groups the documents show keys in; every key is reachable without naming its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySection {
    Run,
    Env,
    Networks,
    Algorithm,
    Stopping,
}

impl KeySection {
    pub const ALL: [KeySection; 5] =
        [KeySection::Run, KeySection::Env, KeySection::Networks, KeySection::Algorithm, KeySection::Stopping];

    pub fn title(self) -> &'static str {
        match self {
            KeySection::Run => "Run",
            KeySection::Env => "Environment",
            KeySection::Networks => "Networks",
            KeySection::Algorithm => "Algorithm",
            KeySection::Stopping => "Stopping and keeping",
        }
    }
}

/// What a setting decides. Which settings may differ when a run is continued, which make another experiment and which
/// are part of a checkpoint follows from this and is written nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What is learned.
    Learns,
    /// Which of the runs of an experiment this is, and how exactly it is measured.
    Repeats,
    /// What is learned from where it is changed on: how long a run is, when it stops or is rolled back, how it rounds.
    Steers,
    /// How often it is looked at, which is part of its history and changes nothing that it learns.
    Watches,
    /// Where, how fast and for how long it is computed, and what of it is written down.
    Hosts,
}

impl Effect {
    /// Whether it may differ when a run is continued.
    pub fn is_free(self) -> bool {
        matches!(self, Effect::Steers | Effect::Watches | Effect::Hosts)
    }

    /// Whether runs that differ in it are of different experiments.
    pub fn is_experiment(self) -> bool {
        matches!(self, Effect::Learns | Effect::Steers)
    }

    /// Whether the state of a run depends on it, so that it belongs into a checkpoint.
    pub fn is_state(self) -> bool {
        self != Effect::Hosts
    }
}

/// The numbers a key takes; of a list, each number in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    Any,
    AtLeast(f64),
    Above(f64),
    Within(f64, f64),
    /// From the first, which is allowed, to the second, which is not.
    Below(f64, f64),
}

impl Range {
    /// Nothing beyond 1e30 is a setting: it would overflow single precision.
    pub fn holds(self, x: f64) -> bool {
        let in_range = match self {
            Range::Any => true,
            Range::AtLeast(a) => x >= a,
            Range::Above(a) => x > a,
            Range::Within(a, b) => (a..=b).contains(&x),
            Range::Below(a, b) => (a..b).contains(&x),
        };
        in_range && x.abs() <= 1e30
    }

    /// "at least 1"; empty where everything is allowed.
    pub fn words(self) -> String {
        match self {
            Range::Any => String::new(),
            Range::AtLeast(a) => format!("at least {}", short(a)),
            Range::Above(a) => format!("more than {}", short(a)),
            Range::Within(a, b) => format!("from {} to {}", short(a), short(b)),
            Range::Below(a, b) => format!("from {} to below {}", short(a), short(b)),
        }
    }
}

/// Large numbers with an exponent instead of a row of zeros.
fn short(x: f64) -> String {
    if x.abs() >= 1e9 { format!("{x:e}") } else { x.to_string() }
}

impl Key {
    /// The key of this name, if there is one. Aliases are not names.
    pub fn find(name: &str) -> Option<&'static Key> {
        super::schema::KEYS.iter().find(|key| key.name == name)
    }

    /// The settings that may differ when a run is continued. Its folder is where it is, whatever `run_dir` says.
    pub fn free() -> impl Iterator<Item = &'static Key> {
        super::schema::KEYS.iter().filter(|key| key.effect.is_free() && key.name != "run_dir")
    }

    /// The built-in default as YAML.
    pub fn default_text(&self) -> String {
        Config::default().get(self.name).expect("a key of the table is a field").to_string()
    }

    /// What is allowed, in words: "whole number, at least 1", "linear, cosine or constant".
    pub fn allowed(&self) -> String {
        if !self.words.is_empty() {
            return one_of(self.words);
        }
        match self.range.words() {
            range if range.is_empty() => self.kind.into(),
            range if self.kind.starts_with("list") => format!("{}, each {range}", self.kind),
            range => format!("{}, {range}", self.kind),
        }
    }
}

/// "a, b or c".
pub fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).into(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}
