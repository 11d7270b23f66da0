#!/usr/bin/env python3
"""The runs of benches/robots.sh as one table, and their curves.

    benches/robots.py OUT TABLE.md [CURVES]

Plays the best and the last policy of every run in OUT on 100 fresh starts (`pwm eval --fresh`, with the program that
made the runs), and writes the table TABLE.md. CURVES is a prefix as benches/results/2026-12-01: every evaluation of a
run goes to CURVES_RUN.jsonl. What was played is kept in OUT, and played again only where the policy's file has changed.
"""

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import cartpole_upright

KEPT = ("step", "epoch", "eval/return_mean", "eval/return_std", "eval/length", "train/return", "train/length",
        "train/episodes", "loss/actor", "loss/critic", "loss/dynamics", "loss/reward", "lr/actor", "time/elapsed_s",
        "env/blown_up", "skipped_updates", "env/bounded_gradients")
ROBOTS = ("hopper", "cartpole", "cheetah", "anymal", "humanoid")
ALGS = {"shac_small": "SHAC", "pwm_small": "PWM"}
# Means over seeds of the published returns: TD-MPC2, PPO, SHAC, PWM.
PUBLISHED = {
    "hopper": (3555, 4742, 4794, 5644),
    "anymal": (11097, 12029, 15157, 13439),
    "humanoid": (7201, 7293, 8387, 8538),
}


def rows(run):
    with open(run / "metrics.jsonl", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def processor(out, name):
    """Minutes of processor time, and whether a sitting is missing that was ended by force."""
    words = (out / f"{name}.cpu").read_text(encoding="utf-8").split()
    spent = [float(words[i + 1]) for i, w in enumerate(words) if w == "cpu"]
    return sum(spent) / 60, words.count("start") > len(spent)


def played(out, run, which):
    """Return, spread and, of a Cartpole, upright ends of a policy on 100 fresh starts."""
    policy = run / "checkpoints" / f"{which}.safetensors"
    stamp = policy.stat().st_mtime_ns
    kept = out / f"{run.name}.{which}.json"
    if kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if found["stamp"] == stamp:
            return found
    pwm = out / "bin" / "pwm"
    said = subprocess.run([pwm, "eval", "--fresh", "--threads", "1", policy], check=True, stdout=subprocess.PIPE).stdout
    mean, spread = re.search(r"return (-?[\d.]+) ± ([\d.]+)", said.decode()).groups()
    found = {"stamp": stamp, "mean": float(mean), "spread": float(spread)}
    if run.name.startswith("cartpole"):
        found["upright"] = cartpole_upright.count(pwm, policy)[0]
    kept.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return found


def judged(out, run):
    evaluations = [r for r in rows(run) if "eval/return_mean" in r]
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    minutes, partly = processor(out, run.name)
    peak = max(evaluations, key=lambda r: r["eval/return_mean"])
    return {
        "steps": evaluations[-1]["step"], "minutes": minutes, "partly": partly,
        "allowed": int((out / f"{run.name}.minutes").read_text(encoding="utf-8")),
        "over": info.get("ended", {}).get("kind") == "epochs",
        "peak": peak["eval/return_mean"], "peak_step": peak["step"], "end": evaluations[-1]["eval/return_mean"],
        "best": played(out, run, "best"), "last": played(out, run, "latest"),
    }


def number(x):
    return f"{x:,.0f}".replace("-", "−")


def share(end, peak):
    """The last evaluation as a part of the peak; of a return below nothing there is none."""
    return f"{100 * end / peak:.0f} %" if peak > 0 else ""


def seed_row(name, j):
    robot, alg, seed = re.fullmatch(r"(.+)_((?:shac|pwm)_small)_s(\d+)", name).groups()
    fresh = [f"{number(j[k]['mean'])} ± {number(j[k]['spread'])}" for k in ("best", "last")]
    upright = [str(j[k].get("upright", "")) for k in ("best", "last")]
    spent = ("at least " if j["partly"] else "") + f"{j['minutes']:.1f} of {j['allowed']}"
    peak = f"{number(j['peak'])} at {j['peak_step'] / 1e6:.1f} M"
    return [robot, ALGS[alg], seed, f"{j['steps'] / 1e6:.1f} M", spent + ("" if j["over"] else ", goes on"), peak,
            *fresh, share(j["end"], j["peak"]), ", ".join(filter(None, upright))]


def means(found):
    """One row for each robot: mean of the best policies over seeds, beside what is published."""
    for robot in ROBOTS:
        cells = []
        for alg in ALGS:
            best = [j["best"]["mean"] for n, j in found.items() if n.startswith(f"{robot}_{alg}_s")]
            cells.append(f"{number(statistics.fmean(best))} ({len(best)})" if best else "")
        if any(cells):
            yield [robot, *cells, *(number(p) for p in PUBLISHED.get(robot, ()))]


def markdown(head, table):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(list(r) + [""] * (len(head) - len(r))) + " |" for r in table]


def main():
    out, target = Path(sys.argv[1]), Path(sys.argv[2])
    runs = [p.parent for p in out.glob("*_s*/metrics.jsonl")]
    runs.sort(key=lambda r: (ROBOTS.index(r.name.split("_")[0]), r.name))
    found = {r.name: judged(out, r) for r in runs}
    commit = (out / "commit").read_text(encoding="utf-8").strip()[:12]
    text = ["# The robots, with the small configurations", "",
            f"Commit {commit}, one thread each; minutes are of processor time.", "",
            "Mean over seeds (how many) of the best policy on 100 fresh starts, beside published means:", ""]
    published = [f"{name}, published" for name in ("TD-MPC2", "PPO", "SHAC", "PWM")]
    text += markdown(["robot", "SHAC", "PWM", *published], means(found))
    text += ["", "Every run; upright: of 100 Cartpoles, best and last policy.", ""]
    text += markdown(["robot", "algorithm", "seed", "steps", "minutes", "highest evaluation", "best, fresh starts",
                      "last, fresh starts", "last of highest evaluation", "upright"],
                     [seed_row(n, j) for n, j in found.items()])
    target.write_text("\n".join(text) + "\n", encoding="utf-8")
    print(*text, sep="\n")
    if len(sys.argv) > 3:
        for run in runs:
            kept = [{k: r[k] for k in KEPT if k in r} for r in rows(run) if "eval/return_mean" in r]
            lines = "".join(json.dumps(r) + "\n" for r in kept)
            Path(f"{sys.argv[3]}_{run.name}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
