"""A word or a value that is none of an option's type is refused in one line, and never made one."""

import fractions

import numpy as np
import pytest

import ncsim
from ncsim.cli.command import Parser, main
from ncsim.config import fields
from ncsim.config.ensemble import field_specs, parse_optimizer_options
from ncsim.text.config import TextConfig
from ncsim.text.config import field_specs as text_field_specs
from tests.support.refusals import refused_command as refused

WHOLE = [name for name, spec in field_specs().items() if spec["type"] is int]
REAL = [name for name, spec in field_specs().items() if spec["type"] is float]
TEXT_WHOLE = ["ranks", *(name for name, spec in text_field_specs().items() if spec["type"] is int)]
TEXT_REAL = [name for name, spec in text_field_specs().items() if spec["type"] is float]
#: More digits than Python writes.
HUGE = 10**5_000
#: Digits of other scripts are numbers to Python.
ARABIC, WIDE, ABOVE = "\u0663", "\uff13", "\u00b2"
NO_WHOLE_NUMBERS = ["", " ", "2 3", ARABIC, WIDE, ABOVE]
NO_WHOLE_NUMBERS += "2,3 1,000 0,1,2 1,2 1_2 1_00 0_001 _1 1_ 2.0 1e3 0x2 true nan inf 2/1".split()
NO_NUMBERS = ["", "0.1 0.2", "9" * 400, f"{ARABIC}.{ARABIC}"]
NO_NUMBERS += "0,01 0.1,0.2 1,000 1_0.5 1_0 nan inf -inf infinity 0x1p3 1e true e5 . -".split()
NOT_WHOLE = [2.7, 2.0, True, np.True_, np.float32(3), "3", b"3", None, 3j, float("nan"), [[3]], fractions.Fraction(3)]
NOT_REAL = [True, np.False_, "0.5", b"0.5", None, 0.5j, float("nan"), float("inf"), -float("inf"), 10**400, {}]


@pytest.mark.parametrize("command", ["ensemble", "plan", "text"])
def test_words_that_are_no_numbers(capsys, tmp_path, command):
    whole, real = (TEXT_WHOLE, TEXT_REAL) if command == "text" else (WHOLE, REAL)
    for names, words in ((whole, NO_WHOLE_NUMBERS), (real, NO_NUMBERS)):
        for name in names:
            for word in words:
                option = fields.option_name(name)
                line = refused(capsys, command, f"{option}={word}")
                assert line.startswith(f"ncsim: error: {option}: "), line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("ensemble", "--devices"),
        ("ensemble", "--record-points"),
        ("ensemble", "--record-every"),
        ("ensemble", "--shard"),
        ("ensemble", "--audit"),
        ("plan", "--devices"),
        ("plan", "--record-every"),
        ("text", "--devices"),
        ("text", "--at-once"),
    ],
)
def test_options_that_are_no_fields(capsys, command, option):
    words = (
        NO_NUMBERS
        if option == "--audit"
        else NO_WHOLE_NUMBERS
        if option != "--shard"
        else ["1", "1/2/3", "1,2", f"{ARABIC}/{ARABIC}"]
    )
    for word in (*words, "9" * 5_000):
        assert refused(capsys, command, f"{option}={word}").startswith(f"ncsim: error: {option}: ")


@pytest.mark.parametrize(
    ("command", "option"),
    [
        *(
            ("ensemble", f"--{name}")
            for name in "config devices record-points shard audit hidden optimizer executor".split()
        ),
        *(("scenario", f"--{name}") for name in "settings parties shard".split()),
        *(("text", f"--{name}") for name in "devices epochs at-once".split()),
        *(("words", f"--{name}") for name in "exponent splits seed".split()),
    ],
)
def test_two_dashes_are_no_value(capsys, command, option):
    """Before Python 3.13 argparse takes them away, and none is left."""
    words = [command, *(["book.txt"] if command == "words" else []), f"{option}=--"]
    assert refused(capsys, *words).startswith(f"ncsim: error: {option}: ")


@pytest.mark.parametrize(
    "words",
    [
        *([command, "--out", ""] for command in ("ensemble", "scenario", "text", "plan")),
        ["ensemble", "--config", ""],
        ["text", "--source-dir", ""],
        ["text", "--cache-dir", ""],
        ["report", "one", "two", "--out", ""],
        ["show", "run", "3", "--out", ""],
        ["export", "run", "--hub", ""],
    ],
)
def test_a_place_without_a_name_is_not_the_default(capsys, tmp_path, words):
    """As `--out "$FOLDER"` where the variable is not set."""
    assert refused(capsys, *words) == f"ncsim: error: {words[-2]}: ''; allowed: a name that is not empty\n"
    assert not list(tmp_path.iterdir())


def test_what_is_empty_is_shown_as_such(capsys):
    """Also blanks at an end: `--devices: 5; allowed: a whole number from 1 to 4096` was said of " 5"."""
    assert refused(capsys, "ensemble", "--devices", "").startswith("ncsim: error: --devices: ''; allowed: a whole")
    for command, option in (
        ("ensemble", "--devices"),
        ("ensemble", "--hidden"),
        ("reservoir", "--steps"),
        ("separability", "--ridge"),
        ("separability", "--contexts"),
    ):
        for word in ("", " 5", "5 "):
            assert refused(capsys, command, f"{option}={word}").startswith(
                f"ncsim: error: {option}: {word!r}; allowed: "
            )
    for option in ("--shard", "--executor", "--audit", "--hidden", "--learning-rate"):
        assert refused(capsys, "ensemble", option, " ").startswith(f"ncsim: error: {option}: ' '; allowed: "), option
    assert refused(capsys, "words", "text.txt", "--splits", "").startswith("ncsim: error: --splits: ''; allowed: ")


@pytest.mark.parametrize("files", [[""], ["text.txt", ""]])
def test_an_empty_name_among_files_is_shown(capsys, files):
    """It was ": cannot be read (Is a directory)"."""
    assert refused(capsys, "words", *files) == "ncsim: error: FILE: ''; allowed: a name that is not empty\n"


@pytest.mark.parametrize("place", ["", "a\0b"])
def test_a_folder_has_a_name(place):
    for call in (
        lambda: ncsim.run_ensemble(ncsim.EnsembleConfig(members=1, steps=1), out=place),
        lambda: ncsim.open_run(place),
        lambda: ncsim.open_scenario(place),
    ):
        with pytest.raises(ncsim.StoreError, match="names no folder; allowed: as runs/figure2"):
            call()


def test_a_list_with_commas_is_told_how_to_be_one(capsys):
    assert "--hidden: 2,3; allowed: a whole number from 1 to 64; several have spaces between them" in refused(
        capsys, "ensemble", "--hidden", "2,3"
    )
    for option, word in (("--at", "0,100"), ("--contexts", "11,12")):
        said = refused(capsys, "separability", option, word)
        assert said.startswith(f"ncsim: error: {option}: {word}; allowed: ")
        assert "; several have spaces between them, not commas" in said


@pytest.mark.parametrize(
    "words",
    [
        ("report", "A", "--audit", "0,05"),
        ("words", "A", "--exponent", "0,5"),
        ("text", "--learning-rate", "0,001"),
        ("reservoir", "--inverse-temperature", "1,5"),
        ("separability", "--ridge", "0,1"),
    ],
)
def test_a_comma_in_an_option_of_one_value_is_no_list(capsys, words):
    """It said "several have spaces between them" of options that take one."""
    said = refused(capsys, *words)
    assert said.startswith(f"ncsim: error: {words[-2]}: {words[-1]}; allowed: ")
    assert "several" not in said


def test_a_list_of_an_option_that_takes_several_has_spaces(capsys):
    for words in (("text", "--ranks", "1,2"), ("reservoir", "--chemical-potential", "1,2")):
        assert "; several have spaces between them, not commas" in refused(capsys, *words)


def test_a_switch_takes_no_value(capsys):
    """It said that the value was ignored."""
    assert refused(capsys, "ensemble", "--quiet=1") == "ncsim: error: --quiet: '1'; allowed: no value\n"


def test_an_option_given_twice_is_not_the_last_one(capsys):
    assert "--hidden: given twice; allowed: once" in refused(capsys, "ensemble", "--hidden", "2", "--hidden", "3")
    assert "--executor: given twice; allowed: once\n" in refused(
        capsys, "plan", "--executor", "auto", "--executor", "auto"
    )
    assert "--ranks: given twice" in refused(capsys, "text", "--ranks", "1", "--ranks", "2")


def test_words_of_experiments(capsys):
    parser = Parser()
    parser.add_argument("--members", type=int)
    parser.add_argument("--rate", type=float)
    assert vars(parser.parse_args(["--members", "1_000", "--rate", "1e-2"]))["members"] == 1_000
    for words in (
        ["--members", "1_0"],
        ["--members", ARABIC],
        ["--rate", "1_0.5"],
        ["--members", "1", "--members", "2"],
    ):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("word", "number"), [("7", 7), ("007", 7), ("+7", 7), ("-0", 0), ("1_000", 1_000), ("12_000_000", 12_000_000)]
)
def test_words_that_are_whole_numbers(word, number):
    assert fields.parsed("steps", int, word, "") == number
    assert fields.count("--record-every", word, 10**9, smallest=0) == number


def test_options_that_are_no_fields_take_the_same_words(capsys):
    assert fields.count("--record-every", None) is None
    for word in ("1_0", "1e3", "2.0", "", " 5", ARABIC, "-1", "4_097", "9" * 5_000):
        with pytest.raises(ncsim.ConfigError, match=r"^--devices: .*; allowed: a whole number from 1 to 4096$"):
            fields.count("--devices", word)
    main(["ensemble", "--record-every", "1_000", "--print-config"])
    assert "record_every = 1000\n" in capsys.readouterr().out


@pytest.mark.parametrize(("word", "number"), [("7", 7), ("1e-3", 1e-3), (".5", 0.5), ("5.", 5), ("-2.5E+2", -250)])
def test_words_that_are_numbers(word, number):
    assert fields.parsed("learning_rate", float, word, "") == number


@pytest.mark.parametrize("name", WHOLE)
def test_values_that_are_no_whole_numbers(name):
    for value in NOT_WHOLE:
        with pytest.raises(ncsim.ConfigError) as caught:
            ncsim.EnsembleConfig(**{name: value})
        assert str(caught.value).startswith(fields.option_name(name))
        if not isinstance(value, list):
            with pytest.raises(ncsim.ConfigError):
                ncsim.config_grid(**{name: [value]})


@pytest.mark.parametrize("name", REAL)
def test_values_that_are_no_numbers(name):
    for value in NOT_REAL:
        with pytest.raises(ncsim.ConfigError, match=fields.option_name(name)):
            ncsim.EnsembleConfig(**{name: value})


def test_values_of_text_runs():
    for name in TEXT_WHOLE:
        for value in NOT_WHOLE:
            with pytest.raises(ncsim.ConfigError, match=fields.option_name(name)):
                TextConfig(**{name: value})
    for name in TEXT_REAL:
        for value in NOT_REAL:
            with pytest.raises(ncsim.ConfigError, match=fields.option_name(name)):
                TextConfig(**{name: value})
    assert TextConfig(ranks=[np.int64(4), 2]).ranks == (2, 4)
    with pytest.raises(ncsim.ConfigError, match="--schedule: linear with --warmup 1"):
        TextConfig(warmup=1, schedule="linear")


def test_numbers_of_numpy_and_negative_zero_are_what_they_are():
    config = ncsim.EnsembleConfig(
        hidden=np.int8(4), learning_rate=np.float32(0.5), alice_weight=-0.0, bob_weight=fractions.Fraction(1, 2),
        optimizer=np.str_("sgd"),
    )  # fmt: skip
    assert config == ncsim.EnsembleConfig(
        hidden=4, learning_rate=0.5, alice_weight=0.0, bob_weight=0.5, optimizer="sgd"
    )
    assert [type(value) for value in (config.hidden, config.learning_rate, config.optimizer)] == [int, float, str]
    assert str(config.alice_weight) == "0.0"


def test_optimizer_options_are_numbers_and_given_once():
    assert parse_optimizer_options("b1=0.5, nesterov=True") == {"b1": 0.5, "nesterov": True}
    for text in ("b1=1_0", f"b1={ARABIC}", "b1=0.5,b1=0.6", "b1=", "b1=nan", "=1", "b1=0.5;b2=0.6", "b1=0,5"):
        with pytest.raises(ncsim.ConfigError, match="--optimizer-options"):
            parse_optimizer_options(text)


TABLES = {
    "inputs": [[0, 1], [1, 0]],
    "alice": [[0, 1], [1, 0]],
    "bob": [[1, 1], [1, 0]],
    "alice_features": [0],
    "bob_features": [1],
}


@pytest.mark.parametrize("make", [
    lambda: ncsim.EnsembleConfig(hidden=HUGE), lambda: ncsim.EnsembleConfig(learning_rate=fractions.Fraction(HUGE, 3)),
    lambda: ncsim.config_grid(root_seed=[0, HUGE]), lambda: ncsim.config_grid(root_seed=[HUGE, HUGE]),
    lambda: ncsim.chained_tasks(HUGE), lambda: TextConfig(ranks=(HUGE,)),
    lambda: ncsim.run_ensemble(ncsim.EnsembleConfig(members=1, steps=1), devices=HUGE),
])  # fmt: skip
def test_numbers_of_more_digits_than_python_writes_are_one_line(make):
    """They were Python's error about its own limit."""
    with pytest.raises(ncsim.ConfigError, match=r": a number of more than 4300 digits; allowed: "):
        make()


@pytest.mark.parametrize("what", ["inputs", "alice", "bob"])
def test_truth_tables_take_zeros_and_ones_alone(what):
    for value in (0.9, 0.1, -1, 2, "1", "0", b"1", None, float("nan"), 1j, np.array([1, 0]), 1e-9):
        with pytest.raises(ValueError, match=f"tasks.{what}: .*; allowed: 0 or 1"):
            ncsim.TruthTables(**TABLES | {what: [[value, 1], [1, 0]]})
    for zero, one in ((False, True), (0.0, 1.0), (-0.0, 1), (np.False_, np.True_), (np.uint8(0), np.float32(1))):
        tables = ncsim.TruthTables(**TABLES | {what: [[zero, one], [one, zero]]})
        assert getattr(tables, what) == ((0, 1), (1, 0))
        assert all(type(value) is int for row in getattr(tables, what) for value in row)


@pytest.mark.parametrize("value", [0.9, "0", True, None, -1, 2, 1.0])
def test_features_are_whole_numbers(value):
    with pytest.raises(ValueError, match=r"tasks.bob_features: .*; allowed: 0 to 1"):
        ncsim.TruthTables(**TABLES | {"bob_features": [value]})
    assert ncsim.TruthTables(**TABLES | {"bob_features": np.array([1])}).bob_features == (1,)


def test_sides_of_features_need_not_be_given():
    """README.md makes a table with inputs, alice and bob alone, as a settings file does."""
    one = {"inputs": [[0, 1, 1], [1, 0, 1]], "alice": [[0, 1], [1, 1]], "bob": [[1, 1], [1, 0]]}
    tables = ncsim.TruthTables(**one)
    assert (tables.alice_features, tables.bob_features) == ((0, 1), (2,))  # the halves, as of truth_tables
    assert ncsim.TruthTables(**one, bob_features=[0]).bob_features == (0,)
    with pytest.raises(ValueError, match=r"tasks.inputs: .*; allowed: "):
        ncsim.TruthTables(**one | {"inputs": []})


def test_functions_of_truth_tables():
    first, second = (lambda x, y: x), (lambda x, y: y)
    for answer in (0.9, "1", None, 2, float("nan")):
        with pytest.raises(ValueError, match=r"tasks.alice: .*; allowed: 0 or 1"):
            ncsim.truth_tables([first, lambda *_, answer=answer: answer], [first, second], features=2)
    tables = ncsim.truth_tables([lambda x, y: x > y, lambda x, y: np.bool_(x)], [first, second], features=2)
    assert tables.alice == ((0, 0, 1, 0), (0, 0, 1, 1))
    with pytest.raises(ValueError, match="alice: 3 functions; allowed: 2"):
        ncsim.truth_tables([first] * 3, [first, second], features=2)
    for features in (2.5, "2", None, True, 0, 7):
        for make in (ncsim.truth_tables, lambda *parties, features: ncsim.scenario_tasks(parties, features)):
            with pytest.raises(ValueError, match=r"^features: .*; allowed: a whole number from 1 to 6$"):
                make([first, second], [first, second], features=features)
    with pytest.raises(ValueError, match="bob: 1 function; allowed: 2"):
        ncsim.truth_tables([first, second], [first], features=2)
    for wrong in ([first, 3], first, "xy", [], None, {first, second}):
        for given in ((wrong, [first, second]), ([first, second], wrong)):
            with pytest.raises(ValueError, match=r"^(alice|bob): .*; allowed: a list of 2 functions$"):
                ncsim.truth_tables(*given, features=2)
        with pytest.raises(ValueError, match=r"^parties: .*; allowed: of each party a list of functions$"):
            ncsim.scenario_tasks([[first], wrong], features=2)
    with pytest.raises(ValueError, match=r"tasks.name: 5; allowed: a text"):
        ncsim.truth_tables([first, second], [first, second], features=2, name=5)


@pytest.mark.parametrize("features", [0, -1, 7, 24, 10**9, 2.0, True, "2", None])
def test_sizes_are_checked_before_the_work(features):
    def never(*_):
        raise AssertionError("called")

    with pytest.raises(ValueError, match=r"features: .*; allowed: a whole number from 1 to 6"):
        ncsim.truth_tables([never] * 2, [never] * 2, features=features)
    with pytest.raises(ncsim.ConfigError, match=r"--root-seed: .* has too many values"):
        ncsim.config_grid(root_seed=range(10**15))


@pytest.mark.parametrize(
    "values",
    [{"points": 2.0}, {"points": True}, {"points": "5"}, {"points": 1}, {"spacing": "every", "every": 1.5}, {"every": True},
     {"spacing": "every", "every": 2, "points": 7}, {"spacing": "every"}, {"every": 3}, {"spacing": 5},
     {"points": HUGE}, {"spacing": "every", "every": HUGE}, {"points": np.ones((2, 1))}, {"every": np.ones((2, 1))},
     {"spacing": np.array(["linear", "every"])}, {"spacing": "linear\nevery"}],
    ids=lambda values: "-".join(values),
)  # fmt: skip
def test_recordings(values):
    with pytest.raises(ncsim.ConfigError, match="--record-") as caught:
        ncsim.Recording(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "total", [0, -5, 2.0, True, "9", None, 10**9 + 1, 2**31, HUGE], ids=lambda total: str(type(total).__name__)
)
def test_a_recording_is_of_steps_that_a_run_can_have(total):
    """Of ten thousand million steps it gave negative numbers."""
    for recording in (ncsim.Recording(points=5), ncsim.Recording(spacing="every", every=10**9)):
        with pytest.raises(ncsim.ConfigError, match=r"^--steps: .*; allowed: a whole number from 1 to 1000000000$"):
            recording.steps(total)


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int16])
def test_a_recording_takes_steps_of_numpy(kind):
    """Of unsigned ones each third of 200 steps was more than ten thousand."""
    for recording in (ncsim.Recording(points=5), ncsim.Recording(spacing="every", every=kind(3))):
        assert recording.steps(kind(120)).tolist() == recording.steps(120).tolist()


@pytest.mark.parametrize(
    ("every", "total", "points"), [(1, 9_999, 10_000), (2, 19_998, 10_000), (2, 19_997, 10_000), (5, 7, 3)]
)
def test_each_so_many_steps_are_as_many_as_are_allowed(every, total, points):
    recording = ncsim.Recording(spacing="every", every=every)
    assert recording.steps(total).tolist() == sorted({*range(0, total, every), total})
    assert len(recording.steps(total)) == points
    if points == 10_000:
        with pytest.raises(ncsim.ConfigError, match="at most 10000 recorded steps"):
            recording.steps(total + every)


def test_recordings_that_are_stored_are_read():
    stored = ncsim.Recording(spacing="every", every=np.int64(2)).to_dict()
    assert ncsim.Recording.stored(stored | {"points": 7}) == ncsim.Recording(spacing="every", every=2)
    assert ncsim.Recording.stored({"points": 7, "spacing": "linear", "every": 0}) == ncsim.Recording(points=7)


@pytest.mark.parametrize(
    "arguments",
    [{"devices": True}, {"devices": 1.0}, {"devices": "1"}, {"resume": "no"}, {"resume": 1}, {"executor": None}, {"executor": 1},
     {"shard": (1.0, 2)}, {"shard": (True, 1)}, {"shard": (3, 2)}, {"shard": "1/2"}, {"shard": 1}, {"recording": True},
     {"config": [3]}, {"config": []}],
)  # fmt: skip
def test_arguments_of_run_ensemble(tmp_path, arguments):
    with pytest.raises(ncsim.ConfigError, match=next(iter(arguments))):
        ncsim.run_ensemble(**{"config": ncsim.EnsembleConfig(members=2, steps=1), "out": tmp_path / "run"} | arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("share", "seed"), [(0, 1), (2, 1), (True, 1), ("0.5", 1), (float("nan"), 1), (0.5, -1), (0.5, 1.5), (0.5, True)]
)
def test_arguments_of_an_audit(tmp_path, share, seed):
    from ncsim.ensemble.audit import audit

    with pytest.raises(ncsim.ConfigError, match="--audit"):
        audit(tmp_path, share, seed)
