#!/usr/bin/env python3
"""Times the phases of an epoch with pwm and with PyTorch, side by side, in one session.

For every configuration and phase the two programs take turns (pwm, torch, pwm,
torch, ...) on the same number of threads, so that what the machine does
meanwhile hits both alike. Of all turns the median of their medians counts; of
PyTorch's modes the fastest counts, at each precision. Shapes come from
`pwm config show --json`.

Writes DIR/<date>_<cpu|gpu>_phases<what>.json (every turn, with the machine it ran on) and
the same as .md (a table with ratios: peer ms / pwm ms); <what> are the phases, unless they
are those measured by default, and the settings.

Usage: compare.py [--pwm PATH] [--python PATH] [--configs pwm_small,pwm_5M]
                  [--phases ...] [--modes eager] [--seconds 2] [--threads N]
                  [--device cpu|cuda:0] [--dtypes fp32,tf32,bf16]
                  [--turns 3] [--out DIR] [key=value ...]
"""
import argparse
import datetime
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PHASES = "gemm,mlp_block,critic_update,actor_rollout,wm_update"


GEMM = (" In bf16 the operands of the peer's `gemm` are rounded beforehand, and so is its result; pwm rounds the rows of "
        "its input in the time measured, and writes single precision.")


def lines(command):
    """The JSON objects that a command prints, one a line."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"failed with {done.returncode}: {' '.join(map(str, command))}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def shapes(pwm, configs, overrides):
    """What each configuration resolves to: name -> settings."""
    merged = {}
    for name in configs:
        text = subprocess.check_output([pwm, "config", "show", "--json", f"alg={name}", *overrides], text=True)
        merged.update(json.loads(text))
    for c in merged.values():
        # The peer has no setting for dynamics: an integrator makes them a flow.
        if c["dynamics"] == "flow":
            c.update(integrator=c["flow_integrator"], substeps=c["flow_substeps"], head=c["flow_head"])
    return merged


def machine(threads, device):
    if device != "cpu":
        what = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", "-i", device.split(":")[1]]
        try:
            name, driver = subprocess.check_output(what, text=True).strip().split(", ")
        except (OSError, subprocess.CalledProcessError, ValueError):
            name, driver = device, "unknown"
        return {"gpu": name, "driver": driver}
    model = platform.processor()
    try:
        with open("/proc/cpuinfo") as f:
            model = next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"cpu": model, "cores": os.cpu_count(), "threads": threads, "load_before": round(os.getloadavg()[0], 2)}


def measure(a, configs, phases, directory, rows):
    """Adds every turn of both to `rows`: what they print, and the number of the turn."""
    subprocess.run([a.python, "-c", "import torch"], check=True)  # before the first turn of pwm
    file = Path(directory) / "shapes.json"
    file.write_text(json.dumps(shapes(a.pwm, configs, a.overrides)))
    common = ["--seconds", str(a.seconds), "--threads", str(a.threads)]
    for config in configs:
        for phase in phases:
            for dtype in a.dtypes.split(","):
                what = ["--configs", config, "--phases", phase, *common]
                # Single precision is what there is without being asked for.
                precision = [] if dtype == "fp32" else [f"precision={dtype}"]
                ours = [a.pwm, "bench", "phases", "--json", "--device", a.device, *what, *precision, *a.overrides]
                theirs = [a.python, HERE / "torch_phases.py", "--device", a.device, "--modes", a.modes,
                          "--dtypes", dtype, "--shapes", file, *what]
                for turn in range(a.turns):
                    for command in (ours, theirs):
                        for row in lines(command):
                            rows.append({**row, "dtype": dtype, "turn": turn})
                            print(json.dumps(rows[-1]), flush=True)


def summary(rows, configs, phases, dtypes):
    """For each configuration, phase and precision: pwm's time, the peer's in its fastest mode, their ratio."""
    table = []
    for config, phase, dtype in itertools.product(configs, phases, dtypes):
        times = {}
        for row in rows:
            if (row["config"], row["phase"], row["dtype"]) == (config, phase, dtype) and "ms" in row:
                times.setdefault((row["peer"], row["mode"]), []).append(row["ms"])
        medians = {key: statistics.median(ms) for key, ms in times.items()}
        ours = [(ms, key) for key, ms in medians.items() if key[0].startswith("pwm-")]
        theirs = [(ms, key) for key, ms in medians.items() if not key[0].startswith("pwm-")]
        if ours and theirs:
            (mine, _), (best, (peer, mode)) = min(ours), min(theirs)
            table.append({"config": config, "phase": phase, "dtype": dtype, "pwm_ms": mine, "peer_ms": best,
                          "peer": peer, "mode": mode, "ratio": round(best / mine, 3)})
    return table


def markdown(report):
    m = report["machine"]
    settings = f"; settings {' '.join(report['overrides'])}" if report["overrides"] else ""
    if "gpu" in m:
        title, where = "Phases on a GPU", f"{m['gpu']}, driver {m['driver']}"
    else:
        title = "Phases on a processor"
        where = f"{m['cpu']}, {m['threads']} threads, load {m['load_before']} before"
    commits = sorted({r["commit"] for r in report["rows"] if "commit" in r}) or ["unknown"]
    out = [f"# {title}, {report['date']}", "",
           f"Commit {', '.join(commits)}. {where}; {report['turns']} turns of {report['seconds']:g} s each, medians{settings}. "
           "A ratio above 1 means that pwm is faster."
           + (GEMM if any((r["phase"], r["dtype"]) == ("gemm", "bf16") for r in report["summary"]) else ""),
           "",
           "| configuration | phase | precision | pwm ms | peer ms | peer | ratio |", "|---|---|---|---:|---:|---|---:|"]
    for r in report["summary"]:
        out.append(f"| {r['config']} | {r['phase']} | {r['dtype']} | {r['pwm_ms']:.4g} | {r['peer_ms']:.4g} "
                   f"| {r['peer']} {r['mode']} | {r['ratio']:.2f} |")
    return "\n".join(out) + "\n"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--pwm", default=str(ROOT / "target" / "release" / "pwm"))
    ap.add_argument("--python", default=sys.executable, help="the interpreter that has PyTorch")
    ap.add_argument("--configs", default="pwm_small,pwm_5M")
    ap.add_argument("--phases", default=PHASES)
    ap.add_argument("--device", default="cpu", help="cpu or cuda:N")
    ap.add_argument("--modes", default="eager", help="PyTorch's: eager, compile, graph; the fastest counts")
    ap.add_argument("--dtypes", default="fp32", help="fp32,tf32,bf16: what both multiply in, on a GPU")
    ap.add_argument("--seconds", type=float, default=2.0, help="time spent on each measurement")
    ap.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    ap.add_argument("--turns", type=int, default=3)
    ap.add_argument("--out", default=str(ROOT / "benches" / "results"))
    ap.add_argument("overrides", nargs="*", metavar="key=value", help="settings for all configurations")
    a = ap.parse_intermixed_args()
    configs, phases = a.configs.split(","), a.phases.split(",")
    report = {"date": datetime.date.today().isoformat(), "machine": machine(a.threads, a.device), "turns": a.turns,
              "seconds": a.seconds, "overrides": a.overrides}
    rows = []
    try:
        with tempfile.TemporaryDirectory() as directory:
            measure(a, configs, phases, directory, rows)
    finally:  # a turn that fails does not take the others with it
        write(a, report, rows)


def write(a, report, rows):
    configs, phases = a.configs.split(","), a.phases.split(",")
    report.update(summary=summary(rows, configs, phases, a.dtypes.split(",")), rows=rows)
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)
    what = [] if set(phases) == set(PHASES.split(",")) else phases
    of = "".join("_" + re.sub(r"[^\w]+", "", word) for word in [*what, *a.overrides])
    stem = f"{report['date']}_{'cpu' if a.device == 'cpu' else 'gpu'}_phases{of}"
    (out / f"{stem}.json").write_text(json.dumps(report, indent=1) + "\n")
    (out / f"{stem}.md").write_text(markdown(report))
    print(f"\n{markdown(report)}\nwrote {out / stem}.json and .md")


if __name__ == "__main__":
    main()
