#!/usr/bin/env python3
"""Planned and measured memory of shipped configurations, as a table.

    python3 benches/memory_planned.py target/release pwm_small pwm_5M ... [-- key=value ...]

Each runs for an epoch that learns, with one update of each kind, an evaluation and a checkpoint: nothing a run holds
comes later. The settings after `--` go to plan and run alike (`early_termination=false threads=2` for evaluations of
full length on two threads). Peak memory is what the kernel reports at the end. The fixed part, pages of the program and
its libraries, is subtracted on both sides: how many of them are there is the kernel's choice, and differs by a MiB from
run to run.
"""
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

SHORT = ["max_minutes=0", "wm_iterations=1", "wm_bootstrap_iterations=1", "replay_unfinished=true", "max_epochs=2",
         "eval_every=2", "save_every=2", "log_every=1"]
MIB = 1 << 20


def plan(folder, settings):
    out = subprocess.run([f"{folder}/pwm", "plan", "--json", *settings], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def peak(folder, settings):
    """Most resident bytes of a run, those of them that are pages of files, and whether it learned."""
    with tempfile.TemporaryDirectory() as run:
        child = subprocess.Popen([f"{folder}/pwm-train", *settings, f"run_dir={run}/run"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        said = []
        reader = threading.Thread(target=lambda: said.append(child.stderr.read().decode()))
        reader.start()
        pages, status = 0, None
        while status is None:
            try:
                with open(f"/proc/{child.pid}/status") as f:
                    # They only become more; a file that is mapped for the replay is shared.
                    held = next((int(line.split()[1]) for line in f if line.startswith("RssFile:")), 0)
                pages = max(pages, held * 1024)
            except OSError:
                pass
            time.sleep(0.005)
            pid, code, usage = os.wait4(child.pid, os.WNOHANG)
            status = code if pid else None
        reader.join()
        if status != 0:
            sys.exit(f"{' '.join(settings)}: {said[0]}")
        with open(f"{run}/run/metrics.jsonl") as f:
            learned = any("loss/actor" in line for line in f)
    return usage.ru_maxrss * 1024, pages, learned


def main():
    args = sys.argv[1:]
    more = []
    if "--" in args:
        more = args[args.index("--") + 1:]
        args = args[:args.index("--")]
    folder, *names = args
    print("| configuration | arena | peak, planned | of it code | peak, measured | of it code | measured less planned, without code | of what is planned |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in names:
        settings = [f"alg={name}", *SHORT, *more]
        p = plan(folder, settings)
        measured, pages, learned = peak(folder, settings)
        if not learned:
            sys.exit(f"{name}: no epoch learned")
        code = sum(line["host"] for line in p["lines"] if line["name"] == "code")
        planned = p["host"] - code
        over = measured - pages - planned
        mib = lambda b: f"{b / MIB:,.1f}"
        print(f"| `{name}` | {mib(p['arena'])} | {mib(p['host'])} | {mib(code)} | {mib(measured)} | {mib(pages)} "
              f"| {over / MIB:+.1f} | {100 * over / planned:+.1f} % |", flush=True)


if __name__ == "__main__":
    main()
