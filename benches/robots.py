#!/usr/bin/env python3
"""The runs of benches/robots.sh as one table, and their curves.

    benches/robots.py OUT TABLE.md [CURVES]

Plays the best and the last policy of every run in OUT on 100 fresh starts (`pwm eval --fresh`, with the program that made
the runs), and writes TABLE.md. CURVES is a prefix such as benches/results/2026-12-01: every evaluation of a run goes to
CURVES_ROBOT_ALGORITHM_sSEED.jsonl. What was played is kept in OUT, and played again only where a policy's file has
changed.
"""

import csv
import json
import re
import statistics
import subprocess
import sys
import tempfile
from math import isfinite, nan, pi
from pathlib import Path

KEPT = ("step", "epoch", "eval/return_mean", "eval/return_std", "eval/length", "train/return", "train/length",
        "train/episodes", "loss/actor", "loss/critic", "loss/dynamics", "loss/reward", "lr/actor", "time/elapsed_s",
        "time/cpu_s", "env/blown_up", "skipped_updates", "env/bounded_gradients")
ROBOTS = ("hopper", "cartpole", "cheetah", "anymal", "humanoid")
ALGS = {"shac_small": "SHAC", "pwm_small": "PWM"}
PUBLISHED = ("TD-MPC2", "PPO", "SHAC", "PWM")
# Of an upright Cartpole: radians, and the last steps of an episode that all have to be within.
LEAN, STEPS = 0.1, 60


def levels(robot):
    """What is published for a robot: (lowest, highest) of each method, from the file of its task."""
    text = (Path(__file__).parent.parent / "configs" / "env" / f"{robot}.yaml").read_text(encoding="utf-8")
    found = re.findall(r'policy: "([^",]+), published", from: ([\d.]+)(?:, to: ([\d.]+))?', text)
    return {name: (float(low), float(high or low)) for name, low, high in found}


def rows(run):
    """Rows with an evaluation. The last line of a run that goes on may not be whole."""
    with open(run / "metrics.jsonl", encoding="utf-8") as f:
        whole = [json.loads(line) for line in f if line.endswith("}\n")]
    return [r for r in whole if isfinite(r.get("eval/return_mean") or nan)]


def upright(states):
    """Of how many episodes the pole stands in the last steps."""
    angles = {}
    with open(states, encoding="utf-8") as f:
        for row in csv.DictReader(f):
            angles.setdefault(row["episode"], []).append((float(row["q.pole"]) + pi) % (2 * pi) - pi)
    return sum(all(abs(a) < LEAN for a in x[-STEPS:]) for x in angles.values())


def played(out, run, which):
    """Return, spread and, of a Cartpole, upright ends of a policy on 100 fresh starts."""
    policy = run.path / "checkpoints" / f"{which}.safetensors"
    stamp = policy.stat().st_mtime_ns
    kept = out / f"{run.name}.{which}.json"
    if kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if found["stamp"] == stamp:
            return found
    with tempfile.TemporaryDirectory() as scratch:
        states = Path(scratch) / "states.csv"
        said = subprocess.run([out / "bin" / "pwm", "eval", "--fresh", "--threads", "1", "--states", states, policy],
                              check=True, stdout=subprocess.PIPE, text=True).stdout
        mean, spread = re.search(r"return (-?[\d.]+) ± ([\d.]+)", said).groups()
        found = {"stamp": stamp, "mean": float(mean), "spread": float(spread)}
        if run.robot == "cartpole":
            found["upright"] = upright(states)
    kept.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return found


class Run:
    """A member of a sweep."""

    def __init__(self, sweep, member):
        said = dict(o.split("=", 1) for o in member["overrides"])
        self.robot, self.alg, self.seed = said["env"], said["alg"], said["seed"]
        self.path = sweep / member["name"]
        self.name = f"{self.robot}_{self.alg}_s{self.seed}"

    def judge(self, out):
        self.rows = rows(self.path)
        self.info = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        self.over = (self.info.get("ended") or {}).get("kind") == "epochs"
        self.peak = max(self.rows, key=lambda r: r["eval/return_mean"])
        self.best, self.last = played(out, self, "best"), played(out, self, "latest")
        return self


def number(x):
    return f"{x:,.0f}".replace("-", "−")


def seed_row(r):
    fresh = [f"{number(j['mean'])} ± {number(j['spread'])}" for j in (r.best, r.last)]
    stood = ", ".join(str(j["upright"]) for j in (r.best, r.last) if "upright" in j)
    end, peak = r.rows[-1]["eval/return_mean"], r.peak["eval/return_mean"]
    share = f"{100 * end / peak:.0f} %" if peak > 0 else ""
    minutes = f"{(r.info.get('cpu_seconds') or nan) / 60:.1f}" + ("" if r.over else ", goes on")
    return [r.robot, ALGS[r.alg], r.seed, f"{r.rows[-1]['step'] / 1e6:.1f} M", minutes,
            f"{number(peak)} at {r.peak['step'] / 1e6:.1f} M", *fresh, share, stood]


def means(runs):
    """One row for each robot: mean of the best policies over seeds, beside what is published."""
    for robot in ROBOTS:
        cells = []
        for alg in ALGS:
            best = [r.best["mean"] for r in runs if (r.robot, r.alg) == (robot, alg)]
            cells.append(f"{number(statistics.fmean(best))} ({len(best)})" if best else "")
        if any(cells):
            known = levels(robot)
            ends = (sorted(set(known.get(name, ()))) for name in PUBLISHED)
            yield [robot, *cells, *("–".join(number(x) for x in e) for e in ends)]


def markdown(head, table):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(list(r) + [""] * (len(head) - len(r))) + " |" for r in table]


def main():
    out, target = Path(sys.argv[1]), Path(sys.argv[2])
    runs = []
    for sweep in sorted(out.glob("*/sweep.json")):
        members = json.loads(sweep.read_text(encoding="utf-8"))["members"]
        runs += [Run(sweep.parent, m) for m in members if (sweep.parent / m["name"] / "metrics.jsonl").exists()]
    runs = [r for r in runs if rows(r.path)]
    runs.sort(key=lambda r: (ROBOTS.index(r.robot), list(ALGS).index(r.alg), r.seed))
    runs = [r.judge(out) for r in runs]
    commits = ", ".join(sorted({r.info["commit"] for r in runs}))
    text = ["# The robots, with the small configurations", "",
            f"Commit {commits}, one thread each; minutes are of the processor's time.", "",
            "Mean over seeds (how many) of the best policy on 100 fresh starts, beside published means, or means of seeds:", ""]
    published = [f"{name}, published" for name in PUBLISHED]
    text += markdown(["robot", "SHAC", "PWM", *published], means(runs))
    text += ["", f"Every run; upright: of 100 Cartpoles, best and last policy, within {LEAN} rad over the last {STEPS} steps.", ""]
    text += markdown(["robot", "algorithm", "seed", "steps", "minutes", "highest evaluation", "best, fresh starts",
                      "last, fresh starts", "last of highest evaluation", "upright"], map(seed_row, runs))
    target.write_text("\n".join(text) + "\n", encoding="utf-8")
    print(*text, sep="\n")
    if len(sys.argv) > 3:
        for r in runs:
            lines = "".join(json.dumps({k: row[k] for k in KEPT if k in row}) + "\n" for row in r.rows)
            Path(f"{sys.argv[3]}_{r.name}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
