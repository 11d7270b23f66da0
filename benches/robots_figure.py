#!/usr/bin/env python3
"""Six robots in one figure: returns by steps and by minutes, beside the published levels.

    benches/robots_figure.py OUT.svg FILE...

FILEs are the curves that benches/robots.py keeps, DATE_ROBOT_ALGORITHM_sSEED.jsonl; one without a robot's name is of the
Ant. Every line is a seed, dashed lines are published means. Minutes are of the processor's time, one thread; of runs that
did not count it, those on the clock.
"""

import json
import re
import sys
from pathlib import Path

import curves
from robots import levels

ROBOTS = ("hopper", "ant", "anymal", "humanoid", "cheetah", "cartpole")
ALGS = ("pwm", "shac")
WIDTH, HEIGHT, LEFT, TOP, BETWEEN, BELOW, ACROSS = 245, 165, 62, 62, 42, 78, 64


def curve(path):
    """Points [million steps, minutes, return]."""
    with open(path, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    rows = [r for r in rows if r.get("eval/return_mean") is not None]
    seconds = [r.get("time/cpu_s", r.get("time/elapsed_s")) for r in rows]
    return [[r["step"] / 1e6, s / 60, r["eval/return_mean"]] for r, s in zip(rows, seconds) if s is not None]


def read(files):
    found = {}
    for path in files:
        name = Path(path).name
        robot = next((r for r in ROBOTS if f"_{r}_" in name), "ant")
        alg = re.search("pwm|shac", name).group()
        found.setdefault(robot, {}).setdefault(alg, []).append(curve(path))
    return found


def main():
    target, *files = sys.argv[1:]
    found = read(files)
    columns = 2 * (2 * WIDTH + BETWEEN) + ACROSS + LEFT + 20
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns} {TOP + 3 * (HEIGHT + BELOW)}" '
           'font-family="sans-serif" font-size="11.5" fill="#26323c">',
           f'<rect width="{columns}" height="{TOP + 3 * (HEIGHT + BELOW)}" fill="#ffffff"/>']
    for i, (alg, color) in enumerate(zip(ALGS, curves.COLORS)):
        x = LEFT + 110 * i
        out.append(f'<line x1="{x}" x2="{x + 26}" y1="20" y2="20" stroke="{color}" stroke-width="3"/>')
        out.append(f'<text x="{x + 33}" y="24" font-size="14">{alg.upper()}</text>')
    for i, robot in enumerate(r for r in ROBOTS if r in found):
        groups = [(alg, found[robot].get(alg, [])) for alg in ALGS]
        published = [(f"{name}, published", sum(ends) / 2) for name, ends in levels(robot).items()]
        shown = [(name, y) for name, y in published if name.split(",")[0] in ("PPO", "SHAC", "PWM")]
        points = [p for _, some in groups for c in some for p in c]
        top = max([p[2] for p in points] + [y for _, y in shown]) * 1.06
        across = LEFT + (i % 2) * (2 * WIDTH + BETWEEN + ACROSS)
        down = TOP + (i // 2) * (HEIGHT + BELOW)
        for k, label in enumerate(("million environment steps", "minutes of one core")):
            high = max(p[k] for p in points) * 1.02
            title = f"{robot.capitalize()}: return" if k == 0 else ""
            corner = (across + k * (WIDTH + BETWEEN), down)
            curves.panel(out, corner, groups, (k, 1), (2, 1), high, top, label, title, (WIDTH, HEIGHT), shown)
    curves.save(target, out)


if __name__ == "__main__":
    main()
