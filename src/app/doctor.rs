//! `pwm doctor`: what this machine has, and what is missing to use its GPU.

use super::say;
use crate::config::Precision;
use crate::device::cpu::simd;
use crate::device::cuda::multiply::{FORCE, Multiply};
use crate::device::cuda::nvrtc::Nvrtc;
use crate::device::cuda::{cache, driver};
use std::io::Write;

/// Prints the whole picture; a part that is missing is a line, not an error.
pub fn run(out: &mut dyn Write) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    say(out, format_args!("processor   {cores} cores, {}", simd::describe()));
    match driver::version() {
        Ok(v) => say(out, format_args!("driver      CUDA {}.{}", v / 1000, v % 1000 / 10)),
        Err(e) => say(out, format_args!("driver      {e}")),
    }
    match driver::devices() {
        Ok(list) if list.is_empty() => say(out, format_args!("gpu         the driver shows none")),
        Ok(list) => {
            for d in list {
                let (gib, arch) = (d.memory >> 30, d.arch());
                let use_ = if d.major < 8 { ", too old: needed is compute capability 8.0" } else { "" };
                say(
                    out,
                    format_args!(
                        "gpu cuda:{}  {}, {arch}, {} multiprocessors, {gib} GiB{use_}",
                        d.ordinal, d.name, d.multiprocessors
                    ),
                );
                for precision in
                    [Precision::Fp32, Precision::Tf32, Precision::Bf16].into_iter().filter(|_| d.major >= 8)
                {
                    match Multiply::on(&d, precision) {
                        Ok(how) => say(out, format_args!("            precision={precision}: {how}")),
                        Err(e) => say(out, format_args!("            precision={precision}: {e}")),
                    }
                }
                say(
                    out,
                    format_args!(
                        "            {FORCE}=fma or mma forces older units, to find out whether newer ones are to blame"
                    ),
                );
            }
        }
        Err(_) => say(out, format_args!("gpu         none without a driver")),
    }
    match Nvrtc::load() {
        Ok(n) => say(out, format_args!("compiler    NVRTC {}.{} at {}", n.version.0, n.version.1, n.path)),
        Err(e) => say(out, format_args!("compiler    {e}")),
    }
    match cache::folder() {
        Some(p) => say(out, format_args!("cache       {}", p.display())),
        None => say(out, format_args!("cache       none: set PWM_CACHE to a folder to compile kernels once")),
    }
    Ok(())
}
