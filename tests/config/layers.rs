//! Imports point down: the order of the layers is read from the documentation of `src/lib.rs`.

use std::path::{Path, PathBuf};

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// Layers from the highest to the lowest: the first word of each line of the block in the documentation.
fn layers(lib: &str) -> Vec<&str> {
    let block = lib.split("```").nth(1).unwrap();
    let words = block.lines().skip(1).filter_map(|l| l.trim_start_matches("//!").split_whitespace().next());
    words.collect()
}

/// The names that follow `crate::` in code, outside comments; of `crate::{a, b}` both.
fn crate_paths(text: &str) -> Vec<String> {
    let code: String = text.lines().map(|l| l.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let name = |s: &str| s.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => found.extend(list.split('}').next().unwrap_or_default().split(',').map(name)),
            None => found.push(name(rest)),
        }
    }
    found
}

#[test]
fn imports_point_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = std::fs::read_to_string(src.join("lib.rs")).unwrap();
    let layers = layers(&lib);
    assert_eq!((layers.first(), layers.last(), layers.len()), (Some(&"app"), Some(&"version"), 17), "{layers:?}");
    for module in lib.lines().filter_map(|l| l.strip_prefix("pub mod ")) {
        assert!(layers.contains(&module.trim_end_matches(';')), "{module} has a place among the layers");
    }

    let mut files = Vec::new();
    sources(&src, &mut files);
    let rank = |name: &str| layers.iter().position(|l| *l == name);
    let mut upward = Vec::new();
    for file in &files {
        let inside = file.strip_prefix(&src).unwrap();
        let parts: Vec<_> = inside.iter().map(|p| p.to_str().unwrap()).collect();
        let (Some(own), true) = (rank(parts[0]), parts.len() > 1) else { continue };
        let text = std::fs::read_to_string(file).unwrap();
        for name in crate_paths(&text) {
            if rank(&name).is_some_and(|r| r < own) {
                upward.push(format!("{} imports crate::{name}", inside.display()));
            }
        }
        // A chain of `super` that leaves the layer hides an import.
        let depth = parts.len() - usize::from(parts.last() == Some(&"mod.rs"));
        // Inside the tests of a file one more is the file itself.
        let leaves = "super::".repeat(depth + 1);
        assert!(!text.contains(&leaves), "{}: write crate:: for what is outside the layer", inside.display());
    }
    assert!(upward.is_empty(), "imports must point down:\n{}", upward.join("\n"));
    assert!(files.len() > 60);
}

/// The words of a text and of the names in it, in small letters.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).map(str::to_ascii_lowercase)
}

/// Robots are data: only their own files and the tasks' layer know one by name, in code, comments or strings.
#[test]
fn no_other_file_names_a_robot() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["src", "kernels"] {
        every_file(&root.join(dir), &mut files);
    }
    let mut named = Vec::new();
    for file in &files {
        let inside = file.strip_prefix(root).unwrap();
        if inside.starts_with("src/env") || inside.starts_with("src/sim/robots") {
            continue;
        }
        // A generation of GPUs has the name of a robot.
        if inside.ends_with("product_tma.cu") || inside.ends_with("hopper.cuh") {
            continue;
        }
        let text = std::fs::read_to_string(file).unwrap();
        for (n, line) in text.lines().enumerate() {
            let robots = || pwm::sim::robots::ROBOTS.iter();
            if words(line).any(|w| robots().any(|(name, _)| w == *name || w == format!("{name}env"))) {
                named.push(format!("{}:{}: {line}", inside.display(), n + 1));
            }
        }
    }
    assert!(named.is_empty(), "these name a robot:\n{}", named.join("\n"));
    assert!(files.iter().any(|f| f.ends_with("sim/env.cu")));
    assert!(["the Ant's", "ant_pwm*"].iter().all(|text| words(text).any(|w| w == "ant")));
}

fn every_file(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { every_file(&path, into) } else { into.push(path) }
    }
}

#[test]
fn the_reader_of_imports_reads() {
    let text = "use crate::tape::Op; // crate::app\nuse crate::{run::state, mem};\nfn f(x: &crate::sim::Vec3) {}";
    assert_eq!(crate_paths(text), ["tape", "run", "mem", "sim"]);
}

/// Which algorithms there are is told in one place; a new one is added there, not looked for in the whole tree.
/// (Settings know their default, and what each has: `Algorithm::traits`.)
#[test]
fn algorithms_are_told_apart_in_one_place() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut knowing: Vec<String> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        if code.lines().any(|l| l.split("//").next().unwrap_or_default().contains("Algorithm::")) {
            knowing.push(file.strip_prefix(&src).unwrap().display().to_string());
        }
    }
    knowing.sort();
    assert_eq!(knowing, ["algo/mod.rs", "config/derived.rs", "config/schema.rs"]);
}

/// A thread that waits sleeps: one that yields hands its core to another process for whole ticks.
#[test]
fn no_thread_yields() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!["yield_now", "sched_yield"].iter().any(|w| text.contains(w)), "{}", file.display());
    }
}
