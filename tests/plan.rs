//! What is planned is what is bound, to the byte; and what is said to fit does.

#[path = "support/random_config.rs"]
mod random_config;

use std::sync::Arc;

use pwm::algo::written;
use pwm::config::{Bytes, Config, Kind, Shipped, load};
use pwm::device::cpu::team::Team;
use pwm::mem::Budget;
use pwm::run::plan::{Budgets, KNOBS, Place, Plan};
use pwm::tape::Machine;
use pwm::tape::plan::aligned;
use random_config::Draw;

fn budget(bytes: u64) -> Budgets {
    Budgets { host: Some(Budget::asked("mem", Bytes(bytes))), device: None }
}

/// Binds without touching memory; the plan, the machine and the furthest operand must agree.
fn agree(c: &Config, what: &str) {
    let plan = Plan::new(c, Place::Host);
    let (vars, programs) = written(c);
    let machine = Machine::<f32>::reserve(vars, programs, Arc::new(Team::new(1).unwrap())).unwrap();
    assert_eq!(plan.arena_bytes(), machine.bytes() as u64, "{what}");
    let (extent, total) = (machine.extent(), machine.layout().total());
    assert_eq!((aligned(extent.real), aligned(extent.index)), (total.real, total.index), "{what}");
}

#[test]
fn shipped_configurations_bind_what_is_planned() {
    for name in Shipped::names(Kind::Alg) {
        agree(&load(&[format!("alg={name}")]).unwrap(), name);
    }
}

#[test]
fn ten_thousand_random_configurations_bind_what_is_planned() {
    std::thread::scope(|s| {
        for half in 0..2 {
            s.spawn(move || {
                let mut draw = Draw::new(half);
                for i in 0..5_000 {
                    agree(&random_config::config(&mut draw), &format!("configuration {i} of seed {half}"));
                }
            });
        }
    });
}

#[test]
fn lines_add_up_on_host_and_device() {
    let c = load(&["alg=pwm_5M"]).unwrap();
    for (place, host, device) in [(Place::Host, 1, 0), (Place::Device, 0, 1)] {
        let plan = Plan::new(&c, place);
        assert_eq!(plan.host(), plan.fixed_bytes() + host * plan.arena_bytes());
        assert_eq!(plan.device(), device * plan.arena_bytes());
        let sums = plan.lines().fold((0, 0), |s, (_, h, d)| (s.0 + h, s.1 + d));
        assert_eq!(sums, (plan.host(), plan.device()));
    }
}

#[test]
fn what_fits_is_the_largest_that_fits() {
    let c = load(&["alg=pwm_5M"]).unwrap();
    for mem in [400 << 20, 1 << 30] {
        let budgets = budget(mem);
        for knob in &KNOBS {
            let n = knob.largest(&c, Place::Host, &budgets).unwrap();
            let fits = |n| {
                let c = knob.with(&c, n);
                c.broken_rules().is_empty() && budgets.hold(&Plan::within(&c, Place::Host, &budgets))
            };
            assert!(fits(n), "{} = {n}", knob.key);
            // No larger value that the rules allow fits; the next few are tried, as not all of them are allowed.
            assert!((n + 1..n + 9).all(|n| !fits(n)), "{} beyond {n}", knob.key);
        }
    }
}

/// SHAC has no replay, and what its reverse pass reads of the simulator is computed again in any case.
#[test]
fn a_rollout_through_the_simulator_has_a_plan() {
    let c = load(&["alg=shac"]).unwrap();
    let plan = Plan::new(&c, Place::Host);
    let replay = plan.arena.iter().find(|i| i.name == "replay").map_or(0, |i| i.bytes);
    assert_eq!(replay, 0);
    let refusal = budget(plan.host() - plan.arena_bytes() / 2).admit(&c).unwrap_err().to_string();
    assert!(refusal.contains("num_envs=") && !refusal.contains("wm_"), "{refusal}");
    let most = KNOBS.iter().find(|k| k.key == "num_envs").unwrap();
    let n = most.largest(&c, Place::Host, &budget(plan.host())).unwrap();
    assert!(n >= c.num_envs, "{n} environments");
}

#[test]
fn a_plan_that_does_not_fit_says_what_would() {
    let c = load(&["alg=pwm_5M", "recompute=none"]).unwrap();
    let need = Plan::new(&c, Place::Host).host();
    assert!(budget(need).admit(&c).is_ok());
    let refusal = budget(need - 1).admit(&c).unwrap_err().to_string();
    assert!(refusal.contains("replay") && refusal.contains("largest"), "{refusal}");
    // The change it names is followed.
    let (key, rest) = refusal.split_once("makes it fit: ").unwrap().1.split_once('=').unwrap();
    let value = rest.split(' ').next().unwrap();
    let changed = load(&["alg=pwm_5M".into(), "recompute=none".into(), format!("{key}={value}")]).unwrap();
    assert!(budget(need - 1).admit(&changed).is_ok(), "{key}={value}");
    assert!(budget(1 << 20).admit(&c).unwrap_err().to_string().contains("no single setting"));
}

#[test]
fn recompute_is_as_little_as_the_budget_asks_for() {
    let c = load(&["alg=pwm_48M"]).unwrap();
    let [none, all] = ["none", "all"]
        .map(|r| Plan::new(&load(&["alg=pwm_48M".into(), format!("recompute={r}")]).unwrap(), Place::Host));
    assert!(all.host() < none.host());
    let repeated = |p: &Plan| p.repeats().iter().sum::<usize>();
    let mut before = 0;
    for share in [100, 60, 20, 0] {
        let mem = all.host() + (none.host() - all.host()) * share / 100;
        let plan = budget(mem).admit(&c).unwrap();
        assert!(plan.host() <= mem && repeated(&plan) >= before, "{share} %");
        before = repeated(&plan);
        let levels = plan.levels.iter().filter(|l| l.taken > 0);
        assert!(levels.into_iter().all(|l| l.program == "wm_update" && l.extra < 0.5), "only the largest program");
    }
    assert!(before > 0 && budget(all.host() - 1).admit(&c).is_err());
}
