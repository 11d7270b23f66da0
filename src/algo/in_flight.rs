//! Epochs that were begun and whose reports were not read yet.

use super::blueprint::EpochKind;
use crate::config::Config;
use crate::tape::MAX_IN_FLIGHT;

/// Epochs that a run of `c` may begin before it reads their reports: as many as lie between two rows of metrics.
pub(super) fn ahead(c: &Config) -> usize {
    usize::try_from(c.log_every).map_or(MAX_IN_FLIGHT, |n| n.min(MAX_IN_FLIGHT))
}

/// What the host remembers of such epochs, at most [`MAX_IN_FLIGHT`] of them. Allocates nothing after construction.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    kinds: Vec<EpochKind>,
    /// Learning rates of all networks, epoch by epoch.
    rates: Vec<f64>,
    networks: usize,
    /// Epochs before the first of them.
    from: u64,
}

impl InFlight {
    pub fn new(networks: usize) -> Self {
        let (kinds, rates) = (Vec::with_capacity(MAX_IN_FLIGHT), Vec::with_capacity(MAX_IN_FLIGHT * networks));
        Self { kinds, rates, networks, from: 0 }
    }

    /// Epoch `epoch` was begun, after which `rates` gives a learning rate for each network.
    pub fn push(&mut self, epoch: u64, kind: EpochKind, rates: impl Iterator<Item = f64>) {
        if self.kinds.is_empty() {
            self.from = epoch;
        }
        self.kinds.push(kind);
        self.rates.extend(rates);
    }

    /// The epochs in order, each with its learning rates.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (EpochKind, &[f64])> + ExactSizeIterator {
        let rates = |i: usize| &self.rates[i * self.networks..(i + 1) * self.networks];
        self.kinds.iter().enumerate().map(move |(i, &kind)| (kind, rates(i)))
    }

    pub fn clear(&mut self) {
        self.kinds.clear();
        self.rates.clear();
    }

    /// Epochs begun, if the host need not ask the device.
    pub fn epoch(&self) -> Option<u64> {
        (!self.is_empty()).then(|| self.from + self.kinds.len() as u64)
    }

    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }
}
