"""Recorded episodes of thirty tasks at size: how fast they are indexed and learned from, and in how much memory.

python3 benches/data_set.py [--gb 5] [--python PYTHON] [--folder DIR] [--out benches/results/data_set.md]

Writes chunks in the published layout, filled with noise (PYTHON needs numpy), indexes them and learns a small model of all
thirty tasks from them: once with the files out of the page cache, once with them in it. Memory is what the process has
of its own (RssAnon), looked at ten times a second; where a control group can be made (cgroup v2, root) the learning runs
once more under memory.max of 1.5 GB. The binaries are those of target/release.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROWS, OBS, ACT, TASKS = 501, 24, 6, 30
MAKE = """
import sys, zipfile, struct, zlib, numpy as np
path, episodes, first, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
T, O, A = 501, 24, 6
def text(s): return b"X" + struct.pack("<I", len(s)) + s.encode()
def cls(m, n): return b"c" + m.encode() + b"\\n" + n.encode() + b"\\n"
def num(n): return b"J" + struct.pack("<i", n) if n < 2**31 else b"\\x8a\\x08" + struct.pack("<q", n)
def tup(*n): return b"(" + b"".join(num(x) for x in n) + b"t"
def tensor(i, kind, shape):
    strides = [int(np.prod(shape[d:])) for d in range(1, len(shape) + 1)]
    return (cls("torch._utils", "_rebuild_tensor_v2") + b"((" + text("storage") + cls("torch", kind) + text(str(i)) + text("cpu")
            + num(int(np.prod(shape))) + b"tQ" + num(0) + tup(*shape) + tup(*strides) + b"\\x89"
            + cls("collections", "OrderedDict") + b")RtR")
E = episodes
p = (b"\\x80\\x02" + cls("tensordict.tensordict", "TensorDict") + b")\\x81}(" + text("_tensordict")
     + cls("tensordict.utils", "_StringOnlyDict") + b")\\x81("
     + text("obs") + tensor(0, "FloatStorage", (E, T, O)) + text("action") + tensor(1, "FloatStorage", (E, T, A))
     + text("reward") + tensor(2, "FloatStorage", (E, T)) + text("task") + tensor(3, "IntStorage", (E, T)) + b"u"
     + text("_batch_size") + cls("torch", "Size") + tup(E, T) + b"\\x85Rub.")
r = np.random.default_rng(seed)
block = 500
# Entries of observations and actions of MT30's tasks; behind them the published rows have zeros.
obs = np.array([24,24,24,17,6,6,6,3,5,5,5,5,8,9,12,12,24,15,15,24,24,17,17,17,17,15,8,8,8,3])
act = np.array([6,6,6,6,2,2,1,1,1,1,1,1,2,2,2,2,5,4,4,6,6,6,6,6,6,4,3,3,2,1])
with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as z:
    z.writestr("chunk/data.pkl", p)
    z.writestr("chunk/byteorder", b"little")
    for i, width in enumerate((O, A, 1, 0)):
        with z.open(f"chunk/data/{i}", "w", force_zip64=True) as f:
            for at in range(0, E, block):
                n = min(block, E - at)
                ids = (first + np.arange(at, at + n) * 15 // E).astype("<i4")
                if width == 0:
                    f.write(np.repeat(ids, T).tobytes())
                elif width == 1:
                    f.write(r.random((n, T), np.float32).tobytes())
                else:
                    has = (np.arange(width) < (obs if width == O else act)[ids][:, None])[:, None, :]
                    f.write(((2 * r.random((n, T, width), np.float32) - 1) * has.astype(np.float32)).tobytes())
    z.writestr("chunk/version", b"3\\n")
"""


def own_memory(pid):
    """Bytes that a process and its children have of their own."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return 1024 * int(re.search(r"RssAnon:\s+(\d+)", status)[1])


def watched(command):
    """Seconds that a command takes, and the most memory that it has of its own."""
    begun, most = time.time(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        most = max(most, own_memory(process.pid))
        time.sleep(0.1)
    if process.returncode != 0:
        sys.exit(f"{command}: {process.stderr.read()}")
    return time.time() - begun, most


def forget(files):
    """Takes files out of the page cache."""
    for path in files:
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--gb", type=float, default=5)
    args.add_argument("--python", default=sys.executable)
    args.add_argument("--folder", type=Path, default=Path("target/data_set"))
    args.add_argument("--out", type=Path, default=Path("benches/results/data_set.md"))
    args = args.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    episodes = int(args.gb * 1e9 / 2 / (ROWS * 4 * (OBS + ACT + 2))) + 1
    chunks = []
    for i in range(2):
        path = args.folder / f"chunk_{i}.pt"
        chunks.append(path)
        if not path.is_file():
            subprocess.run([args.python, "-c", MAKE, str(path), str(episodes), str(15 * i), str(i)], check=True)
    index = args.folder / "all.idx"
    size = sum(p.stat().st_size for p in chunks)
    names = json.loads(subprocess.run(["target/release/pwm", "data", "inspect", "--json", str(args.folder)], check=True,
                                      capture_output=True, text=True).stdout)
    tasks = len(names["tasks"])
    lines = ["| what | seconds | GB/s | own memory, MiB |", "|---|---:|---:|---:|"]

    def row(what, command, cold):
        if cold:
            forget(chunks)
        seconds, most = watched(command)
        lines.append(f"| {what} | {seconds:.1f} | {size / 1e9 / seconds:.2f} | {most / 2**20:.0f} |")

    # All numbers once: statistics and checksums.
    command = ["target/release/pwm", "data", "index", str(args.folder), "--out", str(index)]
    row("index, files not in memory", command, True)
    row("index, files in memory as far as there is room", command, False)

    def learn(name, more=()):
        folder = args.folder / name
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        settings = ["alg=pwm_5M_mt_baseline", "mode=pretrain", f"data={index}", "max_epochs=4", "wm_iterations=50",
                    "eval_every=4", "log_every=1", "save_every=1000", "latent_dim=64", "units=[64]", "encoder_units=[64]",
                    "horizon=16", "wm_batch_size=256", f"run_dir={folder}", *more]
        seconds, most = watched(["target/release/pwm-train", *settings])
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        of = [r["time/world_model_s"] for r in rows if r.get("time/world_model_s")]
        per_second = 50 * 256 * 17 * len(of) / sum(of)
        return seconds, most, per_second

    table = ["| what | recorded rows a second | own memory, MiB |", "|---|---:|---:|"]
    for what, cold in [("learning, files not in memory", True), ("the same again", False)]:
        if cold:
            forget(chunks)
        _, most, per_second = learn("run")
        table.append(f"| {what} | {per_second:,.0f} | {most / 2**20:.0f} |")
    group = Path("/sys/fs/cgroup/pwm_data_set")
    try:
        group.mkdir(exist_ok=True)
        (group / "memory.max").write_text(str(1536 << 20))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        forget(chunks)
        _, most, per_second = learn("limited")
        table.append(f"| under memory.max of 1.5 GiB | {per_second:,.0f} | {most / 2**20:.0f} |")
    except OSError as e:
        table.append(f"| under memory.max of 1.5 GiB | not taken: {e.strerror} | |")
    commit = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True).stdout.strip()
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    text = [f"{size / 1e9:.2f} GB in {len(chunks)} chunks: {2 * episodes:,} episodes of {ROWS} rows, {tasks} tasks.",
            f"Commit {commit}, {processor}, {os.cpu_count()} cores, {time.strftime('%F')}: `python3 benches/data_set.py`.", ""]
    args.out.write_text("\n".join(text + lines + [""] + table) + "\n")
    print(args.out.read_text())


main()
