//! From the sources to a validated `Config`: defaults, then the environment's file, the algorithm's, the command line.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::choices::Mode;
use super::error::{Broken, ConfigError, ConfigErrors, SourceLocation};
use super::fork::{self, Note, NoteKind};
use super::key::{Key, one_of};
use super::multitask::ManyTasks;
use super::names::{help_for, nearest, resolve};
use super::schema::Config;
use super::shipped::{Shipped, ShippedKind, WITH_ALG, based};
use super::spec::{OwnSpec, SPEC, Spec};
use super::tasks::{is_of_each, several};
use super::unread;
use super::value::{Field, Value};
use super::yaml::{Setting, read_settings, read_value};

/// The configuration that these overrides (`key=value`) ask for.
///
/// `alg=` and `env=` choose the files, wherever they stand; of two overrides of one key the later counts.
pub fn load<S: AsRef<str>>(overrides: &[S]) -> Result<Config, ConfigErrors> {
    Ok(load_with_notes(overrides)?.0)
}

/// As [`load`], with what became of the settings of a file that is written for the published code, and which overrides
/// change nothing.
pub fn load_with_notes<S: AsRef<str>>(overrides: &[S]) -> Result<(Config, Vec<Note>), ConfigErrors> {
    let mut resolver = Resolver::default();
    let overrides = resolver.overrides(overrides);
    let chosen = |key: &str| overrides.iter().rev().find(|o| o.name == key);

    let defaults = Config::default();
    let alg = source(ShippedKind::Alg, chosen("alg"), &defaults.alg)?;
    // A file that names a shipped configuration starts from it.
    let inner = |key: &str| alg.settings.iter().find(|s| s.name == key);
    let env = source(ShippedKind::Env, chosen("env").or_else(|| inner("env")), &defaults.env)?;
    let (for_algs, settings): (Vec<_>, Vec<_>) = env.settings.into_iter().partition(|s| s.name == WITH_ALG);
    let mut layers = vec![settings];
    let mut bases = vec![];
    let mut next = inner("alg").cloned();
    while let Some(base) = next {
        let named =
            Shipped::find(ShippedKind::Alg, &text_of(&base)).ok_or_else(|| unknown_name(ShippedKind::Alg, &base))?;
        let settings = named.settings()?;
        next = settings.iter().find(|s| s.name == "alg").cloned();
        bases.push((named.name, settings));
    }
    for (name, settings) in bases.into_iter().rev() {
        layers.extend([settings, with_alg(&for_algs, name)?]);
    }
    let own_settings = alg.settings.clone();
    layers.extend([alg.settings, with_alg(&for_algs, &alg.name)?]);

    for layer in layers {
        resolver.layer(layer);
    }
    for setting in &overrides {
        resolver.set(setting.clone());
    }
    resolver.config.alg = alg.name;
    resolver.config.env = env.name;
    if env.spec.is_some() {
        resolver.config.spec = env.spec;
    }
    if resolver.config.mode == Mode::Pretrain
        && let Some(env) = chosen("env")
    {
        resolver.errors.push(ConfigError::Syntax {
            place: env.name_at.clone(),
            message:
                "`env` names what is played, and mode=pretrain plays nothing\n  leave it out; tasks=[...] takes some \
                      of the tasks of the data"
                    .into(),
        });
    }
    if resolver.config.env_names().len() > 1 {
        let own = |o: &&Setting| resolve(&o.name, Value::Null).is_some_and(|(key, _)| is_of_each(key));
        // Those of shipped files are for the task that such a file has by itself.
        let in_file = own_settings.iter().filter(|_| Shipped::find(ShippedKind::Alg, &resolver.config.alg).is_none());
        resolver.errors.extend(overrides.iter().chain(in_file).filter(own).map(|o| ConfigError::Syntax {
            place: o.name_at.clone(),
            message: format!("each of several tasks has its own `{}`\n  leave it out, or train one task", o.name),
        }));
    }
    let config = resolver.finish()?;
    if let Some(many) = alg.many.or(env.many).filter(|_| config.mode == Mode::Train && config.env_names().len() == 1) {
        return Err(many.refusal(&config.env).into());
    }
    let unread = unread::notes(&config, &overrides);
    Ok((config, env.notes.into_iter().chain(alg.notes).chain(unread).collect()))
}

impl Config {
    /// A resolved configuration read back, as `to_yaml` wrote it, with overrides on top. No other file is read: `alg`
    /// and `env` are the names it was made from, and cannot be overridden.
    pub fn from_yaml<S: AsRef<str>>(name: &str, text: &str, overrides: &[S]) -> Result<Config, ConfigErrors> {
        let mut resolver = Resolver::default();
        resolver.layer(read_settings(name, text)?);
        for setting in resolver.overrides(overrides) {
            if setting.name == "alg" || setting.name == "env" {
                resolver.errors.push(ConfigError::Syntax {
                    place: setting.name_at,
                    message: format!("`{}` cannot change when {name} is continued\n  start a new run", setting.name),
                });
            } else {
                resolver.set(setting);
            }
        }
        resolver.finish()
    }

    /// The same with the built-in defaults of the settings that `which` chooses.
    pub fn with_defaults(&self, which: impl Fn(&Key) -> bool) -> Config {
        let (mut config, defaults) = (self.clone(), Config::default());
        for key in super::schema::KEYS.iter().filter(|key| which(key)) {
            let default = defaults.get(key.name).expect("a key of the table is a field");
            assert!(config.set(key.name, &default), "invariant: a default is allowed");
        }
        config
    }

    /// Checks the rules between settings.
    pub fn validate(&self) -> Result<(), ConfigErrors> {
        let errors: Vec<_> =
            self.broken_rules().into_iter().map(|rule| ConfigError::Rule { rule, from: vec![] }).collect();
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }
}

/// What an environment's file sets for one shipped algorithm.
fn with_alg(for_algs: &[Setting], name: &str) -> Result<Vec<Setting>, ConfigErrors> {
    let mut settings = vec![];
    for all in for_algs {
        let wrong = |message: String| ConfigError::Syntax { place: all.value_at.clone(), message };
        let Value::Map(algs) = &all.value else {
            return Err(wrong(format!("`{WITH_ALG}` has a line `ALGORITHM: {{key: value, ...}}` for each")).into());
        };
        for (alg, own) in algs {
            let Value::Map(own) = own else {
                return Err(wrong(format!("`{alg}` in `{WITH_ALG}` is a mapping of settings")).into());
            };
            if Shipped::find(ShippedKind::Alg, alg).is_none() {
                let named = Setting { value: Value::Text(alg.clone()), ..all.clone() };
                return Err(unknown_name(ShippedKind::Alg, &named).into());
            }
            let own = own.iter().filter(|_| alg == name);
            settings.extend(own.map(|(key, value)| Setting {
                name: key.clone(),
                name_at: all.name_at.clone(),
                value: value.clone(),
                value_at: all.value_at.clone(),
            }));
        }
    }
    Ok(settings)
}

/// What several shipped environments set together: what all of them share, and the length of the longest episode. A
/// list is called by the names that are meant.
fn of_several(name: String, names: Vec<String>) -> Result<Source, ConfigErrors> {
    let shipped = |name: &String| Shipped::find(ShippedKind::Env, name).expect("invariant: each is shipped");
    let mut all: Vec<Vec<Setting>> = names.iter().map(|n| shipped(n).settings()).collect::<Result<_, _>>()?;
    let length = |settings: &Vec<Setting>| {
        let own = settings.iter().find(|s| s.name == EPISODE_LENGTH).and_then(|s| usize::read(&s.value));
        own.unwrap_or_else(|| Config::default().episode_length)
    };
    let longest = all.iter().map(length).max().unwrap_or_default();
    // What each has in the same way.
    let rest = all.split_off(1);
    let mut shared = all.pop().unwrap_or_default();
    shared.retain(|s| rest.iter().all(|other| other.iter().any(|o| o.name == s.name && o.value == s.value)));
    shared.retain(|s| s.name != EPISODE_LENGTH && Key::find(&s.name).is_none_or(|key| !is_of_each(key)));
    let place = SourceLocation::Default;
    shared.push(Setting {
        name: EPISODE_LENGTH.into(),
        name_at: place.clone(),
        value: longest.write(),
        value_at: place,
    });
    let is_list = Shipped::set(&name).is_none();
    let name = if is_list { format!("[{}]", names.join(", ")) } else { name };
    Ok(Source { name, spec: None, notes: vec![], settings: shared, many: None })
}

/// The setting that every environment has, and that a run of several needs of all of them.
const EPISODE_LENGTH: &str = "episode_length";

/// A chosen file: what to call it, and what it says.
struct Source {
    name: String,
    /// The specification in an environment's file of one's own.
    spec: OwnSpec,
    notes: Vec<Note>,
    settings: Vec<Setting>,
    /// What says that it is for many tasks.
    many: Option<ManyTasks>,
}

/// Opens what `alg=` or `env=` names: a shipped configuration, or a file if it ends in `.yaml`.
fn source(kind: ShippedKind, chosen: Option<&Setting>, default: &str) -> Result<Source, ConfigErrors> {
    let mut name = chosen.map_or_else(|| default.to_owned(), text_of);
    let place = chosen.map_or(SourceLocation::Default, |s| s.value_at.clone());
    if kind == ShippedKind::Env
        && let Some(names) = several(&name, &place)?
    {
        // A list of one is that one.
        match &names[..] {
            [one] => name = one.clone(),
            _ => return of_several(name, names),
        }
    }
    let is_other = |s: &&Setting| {
        matches!(s.value, Value::Map(_)) || kind == ShippedKind::Alg && matches!(s.value, Value::List(_))
    };
    if let Some(setting) = chosen.filter(is_other) {
        return Err(ConfigError::WrongValue {
            place: setting.value_at.clone(),
            key: kind.key().into(),
            value: setting.value.to_string(),
            allowed: "a shipped name or a path ending in .yaml; settings are flat, write those inside without it"
                .into(),
            suggestion: None,
        }
        .into());
    }
    if let Some(shipped) = Shipped::find(kind, &name) {
        // A shipped specification is known by its name.
        let settings = shipped.settings()?;
        return Ok(Source { name, spec: None, notes: vec![], settings, many: None });
    }
    let path = Path::new(&name);
    if path.extension().is_none_or(|e| e != "yaml" && e != "yml") {
        return Err(match chosen {
            Some(setting) => unknown_name(kind, setting).into(),
            None => unreachable!("the default {} configuration is shipped", kind.key()),
        });
    }
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.into(),
        source,
        known: one_of(&Shipped::names(kind)),
    })?;
    let settings = read_settings(&name, &text)?;
    let many = ManyTasks::of(&name, &text, &settings);
    if let Some(many) = &many {
        many.check(fork::is_one(&settings))?;
    }
    let spec = (kind == ShippedKind::Env).then(|| Spec::in_file(&name, &text)).flatten();
    let spec = spec.map(Spec::with_robot_file).transpose()?.map(Arc::new);
    let settings: Vec<_> = settings.into_iter().filter(|s| spec.is_none() || s.name != SPEC).collect();
    let (settings, mut notes) =
        if fork::is_one(&settings) { fork::translate(settings, many.is_some()) } else { (settings, vec![]) };
    // An environment's file that names a shipped one starts from it.
    if let (ShippedKind::Env, Some(named)) = (kind, settings.iter().find(|s| s.name == kind.key())) {
        let base = Shipped::find(kind, &text_of(named)).ok_or_else(|| unknown_name(kind, named))?;
        let spec = base.spec().map(|from| Spec::based(from, spec.map(Arc::unwrap_or_clone), &named.value_at));
        return Ok(Source { name, spec: spec.map(Arc::new), notes, settings: based(base.settings()?, settings), many });
    }
    if kind == ShippedKind::Env && spec.is_none() {
        let meaning = format!("it has neither `spec` nor `env`: its settings are for the task `{default}`");
        notes.push(Note { kind: NoteKind::Mapped, setting: format!("env={name}"), meaning });
    }
    Ok(Source { name, spec, notes, settings, many })
}

fn text_of(setting: &Setting) -> String {
    match &setting.value {
        Value::Text(t) => t.clone(),
        other => other.to_string(),
    }
}

fn unknown_name(kind: ShippedKind, setting: &Setting) -> ConfigError {
    let name = text_of(setting);
    let known = Shipped::names(kind);
    ConfigError::UnknownName {
        place: setting.value_at.clone(),
        kind: kind.key(),
        suggestion: nearest(&name, known.iter().copied()).map(Into::into),
        known: one_of(&known),
        name,
    }
}

/// The configuration so far, where each setting came from, and what was wrong.
#[derive(Default)]
struct Resolver {
    config: Config,
    origins: BTreeMap<&'static str, SourceLocation>,
    errors: Vec<ConfigError>,
}

impl Resolver {
    /// Splits `key=value`; the prefixes `alg.` and `env.` are how Hydra users write them, and say nothing new here.
    fn overrides<S: AsRef<str>>(&mut self, texts: &[S]) -> Vec<Setting> {
        let mut settings = Vec::new();
        for text in texts.iter().map(AsRef::as_ref) {
            let place = SourceLocation::Override(text.into());
            let Some((name, value)) = text.split_once('=') else {
                let suggestion =
                    nearest(text, super::schema::KEYS.iter().map(|key| key.name)).map(|key| format!("{key}=..."));
                self.errors.push(ConfigError::NotAnOverride { place, suggestion });
                continue;
            };
            let name = name.trim();
            let name = name.strip_prefix("alg.").or_else(|| name.strip_prefix("env.")).unwrap_or(name);
            // Text is taken as it stands: the shell has already removed the quotes.
            let is_text = Key::find(name).is_some_and(|key| key.kind == "text");
            let value = if is_text { Ok(Value::Text(value.trim().into())) } else { read_value(value) };
            match value {
                Ok(value) => {
                    settings.push(Setting { name: name.into(), name_at: place.clone(), value, value_at: place })
                }
                Err(message) => self.errors.push(ConfigError::Syntax { place, message }),
            }
        }
        settings
    }

    /// The settings of one file, in which each key may stand once, under one name.
    fn layer(&mut self, settings: Vec<Setting>) {
        let mut seen: BTreeMap<&str, SourceLocation> = BTreeMap::new();
        for setting in settings {
            if let Some((key, _)) = resolve(&setting.name, Value::Null) {
                if let Some(first) = seen.get(key.name) {
                    let (place, first) = (setting.name_at, first.clone());
                    self.errors.push(ConfigError::Twice { place, key: key.name.into(), first });
                    continue;
                }
                seen.insert(key.name, setting.name_at.clone());
            }
            self.set(setting);
        }
    }

    fn set(&mut self, setting: Setting) {
        let Setting { name, name_at, value, value_at } = setting;
        let Some((key, meant)) = resolve(&name, value.clone()) else {
            let help = help_for(&name, &value);
            self.errors.push(ConfigError::UnknownKey { place: name_at, key: name, help });
            return;
        };
        if self.config.set(key.name, &meant) {
            self.origins.insert(key.name, value_at);
            return;
        }
        let suggestion = match &value {
            Value::Text(t) if meant == value => nearest(t, key.words.iter().copied()).map(Into::into),
            _ => None,
        };
        let allowed = if name == "rew_rms" { "true or false".into() } else { key.allowed() };
        self.errors.push(ConfigError::WrongValue {
            place: value_at,
            key: name,
            value: quoted(&value),
            allowed,
            suggestion,
        });
    }

    /// Rules are only checked on values that could all be read: half a configuration breaks rules it would not break
    /// whole.
    fn finish(self) -> Result<Config, ConfigErrors> {
        let Resolver { config, origins, mut errors } = self;
        if errors.is_empty() {
            errors = config.broken_rules().into_iter().map(|rule| with_origins(rule, &origins)).collect();
        }
        if errors.is_empty() { Ok(config) } else { Err(ConfigErrors(errors)) }
    }
}

fn with_origins(rule: Broken, origins: &BTreeMap<&'static str, SourceLocation>) -> ConfigError {
    let place = |key: &&'static str| (*key, origins.get(key).cloned().unwrap_or(SourceLocation::Default));
    ConfigError::Rule { from: rule.keys.iter().map(place).collect(), rule }
}

/// A value as a message shows it: text in quotes, and not pages of it.
fn quoted(value: &Value) -> String {
    let text = match value {
        Value::Text(t) => format!("{t:?}"),
        other => other.to_string(),
    };
    if text.chars().count() <= 60 { text } else { text.chars().take(57).chain("...".chars()).collect() }
}
