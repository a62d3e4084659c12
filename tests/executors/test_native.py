"""The native executor: C made from the one definition of the step. Where there is no compiler, it says so in one line."""

import dataclasses
import errno
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import ncsim
from ncsim import c_compiler
from ncsim.config import ensemble as configs
from ncsim.config.tasks import context_targets
from ncsim.ensemble.audit import audit
from ncsim.ensemble.run import run_ensemble
from ncsim.ensemble.trainer import BLOCKS
from ncsim.executors import choice, xla
from ncsim.executors.native import program as native
from ncsim.training import step as train
from ncsim.training.initialization import initial_vector
from ncsim.training.network import Architecture
from tests.support.cases import first_fast
from tests.support.scenarios import THREE
from tests.support.tasks import FOUR_ROWS

#: Two programs of one mathematics: a rounding or two a step, at parameters of order 1 (ten steps of Adam move by 0.1).
ONE_STEP, TEN_STEPS = 5e-7, 5e-6
CONFIG = ncsim.EnsembleConfig(hidden=2, members=700, steps=120)
RUNS_HERE = c_compiler.processor() is not None and c_compiler.compiler() is not None


def says_why_not(config=CONFIG):
    """Where nothing can be compiled: asserts the message, and tells the test to end."""
    if RUNS_HERE:
        return False
    with pytest.raises(ncsim.ConfigError, match=r"^--executor: native cannot train (without|on this).*here: xla$"):
        run_ensemble(config, executor="native")
    return True


def alike(a, b):
    for ours, theirs in zip(a, b, strict=True):
        if ours is None or theirs is None:  # what a run does not record
            assert ours is theirs
            continue
        assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")


MORE_ROWS = ncsim.truth_tables(
    [lambda *x: x[0], lambda *x: x[1]], [lambda *x: x[2], lambda *x: x[3]], features=5, name="more rows"
)
VARIANTS = {
    "adam": {},
    "two logits": {"loss": "cross_entropy", "tasks": FOUR_ROWS},
    "squared error": {"loss": "squared_error", "tasks": FOUR_ROWS},
    "momentum": {"optimizer": "sgd", "optimizer_options": "momentum=0.9,nesterov=true", "tasks": FOUR_ROWS},
    "adamw": {"optimizer": "adamw", "tasks": FOUR_ROWS},
    "rmsprop": {"optimizer": "rmsprop", "tasks": FOUR_ROWS},
    "lion": {"optimizer": "lion", "tasks": FOUR_ROWS},
    "rprop": {"optimizer": "rprop", "tasks": FOUR_ROWS},
    "a mark of the first step": {"optimizer": "optimistic_gradient_descent", "tasks": FOUR_ROWS},
    "overlap, signs": {"topology": "overlap", "encoding": "sign", "hidden": 3},
    "three heads": {"tasks": THREE},
    "three heads of two logits": {"tasks": THREE, "loss": "cross_entropy", "hidden": 1},
    "three heads, wide": {"tasks": THREE, "hidden": 10},
    "overlap, nothing shared": {"topology": "overlap", "shared": 0, "tasks": FOUR_ROWS},
}


@pytest.mark.parametrize("name", first_fast(VARIANTS, 2, slow=6))
def test_follows_the_scan(name):
    config = ncsim.EnsembleConfig(**{"hidden": 2, **VARIANTS[name]})
    if says_why_not(config):
        return
    keys = jax.random.split(jax.random.key(2), 64)
    vector = jax.vmap(lambda key: initial_vector(key, config), out_axes=-1)(keys)
    targets = jnp.asarray(context_targets(config.tasks)[1], jnp.float32)
    by_c, by_xla = (
        jax.jit(lambda v, steps, run=run: run(config, v, targets, jnp.float32(0.01), steps))
        for run in (native.training(native.shape(config)), train.train)
    )
    # RMSProp divides a gradient by its own size, and so passes on its relative error, which grows as terms cancel.
    one_step = TEN_STEPS if name == "rmsprop" else ONE_STEP
    for steps, tolerance in [(0, 0), (1, one_step), (10, TEN_STEPS)]:
        ours, theirs = by_c(vector, jnp.int32(steps)), by_xla(vector, jnp.int32(steps))
        wrong = np.abs(np.asarray(ours) - np.asarray(theirs)) > tolerance
        if "lion" in name:  # its step is the sign of an average, which a rounding can turn where it is near 0
            assert np.mean(wrong) < 0.005, name
        else:
            assert not wrong.any()
        assert steps < 10 or np.max(np.abs(theirs - vector)) > 1e-4


@pytest.mark.parametrize("optimizer", configs.ELEMENTWISE_OPTIMIZERS)
def test_there_is_c_for_every_elementwise_optimizer(optimizer):
    text = native.source(ncsim.EnsembleConfig(hidden=1, optimizer=optimizer, tasks=FOUR_ROWS))
    assert "static __attribute__((noinline)) void step(" in text


def test_vector_functions(tmp_path):
    """Errors in units of the last place: exp 2 + 0.65 |x|, reciprocal and root 2. NaN, infinities, 0 as IEEE has them."""
    if says_why_not():
        return
    import ctypes

    from ncsim.executors.native.c_template import HEADER

    functions = [
        ("vexp", np.exp),
        ("reciprocal", lambda x: 1 / x),
        ("vsqrt", np.sqrt),
        ("vabs", np.abs),
        ("vneg", np.negative),
    ]
    body = "{ for (long i = 0; i < n; i += LANES) store(x + i, FUNCTION(load(x + i))); }"
    text = "\n".join(f"void apply_{name}(float *x, long n) {body.replace('FUNCTION', name)}" for name, _ in functions)
    library = ctypes.CDLL(str(c_compiler.built(HEADER + text)))
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.normal(0, 5, 2**15), 2.0 ** rng.uniform(-120, 120, 2**15)]).astype(np.float32)
    edges = np.array([0, -0.0, np.inf, -np.inf, np.nan, 88, -87, 89, -110, 1e30, -1e30, 1, -1, 2, 3, 4], np.float32)
    for function, exact in functions:
        given = np.concatenate([numbers[numbers < 87] if function == "vexp" else numbers, edges])
        given = np.concatenate([given, np.ones(-len(given) % 16, np.float32)])
        ours = given.copy()
        getattr(library, f"apply_{function}")(
            ours.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), ctypes.c_long(len(ours))
        )
        with np.errstate(all="ignore"):
            right = exact(given.astype(np.float64))
            right = np.where(np.abs(right) > np.finfo(np.float32).max, np.copysign(np.inf, right), right)
            normal = np.isfinite(right) & (np.abs(right) > 1.2e-38)
            error = np.abs(ours - right)[normal] / (np.abs(right)[normal] * 2.0**-23)
            allowed = 2 + (0.65 * np.abs(given[normal]) if function == "vexp" else 0)
        assert np.all(error <= allowed), (function, np.max(error - allowed))
        assert np.array_equal(ours[~np.isfinite(right)], right[~np.isfinite(right)], equal_nan=True), function
        assert np.all(np.abs(ours[np.isfinite(right) & ~normal]) < 1.2e-38)


@pytest.fixture(scope="module")
def whole():
    """The 700 members in one go on four devices, in memory."""
    return run_ensemble(CONFIG, executor="native") if RUNS_HERE else None


@pytest.mark.parametrize(("first", "members"), [(0, 1), (13, 100), (699, 1), (300, 257)])
def test_alone_and_among_others(whole, first, members):
    if says_why_not():
        return
    part = run_ensemble(dataclasses.replace(CONFIG, first_member=first, members=members), executor="native")
    alike(part.records(), whole.records().take(slice(first, first + members)))


@pytest.mark.parametrize("devices", first_fast([1, 2]))
def test_on_other_numbers_of_devices(whole, devices):
    if says_why_not():
        return
    config = dataclasses.replace(CONFIG, first_member=37, members=200)
    part = run_ensemble(config, devices=devices, executor="native")
    alike(part.records(), whole.records().take(slice(37, 237)))


@pytest.mark.slow
def test_laws_are_those_of_xla():
    """Chi-square two-sample test of a context's joint counts, cells of few pooled, at 1e-4 a context. The same members
    start both, so that the true level is far smaller; a law that is wrong fails it by orders of magnitude."""
    if says_why_not():
        return
    config = ncsim.EnsembleConfig(hidden=2, members=2_000, steps=600, learning_rate=0.03)
    ours, theirs = (run_ensemble(config, executor=name).records().counts for name in ("native", "xla"))
    assert np.mean((ours == theirs).all(axis=-1)) > 0.95
    for context in range(4):
        cells, index = np.unique(np.concatenate([ours[:, context], theirs[:, context]]), axis=0, return_inverse=True)
        table = np.stack([np.bincount(half, minlength=len(cells)) for half in np.split(index.reshape(-1), 2)])
        rare = table.sum(axis=0) < 20
        table = np.concatenate([table[:, ~rare], table[:, rare].sum(axis=1, keepdims=True)], axis=1)
        table = table[:, table.sum(axis=0) > 0]
        assert table.shape[1] > 5
        assert stats.chi2_contingency(table).pvalue > 1e-4


def test_networks_that_diverge_are_counted_apart():
    config = ncsim.EnsembleConfig(members=64, optimizer="sgd", learning_rate=1e30, tasks=FOUR_ROWS)
    if says_why_not(config):
        return
    ours, theirs = (run_ensemble(config, executor=name).records() for name in ("native", "xla"))
    assert ours.diverged.any()
    assert np.mean(ours.diverged == theirs.diverged) > 0.98
    assert not ours.counts[ours.diverged].any()
    assert np.all(ours.counts[~ours.diverged].sum(axis=-1) == 4)


def test_what_it_cannot_train_is_one_line(monkeypatch):
    for change, words in [
        ({"precision": "float64"}, "precision float64"),
        ({"tasks": MORE_ROWS}, f"hidden 2 with {MORE_ROWS.rows} rows"),
        ({"optimizer": configs.LAYERWISE_OPTIMIZERS[0]}, f"optimizer {configs.LAYERWISE_OPTIMIZERS[0]}"),
    ]:
        config = dataclasses.replace(CONFIG, **change)
        with pytest.raises(ncsim.ConfigError, match=f"^--executor: native cannot train {words}.*; allowed here: xla$"):
            run_ensemble(config, executor="native")

    def sorting(config, targets, rate):
        return lambda vector: vector, lambda vector: jnp.sort(vector) * rate

    def stranger(config, targets, rate):
        return lambda vector: vector, lambda vector: jnp.arctan2(vector, rate)

    monkeypatch.setattr(c_compiler, "processor", lambda: "avx2")
    monkeypatch.setattr(c_compiler, "compiler", lambda: "cc")
    for step, word in [(sorting, "'sort'"), (stranger, "'atan2'")]:
        monkeypatch.setattr(native, "make_step", step)
        native._source.cache_clear()
        assert word in native.unsupported(CONFIG)
    native._source.cache_clear()


def test_no_compiler_or_one_that_fails_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(c_compiler, "processor", lambda: "avx2")
    monkeypatch.setattr(c_compiler, "COMPILERS", ("no-such-compiler",))
    with pytest.raises(ncsim.ConfigError, match=r"^--executor: native .* without a C compiler; looked for no-such"):
        run_ensemble(dataclasses.replace(CONFIG, hidden=1), executor="native")
    monkeypatch.setattr(c_compiler, "COMPILERS", (broken_compiler(tmp_path),))
    with pytest.raises(ncsim.ConfigError, match=r"does not compile here \(step.c:1: error: no\); allowed here: xla$"):
        run_ensemble(dataclasses.replace(CONFIG, hidden=1), executor="native")
    monkeypatch.setattr(c_compiler, "processor", lambda: None)
    with pytest.raises(ncsim.ConfigError, match=r"^--executor: native cannot train on this processor"):
        run_ensemble(dataclasses.replace(CONFIG, hidden=1), executor="native")


def test_a_compiler_is_asked_in_english_and_may_say_any_bytes(monkeypatch, tmp_path):
    """Its version is part of the key of what it has built: in another language all would be compiled and timed anew."""
    script = tmp_path / "cc"
    script.write_text(
        "#!/bin/sh\n"
        """[ "$1" = --version ] && echo "cc in $LC_ALL" && printf '\\374\\n' && exit\n"""
        "printf 'step.c:1: error: \\374 in %s\\n' $LC_ALL >&2; exit 1\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("LC_ALL", "de_DE.ISO-8859-1")
    monkeypatch.setattr(c_compiler, "COMPILERS", (str(script),))
    assert c_compiler._version(str(script)) == "cc in C\n\ufffd\n"
    with pytest.raises(ncsim.ConfigError, match=r"does not compile here \(step.c:1: error: \ufffd in C\); allowed"):
        c_compiler.built("int x;")
    script.write_text("#!/bin/sh\nexec sleep 20\n")
    monkeypatch.setattr(c_compiler, "COMPILE_SECONDS", 0.2)
    with pytest.raises(
        ncsim.ConfigError, match=r"does not compile here \(the compiler took over 0.2 s\); allowed here: xla$"
    ):
        c_compiler.built("int x;")


def test_code_for_avx2_compiles_and_agrees(monkeypatch):
    """The other way of writing vectors, on whatever processor of the two kinds this is."""
    if says_why_not():
        return
    flags = [flag.replace("-march=native", "-march=haswell") for flag in c_compiler.FLAGS]
    monkeypatch.setattr(c_compiler, "FLAGS", flags)
    config = ncsim.EnsembleConfig(hidden=2, tasks=FOUR_ROWS)
    vector = jnp.asarray(np.random.default_rng(0).normal(0, 0.5, (Architecture.of(config).size, 64)), jnp.float32)
    targets = jnp.asarray(context_targets(config.tasks)[0], jnp.float32)
    narrow = native.training.__wrapped__(native.shape(config))
    ours, theirs = (run(config, vector, targets, jnp.float32(0.01), jnp.int32(10)) for run in (narrow, train.train))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TEN_STEPS)


def test_many_steps_are_taken_in_turns(monkeypatch):
    """What is the same for all networks is made for some steps at a time, of every block anew: with the same bits. And a network that is
    no number stays none, which a ReLU by the processor's maximum may lose, and its neighbours are what they are."""
    if says_why_not():
        return
    config = native.shape(ncsim.EnsembleConfig(hidden=1, tasks=FOUR_ROWS))
    vector = jnp.asarray(np.random.default_rng(0).normal(0, 0.5, (Architecture.of(config).size, 80)), jnp.float32)
    vector = vector.at[0, 7].set(jnp.nan)
    given = (config, vector, jnp.asarray(context_targets(config.tasks)[0], jnp.float32), jnp.float32(0.01))
    text = native.source(config)
    at_once = native.training.__wrapped__(config)
    monkeypatch.setattr(native, "source", lambda _: text.replace("MOST_ROWS 65536", "MOST_ROWS 4"))
    in_turns = native.training.__wrapped__(config)
    programs = [jax.jit(functools.partial(run, *given)) for run in (at_once, in_turns)]
    for steps in ([0, 3, 3, 11], [4, 9, 9, 9], [8] * 4):
        found = [np.asarray(run(jnp.asarray(steps, jnp.int32))) for run in programs]
        assert np.array_equal(*found, equal_nan=True), steps
    ended = found[0][-1]
    assert np.isnan(ended[-2:, 7]).all()
    assert np.isfinite(np.delete(ended, 7, axis=1)).all()
    assert np.nanmax(np.abs(ended - vector)) > 1e-2


def test_the_cache_is_the_users_own(monkeypatch, tmp_path):
    if says_why_not():
        return
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = native.source(dataclasses.replace(CONFIG, hidden=1, tasks=FOUR_ROWS))
    library = c_compiler.built(text)
    assert library.parent == tmp_path / "ncsim"
    assert [path.name for path in library.parent.iterdir()] == [library.name]
    stamp = library.stat().st_mtime_ns
    assert c_compiler.built(text) == library
    assert library.stat().st_mtime_ns == stamp
    library.chmod(0o777)  # anyone may have written to it: built again
    assert c_compiler.built(text) == library
    assert library.stat().st_mtime_ns != stamp
    whole = library.read_bytes()
    for torn in (b"", whole[: len(whole) // 4], whole[:-1], whole[:4096] + bytes(4096) + whole[8192:]):
        library.write_bytes(torn)  # what a crash of the machine leaves; to load it could end the process by SIGBUS
        assert c_compiler.built(text) == library
        assert library.read_bytes() == whole
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    elsewhere = c_compiler.built(text)
    assert elsewhere.exists()
    assert elsewhere.parent != library.parent


@pytest.mark.slow
def test_several_processes_build_at_once(tmp_path):
    if says_why_not():
        return
    script = (
        "import ncsim; from ncsim import c_compiler; from ncsim.executors.native import program;"
        "print(c_compiler.built(program.source(ncsim.EnsembleConfig(hidden=1, optimizer='sgd'))))"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = {process.communicate()[0].strip() for process in started}
    assert all(process.returncode == 0 for process in started)
    assert len(printed) == 1  # the same source in every process
    assert [path.suffix for path in (tmp_path / "ncsim").iterdir()] == [".so"]


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((len(jax.devices()),), (xla.MEMBERS,), devices=jax.devices())


@pytest.mark.slow
def test_auto_takes_it_where_it_agrees_by_no_clock_and_remembers(mesh, monkeypatch, tmp_path, capsys):
    """By a clock two runs of one command went by two executors, and some of their members differed."""
    if not RUNS_HERE:
        assert choice.choose("auto", [CONFIG], mesh, BLOCKS) == "xla"
        return
    monkeypatch.setattr(choice, "seconds_a_network", lambda *_, **__: pytest.fail("a clock decides"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert choice.choose("auto", [CONFIG, dataclasses.replace(CONFIG, learning_rate=0.1)], mesh, BLOCKS) == "native"
    assert choice.choose("auto", [CONFIG, dataclasses.replace(CONFIG, precision="float64")], mesh, BLOCKS) == "xla"
    # What an earlier version remembered of its clock is no reason.
    c_compiler.remember(native.source(CONFIG), False)
    assert choice.choose("auto", [CONFIG], mesh, BLOCKS) == "native"
    monkeypatch.setattr(choice, "AGREEMENT_TOLERANCE", -1.0)
    assert choice.choose("auto", [CONFIG], mesh, BLOCKS) == "native"  # it is remembered
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "d"))
    for _ in range(2):  # the second time nothing is tried, and it is said all the same
        choice._say_not_taken.cache_clear()
        assert choice.choose("auto", [CONFIG], mesh, BLOCKS) == "xla"
        assert (
            capsys.readouterr().err == "ncsim: native is not taken: its losses are not those of xla here; using xla\n"
        )
        monkeypatch.setattr(choice, "_agree", lambda *_: pytest.fail("tried again"))


def broken_compiler(folder):
    """A compiler that refuses everything, with gcc's words."""
    path = folder / "broken-cc"
    path.write_text("#!/bin/sh\necho 'step.c:1: error: no' >&2; exit 1\n")
    path.chmod(0o755)
    return str(path)


def test_auto_says_once_why_native_is_not_taken(mesh, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(c_compiler, "processor", lambda: "avx2")
    for compilers, words in [
        (("no-such-compiler",), "without a C compiler; looked for no-such-compiler"),
        ((broken_compiler(tmp_path),), "its code does not compile here (step.c:1: error: no)"),
    ]:
        choice.forget_programs()
        monkeypatch.setattr(c_compiler, "COMPILERS", compilers)
        grid = [CONFIG, dataclasses.replace(CONFIG, hidden=3)]
        assert [choice.choose("auto", [config], mesh, BLOCKS) for config in grid] == ["xla", "xla"]
        assert capsys.readouterr().err == f"ncsim: native is not taken: {words}; using xla\n"
    monkeypatch.setattr(c_compiler, "processor", lambda: None)  # nothing that a user could mend
    choice.forget_programs()
    assert choice.choose("auto", [CONFIG], mesh, BLOCKS) == "xla"
    assert capsys.readouterr().err == ""


def test_what_is_built_with_another_header_is_built_again(monkeypatch, tmp_path):
    """And with the names that jaxlib 0.11.1 has given to the type of an extension."""
    if says_why_not():
        return
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = native.source(dataclasses.replace(CONFIG, hidden=1, tasks=FOUR_ROWS))
    here = c_compiler.built(text)
    original = Path(jax.ffi.include_dir(), c_compiler.FFI_HEADER).read_text()
    names = ["XLA_FFI_Extension_Base", "XLA_FFI_InternalExtension"]
    old, new = names if re.search(rf"\b{names[0]}\b", original) else reversed(names)
    other = tmp_path / "include" / c_compiler.FFI_HEADER
    other.parent.mkdir(parents=True)
    other.write_text(re.sub(rf"\b{old}\b", new, original))
    monkeypatch.setattr(jax.ffi, "include_dir", lambda: str(tmp_path / "include"))
    assert c_compiler.built(text) != here


def test_a_library_that_cannot_be_loaded_is_one_line(monkeypatch, tmp_path):
    """As from a file system that is mounted noexec, or after a folder could not be written to."""
    if says_why_not():
        return
    torn = tmp_path / "torn.so"
    torn.write_bytes(b"no library")
    monkeypatch.setattr(c_compiler, "built", lambda text: torn)
    with pytest.raises(ncsim.ConfigError, match=r"^--executor: native; .*torn\.so.*; allowed here: xla$"):
        native.training.__wrapped__(native.shape(CONFIG))


def test_a_stored_run_keeps_its_executor(whole, tmp_path, monkeypatch):
    if says_why_not():
        return
    run_ensemble(dataclasses.replace(CONFIG, members=64), out=tmp_path / "run", executor="native")
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())
    assert set(recorded["environment"]["executor"].values()) == {"native"}
    with pytest.raises(ncsim.ConfigError, match="was begun with native, and members differ"):
        run_ensemble(CONFIG, out=tmp_path / "run", executor="xla")
    # A grid with one cell more is another run, whatever the executor: no cell of the folder was begun with xla.
    for executor in ("native", "xla"):
        with pytest.raises(ncsim.StoreError, match=r"holds another config's run \(steps"):
            run_ensemble(
                [CONFIG, dataclasses.replace(CONFIG, steps=CONFIG.steps + 1)], out=tmp_path / "run", executor=executor
            )
    alike(run_ensemble(CONFIG, out=tmp_path / "run").records(), whole.records())


@pytest.mark.slow
def test_a_rate_that_throws_networks_about_decides_nothing_of_others(mesh, monkeypatch, tmp_path, capsys):
    """What is remembered is of a C file, which has neither rates nor seeds: whoever came first decided for all that followed."""
    if says_why_not():
        return
    wild = ncsim.EnsembleConfig(hidden=3, optimizer="sign_sgd", loss="cross_entropy", learning_rate=10.0)
    calm = dataclasses.replace(wild, learning_rate=0.01)
    assert native.source(wild) == native.source(calm)
    tried, block = [], choice.train_block

    def told(config, *arguments):
        tried.append((config.learning_rate, config.root_seed))
        return block(config, *arguments)

    monkeypatch.setattr(choice, "train_block", told)
    for folder, order in {"wild first": (wild, calm), "calm first": (calm, wild)}.items():
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / folder))
        assert [choice.choose("auto", [config], mesh, BLOCKS) for config in order] == ["native", "native"]
    assert len(tried) == 4  # two programs in each folder
    assert len(set(tried)) == 1
    assert capsys.readouterr().err == ""


def test_a_verdict_is_kept_without_hard_links_and_missed_where_it_cannot_be(monkeypatch, tmp_path):
    """Some file systems have no links: there auto went by XLA, and many members by native ended with a traceback."""
    if says_why_not():
        return

    def refused(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = "int nothing;\n"
    # What a crash of the machine leaves was "no", and stayed so.
    for torn, found in ((b"", True), (b"fast", False), (b"\xff" * 6, True)):
        c_compiler._kept_at(text, "torn").write_bytes(torn)
        assert c_compiler.verdict(text, "torn") is None
        assert c_compiler.remember(text, found, "torn") is found
        assert c_compiler.verdict(text, "torn") is found
        assert c_compiler.remember(text, not found, "torn") is found  # another was first
    monkeypatch.setattr(os, "link", refused)
    assert c_compiler.remember(text, True)
    assert c_compiler.remember(text, False)  # the first stays
    assert c_compiler.verdict(text) is True
    monkeypatch.setattr(os, "replace", refused)  # as on a disk that is full
    assert not c_compiler.remember(text, False, "other")
    assert c_compiler.verdict(text, "other") is None


def test_a_stored_run_whose_executor_cannot_train_here_is_not_sent_to_another(monkeypatch, tmp_path):
    """It was begun by auto where there is a compiler, and goes on where there is none: xla was said to be allowed, and is refused."""
    if says_why_not():
        return
    config, place = ncsim.EnsembleConfig(hidden=1, members=64, steps=3), str(tmp_path / "run")
    run = run_ensemble(config, out=place, executor="native", devices=1)
    choice.forget_programs()
    monkeypatch.setattr(c_compiler, "COMPILERS", ("no-such-compiler",))
    calls = [
        lambda: run_ensemble(dataclasses.replace(config, members=128), out=place, devices=1),
        lambda: audit(place, 0.5, 0, devices=1),
        lambda: ncsim.parameters(run, [3], devices=1),
    ]
    for call in calls:
        with pytest.raises(ncsim.ConfigError) as caught:
            call()
        assert str(caught.value) == (
            "--executor: native cannot train without a C compiler; looked for no-such-compiler; "
            f"{place} was begun with it, and members differ between executors; allowed: a machine where it trains, or a new folder with xla"
        )
    with pytest.raises(ncsim.ConfigError, match=r"looked for no-such-compiler; allowed here: xla$"):
        run_ensemble(dataclasses.replace(config, steps=4), out=tmp_path / "new", executor="native", devices=1)
    choice.forget_programs()


@pytest.mark.parametrize(
    ("other", "agree"),
    [
        (1.0009, True),
        (1.005, False),
        (np.nan, False),
        (np.inf, False),
        ((1.0, 99), True),
        ((1.5, 2), False),
        ((1.5, 1), True),
    ],
)
def test_two_programs_agree_where_their_losses_do_or_both_diverge(monkeypatch, other, agree):
    """Within a thousandth, of 99 in 100 networks; one that diverges in one program alone is no agreement."""
    ours = np.ones((100, 1), np.float32)
    theirs = ours.copy()
    value, count = other if isinstance(other, tuple) else (other, 100)
    theirs[:count] = value
    monkeypatch.setattr(choice, "train_block", lambda config, tried, *_: tried)  # each has its losses itself
    for both in (False, True):
        if both:  # beside networks that diverge in both, by whatever numbers
            ours, theirs = np.vstack([ours, [[np.nan], [np.inf]]]), np.vstack([theirs, [[-np.inf], [np.nan]]])
        one, two = (SimpleNamespace(loss=loss, lanes=len(loss)) for loss in (ours, theirs))
        assert choice._agree(CONFIG, one, two, None) is agree
