"""The gradient of a step in PyTorch."""

import gc
import weakref

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import pwm_rl  # noqa: E402
from pwm_rl.torch import DiffEnv  # noqa: E402

ROBOTS = ["ant", "hopper", "cheetah", "cartpole", "humanoid", "anymal"]


def moved(name, steps=6, **options):
    """Environments away from their starts, in general position."""
    env = DiffEnv(name, 2, seed=4, dtype=torch.float64, **options)
    env.reset()
    random = torch.Generator().manual_seed(0)
    for _ in range(steps):
        env.step(0.6 * (2 * torch.rand(2, env.act_dim, generator=random, dtype=torch.float64) - 1))
    return env, 0.6 * (2 * torch.rand(2, env.act_dim, generator=random, dtype=torch.float64) - 1)


@pytest.mark.parametrize("name", ROBOTS)
def test_gradcheck(name):
    env, action = moved(name, inertia="exact", subgradient="central")
    operands = [x.detach().clone().requires_grad_() for x in (env.q, env.qd, env.obs, action)]
    # Contacts are stiff: what differences leave of a gradient of 1e5 is the bound.
    assert torch.autograd.gradcheck(
        env.transition, operands, eps=1e-7, atol=1e-3, rtol=1e-4, nondet_tol=0.0, check_undefined_grad=False
    )


def test_a_gradient_through_steps_is_that_of_differences():
    env, _ = moved("ant")
    q, qd, obs = (x.detach().clone() for x in (env.q, env.qd, env.obs))
    random = torch.Generator().manual_seed(1)
    actions = 0.5 * (2 * torch.rand(4, 2, 8, generator=random, dtype=torch.float64) - 1)

    def earned(actions):
        state, total = (q, qd, obs), 0.0
        for action in actions:
            *state, reward = env.transition(*state, action)
            total = total + reward.sum()
        return total

    given = actions.clone().requires_grad_()
    earned(given).backward()
    along = 2 * torch.rand(actions.shape, generator=random, dtype=torch.float64) - 1
    eps = 1e-6
    with torch.no_grad():
        difference = (earned(actions + eps * along) - earned(actions - eps * along)) / (2 * eps)
    assert abs((given.grad * along).sum() - difference) < 1e-4 * (1 + abs(difference))


def test_single_and_double_precision_agree_and_so_do_threads():
    results = []
    for dtype, threads in [(torch.float32, 1), (torch.float32, 2), (torch.float64, 1)]:
        env = DiffEnv("hopper", 16, seed=0, dtype=dtype, threads=threads)
        obs = env.reset()
        action = torch.full((16, 3), 0.3, dtype=dtype, requires_grad=True)
        for _ in range(3):
            obs, reward, *_ = env.step(action)
        (obs.sum() + reward.sum()).backward()
        results.append((obs.detach(), action.grad))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
    torch.testing.assert_close(results[0][0].double(), results[2][0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(results[0][1].double(), results[2][1], rtol=2e-2, atol=2e-2)


def test_steps_are_those_of_the_batch():
    env = DiffEnv("ant", 3, seed=9, episode_length=5)
    envs = pwm_rl.make_vec("ant", 3, autoreset_mode="SameStep", episode_length=5)
    np.testing.assert_array_equal(env.reset().numpy(), envs.reset(seed=9)[0])
    random = np.random.default_rng(0)
    for _ in range(12):
        action = random.uniform(-1, 1, (3, 8)).astype(np.float32)
        obs, reward, terminated, truncated, info = env.step(torch.from_numpy(action))
        o, r, te, tr, i = envs.step(action)
        np.testing.assert_array_equal(obs.numpy(), o)
        np.testing.assert_array_equal(reward.numpy().astype(np.float64), r)
        np.testing.assert_array_equal(truncated.numpy(), tr)
        if tr.any():
            np.testing.assert_array_equal(info["obs_before_reset"].numpy(), np.stack(i["final_obs"]))


def test_a_new_episode_cuts_the_gradient():
    env = DiffEnv("hopper", 2, seed=0, episode_length=2)
    env.reset()
    action = torch.zeros(2, 3, requires_grad=True)
    env.step(action)
    obs, reward, _, truncated, info = env.step(torch.zeros(2, 3))
    assert truncated.all() and info["obs_before_reset"].requires_grad
    assert torch.autograd.grad(obs.sum(), action, retain_graph=True)[0].abs().sum() == 0
    assert torch.autograd.grad(info["obs_before_reset"].sum(), action)[0].abs().sum() > 0


def test_no_gradient_comes_back_from_a_state_that_left_physics():
    env = DiffEnv("ant", 2, seed=0)
    env.reset()
    env.qd = env.qd.clone()
    env.qd[0] = float("nan")
    action = torch.zeros(2, 8, requires_grad=True)
    obs, reward, terminated, _, _ = env.step(action)
    assert terminated[0] and not terminated[1] and torch.isfinite(obs).all()
    (obs.sum() + reward.sum()).backward()
    assert action.grad[0].abs().sum() == 0 and action.grad[1].abs().sum() > 0 and torch.isfinite(action.grad).all()


def test_a_bound_on_the_gradient_holds():
    norms = []
    for bound in (None, 1e-3):
        env = DiffEnv("ant", 4, seed=0, gradient_bound=bound)
        env.reset()
        action = torch.zeros(4, 8, requires_grad=True)
        env.step(action)[0].sum().backward()
        norms.append(action.grad.norm(dim=1))
    assert (norms[0] > 1e-3).all() and (norms[1] <= 1e-3 * 1.001).all() and (norms[1] > 0).all()


def test_mujocos_law_is_refused_with_what_to_do():
    with pytest.raises(pwm_rl.errors.SettingError, match="MuJoCo's law.*pwm_small"):
        DiffEnv("walker-run")


def test_dflexs_interface():
    import pwm_rl.dflex as dflex

    env = dflex.AntEnv(num_envs=4, seed=0, episode_length=3, no_grad=False, stochastic_init=True, MM_caching_frequency=16)
    assert (env.num_obs, env.num_acts, env.num_actions, env.num_joint_q, env.num_joint_qd) == (37, 8, 8, 15, 14)
    obs = env.initialize_trajectory()
    action = torch.zeros(4, 8, requires_grad=True)
    for t in range(3):
        obs, reward, done, extras = env.step(action)
        assert (done == (t == 2)).all() and (extras["termination"] | extras["truncation"] == done).all()
    reward.sum().backward()
    assert action.grad.abs().sum() > 0
    assert extras["obs_before_reset"].shape == (4, 37) and not extras["termination"].any()
    kept = env.get_checkpoint()
    first = env.step(torch.ones(4, 8))[0].detach().clone()
    env.clear_grad(kept)
    torch.testing.assert_close(env.step(torch.ones(4, 8))[0].detach(), first, rtol=0, atol=0)
    env.reset(torch.tensor([1]))
    assert env.progress_buf.tolist() == [1, 0, 1, 1]
    for made, sizes in zip(dflex.ENVIRONMENTS, [(37, 8), (11, 3), (17, 6), (5, 1), (76, 21), (49, 12)]):
        env = made(num_envs=2, no_grad=True)
        assert (env.num_obs, env.num_acts) == sizes, made
        assert not env.step(torch.zeros(2, env.num_acts))[0].requires_grad


# What `instantiate(cfg.env.config, logdir=...)` of published PWM gives, from its files of settings.
PUBLISHED = {
    "AntEnv": dict(termination_height=0.27, action_penalty=0.0, joint_vel_obs_scaling=0.1, up_rew_scale=0.1),
    "HopperEnv": dict(
        termination_height=-0.45,
        termination_angle=0.524,
        termination_height_tolerance=0.15,
        termination_angle_tolerance=0.05,
        height_rew_scale=1.0,
        angle_rew_scale=1.0,
        action_penalty=-0.1,
    ),
    "AnymalEnv": dict(
        nan_state_fix=True,
        termination_height=0.25,
        action_penalty=-5e-3,
        up_rew_scale=0.1,
        heading_rew_scale=1.0,
        heigh_rew_scale=1.0,
    ),
    "HumanoidEnv": dict(
        termination_height=0.74,
        action_penalty=-0.002,
        joint_vel_obs_scaling=0.1,
        termination_tolerance=0.1,
        height_rew_scale=10.0,
        up_rew_scale=0.1,
        heading_rew_scale=1.0,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_published_pwm_asks_of_its_environments(name):
    import pwm_rl.dflex as dflex

    common = dict(render=False, device="cpu", num_envs=4, stochastic_init=True, episode_length=2, MM_caching_frequency=16)
    if name == "HumanoidEnv":
        common["MM_caching_frequency"] = 48
    env = getattr(dflex, name)(no_grad=True, early_termination=True, logdir="/nowhere", **common, **PUBLISHED[name])
    assert env.observation_space.shape == (env.num_obs,) and env.action_space.shape == (env.num_actions,)
    obs = env.reset(grads=True)
    for t in range(4):
        before = obs.clone()
        # It repairs observations in place; that is its own copy.
        obs[:] = 0.0
        obs, reward, done, info = env.step(torch.zeros(4, env.num_actions, requires_grad=True))
        assert not reward.requires_grad and info["obs_before_reset"].shape == obs.shape
        assert (info["truncation"] == (t % 2 == 1)).all()
        torch.testing.assert_close(info["primal"], before[:, env.progress])
        assert done.nonzero(as_tuple=False).squeeze(-1).numel() == (4 if t % 2 else 0)
    assert (env.reset() != obs).any()
    with pytest.raises(pwm_rl.errors.SettingError, match="no_such_thing"):
        getattr(dflex, name)(num_envs=1, no_such_thing=3.0)
    with pytest.raises(pwm_rl.errors.SettingError, match="as published"):
        dflex.HopperEnv(num_envs=1, angle_rew_scale=2.0)


def test_operands_that_were_changed_in_place_are_no_silent_error():
    env = DiffEnv("hopper", 2, seed=0)
    env.reset()
    action = torch.full((2, 3), 0.1, requires_grad=True) * 1.0
    obs, *_ = env.step(action)
    with torch.no_grad():
        action.mul_(-3.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        obs.sum().backward()


def test_what_is_given_is_the_callers():
    env, other = DiffEnv("hopper", 2, seed=0), DiffEnv("hopper", 2, seed=0)
    for e in (env, other):
        e.reset()
    for _ in range(3):
        given = env.step(torch.zeros(2, 3))
        same = other.step(torch.zeros(2, 3))
        torch.testing.assert_close(given[0], same[0], rtol=0, atol=0)
        torch.testing.assert_close(given[1], same[1], rtol=0, atol=0)
        given[0].fill_(1e3)
        given[4]["obs_before_reset"].fill_(1e3)


def test_environments_are_freed():
    env = DiffEnv("hopper", 2, seed=0)
    env.reset()
    obs, *_ = env.step(torch.zeros(2, 3, requires_grad=True))
    obs.sum().backward()
    gone = weakref.ref(env)
    del env, obs
    gc.collect()
    assert gone() is None


def test_wrong_shapes_are_refused():
    env = DiffEnv("hopper", 2, seed=0)
    with pytest.raises(pwm_rl.errors.SettingError, match="reset"):
        env.step(torch.zeros(2, 3))
    env.reset()
    with pytest.raises(pwm_rl.errors.SettingError, match=r"\(2, 3\)"):
        env.step(torch.zeros(2, 4))
    with pytest.raises(pwm_rl.errors.SettingError, match="mask"):
        env.reset(mask=[True])


def test_arrays_speak_dlpack():
    obs, _ = pwm_rl.make_vec("ant", 2, copy=False).reset(seed=0)
    np.testing.assert_array_equal(torch.from_dlpack(obs).numpy(), obs)


def test_jax_reads_them():
    jax = pytest.importorskip("jax")
    obs, _ = pwm_rl.make_vec("ant", 2).reset(seed=0)
    np.testing.assert_array_equal(np.asarray(jax.dlpack.from_dlpack(obs)), obs)
