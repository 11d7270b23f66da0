//! MuJoCo's law against MuJoCo 2.3.1: constants, single steps, solutions of the constraints.
//!
//! Arrays are in the folder `PWM_GOLDEN_MUJOCO`, else in tests/golden/mujoco; what they are stands in the README there.

use crate::support::verdict::{Golden, Verdict, error_of_one, quantile};
use pwm::config::MujocoVersion;
use pwm::device::cpu::lanes::{Lanes, Lanes8};
use pwm::device::philox::{Philox, Stream};
use pwm::sim::mjcf::Mjcf;
use pwm::sim::mjcf::model::JointType;
use pwm::sim::mujoco::step::{Scratch, forward, step};
use pwm::sim::mujoco::{Law, System};
use pwm::sim::quat::Quat;
use pwm::sim::robots::mujoco::{SYSTEMS, system};
use pwm::sim::{SimScalar, Vec3};

const B: usize = 16;
const D: usize = 16;
const R: usize = 208;

type Room<S> = Scratch<S, B, D, R>;

fn compile(text: &str) -> System {
    let file = Mjcf::read("robot.xml", text).unwrap_or_else(|e| panic!("{e}"));
    file.compile(MujocoVersion::V231).unwrap_or_else(|e| panic!("{e}"))
}

fn compiled(name: &str) -> System {
    compile(system(name).unwrap())
}

/// The system with the damping of a hinge that one of its tasks changes.
fn with_damping(name: &str, damping: f64) -> System {
    let (old, new) = ("damping=\"0.5\" frictionloss", format!("damping=\"{damping}\" frictionloss"));
    let text = system(name).unwrap();
    assert!(text.contains(old));
    compile(&text.replace(old, &new))
}

/// MuJoCo's coordinates and velocities as they are here: quaternions have their scalar last, rotation is along the
/// world's axes.
pub fn state(s: &System, qpos: &[f64], qvel: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut q, mut qd) = (qpos.to_vec(), qvel.to_vec());
    for (at, dof) in free(s) {
        let turn = Quat::of([qpos[at + 1], qpos[at + 2], qpos[at + 3], qpos[at]]).normalised();
        turn.write(&mut q[at..]);
        turn.rotate(Vec3::read(&qvel[dof..])).write(&mut qd[dof..]);
    }
    assert_eq!((q.len(), qd.len()), (s.law.model.coordinates, s.law.model.velocities));
    (q, qd)
}

/// Back again.
pub fn mujoco(s: &System, q: &[f64], qd: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut qpos, mut qvel) = (q.to_vec(), qd.to_vec());
    for (at, dof) in free(s) {
        let turn = Quat::read(&q[at..]);
        qpos[at] = turn.w;
        turn.v.write(&mut qpos[at + 1..]);
        turn.conj().rotate(Vec3::read(&qd[dof..])).write(&mut qvel[dof..]);
    }
    (qpos, qvel)
}

/// Where free joints have their quaternions and their rates.
fn free(s: &System) -> Vec<(usize, usize)> {
    s.joints.iter().filter(|j| j.kind == JointType::Free).map(|j| (j.q + 3, j.dof + 3)).collect()
}

/// Rotations of free joints about the world's axes as those about the body's: columns of a matrix over velocities.
fn turn_columns(s: &System, q: &[f64], m: &mut [f64]) {
    for (at, dof) in free(s) {
        let turn = Quat::read(&q[at..]).conj();
        for row in m.chunks_exact_mut(s.law.model.velocities) {
            turn.rotate(Vec3::read(&row[dof..])).write(&mut row[dof..]);
        }
    }
}

#[test]
fn golden_mujoco_models() {
    let mut v = Verdict::default();
    for (name, _) in SYSTEMS {
        let (s, g) = (compiled(name), Golden::mujoco(&format!("{name}_model")));
        let mut same = |what: &str, got: &[f64]| {
            v.check(&format!("{name} {what}"), String::new(), error_of_one(got, &g.get(what).data), 1e-12);
        };
        let model = &s.law.model;
        same("timestep", &[s.law.timestep]);
        same("body_mass", &s.bodies.iter().map(|b| b.mass.mass).collect::<Vec<_>>());
        same("body_ipos", &s.bodies.iter().flat_map(|b| b.mass.com.array()).collect::<Vec<_>>());
        same("body_invweight0", &s.bodies.iter().flat_map(|b| b.inverse_weight).collect::<Vec<_>>());
        same("dof_invweight0", &s.dof_weights);
        same("dof_armature", &model.armature);
        let lengths: Vec<f64> = s.law.tendons.iter().map(|t| t.weight).collect();
        if !lengths.is_empty() {
            same("tendon_invweight0", &lengths);
            same("tendon_length0", &s.law.tendons.iter().map(|t| t.rest).collect::<Vec<_>>());
        }
        let damping: Vec<f64> = model.links.iter().flat_map(|l| vec![l.damping; l.kind.velocities()]).collect();
        same("dof_damping", &damping);
        let (start, _) = mujoco(&s, &s.start, &vec![0.0; model.velocities]);
        same("qpos0", &start);
    }
    v.finish();
}

/// One step in `f64`, stage by stage.
#[test]
fn golden_mujoco_steps() {
    let mut v = Verdict::default();
    for (name, _) in SYSTEMS {
        let g = Golden::mujoco(&format!("{name}_step"));
        let shipped = compiled(name);
        let spins = (name == "finger").then(|| with_damping(name, 0.03));
        let (mut most, mut capped) = (0.0f64, 0.0);
        for i in 0..g.get("qpos").rows() {
            let s = match &spins {
                Some(spins) if g.get("hinge_damping").row(i)[0] == 0.03 => spins,
                _ => &shipped,
            };
            let (mut q, mut qd) = state(s, g.get("qpos").row(i), g.get("qvel").row(i));
            let (ctrl, nv) = (g.get("ctrl").row(i), qd.len());
            let mut room = Room::new(&s.law);
            forward(&s.law, &q, &qd, ctrl, &mut room);
            let mut same = |what: &str, got: &[f64], tolerance: f64| {
                let error = error_of_one(got, g.get(what).row(i));
                v.check(&format!("{name} {what}"), format!("state {i}"), error, tolerance);
            };
            // M as the other side has it: rotations of a free joint about the body's axes on both sides.
            let mut m = vec![0.0; nv * nv];
            for r in 0..nv {
                for c in 0..=r {
                    (m[r * nv + c], m[c * nv + r]) = (room.mass[r][c], room.mass[r][c]);
                }
            }
            let turned = |m: &mut [f64]| turn_columns(s, &q, m);
            turned(&mut m);
            let mut transposed: Vec<f64> = (0..nv * nv).map(|k| m[k % nv * nv + k / nv]).collect();
            turned(&mut transposed);
            same("M", &transposed, 1e-11);
            let mut smooth = room.smooth[..nv].to_vec();
            turned(&mut smooth);
            let sum = |a: &[f64], b: &[f64], c: &[f64]| -> Vec<f64> {
                a.iter().zip(b).zip(c).map(|((a, b), c)| a - b + c).collect()
            };
            let theirs = sum(g.get("qfrc_passive").row(i), g.get("qfrc_bias").row(i), g.get("qfrc_actuator").row(i));
            let error = error_of_one(&smooth, &theirs);
            v.check(&format!("{name} forces"), format!("state {i}"), error, 1e-11);
            let touching = g.get("con_dist").row(i).iter().filter(|d| **d < 0.0).count() as f64;
            v.check(&format!("{name} contacts"), format!("state {i}"), (room.rows.contacts - touching).abs(), 0.0);
            let tolerance = if room.rows.len > 0 { 1e-9 } else { 1e-11 };
            let mut same = |what: &str, got: &[f64], tolerance: f64| {
                let error = error_of_one(got, g.get(what).row(i));
                v.check(&format!("{name} {what}"), format!("state {i}"), error, tolerance);
            };
            let mut a = room.acceleration[..nv].to_vec();
            turn_columns(s, &q, &mut a);
            same("qacc_exact", &a, 1e-9);
            step(&s.law, &mut q, &mut qd, ctrl, &mut room);
            let (qpos, qvel) = mujoco(s, &q, &qd);
            same("next_qpos_exact", &qpos, tolerance);
            same("next_qvel_exact", &qvel, tolerance);
            most = most.max(room.solved.steps);
            capped += room.solved.capped;
        }
        println!("{name}: {most} steps of the solver at most");
        assert_eq!(capped, 0.0, "{name}");
    }
    v.finish();
}

/// States side by side: lane by lane, the last one repeated where they run out.
fn side_by_side<S: SimScalar + Lanes>(states: &[Vec<f64>]) -> Vec<S> {
    let lane = |k: usize| &states[k.min(states.len() - 1)];
    (0..states[0].len()).map(|i| S::from_array(std::array::from_fn(|k| lane(k)[i] as f32))).collect()
}

/// A step of up to eight states in lanes of single precision: the states after it, and the steps of the solver.
fn step_in_lanes(law: &Law<Lanes8>, q: &[Vec<f64>], qd: &[Vec<f64>], ctrl: &[Vec<f64>]) -> Vec<(Vec<f64>, Vec<f64>)> {
    let mut room = Box::new(Room::<Lanes8>::new(law));
    let (mut at, mut rate) = (side_by_side::<Lanes8>(q), side_by_side::<Lanes8>(qd));
    step(law, &mut at, &mut rate, &side_by_side::<Lanes8>(ctrl), &mut room);
    let lane = |values: &[Lanes8], k: usize| values.iter().map(|x| f64::from(x.to_array()[k])).collect::<Vec<f64>>();
    (0..q.len()).map(|k| (lane(&at, k), lane(&rate, k))).collect()
}

/// One step in lanes of single precision, beside the same numbers.
#[test]
fn golden_mujoco_steps_in_single_precision() {
    let mut v = Verdict::default();
    for (name, _) in SYSTEMS {
        let g = Golden::mujoco(&format!("{name}_step"));
        let dampings: &[Option<f64>] = if name == "finger" { &[Some(0.5), Some(0.03)] } else { &[None] };
        let mut touching = vec![];
        for damping in dampings {
            let s = damping.map_or_else(|| compiled(name), |d| with_damping(name, d));
            let law = s.law_in::<Lanes8>();
            let rows: Vec<usize> = (0..g.get("qpos").rows())
                .filter(|&i| damping.is_none_or(|d| g.get("hinge_damping").row(i)[0] == d))
                .collect();
            for group in rows.chunks(8) {
                let states = |i: &usize| state(&s, g.get("qpos").row(*i), g.get("qvel").row(*i));
                let (q, qd): (Vec<_>, Vec<_>) = group.iter().map(states).unzip();
                let ctrl: Vec<_> = group.iter().map(|&i| g.get("ctrl").row(i).to_vec()).collect();
                for (&i, (q, qd)) in group.iter().zip(step_in_lanes(&law, &q, &qd, &ctrl)) {
                    let (qpos, qvel) = mujoco(&s, &q, &qd);
                    let error = error_of_one(&qvel, g.get("next_qvel_exact").row(i))
                        .max(error_of_one(&qpos, g.get("next_qpos_exact").row(i)));
                    let free = match name {
                        "fish" => 3e-5,
                        _ => 1e-5,
                    };
                    if g.get("ncon").row(i)[0] > 0.0 {
                        touching.push(error);
                        v.check(&format!("{name} in contact"), format!("state {i}"), error, 2e-4);
                    } else {
                        v.check(&format!("{name} free"), format!("state {i}"), error, free);
                    }
                }
            }
        }
        if !touching.is_empty() {
            v.check(&format!("{name} in contact, median"), "", quantile(&touching, 0.5), 5e-6);
        }
    }
    v.finish();
}

/// What a lane holds does not depend on the others.
#[test]
fn lanes_do_not_meet() {
    let (s, g) = (compiled("walker"), Golden::mujoco("walker_step"));
    let law = s.law_in::<Lanes8>();
    let rows = |name: &str, group: &[usize]| group.iter().map(|&i| g.get(name).row(i).to_vec()).collect::<Vec<_>>();
    let step = |group: &[usize]| step_in_lanes(&law, &rows("qpos", group), &rows("qvel", group), &rows("ctrl", group));
    for first in 0..g.get("qpos").rows() - 8 {
        let mixed = step(&(first..first + 8).collect::<Vec<_>>());
        let alone = step(&[first + 3; 8]);
        assert_eq!(mixed[3], alone[5], "state {}", first + 3);
    }
}

/// Random states around those that are known, until `count`: calls `f` with each.
fn for_states(s: &System, g: &Golden, count: usize, mut f: impl FnMut(&[f64], &[f64], &[f64])) {
    let random = Philox::new(7, Stream::Test);
    let rows = g.get("qpos").rows();
    for i in 0..count {
        let row = i % rows;
        let (mut q, mut qd) = state(s, g.get("qpos").row(row), g.get("qvel").row(row));
        let ctrl = g.get("ctrl").row(row).to_vec();
        let turned = q.len() > qd.len();
        if i >= rows {
            let draw = |k: usize| 2.0 * random.uniform(i as u64, k as u32) - 1.0;
            for (k, x) in q.iter_mut().enumerate().filter(|(k, _)| !(turned && (3..7).contains(k))) {
                *x += 0.05 * draw(k);
            }
            for (k, x) in qd.iter_mut().enumerate() {
                *x += draw(64 + k);
            }
        }
        f(&q, &qd, &ctrl);
    }
}

/// The solver ends: at the minimum, before its cap, without anything that is no number. `PWM_SOLVER_STATES` is how many
/// states a system (a million in scripts/full).
#[test]
fn the_solver_ends_at_the_minimum() {
    let count = std::env::var("PWM_SOLVER_STATES").map_or(10_000, |n| n.parse().unwrap());
    for (name, _) in SYSTEMS {
        let (s, g) = (compiled(name), Golden::mujoco(&format!("{name}_step")));
        if s.law.most_rows() == 0 {
            continue;
        }
        let mut room = Box::new(Room::new(&s.law));
        let (mut worst, mut with_rows, mut contacts) = (0.0f64, 0, 0.0f64);
        let mut steps = [0usize; 16];
        for_states(&s, &g, count, |q, qd, ctrl| {
            forward(&s.law, q, qd, ctrl, &mut room);
            if room.rows.len == 0 {
                return;
            }
            let n = qd.len();
            with_rows += 1;
            contacts = contacts.max(room.rows.contacts);
            steps[room.solved.steps as usize] += 1;
            assert_eq!(room.solved.capped, 0.0, "{name}: {q:?} {qd:?}");
            // M (a - a0) = Jᵀ f.
            let mut error = 0.0f64;
            let mut size = 1.0f64;
            for i in 0..n {
                let m = |j: usize| room.mass[i.max(j)][i.min(j)];
                let pull: f64 = (0..n).map(|j| m(j) * (room.acceleration[j] - room.unconstrained[j])).sum();
                error = error.max((pull - room.constraint[i]).abs());
                size = size.max(room.constraint[i].abs()).max(room.smooth[i].abs());
            }
            assert!(error.is_finite(), "{name}: {q:?} {qd:?}");
            worst = worst.max(error / size);
        });
        let last = steps.iter().rposition(|n| *n > 0).unwrap_or(0);
        println!(
            "{name}: {with_rows} states with rows, {contacts} contacts, residual {worst:.1e}, steps {:?}",
            &steps[..=last]
        );
        assert!(worst < 1e-10, "{name}: {worst}");
    }
}

/// Two free bodies in general position on a tilted floor, which none of the systems is: four sides of a pyramid, cones
/// with two tangents, contacts between free bodies.
#[test]
fn steps_in_general_position() {
    let g = Golden::fixture("tripod");
    let mut v = Verdict::default();
    for cone in ["pyramidal", "elliptic"] {
        let s = compile(&include_str!("../fixtures/tripod.xml").replace("CONE", cone));
        assert!(!s.law.planar);
        let get = |name: &str, i: usize| g.get(&format!("{cone}.{name}")).row(i);
        let mut room = Box::new(Room::new(&s.law));
        let mut touched = 0.0;
        for i in 0..g.get(&format!("{cone}.qpos")).rows() {
            let (mut q, mut qd) = state(&s, get("qpos", i), get("qvel", i));
            step(&s.law, &mut q, &mut qd, get("ctrl", i), &mut room);
            let (qpos, qvel) = mujoco(&s, &q, &qd);
            for (what, got) in [("next_qpos", qpos), ("next_qvel", qvel)] {
                v.check(&format!("{cone} {what}"), format!("state {i}"), error_of_one(&got, get(what, i)), 1e-9);
            }
            touched += room.rows.contacts;
            assert_eq!(room.solved.capped, 0.0);
        }
        assert!(touched > 100.0, "{touched} contacts");
    }
    v.finish();
}

/// A robot between lines that may go wrong, each with a mark.
const PLAIN: &str = r#"<mujoco>
  <option OPTION/>
  <worldbody>
    <geom type="plane" size="1 1 1" FLOOR/>
    <body name="a" pos="0 0 1">
      INSIDE
      <joint name="along" type="slide" axis="1 0 0"/>
      <joint name="about" axis="0 1 0" JOINT/>
      <geom GEOM size="0.1"/>
    </body>
    OTHER
  </worldbody>
  <actuator>MOTOR</actuator>
  LAST
</mujoco>"#;

#[test]
fn what_the_law_does_not_know_is_refused_with_its_line() {
    let cases = [
        ("OPTION", "integrator=\"implicit\"", 2, "`Euler` and `RK4`"),
        ("OPTION", "viscosity=\"1\"", 2, "leave `viscosity` out"),
        ("OPTION", "wind=\"1 0 0\"", 2, "leave `wind` out"),
        ("OPTION", "impratio=\"2\"", 2, "`impratio` is 1"),
        ("FLOOR", "condim=\"4\"", 4, "make `condim` 3"),
        ("FLOOR", "priority=\"1\"", 4, "leave `priority` out"),
        ("FLOOR", "margin=\"0.1\"", 4, "contact begins at the surface"),
        ("FLOOR", "solref=\"-100 -1\"", 4, "both are above 0"),
        ("INSIDE", "<inertial pos=\"0 0 0\" mass=\"1\" diaginertia=\"1 1 1\"/>", 6, "masses follow from geoms"),
        ("INSIDE", "<joint type=\"ball\"/>", 6, "no ball joints"),
        ("INSIDE", "<joint type=\"free\"/>", 6, "the only one of a body"),
        ("JOINT", "springdamper=\"1 1\"", 8, "time constants"),
        ("JOINT", "range=\"0 1\" margin=\"0.1\"", 8, "a limit begins at its range"),
        ("JOINT", "limited=\"true\" range=\"0 1\" solimplimit=\"0.9 0.95 0.001 0.5 1.5\"", 8, "a whole number"),
        ("GEOM", "type=\"cylinder\" fromto=\"0 0 0 0 0 1\"", 9, "may touch the plane of line 4"),
        ("GEOM", "fluidshape=\"ellipsoid\"", 9, "leave `fluidshape` out"),
        ("OTHER", "<body mocap=\"true\"/>", 11, "leave `mocap` out"),
        ("MOTOR", "<motor joint=\"abuot\"/>", 13, "did you mean `about`?"),
        ("MOTOR", "<motor joint=\"about\" forcelimited=\"true\" forcerange=\"-1 1\"/>", 13, "not cut here"),
        ("MOTOR", "<velocity joint=\"about\" kv=\"1\"/>", 13, "do not depend on velocity"),
        ("MOTOR", "<motor tendon=\"none\"/>", 13, "no tendon `none`"),
        ("LAST", "<equality><weld body1=\"a\"/></equality>", 14, "no equality constraints"),
        (
            "LAST",
            "<tendon><fixed damping=\"1\"><joint joint=\"about\" coef=\"1\"/></fixed></tendon>",
            14,
            "has no damping",
        ),
        (
            "LAST",
            "<tendon><fixed><joint joint=\"nothing\" coef=\"1\"/></fixed></tendon>",
            14,
            "there is no joint `nothing`",
        ),
    ];
    let marks = ["OPTION", "FLOOR", "INSIDE", "JOINT", "GEOM", "OTHER", "MOTOR", "LAST"];
    let with = |mark: &str, text: &str| {
        marks.iter().fold(PLAIN.to_owned(), |all, m| all.replace(m, if *m == mark { text } else { "" }))
    };
    let read = |text: &str| Mjcf::read("my.xml", text).and_then(|m| m.compile(MujocoVersion::V231));
    read(&with("", "")).unwrap();
    let said = |mark: &str, text: &str| read(&with(mark, text)).map_or_else(|e| e.to_string(), |_| "nothing".into());
    let wrong: Vec<String> = cases
        .into_iter()
        .map(|(mark, text, line, words)| (said(mark, text), text, format!("my.xml:{line}:"), words))
        .filter(|(said, _, place, words)| !(said.contains(place) && said.contains(words)))
        .map(|(said, text, place, words)| format!("{text}: {place} {words}, not {said}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where contacts slide along one direction, and what leads to the body that all others hang on.
#[test]
fn planes_and_what_leads_are_found() {
    let robot = |side: f64| {
        let text = format!(
            "<mujoco><worldbody><geom type=\"plane\" size=\"1 1 1\"/><body pos=\"0 0 2\"><joint name=\"x\" type=\"slide\" \
             axis=\"1 0 0\"/><joint axis=\"0 1 0\"/><geom size=\"0.1\"/><body pos=\"0.3 {side} 0\"><joint axis=\"0 1 0\"/>\
             <body pos=\"0.3 0 0\"><joint axis=\"0 1 0\"/><geom size=\"0.1\"/></body></body></body></worldbody></mujoco>"
        );
        let s = compile(&text);
        (s.law.planar, s.law.lead.iter().map(|l| l.0).collect::<Vec<_>>(), s.law.base.array())
    };
    assert_eq!(robot(0.0), (true, vec![0], [0.0, 0.0, 2.0]));
    // Spheres in two planes push each other out of both.
    assert_eq!(robot(0.05), (false, vec![0], [0.0, 0.0, 2.0]));
    // A cart that carries a lift: what leads ends at the cart.
    let lift = compile(
        "<mujoco><worldbody><body><joint type=\"slide\" axis=\"1 0 0\"/><geom name=\"cart\" size=\"0.1\"/><body pos=\"0 0 1\">\
         <joint type=\"slide\" axis=\"0 0 1\"/><geom size=\"0.1\"/></body></body></worldbody></mujoco>",
    );
    assert_eq!(lift.law.lead.iter().map(|l| l.0).collect::<Vec<_>>(), [0]);
    for (name, _) in SYSTEMS {
        let planar = !["fish", "reacher", "reacher_three"].contains(&name);
        assert_eq!(compiled(name).law.planar, planar, "{name}");
        let lead = match name {
            "fish" => 3,
            "walker" | "cheetah" | "hopper" => 2,
            "cartpole" => 1,
            _ => 0,
        };
        assert_eq!(compiled(name).law.lead.len(), lead, "{name}");
    }
}

/// The one constant that differs between MuJoCo's versions: of what only slides.
#[test]
fn later_versions_weigh_a_sliding_ball_otherwise() {
    let file = Mjcf::read("cup.xml", system("cup").unwrap()).unwrap();
    let [old, new] = [MujocoVersion::V231, MujocoVersion::V312].map(|v| file.compile(v).unwrap());
    let weight = |s: &System, body: usize| s.bodies[body].inverse_weight[0];
    assert!((weight(&old, 2) - 10.185_916_357_881_3).abs() < 1e-12);
    assert!((weight(&new, 2) - 15.278874536821952).abs() < 1e-12);
    assert_eq!(weight(&old, 1), weight(&new, 1));
}
