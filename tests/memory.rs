//! The plan is what is allocated, and no result depends on what stood in memory before.

#[path = "support/tiny.rs"]
mod tiny;

use pwm::algo::pwm::{Trainer, trainer::write};
use pwm::config::{Config, load};
use pwm::run::plan::{Place, Plan};
use pwm::run::state::fingerprint;
use pwm::tape::Layout;
use pwm::tape::plan::{ByType, ProgramLayout};
use pwm::tape::recompute::candidates;

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
        let e = t.evaluate(|_| {}).unwrap();
        (fingerprint(&t), e)
    };
    assert_eq!(train(false), train(true));
}

/// A run of `pwm-train` that may hold `bytes` of data, as the system counts them.
#[cfg(target_os = "linux")]
fn train_within(bytes: u64, dir: &std::path::Path) -> std::process::Output {
    let mut settings = tiny::settings(&["max_epochs=8", "eval_every=4", "replay_unfinished=true", "threads=1"]);
    settings.extend(["wm_buffer_size=2_000_000".into(), format!("run_dir={}", dir.display())]);
    let limit = format!("ulimit -d {} && exec \"$0\" \"$@\"", bytes / 1024);
    let program = env!("CARGO_BIN_EXE_pwm-train");
    std::process::Command::new("sh").args(["-c", &limit, program]).args(settings).output().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn the_system_need_not_stop_a_run_that_fits_and_one_that_does_not_says_so_itself() {
    let c = tiny::config(&["wm_buffer_size=2_000_000", "threads=1", "max_epochs=8", "eval_every=4"]);
    let need = Plan::new(&c, Place::Host).host();
    let dir = tempfile::tempdir().unwrap();

    let fits = train_within(need * 105 / 100, &dir.path().join("fits"));
    assert!(fits.status.success(), "{}", String::from_utf8_lossy(&fits.stderr));
    let said = String::from_utf8_lossy(&fits.stdout).into_owned();
    assert!(said.contains("the process's limit of data") && said.contains("margin"), "{said}");

    let half = train_within(need / 2, &dir.path().join("half"));
    let said = String::from_utf8_lossy(&half.stderr);
    assert_eq!(half.status.code(), Some(6), "{said}");
    assert!(said.contains("largest: replay") && said.contains("wm_buffer_size="), "{said}");
    assert!(!dir.path().join("half").exists());
}

#[test]
fn what_is_computed_twice_changes_memory_and_no_bit() {
    let settings: [&[&str]; 4] = [
        &[],
        &["latent=observed", "rollout=anchored", "obs_norm=true"],
        &["reward_head=two_hot", "rew_norm=none", "detach=false", "actor_lambda=0.9"],
        &["critic_shuffle=true", "units=[48,40,32]", "ret_norm=false"],
    ];
    for more in settings {
        let c = tiny::config(more);
        let train = |taken: &[usize]| {
            let mut t = Trainer::<f32>::repeating(&c, taken).unwrap();
            for _ in 0..8 {
                t.machine.poison();
                t.run_epoch().unwrap();
            }
            assert!(t.bootstrapped());
            (fingerprint(&t), t.machine.layout().activations.real)
        };
        let programs = write(&c).3;
        let of = |share: usize| programs.iter().map(|p| candidates(p).len() * share / 8).collect::<Vec<_>>();
        let (bits, most) = train(&of(0));
        let (all, least) = train(&of(8));
        assert!(bits == all && least < most, "{more:?}: {least} of {most} numbers");
        for share in [1, 2, 4, 7] {
            assert_eq!(train(&of(share)).0, bits, "{more:?}, {share} eighths");
        }
    }
}
