//! A control group of its own for a child process: a limit that the system enforces.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A group below this process's own, removed when dropped.
pub struct Cage {
    folder: PathBuf,
    /// Files of the limit and of the most that was held.
    limit: &'static str,
    peak: &'static str,
}

impl Cage {
    /// A group that may hold `bytes`; none where this user may not make one.
    pub fn new(bytes: u64) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let name = format!("pwm-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, own) = (fields.next()?, fields.next()?.trim_start_matches('/'));
            let (mount, limit, peak) = match controllers {
                "" => ("/sys/fs/cgroup", "memory.max", "memory.peak"),
                c if c.split(',').any(|c| c == "memory") => {
                    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes")
                }
                _ => continue,
            };
            let parent = PathBuf::from(mount).join(own);
            // Version 2 gives a group the controllers that its parent hands down.
            let _ = fs::write(parent.join("cgroup.subtree_control"), "+memory");
            let cage = Self { folder: parent.join(&name), limit, peak };
            if fs::create_dir(&cage.folder).is_err() {
                continue;
            }
            let _ = fs::write(cage.folder.join("memory.swap.max"), "0");
            if fs::write(cage.folder.join(cage.limit), bytes.to_string()).is_ok() {
                return Some(cage);
            }
        }
        None
    }

    /// The file of the limit.
    pub fn file(&self) -> PathBuf {
        self.folder.join(self.limit)
    }

    /// A command that moves itself into the group before it becomes `program`.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", self.folder.display()),
            program,
        ]);
        command
    }

    /// The most that the group held; none where the system does not count it.
    pub fn peak(&self) -> Option<u64> {
        fs::read_to_string(self.folder.join(self.peak)).ok()?.trim().parse().ok()
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // A group is empty a moment after its last process has ended.
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
