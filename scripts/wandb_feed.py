#!/usr/bin/env python3
"""Feeds the metrics of a run to Weights & Biases, while it goes on or afterwards.

    python scripts/wandb_feed.py runs/ant_pwm_small_s0 --project pwm [--follow] [--dry-run]

Needs `pip install wandb`, except with --dry-run, which prints what would be sent. A run that was resumed or rolled back
rewrites the rows of the epochs it lived through again; such rows are sent once, as they were first.
"""

import argparse
import json
import pathlib
import sys
import time


def rows(path, follow, finished):
    """Yields (step, values) of each whole line; with `follow` waits for more until the run is over."""
    at, buffered = 0, b""
    while True:
        over = finished()
        size = path.stat().st_size if path.exists() else 0
        if size < at:
            at, buffered = 0, b""
        if size > at:
            with path.open("rb") as f:
                f.seek(at)
                buffered += f.read()
                at = f.tell()
        *lines, buffered = buffered.split(b"\n")
        for line in lines:
            values = json.loads(line)
            step = values.pop("step")
            yield step, {k: v for k, v in values.items() if v is not None}
        if not follow or over:
            return
        time.sleep(2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--project", default="pwm")
    parser.add_argument("--follow", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args()

    def finished():
        info = args.run / "run.json"
        return info.exists() and json.loads(info.read_text()).get("finished") is not None

    metrics = args.run / "metrics.jsonl"
    if not metrics.exists():
        sys.exit(f"{metrics}: no such file; give the folder of a run")
    if args.dry_run:
        log = lambda values, step: print(step, json.dumps(values))
    else:
        import wandb

        config = dict(line.split(": ", 1) for line in (args.run / "config.yaml").read_text().splitlines() if ": " in line)
        log = wandb.init(project=args.project, name=args.run.name, id=args.run.name, resume="allow", config=config).log
    last = -1
    for step, values in rows(metrics, args.follow, finished):
        # The evaluation at the end has a row of its own at the last step.
        if step >= last:
            log(values, step=step)
            last = step


if __name__ == "__main__":
    main()
