//! Flow dynamics: adjoints against dual numbers, observed orders, what tangent velocities keep, what is held in memory.

use crate::support::gradcheck::{Input, Traced, check, check_traced, fixed, input, leaf, parameters};
use crate::support::ops::Pass;
use pwm::algo::pwm::PwmNets;
use pwm::algo::pwm::world::{Batch, world_loss};
use pwm::config::{Bytes, Config, Dynamics, FlowHead, FlowProjection, Integrator, Latent, load};
use pwm::device::cpu::team::Team;
use pwm::device::philox::{Philox, Stream};
use pwm::mem::Budget;
use pwm::ops::control::copy;
use pwm::ops::flow::matching::{interpolate, velocity_error};
use pwm::ops::flow::simplex::{project, tangent};
use pwm::ops::flow::{InputPart, Steps, VelocityField, integrate};
use pwm::ops::linear::{Epilogue, LayerVals, transpose};
use pwm::run::plan::{ArenaPlace, Limits, Plan};
use pwm::tape::{DType, Layout, Machine, Program, Region, TapeReal, Val, Vars, grad};
use std::sync::Arc;

const TOLERANCE: f64 = 1e-12;
const METHODS: [(Integrator, f64); 3] = [(Integrator::Euler, 1.0), (Integrator::Heun, 2.0), (Integrator::Rk4, 4.0)];
const PARTS: [InputPart; 3] = [InputPart::State, InputPart::Fixed(0), InputPart::Time];

/// Width of the state and of the fixed input, hidden layers, how the last one ends.
#[derive(Clone)]
struct Net {
    d: usize,
    a: usize,
    hidden: Vec<usize>,
    hidden_epilogue: Epilogue,
    last: Epilogue,
    tangent: Option<usize>,
    parts: Vec<InputPart>,
}

fn net(head: FlowHead) -> Net {
    let group = 4;
    Net {
        d: 8,
        a: 3,
        hidden: vec![9, 11],
        hidden_epilogue: Epilogue::NormMish,
        last: if head == FlowHead::Simnorm { Epilogue::NormSimplex { group } } else { Epilogue::Bias },
        tangent: (head == FlowHead::Tangent).then_some(group),
        parts: PARTS.to_vec(),
    }
}

impl Net {
    fn layers(&self) -> Vec<(usize, usize, Epilogue)> {
        let mut k = self.d + self.a + 1;
        let all = self.hidden.iter().map(|&n| (n, self.hidden_epilogue)).chain([(self.d, self.last)]);
        all.map(|(n, e)| (n, std::mem::replace(&mut k, n), e)).collect()
    }

    /// The parameters as inputs of a check: weight, bias, gain, shift of each layer.
    fn inputs(&self) -> Vec<Input> {
        let mut all = vec![];
        for (n, k, epilogue) in self.layers() {
            all.push(Input { spread: 1.0 / (k as f64).sqrt(), ..input(&[n, k]) });
            all.push(Input { spread: 0.3, ..input(&[n]) });
            if epilogue.has_norm() {
                all.push(Input { centre: 1.0, spread: 0.2, ..input(&[n]) });
                all.push(Input { spread: 0.2, ..input(&[n]) });
            }
        }
        all
    }

    fn bind(&self, p: &mut Program, mut v: &[Val]) -> Vec<(LayerVals, Epilogue)> {
        let mut layers = vec![];
        for (_, _, epilogue) in self.layers() {
            let transposed = transpose(p, v[0]);
            let norm = epilogue.has_norm().then(|| (v[2], v[3]));
            layers.push((LayerVals { weight: v[0], transposed, bias: v[1], norm }, epilogue));
            v = &v[if norm.is_some() { 4 } else { 2 }..];
        }
        layers
    }

    /// The end point from state `v[0]` and fixed input `v[1]`, with parameters `v[2..]`.
    fn end(&self, p: &mut Program, v: &[Val], steps: Steps, keep: bool) -> Val {
        let layers = self.bind(p, &v[2..]);
        let field = VelocityField { layers: &layers, parts: &self.parts, tangent: self.tangent };
        integrate(p, &field, steps, v[0], &[v[1]], keep, None)
    }
}

#[test]
fn adjoints_of_the_integration() {
    for head in [FlowHead::Tangent, FlowHead::Linear, FlowHead::Simnorm] {
        for (integrator, _) in METHODS {
            for (substeps, keep, rows) in [(1, true, 5), (2, false, 33), (4, true, 3)] {
                let net = net(head);
                let mut inputs = vec![input(&[rows, net.d]), input(&[rows, net.a])];
                inputs.extend(net.inputs());
                let steps = Steps { integrator, substeps };
                check(&format!("{head} {integrator} {substeps} {rows}"), &inputs, TOLERANCE, |p, _, v| {
                    vec![net.end(p, v, steps, keep)]
                });
            }
        }
    }
}

/// As a policy uses it: the state is a small part of the input, and layers are those of an actor.
#[test]
fn adjoints_of_other_fields() {
    let parts = vec![InputPart::Fixed(0), InputPart::State, InputPart::Time];
    let actor = Net { hidden_epilogue: Epilogue::MishNorm, parts, ..net(FlowHead::Linear) };
    let single = Net { hidden: vec![], ..net(FlowHead::Tangent) };
    for (name, net) in [("actor", actor), ("one layer", single)] {
        for wanted in [true, false] {
            let mut inputs = vec![input(&[40, net.d]), input(&[40, net.a])];
            inputs.extend(net.inputs().into_iter().map(|i| Input { wanted, ..i }));
            let steps = Steps { integrator: Integrator::Heun, substeps: 3 };
            check(&format!("{name} {wanted}"), &inputs, TOLERANCE, |p, _, v| vec![net.end(p, v, steps, true)]);
        }
    }
}

/// The same start, action and weights in two integrations, one behind the other.
#[test]
fn adjoints_add_up() {
    let net = net(FlowHead::Tangent);
    let mut inputs = vec![input(&[6, net.d]), input(&[6, net.a])];
    inputs.extend(net.inputs());
    let steps = Steps { integrator: Integrator::Rk4, substeps: 2 };
    check("chain", &inputs, TOLERANCE, |p, _, v| {
        let first = net.end(p, v, steps, true);
        let mut again = v.to_vec();
        again[0] = first;
        let second = net.end(p, &again, steps, false);
        vec![second, net.end(p, v, Steps { substeps: 1, ..steps }, true)]
    });
}

#[test]
fn adjoints_of_projections_and_matching() {
    for group in [2, 8] {
        check("tangent", &[input(&[7, 16])], TOLERANCE, |p, _, v| vec![tangent(p, v[0], group)]);
        // Values of many sizes: all, some or one of a group stay positive.
        let x = Input { centre: 0.3, spread: 0.4, ..input(&[600, 16]) };
        check("simplex", &[x], TOLERANCE, |p, _, v| vec![project(p, v[0], group, None)]);
    }
    let tau = (0..70).map(|i| f64::from(i) / 70.0).collect();
    let target = Input { wanted: false, ..input(&[70, 8]) };
    check("matching", &[input(&[70, 8]), input(&[70, 8]), target, fixed(&[70, 1], tau)], TOLERANCE, |p, _, v| {
        let between = interpolate(p, v[0], v[2], v[3]);
        vec![between, velocity_error(p, v[1], v[0], v[2], vec![0.7, 0.2])]
    });
}

fn tiny(head: FlowHead, projection: FlowProjection) -> Config {
    Config {
        dynamics: Dynamics::Flow,
        flow_head: head,
        flow_projection: projection,
        flow_substeps: 2,
        flow_consistency: 0.7,
        horizon: 3,
        wm_batch_size: 5,
        latent_dim: 8,
        simnorm_dim: 4,
        units: vec![9],
        encoder_units: vec![7],
        ..Config::default()
    }
}

/// The loss on windows with respect to velocity, reward head, actions and first observation. Dual numbers see the
/// targets move with the encoder, the reverse pass by design does not: so the encoder's parameters are constants.
#[test]
fn adjoint_of_the_world_model_loss() {
    let observed = Config { latent: Latent::Observed, ..tiny(FlowHead::Linear, FlowProjection::None) };
    for (name, c) in [
        ("tangent", tiny(FlowHead::Tangent, FlowProjection::None)),
        ("linear, simplex", tiny(FlowHead::Linear, FlowProjection::Simplex)),
        ("simnorm", tiny(FlowHead::Simnorm, FlowProjection::None)),
        ("observed", observed),
    ] {
        let (h, b, o, a) = (c.horizon, c.wm_batch_size, 6, 3);
        check_traced(name, TOLERANCE, |p, vars| {
            let nets = PwmNets::new(vars, &c, o, a);
            let mut leaves = parameters(p, vars, &nets.world.group, |name| !name.starts_with("encoder"));
            let constant = |shape: &[usize]| Input { wanted: false, ..input(shape) };
            let first = leaf(p, vars, "first", Input { wanted: c.latent == Latent::Encoded, ..input(&[b, o]) });
            let later = leaf(p, vars, "later", constant(&[h, b, o]));
            let act = leaf(p, vars, "act", input(&[h, b, a]));
            let rew = leaf(p, vars, "rew", constant(&[h, b]));
            let times = (0..h * b).map(|i| (i as f64 * 0.618).fract()).collect();
            let tau = leaf(p, vars, "tau", fixed(&[h, b, 1], times));
            let obs = p.real(&[h + 1, b, o]);
            let (row, rest) = (p.at(obs, 0), p.rows(obs, 1, h + 1));
            p.push(Pass { accumulate: false }, &[first.val()], &[row]);
            copy(p, later.val(), rest);
            let actions = p.real(&[h, b, a]);
            p.push(Pass { accumulate: false }, &[act.val()], &[actions]);
            let batch = Batch { obs, act: actions, rew: rew.val(), tasks: None, tau: Some(tau.val()) };
            let loss = world_loss(p, vars, &c, &nets, batch);
            let outputs = loss.roots().iter().map(|r| r.0).collect();
            leaves.extend([first, later, act, rew, tau]);
            Traced { outputs, leaves }
        });
    }
}

/// End points and gradients of a smooth field, for any number type.
fn run<F: TapeReal>(net: &Net, steps: Steps, keep: bool, rows: usize) -> Vec<Vec<f64>> {
    let (mut vars, mut p) = (Vars::default(), Program::new("flow"));
    let mut inputs = vec![input(&[rows, net.d]), input(&[rows, net.a])];
    inputs.extend(net.inputs());
    let ids: Vec<_> = (inputs.iter().enumerate())
        .map(|(i, x)| vars.add(Region::Parameters, format!("x{i}"), DType::Real, &x.shape))
        .collect();
    let grads: Vec<_> = (inputs.iter().enumerate())
        .map(|(i, x)| vars.add(Region::Gradients, format!("g{i}"), DType::Real, &x.shape))
        .collect();
    let out = vars.add(Region::RolloutBuffers, "out", DType::Real, &[rows, net.d]);
    let v: Vec<Val> = ids.iter().map(|&i| p.var(&vars, i)).collect();
    let end = net.end(&mut p, &v, steps, keep);
    let to = p.var(&vars, out);
    copy(&mut p, end, to);
    let root = velocity_error(&mut p, end, v[0], v[0], vec![1.0]);
    let wrt: Vec<_> = v.iter().zip(&grads).map(|(&v, &g)| (v, p.var(&vars, g))).collect();
    grad(&mut p, &[(root, 1.0)], &wrt);
    let mut m = Machine::<F>::new(vars, vec![p], Arc::new(Team::new(2).unwrap())).unwrap();
    let rng = Philox::new(5, Stream::Test);
    for (i, (&id, x)) in ids.iter().zip(&inputs).enumerate() {
        for (j, to) in m.real_mut(id).iter_mut().enumerate() {
            *to = F::of(x.centre + x.spread * rng.normal(i as u64, j as u32));
        }
    }
    m.poison();
    m.run(m.program(0)).unwrap();
    let read = |id| m.real(id).iter().map(|x| x.value()).collect();
    std::iter::once(out).chain(grads.iter().copied()).map(read).collect()
}

#[test]
fn observed_orders_are_those_of_the_methods() {
    let net = net(FlowHead::Tangent);
    let ends = |integrator, substeps| run::<f64>(&net, Steps { integrator, substeps }, false, 20).swap_remove(0);
    let exact = ends(Integrator::Rk4, 512);
    for (integrator, order) in METHODS {
        let error = |k: usize| {
            let end = ends(integrator, k);
            end.iter().zip(&exact).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
        };
        let observed = (error(32) / error(64)).log2();
        println!("{integrator}: {observed:.3}");
        assert!((observed - order).abs() < 0.1, "{integrator} has order {observed}");
    }
}

#[test]
fn what_is_kept_changes_no_bit() {
    let steps = Steps { integrator: Integrator::Heun, substeps: 4 };
    let (kept, again) =
        (run::<f32>(&net(FlowHead::Tangent), steps, true, 70), run::<f32>(&net(FlowHead::Tangent), steps, false, 70));
    assert_eq!(kept, again);
}

#[test]
fn tangent_velocities_keep_group_sums() {
    let net = net(FlowHead::Tangent);
    // As `run` draws it.
    let rng = Philox::new(5, Stream::Test);
    let start: Vec<f64> = (0..9 * net.d).map(|j| rng.normal(0, j as u32)).collect();
    for (integrator, _) in METHODS {
        let end = run::<f64>(&net, Steps { integrator, substeps: 7 }, true, 9).swap_remove(0);
        for (a, b) in start.chunks(4).zip(end.chunks(4)) {
            let moved: f64 = a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum();
            let sum: f64 = a.iter().zip(b).map(|(a, b)| a - b).sum();
            assert!(moved > 1e-2 && sum.abs() < 1e-13, "{integrator}: {sum} of {moved}");
        }
    }
}

/// Against the definition: sort, find the last that stays positive (Duchi et al., figure 1).
#[test]
fn projection_is_the_nearest_point() {
    let (mut vars, mut p) = (Vars::default(), Program::new("project"));
    let n = 4000;
    let [x, y] = ["x", "y"].map(|name| vars.add(Region::RolloutBuffers, name, DType::Real, &[n, 8]));
    let (from, to) = (p.var(&vars, x), p.var(&vars, y));
    project(&mut p, from, 8, Some(to));
    let mut m = Machine::<f64>::new(vars, vec![p], Arc::new(Team::new(2).unwrap())).unwrap();
    let rng = Philox::new(3, Stream::Test);
    for (i, v) in m.real_mut(x).iter_mut().enumerate() {
        // Groups of very different scales; ties in some.
        let scale = [0.01, 0.3, 1.0, 30.0][i / 8 % 4];
        *v = scale * rng.normal(0, i as u32);
        if i / 8 % 5 == 0 {
            *v = v.signum();
        }
    }
    m.run(m.program(0)).unwrap();
    for (x, y) in m.real(x).chunks(8).zip(m.real(y).chunks(8)) {
        let mut sorted = x.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let mut theta = f64::NAN;
        let mut sum = 0.0;
        for (j, u) in sorted.iter().enumerate() {
            sum += u;
            let t = (sum - 1.0) / (j as f64 + 1.0);
            if *u > t {
                theta = t;
            }
        }
        for (x, y) in x.iter().zip(y) {
            assert!((y - (x - theta).max(0.0)).abs() < 1e-12, "{x} {y} {theta}");
        }
    }
}

/// Bytes of a run's plan with this many substeps.
fn planned(substeps: usize, keep: bool) -> f64 {
    let c = load(&[
        "alg=pwm_small".into(),
        "latent=encoded".into(),
        "dynamics=flow".into(),
        "flow_head=tangent".into(),
        format!("flow_substeps={substeps}"),
        format!("flow_keep_substeps={keep}"),
    ])
    .unwrap();
    let (vars, programs) = pwm::algo::build(&c);
    Layout::new(&vars, &programs).activations.bytes(4) as f64
}

/// Within a tenth of the memory of two substeps if the budget asks for it, and within the same to the byte; the replay
/// stays where it is.
#[test]
fn eight_substeps_need_no_more_memory_than_two_if_the_budget_says_so() {
    for alg in ["pwm_5M_flow_v2", "pwm_48M_flow_v2"] {
        let with = |k: usize| {
            let settings = [format!("alg={alg}"), "replay=device".into(), format!("flow_substeps={k}")];
            load(&settings).unwrap()
        };
        let [two, eight] = [2, 8].map(|k| Plan::new(&with(k), ArenaPlace::Host).host());
        for mem in [two + two / 10, two] {
            let limits = Limits { host: Some(Budget::asked("mem", Bytes(mem))), ..Limits::default() };
            let plan = limits.admit(&with(8)).unwrap();
            println!("{alg}: 2 substeps {two} bytes, 8 substeps {eight}, with recompute {}", plan.host());
            assert!(plan.host() <= mem && mem < eight, "{alg}");
        }
    }
}

#[test]
fn memory_does_not_grow_with_substeps_unless_they_are_kept() {
    let [two, eight] = [2, 8].map(|k| planned(k, false));
    println!("not kept: {two} and {eight} bytes; kept: {} and {}", planned(2, true), planned(8, true));
    assert!(eight < 1.1 * two, "{two} bytes with 2 substeps, {eight} with 8");
    assert!(planned(8, true) > 1.1 * eight, "keeping substeps costs memory");
}
