//! How episodes of a task start.

use super::reader::{Read, Reader};
use super::robot::Joints;
use crate::config::spec::{Data, SpecNode};
use crate::env::reset::Draw;
use crate::sim::JointKind;

const DRAWS: [&str; 4] = ["position", "rotation", "coordinates", "velocities"];

impl<'a> Reader<'a> {
    pub(super) fn start(self, node: &'a SpecNode, joints: &Joints) -> Read<Vec<f64>> {
        let x = self.list(node)?.iter().map(|n| self.number(n)).collect::<Read<Vec<_>>>()?;
        let nq = joints.sizes().0;
        if x.len() != nq {
            let n = x.len();
            return Err(self.wrong(node, format!("a start of {n} coordinates\n  the robot has {nq}")));
        }
        for (i, body) in joints.robot.bodies.iter().enumerate() {
            let at = joints.q[i]
                + match body.joint.kind {
                    JointKind::Free => 3,
                    JointKind::Ball => 0,
                    _ => continue,
                };
            let norm = x[at..at + 4].iter().map(|x| x * x).sum::<f64>().sqrt();
            if (norm - 1.0).abs() > 1e-6 {
                let name = &body.name;
                return Err(
                    self.wrong(node, format!("the orientation of `{name}` (x, y, z, w) has norm {norm}, not 1"))
                );
            }
        }
        Ok(x)
    }

    pub(super) fn noise(self, node: &'a SpecNode, joints: &Joints) -> Read<Vec<Draw>> {
        let f = self.fields(node)?;
        let on = f.flag("when", true)?;
        let draws = self.list(f.need("draws")?)?.iter().map(|n| self.draw(n, joints)).collect::<Read<Vec<_>>>()?;
        f.finish()?;
        Ok(if on { draws } else { vec![] })
    }

    pub(super) fn draw(self, item: &'a SpecNode, joints: &Joints) -> Read<Draw> {
        let (name, inside) = self.item(item)?;
        let inside = inside.ok_or_else(|| self.wrong(item, format!("write how wide: `- {name}: 0.1`")))?;
        // One number, or a mapping with `width` and what it is of.
        let fields = match &inside.data {
            Data::Map(_) => Some(self.fields(inside)?),
            _ => None,
        };
        let width = match &fields {
            Some(f) => self.number(f.need("width")?)?,
            None => self.number(inside)?,
        };
        let bodies = match &fields {
            Some(f) => Some(self.bodies(f, joints)?),
            None => None,
        };
        let root = || {
            if joints.has_free_root() { Ok(()) } else { Err(self.wrong(item, "the robot has no free root to move")) }
        };
        let all = 0..joints.robot.bodies.len();
        let draw = match name {
            "position" => {
                root()?;
                if let Some(f) = &fields {
                    return Err(self.wrong(f.node, "a position is the root's\n  write one number: `- position: 0.1`"));
                }
                Draw::Position { width }
            }
            "rotation" => match &bodies {
                Some(b) if joints.robot.bodies[b.start].joint.kind == JointKind::Ball => {
                    Draw::Rotation { at: joints.q[b.start], degrees: width }
                }
                Some(_) => return Err(self.wrong(inside, "only a ball joint, or the root, turns freely")),
                None => {
                    root()?;
                    Draw::Rotation { at: 3, degrees: width }
                }
            },
            "coordinates" => {
                let b = bodies.unwrap_or(all);
                let which: Vec<_> = joints.simple().filter(|i| b.contains(i)).map(|i| joints.q[i]).collect();
                if which.is_empty() {
                    return Err(self.wrong(item, "none of these joints is a hinge or a slide\n  name a body on one"));
                }
                Draw::Coordinates { which, width }
            }
            "velocities" => {
                let b = bodies.unwrap_or(all);
                self.moving(item, &b, joints)?;
                Draw::Velocities { which: (joints.qd[b.start]..joints.qd[b.end]).collect(), width }
            }
            _ => return Err(self.unknown(item, "noise", name, &DRAWS)),
        };
        if let Some(f) = fields {
            f.finish()?;
        }
        Ok(draw)
    }
}
