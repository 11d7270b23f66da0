#!/usr/bin/env python3
"""Steps a second under MuJoCo's law beside MuJoCo's own engine, every system, on one core in turns.

    benches/mujoco_speed.py PYTHON [TURNS [SECONDS]]

PYTHON has the package `mujoco`, which holds the engine as a C library; it is called from C. The machine must be idle.
"""
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def engine(python, folder):
    """The peer, compiled, and the version of its engine."""
    say = "import mujoco, pathlib; print(mujoco.__version__); print(pathlib.Path(mujoco.__file__).parent)"
    version, package = subprocess.run([python, "-c", say], check=True, capture_output=True, text=True).stdout.split()
    library = next(pathlib.Path(package).glob("libmujoco.so*"))
    program = folder / "mujoco_step"
    subprocess.run(["cc", "-O3", "-I", f"{package}/include", ROOT / "benches/peers/mujoco_step.c", "-o", program, library,
                    f"-Wl,-rpath,{package}", "-lm"], check=True)
    return program, version


def main():
    python, turns, seconds = sys.argv[1], int((sys.argv[2:] or [5])[0]), (sys.argv[3:] or ["2"])[0]
    load = open("/proc/loadavg", encoding="utf-8").read().split()[0]
    bench = ["cargo", "bench", "--quiet", "--bench", "mujoco_step", "--", seconds]
    ours, theirs = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        program, version = engine(python, pathlib.Path(scratch))
        for _ in range(turns):
            out = subprocess.run(bench, check=True, capture_output=True, text=True, cwd=ROOT).stdout
            for row in map(json.loads, out.splitlines()):
                system, environments = row["system"], row["environments"]
                ours.setdefault(system, []).append(row["steps_per_s"])
                command = [program, ROOT / f"configs/mujoco/{system}.xml", environments, row["substeps"], seconds]
                out = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
                theirs.setdefault(system, []).append(float(out))
    commit = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout.strip()
    cpu = next(line.split(": ")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if "model name" in line)
    print("# Physics steps a second under MuJoCo's law, one thread\n")
    print(f"Commit {commit}, {cpu}, load {load} before; medians of {turns} turns. {environments} environments under random")
    print(f"controls; beside them MuJoCo {version}, `mj_step` called from C, double precision.\n")
    print("| system | here, single precision | MuJoCo | ratio |")
    print("|---|---:|---:|---:|")
    for system in ours:
        a, b = statistics.median(ours[system]), statistics.median(theirs[system])
        print(f"| {system} | {a:,.0f} | {b:,.0f} | {a / b:.1f} |")


if __name__ == "__main__":
    main()
