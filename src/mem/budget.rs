//! How much memory a run may take: what it was given, or what the system would stop it at, less a margin.
//!
//! The smallest of these counts: the control group's limit (`memory.max`, or `memory.limit_in_bytes` of version 1), of
//! every group on the way to the root; the process's own limits of data and address space; the machine's memory. Of an
//! accelerator and of a disk it is what is free.

use super::mapped::existing;
use crate::config::Bytes;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Where a limit comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Asked for, by the setting of this name.
    Asked(&'static str),
    /// The file of a control group.
    ControlGroup(PathBuf),
    /// The process's limit of private memory (`ulimit -d`).
    Data,
    /// The process's limit of address space (`ulimit -v`), which maps of files take too.
    AddressSpace,
    /// Physical memory, which other programs need too.
    Machine,
    /// What is free on the accelerator of this name.
    Device(String),
    /// What is free on the disk of this folder, which the run's other files need too.
    Disk(PathBuf),
}

impl Limit {
    /// The share that is left to others, one part in so many: what the kernel keeps for the process counts against a
    /// control group, and a machine has other programs. What was asked for is given whole.
    fn margin(&self) -> u64 {
        match self {
            Limit::Asked(_) => u64::MAX,
            Limit::ControlGroup(_) | Limit::Data | Limit::AddressSpace | Limit::Device(_) => 50,
            Limit::Machine | Limit::Disk(_) => 10,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Asked(key) => write!(f, "{key}"),
            Limit::ControlGroup(path) => write!(f, "the control group's {}", path.display()),
            Limit::Data => f.write_str("the process's limit of data"),
            Limit::AddressSpace => f.write_str("the process's limit of address space"),
            Limit::Machine => f.write_str("the machine's memory"),
            Limit::Device(name) => write!(f, "free on {name}, what it holds for this process included"),
            Limit::Disk(folder) => write!(f, "free on the disk of {}", folder.display()),
        }
    }
}

/// Memory that a plan must fit into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub limit: u64,
    pub from: Limit,
}

impl Budget {
    pub fn asked(key: &'static str, bytes: Bytes) -> Self {
        Self { limit: bytes.0, from: Limit::Asked(key) }
    }

    /// What the system allows this process; none where it does not say.
    pub fn of_host() -> Option<Self> {
        let limits = process_limits(&fs::read_to_string("/proc/self/limits").unwrap_or_default());
        limits.into_iter().chain(Self::groups()).chain(Self::machine()).min_by_key(Self::usable)
    }

    /// What the system allows all processes of the same control group together; none where it does not say. Limits of a
    /// single process do not count here.
    pub fn of_all_processes() -> Option<Self> {
        Self::groups().chain(Self::machine()).min_by_key(Self::usable)
    }

    fn groups() -> impl Iterator<Item = Self> {
        let groups = control_groups(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
        groups.into_iter().filter_map(|path| {
            let limit = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
            Some(Self { limit, from: Limit::ControlGroup(path) })
        })
    }

    fn machine() -> Option<Self> {
        let limit = physical(&fs::read_to_string("/proc/meminfo").unwrap_or_default())?;
        Some(Self { limit, from: Limit::Machine })
    }

    /// What the disk has room for where `folder` is or would be; none where the system does not say.
    pub fn of_disk(folder: &Path) -> Option<Self> {
        let folder = existing(folder);
        let limit = room(&folder)?;
        Some(Self { limit, from: Limit::Disk(folder) })
    }

    /// Bytes left for others.
    pub fn margin(&self) -> u64 {
        self.limit / self.from.margin()
    }

    /// Bytes a plan may hold.
    pub fn usable(&self) -> u64 {
        self.limit - self.margin()
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", Bytes(self.usable()), self.from)?;
        match self.margin() {
            0 => f.write_str(")"),
            margin => write!(f, ", {} less a margin of {})", Bytes(self.limit), Bytes(margin)),
        }
    }
}

/// The limit files of the groups named in `/proc/self/cgroup`, from the process's own up to the root. In a container
/// the named path may not exist; the root of the mount then holds the container's limit.
fn control_groups(text: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (mount, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            c if c.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let own = Path::new(mount).join(group.trim_start_matches('/'));
        files.extend(own.ancestors().take_while(|a| a.starts_with(mount)).map(|a| a.join(file)));
    }
    files
}

/// Soft limits of `/proc/self/limits`, in bytes.
fn process_limits(text: &str) -> Vec<Budget> {
    let limit = |row: &str, from: Limit| {
        let line = text.lines().find(|l| l.starts_with(row))?;
        let limit = line[row.len()..].split_whitespace().next()?.parse().ok()?;
        Some(Budget { limit, from })
    };
    [limit("Max data size", Limit::Data), limit("Max address space", Limit::AddressSpace)]
        .into_iter()
        .flatten()
        .collect()
}

/// Bytes that this user may still write to the disk of `folder`.
#[cfg(target_os = "linux")]
fn room(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(target_os = "linux"))]
fn room(_: &Path) -> Option<u64> {
    None
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn physical(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let v2 = control_groups("0::/system.slice/run.service\n");
        assert_eq!(v2.len(), 3);
        assert_eq!(v2[0], Path::new("/sys/fs/cgroup/system.slice/run.service/memory.max"));
        assert_eq!(v2[2], Path::new("/sys/fs/cgroup/memory.max"));
        let v1 = control_groups("11:cpu,cpuacct:/a\n5:memory:/docker/1\n");
        assert_eq!(v1[0], Path::new("/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes"));
        assert_eq!(v1.len(), 3);

        let text = "Limit                     Soft Limit           Hard Limit           MmaPath     \n\
                    Max data size             1048576              unlimited            bytes     \n\
                    Max address space         unlimited            unlimited            bytes     \n";
        assert_eq!(process_limits(text), [Budget { limit: 1 << 20, from: Limit::Data }]);
        assert_eq!(physical("MemTotal:       1024 kB\nMemFree: 3 kB"), Some(1 << 20));
    }

    #[test]
    fn a_margin_is_left_unless_asked() {
        let asked = Budget::asked("mem", Bytes(1 << 30));
        assert_eq!((asked.usable(), asked.to_string().as_str()), (1 << 30, "1.00 GiB (mem)"));
        let group = Budget { limit: 1 << 30, from: Limit::ControlGroup("/x".into()) };
        assert!(group.usable() < group.limit && group.to_string().contains("margin"), "{group}");
    }
}
