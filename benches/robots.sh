#!/usr/bin/env bash
# Every robot with SHAC and PWM at the small sizes: the runs behind the table of docs/RESULTS.md, one thread each.
#
#     benches/robots.sh OUT [SIDE_BY_SIDE]        ONLY='hopper|cartpole' SEEDS='0 1 2' choose among the runs
#
# Builds the checkout, which must have no changes, and keeps the programs in OUT/bin, for when OUT is gone on with. Run
# folders are OUT/ROBOT_ALGORITHM_sSEED; NAME.log is what a run says, NAME.cpu has for every sitting the words `start`
# and `cpu SECONDS`: the minutes of the table are processor time. Runs that are over are left alone, others go on. They
# stand in the order of what they decide. benches/robots.py makes a table of OUT.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?the folder for the runs}
side_by_side=${2:-$(nproc)}

if [ ! -x "$out/bin/pwm-train" ]; then
    [ -z "$(git status --porcelain)" ] || { echo "there are changes that are in no commit" >&2; exit 2; }
    cargo build --release
    mkdir -p "$out/bin"
    cp target/release/pwm "$out/bin/"
    cp target/release/pwm-train "$out/bin/"
    git rev-parse HEAD > "$out/commit"
fi
out=$(cd "$out" && pwd)

# Robot, algorithm, minutes allowed, seeds. How long a run is stands in configs/env under `with_alg`.
runs() {
    cat <<'TABLE'
hopper shac_small 15 0 1 2
hopper pwm_small 15 0 1 2
cartpole shac_small 15 0 1 2
cartpole pwm_small 15 0 1 2
anymal shac_small 40 0 1 2
anymal pwm_small 60 0 1 2
humanoid shac_small 90 0 1 2
humanoid pwm_small 120 0
cheetah shac_small 15 0 1 2
cheetah pwm_small 15 0 1 2
TABLE
}

# One run: begun, or gone on with, or left alone.
one() {
    local robot=$1 alg=$2 minutes=$3 seed=$4
    local name=${robot}_${alg}_s$seed
    if grep -q '"kind": "epochs"' "$OUT/$name/run.json" 2> /dev/null; then
        return 0
    fi
    echo "$minutes" > "$OUT/$name.minutes"
    echo start >> "$OUT/$name.cpu"
    TIMEFORMAT='cpu %U'
    { time "$OUT/bin/pwm-train" env="$robot" alg="$alg" seed="$seed" threads=1 max_minutes=0 run_dir="$OUT/$name" \
        --ui plain >> "$OUT/$name.log" 2>&1; } 2>> "$OUT/$name.cpu" || echo "$name: status $?" >&2
    echo "$name: $(tail -1 "$OUT/$name.cpu") of $((60 * minutes)) s"
}
export -f one
export OUT=$out

runs | grep -E "${ONLY:-.}" | while read -r robot alg minutes seeds; do
    for seed in $seeds; do
        [[ " ${SEEDS:-$seeds} " != *" $seed "* ]] || echo "$robot $alg $minutes $seed"
    done
done | xargs -r -P "$side_by_side" -L 1 bash -c 'one "$@"' _
