#!/usr/bin/env python3
"""Resident memory of a long run: samples a pwm-train process beside the epochs it reports.

    python3 benches/memory_series.py OUT.csv OUT.svg target/release/pwm-train max_epochs=20000 ...

Needs /proc. The run must have log_every=1 .. 100, so that its metrics say which epoch it is in.
"""
import os
import subprocess
import sys
import tempfile
import time


def status(pid, key):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(key))


def epoch_of(path):
    """The epoch of the last whole row, without reading the rows before it."""
    try:
        with open(path, "rb") as f:
            f.seek(max(0, os.path.getsize(path) - 4096))
            rows = f.read().split(b"\n")[:-1]
        return int(rows[-1].split(b'"epoch":')[1].split(b",")[0].split(b"}")[0])
    except (OSError, IndexError, ValueError):
        return None


def run(command):
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        metrics = os.path.join(folder, "run", "metrics.jsonl")
        child = subprocess.Popen(command + [f"run_dir={folder}/run"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while child.poll() is None:
            epoch = epoch_of(metrics)
            if epoch is not None and (not samples or epoch > samples[-1][0]):
                try:
                    samples.append((epoch, status(child.pid, "VmRSS:"), status(child.pid, "VmHWM:")))
                except (OSError, StopIteration):
                    break
            time.sleep(0.1)
        if child.wait() != 0:
            sys.exit(f"the run ended with status {child.returncode}")
    return samples


def svg(samples, title):
    left, top, width, height = 70, 50, 620, 260
    last, high = samples[-1][0], 1.25 * max(s[1] for s in samples) / 1024
    x = lambda e: left + width * e / last
    y = lambda mib: top + height * (1 - mib / high)
    points = " ".join(f"{x(e):.1f},{y(rss / 1024):.1f}" for e, rss, _ in samples)
    text = lambda px, py, s, how="": f'<text x="{px:.0f}" y="{py:.0f}" {how}>{s}</text>'
    ticks = [high * i / 5 for i in range(6)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="370" font-family="sans-serif" font-size="12">',
        '<rect width="720" height="370" fill="white"/>',
        text(left, 24, title, 'font-size="15"'),
        *(f'<line x1="{left}" x2="{left + width}" y1="{y(t):.1f}" y2="{y(t):.1f}" stroke="#ddd"/>' for t in ticks),
        *(text(left - 8, y(t) + 4, f"{t:.0f}", 'text-anchor="end"') for t in ticks),
        *(text(x(last * i / 4), top + height + 20, f"{last * i // 4}", 'text-anchor="middle"') for i in range(5)),
        text(left + width / 2, top + height + 42, "epoch", 'text-anchor="middle"'),
        text(left, top - 8, "resident memory, MiB"),
        f'<polyline points="{points}" fill="none" stroke="#1f77b4" stroke-width="2"/>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main():
    out_csv, out_svg, *command = sys.argv[1:]
    samples = run(command)
    with open(out_csv, "w") as f:
        f.write("epoch,rss_kib,peak_rss_kib\n")
        f.writelines(f"{e},{rss},{peak}\n" for e, rss, peak in samples)
    early = next(s for s in samples if s[0] >= 100)
    grown = samples[-1][1] - early[1]
    title = f"{samples[-1][0]} epochs: {grown} KiB more at the end than at epoch {early[0]}"
    with open(out_svg, "w") as f:
        f.write(svg(samples, title))
    print(title)


if __name__ == "__main__":
    main()
