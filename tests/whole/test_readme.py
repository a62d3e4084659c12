"""The commands that the README gives, run as they stand there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_commands(tmp_path):
    lines = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]
    assert len(lines) >= 4
    for line in lines:
        program, *arguments = shlex.split(line)
        # The same interpreter and the same ncsim, wherever the shell would have found them.
        start = {"ncsim": [sys.executable, "-m", "ncsim.cli"], "python": [sys.executable]}[program]
        done = subprocess.run([*start, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout.strip(), line
    assert (tmp_path / "runs" / "widths" / "figures" / "laws.png").exists()


def test_python_example(tmp_path):
    (example,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.match(r"S > 2 in \d+\.\d% of members, contextual 0\.0%\n\(2, 500, 2, 2, 2, 2\)\n", done.stdout)


def test_figure_is_on_the_first_screen_and_there():
    place = README[: README.index("![")].count("\n")
    assert place < 25
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


def test_make_targets_exist():
    targets = re.findall(r"`?make ([a-z0-9-]+)", README)
    assert {"figure2", "test"} <= set(targets)
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("path", sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("experiments/*.py")))
def test_experiments_say_what_they_are(path):
    text = (ROOT / path).read_text()
    if path.endswith("__init__.py"):
        assert text == ""
        return
    for heading in ("Question.", "Command.", "Time.", "Expected."):
        assert heading in text, f"{path} lacks {heading}"
