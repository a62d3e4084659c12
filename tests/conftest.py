"""All tests run on four CPU devices; shapes and types of what works on arrays are checked as it is called."""

import contextlib
import gc
import importlib
import os
import tempfile
from pathlib import Path

# Before NumPy is loaded. Its threads wait by turning round: beside another worker a solution of 200 equations took 26 times as much of
# a processor as by one thread, an SVD forty times.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from jaxtyping import install_import_hook

from ncsim.executors.own_programs import drop_torn

# What an earlier version found to be faster is nothing to these tests, nor to the processes they start. Workers of one session
# share one cache, which is the first process's.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="ncsim-tests-")
    os.environ["XDG_CACHE_HOME"] = _CACHE.name
    # To compile is most of what tests cost. XLA's programs are found by their text, flags and version, so that the next session
    # may have them, too.
    _PROGRAMS = Path(__file__).resolve().parents[1] / "build" / "test-programs"
    _PROGRAMS.mkdir(parents=True, exist_ok=True)
    drop_torn(_PROGRAMS)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_PROGRAMS)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# Not the modules that check their arguments themselves: there a bad value must reach our own error.
CHECKED = ["training.network", "statistics.chsh", "records.joint_counts"]
install_import_hook([f"ncsim.{name}" for name in CHECKED], "beartype.beartype")

import jax  # noqa: E402
import pytest  # noqa: E402

from ncsim import signals  # noqa: E402
from ncsim.executors.devices import prepare_jax  # noqa: E402
from tests.support.quick import OLDER_LOOPS, compiled_as_by_users, compiled_quickly  # noqa: E402

# XLA reads its flags once. Both cores have tests to run, so a program is compiled in one part, by one thread, here and in processes
# that tests start: bits are the same, and it is a sixth less work.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_parallel_codegen_split_count=1".strip()
# Processes that tests start have no such flag, as users have none: what they store is compared with what is stored here.
os.environ["XLA_FLAGS"] += OLDER_LOOPS
prepare_jax(devices=4)
jax.devices()  # started now: the first run of a test would ask for as many as there are cores
os.environ["XLA_FLAGS"] = os.environ["XLA_FLAGS"].replace(OLDER_LOOPS, "")
jax.config.update("jax_debug_key_reuse", True)


TESTS = Path(__file__).resolve().parent
#: Files that take longest, fast and slow tests together, which begin first: one that began last would leave a worker without work.
LONGEST = """
text/test_run.py training/test_reservoir.py executors/test_native_observed.py ensemble/test_until.py ensemble/test_networks.py
whole/test_faults.py ensemble/test_reservoir.py experiments/test_text_experiments.py
whole/test_surroundings.py cluster/test_distributed.py experiments/test_mechanism_experiments.py executors/test_pallas.py
training/test_network_and_step.py whole/test_readme.py whole/test_examples.py ensemble/test_separability.py
experiments/test_figure2_comparison.py experiments/test_reservoir_experiments.py ensemble/test_pool_processes.py benchmarks/test_text.py
text/training/test_finetune.py experiments/test_entanglement_experiments.py executors/test_native.py executors/test_cuda.py
text/test_pool.py text/model/test_lora.py training/test_interventions.py training/test_separability.py ensemble/test_circuits.py
whole/test_stored_runs.py ensemble/test_run.py benchmarks/test_first_minutes.py whole/test_fuzz.py storage/test_trajectory_folder.py
""".split()


#: Where figures are drawn as PDF, too.
WITH_PDF = (
    "experiments", "report/test_report.py", "cli/test_command.py", "ensemble/test_networks.py", "text/test_entanglement_runs.py"
)  # fmt: skip


def pytest_collection(session):
    """In a fresh clone all that tests import is to be made into byte code, asserts too, which takes a worker fifteen seconds. Workers
    import at the same time, so that both would do all of it: every second one goes first through the files from their end."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    if int(worker[2:]) % 2 and [Path(each) for each in session.config.args] in ([TESTS], [Path("tests")]):
        for path in sorted(TESTS.rglob("test_*.py"), reverse=True):
            with contextlib.suppress(Exception, pytest.skip.Exception):  # collecting says what is wrong
                importlib.import_module(".".join(path.relative_to(TESTS.parent).with_suffix("").parts))


def pytest_collection_finish(session):
    """What is there by now stays to the end. To look through all of it for cycles, again and again, is a twelfth of what tests cost."""
    gc.freeze()


def pytest_collection_modifyitems(items):
    place = {TESTS / name: number for number, name in enumerate(LONGEST)}
    assert all(path.exists() for path in place), "a file of LONGEST is not there"
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(autouse=True, scope="module")
def _figures_are_drawn_quickly(request):
    """To embed a font in a PDF and to draw a PNG of many pixels is half of a report's time. `tests/report/test_report.py` has figures as
    users do."""
    from ncsim.report import figures

    with pytest.MonkeyPatch.context() as patch:
        if request.path.name != "test_report.py" or request.path.parent.name != "report":
            for name in ("pdf.fonttype", "ps.fonttype"):
                patch.setitem(figures.STYLE, name, 3)
            patch.setitem(figures.STYLE, "savefig.dpi", 20)
        if not any(request.path.is_relative_to(TESTS / each) for each in WITH_PDF):
            patch.setattr(figures, "_FILES", tuple(each for each in figures._FILES if each[0] != "pdf"))
        yield


@pytest.fixture(autouse=True)
def _nothing_left_behind(monkeypatch, tmp_path):
    """Relative paths of a test are its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _not_ended_by_a_signal(monkeypatch):
    """A test may send a signal to this process, which must not be ended where a busy machine answers late."""
    monkeypatch.setattr(signals, "PATIENCE_SECONDS", 600.0)


@pytest.fixture(scope="module")
def quickly():
    """For files of small runs whose bytes are not compared with those of other processes."""
    with compiled_quickly():
        yield


@pytest.fixture
def as_by_users():
    """For tests that ask how XLA rounds."""
    with compiled_as_by_users():
        yield


class Fuzzing:
    """Runs a property over many cases that hypothesis makes, the same ones each time, and counts them."""

    def __init__(self) -> None:
        self.cases = 0

    def __call__(self, cases, **given):
        """A decorator: call the function with values of these strategies, so many times, now."""
        from hypothesis import HealthCheck, settings
        from hypothesis import given as with_values

        def over(function):
            def counted(**values):
                self.cases += 1
                function(**values)

            once = settings(
                max_examples=cases,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            once(with_values(**given)(counted))()

        return over


@pytest.fixture
def fuzz(record_property):
    """Cases are added up over the run, and the sum printed at its end."""
    fuzzing = Fuzzing()
    yield fuzzing
    record_property("fuzz_cases", fuzzing.cases)


def pytest_terminal_summary(terminalreporter):
    reports = [report for group in terminalreporter.stats.values() for report in group if hasattr(report, "when")]
    cases = [
        n
        for report in reports
        if report.when == "teardown"
        for name, n in report.user_properties
        if name == "fuzz_cases"
    ]
    if cases:
        terminalreporter.write_line(f"fuzzing: {sum(cases):,} cases in {len(cases)} tests")
