"""The command line: help at once, one line for what is wrong, and the same results as from Python."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.cli.options import configs_of
from ncsim.config.ensemble import allowed_values, field_specs
from tests.support.folders import parts_of
from tests.support.refusals import refused_command as refused

SMALL = ["--hidden", "2", "--members", "70", "--steps", "120"]


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "ncsim.cli", *arguments], capture_output=True, text=True, timeout=120, **options
    )


def test_help_answers_within_a_second_and_names_every_option():
    command("--help")  # once, to compile bytecode
    before = os.times()
    shown = command("ensemble", "--help")
    after = os.times()
    # Of the processor: on a busy machine the clock says nothing.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1.0
    assert shown.returncode == 0
    for name, spec in field_specs().items():
        assert ("--" + name.replace("_", "-") in shown.stdout) == ("help" in spec)
        if spec["type"] is float:
            assert allowed_values(name) in " ".join(
                shown.stdout.split("--" + name.replace("_", "-") + " X [X")[2].split()
            )
    assert "report" in command("--help").stdout


def test_importing_starts_no_backend_and_loads_no_jax():
    code = "import ncsim, sys; ncsim.EnsembleConfig(); print('jax' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert shown.stdout.strip() == "False"
    code = "import ncsim; ncsim.NCnet; ncsim.chsh_statistics; import jax; jax.config.update('jax_num_cpu_devices', 3); print(len(jax.devices()))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert shown.stdout.strip() == "3", shown.stderr


def test_ensemble_and_report(tmp_path, capsys):
    main(["ensemble", *SMALL, "--out", "run", "--learning-rate", "0.01", "0.1"])
    printed = capsys.readouterr()
    assert "learning_rate=0.1: 70 members" in printed.out
    assert "trained 140 members" in printed.err
    stored = ncsim.open_run("run")
    assert (stored.counts == ncsim.run_ensemble(list(stored.configs)).counts).all()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [cell["cell"] for cell in summary["cells"]] == [{"learning_rate": 0.01}, {"learning_rate": 0.1}]
    for suffix in ("png", "svg", "pdf", "csv"):
        assert (tmp_path / "run" / "figures" / f"laws.{suffix}").stat().st_size > 500
    main(["report", "run"])
    assert capsys.readouterr().out == printed.out


@pytest.mark.slow
def test_default_folder_is_the_runs_own(capsys, tmp_path):
    main(["ensemble", *SMALL, "--quiet"])
    assert capsys.readouterr() == ("", "")
    (folder,) = (tmp_path / "runs").iterdir()
    main(["ensemble", *SMALL])
    printed = capsys.readouterr()
    assert "training" not in printed.err
    assert folder.name in printed.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--hidden", "0"], "--hidden: 0; allowed: a whole number from 1 to 64"),
        (["--hidden", "65"], "--hidden: 65; allowed: a whole number from 1 to 64"),
        (["--hidden", "3", "x"], "--hidden: x; allowed: a whole number from 1 to 64"),
        (["--members", "0"], "--members: 0; allowed"),
        (["--members", "-5"], "--members: -5; allowed"),
        (["--members", "5", "6"], "--members: 5 6; allowed: one value"),
        (["--steps", "0"], "--steps: 0; allowed"),
        (["--steps", "-1"], "--steps: -1; allowed"),
        (["--learning-rate", "nan"], "--learning-rate: nan; allowed: a finite number above 0"),
        (["--learning-rate", "0,01"], "--learning-rate: 0,01; allowed: a finite number above 0"),
        (["--optimizer", "adamm"], "--optimizer: 'adamm'; allowed: adabelief"),
        (["--optimizer-options", "momentum=0.9"], "adam has no 'momentum'; allowed: b1, b2"),
        (["--common-initialization", "maybe"], "--common-initialization: maybe; allowed: true or false"),
        (["--hiden", "3"], "--hiden: no such option; did you mean --hidden?"),
        (["--devices", "no"], "--devices: no; allowed: a whole number from 1"),
        (["--devices", "9"], "--devices: 9; allowed: 1 to 4"),
        (["--devices", "9" * 5000], "9...; allowed: a whole number from 1"),
        (["--hidden"], "argument --hidden: expected at least one argument"),
        (["--hidden", "2", "2"], "--hidden: [2, 2] names a value twice"),
        (
            ["--optimizer", "sgd", "--optimizer-options", "momentum=0.9,nesterov=true", "nesterov=true, momentum=0.90"],
            "--optimizer-options: ['momentum=0.9,nesterov=true', 'nesterov=true, momentum=0.90'] names a value twice",
        ),
    ],
)
def test_bad_options_end_in_one_line(capsys, tmp_path, arguments, words):
    assert words in refused(capsys, "ensemble", *arguments)
    assert list(tmp_path.rglob("*.parquet")) == []


def test_an_option_is_the_same_in_the_help_of_each_command(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")

    def of(command, option):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        return next(line for line in capsys.readouterr().out.splitlines() if line.strip().startswith(option))

    devices = {of(command, "--devices") for command in ("ensemble", "scenario", "plan", "separability", "reservoir")}
    assert {line.split(maxsplit=2)[2] for line in devices} == {"devices to use; on a CPU, cores (default: all)"}
    for kind in ("ensemble", "scenario", "text"):
        assert f"s3://... or gs://...; one that holds this run is resumed (default: runs/{kind}-DIGITS)" in of(
            kind, "--out"
        )
    assert of("words", "--exponent").endswith("(a number above 0 and at most 3; default: 1)")
    assert of("words", "--splits").endswith("(2 to 1000; default: 20)")


@pytest.mark.parametrize(
    "command", [["ensemble", *SMALL], ["plan", *SMALL], ["scenario"], ["text", "--model", "model"]]
)
def test_a_command_stores_nothing_in_its_own_memory(capsys, command):
    """It would train, say where the run is stored, and end with it."""
    expected = (
        "--out: memory://runs/a; it would be gone when the command ends; allowed: a folder, or s3://, gs://, az://"
    )
    assert expected in refused(capsys, *command, "--out", "memory://runs/a")


def test_bad_commands_and_folders(capsys, tmp_path):
    assert "invalid choice: 'trian'" in refused(capsys, "trian")
    assert "required: COMMAND" in refused(capsys)
    assert "nowhere: no run is stored there" in refused(capsys, "report", "nowhere")
    main(["ensemble", *SMALL, "--out", "run", "--quiet"])
    assert "holds another config's run (hidden is 2 there, 3 here)" in refused(
        capsys, "ensemble", "--hidden", "3", "--out", "run"
    )
    part = parts_of(tmp_path / "run")[0]
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    for arguments in (["report", "run"], ["ensemble", *SMALL, "--out", "run"]):
        assert "is torn" in refused(capsys, *arguments)
    part.write_bytes(whole)
    assert ncsim.open_run("run").counts.shape[0] == 70


@pytest.fixture
def open_path():
    """A folder that other users come to. Not pytest's: each session of it that begins takes the way there from them once more."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        made.chmod(0o755)
        yield made


def test_a_folder_that_cannot_be_written_to(open_path):
    """As a user who may not write there; root may write anywhere, so root becomes nobody."""
    folder = open_path / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    if os.geteuid() == 0:
        # The interpreter may itself be where only root can read, so the process changes user once it has imported.
        become = "import ncsim.ensemble.run, ncsim.executors.xla, ncsim.cli.command, os; os.setgid(65534); os.setuid(65534); "
    else:
        become = "import ncsim.cli; "
    script = become + "import sys; ncsim.cli.main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", script, "ensemble", *SMALL, "--out", str(folder / "run")],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"ncsim: error: {folder / 'run'}: cannot be written to (Permission denied)\n"


def test_interrupt_keeps_what_is_stored(tmp_path):
    """Ctrl-C while training: status 130, one line, and the same command finishes the run."""
    import signal

    arguments = [*SMALL[:2], "--members", "60000", "--steps", "400", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "ncsim.cli", "ensemble", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stderr.readline()
    assert "training 60,000 members" in line
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted; what is stored is whole, and the same command resumes" in errors
    assert "Traceback" not in errors


def test_options_are_the_fields():
    import argparse

    parser = argparse.ArgumentParser()
    from ncsim.cli.options import add_config_options

    add_config_options(parser)
    words = "--hidden 2 3 --common-initialization --precision float64 --members 1_000 --optimizer sgd".split()
    configs = configs_of(parser.parse_args(words))
    assert [c.hidden for c in configs] == [2, 3]
    assert configs[0].common_initialization is True
    assert configs[0].members == 1000
    assert configs_of(parser.parse_args([])) == [ncsim.EnsembleConfig()]


def test_help_of_text_says_what_each_number_may_be(capsys):
    with pytest.raises(SystemExit):
        main(["text", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for option, allowed in (
        ("--learning-rate X", "a finite number above 0"),
        ("--warmup X", "a number from 0 to 1"),
        ("--dropout X", "a number from 0 to 0.99"),
        ("--clip X", "a finite number, 0 or above"),
    ):
        assert f"({allowed}; default: " in said.split(f"{option} ")[-1].split(" --")[0], option
