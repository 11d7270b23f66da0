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

# Seconds of processor time, of the system's included. Packages that tests alone need count on both sides.
spent() { # checkout, target folder
    cd "$1"
    export CARGO_TARGET_DIR=$2
    # With the smallest program, since the library is compiled anew for tests: their packages ask for more of others.
    cargo test "${all[@]}" --no-run --test budget >&2
    { time cargo test "${all[@]}" --no-run --lib --test '*' > "$tree/log" 2>&1 || { cat "$tree/log" && exit 1; } >&3; } 3>&2 2>&1 |
        awk '{ printf "%.0f\n", $1 + $2 }'
}
TIMEFORMAT='%U %S'

programs() { (cd "$1" && printf "%s\n" tests/*.rs tests/*/main.rs | wc -l); }

old=$(spent "$tree/base" "$tree/old")
new=$(spent "$PWD" "$tree/new")
{
    echo "Building all test programs, the library built before: \`benches/build_tests.sh $1\`,"
    echo "$(rustc --version), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)."
    echo
    echo "| commit | programs | seconds of processor time |"
    echo "|---|---|---|"
    echo "| $commit | $(programs "$tree/base") | $old |"
    echo "| $(git describe --always --dirty --abbrev=12) | $(programs .) | $new |"
    echo
    echo "$((100 * new / old)) %"
} | tee "benches/results/$(date -u +%F)_build_tests.md"
