"""The commands and the code that the README gives, run as they stand there, with the output that it prints beside them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.storage.run_folder import RunFolder
from tests.statistics.test_protocols import made_up

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
README = (ROOT / "README.md").read_text()
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def examples(language):
    """Each block of code with the output that stands behind it."""
    return re.findall(rf"```{language}\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL)


def assert_same_output(printed, promised):
    """The same words, and numbers that another kind of processor may move a little: laws agree, single members need not."""
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", promised), printed
    for found, expected in zip(NUMBER.findall(printed), NUMBER.findall(promised), strict=True):
        percent = re.search(rf"(?<![\d.]){re.escape(expected)}%", promised)
        whole = "." not in expected and not percent
        tolerance = 0 if whole else 5 if percent else 0.1
        assert abs(float(found) - float(expected)) <= tolerance, printed


@pytest.mark.slow
def test_commands(tmp_path):
    lines = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]
    assert len(lines) >= 5
    if "ncsim report runs/my-tasks" in lines:
        lines.remove("ncsim report runs/my-tasks")  # test_own_task has made that run
    for line in lines:
        assert_runs(line, tmp_path)
    assert (tmp_path / "runs" / "widths" / "figures" / "laws.png").exists()


def test_runs_of_the_readme_are_a_study_as_the_page_on_scaling_has_it(tmp_path, monkeypatch, capsys):
    """With made-up members in place of trained ones: no two folders have the same members of a cell."""

    def made(configs, out, **_):
        folder = RunFolder.create(out, configs)
        for config in configs:
            for gap in folder.missing(config):
                folder.write_part(config, made_up(gap.stop).take(slice(gap.start, gap.stop)))
        return ncsim.open_run(out)

    monkeypatch.setattr("ncsim.ensemble.run.run_ensemble", made)
    monkeypatch.setattr("ncsim.cli.ensemble.report_run", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "scaling.md").read_text()
    section = page[page.index("\n## Several folders as one study\n") :]
    lines = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]
    lines = [line for line in lines if line.startswith("ncsim ensemble ") and "--out runs/" in line]
    lines += re.findall(r"(?m)^    (ncsim .+)$", section[: section.index("\n\nCells are told apart")])
    assert lines[-1].startswith("ncsim report ")
    for line in lines:
        main(shlex.split(line)[1:])
    printed = capsys.readouterr()
    assert "hidden=3, learning_rate=0.01: 6,000 members" in printed.out
    assert "Not complete" not in printed.out
    assert (tmp_path / "runs" / "study" / "report.html").exists()


def assert_runs(line, folder):
    program, *arguments = shlex.split(line)
    # The same interpreter and the same ncsim, wherever the shell would have found them.
    start = {"ncsim": [sys.executable, "-m", "ncsim.cli"], "python": [sys.executable]}[program]
    done = subprocess.run([*start, *arguments], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert done.stdout.strip(), line


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_examples(number, tmp_path):
    assert len(examples("python")) == len(blocks("python")), "every example has its output behind it"
    code, promised = examples("python")[number]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_same_output(done.stdout, promised)


@pytest.mark.slow
def test_own_task(tmp_path):
    """All of the block that is to be pasted, but for what makes the environment, which these tests have already."""
    ((block, promised),) = examples("bash")
    environment, install, *rest = block.splitlines()
    assert environment == "python3 -m venv .venv && . .venv/bin/activate"
    assert install.startswith("pip install ")
    python = f'python() {{ "{sys.executable}" "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-euc", python + "\n".join(rest)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert_same_output(done.stdout, promised)
    assert_runs("ncsim report runs/my-tasks", tmp_path)


def test_figure_is_on_the_first_screen_and_there():
    place = README[: README.index("![")].count("\n")
    assert place < 50
    assert "\n## " not in README[: README.index("![")]


def test_make_targets_exist():
    targets = re.findall(r"(?m)(?:^    |`)make ([a-z0-9-]+)", README)
    assert {"figure2", "benchmark", "text-demo"} <= set(targets)
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
