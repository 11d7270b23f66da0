//! Names that are not keys: published PWM's names for the same settings, and guesses at what was meant.

use super::key::Key;
use super::schema::KEYS;
use super::value::Value;

/// Published PWM's (and its environments') names, and the key each stands for. `wm_lr` is not one of them, but it is
/// what its neighbours `wm_batch_size` and `wm_grad_norm` lead one to write.
pub static ALIASES: &[(&str, &str)] = &[
    ("MM_caching_frequency", "mm_caching_frequency"),
    ("eval_runs", "eval_episodes"),
    ("init_gain", "actor_init_gain"),
    ("init_logstd", "actor_init_logstd"),
    ("lr_final", "lr_end"),
    ("min_logstd", "actor_min_logstd"),
    ("obs_rms", "obs_norm"),
    ("ret_rms", "ret_norm"),
    ("rew_rms", "rew_norm"),
    ("save_interval", "save_every"),
    ("wm_lr", "model_lr"),
];

/// Settings of the published code that have no counterpart, and what holds instead.
static ABSENT: &[(&str, &str)] = &[
    ("activation_class", "every hidden layer uses Mish; remove the line"),
    ("actor_config", "settings are flat here: write `actor_units`, `actor_init_logstd`, `actor_init_gain`"),
    ("critic_config", "settings are flat here: write `critic_units`"),
    ("critic_method", "targets are always TD(lambda); `lam=0` gives one-step targets"),
    ("critic_mlp", "settings are flat here: write `critic_units`"),
    ("actor_mlp", "settings are flat here: write `actor_units`"),
    ("logdir", "the run's folder is `run_dir`"),
    ("no_grad", "PWM never takes gradients through the simulator; remove the line"),
    ("render", "remove the line; a finished run is shown from its checkpoint"),
    ("use_flow_dynamics", "write `dynamics: flow`, or `dynamics: mlp` where it was false"),
    ("world_model_config", "settings are flat here: write `units`, `encoder_units`, `num_bins`"),
];

/// The key that a written name stands for, and its value: `rew_rms: true` is `rew_norm: center_scale`.
pub(super) fn resolve(written: &str, value: Value) -> Option<(&'static Key, Value)> {
    if let Some(key) = Key::find(written) {
        return Some((key, value));
    }
    let key = Key::find(ALIASES.iter().find(|(alias, _)| *alias == written)?.1)?;
    let value = match (written, value) {
        ("rew_rms", Value::Bool(on)) => Value::Text(if on { "center_scale" } else { "none" }.into()),
        // Its only values were true and false: nothing else is let through, so that the message can say so.
        ("rew_rms", _) => Value::Null,
        (_, value) => value,
    };
    Some((key, value))
}

/// What to say about a name that no key has.
pub(super) fn help_for(written: &str, value: &Value) -> String {
    if let Some((_, help)) = ABSENT.iter().find(|(name, _)| *name == written) {
        return (*help).into();
    }
    if matches!(value, Value::Map(_)) {
        return "settings are flat: write the settings inside it without it".into();
    }
    let names = || KEYS.iter().map(|key| key.name);
    if let Some(near) = nearest(written, names().chain(ALIASES.iter().map(|(alias, _)| *alias))) {
        return format!("did you mean `{near}`?");
    }
    // `lr` for `actor_lr`, `batch_size` for `wm_batch_size`.
    let lower = written.to_ascii_lowercase();
    let (tail, head) = (format!("_{lower}"), format!("{lower}_"));
    let related: Vec<String> = names()
        .filter(|name| !lower.is_empty() && (name.ends_with(&tail) || name.starts_with(&head)))
        .map(|name| format!("`{name}`"))
        .collect();
    match related.as_slice() {
        [] => "`pwm config docs` lists every setting".into(),
        related => {
            format!("did you mean {}?", super::key::one_of(&related.iter().map(String::as_str).collect::<Vec<_>>()))
        }
    }
}

/// The candidate within a few letters of what was written.
pub fn nearest<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let written = plain(written);
    let reach = (written.chars().count() / 3).clamp(1, 3);
    candidates
        .map(|name| (strsim::damerau_levenshtein(&written, &plain(name)), name))
        .filter(|(distance, name)| *distance <= reach && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
