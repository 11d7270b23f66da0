//! Which geoms may touch.

use super::model::{Geom, Mjcf};

/// A geom by the number of its body and its own number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeomId {
    pub body: usize,
    pub geom: usize,
}

impl Mjcf {
    /// The geom of this number.
    pub fn geom(&self, id: GeomId) -> &Geom {
        &self.bodies[id.body].geoms[id.geom]
    }

    /// All geoms, body after body.
    pub fn geoms(&self) -> impl Iterator<Item = GeomId> + '_ {
        self.bodies.iter().enumerate().flat_map(|(body, b)| (0..b.geoms.len()).map(move |geom| GeomId { body, geom }))
    }

    /// Whether two geoms may touch: their types and affinities allow it, and their bodies are not one, nor the one the
    /// parent of the other, nor excluded.
    pub fn may_touch(&self, a: GeomId, b: GeomId) -> bool {
        let (ga, gb) = (self.geom(a), self.geom(b));
        let matches = |x: &Geom, y: &Geom| x.contype.value & y.conaffinity.value != 0;
        if !self.option.flags.contact.value
            || !self.option.flags.constraint.value
            || !(matches(ga, gb) || matches(gb, ga))
        {
            return false;
        }
        let pair = [a.body, b.body];
        if self.excludes.iter().any(|e| e.bodies == pair || e.bodies == [b.body, a.body]) {
            return false;
        }
        let (ra, rb) = (self.weld_root(a.body), self.weld_root(b.body));
        if ra == rb {
            return false;
        }
        // The assembly that carries one, unless that is the world.
        let carrier = |root: usize| self.bodies[root].parent.map(|p| self.weld_root(p));
        let carries = |parent: usize, child: usize| parent != 0 && carrier(child) == Some(parent);
        !(self.option.flags.filterparent.value && (carries(ra, rb) || carries(rb, ra)))
    }
}
