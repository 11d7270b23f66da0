//! The ZIP files that PyTorch writes: entries that are stored as they are, also more than 4 GB of them.

use crc::{CRC_32_ISO_HDLC, Crc, Table};
use std::collections::BTreeMap;
use std::io::Cursor;
use zip::{CompressionMethod, ZipArchive};

/// Entries by name.
pub type Entries<'a> = BTreeMap<String, &'a [u8]>;

static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISO_HDLC);

/// Bytes in front of the name of an entry, where its numbers begin.
const LOCAL_LEN: u64 = 30;

/// The entries of a file, each one's checksum verified. Nothing is copied.
pub fn entries(file: &[u8]) -> Result<Entries<'_>, String> {
    let mut archive = ZipArchive::new(Cursor::new(file))
        .map_err(|e| format!("it has no table of contents: cut short, or no ZIP file ({e})"))?;
    let mut entries = Entries::new();
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
        let data = slice(file, entry.data_start().ok_or("its table of contents is damaged")?, entry.size())?;
        if CRC.checksum(data) != entry.crc32() {
            return Err(format!("`{name}` is damaged: its checksum does not match its bytes"));
        }
        entries.insert(name.into(), data);
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
