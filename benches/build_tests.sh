#!/usr/bin/env bash
# What it takes to build all test programs, the library's own tests among them, once the library is there: processor time
# of this checkout and of a commit.
# Needs no idle machine, as it counts the time of the compiler alone: `benches/build_tests.sh COMMIT`. The table also lands
# in benches/results.
set -euo pipefail
shopt -s inherit_errexit nullglob
cd "$(dirname "$0")/.."
commit=$(git rev-parse --verify --short=12 "$1^{commit}")
all=(--release --quiet --features kernel-tests,browser-tests)
tree=$(mktemp -d)
trap 'git worktree remove --force "$tree/base"; rm -rf "$tree"' EXIT
git worktree add --quiet --detach "$tree/base" "$commit"

# Seconds of processor time, of the system's included: of the programs, and of the library's own tests, for which it is
# compiled once more. Packages that tests alone need count on both sides.
spent() { # checkout, target folder
    cd "$1"
    export CARGO_TARGET_DIR=$2
    # With the smallest program, since the library is compiled anew for tests: their packages ask for more of others.
    cargo test "${all[@]}" --no-run --test budget >&2
    built --test '*'
    built --lib
}
built() {
    { time cargo test "${all[@]}" --no-run "$@" > "$tree/log" 2>&1 || { cat "$tree/log" && exit 1; } >&3; } 3>&2 2>&1 |
        awk '{ printf "%.0f\n", $1 + $2 }'
}
TIMEFORMAT='%U %S'

programs() { (cd "$1" && printf "%s\n" tests/*.rs tests/*/main.rs | wc -l); }
lines() { (cd "$1" && git ls-files src | xargs cat | wc -l); }
row() { echo "| $1 | $2 | $3 | $4 | $5 | $(($4 + $5)) |"; }

mapfile -t old < <(spent "$tree/base" "$tree/old")
mapfile -t new < <(spent "$PWD" "$tree/new")
{
    echo "Building all tests, the library built before: \`benches/build_tests.sh $1\`,"
    echo "$(rustc --version), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1). Seconds of processor time."
    echo
    echo "| commit | lines of the library | programs | programs, s | the library's own tests, s | all, s |"
    echo "|---|---|---|---|---|---|"
    row "$commit" "$(lines "$tree/base")" "$(programs "$tree/base")" "${old[@]}"
    row "$(git describe --always --dirty --abbrev=12)" "$(lines .)" "$(programs .)" "${new[@]}"
    echo
    echo "Programs: $((100 * new[0] / old[0])) %; all: $((100 * (new[0] + new[1]) / (old[0] + old[1]))) %"
} | tee "benches/results/$(date -u +%F)_build_tests.md"
