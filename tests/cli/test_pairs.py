"""Every pair of options of every command is used, or refused in one line: none is taken and left aside."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.config.ensemble import field_specs, from_dict, program_of, refusal, to_dict
from ncsim.config.tasks import context_targets
from ncsim.storage.run_folder import RunFolder
from ncsim.terminal import Progress
from ncsim.training.initialization import start_vector
from ncsim.training.observation import record
from ncsim.training.step import train

FOUR_ROWS = ncsim.truth_tables([lambda x, y: x, lambda x, y: x | y], [lambda x, y: y, lambda x, y: x & y], features=2)

# ------------------------------------------------------------------------------------------ fields of an ensemble

#: Values of fields that are not their defaults.
FIELDS = [
    *({"intervention": name} for name in "stop_gradient_alice frozen_trunk separate_trunks pcgrad".split()),
    *({"optimizer": name} for name in ("sgd", "lamb")),
    {"topology": "overlap"},
    {"shared": 0},
    {"shared": 2},
    {"alice_weight": 0.0},
    {"bob_weight": 2.0},
    {"loss": "cross_entropy"},
    {"initialization": "he"},
    {"bias_initialization": "zeros"},
    {"initialization_scale": 2.0},
    {"encoding": "sign"},
    {"common_initialization": True},
    {"training_rows": 3},
    {"undecided_tolerance": 0.5},
    {"precision": "float64"},
    {"hidden": 4},
    {"root_seed": 1},
    {"learning_rate": 0.1},
    {"steps": 7},
    {"members": 5},
    {"first_member": 1},
]
#: The pairs that are refused; `shared` also alone.
REFUSED = {
    ("optimizer=lamb", "intervention=stop_gradient_alice"),
    ("optimizer=lamb", "intervention=frozen_trunk"),
    ("optimizer=lamb", "intervention=separate_trunks"),
    ("optimizer=lamb", "alice_weight=0.0"),
    ("topology=overlap", "intervention=separate_trunks"),
    ("alice_weight=0.0", "intervention=stop_gradient_alice"),
    ("alice_weight=0.0", "intervention=pcgrad"),
}


PROGRAMS: dict = {}


def word(fields):
    return ",".join(f"{name}={value}" for name, value in fields.items())


def program(config, kept=PROGRAMS):
    """What is computed of a config: the training as text, and the numbers that it is given."""
    shape = program_of(config)
    if shape not in kept:

        def all_of_it(root, member, context, rate, steps):
            targets = jnp.asarray(context_targets(shape.tasks), shape.precision)[context]
            vector = start_vector(shape, root, member, context).astype(shape.precision)[:, None]
            return record(shape, train(shape, vector, targets, rate, steps), targets)

        with jax.enable_x64(shape.precision == "float64"):
            like = (jax.random.key(0), jnp.uint32(0), jnp.int32(0), jnp.zeros((), shape.precision), jnp.int32(1))
            traced = jax.make_jaxpr(all_of_it)(*like)
        kept[shape] = str(traced) + "".join(str(np.asarray(each)) for each in traced.consts)
    return kept[shape], config.root_seed, config.member_ids, config.learning_rate, config.steps


def made(fields):
    """The config, or the one line that refuses it."""
    try:
        return ncsim.EnsembleConfig(**{"hidden": 3, "tasks": FOUR_ROWS} | fields)
    except ncsim.ConfigError as error:
        said = str(error)
    assert "\n" not in said
    assert said.startswith("--")
    assert "allowed: " in said
    return said


def test_the_table_has_every_field():
    assert {name for fields in FIELDS for name in fields} | {"tasks", "optimizer_options"} == set(field_specs())


@pytest.mark.slow
def test_every_pair_of_fields_is_used_or_refused():
    refused = set()
    for one, other in itertools.combinations(FIELDS, 2):
        if set(one) == set(other):
            continue
        # `shared` is a field of one topology; with a third field it is looked at in that.
        beside = {"topology": "overlap"} if "shared" in one | other and "topology" not in one | other else {}
        alone = [made(beside | fields) for fields in (one, other)]
        both = made(beside | one | other)
        if isinstance(both, str):
            refused |= {(word(one), word(other))} if "shared" not in one | other else set()
            continue
        for each in alone:
            assert isinstance(each, str) or program(each) != program(both), (one, other)
    assert {frozenset(pair) for pair in refused} == {frozenset(pair) for pair in REFUSED}


@pytest.mark.parametrize("shared", [0, 2, 3])
def test_shared_units_of_networks_that_share_all(shared):
    assert made({"shared": shared}).startswith(f"--shared: {shared} with --topology dense")
    with pytest.raises(ncsim.ConfigError, match=r"--shared: .* with --topology dense"):
        ncsim.config_grid(shared=[1, shared])
    with pytest.raises(ncsim.ConfigError, match="--shared: 1 with --topology dense"):
        ncsim.config_grid(shared=1)
    assert len(ncsim.config_grid(topology=["dense", "overlap"], shared=1)) == 2


@pytest.mark.parametrize(
    "fields",
    [{"shared": 0, "topology": "overlap", "optimizer": "lars"}, {"shared": 0, "topology": "overlap", "intervention": "pcgrad"},
     {"shared": 0, "topology": "overlap", "intervention": "separate_trunks"}, {"bob_weight": 0, "optimizer": "sm3"},
     {"bob_weight": 0, "intervention": "stop_gradient_bob"}, {"bob_weight": 0, "intervention": "pcgrad"}],
)  # fmt: skip
def test_what_other_fields_switch_off_or_break(fields):
    assert isinstance(made(fields), str)


@pytest.mark.parametrize(
    ("optimizer", "options", "words"),
    [
        ("sgd", "nesterov=true", "nesterov changes nothing there; allowed: without nesterov"),
        ("rmsprop", "decay=0.8,nesterov=true", "nesterov changes nothing there"),
        ("adafactor", "factored=false,min_dim_size_to_factor=1", "min_dim_size_to_factor changes nothing there"),
        ("adam", "nesterov=0.9", "adam with nesterov=0.9; allowed for nesterov: true or false"),
        ("sgd", "momentum=true", "sgd with momentum=true; allowed for momentum: a number"),
        ("adam", "mu_dtype=1", "adam has no 'mu_dtype'; allowed: b1, b2"),
        ("adam", "learning_rate=1", "adam has no 'learning_rate'"),
        ("lars", "trust_ratio_mask=true", "lars has no 'trust_ratio_mask'"),
    ],
)
def test_options_of_an_optimizer(optimizer, options, words):
    with pytest.raises(ncsim.ConfigError, match=words):
        ncsim.run_ensemble(ncsim.EnsembleConfig(members=1, steps=1, optimizer=optimizer, optimizer_options=options))


def test_a_stored_run_that_would_be_refused_is_read_and_not_resumed(tmp_path, capsys, monkeypatch):
    """What a version before stored: its results can be read and reported, with a word; nothing is added to it."""
    config = ncsim.EnsembleConfig(hidden=2, members=3, steps=1)
    old = from_dict(to_dict(config) | {"optimizer": "lamb", "intervention": "frozen_trunk"})
    assert refusal(old) is not None
    records = ncsim.run_ensemble(config, executor="xla").records()
    RunFolder.create("run", [old], training=lambda: {"device": "one"}).write_part(old, records)
    assert np.array_equal(ncsim.open_run("run").counts, records.joint)
    monkeypatch.setattr("ncsim.cli.report.report_run", lambda *_, **__: None)
    main(["report", "run"])
    assert (
        "no new run may be as this one (--optimizer: lamb with --intervention frozen_trunk" in capsys.readouterr().err
    )
    for again in (
        lambda: ncsim.run_ensemble(old, out="run"),
        lambda: ncsim.run_ensemble(list(ncsim.open_run("run").configs)),
    ):
        with pytest.raises(ncsim.ConfigError, match="--optimizer: lamb with --intervention frozen_trunk"):
            again()


# -------------------------------------------------------------------------------------- the options of the commands


@pytest.fixture
def doings(monkeypatch):
    """What a command does, call by call, with nothing done."""
    import ncsim.cli.ensemble
    import ncsim.cli.report
    import ncsim.cluster.distributed
    import ncsim.ensemble.audit
    import ncsim.ensemble.run
    import ncsim.executors.devices
    import ncsim.planning.plan
    import ncsim.storage.run_folder
    import ncsim.storage.verify
    import ncsim.text.results
    import ncsim.text.run
    from ncsim.cluster.shards import Shard

    calls = []

    def noted(name, result=None):
        def call(*arguments, **options):
            shown = [
                type(each).__name__ if callable(each) or isinstance(each, Progress) else each for each in arguments
            ]
            named = {k: type(each).__name__ if isinstance(each, Progress) else each for k, each in options.items()}
            calls.append(f"{name} {shown} {named}")
            return result

        return call

    found = types.SimpleNamespace(
        lines=lambda: ["words"],
        numbers=lambda: {"a": 1},
        right=True,
        location="run",
        path="run",
        configs=(),
        missing=lambda: 5,
    )
    for module, name, result in [
        (ncsim.ensemble.run, "run_ensemble", found),
        (ncsim.cli.ensemble, "report_run", None),
        (ncsim.cli.report, "report_run", None),
        (ncsim.ensemble.audit, "audit", found),
        (ncsim.planning.plan, "forecast", found),
        (ncsim.cluster.distributed, "join", Shard(2, 3)),
        (ncsim.executors.devices, "prepare_jax", None),
        (ncsim.storage.verify, "verify", found),
        (ncsim.storage.verify, "repair", found),
        (ncsim.results, "open_run", found),
        (ncsim.text.run, "run_text", found),
        (ncsim.cli.text, "report_text", None),
    ]:
        monkeypatch.setattr(module, name, noted(name, result))
    monkeypatch.setattr(ncsim.storage.run_folder, "run_kind", lambda _: "ensemble")

    def outcome(capsys, *words):
        calls.clear()
        try:
            main(list(words))
        except SystemExit as end:
            status = end.code
        else:
            return (*calls, capsys.readouterr().out)
        line = capsys.readouterr().err
        assert (status, line.count("\n")) == (2, 1), line
        return None

    return outcome


FIELDS_OF_TWO = ["--hidden 2", "--learning-rate 0.1"]
RECORDING = ["--record-points 5", "--record-spacing logarithmic", "--record-every 3"]
COMMANDS = {
    "ensemble": (
        [*FIELDS_OF_TWO, "--out run", "--devices 2", "--executor xla", *RECORDING, "--shard 1/2", "--distributed", "--cluster ray",
         "--audit 0.5", "--audit-seed 3", "--quiet"],
        {("--record-points", "--record-every"), ("--record-spacing", "--record-every"), ("--shard", "--distributed"),
         ("--shard", "--cluster"), ("--distributed", "--cluster"), ("--shard", "--audit"), ("--distributed", "--audit")},
    ),
    "plan": (
        [*FIELDS_OF_TWO, "--out run", "--devices 2", "--executor xla", *RECORDING, "--json"],
        {("--record-points", "--record-every"), ("--record-spacing", "--record-every")},
    ),
    "report run": (
        ["--verify", "--repair", "--audit 0.5", "--audit-seed 3"],
        {("--verify", "--repair"), ("--verify", "--audit"), ("--repair", "--audit")},
    ),
    "text": (
        ["--model other", "--suite multilingual", "--ranks 1 2", "--seeds 2", "--epochs 9", "--evaluate-every 2", "--items 5",
         "--test-items 5", "--batch-size 3", "--length 16", "--learning-rate 0.1", "--schedule linear", "--warmup 0.2",
         "--weight-decay 0.1", "--clip 2", "--alpha 3", "--dropout 0.1", "--pooling cls", "--form all-options",
         "--pairing aligned", "--precision bfloat16", "--remat", "--undecided-tolerance 0.5", "--root-seed 3",
         "--source-dir data", "--cache-dir kept", "--out run", "--devices 2", "--at-once 2", "--quiet"],
        set(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_pair_of_options_is_used_or_refused(command, doings, capsys):
    """Used: what is done with both is not what is done with one of them. Refused: one line, and status 2."""
    options, refusals = COMMANDS[command]
    alone = {option: doings(capsys, *command.split(), *option.split()) for option in options}
    refused = set()
    for one, other in itertools.combinations(options, 2):
        if one.split()[0] in other.split() or other.split()[0] in one.split():
            continue
        both = doings(capsys, *command.split(), *one.split(), *other.split())
        if both is not None:
            assert both not in (alone[one], alone[other]), (one, other)
        elif alone[one] is not None and alone[other] is not None:
            refused.add(frozenset((one.split()[0], other.split()[0])))
    assert refused == {frozenset(pair) for pair in refusals}
