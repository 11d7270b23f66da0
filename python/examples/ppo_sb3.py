#!/usr/bin/env python3
"""Stable-Baselines3's PPO on a robot: python ppo_sb3.py [--env ant] [--steps 2000000] [--seed 0] [--out ppo.csv]

Writes the returns of its training episodes as it goes, and says the mean of the last hundred.
"""

import argparse
import csv
import sys
from collections import deque

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize

import pwm_rl
from pwm_rl.sb3 import SB3VecEnv


class Curve(BaseCallback):
    """A row for every hundred episodes that ended."""

    def __init__(self, file: str):
        super().__init__()
        self.file, self.last, self.since = file, deque(maxlen=100), 0

    def _on_training_start(self) -> None:
        with open(self.file, "w", newline="") as f:
            csv.writer(f).writerow(["steps", "mean_return_of_last_100", "mean_length"])

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.last.append((info["episode"]["r"], info["episode"]["l"]))
                self.since += 1
        if self.since >= 100:
            self.since = 0
            mean, length = np.mean(self.last, axis=0)
            with open(self.file, "a", newline="") as f:
                csv.writer(f).writerow([self.num_timesteps, f"{mean:.1f}", f"{length:.1f}"])
        return True


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--env", default="ant")
    parser.add_argument("--steps", type=int, default=2_000_000)
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="ppo.csv")
    parser.add_argument("--bar", type=float, help="an error unless the last hundred episodes earn that much")
    args = parser.parse_args()
    torch.set_num_threads(1)
    envs = VecNormalize(SB3VecEnv(args.env, args.envs, seed=args.seed), norm_reward=True, gamma=0.99)
    model = PPO(
        "MlpPolicy",
        envs,
        n_steps=32,
        batch_size=512,
        n_epochs=5,
        learning_rate=lambda left: 3e-4 * max(left, 0.1),
        gamma=0.99,
        gae_lambda=0.95,
        ent_coef=0.0,
        policy_kwargs={"net_arch": [128, 64], "activation_fn": torch.nn.ELU, "log_std_init": -1.0},
        seed=args.seed,
        device="cpu",
    )
    curve = Curve(args.out)
    model.learn(args.steps, callback=curve)
    mean = float(np.mean([r for r, _ in curve.last]))
    print(f"{args.env}: mean return of the last {len(curve.last)} episodes {mean:.1f} after {model.num_timesteps} steps")
    print(f"pwm_rl {pwm_rl.__version__}, curve {args.out}")
    return int(args.bar is not None and mean < args.bar)


if __name__ == "__main__":
    sys.exit(main())
