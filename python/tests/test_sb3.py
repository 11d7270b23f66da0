"""Environments for Stable-Baselines3."""

import numpy as np
import pytest

sb3 = pytest.importorskip("stable_baselines3")

import pwm_rl  # noqa: E402
from pwm_rl.sb3 import SB3VecEnv  # noqa: E402


def test_steps_are_those_of_the_vector_form():
    envs, same = SB3VecEnv("hopper", 3, seed=2, episode_length=4), pwm_rl.make_vec(
        "hopper", 3, seed=2, autoreset_mode="SameStep", episode_length=4
    )
    np.testing.assert_array_equal(envs.reset(), same.reset()[0])
    earned = np.zeros(3)
    for t in range(9):
        action = np.full((3, 3), 0.2 * (-1) ** t, np.float32)
        obs, reward, done, infos = envs.step(action)
        o, r, terminated, truncated, info = same.step(action)
        np.testing.assert_array_equal(obs, o)
        np.testing.assert_array_equal(reward, r.astype(np.float32))
        np.testing.assert_array_equal(done, terminated | truncated)
        earned += r
        for row in np.flatnonzero(done):
            np.testing.assert_array_equal(infos[row]["terminal_observation"], info["final_obs"][row])
            assert infos[row]["TimeLimit.truncated"] == bool(truncated[row] and not terminated[row])
            assert infos[row]["episode"] == {"r": pytest.approx(earned[row]), "l": 4 if truncated[row] else t % 4 + 1}
        assert all((not i) != d for i, d in zip(infos, done))
        earned[done] = 0.0


def test_seeds_are_those_of_stable_baselines():
    envs = SB3VecEnv("hopper", 2)
    envs.seed(5)
    first = envs.reset()
    np.testing.assert_array_equal(first, pwm_rl.make_vec("hopper", 2).reset(seed=5)[0])
    assert (envs.reset() != first).any(), "a seed is used once"


def test_its_own_algorithms_learn_on_them():
    envs = SB3VecEnv("hopper", 4, seed=0, render_mode="rgb_array")
    model = sb3.PPO("MlpPolicy", envs, n_steps=16, batch_size=32, n_epochs=1, seed=0, device="cpu")
    model.learn(256)
    assert model.num_timesteps == 256
    action, _ = model.predict(envs.reset())
    assert action.shape == (4, 3) and len(envs.get_images()) == 4
    with pytest.raises(pwm_rl.errors.SettingError, match="rgb_array"):
        SB3VecEnv("hopper", 1, render_mode="human")
