#!/usr/bin/env bash
# Many tasks from beginning to end on a processor: data, models, policies, and what each earns.
#
#     benches/multitask.sh OUT [JOBS]
#
# Eight tasks on five robots, six of MT30 and two on dFlex's. Learners of single tasks play for MINUTES (3) of the processor
# each; their policies, early and late ones, and noise record EPISODES (60) of each kind. Of all of it one small model is
# learned of each kind of dynamics and seed (SEEDS, 0,1), and a policy for every task in each; beside them models of single
# tasks from the same data, with as many updates. Runs that are over are left alone, others go on. benches/multitask.py
# makes a table of OUT. The programs are those of target/release, kept in OUT/bin.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?the folder for the runs}
jobs=${2:-$(nproc)}
minutes=${MINUTES:-3} episodes=${EPISODES:-60} seeds=${SEEDS:-0,1}
updates=${MODEL_EPOCHS:-5000} policy=${POLICY_EPOCHS:-2000}
tasks=(walker-stand walker-walk cartpole-balance cartpole-swingup reacher-easy reacher-hard dflex-hopper-stand
    dflex-cartpole-balance)
if [ ! -x "$out/bin/pwm-train" ]; then
    mkdir -p "$out/bin"
    cp target/release/pwm target/release/pwm-train "$out/bin/"
fi
out=$(cd "$out" && pwd)
pwm=$out/bin/pwm train=$out/bin/pwm-train
all=$(IFS=, && echo "${tasks[*]}")

# Who records: policies of a third of the way and of the end, and two kinds of noise.
"$train" --multirun --jobs "$jobs" run_dir="$out/players" alg=pwm_small env="$all" threads=1 max_minutes=0 \
    num_envs=32 horizon=8 wm_iterations=4 eval_every=200 keep_every=400 save_every=2000 max_epochs=8000 \
    max_cpu_minutes="$minutes"
for task in "${tasks[@]}"; do
    [ -e "$out/data/$task.done" ] && continue
    mkdir -p "$out/data"
    rm -f "$out/data/${task}"_*.pt
    kept=$(ls "$out"/players/*"$task"*/checkpoints/epoch-*.safetensors 2> /dev/null | sort -V | head -2 | tail -1)
    best=$(ls "$out"/players/*"$task"*/checkpoints/best.safetensors | head -1)
    record() { "$pwm" collect --out "$out/data" --episodes "$episodes" "$@" env="$task"; }
    record seed=1
    record --policy smooth seed=2
    [ -z "$kept" ] || record --policy "$kept" --noise 0.3 seed=3
    record --policy "$best" --noise 0.3 seed=4
    record --policy "$best" seed=5
    touch "$out/data/$task.done"
done
[ -e "$out/all.idx" ] || "$pwm" data index "$out/data" --out "$out/all.idx"

settings=(alg=pwm_small_mt data="$out/all.idx" threads=1 max_minutes=0 save_every=2000)
for kind in mlp flow; do
    dynamics=(dynamics=$kind)
    # An observed latent has no groups whose sums a flow could keep.
    [ $kind = flow ] && dynamics+=(flow_integrator=heun flow_substeps=4 flow_head=linear)
    "$train" --multirun --jobs "$jobs" run_dir="$out/model_$kind" mode=pretrain "${settings[@]}" "${dynamics[@]}" seed="$seeds" \
        max_epochs="$updates" eval_every=500
    for seed in ${seeds//,/ }; do
        "$train" --multirun --jobs "$jobs" run_dir="$out/policies_${kind}_$seed" mode=policy "${settings[@]}" "${dynamics[@]}" \
            model="$(ls -d "$out/model_$kind"/*seed="$seed"* 2> /dev/null || ls -d "$out/model_$kind"/*s"$seed")" \
            env="$all" seed="$seed" max_epochs="$policy" eval_every=200
    done
done

# Single tasks: a model of each from its own data, and a policy in it.
for task in "${tasks[@]}"; do
    "$train" --multirun --jobs "$jobs" run_dir="$out/single_models/$task" mode=pretrain "${settings[@]}" tasks="[$task]" \
        seed="$seeds" max_epochs="$updates" eval_every=500
    for seed in ${seeds//,/ }; do
        "$train" run_dir="$out/single_policies/${task}_$seed" mode=policy "${settings[@]}" env="$task" seed="$seed" \
            model="$(ls -d "$out/single_models/$task"/*"$seed"* | head -1)" max_epochs="$policy" eval_every=200
    done
done
