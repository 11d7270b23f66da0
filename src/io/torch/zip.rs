//! The ZIP files that PyTorch writes: entries that are stored as they are, also more than 4 GB of them.

use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};
use std::collections::BTreeMap;
use std::io::Cursor;
use zip::{CompressionMethod, ZipArchive};

/// Entries by name.
pub type Entries<'a> = BTreeMap<String, &'a [u8]>;

/// An entry where it lies, and the checksum that its bytes should have.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub bytes: &'a [u8],
    pub crc: u32,
}

static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISO_HDLC);

/// Bytes in front of the name of an entry, where its numbers begin.
const LOCAL_LEN: u64 = 30;

impl<'a> Entry<'a> {
    /// The bytes, if they have their checksum. `name` is for the message.
    pub fn verified(&self, name: &str) -> Result<&'a [u8], String> {
        let fits = CRC.checksum(self.bytes) == self.crc;
        if fits { Ok(self.bytes) } else { Err(damaged(name)) }
    }
}

/// That an entry's bytes do not have its checksum.
pub fn damaged(name: &str) -> String {
    format!("`{name}` is damaged: its checksum does not match its bytes")
}

/// The checksum of bytes that come piece by piece.
pub fn checksum() -> Digest<'static, u32, Table<16>> {
    CRC.digest()
}

/// The entries of a file, each one's checksum verified. Nothing is copied.
pub fn entries(file: &[u8]) -> Result<Entries<'_>, String> {
    directory(file)?.into_iter().map(|(name, e)| e.verified(&name).map(|bytes| (name, bytes))).collect()
}

/// The entries of a file as its table of contents has them: of a large one, only that is read.
pub fn directory(file: &[u8]) -> Result<BTreeMap<String, Entry<'_>>, String> {
    let mut archive = ZipArchive::new(Cursor::new(file))
        .map_err(|e| format!("it has no table of contents: cut short, or no ZIP file ({e})"))?;
    let mut entries = BTreeMap::new();
    for i in 0..archive.len() {
        let entry = archive.by_index_raw(i).map_err(|e| format!("its table of contents is damaged ({e})"))?;
        let bytes = entry.name_raw();
        let name = std::str::from_utf8(bytes).map_err(|_| "an entry's name is no text")?;
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            return Err(format!("`{name}` is compressed; torch.save stores entries as they are"));
        }
        if slice(file, entry.header_start().saturating_add(LOCAL_LEN), bytes.len() as u64)? != bytes {
            return Err(format!("`{name}` is not where the table of contents says"));
        }
        let bytes = slice(file, entry.data_start().ok_or("its table of contents is damaged")?, entry.size())?;
        entries.insert(name.into(), Entry { bytes, crc: entry.crc32() });
    }
    Ok(entries)
}

fn slice(file: &[u8], at: u64, len: u64) -> Result<&[u8], String> {
    let found = usize::try_from(at).ok().and_then(|at| file.get(at..)?.get(..usize::try_from(len).ok()?));
    found.ok_or_else(|| "it is cut short".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_check_value() {
        assert_eq!(CRC.checksum(b"123456789"), 0xCBF4_3926);
    }
}
