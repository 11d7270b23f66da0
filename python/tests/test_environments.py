"""Environments for gymnasium, against each other and against its own checks."""

import multiprocessing
import threading
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import pwm_rl
from pwm_rl.single import Env, gymnasium_id

DFLEX = "ant"
MUJOCO = "cartpole-swingup"


@pytest.mark.parametrize("name", pwm_rl.env_names())
def test_gymnasiums_own_check_passes(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Rewards and observations of a robot have no bounds to state.
        warnings.filterwarnings("ignore", message=".*Box observation space (maximum|minimum) value is.*")
        env = gymnasium.make(gymnasium_id(name), render_mode="rgb_array", disable_env_checker=True)
        check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("name", [DFLEX, MUJOCO, "hopper-hop", "humanoid"])
def test_a_batch_is_as_many_single_environments(name):
    n, steps = 5, 30
    envs = pwm_rl.make_vec(name, n, autoreset_mode="SameStep", episode_length=12)
    singles = [Env(name, episode_length=12) for _ in range(n)]
    obs, _ = envs.reset(seed=7)
    np.testing.assert_array_equal(obs, [e.reset(seed=7 + i)[0] for i, e in enumerate(singles)])
    random = np.random.default_rng(1)
    for _ in range(steps):
        actions = random.uniform(-1.5, 1.5, envs.action_space.shape).astype(np.float32)
        obs, reward, terminated, truncated, info = envs.step(actions)
        for i, env in enumerate(singles):
            o, r, term, trunc, _ = env.step(actions[i])
            assert (r, term, trunc) == (reward[i], terminated[i], truncated[i])
            if term or trunc:
                np.testing.assert_array_equal(o, info["final_obs"][i])
                assert info["_final_obs"][i]
                o, _ = env.reset()
            np.testing.assert_array_equal(o, obs[i])


def test_the_three_modes_of_autoreset_tell_the_same_episodes():
    n, length = 3, 4
    random = np.random.default_rng(2)
    actions = random.uniform(-1, 1, (3 * length, n, 8)).astype(np.float32)
    same = pwm_rl.make_vec(DFLEX, n, autoreset_mode=AutoresetMode.SAME_STEP, episode_length=length)
    after = pwm_rl.make_vec(DFLEX, n, autoreset_mode=AutoresetMode.NEXT_STEP, episode_length=length)
    never = pwm_rl.make_vec(DFLEX, n, autoreset_mode=AutoresetMode.DISABLED, episode_length=length)
    assert [e.metadata["autoreset_mode"] for e in (same, after, never)] == list(
        (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED)
    )
    first = [e.reset(seed=3)[0] for e in (same, after, never)]
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_array_equal(first[0], first[2])
    for t, action in enumerate(actions):
        of_same, of_never = same.step(action), never.step(action)
        of_after = after.step(action)
        for k in range(1, 4):
            np.testing.assert_array_equal(of_same[k], of_never[k])
            np.testing.assert_array_equal(of_same[k], of_after[k])
        np.testing.assert_array_equal(of_after[0], of_never[0])
        if (t + 1) % length:
            np.testing.assert_array_equal(of_same[0], of_after[0])
            continue
        assert of_same[3].all()
        np.testing.assert_array_equal(np.stack(of_same[4]["final_obs"]), of_after[0])
        # The next step of the second mode begins an episode and takes no action.
        obs, reward, terminated, truncated, _ = after.step(np.full_like(action, 0.5))
        assert not (reward.any() or terminated.any() or truncated.any())
        np.testing.assert_array_equal(obs, of_same[0])
        obs, _ = never.reset(options={"reset_mask": np.ones(n, bool)})
        np.testing.assert_array_equal(obs, of_same[0])


def test_a_masked_reset_leaves_the_others_alone():
    envs = pwm_rl.make_vec(DFLEX, 4, autoreset_mode="Disabled")
    envs.reset(seed=0)
    before = envs.step(np.zeros((4, 8)))[0]
    obs, _ = envs.reset(options={"reset_mask": np.array([True, False, True, False])})
    np.testing.assert_array_equal(obs[[1, 3]], before[[1, 3]])
    assert (obs[[0, 2]] != before[[0, 2]]).any(axis=1).all()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_wrappers_of_gymnasium_work_on_the_vector_form(mode):
    envs = gymnasium.make_vec("pwm/Hopper-v0", num_envs=3, autoreset_mode=mode, episode_length=5)
    assert isinstance(envs, gymnasium.vector.VectorEnv) and envs.num_envs == 3
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(envs)
    envs.reset(seed=1)
    seen = 0
    for _ in range(12):
        *_, terminated, truncated, info = envs.step(envs.action_space.sample())
        ended = terminated | truncated
        if "episode" in info:
            seen += int(info["_episode"].sum())
            assert (info["episode"]["l"][info["_episode"]] > 0).all()
        if mode == AutoresetMode.DISABLED and ended.any():
            envs.reset(options={"reset_mask": ended})
    assert seen >= 3
    envs.close()


def test_seeds_decide_everything():
    def play(seed):
        envs = pwm_rl.make_vec(DFLEX, 2, threads=2)
        rows = [envs.reset(seed=seed)[0]]
        random = np.random.default_rng(0)
        for _ in range(5):
            rows.append(envs.step(random.uniform(-1, 1, (2, 8)))[0])
        return np.stack(rows)

    np.testing.assert_array_equal(play(1), play(1))
    assert (play(1) != play(2)).any()
    np.testing.assert_array_equal(play([1, 2]), play(1))
    unseeded = [pwm_rl.make_vec(DFLEX, 1).reset()[0] for _ in range(2)]
    assert (unseeded[0] != unseeded[1]).any()
    np.testing.assert_array_equal(pwm_rl.make_vec(DFLEX, 1, seed=5).reset()[0], pwm_rl.make_vec(DFLEX, 1).reset(seed=5)[0])


def test_copies_are_the_callers_and_views_are_not():
    for copy in (True, False):
        envs = pwm_rl.make_vec(DFLEX, 2, copy=copy)
        first, _ = envs.reset(seed=0)
        kept = first.copy()
        second = envs.step(np.ones((2, 8)))[0]
        assert (first is second) == (not copy)
        assert (first == kept).all() == copy


def test_a_state_is_gone_back_to():
    envs = pwm_rl.make_vec(DFLEX, 3)
    envs.reset(seed=0)
    envs.step(np.ones((3, 8)))
    state = envs.state()
    one = envs.step(np.zeros((3, 8)))[:2]
    envs.set_state(*state)
    for a, b in zip(one, envs.step(np.zeros((3, 8)))[:2]):
        np.testing.assert_array_equal(a, b)


def test_a_state_that_left_physics_ends_its_episode():
    envs = pwm_rl.make_vec(DFLEX, 2, autoreset_mode="SameStep")
    envs.reset(seed=0)
    q, qd, obs, progress = envs.state()
    qd[0] = np.nan
    envs.set_state(q, qd, obs, progress)
    obs, reward, terminated, _, info = envs.step(np.zeros((2, 8)))
    assert terminated[0] and not terminated[1] and reward[0] == 0.0
    lost = info["final_info"]
    assert list(lost["left_physics"]) == list(lost["_left_physics"]) == [True, False]
    assert not info["final_obs"][0].any() and np.isfinite(obs).all() and obs[0].any()


def test_pictures_show_the_robot_move():
    env = gymnasium.make("pwm/Ant-v0", render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3
    for _ in range(10):
        env.step(env.action_space.sample())
    assert (env.render() != first).any()
    envs = pwm_rl.make_vec(MUJOCO, 2, render_mode="rgb_array")
    envs.reset(seed=0)
    pictures = envs.render()
    assert len(pictures) == 2 and all(len(np.unique(p)) > 3 for p in pictures)


def test_threads_with_environments_of_their_own_run_side_by_side():
    envs = [pwm_rl.make_vec(DFLEX, 64) for _ in range(4)]
    results = [None] * 4

    def work(i):
        envs[i].reset(seed=0)
        for _ in range(20):
            results[i] = envs[i].step(np.zeros((64, 8)))[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for r in results[1:]:
        np.testing.assert_array_equal(r, results[0])


def test_two_threads_in_one_environment_do_no_harm():
    envs, refused = pwm_rl.make_vec(DFLEX, 256), []
    envs.reset(seed=0)

    def work():
        for _ in range(50):
            try:
                envs.step(np.zeros((256, 8)))
            except (RuntimeError, TypeError) as e:
                refused.append(e)

    threads = [threading.Thread(target=work) for _ in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert np.isfinite(envs.step(np.zeros((256, 8)))[0]).all()
    # What is refused took no step: all that were taken count.
    assert envs.state()[3].max() <= 101 - len(refused)


def _in_a_child(envs, send):
    send.send(envs.step(np.ones((64, 8)))[0])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_fork_steps_on():
    envs = pwm_rl.make_vec(DFLEX, 64, threads=2)
    envs.reset(seed=0)
    envs.step(np.zeros((64, 8)))
    receive, send = multiprocessing.Pipe(False)
    child = multiprocessing.get_context("fork").Process(target=_in_a_child, args=(envs, send))
    child.start()
    assert receive.poll(60), "the child hangs"
    theirs = receive.recv()
    child.join(60)
    assert child.exitcode == 0
    np.testing.assert_array_equal(theirs, envs.step(np.ones((64, 8)))[0])


def test_what_is_wrong_is_said():
    wrong = pwm_rl.errors.SettingError
    for make, part in [
        (lambda: pwm_rl.make_vec("antt", 1), "ant"),
        (lambda: pwm_rl.make_vec("ant", 0), "num_envs"),
        (lambda: pwm_rl.make_vec("ant", 1, threads=0), "threads"),
        (lambda: pwm_rl.make_vec("mt30", 1), "one task"),
        (lambda: pwm_rl.make_vec("ant", 1, episode_lenght=3), "episode_length"),
        (lambda: pwm_rl.make_vec("ant", 1, render_mode="human"), "rgb_array"),
        (lambda: pwm_rl.make_vec("ant", 1).step(np.zeros((1, 8))), "reset"),
        (lambda: pwm_rl.make_vec("ant", 2).reset(seed=[1]), "seeds"),
        (lambda: pwm_rl.make_vec("ant", -1), "num_envs"),
        (lambda: pwm_rl.make_vec("ant", 1.5), "num_envs"),
        (lambda: pwm_rl.make_vec("ant", 1).reset(seed=-1), "seed"),
        (lambda: pwm_rl.make_vec("ant", 1).reset(seed=2**64), "seed"),
        (lambda: pwm_rl.make_vec("ant", 1, gamma=0.5), "gamma"),
        (lambda: pwm_rl.make_vec("ant", 1, num_envs_=2), "num_envs_"),
    ]:
        with pytest.raises(wrong, match=part):
            make()
    envs = pwm_rl.make_vec("ant", 2)
    envs.reset()
    with pytest.raises(ValueError, match=r"\(2, 8\)"):
        envs.step(np.zeros((2, 7)))
    with pytest.raises(pwm_rl.errors.SettingError, match="mask"):
        envs.reset(options={"reset_mask": [True]})


def test_arrays_of_the_wrong_shape_change_nothing():
    batch = pwm_rl.make_vec("ant", 4).batch
    good = [np.zeros(s, np.float32) for s in [(4, 8), (4, 37)]]
    flags = [np.zeros(4, bool) for _ in range(3)]
    batch.reset([1, 2, 3, 4], np.ones(4, bool), good[1])
    before = batch.state()
    wrong = [
        lambda: batch.reset([], np.ones(9, bool), good[1]),
        lambda: batch.reset([1], np.ones(4, bool), good[1]),
        lambda: batch.step(np.zeros((8, 4), np.float32), good[1], np.zeros(4), *flags, good[1].copy(), "NextStep"),
        lambda: batch.step(np.zeros((8, 4), np.float32).T, good[1], np.zeros(4), *flags, good[1].copy(), "NextStep"),
        lambda: batch.step(good[0], good[1], np.zeros(3), *flags, good[1].copy(), "NextStep"),
        lambda: batch.set_state(before[0] + 1, before[1], np.zeros((1, 37), np.float32), before[3]),
        lambda: batch.set_state(np.asfortranarray(before[0]), *before[1:]),
    ]
    for call in wrong:
        with pytest.raises(pwm_rl.errors.SettingError, match="shape|seed"):
            call()
    with pytest.raises(TypeError):
        batch.step(good[0], good[1], np.zeros(4), *flags, good[1], "NextStep")
    for a, b in zip(before, batch.state()):
        np.testing.assert_array_equal(a, b)


def test_the_first_reset_begins_everywhere():
    envs = pwm_rl.make_vec("ant", 3, autoreset_mode="Disabled", seed=1)
    obs, _ = envs.reset(options={"reset_mask": np.array([True, False, False])})
    np.testing.assert_array_equal(obs, pwm_rl.make_vec("ant", 3).reset(seed=1)[0])


def test_without_autoreset_what_is_over_takes_no_step():
    for env in (pwm_rl.make_vec("ant", 2, autoreset_mode="Disabled", episode_length=1), Env("ant", episode_length=1)):
        env.reset(seed=0)
        env.step(np.zeros(env.action_space.shape))
        with pytest.raises(pwm_rl.errors.SettingError, match="over"):
            env.step(np.zeros(env.action_space.shape))
        env.reset()
        env.step(np.zeros(env.action_space.shape))


def test_a_single_environment_takes_a_seed():
    first = [gymnasium.make("pwm/Hopper-v0", seed=s).reset()[0] for s in (3, 3, 4)]
    np.testing.assert_array_equal(first[0], first[1])
    assert (first[0] != first[2]).any()
    np.testing.assert_array_equal(first[0], gymnasium.make("pwm/Hopper-v0").reset(seed=3)[0])


def test_no_panic_crosses(capfd):
    from pwm_rl import _core

    with pytest.raises(pwm_rl.errors.InternalError, match="on purpose"):
        _core.broken_invariant()
