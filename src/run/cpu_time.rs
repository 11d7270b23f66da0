//! Processor time: how long the threads of this process have computed, whatever else the machine did meanwhile.

/// Seconds that all threads of this process have spent on a processor, in the system's own work for them too; none
/// where the system does not tell. Allocates nothing.
pub fn cpu_seconds() -> Option<f64> {
    #[cfg(unix)]
    {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Some(t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9)
    }
    #[cfg(not(unix))]
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn it_passes_while_any_thread_computes() {
        let from = cpu_seconds().unwrap();
        let busy = std::thread::spawn(|| {
            let (begun, mut x) = (Instant::now(), 0u64);
            while begun.elapsed() < Duration::from_millis(60) {
                x = std::hint::black_box(x.wrapping_mul(3) + 1);
            }
        });
        busy.join().unwrap();
        assert!(cpu_seconds().unwrap() > from);
    }
}
