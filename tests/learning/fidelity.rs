//! The learning signal itself: after a little training the model predicts rewards and values, and the true environment
//! pays what the policy gradient promises. A model that knows nothing is found out.

use pwm::algo::Runner;
use pwm::algo::pwm::Fidelity;
use pwm::config::load;
use pwm::io::checkpoint::Checkpoint;
use pwm::run::state;
use pwm::run::state::LoopState;

#[test]
fn the_gradient_of_a_trained_model_agrees_with_the_environment() {
    let config = load(&["max_epochs=1000", "seed=0"]).unwrap();
    let mut runner = Runner::<f32>::new(&config).unwrap();
    for _ in 0..100 {
        runner.run_epoch().unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latest.safetensors");
    state::save_latest(&path, &runner, &LoopState::default()).unwrap();

    let mut fidelity = Fidelity::<f32>::new(&config).unwrap();
    state::restore_networks(&mut fidelity.machine, &Checkpoint::load(&path).unwrap()).unwrap();
    let good = fidelity.measure(8, 8).unwrap();
    println!("{good:#?}");
    assert!(good.rewards.iter().all(|r| r.correlation > 0.8), "rewards");
    assert!(good.value.correlation > 0.8, "values");
    // How much is paid differs between processors, whose bits lead training elsewhere: from a third on.
    assert!(good.promised_slope > 0.0 && good.paid_slope > 0.2 * good.promised_slope, "slopes");

    // The same policy with a model whose weights are in the wrong order.
    let params = fidelity.nets().world.group.params;
    fidelity.machine.real_mut(params).reverse();
    let bad = fidelity.measure(8, 8).unwrap();
    println!("{bad:#?}");
    assert!(bad.rewards.iter().all(|r| r.correlation.abs() < 0.5), "rewards");
}
