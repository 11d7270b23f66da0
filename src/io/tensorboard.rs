//! TensorBoard event files, written without protobuf and without allocating after construction.
//!
//! A record is `len: u64 LE, masked crc32c(len), payload, masked crc32c(payload)`; a payload is the protobuf message
//! `Event { 1: wall_time f64, 2: step int64, 3: file_version | 5: Summary }` with
//! `Summary { 1: Value { 1: tag, 2: simple_value f32 } }`. One record a row. The file has a fixed name and is cut at
//! the first record that a resumed run will write again, so that TensorBoard never shows two histories in one curve.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::io::atomic::FileError;
use crc::{CRC_32_ISCSI, Crc, Table};

/// The name TensorBoard looks for (`*tfevents*`); no time or host in it, so a resumed run goes on in the same file.
pub const FILE_NAME: &str = "events.out.tfevents.0.pwm";

static CASTAGNOLI: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// CRC-32C (Castagnoli).
pub fn crc32c(bytes: &[u8]) -> u32 {
    CASTAGNOLI.checksum(bytes)
}

/// The checksum as TFRecord stores it, so that a checksum of data that holds checksums stays strong.
pub fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint_len(v: u64) -> usize {
    (64 - (v | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v > 127 {
        out.push(v as u8 | 128);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Frames `out[12..]` as one record: fills the length and checksum in front and appends the one behind.
fn frame(out: &mut Vec<u8>) {
    let len = (out.len() as u64 - 12).to_le_bytes();
    out[..8].copy_from_slice(&len);
    out[8..12].copy_from_slice(&masked_crc(&len).to_le_bytes());
    let tail = masked_crc(&out[12..]).to_le_bytes();
    out.extend_from_slice(&tail);
}

/// `Event.wall_time` and `Event.step`, behind room for the record's head.
fn begin_event(out: &mut Vec<u8>, wall_time: f64, step: u64) {
    out.clear();
    out.extend_from_slice(&[0; 12]);
    out.push(0x09);
    out.extend_from_slice(&wall_time.to_le_bytes());
    out.push(0x10);
    put_varint(out, step);
}

/// An event file open at its end.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
    /// Bytes of whole records; a write that fails is cut back to here.
    good: u64,
    /// For each column, everything of its `Summary.value` field except the four bytes of the number.
    heads: Vec<Vec<u8>>,
    buf: Vec<u8>,
}

impl EventWriter {
    /// Opens (or begins) the event file in `dir`, keeping the whole records whose step is below `keep_below`.
    pub fn open(dir: &Path, tags: &[&str], keep_below: u64) -> Result<Self, FileError> {
        let path = dir.join(FILE_NAME);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(FileError::at(&path, "opening it"))?;
        let old = std::fs::read(&path).map_err(FileError::at(&path, "reading it"))?;
        let mut good = records(&old).take_while(|r| r.first || r.step < keep_below).last().map_or(0, |r| r.end as u64);
        file.set_len(good).map_err(FileError::at(&path, "cutting it"))?;
        file.seek(SeekFrom::Start(good)).map_err(FileError::at(&path, "seeking in it"))?;

        let heads: Vec<Vec<u8>> = tags
            .iter()
            .map(|tag| {
                let tag_len = tag.len() as u64;
                let value_len = 1 + varint_len(tag_len) as u64 + tag_len + 5;
                let mut h = vec![0x0a];
                put_varint(&mut h, value_len);
                h.push(0x0a);
                put_varint(&mut h, tag_len);
                h.extend_from_slice(tag.as_bytes());
                h.push(0x15);
                h
            })
            .collect();
        let row: usize = heads.iter().map(|h| h.len() + 4).sum();
        let mut buf = Vec::with_capacity(row + 64);
        if good == 0 {
            begin_event(&mut buf, 0.0, 0);
            buf.push(0x1a);
            put_varint(&mut buf, 13);
            buf.extend_from_slice(b"brain.Event:2");
            frame(&mut buf);
            file.write_all(&buf).map_err(FileError::at(&path, "writing to it"))?;
            good = buf.len() as u64;
        }
        Ok(Self { path, file, good, heads, buf })
    }

    /// Appends the columns of one step; NaN columns are left out. Allocates nothing.
    pub fn row(&mut self, wall_time: f64, step: u64, values: &[f64]) -> Result<(), FileError> {
        let present = || self.heads.iter().zip(values).filter(|(_, v)| !v.is_nan());
        let summary: usize = present().map(|(h, _)| h.len() + 4).sum();
        if summary == 0 {
            return Ok(());
        }
        begin_event(&mut self.buf, wall_time, step);
        self.buf.push(0x2a);
        put_varint(&mut self.buf, summary as u64);
        for (head, value) in present() {
            self.buf.extend_from_slice(head);
            self.buf.extend_from_slice(&(*value as f32).to_le_bytes());
        }
        frame(&mut self.buf);
        append(&mut self.file, &self.path, &self.buf, &mut self.good)
    }
}

/// Appends a whole record or leaves the file as it was.
pub(super) fn append(file: &mut File, path: &Path, bytes: &[u8], good: &mut u64) -> Result<(), FileError> {
    match file.write_all(bytes) {
        Ok(()) => {
            *good += bytes.len() as u64;
            Ok(())
        }
        Err(e) => {
            // The half record would hide everything behind it; where even this fails, the reader cuts it off.
            let _ = file.set_len(*good).and_then(|()| file.seek(SeekFrom::Start(*good)));
            Err(FileError::new(path, "appending to it", e))
        }
    }
}

/// One whole, intact record.
struct Record {
    /// The file's version record, which has step 0 and belongs to no row.
    first: bool,
    step: u64,
    end: usize,
}

/// The intact records from the start of a file; stops at the first that is cut or damaged.
fn records(bytes: &[u8]) -> impl Iterator<Item = Record> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let head = bytes.get(at..at + 12)?;
        let len = u64::from_le_bytes(head[..8].try_into().ok()?);
        if masked_crc(&head[..8]).to_le_bytes() != head[8..12] {
            return None;
        }
        let body_end = at.checked_add(12)?.checked_add(usize::try_from(len).ok()?)?;
        let body = bytes.get(at + 12..body_end)?;
        let tail = bytes.get(body_end..body_end.checked_add(4)?)?;
        if masked_crc(body).to_le_bytes() != *tail || body.len() < 11 || body[9] != 0x10 {
            return None;
        }
        let mut step = 0u64;
        for (i, &b) in body[10..].iter().take(10).enumerate() {
            step |= ((b & 127) as u64) << (7 * i).min(63);
            if b < 128 {
                break;
            }
        }
        let first = at == 0;
        at = body_end + 4;
        Some(Record { first, step, end: at })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_check_vectors() {
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&up), 0x46dd_794e);
    }

    #[test]
    fn varint_lengths() {
        for v in [0, 1, 127, 128, 16383, 16384, u64::MAX] {
            let mut b = vec![];
            put_varint(&mut b, v);
            assert_eq!(b.len(), varint_len(v), "{v}");
        }
    }

    #[test]
    fn resume_cuts_rows_and_torn_tails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let mut w = EventWriter::open(dir.path(), &["a", "loss/b"], 0).unwrap();
        for i in 0..10u64 {
            w.row(1.0, i * 1000, &[i as f64, f64::NAN]).unwrap();
        }
        drop(w);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(records(&whole).count(), 11);
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        drop(EventWriter::open(dir.path(), &["a", "loss/b"], 5000).unwrap());
        let cut = std::fs::read(&path).unwrap();
        assert_eq!(records(&cut).count(), 6);
        assert!(whole.starts_with(&cut));
        assert_eq!(records(&cut).last().map(|r| r.step), Some(4000));
    }
}
