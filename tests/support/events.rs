//! What TensorBoard reads of a run.

use std::collections::BTreeMap;
use std::path::Path;

/// One event: step, and numbers by tag. A reader of its own, from the description of the format: records of a length,
/// its masked CRC-32C, a protocol buffer, and its masked CRC-32C.
pub fn events(file: &Path) -> Vec<(u64, BTreeMap<String, f32>)> {
    fn crc(bytes: &[u8]) -> u32 {
        let mut c = !0u32;
        for b in bytes {
            c ^= u32::from(*b);
            (0..8).for_each(|_| c = if c & 1 == 1 { (c >> 1) ^ 0x82f6_3b78 } else { c >> 1 });
        }
        (!c).rotate_right(15).wrapping_add(0xa282_ead8)
    }
    fn varint(b: &mut &[u8]) -> u64 {
        let mut n = 0;
        for i in 0.. {
            let byte = b[0];
            *b = &b[1..];
            n |= u64::from(byte & 127) << (7 * i);
            if byte < 128 {
                break;
            }
        }
        n
    }
    /// Fields of a message: number, and what it holds as bytes or as a whole number.
    fn fields(mut b: &[u8]) -> Vec<(u64, &[u8], u64)> {
        let mut out = vec![];
        while !b.is_empty() {
            let key = varint(&mut b);
            let (len, number) = match key & 7 {
                0 => (0, varint(&mut b)),
                1 => (8, 0),
                2 => (varint(&mut b) as usize, 0),
                5 => (4, 0),
                other => panic!("wire type {other}"),
            };
            out.push((key >> 3, &b[..len], number));
            b = &b[len..];
        }
        out
    }
    let bytes = std::fs::read(file).unwrap();
    let (mut b, mut out) = (&bytes[..], vec![]);
    while !b.is_empty() {
        let len = u64::from_le_bytes(b[..8].try_into().unwrap()) as usize;
        assert_eq!(crc(&b[..8]).to_le_bytes(), b[8..12]);
        let event = &b[12..12 + len];
        assert_eq!(crc(event).to_le_bytes(), b[12 + len..16 + len]);
        b = &b[16 + len..];
        let of = |n: u64| fields(event).into_iter().filter(move |f| f.0 == n);
        if out.is_empty() && of(3).any(|f| f.1 == b"brain.Event:2") {
            continue;
        }
        let values = of(5).flat_map(|summary| fields(summary.1)).filter(|f| f.0 == 1).map(|value| {
            let part = |n: u64| fields(value.1).into_iter().find(|f| f.0 == n).unwrap().1;
            (String::from_utf8(part(1).to_vec()).unwrap(), f32::from_le_bytes(part(2).try_into().unwrap()))
        });
        out.push((of(2).map(|f| f.2).next().unwrap_or(0), values.collect()));
    }
    out
}
