//! The members that a command asks for, beside those that the folder has: which are the same, which are new.
//!
//! A member is the same as one that is there if it has its name and nothing decisive differs, or if it would be the
//! same run under another name. What may change when a run is continued may change here.

use std::collections::BTreeMap;
use std::path::Path;

use super::folder::{MemberInfo, SweepError, SweepInfo};
use crate::config::{Config, KEYS, Key, load};

/// A member that a command asks for.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its name, where the folder has it already.
    pub name: Option<String>,
    /// Settings `key=value`.
    pub overrides: Vec<String>,
    /// Those that are given when it goes on from what its own folder holds; none where `overrides` are.
    pub resumed_with: Option<Vec<String>>,
    /// What they come to.
    pub config: Config,
}

/// Longest name of a folder that is made of settings.
const LONGEST: usize = 120;

/// The name that it has, or the settings of the axes, as a folder is called: `alg=shac,seed=0`. Without any, what a single run is called.
pub fn label(axes: &[String], draft: &Draft) -> String {
    if let Some(name) = &draft.name {
        return name.clone();
    }
    let named = axes.iter().filter_map(|axis| {
        let value = draft.overrides.iter().rev().find_map(|o| o.strip_prefix(axis)?.strip_prefix('='))?;
        Some(format!("{axis}={value}"))
    });
    let c = &draft.config;
    let name = named.collect::<Vec<_>>().join(",");
    let name = if name.is_empty() { format!("{}_{}_s{}", c.env_label(), c.alg_label(), c.seed) } else { name };
    let safe = |c: char| if c.is_alphanumeric() || "._-+=,".contains(c) { c } else { '-' };
    name.chars().map(safe).take(LONGEST).collect()
}

/// What a run is, without the settings that `leave_out` chooses.
fn identity(c: &Config, leave_out: impl Fn(&Key) -> bool) -> String {
    c.with_defaults(|key| leave_out(key) || key.name == "run_dir").to_yaml()
}

/// An error if two members would learn the same.
pub fn unlike(axes: &[String], drafts: &[Draft]) -> Result<(), SweepError> {
    let mut seen: BTreeMap<String, &Draft> = BTreeMap::new();
    for draft in drafts {
        if let Some(first) = seen.insert(identity(&draft.config, |k| !k.effect.is_state()), draft) {
            return Err(SweepError::Twice(label(axes, first), label(axes, draft)));
        }
    }
    Ok(())
}

/// The settings that a member was begun with; none if they can be read no more.
fn begun_with(folder: &Path, member: &MemberInfo) -> Option<Config> {
    let file = folder.join(&member.name).join("config.yaml");
    match std::fs::read_to_string(&file) {
        Ok(text) => Config::from_yaml::<&str>(&file.display().to_string(), &text, &[]).ok(),
        Err(_) => load(&member.overrides).ok(),
    }
}

/// Settles the drafts with the sweep that is in the folder: the place of each among `info.members`, where new ones are
/// appended and the others get their new settings.
pub fn reconcile(
    folder: &Path,
    info: &mut SweepInfo,
    axes: &[String],
    drafts: &[Draft],
) -> Result<Vec<usize>, SweepError> {
    let new: Vec<&String> = axes.iter().filter(|a| !info.axes.contains(*a)).collect();
    info.axes.extend(new.into_iter().cloned().collect::<Vec<_>>());
    let there: Vec<Option<Config>> = info.members.iter().map(|m| begun_with(folder, m)).collect();
    let same_run = |c: &Config| identity(c, |k| !k.effect.is_state());
    let known: BTreeMap<String, usize> =
        there.iter().enumerate().filter_map(|(i, c)| Some((same_run(c.as_ref()?), i))).collect();
    let mut places = vec![];
    for draft in drafts {
        let name = label(&info.axes, draft);
        let by_name = info.members.iter().take(there.len()).position(|m| m.name == name);
        let place = by_name.or_else(|| known.get(&same_run(&draft.config)).copied());
        if let (Some(place), Some(stored)) = (by_name, by_name.and_then(|i| there[i].as_ref())) {
            let what = differences(stored, &draft.config);
            if !what.is_empty() {
                let name = info.members[place].name.clone();
                return Err(SweepError::Changed { path: folder.into(), name, what: what.join(", ") });
            }
        }
        // Two drafts of one place are two lengths of one run.
        let place = place.filter(|p| !places.contains(p)).unwrap_or_else(|| {
            let name = unused(&name, &info.members);
            info.members.push(MemberInfo { name, ..MemberInfo::default() });
            info.members.len() - 1
        });
        info.members[place].overrides.clone_from(&draft.overrides);
        places.push(place);
    }
    Ok(places)
}

/// The decisive settings in which two configurations differ.
fn differences(old: &Config, new: &Config) -> Vec<String> {
    let decisive = KEYS.iter().filter(|k| !k.effect.is_free() && old.get(k.name) != new.get(k.name));
    decisive
        .map(|k| {
            let text = |c: &Config| c.get(k.name).map_or_else(String::new, |v| v.to_string());
            let (old, new) = (text(old), text(new));
            // A specification is pages long.
            if old.len() + new.len() > 120 {
                format!("`{}` differs", k.name)
            } else {
                format!("`{}` was {old} and is {new}", k.name)
            }
        })
        .collect()
}

/// The name, with a number behind it if it is taken.
fn unused(name: &str, members: &[MemberInfo]) -> String {
    let free = |name: &String| members.iter().all(|m| m.name != *name);
    let numbered = (2..).map(|n| format!("{name}_{n}"));
    std::iter::once(name.to_owned()).chain(numbered).find(free).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Grid;

    fn drafts(texts: &[&str]) -> (Vec<String>, Vec<Draft>) {
        let grid = Grid::new(texts).unwrap();
        let draft = |overrides: Vec<String>| Draft {
            name: None,
            config: load(&overrides).unwrap(),
            overrides,
            resumed_with: None,
        };
        (grid.axes, grid.points.into_iter().map(draft).collect())
    }

    fn names(info: &SweepInfo) -> Vec<&str> {
        info.members.iter().map(|m| &m.name[..]).collect()
    }

    #[test]
    fn members_are_named_by_what_differs() {
        let (axes, of) = drafts(&["alg=pwm_small,shac_small", "gamma=0.9", "seed=0,1", "actor_units=[8,8],[16]"]);
        assert_eq!(label(&axes, &of[0]), "alg=pwm_small,seed=0,actor_units=-8,8-");
        let (axes, one) = drafts(&["alg=pwm_small", "seed=4"]);
        assert!(axes.is_empty() && label(&axes, &one[0]).ends_with("_pwm_small_s4"));
    }

    #[test]
    fn the_same_command_finds_its_members_and_more_are_added() {
        let dir = tempfile::tempdir().unwrap();
        let mut info = SweepInfo::default();
        let mut reconcile = |texts: &[&str]| {
            let (axes, of) = drafts(texts);
            unlike(&axes, &of).unwrap();
            let before = info.clone();
            let places = reconcile(dir.path(), &mut info, &axes, &of);
            let names = names(&info).join(" ");
            if places.is_err() {
                info = before;
            }
            (places, names)
        };
        let (places, all) = reconcile(&["seed=0,1", "gamma=0.9"]);
        assert_eq!((places.unwrap(), &all[..]), (vec![0, 1], "seed=0 seed=1"));
        assert_eq!(reconcile(&["seed=0,1", "gamma=0.9", "max_minutes=3", "threads=2"]).0.unwrap(), [0, 1]);
        let (places, all) = reconcile(&["seed=2,1", "gamma=0.9"]);
        assert_eq!((places.unwrap(), &all[..]), (vec![2, 1], "seed=0 seed=1 seed=2"));
        // A single value is no axis, and the sweep's own axes name it.
        assert_eq!(reconcile(&["seed=3", "gamma=0.9"]).1, "seed=0 seed=1 seed=2 seed=3");
        // What was begun with another setting is told; a new axis makes new members, and finds the old.
        let text = reconcile(&["seed=0,1", "gamma=0.95"]).0.unwrap_err().to_string();
        assert!(text.contains("seed=0") && text.contains("`gamma` was 0.9 and is 0.95"), "{text}");
        let (places, all) = reconcile(&["seed=0,1", "gamma=0.9,0.95"]);
        assert_eq!(places.unwrap(), [0, 4, 1, 5]);
        assert!(all.ends_with("seed=0,gamma=0.95 seed=1,gamma=0.95"), "{all}");
        // Two lengths are two members.
        let (places, all) = reconcile(&["seed=9", "max_epochs=10,20"]);
        assert!(places.unwrap() == [6, 7] && all.ends_with("seed=9,max_epochs=10 seed=9,max_epochs=20"), "{all}");
    }

    #[test]
    fn two_of_the_same_are_refused() {
        let (axes, of) = drafts(&["seed=0,1", "threads=1,2"]);
        let text = unlike(&axes, &of).unwrap_err().to_string();
        assert!(text.contains("seed=0,threads=1 and seed=0,threads=2"), "{text}");
        let (axes, of) = drafts(&["seed=1,1"]);
        assert!(unlike(&axes, &of).is_err());
        let (axes, of) = drafts(&["max_epochs=10,20"]);
        assert!(unlike(&axes, &of).is_ok(), "another length is another experiment");
    }
}
