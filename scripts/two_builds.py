"""Two builds of the programs side by side: of an earlier commit and of this checkout."""

import argparse
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Build:
    """Programs and what they were made from."""

    def __init__(self, checkout):
        self.programs = checkout / "target" / "release"
        git = lambda *args: subprocess.run(
            ["git", "-C", checkout, *args], check=True, capture_output=True, text=True
        ).stdout.strip()
        self.commit = git("rev-parse", "--short=12", "HEAD")
        self.changed = bool(git("status", "--porcelain", "--untracked-files=no"))

    def __str__(self):
        return self.commit + (", with changes that are not committed" if self.changed else "")


def build(checkout):
    subprocess.run(["cargo", "build", "--release", "--bins"], cwd=checkout, check=True)
    return Build(checkout)


def base(commit):
    """The commit in a work tree below target/, which is kept: to build it takes minutes."""
    git = ["git", "-C", ROOT]
    name = subprocess.run(
        [*git, "rev-parse", "--verify", f"{commit}^{{commit}}"], check=True, capture_output=True, text=True
    ).stdout.strip()
    tree = ROOT / "target" / "base" / name[:12]
    if not tree.exists():
        # Forced: git may remember a tree at this place that was deleted.
        subprocess.run([*git, "worktree", "add", "--quiet", "--force", "--detach", tree, name], check=True)
    return build(tree)


def parser(doc):
    """Arguments that say which two builds are meant."""
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("commit", nargs="?", help="commit to compare with, built in a work tree below target/")
    p.add_argument("--base-dir", type=pathlib.Path, help="a built checkout to compare with, instead of a commit")
    p.add_argument("--new-dir", type=pathlib.Path, help="a built checkout to judge, instead of this one")
    return p


def builds(p, args):
    """Both builds, the earlier one first."""
    if (args.commit is None) == (args.base_dir is None):
        p.error("give a commit or --base-dir")
    old = Build(args.base_dir.resolve()) if args.base_dir else base(args.commit)
    new = Build(args.new_dir.resolve()) if args.new_dir else build(ROOT)
    print(f"base: {old}\nnew:  {new}", flush=True)
    return old, new
