#!/usr/bin/env python3
"""From how many starts a policy holds the Cartpole's pole upright: below 0.1 rad in each of the last 60 of 240 steps.

    benches/cartpole_upright.py PWM CHECKPOINT [EPISODES [--hanging]]

`pwm eval` tells returns only, so the policy is exported with the program PWM and played here, on the Cartpole's
equations of motion written down once more, from 100 starts drawn as the task draws them. The mean return beside the
count must be that of `pwm eval --fresh`, up to chance. With --hanging episodes start about the hanging pole.
"""

import json
import math
import random
import struct
import subprocess
import sys
import tempfile
from operator import mul

STEPS, LAST, UPRIGHT = 240, 60, 0.1
SUBSTEP = 1 / 60 / 4
FORCE, GRAVITY = 1000.0, 9.81
ARMATURE, DAMPING, RAIL, RAIL_STIFFNESS = 0.1, 1.0, 4.0, 100.0
CART, POLE, HALF = 50.0, 2.5, 0.5
# Of the pole about its hinge, a box of 0.05 x 0.05 x 1 m.
INERTIA = POLE * (0.05 ** 2 + 1) / 12 + POLE * HALF ** 2


def read(path):
    """Tensors of a safetensors file, a matrix as its rows, and the recipe for an action."""
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    recipe = json.loads(header.pop("__metadata__")["recipe.action"])
    tensors = {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        x = struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
        width = t["shape"][-1]
        tensors[name] = [x[i:i + width] for i in range(0, len(x), width)] if len(t["shape"]) == 2 else x
    return tensors, recipe["steps"]


def action(tensors, steps, x):
    """What the recipe makes of an observation; docs/EXPORT.md says what its steps mean."""
    for s in steps:
        if s["op"] == "normalise":
            scaled = [(a - m) / math.sqrt(v + s["eps"]) for a, m, v in zip(x, tensors[s["mean"]], tensors[s["var"]])]
            x = [min(max(a, -s["clamp"]), s["clamp"]) for a in scaled]
        elif s["op"] == "linear":
            x = [sum(map(mul, w, x)) + b for w, b in zip(tensors[s["weight"]], tensors[s["bias"]])]
        elif s["op"] == "layer_norm":
            mean = sum(x) / len(x)
            scale = 1 / math.sqrt(sum((a - mean) ** 2 for a in x) / len(x) + s["eps"])
            x = [w * (a - mean) * scale + b for a, w, b in zip(x, tensors[s["weight"]], tensors[s["bias"]])]
        elif s["op"] == "mish":
            x = [a * math.tanh(math.log1p(math.exp(a)) if a < 30 else a) for a in x]
        elif s["op"] == "tanh":
            x = [math.tanh(a) for a in x]
        else:
            sys.exit(f"a step that is unknown here: {s['op']}")
    return min(max(x[0], -1.0), 1.0)


def step(x, angle, speed, turning, force):
    """A step of the environment; one mass matrix for all of its substeps."""
    cart, coupling, pole = CART + POLE + ARMATURE, POLE * HALF * math.cos(angle), INERTIA + ARMATURE
    det = cart * pole - coupling ** 2
    for _ in range(4):
        beyond = min(max(x, -RAIL), RAIL) - x
        along = force - DAMPING * speed + RAIL_STIFFNESS * beyond + POLE * HALF * math.sin(angle) * turning ** 2
        about = POLE * GRAVITY * HALF * math.sin(angle) - DAMPING * turning
        speed += SUBSTEP * (pole * along - coupling * about) / det
        turning += SUBSTEP * (cart * about - coupling * along) / det
        x += SUBSTEP * speed
        angle += SUBSTEP * turning
    return x, angle, speed, turning


def wrapped(angle):
    return math.atan2(math.sin(angle), math.cos(angle))


def count(pwm, checkpoint, episodes=100, hanging=False):
    """Episodes that end upright, and the mean return."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as f:
        subprocess.run([pwm, "export", checkpoint, "--out", f.name], check=True, stdout=subprocess.DEVNULL)
        tensors, recipe = read(f.name)
    draw = random.Random(0).random
    upright, total = 0, 0.0
    for _ in range(episodes):
        x, angle = math.pi * (draw() - 0.5), math.pi * (draw() - 0.5) + math.pi * hanging
        speed, turning = 0.5 * (draw() - 0.5), 0.5 * (draw() - 0.5)
        leans = 0.0
        for t in range(STEPS):
            total -= wrapped(angle) ** 2 + 0.1 * turning ** 2 + 0.05 * x ** 2 + 0.1 * speed ** 2
            force = FORCE * action(tensors, recipe, [x, speed, math.sin(angle), math.cos(angle), turning])
            x, angle, speed, turning = step(x, angle, speed, turning, force)
            if t >= STEPS - LAST:
                leans = max(leans, abs(wrapped(angle)))
        upright += leans < UPRIGHT
    return upright, total / episodes


def main():
    words = [w for w in sys.argv[1:] if w != "--hanging"]
    episodes = int(words[2]) if len(words) > 2 else 100
    upright, total = count(words[0], words[1], episodes, "--hanging" in sys.argv)
    print(f"upright at the end: {upright} of {episodes}; mean return {total:.1f}")


if __name__ == "__main__":
    main()
