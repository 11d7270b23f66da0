//! The contract of operations: within a phase no task writes what another task reads or writes.
//!
//! Every node of the product's programs is wrapped in an operation that runs each task of a phase alone, from the same
//! memory, and looks at what it changed. Two tasks that changed one number break the contract; so does a task whose
//! result is another one when the tasks before it have run.

use pwm::algo::{Blueprint, EpochKind, Parts, learner};
use pwm::config::{
    ActorKind, Algorithm, Config, Dynamics, FlowProjection, Latent, RewNorm, RewardHead, Rollout, Shipped, ShippedKind,
    load,
};
use pwm::device::cpu::team::Team;
use pwm::device::{Dual, Real};
use pwm::ops::stats::START_COUNT;
use pwm::tape::{DType, Machine, Op, OpArgs, Program, Region, TapeReal, Val, Vars};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// The most tasks that a phase of each operation had.
type Seen = Arc<Mutex<BTreeMap<&'static str, usize>>>;

/// An operation whose tasks are run one by one, in one task a phase.
#[derive(Debug)]
struct Alone {
    inner: Arc<dyn Op>,
    inputs: Vec<Vec<usize>>,
    outputs: Vec<Vec<usize>>,
    /// Whether an output holds indices.
    index: Vec<bool>,
    seen: Seen,
}

/// Everything an operation may write, as bits.
type Snapshot = Vec<Vec<u64>>;

impl Alone {
    fn save(&self, args: &OpArgs<f64>) -> Snapshot {
        let mut all: Snapshot = (self.index.iter().enumerate())
            .map(|(i, &index)| {
                if index {
                    args.out_index(i, 0..args.out_len(i)).iter().map(|&x| u64::from(x)).collect()
                } else {
                    args.out_all(i).iter().map(|x| x.to_bits()).collect()
                }
            })
            .collect();
        let scratch = self.inner.workspace(&self.inputs, &self.outputs);
        if scratch > 0 {
            all.push(args.scratch(0..scratch).iter().map(|x| x.to_bits()).collect());
        }
        all
    }

    fn restore(&self, args: &OpArgs<f64>, memory: &Snapshot) {
        for (i, from) in memory.iter().enumerate() {
            if self.index.get(i) == Some(&true) {
                let to = args.out_index(i, 0..from.len());
                to.iter_mut().zip(from).for_each(|(to, &x)| *to = x as u32);
            } else {
                let to = if i < self.index.len() { args.out_all(i) } else { args.scratch(0..from.len()) };
                to.iter_mut().zip(from).for_each(|(to, &x)| *to = f64::from_bits(x));
            }
        }
    }
}

// SAFETY: a phase has one task, which runs those of the inner operation one after another.
unsafe impl Op for Alone {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn phases(&self, inputs: &[Vec<usize>], outputs: &[Vec<usize>]) -> Vec<usize> {
        self.inner.phases(inputs, outputs).iter().map(|&tasks| tasks.min(1)).collect()
    }

    fn workspace(&self, inputs: &[Vec<usize>], outputs: &[Vec<usize>]) -> usize {
        self.inner.workspace(inputs, outputs)
    }

    fn run_f64(&self, args: &OpArgs<f64>, phase: usize, _: usize) {
        let tasks = self.inner.phases(&self.inputs, &self.outputs)[phase];
        {
            let mut seen = self.seen.lock().expect("no test thread panicked");
            let most = seen.entry(self.name()).or_default();
            *most = tasks.max(*most);
        }
        if tasks == 1 {
            return self.inner.run_f64(args, phase, 0);
        }
        let before = self.save(args);
        let mut joined = before.clone();
        let mut owner: Vec<Vec<Option<usize>>> = before.iter().map(|m| vec![None; m.len()]).collect();
        for task in 0..tasks {
            self.restore(args, &before);
            self.inner.run_f64(args, phase, task);
            let after = self.save(args);
            for (at, ((after, before), owner)) in after.iter().zip(&before).zip(&mut owner).enumerate() {
                for (i, (x, _)) in after.iter().zip(before).enumerate().filter(|(_, (a, b))| a != b) {
                    let first = owner[i].replace(task);
                    assert!(
                        first.is_none(),
                        "{}: phase {phase}: tasks {first:?} and {task} both write element {i} of output {at}",
                        self.name()
                    );
                    joined[at][i] = *x;
                }
            }
        }
        let orders: [Vec<usize>; 2] = [(0..tasks).collect(), (0..tasks).rev().collect()];
        for order in orders {
            self.restore(args, &before);
            for task in order {
                self.inner.run_f64(args, phase, task);
            }
            assert!(self.save(args) == joined, "{}: phase {phase}: a task reads what another one writes", self.name());
        }
    }

    fn run_f32(&self, _: &OpArgs<f32>, _: usize, _: usize) {
        unreachable!("invariant: the machine of this test is f64");
    }
    fn run_dual(&self, _: &OpArgs<Dual>, _: usize, _: usize) {
        unreachable!("invariant: the machine of this test is f64");
    }
}

/// Wraps every node.
fn alone(mut p: Program, seen: &Seen) -> Program {
    let shapes = |p: &Program, vs: &[Val]| vs.iter().map(|&v| p.shape(v).to_vec()).collect::<Vec<_>>();
    for i in 0..p.nodes.len() {
        let (inputs, outputs) = (shapes(&p, &p.nodes[i].inputs), shapes(&p, &p.nodes[i].outputs));
        let index = p.nodes[i].outputs.iter().map(|&v| p.info(v).dtype == DType::Index).collect();
        let node = &mut p.nodes[i];
        let inner = node.op.clone();
        node.op = Arc::new(Alone { inner, inputs, outputs, index, seen: seen.clone() });
    }
    p
}

fn machine(vars: Vars, programs: Vec<Program>, seen: &Seen) -> Machine<f64> {
    let programs = programs.into_iter().map(|p| alone(p, seen)).collect();
    Machine::new(vars, programs, Arc::new(Team::new(1).expect("threads"))).expect("memory")
}

/// The starting values of a run.
fn initialise<F: TapeReal>(m: &mut Machine<F>, parts: &Parts) {
    for group in parts.networks.iter().map(|n| &n.group) {
        group.init(m, 1);
        m.real_mut(group.rate)[0] = F::of(1e-3);
    }
    for &stats in &parts.statistics {
        let start = [0.0, 1.0, START_COUNT].map(F::of);
        m.real_mut(stats).chunks_exact_mut(3).for_each(|s| s.copy_from_slice(&start));
    }
}

/// All programs of a run once, at sizes that give most operations several tasks.
fn run_alone(c: &Config, seen: &Seen) {
    let Blueprint { vars, programs, parts } = learner(c.algorithm).build(c);
    let programs = programs.into_vec();
    let names: Vec<&str> = programs.iter().map(|p| p.name).collect();
    let mut m = machine(vars, programs, seen);
    initialise(&mut m, &parts);
    let go = |m: &mut Machine<f64>, program| {
        // What an earlier program left must not hide a read before a write, nor a write of the same number.
        m.poison();
        let name = names.iter().enumerate().find(|(i, _)| m.program(*i) == program).expect("one of them").1;
        m.run(program).unwrap_or_else(|_| panic!("{name} breaks the contract"));
    };
    let begin = parts.begin.expect("environments").on(&m);
    go(&mut m, begin);
    if let Some(replay) = &parts.replay {
        let collect = parts.epochs.of(EpochKind::Collect).on(&m)[0].0;
        let ready = (0..10).any(|_| {
            go(&mut m, collect);
            m.index(replay.ready)[0] > 0
        });
        assert!(ready, "an episode has ended");
    }
    for program in (0..names.len()).map(|i| m.program(i)).filter(|p| *p != begin).collect::<Vec<_>>() {
        go(&mut m, program);
    }
}

fn small() -> Config {
    Config {
        num_envs: 130,
        eval_episodes: 70,
        episode_length: 6,
        horizon: 4,
        critic_batches: 2,
        latent_dim: 40,
        units: vec![96],
        encoder_units: vec![40],
        actor_units: vec![128, 96],
        critic_units: vec![80, 40],
        wm_batch_size: 110,
        wm_buffer_size: 2000,
        ..Config::default()
    }
}

/// Sizes that give what several threads read at the same time to several tasks, and a robot of two bodies: Miri takes
/// minutes for what a step of a larger one computes.
fn shared() -> Config {
    Config {
        env: "cartpole".into(),
        num_envs: 9,
        eval_episodes: 9,
        episode_length: 3,
        horizon: 2,
        critic_batches: 1,
        latent_dim: 16,
        units: vec![40],
        encoder_units: vec![16],
        actor_units: vec![16],
        critic_units: vec![16],
        wm_batch_size: 18,
        wm_buffer_size: 60,
        obs_norm: true,
        mm_caching_frequency: 4,
        ..Config::default()
    }
}

/// Runs all programs of a configuration on two threads, and gives the operations that ran.
fn on_two_threads(c: &Config) -> BTreeSet<&'static str> {
    let Blueprint { vars, programs, parts } = learner(c.algorithm).build(c);
    let (programs, team) = (programs.into_vec(), Arc::new(Team::new(2).expect("threads")));
    let (count, ran) = (programs.len(), operations(&programs));
    let mut m = Machine::<f32>::new(vars, programs, team).expect("memory");
    initialise(&mut m, &parts);
    // Each once, and what collects until an episode has ended.
    let begin = parts.begin.expect("environments").on(&m);
    let collect = parts.epochs.of(EpochKind::Collect).on(&m)[0].0;
    let others: Vec<_> = (0..count).map(|i| m.program(i)).filter(|p| *p != begin).collect();
    for program in [begin, collect, collect, collect].into_iter().chain(others) {
        m.run(program).expect("no kernel panics");
    }
    if let Some(replay) = &parts.replay {
        assert!(m.index(replay.ready)[0] > 0, "an episode has ended");
    }
    ran
}

fn operations(programs: &[Program]) -> BTreeSet<&'static str> {
    programs.iter().flat_map(|p| &p.nodes).map(|n| n.op.name()).collect()
}

/// For Miri, which sees who borrows what, and when: minutes of it.
#[test]
fn one_run_on_two_threads() {
    on_two_threads(&shared());
}

/// The same in runs that between them have every operation of every shipped configuration.
#[test]
fn every_operation_on_two_threads() {
    let flow =
        Config { dynamics: Dynamics::Flow, flow_projection: FlowProjection::Simplex, wm_batch_size: 9, ..shared() };
    let anchored = Config { latent: Latent::Observed, rollout: Rollout::Anchored, ..shared() };
    let two_hot = Config {
        reward_head: RewardHead::TwoHot,
        rew_norm: RewNorm::None,
        critic_shuffle: true,
        detach: false,
        ..shared()
    };
    let policy = Config { actor: ActorKind::Flow, ..shared() };
    let shac = Config { algorithm: Algorithm::Shac, ..shared() };
    let ran: BTreeSet<_> = [shared(), flow, anchored, two_hot, policy, shac].iter().flat_map(on_two_threads).collect();
    // Programs of the large ones take Miri an hour to write.
    if cfg!(not(miri)) {
        for alg in Shipped::names(ShippedKind::Alg) {
            let c = load(&[format!("alg={alg}")]).expect("shipped configurations are valid");
            let missed: Vec<_> =
                operations(&learner(c.algorithm).build(&c).programs.into_vec()).difference(&ran).copied().collect();
            assert!(missed.is_empty(), "{alg} has operations that were not run: {missed:?}");
        }
    }
}

/// Every operation of every shipped configuration, in runs that between them make all choices.
#[test]
#[cfg_attr(miri, ignore = "too large")]
fn tasks_of_every_operation_are_independent() {
    let anchored = Config { latent: Latent::Observed, rollout: Rollout::Anchored, obs_norm: true, ..small() };
    let others = Config {
        reward_head: RewardHead::TwoHot,
        rew_norm: RewNorm::None,
        obs_norm: true,
        critic_shuffle: true,
        detach: false,
        ..small()
    };
    let flow = Config { dynamics: Dynamics::Flow, flow_projection: FlowProjection::Simplex, ..small() };
    let policy = Config { actor: ActorKind::Flow, ..small() };
    let shac = Config { algorithm: Algorithm::Shac, obs_norm: true, ..small() };
    let seen = Seen::default();
    for c in [small(), anchored, others, flow, policy, shac] {
        run_alone(&c, &seen);
    }
    let seen = seen.lock().expect("no test thread panicked");
    let (one, several): (Vec<_>, Vec<_>) = seen.iter().partition(|(_, tasks)| **tasks == 1);
    println!("several tasks: {several:?}\none task: {one:?}");
    assert!(several.len() >= 25, "sizes are too small to show anything");
    for alg in Shipped::names(ShippedKind::Alg) {
        let c = load(&[format!("alg={alg}")]).expect("shipped configurations are valid");
        let programs = learner(c.algorithm).build(&c).programs.into_vec();
        let missed: Vec<_> =
            programs.iter().flat_map(|p| &p.nodes).map(|n| n.op.name()).filter(|n| !seen.contains_key(n)).collect();
        assert!(missed.is_empty(), "{alg} has operations that were not run: {missed:?}");
    }
}

/// Two tasks that break the contract.
#[derive(Debug)]
enum Broken {
    /// Each writes its element and the next.
    Overlapping,
    /// Each writes its element, from the first.
    Reading,
}

impl Broken {
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        match self {
            Broken::Overlapping => args.out(0, task..(task + 2).min(2)).fill(F::one()),
            Broken::Reading => args.out(0, task..task + 1)[0] = args.read_output(0, 0..1)[0] + F::one(),
        }
    }
}

// SAFETY: none: the machine of this test runs its tasks one after another, and both take a borrow that ends at once.
unsafe impl Op for Broken {
    fn name(&self) -> &'static str {
        "test_broken"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![2]
    }
    pwm::kernels!();
}

#[test]
#[cfg_attr(miri, ignore = "its tasks do what Miri would stop")]
fn broken_contracts_are_noticed() {
    for op in [Broken::Overlapping, Broken::Reading] {
        let mut vars = Vars::default();
        let out = vars.add(Region::RolloutBuffers, "out", DType::Real, &[2]);
        let mut p = Program::new("broken");
        let to = p.var(&vars, out);
        let name = format!("{op:?}");
        p.push(op, &[], &[to]);
        let mut m = machine(vars, vec![p], &Seen::default());
        assert!(m.run(m.program(0)).is_err(), "{name} went unnoticed");
    }
}
