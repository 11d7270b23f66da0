//! Steps a second under MuJoCo's law on one thread, 64 environments in lanes, controls drawn anew every few steps: the
//! same as `peers/mujoco_step.c` does with MuJoCo's own engine. One line of JSON a system; `mujoco_speed.py` makes a
//! table of both.
//!
//!     cargo bench --bench mujoco_step -- [SECONDS [SYSTEM]]

use pwm::config::MujocoVersion;
use pwm::device::cpu::lanes::{Lanes, Lanes8, WIDTH};
use pwm::device::philox::{Philox, Stream};
use pwm::sim::mjcf::Mjcf;
use pwm::sim::mujoco::size::{CLASSES, Size};
use pwm::sim::mujoco::{Law, Scratch, System, step};
use pwm::sim::robots::mujoco::SYSTEMS;
use pwm::sim::{Model, SimScalar};
use std::time::Instant;

#[cfg(target_arch = "x86_64")]
use pwm::device::cpu::lanes::{Avx8, avx2_fma};

const ENVS: usize = 64;

/// Physics steps under one control, as the tasks of these systems have it.
fn substeps(system: &str) -> usize {
    match system {
        "cup" | "walker" | "fish" => 10,
        "hopper" => 4,
        "finger" => 2,
        _ => 1,
    }
}

/// Eight environments.
struct Group<S> {
    q: Vec<S>,
    qd: Vec<S>,
    ctrl: Vec<S>,
}

#[inline(always)]
fn advance<S: SimScalar, const B: usize, const D: usize, const R: usize>(
    law: &Law<S>,
    g: &mut Group<S>,
    n: usize,
    room: &mut Scratch<S, B, D, R>,
) {
    for _ in 0..n {
        step(law, &mut g.q, &mut g.qd, &g.ctrl, room);
    }
}

/// Steps a second, and steps of the solver in a physics step; the first half of the time warms up.
fn measure<S: SimScalar + Lanes>(
    system: &System,
    name: &str,
    seconds: f64,
    mut advance: impl FnMut(&Law<S>, &mut Group<S>, usize) -> f64,
) -> (f64, f64) {
    let law: Law<S> = system.law.cast(Model::new(&system.robot, pwm::sim::Inertia::Exact));
    let random = Philox::new(1, Stream::Test);
    let mut drawn = 0u64;
    let mut uniform = || {
        drawn += 1;
        random.uniform(drawn, 0) as f32
    };
    let mut lanes = |scale: f32| S::from_array(std::array::from_fn(|_| scale * (2.0 * uniform() - 1.0)));
    let mut groups: Vec<Group<S>> = (0..ENVS / WIDTH)
        .map(|_| Group {
            q: system.start.iter().map(|&x| S::of(x)).collect(),
            qd: (0..law.model.velocities).map(|_| lanes(0.1)).collect(),
            ctrl: vec![S::zero(); law.actuators.len()],
        })
        .collect();
    let (n, begin) = (substeps(name), Instant::now());
    let (mut from, mut steps, mut solver, mut solved) = (0.0, 0usize, 0.0, 0usize);
    loop {
        for g in &mut groups {
            g.ctrl.iter_mut().for_each(|c| *c = lanes(1.0));
            solver += advance(&law, g, n);
            solved += 1;
        }
        let t = begin.elapsed().as_secs_f64();
        if from == 0.0 && t > seconds / 2.0 {
            (from, steps) = (t, 0);
        } else {
            steps += ENVS * n;
        }
        if t > seconds {
            return (steps as f64 / (t - from), solver / solved as f64);
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let seconds = args.first().map_or(2.0, |s| s.parse().expect("seconds"));
    for (name, text) in SYSTEMS.iter().filter(|(n, _)| args.get(1).is_none_or(|wanted| wanted == n)) {
        let system = Mjcf::read(name, text).expect("shipped").compile(MujocoVersion::V231).expect("shipped");
        let speed = fastest(&system, name, seconds);
        println!(
            "{{\"system\":\"{name}\",\"environments\":{ENVS},\"substeps\":{},\"steps_per_s\":{:.0},\"solver_steps\":{:.2}}}",
            substeps(name),
            speed.0,
            speed.1
        );
    }
}

/// Most steps of the solver in any lane.
fn most<S: Lanes>(steps: S) -> f64 {
    steps.to_array().into_iter().fold(0.0f32, f32::max).into()
}

fn fastest(system: &System, name: &str, seconds: f64) -> (f64, f64) {
    #[cfg(target_arch = "x86_64")]
    if avx2_fma() {
        #[target_feature(enable = "avx2,fma")]
        fn advance_avx<const B: usize, const D: usize, const R: usize>(
            law: &Law<Avx8>,
            g: &mut Group<Avx8>,
            n: usize,
            room: &mut Scratch<Avx8, B, D, R>,
        ) {
            advance(law, g, n, room);
        }
        let class = Size::of(&system.law).class().expect("a shipped system has room");
        return pwm::for_mujoco_size!(class, <B, D, R> => {
            let mut room = None;
            measure::<Avx8>(system, name, seconds, |law, g, n| {
                let room = room.get_or_insert_with(|| Box::new(Scratch::<Avx8, B, D, R>::new(law)));
                // SAFETY: just asked.
                unsafe { advance_avx(law, g, n, room) };
                most(room.solved.steps)
            })
        });
    }
    const LARGEST: Size = CLASSES[CLASSES.len() - 1];
    let mut room = None;
    measure::<Lanes8>(system, name, seconds, |law, g, n| {
        let room = room.get_or_insert_with(|| {
            Box::new(Scratch::<Lanes8, { LARGEST.links }, { LARGEST.velocities }, { LARGEST.rows }>::new(law))
        });
        advance(law, g, n, room);
        most(room.solved.steps)
    })
}
