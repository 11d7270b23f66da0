//! Which runs a command means: a run folder, a folder of runs, or a pattern such as `mine_*_s[0-4]`.

use globset::{Glob, GlobMatcher};
use std::path::{Component, Path, PathBuf};

use crate::run::folder::RunFolder;

/// The run folders that `what` means, sorted. A folder that is a run means itself; another means the runs in it. In a
/// name `*` stands for any text, `?` for any character, `[a-c]` for one of several, `{a,b}` for one of several texts.
pub fn runs(what: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in expand(what) {
        if RunFolder::holds_run(&path) {
            found.push(path);
        } else if path.is_dir() {
            found.extend(children(&path).into_iter().filter(|p| RunFolder::holds_run(p)));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// What makes a name a pattern.
const SPECIAL: [char; 4] = ['*', '?', '[', '{'];

/// The existing paths that a pattern stands for; a path that exists or is no pattern, for itself.
pub fn expand(path: &Path) -> Vec<PathBuf> {
    if path.exists() || !path.to_string_lossy().contains(SPECIAL) {
        return vec![path.into()];
    }
    let mut paths = vec![PathBuf::new()];
    for part in path.components() {
        let name = part.as_os_str().to_string_lossy();
        if !matches!(part, Component::Normal(_)) || !name.contains(SPECIAL) {
            paths.iter_mut().for_each(|p| p.push(part));
            continue;
        }
        let Some(pattern) = pattern(&name) else { return vec![] };
        let matching = |p: &PathBuf| p.file_name().is_some_and(|n| pattern.is_match(n));
        paths = paths.iter().flat_map(|p| children(p)).filter(matching).collect();
    }
    paths.retain(|p| p.exists());
    paths.sort();
    paths
}

/// A pattern of names; none if it cannot be read as one.
fn pattern(name: &str) -> Option<GlobMatcher> {
    Some(Glob::new(name).ok()?.compile_matcher())
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let here = Path::new(".");
    let entries = std::fs::read_dir(if folder.as_os_str().is_empty() { here } else { folder });
    entries.into_iter().flatten().flatten().map(|e| folder.join(e.file_name())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (p, n, fits) in [
            ("*", "x", true),
            ("a*c", "abbc", true),
            ("a*c", "ab", false),
            ("a**c", "abc", true),
            ("?", "", false),
            ("a?c*", "abcdef", true),
            ("*_s?", "run_pwm_s3", true),
            ("*_s?", "run_pwm_s31", false),
            ("*_s[0-2]", "run_pwm_s2", true),
            ("*_s[0-2]", "run_pwm_s3", false),
            ("{pwm,shac}_s?", "shac_s0", true),
            ("*", ".hidden", true),
            ("ä*", "äb", true),
            ("*[", "a[", false),
        ] {
            assert_eq!(pattern(p).is_some_and(|p| p.is_match(n)), fits, "{p} {n}");
        }
    }

    #[test]
    fn folders_and_patterns() {
        let dir = tempfile::tempdir().unwrap();
        for run in ["x/a_s0", "x/a_s1", "x/b_s0", "y/a_s0"] {
            std::fs::create_dir_all(dir.path().join(run)).unwrap();
            std::fs::write(dir.path().join(run).join("config.yaml"), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("x/no_run")).unwrap();
        let found = |p: &str| runs(&dir.path().join(p)).len();
        assert_eq!(
            [found("x"), found("x/a_s0"), found("*/a_s0"), found("x/*"), found("z*"), found("y/none")],
            [3, 1, 2, 3, 0, 0]
        );
        // A folder whose name is a pattern means itself.
        let odd = dir.path().join("x/[a]_s0");
        std::fs::create_dir_all(&odd).unwrap();
        std::fs::write(odd.join("config.yaml"), "").unwrap();
        assert_eq!(runs(&odd), [odd]);
        assert_eq!(found("x/*_s[01]"), 4);
    }
}
