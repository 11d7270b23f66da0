#!/usr/bin/env python3
"""Planned and measured memory of shipped configurations, as a table.

    python3 benches/memory_planned.py target/release pwm_small pwm_5M ... [-- key=value ...]

Each runs for an epoch that learns, with one update of each kind, an evaluation and a checkpoint: nothing a run holds
comes later. The settings after `--` go to plan and run alike (`early_termination=false threads=2` for evaluations of
full length on two threads). Peak memory is what the kernel reports at the end.
"""
import json
import os
import subprocess
import sys
import tempfile

SHORT = ["max_minutes=0", "wm_iterations=1", "wm_bootstrap_iterations=1", "replay_unfinished=true", "max_epochs=2",
         "eval_every=2", "save_every=2", "log_every=1"]
MIB = 1 << 20


def plan(folder, settings):
    out = subprocess.run([f"{folder}/pwm", "plan", "--json", *settings], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def peak(folder, settings):
    """Most resident bytes of a run, and whether it learned."""
    with tempfile.TemporaryDirectory() as run:
        child = subprocess.Popen([f"{folder}/pwm-train", *settings, f"run_dir={run}/run"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        said = child.stderr.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
        if status != 0:
            sys.exit(f"{' '.join(settings)}: {said}")
        with open(f"{run}/run/metrics.jsonl") as f:
            learned = any("loss/actor" in line for line in f)
    return usage.ru_maxrss * 1024, learned


def main():
    args = sys.argv[1:]
    more = []
    if "--" in args:
        more = args[args.index("--") + 1:]
        args = args[:args.index("--")]
    folder, *names = args
    print("| configuration | arena | beside, planned | peak, planned | peak, measured | measured less planned | of the arena | of the peak |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in names:
        settings = [f"alg={name}", *SHORT, *more]
        p = plan(folder, settings)
        measured, learned = peak(folder, settings)
        if not learned:
            sys.exit(f"{name}: no epoch learned")
        over = measured - p["host"]
        mib = lambda b: f"{b / MIB:,.1f}"
        print(f"| `{name}` | {mib(p['arena'])} | {mib(p['fixed'])} | {mib(p['host'])} | {mib(measured)} | {mib(over)} "
              f"| {100 * over / p['arena']:+.1f} % | {100 * over / p['host']:+.1f} % |", flush=True)


if __name__ == "__main__":
    main()
