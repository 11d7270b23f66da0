"""Training, plans, run folders and policies."""

import json
import multiprocessing
import shutil
import signal
import threading

import numpy as np
import pytest

import pwm_rl

SMALL = ("alg=shac_small", "env=hopper", "num_envs=8", "horizon=8", "eval_every=4", "eval_episodes=2", "log_every=2")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rows = []
    made = pwm_rl.train(
        *SMALL, episode_length=50, max_epochs=8, run_dir=tmp_path_factory.mktemp("run") / "a", on_row=rows.append
    )
    return made, rows


def test_rows_come_as_they_are_written(run):
    made, rows = run
    assert [r["epoch"] for r in rows] == [0, 2, 4, 6, 8]
    assert rows == list(made.rows())
    assert "best policy" in made.said and made.info["ended"]["kind"] == "epochs"
    assert made.config["env"] == "hopper" and made.config["max_epochs"] == 8


def test_rows_are_frames(run):
    made, rows = run
    pandas = pytest.importorskip("pandas")
    metrics, evaluations = made.metrics(), made.evaluations()
    assert isinstance(metrics, pandas.DataFrame) and list(metrics["epoch"]) == [0, 2, 4, 6, 8]
    assert list(evaluations["epoch"]) == [0, 4, 8] and evaluations["eval/return_mean"].notna().all()
    polars = pytest.importorskip("polars")
    frame = made.metrics("polars")
    assert isinstance(frame, polars.DataFrame) and frame["epoch"].to_list() == [0, 2, 4, 6, 8]
    assert frame["eval/return_mean"].null_count() == 2
    with pytest.raises(pwm_rl.errors.SettingError, match="polars"):
        made.metrics("numpy")


def test_rows_that_are_damaged_or_gone_are_errors(run, tmp_path):
    made, _ = run
    copy = tmp_path / "copy"
    shutil.copytree(made.path, copy)
    file = copy / "metrics.jsonl"
    text = file.read_text()
    file.write_text(text + "{\"half\":")
    assert len(list(pwm_rl.Run(copy).rows())) == 5
    file.write_text("nonsense\n" + text)
    with pytest.raises(pwm_rl.errors.DamagedError, match=":1:"):
        pwm_rl.Run(copy).metrics()
    file.unlink()
    with pytest.raises(pwm_rl.errors.FileError):
        pwm_rl.Run(copy).metrics()
    (tmp_path / "empty").mkdir()
    with pytest.raises(pwm_rl.errors.SettingError, match="no checkpoint"):
        pwm_rl.Policy.load(tmp_path / "empty")


def test_a_policy_acts_as_in_evaluation(run, tmp_path):
    made, _ = run
    policy = made.policy()
    assert policy.task == "hopper" and policy.tasks == ["hopper"] and policy.config["env"] == "hopper"
    obs, _ = pwm_rl.make_vec("hopper", 20).reset(seed=0)
    actions = policy(obs)
    assert actions.shape == (20, 3) and (np.abs(actions) <= 1).all()
    # Rows do not depend on each other, nor on how many there are.
    np.testing.assert_array_equal(policy(obs[3]), actions[3])
    np.testing.assert_array_equal(policy(obs.reshape(4, 5, -1)), actions.reshape(4, 5, -1))
    assert policy.predict(obs)[0].shape == actions.shape
    latest = pwm_rl.Policy.load(made.path / "checkpoints" / "latest.safetensors")
    assert latest.epoch == 8
    with pytest.raises(pwm_rl.errors.SettingError, match="11"):
        policy(np.zeros((2, 12)))
    with pytest.raises(pwm_rl.errors.SettingError, match="hopper"):
        pwm_rl.Policy.load(made.path, task="ant")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes((made.path / "checkpoints" / "best.safetensors").read_bytes()[:100])
    with pytest.raises(pwm_rl.errors.DamagedError):
        pwm_rl.Policy.load(damaged)
    with pytest.raises(pwm_rl.errors.FileError):
        pwm_rl.Policy.load(tmp_path / "nothing.safetensors")


def test_an_exception_stops_a_run_which_goes_on(tmp_path):
    class Enough(Exception):
        pass

    heard = []

    def hear(row):
        heard.append(row["epoch"] >= 4)
        if row["epoch"] >= 4:
            raise Enough

    with pytest.raises(Enough):
        pwm_rl.train(*SMALL, max_epochs=5_000, run_dir=tmp_path / "b", on_row=hear)
    stopped = pwm_rl.Run(tmp_path / "b")
    assert stopped.info["ended"]["kind"] == "request" and 4 <= stopped.info["epoch"] < 5_000
    assert heard.count(True) == 1, "nothing is heard after it"
    epoch = stopped.info["epoch"]
    again = pwm_rl.train(resume=tmp_path / "b", max_epochs=epoch + 3)
    assert again.info["epoch"] == epoch + 3 and again.info["resumed"] == 1 and "best policy" in again.said


def test_an_error_while_a_stopped_run_saves_is_told(tmp_path):
    def hear(row):
        if row["epoch"] >= 4:
            shutil.rmtree(tmp_path / "f" / "checkpoints")
            raise KeyError("enough")

    with pytest.raises(KeyError) as raised:
        pwm_rl.train(*SMALL, max_epochs=5_000, run_dir=tmp_path / "f", on_row=hear)
    assert isinstance(raised.value.__cause__, pwm_rl.errors.FileError)


def test_a_sweep_is_for_the_command_line(tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(pwm_rl.errors.SettingError, match="sweep"):
        pwm_rl.train(resume=tmp_path)


def _in_a_fork(run, send):
    policy, obs = run
    # The policy that came with the fork, grown here, a new plan, and a new run.
    made = policy(np.repeat(obs, 40, 0))
    del policy
    pwm_rl.plan("alg=pwm_small")
    send.send(made[0])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_fork_acts_and_plans(run):
    made, _ = run
    policy = pwm_rl.Policy.load(made.path, threads=2)
    obs, _ = pwm_rl.make_vec("hopper", 1).reset(seed=0)
    mine = policy(obs)
    pwm_rl.plan("alg=pwm_small")
    receive, send = multiprocessing.Pipe(False)
    child = multiprocessing.get_context("fork").Process(target=_in_a_fork, args=((policy, obs), send))
    child.start()
    assert receive.poll(60), "the child hangs"
    np.testing.assert_array_equal(receive.recv(), mine[0])
    child.join(60)
    assert child.exitcode == 0


def test_ctrl_c_stops_a_run_with_everything_saved(tmp_path):
    seen = []

    def hear(row):
        seen.append(row["epoch"])
        if len(seen) == 2:
            signal.raise_signal(signal.SIGINT)

    # A shell that starts something in the background has it ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            pwm_rl.train(*SMALL, max_epochs=5_000, run_dir=tmp_path / "c", on_row=hear)
    finally:
        signal.signal(signal.SIGINT, before)
    run = pwm_rl.Run(tmp_path / "c")
    assert run.info["ended"]["kind"] == "request" and (run.path / "checkpoints" / "latest.safetensors").is_file()


def test_python_goes_on_while_a_run_trains(tmp_path):
    counted, over, at_rows = [0], threading.Event(), []

    def count():
        while not over.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    pwm_rl.train(*SMALL, max_epochs=60, run_dir=tmp_path / "d", on_row=lambda _: at_rows.append(counted[0]))
    over.set()
    thread.join()
    # Between the rows the lock was free.
    assert at_rows[-1] - at_rows[0] > 1000


def test_plans_say_what_a_run_would_hold():
    plan = pwm_rl.plan("alg=pwm_48M_flow_v2", mem="128G")
    assert plan["fits"] and plan["host"] > 10**9
    assert not pwm_rl.plan("alg=pwm_48M_flow_v2", mem="1G")["fits"]
    assert pwm_rl.plan("alg=pwm_5M", device="cuda:0", precision="tf32", epoch=True)["kernel_nodes"] > 1000
    with pytest.raises(pwm_rl.errors.SettingError):
        pwm_rl.plan(mem="much")


def test_wrong_settings_are_refused_before_anything_is_made(tmp_path):
    with pytest.raises(pwm_rl.errors.SettingError, match="max_epochs"):
        pwm_rl.train("alg=pwm_small", max_epoch=3, run_dir=tmp_path / "e")
    with pytest.raises(pwm_rl.errors.BudgetError):
        pwm_rl.train("alg=pwm_48M", mem="1G", run_dir=tmp_path / "e")
    assert not (tmp_path / "e").exists()
    with pytest.raises(pwm_rl.errors.SettingError, match="no run"):
        pwm_rl.Run(tmp_path)


def test_settings_are_values(tmp_path):
    c = pwm_rl.config("alg=pwm_5M", units=[64, 64], early_termination=False, seed=3)
    assert c["units"] == [64, 64] and c["early_termination"] is False and c["seed"] == 3
    json.dumps(c)
