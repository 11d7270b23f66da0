//! Flow dynamics: a velocity field `v(z, a, τ)`, and the latent it leads to after one unit of model time.
//!
//! Hidden layers are those of the other dynamics. The velocity's last layer decides where latents can go: one that is
//! linear with group means removed stays in the tangent space of the product of simplices, where all differences of
//! SimNorm latents lie, so the sums of groups are kept by every Runge-Kutta method.

use super::mlp::{BoundMlp, Mlp, MlpInit, MlpSpec};
use super::params::{GroupBuilder, ParamGroup};
use crate::config::{Config, FlowHead, FlowProjection};
use crate::ops::flow::simplex::{project, tangent};
use crate::ops::flow::{InputPart, Steps, VelocityField, integrate};
use crate::ops::linear::Epilogue;
use crate::tape::{Program, Val, Vars};

/// Input columns of the velocity field; the last, a task's embedding, in a model of several tasks alone.
const PARTS: [InputPart; 4] = [InputPart::State, InputPart::Fixed(0), InputPart::Time, InputPart::Fixed(1)];

#[derive(Clone, Debug)]
pub struct Flow {
    velocity: Mlp,
    how: How,
}

/// Everything about flow dynamics that is no parameter.
#[derive(Clone, Copy, Debug)]
struct How {
    steps: Steps,
    /// Group size of the head's and of the result's projection, if there is one.
    tangent: Option<usize>,
    simplex: Option<usize>,
    keep: bool,
}

impl Flow {
    /// `width` is that of a latent, `task_dim` that of a task's embedding, if there is one.
    pub fn new(g: &mut GroupBuilder, c: &Config, [width, act_dim, task_dim]: [usize; 3], init: MlpInit) -> Self {
        let group = c.simnorm_dim;
        let last_epilogue = match c.flow_head {
            FlowHead::Simnorm => Epilogue::NormSimplex { group },
            FlowHead::Tangent | FlowHead::Linear => Epilogue::Bias,
        };
        let spec = MlpSpec {
            name: "velocity",
            ensemble: 1,
            inputs: width + act_dim + 1 + task_dim,
            hidden: &c.units,
            outputs: width,
            hidden_epilogue: Epilogue::NormMish,
            last_epilogue,
        };
        let how = How {
            steps: Steps { integrator: c.flow_integrator, substeps: c.flow_substeps },
            tangent: (c.flow_head == FlowHead::Tangent).then_some(group),
            simplex: (c.flow_projection == FlowProjection::Simplex).then_some(group),
            keep: c.flow_keep_substeps,
        };
        Self { velocity: Mlp::new(g, &spec, init), how }
    }

    /// The network of the velocity.
    pub fn network(&self) -> &Mlp {
        &self.velocity
    }

    pub fn bind(&self, p: &mut Program, vars: &Vars, group: &ParamGroup) -> BoundFlow {
        BoundFlow { velocity: self.velocity.bind(p, vars, group), how: self.how }
    }
}

/// Flow dynamics inside a program.
#[derive(Clone, Debug)]
pub struct BoundFlow {
    velocity: BoundMlp,
    how: How,
}

impl BoundFlow {
    /// Latent `[M, D]` after one step with action `[M, A]` in the tasks of embeddings `[M, E]`, in `out` if given.
    /// `save` may keep what the reverse pass can do without, at the price of more work.
    pub fn next(&self, p: &mut Program, z: Val, a: Val, task: Option<Val>, save: bool, out: Option<Val>) -> Val {
        let fixed: Vec<Val> = [a].into_iter().chain(task).collect();
        let parts = &PARTS[..2 + fixed.len()];
        let field = VelocityField { layers: self.velocity.layers(), parts, tangent: self.how.tangent };
        let keep = save && self.how.keep;
        match self.how.simplex {
            None => integrate(p, &field, self.how.steps, z, &fixed, keep, out),
            Some(group) => {
                let end = integrate(p, &field, self.how.steps, z, &fixed, keep, None);
                project(p, end, group, out)
            }
        }
    }

    /// Velocity `[M, D]` at model times `tau` `[M, 1]`.
    pub fn velocity(&self, p: &mut Program, z: Val, a: Val, tau: Val, task: Option<Val>, save: bool) -> Val {
        let inputs: Vec<Val> = [z, a, tau].into_iter().chain(task).collect();
        let v = self.velocity.apply(p, &inputs, save, None);
        match self.how.tangent {
            None => v,
            Some(group) => tangent(p, v, group),
        }
    }
}
