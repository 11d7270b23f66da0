//! `pwm bench` prints what its readers expect, on the processor and on a GPU; figures of the stand-in mean nothing.

use crate::support::standin;
use serde_json::Value;
use std::process::Command;

/// The JSON lines of a measurement of a run of a second or two.
fn bench(what: &[&str], more: &[&str], environment: &[(&'static str, String)]) -> Vec<Value> {
    let small = [
        "units=[16]",
        "actor_units=[16]",
        "critic_units=[16]",
        "num_critics=2",
        "num_envs=8",
        "horizon=4",
        "wm_batch_size=12",
        "episode_length=16",
        "wm_buffer_size=400",
        "critic_iterations=1",
    ];
    let args = [what, &["--json", "--seconds", "0.001", "--threads", "1"], &small, more].concat();
    let out = Command::new(env!("CARGO_BIN_EXE_pwm"))
        .arg("bench")
        .args(&args)
        .envs(environment.iter().map(|(k, v)| (k, v)))
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// Keys that the PyTorch peer's lines have too, with numbers that can be compared.
fn comparable(rows: &[Value], device: &str) {
    assert!(!rows.is_empty());
    for r in rows {
        assert_eq!((&r["device"], &r["dtype"]), (&Value::from(device), &Value::from("fp32")), "{r}");
        let ms = ["ms_min", "ms", "ms_max"].map(|k| r[k].as_f64().unwrap());
        assert!(r["phase"].is_string() && ms.is_sorted() && r["n"].as_u64() >= Some(1), "{r}");
    }
}

#[test]
fn kernels_have_bytes_arithmetic_and_shares() {
    let gpu = standin::environment("");
    for (device, name, environment) in [("cpu", "cpu", &[][..]), ("cuda:0", "stand-in", &gpu)] {
        for (config, more, ops) in [
            (
                "pwm_small",
                "wm_iterations=1",
                &["linear", "linear_grad", "adam", "env_step", "replay_sample", "td_lambda"][..],
            ),
            ("shac_small", "gamma=0.99", &["env_step_adjoint", "linear_mish_layernorm", "update_stats"]),
        ] {
            let rows = bench(&["kernels", "--configs", config, "--device", device], &[more], environment);
            comparable(&rows, name);
            let is = |r: &Value, op: &str| r["phase"].as_str().unwrap().starts_with(op);
            for op in ops {
                assert!(rows.iter().any(|r| is(r, op)), "{op} of {config} on {device}: {rows:#?}");
            }
            for r in &rows {
                assert!(r["bytes"].as_f64() > Some(0.0) && r["calls"].as_u64() > Some(0), "{r}");
            }
            // Layers have arithmetic, and a share of what the device can do: of at least the processor it is known.
            for r in rows.iter().filter(|r| is(r, "linear")) {
                assert!(r["flops"].as_f64() > Some(0.0) && r["program"].is_string(), "{r}");
                assert!(
                    device != "cpu" || (r["of_arithmetic"].as_f64() > Some(0.0) && r["of_memory"].is_number()),
                    "{r}"
                );
            }
        }
    }
}

#[test]
fn phases_epochs_and_the_environment_on_both() {
    let gpu = standin::environment("");
    for (device, name, environment) in [("cpu", "cpu", &[][..]), ("cuda:0", "stand-in", &gpu)] {
        let on = ["--device", device];
        let phases = bench(&[&["phases", "--configs", "pwm_small"][..], &on].concat(), &[], environment);
        comparable(&phases, name);
        assert_eq!(phases.len(), 7);
        let epoch = bench(&[&["epoch", "--configs", "pwm_small"][..], &on].concat(), &["wm_iterations=1"], environment);
        comparable(&epoch, name);
        assert_eq!(epoch.last().unwrap()["phase"], "epoch");
        let env = bench(&[&["env", "--envs", "5", "--adjoint"][..], &on].concat(), &[], environment);
        comparable(&env, name);
        assert!(env.iter().all(|r| r["env_steps_per_s"].as_f64() > Some(0.0)), "{env:?}");
    }
}
