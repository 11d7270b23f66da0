#!/usr/bin/env python3
"""Runs the published SHAC on our Ant, its file unchanged: DiffRL's `algorithms/shac.py` on `pwm_rl.dflex`.

    git clone https://github.com/NVlabs/DiffRL
    pip install './python[torch]' tensorboardX pyyaml
    scripts/published_shac.py DiffRL --epochs 500 --out shac.csv

DiffRL's files are read from the folder; nothing of it is here. The settings are those of its `cfg/shac/ant.yaml`.
Ends with an error unless the mean return of the last hundred training episodes passed `--bar`.
"""

import argparse
import csv
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import yaml


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("diffrl", type=Path)
    parser.add_argument("--epochs", type=int, default=500, help="of 64 environments x 32 steps")
    parser.add_argument("--bar", type=float, default=3000.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="shac.csv")
    args = parser.parse_args()
    torch.set_num_threads(1)

    import pwm_rl.dflex

    pwm_rl.dflex.install()
    # What DiffRL's utilities import of old versions of NumPy.
    for name, new in [("float", float), ("int", int), ("bool", bool), ("Inf", np.inf)]:
        if not hasattr(np, name):
            setattr(np, name, new)
    sys.path.insert(0, str(args.diffrl.resolve()))
    from algorithms.shac import SHAC

    settings = yaml.safe_load((args.diffrl / "examples/cfg/shac/ant.yaml").read_text())["params"]
    with tempfile.TemporaryDirectory() as logs:
        settings["general"] = {
            "seed": args.seed,
            "device": "cpu",
            "render": False,
            "train": True,
            "logdir": logs,
        }
        settings["config"]["max_epochs"] = args.epochs
        settings["config"]["save_interval"] = 0
        rows, begun = [], time.process_time()
        learner = SHAC({"params": settings})
        add_scalar = learner.writer.add_scalar

        def hear(name, value, step, *rest):
            if name == "rewards/iter":
                rows.append((step, learner.step_count, float(value), time.process_time() - begun))
                with open(args.out, "w", newline="") as f:
                    csv.writer(f).writerows([("epoch", "steps", "mean_return_of_last_100", "cpu_seconds"), *rows])
            return add_scalar(name, value, step, *rest)

        learner.writer.add_scalar = hear
        # Its own tables and progress are long.
        out, sys.stdout = sys.stdout, open(os.devnull, "w")
        try:
            learner.train()
        finally:
            sys.stdout = out
    best = max(mean for _, _, mean, _ in rows)
    last = rows[-1]
    print(f"epoch {last[0]}: {last[1]} steps, {last[3]:.0f} s of the processor, return {last[2]:.0f}, best {best:.0f}")
    return 0 if best >= args.bar else 1


if __name__ == "__main__":
    sys.exit(main())
