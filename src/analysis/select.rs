//! Which runs a command means: a run folder, a folder of runs, or a pattern with `*` and `?`.

use std::path::{Component, Path, PathBuf};

use crate::run::folder::RunFolder;

/// The run folders that `what` means, sorted. A folder that is a run means itself; another means the runs in it; `*` and
/// `?` in a name stand for any text and any character.
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

/// The existing paths that a pattern stands for; a path without `*` and `?`, whether it exists or not, for itself.
pub fn expand(pattern: &Path) -> Vec<PathBuf> {
    if !pattern.to_string_lossy().contains(['*', '?']) {
        return vec![pattern.into()];
    }
    let mut paths = vec![PathBuf::new()];
    for part in pattern.components() {
        let name = part.as_os_str().to_string_lossy();
        if !matches!(part, Component::Normal(_)) || !name.contains(['*', '?']) {
            paths.iter_mut().for_each(|p| p.push(part));
            continue;
        }
        let matching = |p: &PathBuf| p.file_name().is_some_and(|n| matches_name(&name, &n.to_string_lossy()));
        paths = paths.iter().flat_map(|p| children(p)).filter(matching).collect();
    }
    paths.retain(|p| p.exists());
    paths.sort();
    paths
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let here = Path::new(".");
    let entries = std::fs::read_dir(if folder.as_os_str().is_empty() { here } else { folder });
    entries.into_iter().flatten().flatten().map(|e| folder.join(e.file_name())).collect()
}

/// Whether `name` fits a pattern of `*`, `?` and other characters. Linear in memory, no recursion.
fn matches_name(pattern: &str, name: &str) -> bool {
    let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // `fits[j]`: the pattern so far fits the first j characters.
    let mut fits = vec![false; n.len() + 1];
    fits[0] = true;
    for c in p {
        if c == '*' {
            let first = fits.iter().position(|f| *f).unwrap_or(fits.len());
            fits[first..].fill(true);
        } else {
            for j in (1..fits.len()).rev() {
                fits[j] = fits[j - 1] && (c == '?' || c == n[j - 1]);
            }
            fits[0] = false;
        }
    }
    fits[n.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (p, n, fits) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "ab", false),
            ("?", "", false),
            ("a?c*", "abcdef", true),
            ("*_s?", "ant_pwm_s3", true),
            ("*_s?", "ant_pwm_s31", false),
            ("ä*", "äb", true),
        ] {
            assert_eq!(matches_name(p, n), fits, "{p} {n}");
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
    }
}
