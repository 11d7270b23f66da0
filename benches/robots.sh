#!/usr/bin/env bash
# Every robot with SHAC and PWM at the small sizes, one thread each.
#
#     benches/robots.sh OUT [JOBS]        ONLY='hopper|cartpole' and ALGS='shac_small' choose among them
#
# Builds the checkout, which must have no changes, and keeps the programs in OUT/bin, for when OUT is gone on with. Each
# robot and algorithm is a sweep, OUT/ROBOT_ALGORITHM: runs that are over are left alone, others go on. How long a run is stands in its task's
# file (`with_alg`). benches/robots.py makes a table of OUT.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?the folder for the runs}
jobs=${2:-$(nproc)}

if [ ! -x "$out/bin/pwm-train" ]; then
    [ -z "$(git status --porcelain)" ] || { echo "there are changes that are in no commit" >&2; exit 2; }
    cargo build --release
    mkdir -p "$out/bin"
    cp target/release/pwm target/release/pwm-train "$out/bin/"
fi
out=$(cd "$out" && pwd)

worst=0
# What decides most stands first: robot, algorithm, seeds.
while read -r robot alg seeds; do
    if [[ $robot =~ ^(${ONLY:-.*})$ && $alg =~ ^(${ALGS:-.*})$ ]]; then
        "$out/bin/pwm-train" --multirun --jobs "$jobs" run_dir="$out/${robot}_$alg" env="$robot" alg="$alg" seed="$seeds" \
            threads=1 max_minutes=0 || { worst=$? && echo "$robot $alg: status $worst" >&2; }
    fi
done <<'TABLE'
hopper shac_small 0,1,2
hopper pwm_small 0,1,2
cartpole shac_small 0,1,2
cartpole pwm_small 0,1,2
anymal shac_small 0,1,2
anymal pwm_small 0,1
humanoid shac_small 0,1
humanoid pwm_small 0
cheetah shac_small 0,1,2
cheetah pwm_small 0,1,2
TABLE
exit $worst
