//! The plan is what is allocated, and no result depends on what stood in memory before.

#[path = "support/tiny.rs"]
mod tiny;

use pwm::algo::pwm::{Trainer, trainer::write};
use pwm::config::{Config, load};
use pwm::run::state::fingerprint;
use pwm::tape::Layout;
use pwm::tape::plan::{ByType, ProgramLayout};

fn planned(c: &Config) -> usize {
    let (vars, _, _, programs) = write(c);
    Layout::new(&vars, &programs).total().bytes(size_of::<f32>())
}

#[test]
fn shipped_configurations_take_the_planned_bytes() {
    // A shorter replay for the sake of the test's time; it is one variable among others.
    for alg in ["alg=pwm_small", "alg=pwm_5M"] {
        let c = load(&[alg, "wm_buffer_size=50_000", "threads=1"]).unwrap();
        let machine = Trainer::<f32>::new(&c).unwrap().machine;
        assert_eq!(planned(&c), machine.bytes(), "{alg}");
    }
}

#[test]
fn every_part_of_a_plan_is_accounted_for() {
    for alg in ["alg=pwm_small", "alg=pwm_5M", "alg=pwm_48M"] {
        let c = load(&[alg]).unwrap();
        let (vars, _, _, programs) = write(&c);
        let layout = Layout::new(&vars, &programs);
        let by_region: usize = layout.regions.values().map(|b| b.bytes(4)).sum();
        assert_eq!(by_region, layout.persistent.bytes(4), "{alg}");
        assert_eq!(by_region + layout.activations.bytes(4), layout.total().bytes(4), "{alg}");
        // The region is as large as the largest need of each type, which may be those of two programs.
        let most = |of: fn(&ByType) -> usize, p: fn(&ProgramLayout) -> ByType| {
            layout.programs.iter().map(|l| of(&p(l))).max().unwrap()
        };
        for of in [|b: &ByType| b.real, |b: &ByType| b.index] {
            assert_eq!(most(of, |p| p.activations), of(&layout.activations), "{alg}");
            assert!(of(&layout.activations) <= most(of, |p| p.unshared), "{alg}");
        }
    }
}

#[test]
fn results_do_not_depend_on_old_activations() {
    let train = |poison: bool| {
        let mut t = Trainer::<f32>::new(&tiny::config(&[])).unwrap();
        for _ in 0..12 {
            if poison {
                t.machine.poison();
            }
            t.run_epoch().unwrap();
        }
        if poison {
            t.machine.poison();
        }
        let e = t.evaluate(|_, _| {}).unwrap();
        (fingerprint(&t), e)
    };
    assert_eq!(train(false), train(true));
}
