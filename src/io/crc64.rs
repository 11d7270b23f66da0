//! CRC-64/XZ: it finds every flipped bit, and every burst of up to 64.

use crc::{CRC_64_XZ, Crc, Digest, Table};

static XZ: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_XZ);

/// A checksum in progress.
#[derive(Clone)]
pub struct Crc64(Digest<'static, u64, Table<16>>);

impl std::fmt::Debug for Crc64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crc64({:016x})", self.finish())
    }
}

impl Default for Crc64 {
    fn default() -> Self {
        Self::new()
    }
}

impl Crc64 {
    /// Of no bytes.
    pub fn new() -> Self {
        Self(XZ.digest())
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    pub fn finish(&self) -> u64 {
        self.0.clone().finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc64_check_value() {
        let mut c = Crc64::new();
        c.update(b"123456789");
        assert_eq!(c.finish(), 0x995D_C9BB_DF19_39FA);
        let mut split = Crc64::new();
        split.update(b"123");
        split.update(b"456789");
        assert_eq!(split.finish(), c.finish());
    }
}
