"""What C records along training: the bits are those of XLA's, and where they are not, XLA's are taken."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

import ncsim
from ncsim import c_compiler
from ncsim.config.ensemble import program_of
from ncsim.ensemble.trainer import trainer
from ncsim.executors import xla
from ncsim.executors.native import observed, trial, whole
from ncsim.executors.native import program as native
from ncsim.executors.native.c_exact import LN2, functions
from ncsim.training.observation import OBSERVED
from tests.executors.test_native import FOUR_ROWS, RUNS_HERE
from tests.executors.test_native_whole import CASES, DIVERGES, VARIANTS, kinds_of_nan, outcome
from tests.support.cases import first_fast
from tests.support.folders import parts_of

pytestmark = pytest.mark.skipif(not RUNS_HERE, reason="there is no C compiler")
#: What C does not draw, but observes; and sums of more products than XLA contracts.
OTHERS = {
    "some rows": {"training_rows": 3, "tasks": FOUR_ROWS},
    "he": {"initialization": "he", "tasks": FOUR_ROWS},
    "long sums": {"hidden": 4, "loss": "squared_error", "alice_weight": 0.3},
    "wide": {"hidden": 6},
}
KINDS = VARIANTS | OTHERS
KINDS = {name: KINDS.pop(name) for name in ("squared error", "long sums", "some rows")} | KINDS
POINTS = 3


def programs_of(config):
    """The programs that observe in C, without asking whether they are right here, and last the one that does so by XLA."""
    mesh, networks = trainer(1)._mesh, program_of(config)
    given = (config, mesh, 2, 128, native.training_here(config, mesh), POINTS, False)
    made = [
        xla.block_program(*given, observer) for observer in (observed.observer(observed.source(networks)), xla.observed)
    ]
    if (text := whole.source(networks, along=True)) is not None:
        library = c_compiler.loaded(native.source(config))
        text += f"/* Calls {library._name}. */"
        made.insert(0, whole._block_program(networks, mesh, 128, text, library, 2, POINTS))
    assert (len(made) == 2) == (config.initialization != "uniform" or config.training_rows > 0)
    return made


def bits(leaf):
    """Of two blocks, however they lie in memory."""
    return trial.by_block(leaf, np.zeros((1, 2, 128))).tobytes()


@pytest.mark.parametrize("name", first_fast(KINDS, 1, 1))
def test_observations_have_the_bits_of_xla(name):
    config = ncsim.EnsembleConfig(**{"hidden": 2, **KINDS[name]})
    programs = programs_of(config)
    for first, seed, steps, rate in CASES:
        stops = np.array([0, steps // 2, steps], np.int32)
        found = [outcome(program, first, seed, stops, rate) for program in programs]
        *ours, theirs_along = ({"counts": seen.counts, **seen.values} for _, seen in found)
        for field, each in itertools.product(("counts", *OBSERVED), ours):
            assert bits(each[field]) == bits(theirs_along[field]), (name, first, field)
        *ours, theirs = (jax.tree.leaves(record) for record, _ in found)
        for each in ours:
            assert [np.asarray(leaf).tobytes() for leaf in each] == [np.asarray(leaf).tobytes() for leaf in theirs], (
                first
            )
        if steps > 4:
            margins = np.asarray(theirs_along["margin"])
            assert margins.shape == (2, 4, 128, POINTS)  # blocks, contexts, lanes, steps
            assert all(np.unique(margins[..., point]).size > 100 for point in range(POINTS))
    assert np.isnan(found[1][1].values["loss_alice"]).any()
    assert kinds_of_nan(jax.tree.leaves(found[1][1])) == {0x7FC00000}


#: Networks whose logits come to more than half of the largest number.
LARGE = {
    "all rows": ({"optimizer": "sign_sgd", "intervention": "frozen_trunk"}, 0, 1, 4, 1e38),
    "some rows": (
        {
            "optimizer": "sgd",
            "encoding": "sign",
            "initialization": "he",
            "bias_initialization": "zeros",
            "initialization_scale": 1e-6,
            "alice_weight": 0.3,
            "bob_weight": 2.5,
            "training_rows": 2,
        },
        9,
        1,
        40,
        3.0,
    ),
}


@pytest.mark.parametrize("name", first_fast(LARGE))
def test_logits_above_half_of_the_largest_number_have_the_bits_of_xla(name):
    """Twice such a logit is infinite, but not where XLA makes one factor of the loss's 2 and the mean's 1/4."""
    fields, first, seed, steps, rate = LARGE[name]
    config = ncsim.EnsembleConfig(hidden=1, loss="squared_error", tasks=FOUR_ROWS, **fields)
    stops = np.array([0, steps // 2, steps], np.int32)
    *ours, theirs = (outcome(each, first, seed, stops, rate)[1].values for each in programs_of(config))
    margin = np.abs(np.asarray(theirs["margin"]))
    assert np.any((margin > 1.8e38) & np.isfinite(margin))
    for field, each in itertools.product(OBSERVED, ours):
        assert bits(each[field]) == bits(theirs[field]), field


def test_what_is_not_observed_in_c():
    """Wide networks and scenarios are XLA's."""
    wide = ncsim.EnsembleConfig(hidden=7)
    scenario = ncsim.EnsembleConfig(hidden=2, tasks=ncsim.chained_tasks(2))
    assert observed.source(program_of(wide)) is None
    assert observed.source(program_of(scenario)) is None


def test_functions_have_the_bits_of_xla(monkeypatch):
    """On millions of numbers; and with the other jaxlib's two parts of ln 2 they do not, which networks might not show."""
    assert trial.functions_have_bits_of_xla.__wrapped__()
    text = functions()
    here, other = LN2 if f"splat({LN2[0][1]}f), x" in text else LN2[::-1]
    for one, another in zip(here, other, strict=True):
        text = text.replace(f"splat({one}f), x", f"splat({another}f), x")
    monkeypatch.setattr(trial, "functions", lambda: text)
    assert not trial.functions_have_bits_of_xla.__wrapped__()


@pytest.mark.slow
def test_code_with_other_bits_is_not_taken(monkeypatch, tmp_path):
    """Of a program that records and of one that does not."""
    monkeypatch.setattr(c_compiler, "cache_folder", lambda: tmp_path)
    tmp_path.chmod(0o700)
    mesh, config = trainer(1)._mesh, ncsim.EnsembleConfig(hidden=1, tasks=FOUR_ROWS)
    for points in (None, 2):
        right = xla.block_program(config, mesh, 2, 128, points=points)
        wrong = right._replace(run=lambda seed, *others, right=right: right.run(seed ^ 1, *others))
        names = [f"int {word}{points};" for word in ("right", "wrong")]
        assert trial.has_bits_of_xla(mesh, names[0], right, lambda right=right: right, points)
        assert not trial.has_bits_of_xla(mesh, names[1], wrong, lambda right=right: right, points)
        assert not trial.has_bits_of_xla(mesh, names[1], right, lambda right=right: right, points)  # remembered


def test_one_observed_number_that_differs_is_seen(monkeypatch, tmp_path):
    monkeypatch.setattr(c_compiler, "cache_folder", lambda: tmp_path)
    tmp_path.chmod(0o700)
    mesh, config = trainer(1)._mesh, ncsim.EnsembleConfig(hidden=1, tasks=FOUR_ROWS)
    right = xla.block_program(config, mesh, 2, 128, points=2)

    def changed(*given):
        record, seen = right.run(*given)
        other = np.array(seen.values["cosine"])
        other[0, 3, 127, 1] = np.nextafter(other[0, 3, 127, 1], np.float32(2))
        return record, seen._replace(values=seen.values | {"cosine": other})

    assert not trial.has_bits_of_xla(mesh, "int one;", right._replace(run=changed), lambda: right, 2)


@pytest.mark.parametrize(
    ("initialization", "right", "asked"),
    first_fast(
        [("uniform", True, ["whole"]), ("uniform", False, ["whole", "observer"]), ("he", True, ["observer"])], 2
    ),
)
def test_parts_do_not_depend_on_who_observed(tmp_path, monkeypatch, initialization, right, asked):
    """Two parts, whose networks diverge. Where C does not draw, it observes, and where it does not give XLA's bits, XLA is asked."""
    recording, config = (
        ncsim.Recording(spacing="every", every=2),
        dataclasses.replace(DIVERGES, initialization=initialization),
    )
    ncsim.run_ensemble(config, tmp_path / "xla", executor="native", recording=recording)
    monkeypatch.setattr(observed, "MANY", 1)
    used = []
    for name, module, function in (("whole", whole, "_block_program"), ("observer", observed, "observer")):
        made = getattr(module, function)
        monkeypatch.setattr(module, function, lambda *given, name=name, made=made: used.append(name) or made(*given))
    monkeypatch.setattr(trial, "has_bits_of_xla", lambda *_: right)
    ncsim.run_ensemble(config, tmp_path / "c", executor="native", recording=recording)
    assert list(dict.fromkeys(used)) == asked
    ours, theirs = parts_of(tmp_path / "c"), parts_of(tmp_path / "xla")
    assert len(ours) == 4
    for one, other in zip(ours, theirs, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
