"""Settings in a file: what it says is what the options say, options override it, and what is wrong with it is one line."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.storage.run_folder import RunFolder
from ncsim.storage.scenario_folder import ScenarioFolder
from ncsim.storage.trajectory_folder import TrajectoryFolder

TASKS = """
[tasks]
inputs = [[0, 0], [0, 1], [1, 0], [1, 1]]
alice = [[0, 0, 1, 1], [1, 1, 0, 0]]
bob = [[0, 1, 0, 1], [0, 0, 0, 1]]
name = "four rows"
"""


@pytest.fixture
def asked(monkeypatch):
    """What `ncsim ensemble` would train, in place of training it."""
    found = []
    monkeypatch.setattr("ncsim.ensemble.run.run_ensemble", lambda configs, **options: found.append((configs, options)))
    monkeypatch.setattr("ncsim.cli.ensemble.report_run", lambda *_: None)
    return found


def printed(capsys, *arguments):
    main(["ensemble", *arguments, "--print-config"])
    return capsys.readouterr().out


def refused(capsys, *arguments):
    """The one line with which the command ends."""
    with pytest.raises(SystemExit) as end:
        main(["ensemble", *arguments])
    out, err = capsys.readouterr()
    assert (end.value.code, out, err.count("\n")) == (2, "", 1)
    return err.removeprefix("ncsim: error: ").rstrip("\n")


def test_a_file_is_what_its_options_are(asked):
    Path("study.toml").write_text(
        'hidden = [2, 3]\nlearning-rate = 1\noptimizer = "sgd"\ncommon_initialization = [true, false]\nmembers = 7\n'
        'out = "here"\ndevices = 2\nexecutor = "xla"\nrecord_points = 4\nquiet = true\n'
    )
    main(["ensemble", "--config", "study.toml"])
    words = "--hidden 2 3 --learning-rate 1 --optimizer sgd --common-initialization true false --members 7 --out here "
    main(["ensemble", *(words + "--devices 2 --executor xla --record-points 4 --quiet").split()])
    assert asked[0] == asked[1]
    assert len(asked[0][0]) == 4
    assert asked[0][0][0].learning_rate == 1.0


def test_options_override_the_file(asked):
    Path("study.toml").write_text(
        'hidden = [2, 3]\nsteps = 5\nexecutor = "native"\nout = "there"\ndistributed = false\n'
    )
    main("ensemble --config study.toml --hidden 4 --executor auto --out here --quiet".split())
    ((configs, options),) = asked
    assert configs == ncsim.config_grid(hidden=4, steps=5)
    assert (options["executor"], options["out"]) == ("auto", "here")


def test_own_tasks_stand_in_a_file(asked, capsys):
    Path("study.toml").write_text("hidden = 2\n" + TASKS)
    main("ensemble --config study.toml --quiet".split())
    tasks = asked[0][0][0].tasks
    assert (tasks.name, tasks.rows, tasks.alice_features, tasks.bob_features) == ("four rows", 4, (0,), (1,))
    Path("again.toml").write_text(printed(capsys, "--config", "study.toml"))
    main("ensemble --config again.toml --quiet".split())
    assert asked[1][0] == asked[0][0]


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--hidden 2 3 --learning-rate 1e-5 0.25 --members 9",
        "--topology overlap --shared 2 --hidden 4",
        '--optimizer sgd --optimizer-options momentum=0.9,nesterov=true --out runs/"quoted"\\ü --quiet',
        "--record-every 5 --devices 1 --audit 0.5 --audit-seed 3 --executor xla",
    ],
)
def test_what_is_printed_is_taken_and_printed_again(words, capsys):
    text = printed(capsys, *words.split())
    tomllib.loads(text)
    Path("printed.toml").write_text(text)
    assert printed(capsys, "--config", "printed.toml") == text


def test_the_frozen_copy_of_a_run_is_such_a_file(asked, capsys):
    """Its grid, its own tasks and what it records; a new folder for the same, or more members of it."""
    Path("study.toml").write_text("hidden = [2, 3]\nsteps = [4, 5]\nmembers = 6\n" + TASKS)
    main("ensemble --config study.toml --record-every 2 --quiet".split())
    folder = RunFolder.create("run", asked[0][0])
    TrajectoryFolder(folder).check(asked[0][1]["recording"], ("margin",))
    main("ensemble --config run/config.json --out other --quiet".split())
    assert asked[1][0] == asked[0][0]
    assert asked[1][1]["recording"] == asked[0][1]["recording"]
    main("ensemble --config run/config-copy.json --members 60 --hidden 3 --quiet".split())
    assert [(config.hidden, config.steps, config.members) for config in asked[2][0]] == [(3, 4, 60), (3, 5, 60)]
    assert tomllib.loads(printed(capsys, "--config", "run/config.json"))["steps"] == [4, 5]


def test_a_stored_grid_whose_values_differ_in_text_alone_is_taken_by_its_own_command(asked, capsys):
    """A list of configs may have momentum=0.9 and 0.90, which no option may: the run was refused by its own config.json."""
    same = {"hidden": 2, "members": 6, "optimizer": "sgd"}
    grid = [ncsim.EnsembleConfig(**same, optimizer_options=f"momentum={word}") for word in ("0.9", "0.90")]
    RunFolder.create("run", grid)
    main("ensemble --config run/config.json --out run --quiet".split())
    assert asked[0][0] == grid
    Path("printed.toml").write_text(printed(capsys, "--config", "run/config.json"))
    main("ensemble --config printed.toml --quiet".split())
    assert asked[1][0] == grid
    assert "has values that train the same networks; each is trained\n" in capsys.readouterr().err
    again = "--config run/config.json --optimizer-options momentum=0.9 momentum=0.90"
    assert "names a value twice" in refused(capsys, *again.split())


def test_values_of_a_file_that_differ_in_text_alone_are_said(asked, capsys):
    """Of a hand-written file both were trained without a word. An option refuses them; a printed file of a stored run may have them."""
    Path("study.toml").write_text('optimizer = "sgd"\noptimizer_options = ["momentum=0.9", "momentum=0.90", ""]\n')
    main("ensemble --config study.toml --quiet".split())
    assert len(asked[0][0]) == 3
    words = (
        "study.toml: optimizer_options: ['momentum=0.9', 'momentum=0.90', ''] has values that train the same networks"
    )
    assert words in capsys.readouterr().err
    Path("study.toml").write_text('optimizer = "sgd"\noptimizer_options = ["momentum=0.9", ""]\n')
    main("ensemble --config study.toml --quiet".split())
    assert capsys.readouterr().err == ""


def test_plan_takes_it_too(capsys):
    Path("study.toml").write_text("hidden = 2\nquiet = true\naudit = 0.5\n")
    main("plan --config study.toml --steps 3 --print-config".split())
    assert tomllib.loads(capsys.readouterr().out) | {"hidden": 2, "steps": 3} == tomllib.loads(
        printed(capsys, "--hidden", "2", "--steps", "3")
    )


BAD = {
    "hiden = 3": "study.toml: hiden: 3; no such key; did you mean hidden?",
    "config = 'a'": "study.toml: config: 'a'; no such key; allowed: hidden, ",
    "[model]\nhidden = 3": "study.toml: model: {'hidden': 3}; no such key; ",
    "hidden = 'two'": "study.toml: hidden: 'two'; allowed: a whole number from 1 to 64",
    "hidden = [2, 99]": "study.toml: hidden: 99; allowed: a whole number from 1 to 64",
    "hidden = []": "study.toml: hidden: no value; allowed: one or more, each a whole number from 1 to 64",
    "hidden = [[2], 3]": "study.toml: hidden: [2]; one value a config",
    "hidden = true": "study.toml: hidden: True; allowed: a whole number from 1 to 64",
    "learning_rate = nan": "study.toml: learning_rate: nan; allowed: a finite number above 0",
    "learning_rate = '0.1'": "study.toml: learning_rate: '0.1'; allowed: a finite number above 0",
    "loss = 'hinge'": "study.toml: loss: 'hinge'; allowed: bce, squared_error, cross_entropy",
    "common_initialization = 1": "study.toml: common_initialization: 1; allowed: true or false",
    "optimizer = 'sgd'\noptimizer_options = 'nesterov'": "study.toml: optimizer_options: 'nesterov'; allowed: name=number",
    "members = [1, 2]": "study.toml: members: 1 2; allowed: one value for all cells",
    "shared = 2": "study.toml: shared: 2 with --topology dense; allowed: with --topology overlap",
    "devices = 'two'": "study.toml: devices: 'two'; allowed: a number",
    "devices = 0": "study.toml: devices: 0; allowed: a whole number from 1 to 4096",
    "quiet = 'yes'": "study.toml: quiet: 'yes'; allowed: true or false",
    "out = 3": "study.toml: out: 3; allowed: a text",
    "out = ''": "study.toml: out: ''; allowed: a text that is not empty",
    "executor = ''": "study.toml: executor: ''; allowed: a text that is not empty",
    "shard = ''": "study.toml: shard: ''; allowed: a text that is not empty",
    "until = ''": "study.toml: until: ''; allowed: a text that is not empty",
    "out = 'a\\u0000b'".replace("'", '"'): "'a\\x00b': names no folder; allowed: as runs/figure2",
    "record_spacing = 'sometimes'": "study.toml: record_spacing: sometimes; allowed: linear, logarithmic, every",
    "tasks = 'mine'": "study.toml: tasks: 'mine'; allowed: a table with inputs, alice and bob",
    "tasks.input = [[0]]": "study.toml: tasks: input = [[0]]; no such key; allowed: inputs, alice, bob, ",
    "tasks.inputs = [0]": "study.toml: tasks: inputs = [0]; allowed: a list of lists of 0 and 1",
    "tasks.inputs = [[2]]\ntasks.alice = [[0], [0]]\ntasks.bob = [[0], [0]]": "study.toml: tasks: inputs: 2; allowed: 0 or 1",
    "hidden = 2\nhidden = 3": "--config: study.toml; is no TOML (Cannot overwrite a value",
    "first-member = 2\nfirst_member = 3": "study.toml: first_member: 3; the key is there twice, with - and with _",
    "steps = " + "9" * 5000: "--config: study.toml; is no TOML (Exceeds the limit",
    # A hexadecimal number of any length is TOML, and Python does not write it in digits.
    "steps = 0x"
    + "f" * 5000: "study.toml: steps: a number of more than 4300 digits; allowed: a whole number from 1 to",
    "hidden = [2, 0x" + "f" * 5000 + "]": "study.toml: hidden: a number of more than 4300 digits; allowed: a whole",
    "devices = 0x" + "f" * 5000: "study.toml: devices: a number of more than 4300 digits; allowed: a number of fewer",
    "quiet = 0x" + "f" * 5000: "study.toml: quiet: a number of more than 4300 digits; allowed: true or false",
    "hiden = 0x"
    + "f" * 5000: "study.toml: hiden: a number of more than 4300 digits; no such key; did you mean hidden?",
    "\ud800": "--config: study.toml; is no TOML ('utf-8' codec",
    "{}": "--config: study.toml; does not describe a run ('cells')",
    '{"kind": "text", "config": {}}': "--config: study.toml; is of a text run; allowed: one of ncsim ensemble or ncsim scenario",
    '{"cells": []}': "--config: study.toml; does not describe a run (",
    '{"cells": [{"hidden": 99}]}': "--config: study.toml; does not describe a run (--hidden: 99; allowed",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_one_line_that_names_file_key_and_value(text, capsys):
    Path("study.toml").write_bytes(text.encode(errors="surrogatepass"))
    line = refused(capsys, "--config", "study.toml")
    assert line.startswith(BAD[text]), line


@pytest.mark.parametrize(
    ("command", "key"), [("scenario", "audit = 0.5"), ("scenario", "track = 'wandb'"), ("separability", "quiet = true")]
)
def test_a_key_without_effect_is_refused(command, key, capsys):
    Path("study.toml").write_text(key)
    with pytest.raises(SystemExit):
        main([command, "--config", "study.toml", "--print-config"])
    assert f"study.toml: {key.split()[0]}: " in (line := capsys.readouterr().err)
    assert "; no such key; " in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--audit", ".5", "--audit-seed", "07"], {"audit": 0.5, "audit_seed": 7}),
        (["--audit", "1e-3"], {"audit": 0.001}),
        (["--devices", "02", "--record-points", "010"], {"devices": 2, "record_points": 10}),
        (["--record-every", "0005"], {"record_every": 5}),
    ],
)
def test_numbers_are_printed_as_toml_has_them(words, said, capsys):
    text = printed(capsys, *words)
    found = tomllib.loads(text)
    assert {name: found[name] for name in said} == said
    Path("again.toml").write_text(text)
    assert printed(capsys, "--config", "again.toml") == text


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--audit abc", "--audit: abc; allowed: a share"),
        ("--audit-seed 3", "--audit-seed: without --audit"),
        ("--audit 1 --shard 1/2", "--audit: with --shard; "),
        ("--shard 9/3", "--shard: 9/3; allowed: I/N"),
        ("--executor quick", "--executor: quick; allowed: auto, xla"),
        ("--track tensorboard", "--track: 'tensorboard'; allowed: trackio"),
    ],
)
def test_what_no_run_takes_is_not_printed(words, line, capsys):
    assert refused(capsys, *words.split(), "--print-config").startswith(line)


@pytest.mark.parametrize("command", ["scenario", "separability"])
def test_a_recorded_run_s_own_settings_are_taken_by_commands_that_do_not_record(command, capsys, tmp_path):
    config = (
        ncsim.EnsembleConfig(members=5, tasks=ncsim.chained_tasks(2))
        if command == "scenario"
        else ncsim.EnsembleConfig()
    )
    folder = RunFolder if command == "separability" else ScenarioFolder
    run = folder.create("run", [config])
    run.storage.write("recording.json", json.dumps({"recording": ncsim.Recording(points=3).to_dict()}).encode())
    main([command, "--config", "run/config.json", "--print-config"])
    assert "record_points" not in capsys.readouterr().out


def test_an_error_of_an_option_is_not_the_files(capsys):
    Path("study.toml").write_text("hidden = 2\n")
    assert refused(capsys, "--config", "study.toml", "--hidden", "99").startswith("--hidden: 99; allowed")
    assert refused(capsys, "--config", "nothing.toml").startswith(
        "--config: nothing.toml; cannot be read (No such file"
    )
    assert refused(capsys, "--config", ".").startswith("--config: .; cannot be read (Is a directory")


def test_cells_that_are_no_full_grid_are_refused(capsys):
    RunFolder.create("run", ncsim.config_grid(hidden=[2, 3], steps=[4, 5])[:3])
    line = refused(capsys, "--config", "run/config.json")
    assert line.startswith("--config: run/config.json; does not describe a run (its cells are no full grid; allowed: ")
    assert json.loads(Path("run/config.json").read_text())["cells"][2]["hidden"] == 3


# ----------------------------------------------------------------------------------------------------- completion


def test_completion_in_a_shell():
    """The script is bash's own syntax, and completes commands, options and words in a bash."""
    done = subprocess.run(
        [sys.executable, "-m", "ncsim.cli", "--print-completion", "bash"], capture_output=True, text=True, check=True
    )
    Path("completion").write_text(done.stdout)

    def completed(*words):
        line = " ".join(f"'{word}'" for word in words)
        script = (
            f'source completion; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMP_LINE="{" ".join(words)}"; '
            "_shtab_ncsim; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        return answer.stdout.split()

    assert completed("ncsim", "ens") == ["ensemble"]
    assert completed("ncsim", "ensemble", "--learn") == ["--learning-rate"]
    assert completed("ncsim", "ensemble", "--loss", "b") == ["bce"]
    assert completed("ncsim", "ensemble", "--executor", "nat") == ["native"]
    assert completed("ncsim", "ensemble", "--common-initialization", "t") == ["true"]
    assert completed("ncsim", "ensemble", "--track", "wa") == ["wandb"]
    # A text run has words of its own: another --precision, for one.
    assert completed("ncsim", "text", "--precision", "b") == ["bfloat16"]
    assert completed("ncsim", "text", "--schedule", "c") == ["cosine", "constant"]
    assert completed("ncsim", "text", "--target-modules", "att") == ["attention.output.dense"]
    Path("table.csv").touch()
    Path("runs").mkdir()
    assert completed("ncsim", "table", "tab") == ["table.csv"]
    assert completed("ncsim", "text", "--suite", "tab") == ["table.csv"]
    assert completed("ncsim", "report", "ru") == completed("ncsim", "export", "--hub", "ru") == ["runs"]


@pytest.mark.parametrize("words", [["--print-completion", "bash"], ["ensemble", "--print-config"], ["--help"]])
def test_a_reader_that_goes_is_no_error(words):
    """As `| head` does: --print-completion ended with a traceback."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ncsim.cli", *words], stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is full")
def test_a_completion_that_cannot_be_written_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ncsim.cli", "--print-completion", "zsh"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "ncsim: error: standard output: cannot be written (No space left on device)\n"


def test_settings_may_begin_with_the_mark_of_other_editors(capsys):
    Path("marked.toml").write_text("\ufeffhidden = 2\n", encoding="utf-8")
    main(["ensemble", "--config", "marked.toml", "--print-config"])
    assert capsys.readouterr().out.startswith("hidden = 2\n")


def test_completion_that_is_not_there_is_one_line(capsys, monkeypatch):
    for words, line in (
        (["fish"], "--print-completion: fish; allowed: bash, zsh, tcsh"),
        (["bash"], "--print-completion: shtab is not installed; allowed after: pip install '.[completion]'"),
    ):
        monkeypatch.setitem(sys.modules, "shtab", None)
        with pytest.raises(SystemExit) as end:
            main(["--print-completion", *words])
        assert end.value.code == 2
        assert capsys.readouterr().err.startswith(f"ncsim: error: {line}")


@pytest.mark.parametrize(
    ("given", "of_file", "on"),
    [([], "false", False), ([], "true", True), (["--quiet"], "false", True), (["--quiet"], "true", True)],
)
def test_a_switch_that_is_given_is_on_whatever_the_file_says(tmp_path, capsys, given, of_file, on):
    file = tmp_path / "study.toml"
    file.write_text(f"quiet = {of_file}\n")
    main(["ensemble", "--config", str(file), *given, "--print-config"])
    assert ("quiet = true" in capsys.readouterr().out.splitlines()) is on
