#!/usr/bin/env python3
"""Environment steps a second of every robot on one thread: forward, and forward with the adjoint, as a table.

    benches/robot_steps.py [TURNS]      after cargo build --release, on an idle machine; five turns take two minutes

Robots take turns, the median counts. The published simulator, dFlex, was measured for the Ant alone: 128 environments on
one core of a quiet machine of the same kind (docs/RESULTS.md).
"""
import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROBOTS = ["ant", "hopper", "cheetah", "cartpole", "humanoid", "anymal"]
DFLEX = {"ant": (5890, 1186)}


def bench(robot):
    """Rows of `pwm bench env`: 128 environments, forward and with adjoint."""
    command = [ROOT / "target/release/pwm", "bench", "env", "--threads", "1", "--envs", "128", "--seconds", "1", "--adjoint",
               "--device", "cpu", "--json", f"env={robot}"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def main():
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    load = open("/proc/loadavg", encoding="utf-8").read().split()[0]
    speed = {robot: {"env_step_128": [], "env_adjoint_128": []} for robot in ROBOTS}
    commit = "unknown"
    for _ in range(turns):
        for robot in ROBOTS:
            for row in bench(robot):
                speed[robot][row["phase"]].append(row["env_steps_per_s"])
                commit = row["commit"]
    cpu = next(line.split(": ")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if "model name" in line)
    print("# Environment steps a second, one thread, 128 environments\n")
    print(f"Commit {commit}, {cpu}, load {load} before; medians of {turns} turns. A step is what the task calls one: 16")
    print("substeps, of the Cartpole 4, of the Humanoid 48; rewards, observations and resets included.\n")
    print("| robot | forward | with adjoint | adjoint costs | dFlex: forward, with adjoint | ratios |")
    print("|---|---:|---:|---:|---|---|")
    for robot in ROBOTS:
        forward, back = (statistics.median(speed[robot][p]) for p in ("env_step_128", "env_adjoint_128"))
        theirs = "not measured |"
        if robot in DFLEX:
            a, b = DFLEX[robot]
            theirs = f"{a:,}, {b:,} | {forward / a:.0f}, {back / b:.0f}"
        print(f"| {robot} | {forward:,.0f} | {back:,.0f} | {forward / back:.1f} x a step | {theirs} |")


if __name__ == "__main__":
    main()
