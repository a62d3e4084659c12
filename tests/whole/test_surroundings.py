"""What lies around a run changes no member and ends in no traceback: JAX's settings, versions, streams, folders, machines."""

import dataclasses
import errno
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.ensemble.run import forget_programs, run_ensemble
from ncsim.executors import devices
from ncsim.jax_settings import SETTINGS
from ncsim.statistics.lattice_law import LatticeLaw
from ncsim.statistics.loss_order import power
from ncsim.storage import environment
from ncsim.storage.verify import verify
from ncsim.terminal import Progress
from tests.support.tasks import FOUR_ROWS

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ncsim.EnsembleConfig(hidden=1, members=8, steps=5, tasks=FOUR_ROWS)
#: Of every setting of JAX that is pinned, another value; and of two that have no context.
OTHERS = {
    "threefry_partitionable": False,
    "default_prng_impl": "rbg",
    "enable_x64": True,
    "default_matmul_precision": "bfloat16",
    "allow_f16_reductions": False,
    "softmax_custom_jvp": True,
    "default_device": "cpu",
    "disable_jit": True,
    "no_tracing": True,
    "no_execution": True,
    "remove_size_one_mesh_axis_from_type": True,
    "auto_pcast": False,
    "debug_nans": True,
    "debug_infs": True,
    "numpy_rank_promotion": "raise",
    "numpy_dtype_promotion": "strict",
    "transfer_guard_host_to_device": "disallow",
    "transfer_guard_device_to_device": "disallow",
    "transfer_guard_device_to_host": "disallow",
    "array_garbage_collection_guard": "fatal",
    "check_tracer_leaks": True,
    "debug_key_reuse": True,
}
WITHOUT_CONTEXT = {"random_seed_offset": 7, "legacy_prng_key": "error", "enable_checks": True}


@pytest.fixture
def setting():
    """Sets a setting of JAX for the whole process, as its environment would."""
    before = {}

    def put(name, value):
        before.setdefault(name, getattr(jax.config, f"jax_{name}"))
        jax.config.update(f"jax_{name}", value)

    yield put
    for name, value in before.items():
        jax.config.update(f"jax_{name}", value)


def trained(config=CONFIG, **arguments):
    """The bytes of all that is recorded of the members, from programs that are made now."""
    forget_programs()
    records = run_ensemble(config, executor="xla", **arguments).records()
    return [np.asarray(column).tobytes() for column in records if column is not None]


@pytest.fixture(scope="module")
def plain():
    return trained()


def test_every_pinned_setting_is_tested():
    assert OTHERS.keys() == SETTINGS.keys()
    assert all(OTHERS[name] != SETTINGS[name] for name in OTHERS)


@pytest.mark.slow
def test_jax_settings_change_no_member_and_are_the_users_afterwards(plain, setting):
    """And in another thread of the user's they are so all the time."""
    others = OTHERS | WITHOUT_CONTEXT
    elsewhere = []

    class Listener(Progress):
        def advance(self, members, network_steps):
            reader = threading.Thread(target=lambda: elsewhere.append(now()))
            reader.start()
            reader.join()

    def now():
        return {name: getattr(jax.config, f"jax_{name}") for name in others}

    for name, value in others.items():
        setting(name, value)
    found = trained(progress=Listener())
    assert now() == elsewhere[0] == others
    assert found == plain


@pytest.mark.slow
def test_members_are_trained_again_whatever_the_user_has_set(setting):
    """`ncsim.parameters` and `ncsim.outcomes` compare bits with what is recorded, and raise where they differ."""
    run = run_ensemble(CONFIG, executor="xla")
    forget_programs()
    for name, value in (OTHERS | WITHOUT_CONTEXT).items():
        setting(name, value)
    assert np.isfinite(ncsim.parameters(run, [3]).hidden_kernel).all()
    assert ncsim.outcomes(run, [3]).member.tolist() == [3]


@pytest.mark.slow
def test_a_users_mesh_is_set_aside(plain):
    with jax.set_mesh(jax.make_mesh((2,), ("rows",))):
        assert trained() == plain
        assert jax.sharding.get_abstract_mesh().axis_names == ("rows",)


@pytest.mark.slow
def test_networks_that_diverge_and_empty_tables_are_no_error_where_nan_is_one(setting):
    diverging = dataclasses.replace(CONFIG, optimizer="sgd", learning_rate=1e30)
    expected = run_ensemble(diverging, executor="xla").records().diverged
    assert expected.any()
    setting("debug_nans", True)
    setting("disable_jit", True)
    assert np.array_equal(run_ensemble(diverging, executor="xla").records().diverged, expected)
    assert np.isnan(ncsim.chsh_statistics(np.zeros((2, 2, 2, 2), int)).s)


def grown(members, **arguments):
    return run_ensemble(dataclasses.replace(CONFIG, members=members), out="run", executor="xla", **arguments)


def stored():
    with open("run/config.json") as file:
        return json.load(file)


@pytest.mark.slow
def test_going_on_with_another_version_is_said_and_on_record(monkeypatch, capsys):
    grown(4)
    begun = stored()
    grown(6)
    assert capsys.readouterr().err == ""
    assert stored()["environment"] == begun["environment"]
    with monkeypatch.context() as patch:
        patch.setattr(environment, "_build", environment._build.__wrapped__)  # asked anew, as another process would
        patch.setattr("importlib.metadata.version", lambda name: "0.9.99")
        grown(6)  # complete: nothing is trained
        assert "later" not in stored()
        grown(9)
        assert f"jax 0.9.99 here, {jax.__version__} there" in capsys.readouterr().err
        grown(12, shard=(1, 1))
        assert f"jax 0.9.99 here, {jax.__version__} there" in capsys.readouterr().err
    grown(13)
    assert capsys.readouterr().err == ""  # of the kind that began it
    assert stored()["environment"] == begun["environment"]
    versions = [each["environment"]["versions"]["jax"] for each in stored()["later"]]
    assert versions == ["0.9.99", jax.__version__]
    members = [list(each["members"].values()) for each in stored()["later"]]
    assert members == [[[[6, 3]]], [[[12, 1]]]]  # what was missing when each went on
    assert verify("run").right


def test_flags_that_change_arithmetic_are_on_record_and_compared(monkeypatch, capsys, setting):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4 --xla_dump_to=x")
    grown(2)
    assert "settings" not in stored()["environment"]  # these change nothing
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    setting("optimization_level", "O1")
    grown(4)
    said = "XLA_FLAGS=--xla_cpu_enable_fast_math=true JAX_OPTIMIZATION_LEVEL=O1 here, no such settings there"
    assert said in capsys.readouterr().err
    assert stored()["later"][0]["environment"]["settings"] == said.partition(" here")[0].split()


def test_a_processor_without_fused_products_is_on_record_and_told(monkeypatch, capsys):
    """Its members are others: it rounds a product and a sum twice."""
    monkeypatch.setattr(devices.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(devices, "processor_features", lambda: {"avx", "avx2", "fma"})
    grown(2)
    assert "settings" not in stored()["environment"]
    monkeypatch.setattr(devices, "processor_features", lambda: {"avx"})
    grown(4)
    assert "processor without FMA here, no such settings there" in capsys.readouterr().err
    assert stored()["later"][0]["environment"]["settings"] == ["processor without FMA"]
    monkeypatch.setattr(devices, "processor_features", set)  # a system that does not say
    assert devices.arithmetic_settings() == {}
    monkeypatch.setattr(devices.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(devices, "processor_features", lambda: {"asimd"})
    assert devices.arithmetic_settings() == {}


GRID = np.linspace(-60, 60, 601)
#: What meets probabilities that are too small for a float: each is 0, and no error.
SMALL = {
    "moments": lambda: ncsim.moment_fit(np.arange(1_000, 0, -1)).maxwell_boltzmann(np.array([0.0, 1e6])),
    "occupation": lambda: ncsim.moment_fit(np.array([50, 3, 2, 1])).bose_einstein(np.array([1.0, 1e9])),
    "quantum": lambda: (
        ncsim.quantum_statistics(np.where(np.eye(4, dtype=bool), 1e-300, 1e300).reshape(2, 2, 2, 2)).local
    ),
    "largest": lambda: LatticeLaw(1, np.array([1e-200, 0.2, 0.3, 0.3, 0.2])).maximum_of(5).probabilities,
    "power": lambda: power(np.array([1e-200, 0.5]), 7),
    "coefficients": lambda: ncsim.hoeffding_p_value(
        np.arange(16).reshape(2, 2, 2, 2), ncsim.correlator_inequality("tiny", np.array([[1, 1], [1, -1]]) * 1e-200)
    ),
    "widths": lambda: ncsim.width_law(np.array([-2e3, -3e3]), 1.0),
    "potential": lambda: ncsim.grand_potential([[0.0, 1e5], [0.0, 1.0]], 1.0, 1.0),
    "fit": lambda: ncsim.fitted_log_density(np.random.default_rng(0).normal(size=500), GRID, degree=2),
    "fluid": lambda: ncsim.fluid(GRID, np.stack([-0.5 * (GRID - at) ** 2 for at in np.arange(5) / 100]), 0.01).velocity,
    "entropy": lambda: ncsim.entropy_balance(GRID, -0.5 * GRID**2, np.ones(601), diffusion=0.5, speed=0.5).rate,
}


@pytest.mark.parametrize("name", SMALL)
def test_numbers_too_small_for_a_float_are_none_where_numpy_is_to_raise(name):
    expected = SMALL[name]()
    with np.errstate(all="raise"):
        assert np.array_equal(SMALL[name](), expected, equal_nan=True)


#: The command, but that a report has no figures: they write to no stream, and take most of the time of so small a run.
UNDRAWN = """
import sys
import ncsim.report.drawing, ncsim.report.write
from ncsim.cli import main
ncsim.report.drawing.draw = lambda *_: []
ncsim.report.write.report_page = lambda *_, **__: ""
main(sys.argv[1:])
"""


def ended(arguments, command=f"-c '{UNDRAWN}'"):
    """Status, standard output and standard error of a command line of a shell, which may have redirections.

    Without the line that a slow machine is given: that a report is still being made."""
    done = subprocess.run(
        ["sh", "-c", f'"$0" {command} {arguments}', sys.executable], capture_output=True, text=True, timeout=300
    )
    said = "".join(line for line in done.stderr.splitlines(True) if not line.startswith("ncsim: reporting "))
    return done.returncode, done.stdout, said


COMMAND = "ensemble --hidden 1 --members 4 --steps 2 --executor xla --devices 1"


@pytest.mark.slow
def test_standard_streams_that_are_closed_or_full():
    assert ended(f"{COMMAND} --out a 2>&-")[0] == 0
    assert ncsim.open_run("a").counts.sum()
    assert ended(f"{COMMAND} --out b 2>/dev/full")[0] == 0
    status, out, err = ended("report a >&-")
    assert (status, out, err) == (0, "", "ncsim: standard output is closed, so that nothing is printed\n")
    status, out, err = ended("report a >/dev/full")
    assert (status, err) == (2, "ncsim: error: standard output: cannot be written (No space left on device)\n")
    assert ended("--help >/dev/full", "-m ncsim.cli")[::2] == (0, "")
    assert ended("report nowhere 2>&-", "-m ncsim.cli") == (2, "", "")
    assert ended(f"{COMMAND} --out c >&- 2>&-")[0] == 0
    assert ended("report a | head -0")[::2] == (0, "")


class Broken(io.StringIO):
    """A stream that cannot be written: of a terminal that has gone, or of a full disk."""

    def write(self, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def isatty(self):
        return self.terminal

    def fileno(self):
        return os.open(os.devnull, os.O_WRONLY)


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["closed", "full", "terminal that has gone"])
def test_streams_end_no_training(stream, monkeypatch):
    broken = Broken()
    broken.terminal = stream.startswith("terminal")
    monkeypatch.setattr(sys, "stderr", None if stream == "closed" else broken)
    grown(4, progress=Progress())
    monkeypatch.setattr(sys, "stdout", None)
    main(["report", "run"])
    if stream != "closed":
        monkeypatch.setattr(sys, "stdout", broken)
        with pytest.raises(SystemExit) as caught:
            main(["report", "run"])
        assert caught.value.code == 2


@pytest.mark.slow
def test_a_complete_run_in_a_folder_that_is_only_read(monkeypatch, capsys):
    """Simulated, because root may write anywhere: opening a file to write to it is refused."""
    main([*COMMAND.split(), "--out", "run", "--quiet"])
    main(["report", "run"])
    shown = capsys.readouterr().out
    for name in ("summary.json", "report.html"):
        os.unlink(f"run/{name}")
    opened = os.open

    def refusing(path, flags, *rest, **more):
        if flags & (os.O_WRONLY | os.O_RDWR) and str(path).startswith(("run", os.path.abspath("run"))):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refusing)
    for command in (["report", "run"], [*COMMAND.split(), "--out", "run"]):
        main(command)
        printed = capsys.readouterr()
        assert printed.out == shown.partition("\n\nStored in")[0] + "\n"
        assert printed.err.splitlines()[-1].endswith("run: the report cannot be written (Read-only file system)")
    with pytest.raises(SystemExit):
        main([*COMMAND.replace("members 4", "members 5").split(), "--out", "run"])
    assert "cannot be written to (Read-only file system)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "content"), [("MPLBACKEND", "module://no_such_inline.backend"), ("MATPLOTLIBRC", "text.usetex: True")]
)
def test_matplotlibs_settings_do_not_reach_figures(tmp_path, variable, content):
    if variable == "MATPLOTLIBRC":
        (tmp_path / "matplotlibrc").write_text(f"{content}\nfont.size: 30\n")
        content = str(tmp_path / "matplotlibrc")
    script = (
        "import os; from ncsim.report.figures import new_figure, save_figure\n"
        "from pathlib import Path\n"
        "with new_figure(2, 2) as figure:\n"
        "    figure.subplots().set_title('$x$ one_two')\n"
        "    save_figure(figure, Path('figure'), [], [])\n"
        f"print(os.environ[{variable!r}])"
    )
    svg = []
    for variables in ({}, {variable: content}):
        done = subprocess.run(
            [sys.executable, "-c", script.replace("print", "0 and print") if not variables else script],
            env={**os.environ, "PYTHONPATH": str(ROOT), **variables}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        svg.append(Path("figure.svg").read_text())
    assert done.stdout.strip() == content  # the user's own again
    assert svg[0] == svg[1]
