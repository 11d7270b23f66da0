//! `pwm doctor`: what this machine has, and what is missing to use its GPU.

use super::say;
use crate::config::Precision;
use crate::device::cpu::simd;
use crate::device::cuda::driver::{self, Context, DeviceInfo};
use crate::device::cuda::matmul::{FORCE, Matmul};
use crate::device::cuda::nvrtc::Nvrtc;
use crate::device::cuda::{CudaError, cache};
use std::io::Write;

/// Prints the whole picture; a part that is missing is a line, not an error.
pub fn run(out: &mut dyn Write) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    say(out, format_args!("processor   {cores} cores, {}", simd::describe()));
    match driver::version() {
        Ok(v) => say(out, format_args!("driver      CUDA {}.{}", v / 1000, v % 1000 / 10)),
        Err(e) => say(out, format_args!("driver      {e}")),
    }
    let nvrtc = Nvrtc::load();
    match driver::devices() {
        Ok(list) if list.is_empty() => say(out, format_args!("gpu         the driver shows none")),
        Ok(list) => list.into_iter().for_each(|d| gpu(d, &nvrtc, out)),
        Err(_) => say(out, format_args!("gpu         none without a driver")),
    }
    match &nvrtc {
        Ok(n) => say(out, format_args!("compiler    NVRTC {}.{} at {}", n.version.0, n.version.1, n.path)),
        Err(e) => say(out, format_args!("compiler    {e}")),
    }
    match cache::folder() {
        Some(p) => say(out, format_args!("cache       {}", p.display())),
        None => say(out, format_args!("cache       none: set PWM_CACHE to a folder to compile kernels once")),
    }
    Ok(())
}

/// A line for a GPU, and what cannot be used of it, or how it multiplies.
fn gpu(d: DeviceInfo, nvrtc: &Result<Nvrtc, CudaError>, out: &mut dyn Write) {
    let (gib, arch, n) = (d.memory >> 30, d.arch(), d.ordinal);
    say(out, format_args!("gpu cuda:{n}  {}, {arch}, {} multiprocessors, {gib} GiB", d.name, d.multiprocessors));
    let mut but = |what: std::fmt::Arguments<'_>| say(out, format_args!("            {what}"));
    match Context::open(n).and_then(|c| c.memory()) {
        Err(e) => return but(format_args!("{e}")),
        Ok((free, _)) => but(format_args!("{:.1} GiB of its memory are free", free as f64 / (1u64 << 30) as f64)),
    }
    // Without a compiler there is a line of its own.
    let Ok(compiler) = nvrtc else { return };
    let seen = match compiler.arch(&d).and_then(|known| Ok((known, compiler.sees(&d)?))) {
        Err(e) => return but(format_args!("{e}")),
        Ok((known, seen)) => {
            if known != arch {
                but(format_args!(
                    "the compiler does not know {arch}: it compiles for {known}, which the driver translates"
                ));
            }
            seen
        }
    };
    for precision in [Precision::Fp32, Precision::Tf32, Precision::Bf16] {
        match Matmul::on(&seen, precision) {
            Ok(how) => but(format_args!("precision={precision}: {how}")),
            Err(e) => but(format_args!("precision={precision}: {e}")),
        }
    }
    but(format_args!("{FORCE}=fma or mma forces older units, to find out whether newer ones are to blame"));
}
