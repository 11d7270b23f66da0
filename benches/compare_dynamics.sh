#!/usr/bin/env bash
# Flow dynamics against the baseline, with the small configuration and encoded latents: seeds x kinds of dynamics, each in
# a run folder of its own under OUT. metrics.jsonl of each has the return (eval/return_mean), the model's errors
# (probe/error_one_step, probe/error_horizon), environment steps and seconds, so that runs can be compared at equal steps
# and at equal time. A run that exists is continued.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/compare_dynamics}
seeds=${SEEDS:-0 1 2}
# Epochs of 2,048 steps: 5 M steps.
epochs=${EPOCHS:-2450}
dynamics=${DYNAMICS:-dynamics=mlp \
    dynamics=flow,flow_integrator=heun,flow_substeps=2 \
    dynamics=flow,flow_integrator=heun,flow_substeps=4 \
    dynamics=flow,flow_integrator=rk4,flow_substeps=2}
cargo build --release
for seed in $seeds; do
    for kind in $dynamics; do
        dir="$out/${kind//[=,]/_}_s$seed"
        if [ -d "$dir" ]; then
            target/release/pwm-train --resume "$dir"
        else
            target/release/pwm-train alg=pwm_small latent=encoded obs_norm=false seed="$seed" max_epochs="$epochs" \
                max_minutes=0 run_dir="$dir" ${kind//,/ }
        fi
    done
done
