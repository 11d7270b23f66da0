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


def panel(out, corner, groups, x_of, y_of, high, top, label, title, size=(PANEL_W, PANEL_H), levels=()):
    """One set of axes: `x_of` and `y_of` are (column of a point, unit), `high` and `top` the largest shown, `levels`
    dashed lines as (name, height)."""
    (x0, y0), (xc, xs), (yc, ys), (width, height) = corner, x_of, y_of, size

    def at(x, y):
        return x0 + x / high * width, y0 + height - min(max(y, 0), top) / top * height

    for y in ticks(top, 5 if height > 200 else 4):
        py = at(0, y)[1]
        out.append(f'<line x1="{x0}" x2="{x0 + width}" y1="{py:.1f}" y2="{py:.1f}" stroke="#e3e6e8"/>')
        out.append(f'<text x="{x0 - 8}" y="{py + 4:.1f}" text-anchor="end">{y:,.6g}</text>')
    for x in ticks(high, 5 if width > 300 else 4):
        px = at(x, 0)[0]
        out.append(f'<text x="{px:.1f}" y="{y0 + height + 18}" text-anchor="middle">{x:g}</text>')
    out.append(f'<text x="{x0 + width / 2}" y="{y0 + height + 38}" text-anchor="middle">{label}</text>')
    out.append(f'<text x="{x0}" y="{y0 - 9}">{title}</text>')
    for (_, curves), color in zip(groups, COLORS):
        for points in curves:
            inside = [at(p[xc] / xs, p[yc] / ys) for p in points if p[xc] / xs <= high and p[yc] is not None]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in inside)
            out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8"/>')
    for name, y in levels:
        py = at(0, y)[1]
        out.append(f'<line x1="{x0}" x2="{x0 + width}" y1="{py:.1f}" y2="{py:.1f}" stroke="#7a868f" '
                   'stroke-dasharray="5 4"/>')
        out.append(f'<text x="{x0 + 4}" y="{py - 3:.1f}" font-size="10" fill="#4a565f" '
                   f'paint-order="stroke" stroke="#ffffff" stroke-width="3">{name}</text>')


def longest(groups, column, scale):
    ends = [max(c[-1][column] for c in curves) / scale for _, curves in groups]
    return min(3 * min(ends), max(ends))


def page(groups, rows):
    """Opened SVG with the names of the groups."""
    height = H + (rows - 1) * (PANEL_H + GAP)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {height}" font-family="sans-serif" '
           f'font-size="12.5" fill="#26323c">', f'<rect width="{W}" height="{height}" fill="#ffffff"/>']
    x = LEFT
    for (name, curves), color in zip(groups, COLORS):
        out.append(f'<line x1="{x}" x2="{x + 26}" y1="20" y2="20" stroke="{color}" stroke-width="3"/>')
        out.append(f'<text x="{x + 33}" y="24" font-size="14">{name} ({len(curves)} seeds)</text>')
        x += 60 + 9 * len(f"{name} ({len(curves)} seeds)")
    return out


def save(target, out):
    with open(target, "w", encoding="utf-8") as f:
        f.write("\n".join(out + ["</svg>"]) + "\n")


def draw(target, groups):
    """Returns by steps and by time. A point is [steps, seconds, return, ..]."""
    top = max(p[2] for _, curves in groups for c in curves for p in c) * 1.05
    out = page(groups, 1)
    right = LEFT + PANEL_W + GAP
    panel(out, (LEFT, TOP), groups, (0, 1e6), (2, 1), longest(groups, 0, 1e6), top, "million environment steps", "return")
    panel(out, (right, TOP), groups, (1, 60), (2, 1), longest(groups, 1, 60), top, "minutes on one core", "return")
    save(target, out)


def main():
    target, *arguments = sys.argv[1:]
    draw(target, [(a.split("=", 1)[0], [curve(f) for f in a.split("=", 1)[1].split(",")]) for a in arguments])


if __name__ == "__main__":
    main()
