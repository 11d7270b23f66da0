#!/usr/bin/env bash
# Flow dynamics against the baseline, with the small configuration as it is shipped: seeds x kinds of dynamics, each in a
# run folder of its own under OUT. Its latent is the observation, which has no simplices to stay on: the velocity's head
# is the linear one, which the tangent one is without groups. A run that exists is continued.
# benches/compare_dynamics.py makes a table and a figure of the folders.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/compare_dynamics}
seeds=${SEEDS:-0 1 2}
# Epochs of 2,048 steps: 5 M steps.
epochs=${EPOCHS:-2450}
# With the published loss; DYNAMICS="heun2-consistency1:dynamics=flow,..,flow_consistency=1" adds the endpoint's error to it.
flow=dynamics=flow,flow_head=linear,flow_consistency=0
dynamics=${DYNAMICS:-mlp:dynamics=mlp heun2:$flow,flow_integrator=heun,flow_substeps=2 \
    heun4:$flow,flow_integrator=heun,flow_substeps=4 rk42:$flow,flow_integrator=rk4,flow_substeps=2}
cargo build --release
for seed in $seeds; do
    for kind in $dynamics; do
        dir="$out/${kind%%:*}_s$seed"
        settings=${kind#*:}
        if [ -d "$dir" ]; then
            target/release/pwm-train --resume "$dir"
        else
            # shellcheck disable=SC2086
            target/release/pwm-train alg=pwm_small seed="$seed" max_epochs="$epochs" max_minutes=0 threads=1 \
                run_dir="$dir" ${settings//,/ }
        fi
    done
done
