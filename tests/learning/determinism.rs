//! The same seed gives the same bits, whatever the number of threads.

use crate::support::tiny;
use pwm::algo::Runner;
use pwm::run::state::fingerprint;

/// State and evaluation after twenty epochs.
fn train(more: &[&str]) -> (u64, Vec<u64>) {
    let mut t = Runner::<f32>::new(&tiny::config(more)).unwrap();
    let mut learned = 0;
    for _ in 0..20 {
        let r = t.run_epoch().unwrap();
        assert_eq!(r.skipped, [0; 3]);
        learned += u32::from(r.learned);
    }
    assert!(learned > 10, "the test trains");
    let e = t.evaluate(|_| {}).unwrap();
    (fingerprint(&t), e.returns().map(|r| r.to_bits()).collect())
}

#[test]
fn same_seed_same_bits() {
    let one = train(&["threads=1"]);
    assert_eq!(one, train(&["threads=1"]), "two runs");
    assert_eq!(one, train(&["threads=2"]), "two threads");
    assert_eq!(one, train(&["threads=5"]), "five threads");
    assert_ne!(one, train(&["threads=1", "seed=1"]), "another seed");
}

/// The other choices of the configuration file: shuffles, episodes first, normalised observations, two-hot rewards.
#[test]
fn same_bits_with_other_choices() {
    let other = [
        "replay_sampling=episode",
        "replay_unfinished=false",
        "critic_shuffle=true",
        "obs_norm=true",
        "rew_norm=none",
        "reward_head=two_hot",
        "bootstrap=reference",
    ];
    let on = |threads| train(&[&other[..], &[threads]].concat());
    assert_eq!(on("threads=1"), on("threads=2"));
}

/// As `pwm_small` has it.
#[test]
fn same_bits_with_observed_latents() {
    let on = |threads| train(&["latent=observed", "rollout=anchored", "obs_norm=true", threads]);
    assert_eq!(on("threads=1"), on("threads=2"));
}

/// Long reductions: weight gradients over thousands of rows must not be summed in an order that threads decide.
#[test]
fn same_bits_with_long_reductions() {
    let train = |threads| {
        let large = ["num_envs=128", "wm_batch_size=512", "units=[64]", "wm_iterations=1", "critic_iterations=1"];
        let mut t = Runner::<f32>::new(&tiny::config(&[&large[..], &[threads]].concat())).unwrap();
        for _ in 0..6 {
            t.run_epoch().unwrap();
        }
        fingerprint(&t)
    };
    assert_eq!(train("threads=1"), train("threads=2"));
}
