//! Lists the files under `kernels/` for the library, and stamps what it is built with; from a package, also its commit.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    embed(&root.join("kernels"), &out.join("kernels.rs"));

    for watched in ["build.rs", "kernels"] {
        println!("cargo:rerun-if-changed={watched}");
    }
    if let Some(commit) = of_package(&root) {
        println!("cargo:rustc-env=PWM_PACKAGED_COMMIT={commit}");
    }
    println!("cargo:rustc-env=PWM_BUILD_COMPILER={}", compiler());
}

/// Writes the constant `FILES`: every file below `folder`, by its path there, with its text.
fn embed(folder: &Path, to: &Path) {
    let mut files = vec![];
    walk(folder, &mut files);
    files.sort();
    let mut text =
        String::from("/// Every file under `kernels/`, by its path there.\npub const FILES: &[(&str, &str)] = &[\n");
    for file in files {
        let inside = file.strip_prefix(folder).expect("it was found there");
        let name: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
        let _ = writeln!(text, "    ({:?}, include_str!({:?})),", name.join("/"), file.display().to_string());
    }
    fs::write(to, text + "];\n").expect("cargo's own folder can be written");
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for path in entries.map(|entry| entry.expect("a folder that can be read").path()) {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        match path.is_dir() {
            _ if hidden => {}
            true => walk(&path, files),
            false => files.push(path),
        }
    }
}

/// The commit of a package, which is no repository: what cargo noted as `"sha1": "..."`, with `-dirty` where it noted
/// `"dirty": true`; `unknown` without that. None in a repository: there the two programs ask git, since whatever this
/// script watches makes the library be compiled anew.
fn of_package(root: &Path) -> Option<String> {
    // A package inside another project's repository is not of its commits.
    if root.join(".git").exists() {
        return None;
    }
    let text = fs::read_to_string(root.join(".cargo_vcs_info.json")).unwrap_or_default();
    let sha = text.split("\"sha1\": \"").nth(1).unwrap_or_default();
    let sha: String = sha.chars().take_while(char::is_ascii_hexdigit).take(12).collect();
    Some(match (sha.is_empty(), text.contains("\"dirty\": true")) {
        (true, _) => "unknown".into(),
        (false, true) => sha + "-dirty",
        (false, false) => sha,
    })
}

/// The compiler in its own words.
fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let out = Command::new(rustc).arg("--version").output().ok().filter(|out| out.status.success());
    out.map_or("an unknown compiler".into(), |out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}
