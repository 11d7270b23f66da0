#!/usr/bin/env python3
"""A sweep on a real SLURM: one slurmctld and one slurmd, started here with a configuration of their own.

    apt-get install slurmctld slurmd slurm-client munge      # as root, as this script must run
    scripts/slurm_sweep.py [FOLDER OF pwm AND pwm-train]     # target/release

Three members are submitted as an array and queue on two processors; one is killed and says so; the others are told of the
end of their time, go back into the queue by themselves, are preempted by a job of another partition, requeued by SLURM,
and lose the process that started them. The same command submits what is left; all end, to the bits of runs that nothing
disturbed, with one report. Takes about two minutes.
"""
import filecmp
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release").resolve()
SETTINGS = """alg=shac_small env=hopper num_envs=32 horizon=16 max_minutes=0 eval_every=200 eval_episodes=2 save_every=50
log_every=50 max_epochs=3000""".split()
SEEDS = [0, 1, 2]


def configuration(folder, host):
    folder = str(folder)
    return f"""
ClusterName=pwm
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
SlurmctldPort=26817
SlurmdPort=26818
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
ReturnToService=2
SchedulerParameters=batch_sched_delay=1,sched_min_interval=500000,bf_interval=2
NodeName={host} CPUs=2 RealMemory=6000 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=5 State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""


class Cluster:
    def __init__(self, folder):
        self.folder, self.processes = folder, []
        for name in ("state", "spool"):
            (folder / name).mkdir()
        host = subprocess.run(["hostname", "-s"], capture_output=True, text=True, check=True).stdout.strip()
        conf = folder / "slurm.conf"
        conf.write_text(configuration(folder, host))
        os.environ["SLURM_CONF"] = str(conf)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        munge = ["--key-file", key, "--socket", folder / "munge.socket", "--pid-file", folder / "munge.pid",
                 "--log-file", folder / "munge.log", "--seed-file", folder / "munge.seed"]
        self.start("munged", "--foreground", "--force", *munge)
        self.start("slurmctld", "-D", "-c")
        self.start("slurmd", "-D", "-c", "-N", host)
        wait("the node is up", lambda: "idle" in said("sinfo", "-h", "-o", "%T"), 60)

    def start(self, *command):
        log = open(self.folder / f"{command[0]}.out", "w", encoding="utf-8")
        self.processes.append(subprocess.Popen([str(c) for c in command], stdout=log, stderr=log))
        time.sleep(1)
        if self.processes[-1].poll() is not None:
            sys.exit(f"{command[0]} does not start: {(self.folder / (command[0] + '.out')).read_text()}")

    def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def said(*command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False).stdout.strip()


def wait(what, is_so, seconds=120):
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            print(said("squeue"), said("sinfo"))
            sys.exit(f"FAILED: it does not come: {what}")
        time.sleep(0.2)
    print(f"  {what}", flush=True)


def train(*more):
    out = subprocess.run([PROGRAMS / "pwm-train", *SETTINGS, *more], capture_output=True, text=True, check=False)
    if out.returncode:
        sys.exit(f"FAILED: {out.stdout}{out.stderr}")
    return out.stdout


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="slurm_sweep"))
    cluster = Cluster(folder)
    sweep = folder / "a sweep"
    submit = ["--multirun", f"seed={','.join(map(str, SEEDS))}", f"run_dir={sweep}", "--launcher", "slurm",
              "--sbatch=--partition=low"]

    def status():
        out = said(PROGRAMS / "pwm", "sweep", "status", sweep, "--json")
        return {m["overrides"]["seed"]: m for m in json.loads(out)["members"]}

    def states():
        return [m["state"] for m in status().values()]

    def pids(seed, kind):
        """Processes of a member: those that train it, or those that look after it."""
        place = SEEDS.index(seed)
        mark = f"/seed={seed}" if kind == "trains" else f"--member {place}"
        lines = said("ps", "-eo", "pid=,args=").splitlines()
        return [int(line.split()[0]) for line in lines if "pwm-train" in line and line.endswith(mark) or
                "pwm-train" in line and mark + " " in line]

    def release():
        """SLURM keeps a requeued job back for two minutes; before its old credential is gone it could not start."""
        time.sleep(4)
        for job in said("squeue", "-h", "-r", "-t", "PENDING", "-o", "%i").split():
            said("scontrol", "update", f"JobId={job}", "StartTime=now")

    try:
        print("queue", flush=True)
        told = train(*submit)
        print("  " + told.strip().replace("\n", "\n  ").replace(str(folder), "FOLDER"))
        wait("two run, one is in the queue", lambda: sorted(states()) == ["queued", "running", "running"])
        again = train(*submit)
        assert "nothing is left to do" in again, again

        print("kill", flush=True)
        wait("seed 0 has a checkpoint", lambda: (status()["0"]["epoch"] or 0) >= 100)
        os.kill(pids(0, "trains")[0], signal.SIGKILL)
        wait("it says why it failed", lambda: status()["0"]["state"] == "failed"
             and "killed by SIGKILL" in status()["0"]["why"])
        wait("the others go on", lambda: status()["1"]["state"] == status()["2"]["state"] == "running")

        print("time limit", flush=True)
        # The last task of an array has the array's own number, and must not take the others with it.
        wait("seed 2 has a checkpoint", lambda: (status()["2"]["epoch"] or 0) >= 100)
        task = json.loads((sweep / "sweep.json").read_text())["members"][2]["job"]
        said("scancel", "--signal=USR1", "--batch", task)
        run = lambda seed: json.loads((sweep / f"seed={seed}" / "run.json").read_text())
        wait("seed 2 went back into the queue by itself", lambda: status()["2"]["state"] == "queued")
        assert run(2)["ended"]["kind"] == "signal", run(2)
        assert status()["1"]["state"] == "running" and run(1)["resumed"] == 0, "it took another one with it"
        release()
        wait("and goes on", lambda: status()["2"]["state"] == "running" and run(2)["resumed"] == 1)
        assert status()["0"]["state"] == "failed" and run(1)["resumed"] == 0

        print("preemption", flush=True)
        wait("both run", lambda: states()[1:] == ["running", "running"])
        said("sbatch", "--partition=high", "--cpus-per-task=2", "--output=/dev/null", "--wrap", "sleep 2")
        wait("both were requeued by SLURM", lambda: states()[1:] == ["queued", "queued"])
        wait("the other job is over", lambda: "high" not in said("squeue", "-h", "-o", "%P"))
        release()
        wait("both go on", lambda: states()[1:] == ["running", "running"])

        print("the process that looks after a member is lost", flush=True)
        wait("seed 2 is on its way", lambda: (status()["2"]["epoch"] or 0) >= 200)
        os.kill(pids(2, "looks after")[0], signal.SIGKILL)
        wait("its member ended with it", lambda: not pids(2, "trains")
             and status()["2"]["state"] in ("interrupted", "queued"))
        said("scancel", json.loads((sweep / "sweep.json").read_text())["members"][2]["job"])
        wait("it is not in the queue", lambda: status()["2"]["state"] == "interrupted")

        print("the same command again, with --retry", flush=True)
        told = train(*submit, "--retry")
        assert "2 of them to be submitted" in told, told
        wait("all are over", lambda: states() == ["finished"] * 3, 400)
        report = sweep / "report" / "report.html"
        wait("the report is there", report.is_file)
        for seed in SEEDS:
            alone = folder / f"alone{seed}"
            train(f"seed={seed}", f"run_dir={alone}", "threads=2")
            same = filecmp.cmp(alone / "checkpoints/latest.safetensors", sweep / f"seed={seed}/checkpoints/latest.safetensors",
                               shallow=False)
            assert same, f"seed {seed} learned something else"
            print(f"  seed {seed}: the bits of a run that nothing disturbed", flush=True)
    finally:
        said("scancel", "--user=root")
        cluster.stop()
    shutil.rmtree(folder)
    print("PASSED")


if __name__ == "__main__":
    main()
