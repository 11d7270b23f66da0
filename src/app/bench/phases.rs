//! The phases of an epoch as subjects of measurement: the product's own programs on random data.
//!
//! | phase | one repetition |
//! |---|---|
//! | `gemm` | a product, `wm_batch_size * horizon` rows, `units[0]` wide, as an output layer does it (with bias) |
//! | `mlp_block` | Linear, LayerNorm, Mish on as many rows; the reverse pass to input and parameters |
//! | `flow_step` | one step of flow dynamics (of the same widths, if the configuration has others) on `wm_batch_size` rows; the reverse pass to latent, action and parameters |
//! | `velocity` | `horizon` evaluations of its velocity one after another, as a rollout makes them, on as many rows |
//! | `critic_update` | `critic_iterations` passes over the minibatches of a rollout |
//! | `actor_rollout` | a rollout without simulator, the reverse pass, clipping, Adam |
//! | `wm_update` | one update on a fixed batch: encoder, rollout, losses, reverse pass, clipping, Adam |
//!
//! The simulator's place is taken by episodes that never end; what a rollout does about ends (encoding observations,
//! choosing rows) stays in.

use crate::algo::programs::Programs;
use crate::algo::pwm::rollout::{EnvStepVals, rollout};
use crate::algo::pwm::world::Batch;
use crate::algo::pwm::{PwmNets, RolloutBuffers, critic, world};
use crate::algo::{TrainError, target};
use crate::config::{Config, Dynamics, FlowHead, Integrator, Latent};
use crate::device::cpu::team::Team;
use crate::device::cuda::Launch;
use crate::device::philox::{Philox, Stream};
use crate::env::dims;
use crate::model::ParamGroup;
use crate::model::mlp::{Mlp, MlpInit, MlpSpec};
use crate::model::params::{GroupBuilder, Init};
use crate::ops::linear::{Epilogue, LayerVals, linear, transpose_to};
use crate::ops::optim::AdamSpec;
use crate::tape::cuda::Operands;
use crate::tape::fill::Fill;
use crate::tape::profile::Profile;
use crate::tape::{
    Adjoint, DType, Machine, Op, OpArgs, Placement, Program, ProgramId, Region, RunError, VarId, Vars, grad,
};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Phase {
    Gemm,
    MlpBlock,
    Velocity,
    FlowStep,
    CriticUpdate,
    ActorRollout,
    WmUpdate,
}

impl Phase {
    pub const ALL: [Phase; 7] = [
        Phase::Gemm,
        Phase::MlpBlock,
        Phase::Velocity,
        Phase::FlowStep,
        Phase::CriticUpdate,
        Phase::ActorRollout,
        Phase::WmUpdate,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Gemm => "gemm",
            Phase::MlpBlock => "mlp_block",
            Phase::Velocity => "velocity",
            Phase::FlowStep => "flow_step",
            Phase::CriticUpdate => "critic_update",
            Phase::ActorRollout => "actor_rollout",
            Phase::WmUpdate => "wm_update",
        }
    }
}

/// A phase at the shapes of a configuration, ready to be repeated.
pub struct Subject {
    pub phase: Phase,
    machine: Machine<f32>,
    program: ProgramId,
    /// Runs of the program in one repetition.
    runs: usize,
    /// Those that learn, for the check that they do.
    groups: Vec<ParamGroup>,
    /// Floating-point operations of one repetition, where they are the point.
    pub flops: Option<f64>,
}

impl Subject {
    /// Writes and binds the phase on `c.device`, or `c.threads` threads. The same seed gives the same data.
    pub fn new(phase: Phase, c: &Config) -> Result<Self, TrainError> {
        let mut d = Draft::new(phase.name());
        let (rows, width) = (c.wm_batch_size * c.horizon, c.units[0]);
        let (mut runs, mut flops) = (1, None);
        let nets = match phase {
            Phase::Gemm => {
                flops = Some(2.0 * rows as f64 * (width * width) as f64);
                d.gemm(rows, width);
                None
            }
            Phase::MlpBlock => {
                d.mlp_block(rows, width);
                None
            }
            Phase::Velocity => Some(d.velocity(c)),
            Phase::FlowStep => Some(d.flow_step(c)),
            Phase::CriticUpdate => {
                runs = c.critic_iterations;
                Some(d.critic_update(c))
            }
            Phase::ActorRollout => Some(d.actor_rollout(c)),
            Phase::WmUpdate => Some(d.wm_update(c)),
        };
        let (mut machine, program) = d.bind(c)?;
        let groups = nets.map_or(vec![], |nets| start(&nets, &mut machine, c));
        Ok(Self { phase, machine, program, runs, groups, flops })
    }

    /// One repetition, waited for.
    pub fn run(&mut self) -> Result<(), RunError> {
        (0..self.runs).try_for_each(|_| self.machine.run(self.program)).and_then(|()| self.machine.wait())
    }

    /// Time by operation of one run of the program, on one thread. `critic_update` is `critic_iterations` such runs.
    pub fn profile(&mut self, repetitions: usize) -> Profile {
        self.machine.profile(self.program, repetitions)
    }

    /// Whether every update so far was a real one: an update that is skipped costs less.
    pub fn is_sound(&self) -> bool {
        self.groups.iter().all(|g| self.machine.index(g.skipped)[0] == 0)
    }
}

/// Parameters as a run starts with, but no layer at zero, and learning rates. Returns all groups.
fn start(nets: &PwmNets, machine: &mut Machine<f32>, c: &Config) -> Vec<ParamGroup> {
    nets.init(machine, c.seed);
    let random = Philox::new(c.seed, Stream::Test);
    for e in &nets.world.group.entries {
        if e.init == Init::Constant(0.0) && e.name.ends_with("weight") {
            let weights = &mut machine.real_mut(nets.world.group.params)[e.offset..][..e.len()];
            weights.iter_mut().enumerate().for_each(|(i, w)| *w = 0.02 * random.normal(0, i as u32) as f32);
        }
    }
    let groups = [(&nets.world.group, c.model_lr), (&nets.actor.group, c.actor_lr), (&nets.critics.group, c.critic_lr)];
    groups
        .into_iter()
        .map(|(group, rate)| {
            machine.real_mut(group.rate)[0] = rate as f32;
            group.clone()
        })
        .collect()
}

/// The configuration with dynamics that are a flow.
fn flow(c: &Config) -> Config {
    let flow_head = if c.latent == Latent::Observed { FlowHead::Linear } else { c.flow_head };
    Config { dynamics: Dynamics::Flow, flow_head, ..c.clone() }
}

/// What latents are filled with.
fn latents(c: &Config) -> InitialData {
    if c.latent == Latent::Encoded { InitialData::Simplex(c.simnorm_dim) } else { InitialData::Normal }
}

/// What fills a variable before the first repetition.
#[derive(Clone, Copy)]
enum InitialData {
    Normal,
    /// Within plus or minus 1.
    Action,
    /// Each group of so many numbers is positive and sums to 1.
    Simplex(usize),
}

/// A program in the making.
struct Draft {
    vars: Vars,
    /// What is not measured: run once, after the variables are filled.
    before: Program,
    p: Program,
    data: Vec<(VarId, InitialData)>,
}

impl Draft {
    fn new(name: &'static str) -> Self {
        Self { vars: Vars::default(), before: Program::new("before"), p: Program::new(name), data: vec![] }
    }

    /// A variable of random numbers.
    fn random(&mut self, name: &str, shape: &[usize], data: InitialData) -> VarId {
        let var = self.vars.add(Region::RolloutBuffers, name, DType::Real, shape);
        self.data.push((var, data));
        var
    }

    /// A variable of zeros.
    fn zeros(&mut self, name: &str, shape: &[usize]) -> VarId {
        self.vars.add(Region::RolloutBuffers, name, DType::Real, shape)
    }

    fn gemm(&mut self, rows: usize, width: usize) {
        let x = self.random("x", &[rows, width], InitialData::Normal);
        let weight = self.random("weight", &[width, width], InitialData::Normal);
        // An epoch makes this copy once for many products. On a GPU it holds what a unit wants of the weight, so it
        // must be the operation's own work.
        let (transposed, bias) = (self.zeros("transposed", &[width, width]), self.zeros("bias", &[width]));
        let [from, to] = [weight, transposed].map(|v| self.before.var(&self.vars, v));
        transpose_to(&mut self.before, from, to);
        let [x, weight, transposed, bias] = [x, weight, transposed, bias].map(|v| self.p.var(&self.vars, v));
        let layer = LayerVals { weight, transposed, bias, norm: None };
        linear(&mut self.p, &[x], &layer, Epilogue::Bias, false, None);
    }

    fn mlp_block(&mut self, rows: usize, width: usize) {
        let mut parameters = GroupBuilder::default();
        let init = MlpInit { weight: |_, _| Init::Normal(0.02), bias: |_, _| Init::Constant(0.0), gain: 1.0 };
        let spec = MlpSpec {
            name: "block",
            ensemble: 1,
            inputs: width,
            hidden: &[],
            outputs: width,
            hidden_epilogue: Epilogue::NormMish,
            last_epilogue: Epilogue::NormMish,
        };
        let mlp = Mlp::new(&mut parameters, &spec, init);
        let adam = AdamSpec { beta1: 0.9, beta2: 0.999, max_norm: 1.0 };
        let group = parameters.finish(&mut self.vars, "block", adam);
        self.data.push((group.params, InitialData::Normal));
        let x = self.random("x", &[rows, width], InitialData::Normal);
        let dx = self.zeros("dx", &[rows, width]);
        let (p, vars) = (&mut self.p, &self.vars);
        let (x, dx) = (p.var(vars, x), p.var(vars, dx));
        let y = mlp.bind(p, vars, &group).apply(p, &[x], true, None);
        let root = p.real(&[1]);
        p.push(Ones, &[y], &[root]);
        let mut wrt = vec![(x, dx)];
        for e in &group.entries {
            wrt.push((
                p.var_at(vars, group.params, e.offset, &e.shape),
                p.var_at(vars, group.grads, e.offset, &e.shape),
            ));
        }
        grad(p, &[(root, 1.0)], &wrt);
    }

    /// A step of Euler's method is an evaluation and a sum.
    fn velocity(&mut self, c: &Config) -> PwmNets {
        let c = Config { flow_integrator: Integrator::Euler, flow_substeps: 1, ..flow(c) };
        let nets = nets_of(&mut self.vars, &c);
        let [z, a] = self.start(&c, nets.world.width);
        let world = nets.world.bind(&mut self.p, &self.vars);
        let (mut at, a) = (self.p.var(&self.vars, z), self.p.var(&self.vars, a));
        for _ in 0..c.horizon {
            at = world.next(&mut self.p, at, a, None, false, None);
        }
        nets
    }

    /// Latents and actions that a step begins with.
    fn start(&mut self, c: &Config, width: usize) -> [VarId; 2] {
        let (rows, latents) = (c.wm_batch_size, latents(c));
        [self.random("z", &[rows, width], latents), self.random("a", &[rows, dims(c).1], InitialData::Action)]
    }

    fn flow_step(&mut self, c: &Config) -> PwmNets {
        let c = flow(c);
        let nets = nets_of(&mut self.vars, &c);
        let (rows, width) = (c.wm_batch_size, nets.world.width);
        let [z, a] = self.start(&c, width);
        let (dz, da) = (self.zeros("dz", &[rows, width]), self.zeros("da", &[rows, dims(&c).1]));
        let (p, vars, group) = (&mut self.p, &self.vars, &nets.world.group);
        let [z, a, dz, da] = [z, a, dz, da].map(|v| p.var(vars, v));
        let next = nets.world.bind(p, vars).next(p, z, a, None, true, None);
        let root = p.real(&[1]);
        p.push(Ones, &[next], &[root]);
        let mut wrt = vec![(z, dz), (a, da)];
        for e in group.entries.iter().filter(|e| e.name.starts_with("velocity")) {
            wrt.push((
                p.var_at(vars, group.params, e.offset, &e.shape),
                p.var_at(vars, group.grads, e.offset, &e.shape),
            ));
        }
        grad(p, &[(root, 1.0)], &wrt);
        nets
    }

    fn critic_update(&mut self, c: &Config) -> PwmNets {
        let nets = nets_of(&mut self.vars, c);
        let buffers = RolloutBuffers::new(&mut self.vars, c, nets.world.width);
        self.data.push((buffers.latents, latents(c)));
        self.data.push((buffers.targets, InitialData::Normal));
        let passes = self.vars.add(Region::Control, "passes", DType::Index, &[1]);
        let loss = self.zeros("loss", &[1]);
        let (p, vars) = (&mut self.p, &self.vars);
        let (passes, loss) = (p.var(vars, passes), p.var(vars, loss));
        critic::pass(p, vars, c, &nets.critics, &buffers, None, (passes, loss));
        nets
    }

    fn actor_rollout(&mut self, c: &Config) -> PwmNets {
        let nets = nets_of(&mut self.vars, c);
        let buffers = RolloutBuffers::new(&mut self.vars, c, nets.world.width);
        let obs = self.random("obs", &[c.num_envs, dims(c).0], InitialData::Normal);
        let noise = self.random("noise", &[c.horizon, c.num_envs, dims(c).1], InitialData::Normal);
        let (p, vars) = (&mut self.p, &self.vars);
        let (obs, noise) = (p.var(vars, obs), p.var(vars, noise));
        let mut endless = |p: &mut Program, _: usize, _, (done, terminated)| {
            p.push(Fill { value: 0.0 }, &[], &[done]);
            p.push(Fill { value: 0.0 }, &[], &[terminated]);
            EnvStepVals { done, next_obs: Some(obs) }
        };
        let loss = rollout(p, vars, c, &nets, &buffers, obs, noise, true, &mut endless);
        nets.actor.group.update(p, vars, &[(loss, 1.0)]);
        nets
    }

    fn wm_update(&mut self, c: &Config) -> PwmNets {
        let nets = nets_of(&mut self.vars, c);
        let (h, b) = (c.horizon, c.wm_batch_size);
        let obs = self.random("obs", &[h + 1, b, dims(c).0], InitialData::Normal);
        let act = self.random("act", &[h, b, dims(c).1], InitialData::Action);
        let rew = self.random("rew", &[h, b], InitialData::Normal);
        let step = self.vars.add(Region::Control, "step", DType::Index, &[1]);
        let (p, vars) = (&mut self.p, &self.vars);
        let ([obs, act, rew], step) = ([obs, act, rew].map(|v| p.var(vars, v)), p.var(vars, step));
        let tau = world::taus(p, c, step);
        world::update(p, vars, c, &nets, Batch { obs, act, rew, tasks: None, tau });
        nets
    }

    fn bind(self, c: &Config) -> Result<(Machine<f32>, ProgramId), TrainError> {
        let team = Arc::new(Team::new(c.threads)?);
        let mut programs = Programs::default();
        let program = programs.add(self.p);
        let before = (!self.before.nodes.is_empty()).then(|| programs.add(self.before));
        let target = target(crate::env::device(c), c.precision)?;
        let mut machine = Machine::on(&target, self.vars, programs.into_vec(), team, &Placement::Arena)?;
        let random = Philox::new(c.seed, Stream::Test);
        for (step, (var, data)) in self.data.into_iter().enumerate() {
            let x = machine.real_mut(var);
            let draws = |i: usize| random.normal(step as u64 + 1, i as u32) as f32;
            x.iter_mut().enumerate().for_each(|(i, x)| *x = draws(i));
            match data {
                InitialData::Normal => {}
                InitialData::Action => x.iter_mut().for_each(|x| *x = x.tanh()),
                InitialData::Simplex(group) => x.chunks_exact_mut(group).for_each(|g| {
                    g.iter_mut().for_each(|x| *x = x.exp());
                    let sum: f32 = g.iter().sum();
                    g.iter_mut().for_each(|x| *x /= sum);
                }),
            }
        }
        if let Some(before) = before {
            machine.run(before.on(&machine))?;
        }
        let program = program.on(&machine);
        Ok((machine, program))
    }
}

/// A root whose cotangent is 1 at every element of its input, as in `y.backward(ones)`. Its own value is not computed.
#[derive(Debug)]
struct Ones;

impl Ones {
    #[inline(always)]
    fn run<F: crate::device::Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        args.out_all(0)[0] = F::zero();
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for Ones {
    fn name(&self) -> &'static str {
        "ones"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn cuda(&self, _: &Operands) -> Option<Vec<Launch>> {
        Some(vec![])
    }
    fn adjoint(&self, a: &mut Adjoint) {
        if let Some(s) = a.sink(0) {
            a.push(Fill { value: 1.0 }, &[], &[s.val]);
        }
    }
    crate::kernels!();
}

/// The networks of a run.
fn nets_of(vars: &mut Vars, c: &Config) -> PwmNets {
    let (obs_dim, act_dim) = dims(c);
    PwmNets::new(vars, c, obs_dim, act_dim)
}
