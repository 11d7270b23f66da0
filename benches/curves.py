#!/usr/bin/env python3
"""Learning curves of several experiments in one figure: by environment steps and by time on the clock.

    benches/curves.py OUT.svg NAME=FILE[,FILE...] NAME=FILE[,FILE...]

FILEs are metrics.jsonl of runs, or what is stored of them in benches/results. Every curve is one seed: the mean return of
its evaluations. The time is cut at that of the shortest experiment times three, so that none is squeezed to a line.
"""

import json
import sys
from math import floor, log10

COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]
W, H, LEFT, TOP, PANEL_W, PANEL_H, GAP = 960, 420, 62, 58, 395, 290, 84


def curve(path):
    rows = [json.loads(line) for line in open(path, encoding="utf-8")]
    keys = ("step", "time/elapsed_s", "eval/return_mean")
    return [[r[k] for k in keys] for r in rows if all(k in r for k in keys)]


def ticks(high, count=5):
    raw = high / count
    unit = 10 ** floor(log10(raw))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw)
    return [i * step for i in range(int(high / step) + 1)]


def panel(out, x0, groups, column, scale, high, top, label):
    def at(x, y):
        return x0 + x / high * PANEL_W, TOP + PANEL_H - max(y, 0) / top * PANEL_H

    for y in ticks(top):
        py = at(0, y)[1]
        out.append(f'<line x1="{x0}" x2="{x0 + PANEL_W}" y1="{py:.1f}" y2="{py:.1f}" stroke="#e3e6e8"/>')
        out.append(f'<text x="{x0 - 8}" y="{py + 4:.1f}" text-anchor="end">{y:,.0f}</text>')
    for x in ticks(high):
        px = at(x, 0)[0]
        out.append(f'<text x="{px:.1f}" y="{TOP + PANEL_H + 18}" text-anchor="middle">{x:g}</text>')
    out.append(f'<text x="{x0 + PANEL_W / 2}" y="{TOP + PANEL_H + 38}" text-anchor="middle">{label}</text>')
    for (_, curves), color in zip(groups, COLORS):
        for points in curves:
            inside = [at(p[column] / scale, p[2]) for p in points if p[column] / scale <= high]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in inside)
            out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8"/>')


def draw(target, groups):
    top = max(p[2] for _, curves in groups for c in curves for p in c) * 1.05

    def shown(column, scale):
        longest = [max(c[-1][column] for c in curves) / scale for _, curves in groups]
        return min(3 * min(longest), max(longest))

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" font-family="sans-serif" font-size="12.5" '
           'fill="#26323c">', f'<rect width="{W}" height="{H}" fill="#ffffff"/>']
    x = LEFT
    for (name, curves), color in zip(groups, COLORS):
        out.append(f'<line x1="{x}" x2="{x + 26}" y1="26" y2="26" stroke="{color}" stroke-width="3"/>')
        out.append(f'<text x="{x + 33}" y="30" font-size="14">{name} ({len(curves)} seeds)</text>')
        x += 60 + 9 * len(f"{name} ({len(curves)} seeds)")
    panel(out, LEFT, groups, 0, 1e6, shown(0, 1e6), top, "million environment steps")
    panel(out, LEFT + PANEL_W + GAP, groups, 1, 60, shown(1, 60), top, "minutes on one core")
    out.append("</svg>")
    with open(target, "w", encoding="utf-8") as f:
        f.write("\n".join(out) + "\n")


def main():
    target, *arguments = sys.argv[1:]
    draw(target, [(a.split("=", 1)[0], [curve(f) for f in a.split("=", 1)[1].split(",")]) for a in arguments])


if __name__ == "__main__":
    main()
