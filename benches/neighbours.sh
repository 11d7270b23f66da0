#!/usr/bin/env bash
# How an epoch shares two cores with another process: alone, beside a busy process of equal priority, and beside one at
# nice 19, in turns; ratios go to benches/results/. On an idle computer: a neighbour that nobody asked for counts.
# Takes about two minutes; arguments go to cargo. Ends with 1 if a ratio is larger than it may be.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo bench --no-run --bench neighbours "$@"
# What has compiled it is out of the load after a while; who else is there stays.
for _ in {1..24}; do
    read -r load _ < /proc/loadavg
    idle=$(awk -v load="$load" 'BEGIN { print load < 0.3 ? "idle" : "NOT IDLE" }')
    [[ $idle == idle ]] && break
    sleep 10
done
out="benches/results/$(date -u +%F)_neighbours.md"
status=0
{
    echo "# An epoch of pwm_small on two threads, beside other processes on the same two cores"
    echo
    echo "Commit $(git describe --always --dirty --abbrev=12 2> /dev/null || echo unknown), $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -1)," \
        "$(nproc) cores, Linux $(uname -r), load $load before: $idle."
    echo
    taskset -c 0,1 cargo bench -q --bench neighbours "$@" || status=$?
} > "$out"
cat "$out"
exit $status
