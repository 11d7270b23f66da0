//! Bytes that are read where they lie: in a file, or in memory for tests of the readers.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use crate::io::crc64::Crc64;

/// Where the bytes are.
#[derive(Debug)]
pub enum ByteSource {
    /// All of them here.
    Memory(Vec<u8>),
    /// In a file that stays open.
    File(File),
}

/// Bytes that are read at once to be checked.
const CHUNK: usize = 1 << 16;

impl ByteSource {
    /// How many there are.
    pub fn len(&self) -> io::Result<u64> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len() as u64),
            Self::File(file) => Ok(file.metadata()?.len()),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `out` with the bytes from `at` on; an error if there are fewer.
    pub fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => {
                let from = bytes.get(at as usize..).and_then(|b| b.get(..out.len()));
                out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Self::File(file) => {
                let mut file = file;
                file.seek(SeekFrom::Start(at))?;
                file.read_exact(out)
            }
        }
    }

    /// A copy of a range, which the caller knows to be there.
    pub fn bytes(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut out = vec![0; (range.end - range.start) as usize];
        self.read(range.start, &mut out)?;
        Ok(out)
    }

    /// Adds a range to a checksum, with those bytes of it that lie in `blank` read as the digit zero.
    pub fn checksum(&self, crc: &mut Crc64, range: Range<u64>, blank: &Range<u64>) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK.min((range.end - range.start) as usize)];
        let mut at = range.start;
        while at < range.end {
            let n = (range.end - at).min(CHUNK as u64) as usize;
            self.read(at, &mut chunk[..n])?;
            let inside = |x: u64| x.clamp(at, at + n as u64) - at;
            chunk[inside(blank.start) as usize..inside(blank.end) as usize].fill(b'0');
            crc.update(&chunk[..n]);
            at += n as u64;
        }
        Ok(())
    }
}
