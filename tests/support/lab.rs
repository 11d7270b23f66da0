//! Programs on golden numbers: variables filled before a run, values read after it, whole tables of arrays compared.

use crate::support::golden::{Array, Golden};
use crate::support::ops::Dot;
use pwm::algo::pwm::PwmNets;
use pwm::algo::pwm::rollout::EnvStepVals;
use pwm::config::{Bootstrap, Config, Decode, Dynamics, FlowHead, Integrator, RewNorm, RewardHead};
use pwm::device::cpu::team::Team;
use pwm::model::ParamGroup;
use pwm::ops::control::copy;
use pwm::tape::{DType, Machine, Program, Region, TapeReal, Val, VarId, Vars, grad};
use std::collections::HashMap;
use std::sync::Arc;

/// One program in the making.
pub struct Lab {
    pub vars: Vars,
    pub p: Program,
    fills: Vec<(VarId, Vec<f64>)>,
    kept: HashMap<String, VarId>,
}

impl Lab {
    pub fn new() -> Self {
        Self { vars: Vars::default(), p: Program::new("golden"), fills: vec![], kept: HashMap::new() }
    }

    /// Lets an existing variable start with these numbers.
    pub fn fill(&mut self, var: VarId, values: Vec<f64>) {
        self.fills.push((var, values));
    }

    /// An input of the program.
    pub fn input(&mut self, name: &str, shape: &[usize], values: Vec<f64>) -> Val {
        let var = self.vars.add(Region::RolloutBuffers, format!("in.{name}"), DType::Real, shape);
        self.fill(var, values);
        self.p.var(&self.vars, var)
    }

    /// A golden array as an input.
    pub fn array(&mut self, a: &Array) -> Val {
        self.input(&a.name, &a.shape, a.values.clone())
    }

    fn slot(&mut self, name: &str, shape: &[usize]) -> Val {
        let var = self.vars.add(Region::RolloutBuffers, format!("out.{name}"), DType::Real, shape);
        self.kept.insert(name.into(), var);
        self.p.var(&self.vars, var)
    }

    /// Keeps a value for after the run.
    pub fn keep(&mut self, name: &str, v: Val) {
        let shape = self.p.shape(v).to_vec();
        let to = self.slot(name, &shape);
        copy(&mut self.p, v, to);
    }

    /// The scalar `sum(v * weights)`.
    pub fn weighed(&mut self, weights: &Array, v: Val) -> Val {
        let w = self.array(weights);
        let root = self.p.real(&[1]);
        self.p.push(Dot, &[w, v], &[root]);
        root
    }

    /// Keeps the gradient of `root` with respect to each value, under the given name.
    pub fn gradients(&mut self, root: Val, of: &[(String, Val)]) {
        let wrt: Vec<_> = of.iter().map(|(name, v)| (*v, self.slot_like(name, *v))).collect();
        grad(&mut self.p, &[(root, 1.0)], &wrt);
    }

    fn slot_like(&mut self, name: &str, v: Val) -> Val {
        let shape = self.p.shape(v).to_vec();
        self.slot(name, &shape)
    }

    /// Runs the program once.
    pub fn run<F: TapeReal>(self) -> Run<F> {
        let mut m = Machine::<F>::new(self.vars, vec![self.p], team()).expect("memory");
        for (var, values) in &self.fills {
            put(&mut m, *var, values);
        }
        m.poison();
        m.run(m.program(0)).expect("run");
        Run { machine: m, kept: self.kept }
    }
}

/// A program that has run.
pub struct Run<F: TapeReal> {
    pub machine: Machine<F>,
    kept: HashMap<String, VarId>,
}

impl<F: TapeReal> Run<F> {
    /// What was kept under this name.
    pub fn get(&self, name: &str) -> Vec<f64> {
        let var = self.kept.get(name).unwrap_or_else(|| panic!("nothing was kept as {name}"));
        numbers(&self.machine, *var)
    }

    pub fn var(&self, var: VarId) -> Vec<f64> {
        numbers(&self.machine, var)
    }
}

pub fn team() -> Arc<Team> {
    Arc::new(Team::new(2).expect("threads"))
}

pub fn put<F: TapeReal>(m: &mut Machine<F>, var: VarId, values: &[f64]) {
    if m.vars().info(var).dtype == DType::Index {
        let whole: Vec<u32> = values.iter().map(|x| *x as u32).collect();
        m.index_mut(var).copy_from_slice(&whole);
        return;
    }
    let to = m.real_mut(var);
    assert_eq!(to.len(), values.len(), "as many numbers as the variable holds");
    for (to, &x) in to.iter_mut().zip(values) {
        *to = F::of(x);
    }
}

pub fn numbers<F: TapeReal>(m: &Machine<F>, var: VarId) -> Vec<f64> {
    m.real(var).iter().map(|x| x.value()).collect()
}

/// Compares arrays of a golden file by name, with the tolerance of the machine that made them: 1e-7 of the largest
/// element in `f64`; in `f32` 2e-5, or four times the distance of the reference's own `f32` result.
pub struct Score<'a> {
    golden: &'a Golden,
    single: bool,
    count: usize,
    /// Worst distance in units of its tolerance, the distance, and where.
    worst: (f64, f64, String),
    failed: Vec<String>,
}

impl<'a> Score<'a> {
    pub fn new<F: TapeReal>(golden: &'a Golden) -> Self {
        let single = size_of::<F>() == size_of::<f32>();
        Self { golden, single, count: 0, worst: (0.0, 0.0, String::new()), failed: vec![] }
    }

    /// Compares with array `name`.
    pub fn check(&mut self, name: &str, got: &[f64]) {
        let want = self.golden.want(name);
        let mut tolerance = 1e-7;
        if self.single {
            let own = if self.golden.has(name) { distance(&self.golden.get(name), &want.values) } else { 0.0 };
            tolerance = f64::max(2e-5, 4.0 * own);
        }
        self.compare(name, got, &want.values, tolerance);
    }

    /// Compares with the elements of array `name` from `at` on.
    pub fn check_part(&mut self, name: &str, at: usize, got: &[f64]) {
        let want = self.golden.want(name);
        let mut all = want.values.clone();
        all[at..at + got.len()].copy_from_slice(got);
        self.check(name, &all);
    }

    /// Compares with numbers that are not an array of the file.
    pub fn compare(&mut self, name: &str, got: &[f64], want: &[f64], tolerance: f64) {
        let error = distance(got, want);
        self.count += 1;
        if error / tolerance >= self.worst.0 {
            self.worst = (error / tolerance, error, name.into());
        }
        // Also for NaN.
        if !matches!(error.partial_cmp(&tolerance), Some(o) if o.is_le()) {
            self.failed.push(format!("{name}: {error:.2e}, allowed {tolerance:.1e}"));
        }
    }

    /// Compares every parameter of a group, or its gradient, with the arrays `prefix` + name.
    pub fn check_group(&mut self, prefix: &str, group: &ParamGroup, name: Naming, got: &[f64]) {
        for e in &group.entries {
            self.check(&format!("{prefix}{}", name(&e.name)), &got[e.offset..e.offset + e.len()]);
        }
    }

    /// Fails if any comparison did.
    pub fn finish(self, what: &str) {
        let (_, error, name) = &self.worst;
        println!("{what}, {}: {} arrays, worst {error:.1e} at {name}", self.label(), self.count);
        assert!(self.count > 0, "{what}: nothing was compared");
        assert!(self.failed.is_empty(), "{what}, {}:\n{}", self.label(), self.failed.join("\n"));
    }

    fn label(&self) -> &'static str {
        if self.single { "f32" } else { "f64" }
    }
}

/// Largest difference in units of the largest element of `want`.
fn distance(got: &[f64], want: &[f64]) -> f64 {
    if got.len() != want.len() || got.iter().chain(want).any(|x| !x.is_finite()) {
        return f64::INFINITY;
    }
    let scale = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let far = got.iter().zip(want).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
    if far == 0.0 { 0.0 } else { far / scale.max(f64::MIN_POSITIVE) }
}

/// The reference's name of a parameter.
pub type Naming = fn(&str) -> String;

/// `encoder.0.weight` is `_encoder.0.weight`.
pub fn world_name(name: &str) -> String {
    format!("_{name}")
}

/// `mean.1.ln.bias` is `mu_net.5.bias`: the reference counts Linear, Mish and LayerNorm as a layer each.
pub fn actor_name(name: &str) -> String {
    if name == "logstd" { name.into() } else { sequential("mu_net", name) }
}

/// As the actor's, of one critic alone.
pub fn critic_name(name: &str) -> String {
    sequential("critic", name)
}

/// `net`, layer and parameter of a name such as `mean.1.ln.bias`.
fn layer(name: &str) -> (usize, &str) {
    let mut parts = name.splitn(3, '.').skip(1);
    let number = parts.next().and_then(|n| n.parse().ok()).expect("a layer's number");
    (number, parts.next().expect("a parameter of a layer"))
}

fn sequential(net: &str, name: &str) -> String {
    match layer(name) {
        (i, "ln.weight") => format!("{net}.{}.weight", 3 * i + 2),
        (i, "ln.bias") => format!("{net}.{}.bias", 3 * i + 2),
        (i, what) => format!("{net}.{}.{what}", 3 * i),
    }
}

/// `value.1.ln.bias` is `7`: stacked critics are numbered weight, bias, gain, shift of each layer.
pub fn critics_name(name: &str) -> String {
    let (i, what) = layer(name);
    let at = ["weight", "bias", "ln.weight", "ln.bias"].iter().position(|&w| w == what).expect("a known parameter");
    format!("{}", 4 * i + at)
}

/// Parameters of a group from the arrays `prefix` + name, in the group's layout.
pub fn pack(g: &Golden, prefix: &str, group: &ParamGroup, name: Naming) -> Vec<f64> {
    let mut all = vec![];
    for e in &group.entries {
        let a = g.array(&format!("{prefix}{}", name(&e.name)));
        assert_eq!((a.values.len(), all.len()), (e.len(), e.offset), "{}", a.name);
        all.extend(a.values);
    }
    all
}

/// Lets the networks start with the parameters under `prefix`, those that the file has.
pub fn fill_nets(lab: &mut Lab, g: &Golden, nets: &PwmNets, world: &str, actor: &str, critics: &str) {
    let groups: [(&str, &ParamGroup, Naming); 3] = [
        (world, &nets.world.group, world_name),
        (actor, &nets.actor.group, actor_name),
        (critics, &nets.critics.group, critics_name),
    ];
    for (prefix, group, name) in groups {
        if g.names().iter().any(|n| n.starts_with(prefix)) {
            lab.fill(group.params, pack(g, prefix, group, name));
        }
    }
}

/// The reference's settings, with sizes read from the parameters under the three prefixes.
pub fn config(g: &Golden, world: &str, actor: &str, critics: &str) -> Config {
    let shape = |name: String| g.has(&name).then(|| g.array(&name).shape);
    // Widths of a stack's layers, split into hidden ones and the last.
    let stack = |bias: &dyn Fn(usize) -> String| {
        let mut widths: Vec<usize> = (0..).map_while(|i| shape(bias(i))).map(|s| s[s.len() - 1]).collect();
        let last = widths.pop();
        (widths, last)
    };
    let (encoder_units, latent) = stack(&|i| format!("{world}_encoder.{i}.bias"));
    let (units, outputs) = stack(&|i| format!("{world}_reward.{i}.bias"));
    let (actor_units, _) = stack(&|i| format!("{actor}mu_net.{}.bias", 3 * i));
    let (critic_units, _) = stack(&|i| format!("{critics}{}", 4 * i + 1));
    let mut c = Config {
        latent_dim: latent.expect("an encoder"),
        encoder_units,
        units,
        actor_units,
        critic_units,
        num_critics: shape(format!("{critics}0")).map_or(1, |s| s[0]),
        bootstrap: Bootstrap::Reference,
        rew_norm: RewNorm::CenterScale,
        ..Config::default()
    };
    if shape(format!("{world}_velocity.0.bias")).is_some() {
        // The published dynamics and how its golden runs integrate them.
        (c.dynamics, c.flow_head) = (Dynamics::Flow, FlowHead::Simnorm);
        (c.flow_integrator, c.flow_substeps) = (Integrator::Heun, 2);
        // The published loss.
        c.flow_consistency = 0.0;
    }
    let outputs = outputs.expect("a reward head");
    if outputs > 1 {
        // The reference's rollout reads the head in symlog space.
        (c.reward_head, c.num_bins, c.decode) = (RewardHead::TwoHot, outputs, Decode::Symlog);
        c.rew_norm = RewNorm::None;
    }
    c
}

/// A scripted environment: flags and observations after resets, `[T, N]` and `[T, N, O]`.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    pub done: Val,
    pub terminated: Val,
    pub obs: Val,
}

impl Script {
    /// Step `i`: what a rollout's `Stepper` does.
    pub fn step(&self, p: &mut Program, i: usize, (done, terminated): (Val, Val)) -> EnvStepVals {
        for (from, to) in [(self.done, done), (self.terminated, terminated)] {
            let from = p.at(from, i);
            copy(p, from, to);
        }
        EnvStepVals { done, next_obs: Some(p.at(self.obs, i)) }
    }
}
