"""Every example runs: of the README, of docstrings, of the notebook."""

import doctest
import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def has_torch():
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


def test_the_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) >= 5
    for block in blocks:
        if re.search(r"torch|dflex", block) and not has_torch():
            continue
        # Each stands for itself: somebody copies it.
        exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("name", ["pwm_rl", "pwm_rl.runs", "pwm_rl.torch"])
def test_docstrings(name):
    if name.endswith("torch") and not has_torch():
        pytest.skip("no PyTorch")
    module = importlib.import_module(name)
    found = doctest.testmod(module, extraglobs={"pwm_rl": importlib.import_module("pwm_rl")})
    assert found.failed == 0 and found.attempted > 0


def test_the_notebook(tmp_path, monkeypatch):
    if not has_torch():
        pytest.skip("no PyTorch")
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "notebooks" / "ant.ipynb").read_text())["cells"]
    scope = {"display": lambda *_: None, "QUICK": True}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "ant.ipynb", "exec"), scope)
