//! The dynamics of any tree: a robot with every kind of joint, fixed to the world and free.

use crate::support::verdict::{Verdict, distance, quantile, relative_error};
use pwm::app::gradcheck::physics::check_physics;
use pwm::app::selftest::cases;
use pwm::app::selftest::tree::{H, TreeState, model, random_state, tree};
use pwm::backend::Target;
use pwm::device::philox::{Philox, Stream};
use pwm::device::{Dual, Scalar};
use pwm::for_size;
use pwm::sim::adjoint::kept_per_substep;
use pwm::sim::articulation::{Articulation, Joint};
use pwm::sim::kinematics::body_kinematics;
use pwm::sim::mass_matrix::mass_matrix;
use pwm::sim::size::CLASSES;
use pwm::sim::{
    Cotangents, JointKind, Model, Quat, ReferencePoint, RobotError, SimScalar, Size, Timing, Transform, Vec3, Work,
    robots, step, step_adjoint, step_keeping,
};

const SUBSTEPS: usize = 16;
/// Of the class that has room for the test robot.
const BODIES: usize = CLASSES[1].bodies;
const DOFS: usize = CLASSES[1].velocities;

fn timing<S: Scalar>(mass_matrix_every: usize, reference_point: ReferencePoint) -> Timing<S> {
    Timing { h: S::of(H), substeps: SUBSTEPS, mass_matrix_every, reference_point }
}

fn rng() -> Philox {
    Philox::new(3, Stream::Test)
}

fn random(seed: u64, n: usize) -> Vec<f64> {
    let rng = Philox::new(seed, Stream::Test);
    (0..n).map(|k| 2.0 * rng.uniform(seed, k as u32) - 1.0).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// (q, qd) after one step.
#[inline(never)]
fn stepped<S: SimScalar>(model: &Model<S>, timing: &Timing<S>, [q, qd, u]: [&[S]; 3]) -> [Vec<S>; 2] {
    let (mut q, mut qd) = (q.to_vec(), qd.to_vec());
    step(model, timing, &mut q, &mut qd, u, &mut Work::<S, BODIES, DOFS>::new(model));
    [q, qd]
}

/// Cotangents of q, qd and actuation of one step.
fn pulled<S: SimScalar>(model: &Model<S>, timing: &Timing<S>, at: [&[S]; 3], bars: [&[S]; 2]) -> [Vec<S>; 3] {
    let mut kept = vec![S::zero(); timing.substeps * kept_per_substep(model.coordinates, model.velocities)];
    pulled_in::<S, BODIES, DOFS>(model, timing, at, bars, &mut kept)
}

#[inline(never)]
fn pulled_in<S: SimScalar, const B: usize, const D: usize>(
    model: &Model<S>,
    timing: &Timing<S>,
    [q, qd, u]: [&[S]; 3],
    [q_bar, qd_bar]: [&[S]; 2],
    kept: &mut [S],
) -> [Vec<S>; 3] {
    let (mut w, mut c) = (Work::<S, B, D>::new(model), Cotangents::zero());
    step_keeping(model, timing, &mut q.to_vec(), &mut qd.to_vec(), u, &mut w, kept);
    let (mut q_bar, mut qd_bar, mut u_bar) = (q_bar.to_vec(), qd_bar.to_vec(), vec![S::zero(); u.len()]);
    step_adjoint(model, timing, q, qd, u, &mut q_bar, &mut qd_bar, &mut u_bar, &mut w, &mut c, kept);
    [q_bar, qd_bar, u_bar]
}

fn parts(s: &TreeState) -> [&[f64]; 3] {
    [&s.q, &s.qd, &s.actuation]
}

fn robots_here() -> [Articulation; 2] {
    [tree(false), tree(true)]
}

const POINTS: [ReferencePoint; 2] = [ReferencePoint::World, ReferencePoint::Torso];

/// Kinetic and potential energy (J).
fn energy(model: &Model<f64>, q: &[f64], qd: &[f64]) -> f64 {
    let mut w = Work::<f64, BODIES, DOFS>::new(model);
    (0..model.links.len()).for_each(|i| body_kinematics(model, i, q, qd, &mut w));
    mass_matrix(model, &mut w);
    let height: f64 = model.links.iter().zip(&w.body).map(|(l, b)| 9.81 * l.mass * b.com.y).sum();
    let mut twice = 0.0;
    for i in 0..model.velocities {
        twice += (w.factor[i][i] + model.armature[i]) * qd[i] * qd[i];
        twice += model.ancestors(i).iter().map(|&j| 2.0 * w.factor[i][j] * qd[i] * qd[j]).sum::<f64>();
    }
    height + 0.5 * twice
}

/// A robot that nothing brakes: no damping, no springs, no ground. Armature of a ball turns with the parent, so that it
/// adds no energy only if there is none.
fn frictionless(mut robot: Articulation) -> Model<f64> {
    for body in &mut robot.bodies {
        let j = &mut body.joint;
        (j.limit_stiffness, j.limit_damping, j.drive_stiffness, j.drive_damping) = (0.0, 0.0, 0.0, 0.0);
        if j.kind == JointKind::Ball {
            j.armature = 0.0;
        }
    }
    let mut model = model::<f64>(&robot);
    model.contacts.clear();
    model.links.iter_mut().for_each(|l| l.contacts = 0..0);
    model
}

/// Without damping, springs and contact the energy error falls in proportion to the step.
#[test]
fn energy_is_conserved() {
    for robot in robots_here() {
        let model = frictionless(robot.clone());
        let state = random_state(&robot, &rng(), 1);
        let drift = |h: f64, substeps: usize| {
            let timing = Timing { h, substeps, ..timing(1, ReferencePoint::World) };
            let still = vec![0.0; model.velocities];
            let [q, qd] = stepped(&model, &timing, [&state.q, &state.qd, &still]);
            (energy(&model, &q, &qd) - energy(&model, &state.q, &state.qd)).abs()
        };
        let errors = [drift(1e-4, 2000), drift(1e-5, 20000), drift(1e-6, 200_000)];
        println!("{}: energy drift after 0.2 s: {errors:?} J", robot.name);
        assert!(errors.windows(2).all(|e| (8.0..12.0).contains(&(e[0] / e[1]))), "{errors:?}");
    }
}

/// A ball joint moves a body as three hinges do that are carried by bodies without mass; the step of the two differs by
/// the order of its length.
#[test]
fn a_ball_is_three_hinges() {
    let arm = tree(false).bodies[1].clone();
    let frame = Transform { p: Vec3::new(0.1, 2.0, 0.2), q: arm.joint.frame.q };
    let free_of_loss = |kind: JointKind, frame: Transform<f64>, axis: [f64; 3]| Joint {
        kind,
        frame,
        axis: Vec3::of(axis),
        ..Joint::free()
    };
    let bare = |name: &str, parent: Option<usize>, joint: Joint| pwm::sim::articulation::Body {
        name: name.into(),
        parent,
        joint,
        shapes: vec![],
        inertial: None,
    };
    let gravity = [0.3, -9.81, 0.5];
    let mut ball = bare("arm", None, free_of_loss(JointKind::Ball, frame, [0.0; 3]));
    ball.shapes = arm.shapes.clone();
    let mut last = bare("arm", Some(1), free_of_loss(JointKind::Hinge, Transform::identity(), [0.0, 0.0, 1.0]));
    last.shapes = arm.shapes;
    let hinges = vec![
        bare("outer", None, free_of_loss(JointKind::Hinge, frame, [1.0, 0.0, 0.0])),
        bare("middle", Some(0), free_of_loss(JointKind::Hinge, Transform::identity(), [0.0, 1.0, 0.0])),
        last,
    ];
    let ball = model::<f64>(&Articulation { name: "ball".into(), bodies: vec![ball], gravity, ground: true });
    let gimbal = model::<f64>(&Articulation { name: "gimbal".into(), bodies: hinges, gravity, ground: true });
    let end = |h: f64, substeps: usize| {
        let timing = Timing { h, substeps, ..timing(1, ReferencePoint::World) };
        // Angular velocity in the joint frame: that of the outer hinge, and the others' turned by those before them.
        let (angles, rates) = ([0.3f64, -0.4, 0.2], [0.5f64, 1.0, -0.8]);
        let turn = |k: usize| Quat::about(Vec3::of([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]][k]), angles[k]);
        let omega = Vec3::new(rates[0], 0.0, 0.0)
            + turn(0).rotate(Vec3::new(0.0, rates[1], 0.0))
            + (turn(0) * turn(1)).rotate(Vec3::new(0.0, 0.0, rates[2]));
        let mut q = vec![0.0; 4];
        (turn(0) * turn(1) * turn(2)).write(&mut q);
        let [q, _] = stepped(&ball, &timing, [&q, &omega.array(), &[0.0; 3]]);
        let [a, _] = stepped(&gimbal, &timing, [&angles, &rates, &[0.0; 3]]);
        let mut w = Work::<f64, BODIES, DOFS>::new(&gimbal);
        (0..3).for_each(|i| body_kinematics(&gimbal, i, &a, &[0.0; 3], &mut w));
        let mut v = Work::<f64, BODIES, DOFS>::new(&ball);
        body_kinematics(&ball, 0, &q, &[0.0; 3], &mut v);
        distance(&v.body[0].com.array(), &w.body[2].com.array())
    };
    let errors = [end(1e-3, 300), end(1e-4, 3000), end(1e-5, 30000)];
    println!("apart after 0.3 s by {errors:?} m");
    assert!(errors[0] < 1e-2 && errors.windows(2).all(|e| (8.0..12.0).contains(&(e[0] / e[1]))), "{errors:?}");
}

/// With unit quaternions the reference point does not matter.
#[test]
fn the_reference_point_does_not_matter() {
    for robot in robots_here() {
        let model = model::<f64>(&robot);
        for e in 0..60 {
            let s = random_state(&robot, &rng(), e);
            let bars = [random(4, s.q.len()), random(5, s.qd.len())];
            let [one, other] = POINTS.map(|p| stepped(&model, &timing(16, p), parts(&s)));
            for (one, other) in one.iter().zip(&other) {
                let error = relative_error(other, one);
                assert!(error < 1e-9, "{}, state {e}: {error:e}", robot.name);
            }
            // The derivative along the quaternions' norms does depend on it: forces only.
            let [a, b] = POINTS.map(|p| pulled(&model, &timing(16, p), parts(&s), [&bars[0], &bars[1]]));
            assert!(relative_error(&a[2], &b[2]) < 1e-7, "{}, state {e}", robot.name);
        }
    }
}

/// Every stage of a substep against dual numbers, and against central differences where no kink is near: a state at
/// rest stands on several.
#[test]
fn every_stage_is_the_transpose_of_its_derivative() {
    let mut v = Verdict::default();
    for robot in robots_here() {
        let (single, dual) = (model::<f64>(&robot), model::<Dual>(&robot));
        for e in 0..240 {
            let state = random_state(&robot, &rng(), e);
            for error in check_physics((&single, &dual), H, parts(&state), &rng(), e) {
                let name = format!("{}: {}", robot.name, error.stage);
                v.check(&format!("{name} by dual numbers"), e, error.dual, 1e-12);
                if state.qd.iter().any(|x| *x != 0.0) {
                    // The solve by differences is as good as the mass matrix is conditioned.
                    v.check(&format!("{name} by differences"), e, error.differences, 1e-5);
                }
            }
        }
    }
    v.finish();
}

/// Dual numbers through a whole step against central differences.
#[test]
fn dual_numbers_agree_with_central_differences() {
    for robot in robots_here() {
        let (single, dual) = (model::<f64>(&robot), model::<Dual>(&robot));
        let mut errors = Vec::new();
        for e in 0..60 {
            let s = random_state(&robot, &rng(), e);
            let x = parts(&s).concat();
            let (nq, nd) = (s.q.len(), s.qd.len());
            let along = random(u64::from(e), x.len());
            let cut = |x: &[f64]| {
                let at = [&x[..nq], &x[nq..nq + nd], &x[nq + nd..]];
                stepped(&single, &timing(16, ReferencePoint::Torso), at).concat()
            };
            let y: Vec<Dual> = x.iter().zip(&along).map(|(&x, &d)| Dual::new(x, d)).collect();
            let at = [&y[..nq], &y[nq..nq + nd], &y[nq + nd..]];
            let exact: Vec<f64> =
                stepped(&dual, &timing(16, ReferencePoint::Torso), at).concat().iter().map(|y| y.d).collect();
            // A point can sit within the larger step of a switch between branches: the better of two steps counts.
            let error = |h: f64| {
                let moved = |h: f64| cut(&x.iter().zip(&along).map(|(x, d)| x + h * d).collect::<Vec<_>>());
                let differences: Vec<f64> = moved(h).iter().zip(moved(-h)).map(|(a, b)| (a - b) / (2.0 * h)).collect();
                relative_error(&exact, &differences)
            };
            errors.push(error(1e-6).min(error(1e-7)));
        }
        println!("{}: median {:.1e}, p95 {:.1e}", robot.name, quantile(&errors, 0.5), quantile(&errors, 0.95));
        // Where a contact opens or closes within a step no difference is a derivative.
        assert!(quantile(&errors, 0.5) < 1e-7 && quantile(&errors, 0.75) < 1e-6, "{errors:?}");
    }
}

/// `ȳ·ẏ = x̄·ẋ` for random ẋ and ȳ, ẏ from dual numbers, ẋ with components along the quaternions too.
#[test]
fn adjoint_is_the_transpose_of_the_dual_derivative() {
    let mut v = Verdict::default();
    for robot in robots_here() {
        let (single, dual) = (model::<f64>(&robot), model::<Dual>(&robot));
        for (every, point) in [16, 1, 5].into_iter().flat_map(|n| POINTS.map(|p| (n, p))) {
            for e in 0..60 {
                let s = random_state(&robot, &rng(), e);
                let along = [s.q.len(), s.qd.len(), s.qd.len()].map(|n| random(u64::from(e) + 7 * n as u64, n));
                let bars = [random(51, s.q.len()), random(52, s.qd.len())];
                let given: Vec<Vec<Dual>> = parts(&s)
                    .iter()
                    .zip(&along)
                    .map(|(x, d)| x.iter().zip(d).map(|(&x, &d)| Dual::new(x, d)).collect())
                    .collect();
                let out = stepped(&dual, &timing(every, point), [&given[0], &given[1], &given[2]]);
                let back = pulled(&single, &timing(every, point), parts(&s), [&bars[0], &bars[1]]);
                let (mut left, mut right, mut size) = (0.0, 0.0, 0.0f64);
                for (y, bar) in out.iter().zip(&bars) {
                    let term = dot(&y.iter().map(|y| y.d).collect::<Vec<_>>(), bar);
                    (left, size) = (left + term, size.max(term.abs()));
                }
                for (x, bar) in along.iter().zip(&back) {
                    let term = dot(x, bar);
                    (right, size) = (right + term, size.max(term.abs()));
                }
                let name = format!("{}, mass matrix every {every}, {point:?}", robot.name);
                v.check(&name, e, (left - right).abs() / size, 1e-10);
            }
        }
    }
    v.finish();
}

/// What the self-test allows a GPU is a few times what single precision is off on the processor: little, in every case.
#[test]
fn single_precision_is_a_measure_in_every_case() {
    let cases: Vec<_> = cases().into_iter().filter(|c| c.name.starts_with("physics")).collect();
    assert!(cases.len() > 5);
    for case in cases {
        let o = case.run(1, &Target::Cpu).unwrap();
        println!("{}: {:.1e}", o.name, o.cpu_error);
        assert!(o.passed && o.cpu_error < 1e-4, "{o:?}");
    }
}

/// A robot's numbers do not depend on the class that it is computed in.
#[test]
fn every_class_computes_the_same() {
    let robot = tree(true);
    let size = Size::of(&robot, SUBSTEPS);
    let model = model::<f64>(&robot);
    let s = random_state(&robot, &rng(), 4);
    let bars = [random(1, s.q.len()), random(2, s.qd.len())];
    let timing = timing(16, ReferencePoint::Torso);
    let want = pulled(&model, &timing, parts(&s), [&bars[0], &bars[1]]);
    let first = size.class().unwrap();
    assert_eq!((first, CLASSES[first].bodies, CLASSES[first].velocities), (1, BODIES, DOFS));
    for class in first..CLASSES.len() {
        let got = for_size!(class, <B, Q, D, KEPT> => {
            let (mut q, mut qd) = ([0.0; Q], [0.0; D]);
            q[..s.q.len()].copy_from_slice(&s.q);
            qd[..s.qd.len()].copy_from_slice(&s.qd);
            let mut kept = [0.0; KEPT];
            pulled_in::<f64, B, D>(&model, &timing, [&q, &qd, &s.actuation], [&bars[0], &bars[1]], &mut kept)
        });
        assert_eq!(got, want, "class {class}");
    }
    let ant = robots::by_name("ant").unwrap();
    let exact = CLASSES[Size::of(&ant, SUBSTEPS).class().unwrap()];
    assert_eq!(exact, Size::of(&ant, SUBSTEPS));
}

#[test]
fn robots_that_cannot_be_simulated_are_refused() {
    let refused = |change: fn(&mut Articulation)| {
        let mut robot = tree(false);
        change(&mut robot);
        robot.validate().unwrap_err().to_string()
    };
    assert_eq!(tree(false).validate(), Ok(()));
    assert_eq!(tree(true).validate(), Ok(()));
    assert!(robots::ROBOTS.iter().all(|(name, robot)| robot().validate().is_ok() && robot().name == *name));
    assert_eq!(refused(|r| r.bodies[2].parent = Some(2)), "body elbow comes before its parent, or is its own");
    let free = refused(|r| r.bodies[4].joint = Joint::free());
    assert_eq!(free, "the free joint of body hip hangs on another body: only a root can be free");
    let moved = refused(|r| r.bodies[0].joint.kind = JointKind::Free);
    assert_eq!(moved, "the free joint of body cart has a frame of its own: its coordinates are the world's");
    let spring = refused(|r| r.bodies[1].joint.drive_stiffness = 1.0);
    assert_eq!(spring, "the ball joint of body shoulder has limits or a drive: only its damping can be chosen");
    assert_eq!(refused(|r| r.bodies[5].joint.axis.x += 0.1), "the axis of the joint of body knee is no unit vector");
    let many = refused(|r| {
        let last = r.bodies[7].clone();
        r.bodies.extend(vec![last; 100]);
    });
    assert_eq!(many, "108 bodies, but there is room for 80");
    let long = Size::of(&tree(true), 65).class();
    assert_eq!(long, Err(RobotError::TooLarge { what: "substeps", has: 65, room: 64 }));
}
