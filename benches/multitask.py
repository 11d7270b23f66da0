#!/usr/bin/env python3
"""The table of benches/multitask.sh: what the policies of many-task models earn, beside those of single-task models.

    benches/multitask.py OUT TABLE.md

Each run's best policy plays 100 starts that nothing was chosen by; numbers are means over seeds of mean returns, scores are
shares of all that can be earned, in per cent.
"""
import json
import pathlib
import re
import subprocess
import sys

KINDS = {"mlp": "one model, MLP", "flow": "one model, flow (Heun, 4 substeps)"}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main():
    out, table = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    pwm = str(out / "bin/pwm")
    kept = out / "returns.json"
    known = json.loads(kept.read_text()) if kept.is_file() else {}

    def judged(path):
        best = path / "checkpoints/best.safetensors"
        key = str(path.relative_to(out))
        if key not in known and best.is_file():
            known[key] = float(re.search(r"return (-?[\d.]+) ±", run(pwm, "eval", str(best), "--fresh"))[1])
            kept.write_text(json.dumps(known, indent=1))
        return known.get(key)

    index = json.loads((out / "all.idx").read_text())
    tasks = [t["name"] for t in index["tasks"]]
    data = {t["name"]: t["episode_return"] for t in index["tasks"]}
    baseline = {}
    for task in tasks:
        said = run(pwm, "baseline", f"env={task}")
        baseline[task] = [float(x) for x in re.findall(r"return (-?[\d.]+) ±", said)]

    def of(paths):
        values = [v for v in map(judged, paths) if v is not None]
        return sum(values) / len(values) if values else None

    def policies(kind, task):
        return [p.parent for p in sorted(out.glob(f"policies_{kind}_*/*/config.yaml"))
                if re.search(rf"^env: {re.escape(task)}$", p.read_text(), re.M)]

    steps = {t["name"]: t["rows"] / t["episodes"] - 1 for t in index["tasks"]}

    def most(task):
        # A control step pays at most 1; a step of MT30's tasks is two of them.
        return steps[task] if task.startswith("dflex-") else 2 * steps[task]

    lines = ["| task | random | nothing | data, mean and best | single-task models | " + " | ".join(KINDS.values()) + " |",
             "|---|---:|---:|---:|---:|" + "---:|" * len(KINDS)]
    scores = {}
    for task in tasks:
        row = {"single": of(sorted(out.glob(f"single_policies/{task}_*"))), **{k: of(policies(k, task)) for k in KINDS}}
        for name, value in row.items():
            if value is not None:
                scores.setdefault(name, []).append(100 * value / most(task))
        shown = [("-" if v is None else f"{v:.0f}") for v in row.values()]
        (random, nothing), d = baseline[task], data[task]
        lines.append(f"| {task} | {random:.0f} | {nothing:.0f} | {d['mean']:.0f}, {d['max']:.0f} | " + " | ".join(shown) + " |")
    mean = {name: sum(x) / len(x) for name, x in scores.items() if len(x) == len(tasks)}
    shown = [f"{mean[n]:.1f}" if n in mean else "-" for n in ["single", *KINDS]]
    lines.append("| mean score | | | | " + " | ".join(shown) + " |")
    if "single" in mean:
        share = ["100 %"] + [f"{100 * mean[k] / mean['single']:.0f} %" if k in mean else "-" for k in KINDS]
        lines.append("| of the single-task models' | | | | " + " | ".join(share) + " |")
    table.write_text("\n".join(lines) + "\n")
    print(table.read_text())


main()
