//! Compiled code on disk. The name of a file is a hash of the source, all headers, the options and the compiler's
//! version: nothing is ever stale, and nothing needs to be locked.

use super::CudaError;
use super::driver::{Context, Module};
use super::nvrtc::{Image, Nvrtc, options};
use super::unit::Unit;
use rayon::prelude::*;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Folder of the cache: `PWM_CACHE`, else `pwm` in the user's cache folder. None switches it off.
pub fn folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("PWM_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|p| p.join("pwm")))
        .or_else(|| set("HOME").map(|p| p.join(".cache/pwm")))
}

/// The 128-bit FNV-1a hash.
fn hash(parts: &[&str]) -> u128 {
    let mut h = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    for part in parts {
        // The separator keeps ("ab", "c") apart from ("a", "bc").
        for b in part.bytes().chain([0xff]) {
            h = (h ^ u128::from(b)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
    h
}

/// Code of a unit, and whether it was read from the cache.
#[derive(Clone, Debug)]
pub struct Cached {
    pub code: Vec<u8>,
    pub was_there: bool,
}

/// Code of a unit: from the cache if there is a file of it and `trusted` says that it is whole, else compiled and put
/// there. A cache that cannot be written is no error.
pub fn compile(nvrtc: &Nvrtc, unit: &Unit, arch: &str, trusted: bool) -> Result<Cached, CudaError> {
    let Some(dir) = folder() else { return Ok(Cached { code: nvrtc.compile(unit, arch)?.code, was_there: false }) };
    let (source, version, options) =
        (unit.source(), format!("{:?} {}", nvrtc.version, nvrtc.path), options(arch).join(" "));
    let mut parts = vec![source.as_str(), &version, &options];
    for (name, text) in unit.headers() {
        parts.extend([name, text]);
    }
    let path = dir.join(format!("{:032x}.cubin", hash(&parts)));
    if trusted
        && let Ok(code) = std::fs::read(&path)
        && !code.is_empty()
    {
        return Ok(Cached { code, was_there: true });
    }
    let Image { code, .. } = nvrtc.compile(unit, arch)?;
    // Written beside, on the disk before it is renamed: a reader sees a whole file or none, also after a crash.
    let beside = dir.join(format!(".{:032x}.{}", hash(&parts), std::process::id()));
    let write = || {
        std::fs::create_dir_all(&dir)?;
        let mut file = File::create(&beside)?;
        file.write_all(&code)?;
        file.sync_all()
    };
    if write().and_then(|()| std::fs::rename(&beside, &path)).is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    Ok(Cached { code, was_there: false })
}

/// [`compile`] of units that know nothing of each other, side by side, on threads that end with it.
pub fn compile_all(nvrtc: &Nvrtc, units: &[Unit], arch: &str) -> Vec<Result<Cached, CudaError>> {
    let compile = |unit| compile(nvrtc, unit, arch, true);
    match rayon::ThreadPoolBuilder::new().build() {
        Ok(pool) => pool.install(|| units.par_iter().map(compile).collect()),
        // A system that gives no thread.
        Err(_) => units.iter().map(compile).collect(),
    }
}

/// Loads code of a unit. A file of the cache that does not load was damaged: it is compiled once more.
pub fn load(
    context: &Arc<Context>,
    nvrtc: &Nvrtc,
    unit: &Unit,
    arch: &str,
    cached: &Cached,
) -> Result<Arc<Module>, CudaError> {
    match Module::load(context, &cached.code) {
        Err(_) if cached.was_there => Module::load(context, &compile(nvrtc, unit, arch, false)?.code),
        loaded => loaded,
    }
}

#[cfg(test)]
mod tests {
    use super::hash;

    #[test]
    fn hashes_tell_parts_apart() {
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_ne!(hash(&["a"]), hash(&["a", ""]));
    }
}
