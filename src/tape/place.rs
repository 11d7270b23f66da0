//! Addresses over time: which are taken while a value lives, and the lowest run of them that is not.
//!
//! A segment tree over the nodes of a program (Bentley, 1977). A value's life is the union of a few of the tree's
//! ranges; each range keeps the addresses of values that live through the whole of it, and of those that live in any
//! part of it. Spans of addresses that meet are one, and a plan packs densely, so that a range has few of them: a place
//! is found in little more than the logarithm of the program's length, squared, whatever the number of values placed
//! before.

/// Disjoint spans in order, none of which meets the next.
#[derive(Clone, Debug, Default)]
struct Spans(Vec<(usize, usize)>);

impl Spans {
    fn add(&mut self, start: usize, end: usize) {
        let spans = &mut self.0;
        let from = spans.partition_point(|s| s.1 < start);
        let to = from + spans[from..].partition_point(|s| s.0 <= end);
        if from == to {
            spans.insert(from, (start, end));
            return;
        }
        spans[from] = (start.min(spans[from].0), end.max(spans[to - 1].1));
        spans.drain(from + 1..to);
    }

    /// The first address from `at` on, if a span has any of the `len` addresses there: the end of that span.
    fn after(&self, at: usize, len: usize) -> Option<usize> {
        let span = self.0.get(self.0.partition_point(|s| s.1 <= at))?;
        (span.0 < at + len).then_some(span.1)
    }
}

/// Addresses taken while the nodes of a program run.
pub(super) struct Taken {
    /// Leaves of the tree, a power of two; the children of range `r` are `2 r` and `2 r + 1`, the root is 1.
    leaves: usize,
    /// By range: spans of values that live through all of it.
    through: Vec<Spans>,
    /// By range: spans of values that live in some of it.
    within: Vec<Spans>,
    /// Ranges that a search looks at, and whether at what lives through them.
    near: Vec<(usize, bool)>,
}

impl Taken {
    pub fn new(nodes: usize) -> Self {
        let leaves = nodes.max(1).next_power_of_two();
        let none = vec![Spans::default(); 2 * leaves];
        Self { leaves, through: none.clone(), within: none, near: vec![] }
    }

    /// Visits the ranges whose union is the nodes `first` to `last`, both included.
    fn ranges(leaves: usize, (first, last): (usize, usize), mut visit: impl FnMut(usize)) {
        let (mut left, mut right) = (first + leaves, last + leaves + 1);
        while left < right {
            if left % 2 == 1 {
                visit(left);
                left += 1;
            }
            if right % 2 == 1 {
                right -= 1;
                visit(right);
            }
            left /= 2;
            right /= 2;
        }
    }

    /// Visits the ranges that hold `first` or `last`, or both.
    fn around(leaves: usize, (first, last): (usize, usize), mut visit: impl FnMut(usize)) {
        let (mut left, mut right) = (first + leaves, last + leaves);
        while left != right {
            visit(left);
            visit(right);
            left /= 2;
            right /= 2;
        }
        while left > 0 {
            visit(left);
            left /= 2;
        }
    }

    /// Takes the lowest `len` addresses that are free from node `first` to `last`, and returns the first of them.
    pub fn place(&mut self, len: usize, life: (usize, usize)) -> usize {
        if len == 0 {
            return 0;
        }
        // A value that lives at the same time lives in some of these ranges, or through one around the ends.
        let Self { leaves, through, within, near } = self;
        near.clear();
        Self::ranges(*leaves, life, |r| near.push((r, false)));
        Self::around(*leaves, life, |r| near.push((r, true)));
        let spans = |&(r, whole): &(usize, bool)| if whole { &through[r] } else { &within[r] };
        near.retain(|n| !spans(n).0.is_empty());
        let mut at = 0;
        while let Some(end) = near.iter().filter_map(|n| spans(n).after(at, len)).max() {
            at = end;
        }
        Self::ranges(*leaves, life, |r| {
            through[r].add(at, at + len);
            within[r].add(at, at + len);
        });
        // The ranges above those are among these.
        Self::around(*leaves, life, |r| within[r].add(at, at + len));
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each value against all placed before it.
    fn one_by_one(values: &[(usize, (usize, usize))]) -> Vec<usize> {
        let mut placed: Vec<(usize, usize, (usize, usize))> = vec![];
        for &(len, (first, last)) in values {
            let mut at = 0;
            let mut rivals: Vec<_> = placed.iter().filter(|p| p.2.0 <= last && first <= p.2.1 && p.1 > p.0).collect();
            rivals.sort_unstable();
            for &&(start, end, _) in &rivals {
                if at + len <= start {
                    break;
                }
                at = at.max(end);
            }
            placed.push((at, at + len, (first, last)));
        }
        placed.iter().map(|p| p.0).collect()
    }

    proptest! {
        #[test]
        fn the_lowest_free_addresses_are_taken(
            nodes in 1_usize..40,
            lives in prop::collection::vec((0_usize..6, 0_usize..40, 0_usize..40), 0..120),
        ) {
            let life = |a: usize, b: usize| (a.min(b) % nodes, a.max(b) % nodes);
            let values: Vec<_> = lives.iter().map(|&(len, a, b)| {
                let (x, y) = life(a, b);
                (len, (x.min(y), x.max(y)))
            }).collect();
            let mut taken = Taken::new(nodes);
            let found: Vec<usize> = values.iter().map(|&(len, life)| taken.place(len, life)).collect();
            prop_assert_eq!(found, one_by_one(&values));
        }
    }
}
