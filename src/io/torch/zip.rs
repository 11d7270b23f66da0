//! The part of the ZIP format that PyTorch's files use: entries that are stored as they are.

use std::collections::BTreeMap;

/// Entries by name.
pub type Entries<'a> = BTreeMap<String, &'a [u8]>;

const END: &[u8] = b"PK\x05\x06";
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
/// Size of the end record without its comment, and the longest comment.
const END_LEN: usize = 22;
const COMMENT: usize = 65_535;
/// Value of fields whose true value is in records of the 64-bit extension.
const EXTENDED: u64 = 0xFFFF_FFFF;

/// The entries of a file, each one's checksum verified.
pub fn entries(file: &[u8]) -> Result<Entries<'_>, String> {
    let from = file.len().saturating_sub(END_LEN + COMMENT);
    let end = file[from..].windows(END.len()).rposition(|w| w == END).map(|i| from + i);
    let end = end.ok_or("it has no table of contents: cut short, or no ZIP file")?;
    let (count, mut at) = (number(file, end + 10, 2)?, number(file, end + 16, 4)?);
    if at == EXTENDED || count == 0xFFFF {
        return Err("it uses the 64-bit extension of ZIP (more than 4 GB), which is not read here".into());
    }
    let mut entries = Entries::new();
    for _ in 0..count {
        let field = |offset: u64, size| number(file, (at + offset) as usize, size);
        let name_len = field(28, 2)?;
        let bytes = slice(file, at + 46, name_len)?;
        let name = std::str::from_utf8(bytes).map_err(|_| "an entry's name is no text")?;
        if slice(file, at, 4)? != ENTRY {
            return Err("its table of contents is damaged".into());
        }
        let (method, crc, size, local) = (field(10, 2)?, field(16, 4)?, field(24, 4)?, field(42, 4)?);
        if method != 0 {
            return Err(format!("`{name}` is compressed; torch.save stores entries as they are"));
        }
        if slice(file, local, 4)? != LOCAL || slice(file, local + 30, name_len)? != bytes {
            return Err(format!("`{name}` is not where the table of contents says"));
        }
        let skip = number(file, local as usize + 26, 2)? + number(file, local as usize + 28, 2)?;
        let data = slice(file, local + 30 + skip, size)?;
        if u64::from(crc32(data)) != crc {
            return Err(format!("`{name}` is damaged: its checksum does not match its bytes"));
        }
        if entries.insert(name.into(), data).is_some() {
            return Err(format!("`{name}` is in it twice"));
        }
        at += 46 + name_len + field(30, 2)? + field(32, 2)?;
    }
    Ok(entries)
}

fn slice(file: &[u8], at: u64, len: u64) -> Result<&[u8], String> {
    let found = usize::try_from(at).ok().and_then(|at| file.get(at..)?.get(..usize::try_from(len).ok()?));
    found.ok_or_else(|| "it is cut short".into())
}

/// A little-endian number of `size` bytes.
fn number(file: &[u8], at: usize, size: u64) -> Result<u64, String> {
    Ok(slice(file, at as u64, size)?.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
}

/// The CRC-32 of ZIP.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |c, b| (c >> 8) ^ TABLE[((c ^ u32::from(*b)) & 255) as usize])
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut c = i as u32;
        let mut bit = 0;
        while bit < 8 {
            c = (c >> 1) ^ (0xEDB8_8320 & (c & 1).wrapping_neg());
            bit += 1;
        }
        table[i] = c;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_check_value() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
