//! The key table as text for people: `--help` and `docs/CONFIG.md`.

use super::key::{Key, KeySection};
use super::load::load;
use super::names::ALIASES;
use super::schema::{Config, KEYS};
use super::shipped::{SHIPPED, Shipped, ShippedKind};

/// Columns of the help, and where its second column starts.
const WIDTH: usize = 100;
const INDENT: usize = 34;

/// Every option with its default, for `pwm-train --help`. The default is what the bare command uses.
pub fn help_text() -> String {
    let bare = load::<&str>(&[]).expect("the shipped defaults are valid");
    let mut out = String::from("Settings are given as key=value, as in `seed=3 units=[128,128]`.\n");
    for section in KeySection::ALL {
        out += &format!("\n{}:\n", section.title());
        for key in keys_of(section) {
            // As it is typed: a shell would split a list at its spaces.
            let setting = format!("{}={}", key.name, value(&bare, key)).replace(", ", ",");
            let words = if key.kind == "text" { String::new() } else { format!(" [{}]", describe(key)) };
            let lines = wrap(&format!("{}{words}", paragraph(key)), WIDTH - INDENT);
            let mut lines = lines.iter();
            if setting.len() + 3 > INDENT {
                out += &format!("  {setting}\n");
            } else {
                out += &format!("{:INDENT$}{}\n", format!("  {setting}"), lines.next().map_or("", String::as_str));
            }
            for line in lines {
                out += &format!("{:INDENT$}{line}\n", "");
            }
        }
    }
    out += "\nWhen a run is continued these may differ from what it began with:\n";
    wrap(&free(""), WIDTH - 2).iter().for_each(|line| out += &format!("  {line}\n"));
    out
}

/// The settings that may differ when a run is continued.
fn free(mark: &str) -> String {
    Key::free().map(|key| format!("{mark}{}{mark}", key.name)).collect::<Vec<_>>().join(", ")
}

/// The text of `docs/CONFIG.md`.
pub fn markdown() -> String {
    let mut out = HEAD.replace("ENV", Shipped::default(ShippedKind::Env).name);
    let resumed = format!(
        "When a run is continued (`--resume`, or the same command again) these may differ from what it began with, and \
         all others are refused: {}.",
        free("`")
    );
    out += &format!("\n{}\n", wrap(&resumed, 120).join("\n"));
    out += "\n## Shipped configurations\n\n| choice | what it is |\n|---|---|\n";
    for shipped in SHIPPED {
        out += &format!("| `{}={}` | {} |\n", shipped.kind.key(), shipped.name, shipped.summary());
    }

    // The others are one of these but for the few lines of their file.
    let algs: Vec<&str> =
        SHIPPED.iter().filter(|s| s.kind == ShippedKind::Alg && s.base().is_none()).map(|s| s.name).collect();
    let resolved: Vec<Config> =
        algs.iter().map(|name| load(&[format!("alg={name}")]).expect("shipped configurations are valid")).collect();
    for section in KeySection::ALL {
        out += &format!("\n## {}\n\n| key | default |", section.title());
        out += &algs.iter().map(|name| format!(" `{name}` |")).collect::<String>();
        out += &format!(" allowed | meaning |\n|---|---|{}---|---|\n", "---|".repeat(algs.len()));
        for key in keys_of(section) {
            let default = key.default_text();
            out += &format!("| `{}` | {default} |", key.name);
            for config in &resolved {
                // A blank means the default, so that what a configuration changes stands out.
                let here = value(config, key);
                out += &if here == default || key.name == "alg" { "  |".into() } else { format!(" {here} |") };
            }
            out += &format!(" {} | {} |\n", describe(key), paragraph(key));
        }
    }

    out += "\n## Other names\n\nMostly the published PWM's; accepted everywhere, and stored under this program's name.\n\n";
    out += "| other name | setting |\n|---|---|\n";
    for (alias, name) in ALIASES {
        let note = if *alias == "rew_rms" { "; `true` is `center_scale`, `false` is `none`" } else { "" };
        out += &format!("| `{alias}` | `{name}`{note} |\n");
    }
    out
}

const HEAD: &str = "\
# Configuration

Generated from the key table by `pwm config docs`; a test keeps the two the same.

A run has one flat set of settings. They come from four places, each overriding the one before:

1. built-in defaults (the column *default* below: the published PWM for one task);
2. the environment's file, `env=ENV`;
3. the algorithm's file, `alg=pwm_small` unless another is chosen;
4. overrides on the command line, `key=value`, where the value is YAML:
   `pwm-train alg=pwm_5M seed=3 units=[128,128] actor_lr=5e-4`.

`alg=` and `env=` take a shipped name, or the path of your own file if it ends in `.yaml`. A file holds lines
`key: value` and needs only what it changes; with the line `alg: pwm_5M`, or `env: ENV` in an environment's, it starts
from that shipped configuration, without it from the defaults. Under `with_alg` an environment's file has settings for
single algorithms, as `shac_small: {max_epochs: 500}`, which count more than the algorithm's file.
`pwm config show [key=value ...]` prints what a run would use, and every run keeps it as `config.yaml` in its folder. In
overrides the prefixes `alg.` and `env.` may stand before any key and mean nothing. Whole numbers may be written
`15_000` or `1e6`.

A key that does not exist, a value that is not allowed and settings that do not go together are refused before anything
is computed, with the file, line and column.
";

fn keys_of(section: KeySection) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

fn value(config: &Config, key: &Key) -> String {
    config.get(key.name).expect("a key of the table is a field").to_string()
}

/// What is allowed, and the unit.
fn describe(key: &Key) -> String {
    if key.unit.is_empty() { key.allowed() } else { format!("{}; {}", key.allowed(), key.unit) }
}

/// The explanation on one line, with what each word means. Doc comments come with a space before each line.
fn paragraph(key: &Key) -> String {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = squeeze(key.doc);
    for (word, meaning) in key.words.iter().zip(key.meanings) {
        out += &format!(" `{word}`: {}", squeeze(meaning));
    }
    out
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.into());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
