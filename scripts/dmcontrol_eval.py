#!/usr/bin/env python3
"""Plays policies in the real environments of MT30: dm_control on MuJoCo, with the eleven tasks that TD-MPC2 adds.

    pip install dm-control==1.0.8 mujoco==2.3.1.post1 'numpy<2' safetensors
    scripts/dmcontrol_eval.py POLICY.safetensors ...        files of `pwm export`: what each earns on its own task
    scripts/dmcontrol_eval.py --tasks all --policy random   the same of random actions, or of `zero`
    ... --record FOLDER                                     also writes every state, for tests/physics/mt30.rs:
                                                            PWM_GOLDEN_MUJOCO=FOLDER cargo test --release --test physics
                                                            golden_mujoco_control

An episode is 1,000 control steps; a policy acts at every second of them and sees observations of single precision. A
task pays at most 1 a control step. Nothing here is shared with the program but the three-link reacher's file: rewards
and starts of the added tasks are written down a second time.
"""
import argparse
import collections
import json
import os
import sys

import numpy as np

TASKS = """walker-stand walker-walk walker-run cheetah-run reacher-easy reacher-hard acrobot-swingup pendulum-swingup
cartpole-balance cartpole-balance-sparse cartpole-swingup cartpole-swingup-sparse cup-catch finger-spin finger-turn-easy
finger-turn-hard fish-swim hopper-stand hopper-hop walker-walk-backwards walker-run-backwards cheetah-run-backwards
cheetah-run-front cheetah-run-back cheetah-jump hopper-hop-backwards reacher-three-easy reacher-three-hard cup-spin
pendulum-spin""".split()
DOMAINS = {"cup": "ball_in_cup"}
HERE = os.path.dirname(os.path.abspath(__file__))


# ---- the real environments


def environment(name, seed):
    """The environment of a task, as dm_control builds it."""
    from dm_control import suite
    from dm_control.rl import control

    random = np.random.RandomState(seed)
    build = added_tasks().get(name)
    if build is None:
        domain, task = name.split("-", 1)
        return suite.load(DOMAINS.get(domain, domain), task.replace("-", "_"), task_kwargs={"random": random})
    physics, task, timing = build(random)
    step = timing or physics.timestep()
    return control.Environment(physics, task, time_limit=1000 * step, control_timestep=timing)


def added_tasks():
    """What TD-MPC2 adds to the suite: name -> function of the random numbers that gives physics, task and the time of a
    control step, none if it is one physics step."""
    from dm_control.suite import ball_in_cup, cheetah, common, hopper, pendulum, reacher, walker
    from dm_control.utils import rewards

    def linear(x, low, high, margin, at):
        return rewards.tolerance(x, bounds=(low, high), margin=margin, value_at_margin=at, sigmoid="linear")

    inf = float("inf")

    def of_suite(module, base, reward, timing, **kwargs):
        def build(random):
            class Task(base):
                def get_reward(self, physics):
                    return reward(physics)

            physics = module.Physics.from_xml_string(*module.get_model_and_assets())
            return physics, Task(random=random, **kwargs), timing
        return build

    def walks_back(speed):
        def reward(p):
            high = rewards.tolerance(p.torso_height(), bounds=(1.2, inf), margin=0.6)
            standing = (3 * high + (1 + p.torso_upright()) / 2) / 4
            return standing * (5 * linear(-p.horizontal_velocity(), speed, inf, speed / 2, 0.5) + 1) / 6
        return of_suite(walker, walker.PlanarWalker, reward, 0.025, move_speed=speed)

    def height(p, body):
        return p.named.data.xpos[body, "z"]

    def high(z):
        return rewards.tolerance(z, bounds=(1.2, inf), margin=0.6)

    def cheetah_task(reward):
        return of_suite(cheetah, cheetah.Cheetah, reward, None)

    def on_one_leg(held):
        def reward(p):
            up = (3 * high(height(p, held)) + 2 * high(height(p, "torso"))) / 5
            return up * (5 * linear(p.speed(), 6, inf, 6, 0) + 1) / 6
        return cheetah_task(reward)

    def jump(p):
        feet = [5 * high((height(p, "torso") + height(p, foot)) / 2) for foot in ("bfoot", "ffoot")]
        return np.mean([(f + linear(p.speed(), -0.5, 0.5, 0.5, 0)) / 6 for f in feet])

    def hops_back(p):
        up = rewards.tolerance(p.height(), (0.6, 2))
        return up * linear(p.speed(), -inf, -1, 0.5, 0.5)

    def three_links(size):
        def build(random):
            with open(os.path.join(HERE, "..", "configs", "mujoco", "reacher_three.xml")) as f:
                physics = reacher.Physics.from_xml_string(f.read(), common.ASSETS)
            return physics, reacher.Reacher(target_size=size, random=random), None
        return build

    def spin_cup(random):
        class Spin(ball_in_cup.BallInCup):
            def initialize_episode(self, physics):
                anywhere = self.random.uniform() < 0.1
                while True:
                    physics.named.data.qpos["ball_x"] = self.random.uniform(-0.2, 0.2)
                    physics.named.data.qpos["ball_z"] = self.random.uniform(0.2, 0.5)
                    physics.after_reset()
                    if physics.data.ncon == 0 and (anywhere or physics.in_target()):
                        break

            def get_reward(self, physics):
                off = physics.ball_to_target()
                speed = np.linalg.norm(physics.named.data.qvel[["ball_x", "ball_z"]])
                far, fast = linear(np.linalg.norm(off), 0.5, inf, 0.25, 0.5), linear(speed, 6, inf, 3, 0.5)
                return (1 - physics.in_target()) * (far + 2 * fast) / 3

        physics = ball_in_cup.Physics.from_xml_string(*ball_in_cup.get_model_and_assets())
        return physics, Spin(random=random), 0.02

    def spin_pendulum(p):
        return linear(np.abs(p.angular_velocity())[0], 9, inf, 4.5, 0.5)

    return {
        "walker-walk-backwards": walks_back(1),
        "walker-run-backwards": walks_back(8),
        "cheetah-run-backwards": cheetah_task(lambda p: linear(p.speed(), -inf, -8, 8, 0)),
        "cheetah-run-front": on_one_leg("bfoot"),
        "cheetah-run-back": on_one_leg("ffoot"),
        "cheetah-jump": cheetah_task(jump),
        "hopper-hop-backwards": of_suite(hopper, hopper.Hopper, hops_back, 0.02, hopping=True),
        "reacher-three-easy": three_links(0.05),
        "reacher-three-hard": three_links(0.015),
        "cup-spin": spin_cup,
        "pendulum-spin": of_suite(pendulum, pendulum.SwingUp, spin_pendulum, None),
    }


# ---- policies


class Policy:
    """The deterministic action of a file of `pwm export`, from its recipe."""

    def __init__(self, path):
        from safetensors import safe_open

        with safe_open(path, "np") as f:
            self.weights = {k: f.get_tensor(k).astype(np.float64) for k in f.keys()}
            meta = f.metadata()
        if not {"recipe.action", "config"} <= set(meta or {}):
            sys.exit(f"{path} holds no policy: `pwm export RUN --out FILE` writes one")
        self.path, self.recipe, self.config = path, json.loads(meta["recipe.action"]), meta["config"]

    def task(self):
        """The environment that it was trained in."""
        import re

        found = re.search(r"^env: *['\"]?([\w-]+)", self.config, re.M)
        return found[1] if found else None

    def __call__(self, obs):
        if self.recipe["inputs"] != ["observation"]:
            sys.exit(f"{self.path}: an action of {self.recipe['inputs']}, this reader knows observations alone")
        x = obs.astype(np.float64)
        first = next((s for s in self.recipe["steps"] if s["op"] == "linear"), None)
        if first and self.weights[first["weight"]].shape[1] != len(x):
            sys.exit(f"{self.path} sees {self.weights[first['weight']].shape[1]} numbers, this task shows {len(x)}")
        for step in self.recipe["steps"]:
            x = self.apply(step, x)
        return np.clip(x, -1, 1)

    def apply(self, step, x):
        kind, get = step["op"], lambda part: self.weights[step[part]]
        if kind == "normalise":
            x = (x - get("mean")) / np.sqrt(get("var") + step["eps"])
            return np.clip(x, -step["clamp"], step["clamp"])
        if kind == "linear":
            return get("weight") @ x + get("bias")
        if kind == "layer_norm":
            return get("weight") * (x - x.mean()) / np.sqrt(x.var() + step["eps"]) + get("bias")
        if kind == "mish":
            return x * np.tanh(np.logaddexp(0, x))
        if kind == "tanh":
            return np.tanh(x)
        if kind == "simnorm":
            groups = x.reshape(-1, step["group"])
            e = np.exp(groups - groups.max(1, keepdims=True))
            return (e / e.sum(1, keepdims=True)).ravel()
        sys.exit(f"this reader does not know the step `{kind}` (docs/EXPORT.md): take a Gaussian policy")


def flat(observation):
    return np.concatenate([np.atleast_1d(x).ravel() for x in observation.values()]).astype(np.float32)


def play(name, policy, seed, record):
    """The score of one episode; states are added to `record`."""
    env = environment(name, seed)
    spec, rng = env.action_spec(), np.random.RandomState([seed, 1])
    physics, step = env.physics, env.reset()
    total, action = 0.0, None
    rows = collections.defaultdict(list)

    def keep():
        rows["qpos"].append(physics.data.qpos.copy())
        rows["qvel"].append(physics.data.qvel.copy())
        rows["obs"].append(np.concatenate([np.atleast_1d(x).ravel() for x in step.observation.values()]))

    keep()
    rows["goal"] = goal(name, env)
    k = 0
    while not step.last():
        if k % 2 == 0:
            action = policy(flat(step.observation), spec, rng)
        step = env.step(action)
        total += step.reward
        rows["action"].append(action)
        rows["reward"].append(step.reward)
        keep()
        k += 1
    assert k == 1000, f"{name}: an episode of {k} control steps"
    if record is not None:
        record[name] = rows
    return total


def goal(name, env):
    """The target of an episode: a place, and of the finger its radius."""
    data, model = env.physics.named.data, env.physics.named.model
    if name.startswith(("reacher", "fish")):
        return np.array(data.geom_xpos["target"])
    if name.startswith("finger-turn"):
        return np.append(data.site_xpos["target"], model.site_size["target", 0])
    return np.zeros(4 if name.startswith("finger") else 0)


def write(folder, record, seed):
    """Episodes as tests/physics/mt30.rs reads them, a file for each system."""
    from safetensors.numpy import save_file

    os.makedirs(folder, exist_ok=True)
    files = collections.defaultdict(dict)
    for name, rows in record.items():
        three = name.startswith("reacher-three")
        system = "reacher_three" if three else name.split("-")[0]
        task = name.split("-", 1)[1].replace("-", "_")
        for what, values in rows.items():
            files[system][f"{task}/{what}"] = np.ascontiguousarray(values, dtype=np.float64)
    for system, arrays in files.items():
        path = os.path.join(folder, f"{system}_rollout.safetensors")
        save_file(arrays, path, {"seed": str(seed)})


def positive(text):
    n = int(text)
    if n < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return n


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("policies", nargs="*", metavar="POLICY.safetensors")
    p.add_argument("--tasks", default="", help="`all`, or names with commas; else each policy's own")
    p.add_argument("--policy", choices=["zero", "random"], help="instead of files")
    p.add_argument("--episodes", type=positive, default=10)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--record", metavar="FOLDER")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    tasks = TASKS if a.tasks == "all" else [t for t in a.tasks.split(",") if t]
    unknown = [t for t in tasks if t not in TASKS]
    if unknown or not (tasks or a.policies) or bool(a.policies) == bool(a.policy):
        p.error(f"there is no task {unknown[0]}" if unknown else "give files of policies, or --policy and --tasks")
    jobs = []
    if a.policy == "zero":
        jobs = [(t, lambda obs, spec, rng: np.zeros(spec.shape)) for t in tasks]
    elif a.policy == "random":
        jobs = [(t, lambda obs, spec, rng: rng.uniform(-1, 1, spec.shape)) for t in tasks]
    for path in a.policies:
        policy = Policy(path)
        own = tasks or [policy.task()]
        if not set(own) <= set(TASKS):
            p.error(f"{path} was trained on {own[0]}, which is no task of MT30")
        jobs += [(t, lambda obs, spec, rng, policy=policy: policy(obs)) for t in own]
    record = {} if a.record else None
    for name, policy in jobs:
        scores = [play(name, policy, a.seed + e, record if e == 0 else None) for e in range(a.episodes)]
        error = np.std(scores, ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else float("nan")
        if a.json:
            print(json.dumps({"task": name, "scores": scores}), flush=True)
        else:
            print(f"{name:<26}{np.mean(scores):8.1f} ± {error:.1f} (error of the mean), "
                  f"{min(scores):.1f} to {max(scores):.1f}", flush=True)
    if a.record:
        write(a.record, record, a.seed)


if __name__ == "__main__":
    main()
