//! Which runs fit beside each other.

/// What a run takes of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Worker threads.
    pub threads: usize,
    /// Planned bytes of host memory.
    pub host: u64,
    /// Planned bytes of the device's memory.
    pub device: u64,
}

/// What the machine has for all runs together; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// The most runs side by side.
    pub jobs: Option<usize>,
    /// Cores.
    pub cores: usize,
    /// Bytes of host memory.
    pub host: Option<u64>,
    /// Bytes of the device's memory.
    pub device: Option<u64>,
}

impl Capacity {
    /// Whether a run may start beside others. One that is alone always may: it was found to fit before.
    pub fn fits(&self, running: &[Resources], next: &Resources) -> bool {
        if running.is_empty() {
            return true;
        }
        let all = || running.iter().chain([next]);
        let within = |limit: Option<u64>, of: fn(&Resources) -> u64| {
            limit.is_none_or(|limit| all().fold(0u64, |sum, n| sum.saturating_add(of(n))) <= limit)
        };
        self.jobs.is_none_or(|jobs| running.len() < jobs)
            && all().map(|n| n.threads).sum::<usize>() <= self.cores
            && within(self.host, |n| n.host)
            && within(self.device, |n| n.device)
    }

    /// How many of the first runs of a list fit side by side.
    pub fn side_by_side(&self, runs: &[Resources]) -> usize {
        (0..runs.len()).take_while(|&n| self.fits(&runs[..n], &runs[n])).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Resources = Resources { threads: 1, host: 100, device: 0 };

    #[test]
    fn memory_cores_and_jobs_bound_what_runs_side_by_side() {
        let runs = [ONE; 10];
        let capacity = Capacity { cores: 8, ..Capacity::default() };
        assert_eq!(capacity.side_by_side(&runs), 8);
        assert_eq!(Capacity { jobs: Some(3), ..capacity }.side_by_side(&runs), 3);
        assert_eq!(Capacity { host: Some(499), ..capacity }.side_by_side(&runs), 4);
        assert_eq!(Capacity { host: Some(500), ..capacity }.side_by_side(&runs), 5);
        assert_eq!(capacity.side_by_side(&runs[..2]), 2);
        let on_device = [Resources { device: 40, ..ONE }; 10];
        assert_eq!(Capacity { device: Some(100), ..capacity }.side_by_side(&on_device), 2);
        assert_eq!(Capacity { device: Some(100), ..capacity }.side_by_side(&runs), 8, "none of them is there");
        assert_eq!(capacity.side_by_side(&[Resources { threads: 3, ..ONE }; 10]), 2);
    }

    #[test]
    fn one_alone_always_runs_and_sums_do_not_overflow() {
        let large = Resources { threads: 64, host: u64::MAX, device: u64::MAX };
        let capacity = Capacity { cores: 2, host: Some(10), device: Some(10), jobs: Some(4) };
        assert!(capacity.fits(&[], &large) && !capacity.fits(&[ONE], &large) && !capacity.fits(&[large], &ONE));
        assert!(Capacity { cores: 100, ..Capacity::default() }.fits(&[large], &ONE));
        assert!(!Capacity { cores: 100, host: Some(u64::MAX - 1), ..Capacity::default() }.fits(&[large], &large));
    }
}
