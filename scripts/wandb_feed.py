#!/usr/bin/env python3
"""Feeds the metrics of a run to Weights & Biases, while it goes on or afterwards.

    python scripts/wandb_feed.py runs/ant_pwm_small_s0 --project pwm [--follow] [--dry-run]

Needs `pip install wandb`, except with --dry-run, which prints what would be sent. A run that was resumed or rolled back
rewrites the rows of the epochs it lived through again; such rows are sent once, as they were first.
"""

import argparse
import fcntl
import json
import pathlib
import sys
import time


def goes_on(run):
    """Whether a process works on the run: it holds a lock, which ends with it however it ends."""
    try:
        with (run / "run.lock").open("rb") as f:
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


def rows(path, follow, over):
    """Yields (step, values) of each whole line; with `follow` waits for more until the run is over."""
    # Bytes read so far, the last of them, and what they hold of a line that is not whole yet.
    at, last, buffered = 0, b"", b""
    while True:
        ended = over()
        if path.exists():
            with path.open("rb") as f:
                # A run that goes on from an earlier checkpoint cuts its file and writes on, maybe past where this was.
                f.seek(at - len(last))
                if f.read(len(last)) != last:
                    at, last, buffered = 0, b"", b""
                f.seek(at)
                new = f.read()
            at, last, buffered = at + len(new), (last + new)[-4096:], buffered + new
        *lines, buffered = buffered.split(b"\n")
        for line in lines:
            values = json.loads(line)
            step = values.pop("step")
            yield step, {k: v for k, v in values.items() if v is not None}
        if not follow or ended:
            return
        time.sleep(2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--project", default="pwm")
    parser.add_argument("--follow", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args()

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
    for step, values in rows(metrics, args.follow, lambda: not goes_on(args.run)):
        if step > last:
            log(values, step=step)
            last = step


if __name__ == "__main__":
    main()
