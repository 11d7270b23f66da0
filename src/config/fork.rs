//! Configuration files of published PWM and of its flow fork, read as they are.
//!
//! They are made for Hydra: settings stand in nested groups that name the class to build (`_target_`), and some refer
//! to other files (`${horizon}`). Each setting is mapped to a key, or ignored for a reason that is said. Where one of
//! them is known to do harm, the file is still read, what is done instead is said, and why.

use super::key::Key;
use super::names::resolve;
use super::shipped::{SHIPPED, Shipped, ShippedKind};
use super::value::Value;
use super::yaml::{Setting, read_value};

/// What became of one setting of such a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub kind: NoteKind,
    /// The setting as the file writes it, groups before it with dots, and its value.
    pub setting: String,
    pub meaning: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    Mapped,
    Ignored,
    /// Taken in another way than the file asks for.
    Harmful,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = match self.kind {
            NoteKind::Mapped => "mapped ",
            NoteKind::Ignored => "ignored",
            NoteKind::Harmful => "WARNING",
        };
        write!(f, "{word} {}: {}", self.setting, self.meaning)
    }
}

/// Groups that only these files have.
const GROUPS: [&str; 4] = ["actor_config", "critic_config", "world_model_config", "config"];

/// True for a file of theirs: it names classes, or has their groups.
pub(super) fn is_one(settings: &[Setting]) -> bool {
    settings.iter().any(|s| {
        s.name == "_target_"
            || s.name == "use_flow_dynamics"
            || matches!(&s.value, Value::Map(inside) if GROUPS.contains(&s.name.as_str())
                && inside.iter().any(|(name, _)| name == "_target_"))
    })
}

/// Names inside their groups, and the keys they stand for.
const NAMES: &[(&str, &str)] = &[
    ("actor_config.flow_integrator", "actor_flow_integrator"),
    ("actor_config.flow_substeps", "actor_flow_substeps"),
    ("actor_config.init_gain", "actor_init_gain"),
    ("actor_config.init_logstd", "actor_init_logstd"),
    ("actor_config.integrator", "actor_flow_integrator"),
    ("actor_config.min_logstd", "actor_min_logstd"),
    ("actor_config.substeps", "actor_flow_substeps"),
    ("actor_config.units", "actor_units"),
    ("critic_config.units", "critic_units"),
    ("world_model_config.encoder.last_layer_kwargs.act.simnorm_dim", "simnorm_dim"),
    ("world_model_config.encoder_units", "encoder_units"),
    ("world_model_config.units", "units"),
];

/// What has no counterpart, by its whole name or, with a dot at the end, its group; and why nothing is lost.
const ABSENT: &[(&str, &str)] = &[
    ("_recursive_", "only Hydra reads it"),
    ("actor_config.activation_class", "hidden layers always use Mish"),
    ("config.device", "see `device`"),
    ("config.no_grad", "PWM takes no gradients through the simulator"),
    ("config.render", "a finished run is shown from its checkpoint"),
    ("critic_config._target_", "critics are an ensemble of networks"),
    ("critic_config.activation_class", "hidden layers always use Mish"),
    ("device", "see `device`"),
    ("horizon_start", "the horizon is fixed"),
    ("horizon_switch_epoch", "the horizon is fixed"),
    ("planning", "the published code never reads it"),
    ("shac.", "settings of another algorithm"),
    ("world_model_config.action_dims", "there is one task, whose sizes are known"),
    ("world_model_config.dynamics.", "see `dynamics`"),
    ("world_model_config.encoder.", "the encoder always ends in LayerNorm and SimNorm"),
    ("world_model_config.multitask", "there is one task"),
    ("world_model_config.reward.", "the reward head always ends in a linear layer"),
    ("world_model_config.tasks", "there is one task"),
    ("world_model_config.vmax", "the scalar reward head has no bins"),
    ("world_model_config.vmin", "the scalar reward head has no bins"),
];

/// Loss weights whose only value here is the one given.
const FIXED: &[(&str, f64)] = &[("wm_dyn_loss_weight", 1.0), ("wm_rew_loss_weight", 1.0), ("wm_weight_decay", 0.0)];

/// The settings of such a file under this program's names, and what became of each.
/// `many` says whether it is for many tasks.
pub(super) fn translate(settings: Vec<Setting>, many: bool) -> (Vec<Setting>, Vec<Note>) {
    let flow = settings.iter().any(|s| s.name == "use_flow_dynamics" && s.value == Value::Bool(true));
    let mut all = Vec::new();
    for setting in settings {
        flatten(setting, &mut all);
    }
    let (mut kept, mut notes) = (Vec::new(), Vec::new());
    for setting in all {
        let written = format!("{}={}", setting.name, setting.value);
        let setting = Setting { value: own_default(&setting.value).unwrap_or(setting.value), ..setting };
        let mut note = |kind, meaning: String| notes.push(Note { kind, setting: written.clone(), meaning });
        match meaning(&setting, flow, many) {
            Meaning::Key(name, value) => {
                let shown = if name == setting.name && value == setting.value {
                    "as it is".into()
                } else {
                    format!("{name}={value}")
                };
                note(NoteKind::Mapped, shown);
                kept.push(Setting { name: name.into(), value, ..setting });
            }
            Meaning::Keys(keys) => {
                let shown: Vec<_> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                note(NoteKind::Mapped, shown.join(", "));
                kept.extend(keys.into_iter().map(|(name, value)| Setting {
                    name: name.into(),
                    value,
                    ..setting.clone()
                }));
            }
            Meaning::Other(name, value, why) => {
                note(NoteKind::Harmful, format!("{why}; {name}={value} instead"));
                kept.push(Setting { name: name.into(), value, ..setting });
            }
            Meaning::Nothing(why) => note(NoteKind::Ignored, why),
            Meaning::Refused(why) => note(NoteKind::Harmful, why),
            Meaning::Unclear => kept.push(setting),
        }
    }
    (kept, notes)
}

enum Meaning {
    /// A key and its value.
    Key(&'static str, Value),
    /// Several of them.
    Keys(Vec<(&'static str, Value)>),
    /// Another value than the file means, and why.
    Other(&'static str, Value, &'static str),
    Nothing(String),
    /// Ignored although it would have changed the result.
    Refused(String),
    /// Passed on, to be refused with its place.
    Unclear,
}

fn text(word: &str) -> Value {
    Value::Text(word.into())
}

fn meaning(setting: &Setting, flow: bool, many: bool) -> Meaning {
    let (name, value) = (setting.name.as_str(), &setting.value);
    let has = |part: &str| matches!(value, Value::Text(t) if t.contains(part));
    let number = match value {
        Value::Int(i) => Some(*i as f64),
        Value::Float(x) => Some(*x),
        Value::Null => Some(0.0),
        _ => None,
    };
    if many && let Some(meaning) = of_many(name, value) {
        return meaning;
    }
    if has("${") {
        return Meaning::Nothing("it refers to another file; the default is used".into());
    }
    match name {
        "use_flow_dynamics" => {
            return match value {
                Value::Bool(on) => Meaning::Key("dynamics", text(if *on { "flow" } else { "mlp" })),
                _ => Meaning::Unclear,
            };
        }
        "world_model_config._target_" => {
            return Meaning::Nothing("`use_flow_dynamics` decides which dynamics there are".into());
        }
        "config._target_" if Shipped::default(ShippedKind::Env).published().is_some_and(has) => {
            return Meaning::Nothing(format!("the environment is `{}`", Shipped::default(ShippedKind::Env).name));
        }
        "config._target_" => {
            return match SHIPPED.iter().find(|s| s.published().is_some_and(has)) {
                Some(env) => Meaning::Key(ShippedKind::Env.key(), text(env.name)),
                None => Meaning::Refused(format!("the environment is `{}`", Shipped::default(ShippedKind::Env).name)),
            };
        }
        "_target_" if has("PWM") => return Meaning::Nothing("the algorithm is PWM".into()),
        // Its environment shows zeros in place of the last action.
        "_target_" if has("SHAC") => {
            return Meaning::Keys(vec![("algorithm", text("shac")), ("action_in_obs", Value::Bool(false))]);
        }
        "_target_" => return Meaning::Refused("the algorithms are PWM and SHAC".into()),
        "actor_config._target_" => {
            let kind = if has("FlowODE") { "flow" } else { "gaussian" };
            return Meaning::Key("actor", text(kind));
        }
        "world_model_config.num_bins" => {
            return match number {
                Some(n) if n <= 1.0 => Meaning::Key("reward_head", text("scalar")),
                _ => Meaning::Other(
                    "reward_head",
                    text("scalar"),
                    "trained by a squared error on every bin, as that code does, the predicted reward is zero for ever",
                ),
            };
        }
        "world_model_config.dynamics.last_layer" if flow && has("normed") => {
            return Meaning::Other(
                "flow_head",
                text("tangent"),
                "a velocity that ends in SimNorm adds 1 to the sums of the latent's groups in every step",
            );
        }
        "world_model_config.task_dim" => {
            return match number {
                Some(0.0) => Meaning::Nothing("there is one task".into()),
                _ => Meaning::Refused("columns of zeros for a task there is not are left out".into()),
            };
        }
        "critic_method" => {
            return if has("one-step") {
                Meaning::Key("lam", Value::Float(0.0))
            } else {
                Meaning::Nothing("targets are always TD(lambda)".into())
            };
        }
        _ => {}
    }
    if let Some((_, only)) = FIXED.iter().find(|(fixed, _)| *fixed == name) {
        return if number == Some(*only) {
            Meaning::Nothing("it is always so".into())
        } else {
            Meaning::Refused(format!("this loss has no such weight: it is {only}"))
        };
    }
    if let Some((_, key)) = NAMES.iter().find(|(theirs, _)| *theirs == name) {
        return Meaning::Key(key, value.clone());
    }
    let absent = |theirs: &str| theirs == name || (theirs.ends_with('.') && name.starts_with(theirs));
    if let Some((_, why)) = ABSENT.iter().find(|(theirs, _)| absent(theirs)) {
        return Meaning::Nothing((*why).into());
    }
    let plain = name.strip_prefix("config.").unwrap_or(name);
    match resolve(plain, value.clone()) {
        // A number under `true` or `false` is for the usual message.
        Some((_, Value::Null)) if *value != Value::Null => Meaning::Unclear,
        Some((Key { name, .. }, value)) => Meaning::Key(name, value),
        None => Meaning::Refused("there is no such setting; it is left out".into()),
    }
}

/// What a setting means in a file for many tasks, where it means something else than in one for a single task.
fn of_many(name: &str, value: &Value) -> Option<Meaning> {
    let plain = name.strip_prefix("world_model_config.").unwrap_or(name);
    Some(match plain {
        "multitask" | "tasks" | "action_dims" => {
            Meaning::Nothing("tasks and their sizes are those of `env`, or of the data".into())
        }
        "task_dim" => match value {
            Value::Int(n) if *n > 0 => Meaning::Key("task_dim", value.clone()),
            _ => Meaning::Nothing("the default is used".into()),
        },
        "num_bins" => match value {
            Value::Int(n) if *n > 1 => Meaning::Keys(vec![
                ("reward_head", text("two_hot")),
                ("num_bins", value.clone()),
                ("rew_norm", text("none")),
            ]),
            _ => return None,
        },
        "vmin" => Meaning::Key("vmin", value.clone()),
        "vmax" => Meaning::Key("vmax", value.clone()),
        // Rewards of a two-hot head are learned as they are.
        "rew_rms" | "rew_norm" => Meaning::Nothing("the two-hot reward head learns rewards as they are".into()),
        _ => return None,
    })
}

/// The default of `${resolve_child:DEFAULT,..}`, which an environment's file may replace; the shipped ones have the
/// same.
fn own_default(value: &Value) -> Option<Value> {
    let Value::Text(text) = value else { return None };
    let inside = text.strip_prefix("${resolve_child:")?;
    let mut depth = 0;
    let end = inside.find(|c| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        c == ',' && depth == 0
    })?;
    read_value(&inside[..end]).ok()
}

/// Groups are opened: `a: {b: 1}` becomes `a.b: 1`, at the place of `a`.
fn flatten(setting: Setting, out: &mut Vec<Setting>) {
    let Value::Map(inside) = setting.value else { return out.push(setting) };
    for (name, value) in inside {
        let name = format!("{}.{name}", setting.name);
        flatten(Setting { name, value, name_at: setting.name_at.clone(), value_at: setting.value_at.clone() }, out);
    }
}
