//! Lists the files under `kernels/` for the library, and stamps what it is built from and with.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    embed(&root.join("kernels"), &out.join("kernels.rs"));

    for watched in ["build.rs", "Cargo.toml", "Cargo.lock", "configs", "kernels", "src"] {
        println!("cargo:rerun-if-changed={watched}");
    }
    println!("cargo:rerun-if-env-changed=PWM_COMMIT");
    println!("cargo:rustc-env=PWM_BUILD_COMMIT={}", commit(&root));
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

/// The commit that is built, with `-dirty` if files differ from it: what `PWM_COMMIT` says, else git, else what cargo
/// wrote into a package; `unknown` without any of them.
fn commit(root: &Path) -> String {
    if let Ok(given) = env::var("PWM_COMMIT") {
        return given;
    }
    of_git(root).or_else(|| of_package(root)).unwrap_or_else(|| "unknown".into())
}

fn git(root: &Path, args: &[&str]) -> Option<String> {
    let out = Command::new("git").arg("-C").arg(root).args(args).output().ok().filter(|out| out.status.success())?;
    Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn of_git(root: &Path) -> Option<String> {
    // A package inside another project's repository is not of its commits.
    let top = git(root, &["rev-parse", "--show-toplevel"])?;
    if fs::canonicalize(top).ok()? != fs::canonicalize(root).ok()? {
        return None;
    }
    // Where a new commit shows: the branch, which may lie packed, and which branch it is.
    for name in ["HEAD", "packed-refs"].map(str::to_owned).into_iter().chain(git(root, &["symbolic-ref", "-q", "HEAD"]))
    {
        let file = git(root, &["rev-parse", "--git-path", &name]).map(|file| root.join(file));
        if let Some(file) = file.filter(|file| file.exists()) {
            println!("cargo:rerun-if-changed={}", file.display());
        }
    }
    let commit = git(root, &["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(root, &["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { commit + "-dirty" })
}

/// `cargo package` notes the commit as `"sha1": "..."`, and `"dirty": true` where files differed.
fn of_package(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join(".cargo_vcs_info.json")).ok()?;
    let sha: String = text.split("\"sha1\": \"").nth(1)?.chars().take_while(char::is_ascii_hexdigit).take(12).collect();
    Some(if text.contains("\"dirty\": true") { sha + "-dirty" } else { sha })
}

/// The compiler in its own words.
fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let out = Command::new(rustc).arg("--version").output().ok().filter(|out| out.status.success());
    out.map_or("an unknown compiler".into(), |out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}
