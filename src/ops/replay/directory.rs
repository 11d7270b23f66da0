//! The directory: a queue of the episodes in the ring that a window still fits into.
//!
//! Rows and window starts are counted without end, so an episode's place in the order of all window starts is one
//! subtraction away and a row of that order is found by bisection.

/// Numbers of a directory entry: first row, rows, window starts before it.
pub const ENTRY: usize = 3;

/// Before the row counter reaches this it falls back by whole turns of the ring.
const REBASE: u32 = 1 << 31;

/// What `replay.counters` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Rows ever written to the ring: the next one goes to slot `rows % capacity`. (Falls back by a multiple of the
    /// capacity at 2^31.)
    Rows,
    /// Position of the oldest episode in the directory.
    Head,
    /// Episodes in the directory.
    Count,
    /// Window starts ever added, with wrap-around: only differences mean something.
    Starts,
    /// Episodes ever moved to the ring.
    Episodes,
    /// Those of them that were long enough for a window.
    Eligible,
}

impl Counter {
    pub const COUNT: usize = 6;
}

/// An episode of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Episode {
    /// Number of its first readable row.
    pub start: u32,
    /// Readable rows.
    pub rows: u32,
    /// Value of [`Counter::Starts`] at its first window start.
    pub before: u32,
}

/// The directory, to read.
#[derive(Clone, Copy, Debug)]
pub struct Directory<'a> {
    pub entries: &'a [u32],
    pub counters: &'a [u32],
}

impl Directory<'_> {
    pub fn get(&self, c: Counter) -> u32 {
        self.counters[c as usize]
    }

    pub fn count(&self) -> u32 {
        self.get(Counter::Count)
    }

    /// Episode `i`, the oldest first.
    pub fn episode(&self, i: u32) -> Episode {
        let len = self.entries.len() / ENTRY;
        let at = (self.get(Counter::Head) as usize + i as usize) % len * ENTRY;
        let e = &self.entries[at..at + ENTRY];
        Episode { start: e[0], rows: e[1], before: e[2] }
    }

    /// Window starts in the ring.
    pub fn starts(&self) -> u32 {
        if self.count() == 0 { 0 } else { self.get(Counter::Starts).wrapping_sub(self.episode(0).before) }
    }

    /// First row of window `i`, in the order of the rows.
    pub fn window(&self, i: u32) -> u32 {
        let first = self.episode(0).before;
        // The last episode with no more than i starts before it.
        let (mut low, mut high) = (0, self.count());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.episode(middle).before.wrapping_sub(first) <= i {
                low = middle;
            } else {
                high = middle;
            }
        }
        let e = self.episode(low);
        e.start + (i - e.before.wrapping_sub(first))
    }
}

/// The directory, to append to.
#[derive(Debug)]
pub(super) struct DirectoryMut<'a> {
    pub entries: &'a mut [u32],
    pub counters: &'a mut [u32],
    /// Rows of the ring.
    pub capacity: u32,
    pub horizon: u32,
}

impl DirectoryMut<'_> {
    pub fn view(&self) -> Directory<'_> {
        Directory { entries: self.entries, counters: self.counters }
    }

    fn counter(&mut self, c: Counter) -> &mut u32 {
        &mut self.counters[c as usize]
    }

    fn set(&mut self, i: u32, e: Episode) {
        let len = self.entries.len() / ENTRY;
        let at = (self.view().get(Counter::Head) as usize + i as usize) % len * ENTRY;
        self.entries[at..at + ENTRY].copy_from_slice(&[e.start, e.rows, e.before]);
    }

    /// Keeps row numbers away from 2^32; no slot changes. Called before a batch of `append`s.
    pub fn rebase(&mut self) {
        let rows = self.view().get(Counter::Rows);
        if rows < REBASE {
            return;
        }
        let turns = (rows - self.capacity) / self.capacity * self.capacity;
        *self.counter(Counter::Rows) -= turns;
        for i in 0..self.view().count() {
            let e = self.view().episode(i);
            self.set(i, Episode { start: e.start - turns, ..e });
        }
    }

    /// Reserves the next `rows` rows for an episode; returns the number of the first one.
    pub fn append(&mut self, rows: u32) -> u32 {
        let start = self.view().get(Counter::Rows);
        let end = start + rows;
        let readable = end.saturating_sub(self.capacity);
        self.cut(readable);
        *self.counter(Counter::Rows) = end;
        let episodes = self.counter(Counter::Episodes);
        *episodes = episodes.wrapping_add(1);
        // An episode longer than the ring overwrites its own beginning.
        let first = start.max(readable);
        let rows = end - first;
        if rows > self.horizon {
            let before = self.view().get(Counter::Starts);
            self.set(self.view().count(), Episode { start: first, rows, before });
            *self.counter(Counter::Starts) = before.wrapping_add(rows - self.horizon);
            *self.counter(Counter::Count) += 1;
            let eligible = self.counter(Counter::Eligible);
            *eligible = eligible.wrapping_add(1);
        }
        start
    }

    /// Forgets the rows before `readable`.
    fn cut(&mut self, readable: u32) {
        while self.view().count() > 0 {
            let e = self.view().episode(0);
            if e.start >= readable {
                return;
            }
            let lost = readable - e.start;
            if e.rows > lost + self.horizon {
                self.set(0, Episode { start: readable, rows: e.rows - lost, before: e.before.wrapping_add(lost) });
                return;
            }
            let len = (self.entries.len() / ENTRY) as u32;
            let head = self.counter(Counter::Head);
            *head = (*head + 1) % len;
            *self.counter(Counter::Count) -= 1;
        }
    }
}

/// `floor(x n / 2^64)` for the 64-bit number `x` made of two words: uniform below `n`.
#[inline(always)]
pub(in crate::ops) fn below(n: u32, high: u32, low: u32) -> u32 {
    let n = u64::from(n);
    ((u64::from(high) * n + ((u64::from(low) * n) >> 32)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_covers_its_range() {
        assert_eq!((below(7, 0, 0), below(7, u32::MAX, u32::MAX), below(1, u32::MAX, 5)), (0, 6, 0));
        let x = (u128::from(0x9abc_def0u32) << 32) | 0x1234_5678;
        assert_eq!(u128::from(below(1_000_003, 0x9abc_def0, 0x1234_5678)), (x * 1_000_003) >> 64);
    }

    #[test]
    fn row_numbers_never_overflow() {
        // Two directories, one of them shortly before the fall back, behave alike.
        let (capacity, horizon) = (50, 3);
        let mut a = (vec![0; 12 * ENTRY], vec![0; Counter::COUNT]);
        let mut b = a.clone();
        b.1[Counter::Rows as usize] = REBASE / capacity * capacity - 2 * capacity;
        b.1[Counter::Starts as usize] = u32::MAX - 20;
        let mut fell = false;
        for i in 0..100 {
            let rows = 1 + (i * 7) % 23;
            let mut slots = vec![];
            for s in [&mut a, &mut b] {
                let mut d = DirectoryMut { entries: &mut s.0, counters: &mut s.1, capacity, horizon };
                d.rebase();
                slots.push(d.append(rows) % capacity);
            }
            assert_eq!(slots[0], slots[1]);
            let (a, b) = (Directory { entries: &a.0, counters: &a.1 }, Directory { entries: &b.0, counters: &b.1 });
            assert_eq!((a.count(), a.starts()), (b.count(), b.starts()));
            for w in 0..a.starts() {
                assert_eq!(a.window(w) % capacity, b.window(w) % capacity);
            }
            fell |= i > 0 && b.get(Counter::Rows) < REBASE / 2;
        }
        assert!(fell, "the counter fell back");
    }
}
