#!/usr/bin/env python3
"""Environment steps a second through Python beside the program's own, and with the gradient through PyTorch.

    benches/python_steps.py [TURNS]     with a Python that has pwm_rl and torch, after cargo build --release, on an idle machine

One thread each. The program and Python take turns, medians count. dFlex's Ant makes 1,186 steps a second and core with
their gradient (docs/RESULTS.md).
"""
import json
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np
import torch

import pwm_rl
from pwm_rl.torch import DiffEnv

ROOT = pathlib.Path(__file__).resolve().parent.parent
DFLEX = 1186
SECONDS = 1.0


def native(envs, adjoint):
    command = [ROOT / "target/release/pwm", "bench", "env", "--threads", "1", "--envs", str(envs), "--seconds", str(SECONDS),
               "--device", "cpu", "--json", "env=ant"] + ["--adjoint"] * adjoint
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    phase = "env_adjoint" if adjoint else "env_step"
    return next(r["env_steps_per_s"] for r in map(json.loads, out.splitlines()) if r["phase"].startswith(phase))


def rate(work, steps):
    """Steps a second of something that makes so many of them."""
    for _ in range(3):
        work()
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS:
        work()
        done += steps
    return done / (time.perf_counter() - begun)


def vector(n, copy):
    envs = pwm_rl.make_vec("ant", n, seed=0, autoreset_mode="SameStep", copy=copy)
    envs.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (16, n, 8)).astype(np.float32)

    def work():
        for action in actions:
            envs.step(action)

    return rate(work, 16 * n)


def torch_gradient(n):
    env = DiffEnv("ant", n, seed=0)
    env.reset()
    actions = (2 * torch.rand(16, n, 8) - 1).requires_grad_()

    def work():
        env.detach()
        total = 0.0
        for action in actions:
            total = total + env.step(action)[1].sum()
        actions.grad = None
        total.backward()

    return rate(work, 16 * n)


def main():
    torch.set_num_threads(1)
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    load = open("/proc/loadavg", encoding="utf-8").read().split()[0]
    cases = [(f"steps, {n} environments", lambda n=n: native(n, False), lambda n=n: vector(n, True)) for n in (128, 1024)]
    cases.append(("the same, 128, views", lambda: native(128, False), lambda: vector(128, False)))
    cases.append(("with gradient, 128", lambda: native(128, True), lambda: torch_gradient(128)))
    cpu = next(line.split(": ")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if "model name" in line)
    commit = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], cwd=ROOT,
                            capture_output=True, text=True, check=False).stdout.strip()
    print("# Ant steps a second through Python, one thread\n")
    print(f"Commit {commit}, {cpu}, Python {sys.version.split()[0]}, PyTorch {torch.__version__}, load {load} before; medians of")
    print(f"{turns} turns. Resets and copies included.\n")
    print("| what | the program | Python | ratio | over dFlex |")
    print("|---|---:|---:|---:|---:|")
    for name, own, theirs in cases:
        pairs = [(own(), theirs()) for _ in range(turns)]
        a, b = (statistics.median(p[i] for p in pairs) for i in (0, 1))
        ratio = statistics.median(y / x for x, y in pairs)
        over = f"{b / DFLEX:.0f} x" if "gradient" in name else ""
        print(f"| {name} | {a:,.0f} | {b:,.0f} | {ratio:.2f} | {over} |")


if __name__ == "__main__":
    main()
