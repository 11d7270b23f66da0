//! Numbers in a file that is mapped into memory: for what is large and touched here and there.
//!
//! The file has no name. It ends with the process, however that ends, so nothing of it can be left over or be out of
//! date, and no other process can cut it short while it is mapped. All its blocks are taken before it is mapped: a disk
//! without room is an error here, not a signal at some later write. (File systems that never overwrite a block, such as
//! btrfs, cannot promise this: there a disk that fills up later still ends the process.)
//!
//! Pages of the file that were touched stay in memory as long as nobody needs it more; the system takes them back.

use super::ALIGN;
use bytemuck::Pod;
use memmap2::MmapRaw;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// The file could not be made; nothing is left of it.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot keep {bytes} bytes of the replay in a file in {folder}: {cause}; free space there, choose another run_dir, or \
     set replay=host",
    folder = folder.display()
)]
pub struct MapError {
    pub folder: PathBuf,
    pub bytes: usize,
    pub cause: io::Error,
}

/// `len` numbers at a fixed address, zeros at first.
#[derive(Debug)]
pub struct Mapped<T: Pod> {
    map: MmapRaw,
    len: usize,
    number: PhantomData<T>,
}

impl<T: Pod> Mapped<T> {
    /// Numbers in a file of `folder`, which need not exist yet: then in the nearest folder above that does, which is
    /// where it would be made.
    pub fn new(folder: &Path, len: usize) -> Result<Self, MapError> {
        let (folder, bytes) = (existing(folder), len.saturating_mul(size_of::<T>()));
        let map = || {
            let file = tempfile::tempfile_in(&folder)?;
            allocate(&file, bytes)?;
            let map = MmapRaw::map_raw(&file)?;
            // A window is a page or two: reading ahead would fill memory with what is not asked for.
            #[cfg(unix)]
            map.advise(memmap2::Advice::Random)?;
            Ok(map)
        };
        match map() {
            Ok(map) => {
                assert!((map.as_mut_ptr() as usize).is_multiple_of(ALIGN), "invariant: maps begin at a page");
                Ok(Self { map, len, number: PhantomData })
            }
            Err(cause) => Err(MapError { folder, bytes, cause }),
        }
    }

    pub fn as_ptr(&self) -> *mut T {
        self.map.as_mut_ptr().cast()
    }

    pub fn as_slice(&self) -> &[T] {
        // SAFETY: the file holds so many numbers, and has no name by which another process could change or shorten it;
        // writers of this one need `&mut self` or run inside `Machine::run(&mut self)`.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
    }

    /// The whole block; `&mut self` proves that no program runs.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above, exclusively borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.len) }
    }
}

/// The folder, or the nearest one above it that is there.
pub fn existing(folder: &Path) -> PathBuf {
    let above = folder.ancestors().find(|a| !a.as_os_str().is_empty() && a.is_dir());
    above.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Whether a file in `folder`, or in the nearest one above it that is there, lies in main memory after all.
pub fn in_memory(folder: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        /// How the system numbers tmpfs and ramfs.
        const MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];
        rustix::fs::statfs(existing(folder)).is_ok_and(|disk| MEMORY.contains(&(disk.f_type as u32)))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = folder;
        false
    }
}

/// Gives the file `bytes` zeros, each with its place on the disk.
fn allocate(file: &File, bytes: usize) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    loop {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(file, FallocateFlags::empty(), 0, bytes as u64) {
            Err(rustix::io::Errno::INTR) => {}
            // Not every file system can; then the zeros are written.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => break,
            done => return Ok(done?),
        }
    }
    let zeros = vec![0u8; bytes.min(1 << 20)];
    let (mut to, mut left) = (file, bytes);
    while left > 0 {
        let n = left.min(zeros.len());
        io::Write::write_all(&mut to, &zeros[..n])?;
        left -= n;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_zeros_that_leave_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut map = Mapped::<f32>::new(&dir.path().join("not/there/yet"), 100_000).unwrap();
        assert!(map.as_slice().iter().all(|x| *x == 0.0));
        map.as_mut_slice()[99_999] = 3.0;
        assert_eq!(map.as_slice()[99_999], 3.0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn files_in_memory_are_told_from_others() {
        assert!(!in_memory(Path::new(env!("CARGO_MANIFEST_DIR"))));
        let shared = Path::new("/dev/shm");
        assert!(!shared.is_dir() || in_memory(&shared.join("not/there/yet")));
    }

    #[test]
    fn a_disk_without_room_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let e = Mapped::<f32>::new(dir.path(), 1 << 50).unwrap_err();
        assert!(e.to_string().contains("replay=host"), "{e}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
