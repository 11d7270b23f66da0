#!/usr/bin/env python3
"""Kinds of dynamics compared: at equal environment steps, at equal time, by the error of their models.

    benches/compare_dynamics.py OUT.md OUT.svg RUNS [KIND=MS ...]

RUNS holds the folders KIND_sSEED that compare_dynamics.sh makes, or is the file OUT.jsonl of an earlier comparison: beside
the table every evaluation that went into it is kept there. MS is what an epoch of that kind takes on one idle thread
(`pwm bench epoch threads=1`): runs that shared their cores with others are compared by it, and not by their own clocks.
Every number is the mean over seeds, with the half-width of its 95 % interval (Student's t over seeds).
"""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from curves import GAP, LEFT, PANEL_H, PANEL_W, TOP, longest, page, panel, save

STEPS = [1e6, 2e6, 3e6, 4e6, 5e6]
# 97.5 % points of Student's t by degrees of freedom.
T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]


def evaluations(runs):
    """Rows with an evaluation, by run."""
    if runs.is_file():
        rows = [json.loads(line) for line in open(runs, encoding="utf-8")]
        return {run: [r for r in rows if r["run"] == run] for run in sorted({r["run"] for r in rows})}
    found = {}
    for path in sorted(runs.glob("*_s*/metrics.jsonl")):
        rows = [json.loads(line) for line in open(path, encoding="utf-8")]
        run = path.parent.name
        found[run] = [{"run": run, **r} for r in rows if "eval/return_mean" in r]
    return found


def mean(values):
    values = list(values)
    if not values:
        return "-"
    n, middle = len(values), statistics.fmean(values)
    digits = 0 if max(values) >= 10 else 3
    if n == 1:
        return f"{middle:,.{digits}f}"
    half = T[n - 2] * statistics.stdev(values) / n**0.5
    return f"{middle:,.{digits}f} ± {half:,.{digits}f}"


def at(rows, key, limit, what):
    """The last evaluation at which `key` is at most `limit`; none if the run did not get there."""
    if rows[-1][key] < 0.97 * limit:
        return None
    return [r for r in rows if r[key] <= 1.01 * limit][-1][what]


def main():
    table, figure, runs, *costs = sys.argv[1:]
    costs = {k: float(v) for k, v in (c.split("=") for c in costs)}
    kinds = defaultdict(list)
    found = evaluations(Path(runs))
    stored = "".join(json.dumps(r, separators=(",", ":")) + "\n" for rows in found.values() for r in rows)
    Path(table).with_suffix(".jsonl").write_text(stored, encoding="utf-8")
    for run, rows in found.items():
        kind = run.rsplit("_s", 1)[0]
        for r in rows:
            r["minutes"] = r["epoch"] * costs[kind] / 60e3 if kind in costs else r["time/elapsed_s"] / 60
        kinds[kind].append(rows)
    order = sorted(kinds, key=lambda k: costs.get(k, 0.0))

    commits = {json.loads(p.read_text(encoding="utf-8"))["commit"] for p in Path(runs).glob("*_s*/run.json")}
    out = [f"Trained by commit {', '.join(sorted(commits))}.", ""] if commits else []
    out.append("| dynamics | seeds | an epoch, ms | " + " | ".join(f"return at {s / 1e6:.0f} M steps" for s in STEPS) + " |")
    out.append("|---" * (3 + len(STEPS)) + "|")
    for k in order:
        cells = [mean(x for rows in kinds[k] if (x := at(rows, "step", s, "eval/return_mean")) is not None) for s in STEPS]
        out.append(f"| {k} | {len(kinds[k])} | {costs.get(k, float('nan')):.0f} | " + " | ".join(cells) + " |")
    # Half the time of the fastest kind, and the times at which kinds end.
    ends = sorted({round(max(rows[-1]["minutes"] for rows in kinds[k]), 1) for k in order})
    times = [ends[0] / 2, *ends]
    out += ["", "| dynamics | " + " | ".join(f"return after {t:.1f} min" for t in times) + " | best | error, 1 step | error, horizon |"]
    out.append("|---" * (4 + len(times)) + "|")
    for k in order:
        cells = [mean(x for rows in kinds[k] if (x := at(rows, "minutes", t, "eval/return_mean")) is not None) for t in times]
        cells.append(mean(max(r["eval/return_mean"] for r in rows) for rows in kinds[k]))
        cells += [mean(rows[-1][p] for rows in kinds[k]) for p in ("probe/error_one_step", "probe/error_horizon")]
        out.append(f"| {k} | " + " | ".join(cells) + " |")
    text = "\n".join(out) + "\n"
    print(text)
    Path(table).write_text(text, encoding="utf-8")
    probes = ("probe/error_one_step", "probe/error_horizon")
    curve = lambda rows: [[r["step"], 60 * r["minutes"], r["eval/return_mean"], *map(r.get, probes)] for r in rows]
    groups = [(k, [curve(rows) for rows in kinds[k]]) for k in order]
    out = page(groups, 2)
    below, right, steps = TOP + PANEL_H + GAP, LEFT + PANEL_W + GAP, longest(groups, 0, 1e6)
    top = max(p[2] for _, curves in groups for c in curves for p in c) * 1.05
    million = "million environment steps"
    panel(out, (LEFT, TOP), groups, (0, 1e6), (2, 1), steps, top, million, "return")
    panel(out, (right, TOP), groups, (1, 60), (2, 1), longest(groups, 1, 60), top, "minutes on one idle core", "return")
    for x, column, title in ((LEFT, 3, "model error, 1 step"), (right, 4, "model error, 16 steps open loop")):
        # Before anything is learned errors are large; what they come to is what is compared.
        late = [p[column] for _, curves in groups for c in curves for p in c[len(c) // 5:] if p[column] is not None]
        panel(out, (x, below), groups, (0, 1e6), (column, 1), steps, max(late) * 1.05, million, title)
    save(figure, out)


main()
