//! CRC-64/XZ, eight bytes at a time: it finds every flipped bit, and every burst of up to 64.

/// A checksum in progress.
#[derive(Clone, Debug)]
pub struct Crc64(u64);

const CRC_TABLES: [[u64; 256]; 8] = {
    let mut t = [[0u64; 256]; 8];
    let mut i = 0;
    while i < 256 {
        let mut c = i as u64;
        let mut bit = 0;
        while bit < 8 {
            c = (c >> 1) ^ (0xC96C_5795_D787_0F42 & (c & 1).wrapping_neg());
            bit += 1;
        }
        t[0][i] = c;
        i += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut i = 0;
        while i < 256 {
            t[k][i] = (t[k - 1][i] >> 8) ^ t[0][(t[k - 1][i] & 255) as usize];
            i += 1;
        }
        k += 1;
    }
    t
};

impl Default for Crc64 {
    fn default() -> Self {
        Self::new()
    }
}

impl Crc64 {
    /// Of no bytes.
    pub fn new() -> Self {
        Self(!0)
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut c = self.0;
        let (words, rest) = bytes.as_chunks::<8>();
        for w in words {
            let x = (c ^ u64::from_le_bytes(*w)).to_le_bytes();
            c = 0;
            for (k, &b) in x.iter().enumerate() {
                c ^= CRC_TABLES[7 - k][b as usize];
            }
        }
        for &b in rest {
            c = (c >> 8) ^ CRC_TABLES[0][((c ^ b as u64) & 255) as usize];
        }
        self.0 = c;
    }

    /// The checksum of all bytes so far.
    pub fn finish(&self) -> u64 {
        !self.0
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
