"""Figures are the same, whoever draws them."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import ncsim
from ncsim import signals
from ncsim.cli import report
from ncsim.errors import StoreError
from ncsim.report import drawing
from ncsim.report.drawing import Drawer
from ncsim.report.page import pictures_of
from ncsim.report.pictures import Pictures
from ncsim.report.summary import summarise
from ncsim.report.write import store_report
from tests.report.test_report import a_run
from tests.statistics.test_protocols import made_up

NOTHING = Pictures([], [], [], "", [], ("laws", "means"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("run"), made_up(300, seed=2))


@pytest.fixture(scope="module")
def drawn(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    return drawing.draw(pictures_of(run, summarise(run)), folder), files(folder)


def files(folder):
    """Those that are as users' in tests, too, where PNG and PDF are made in quicker ways."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".svg", ".csv")}


def test_another_process_draws_the_same(run, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "draw", lambda *_: pytest.fail("drawn here"))
    with Drawer() as drawer:
        found = drawer.draw(pictures_of(run, summarise(run)), tmp_path)
    assert found == drawn[0]
    assert files(tmp_path) == drawn[1]
    assert (len(found), len(drawn[1]), len(list(tmp_path.iterdir()))) == (5, 4, 8)
    assert drawer._process.returncode == 0


@pytest.mark.parametrize(
    "program",
    [
        "raise SystemExit(3)",
        "print('no panels')",
        "print('covered\\nx')",
        "import os; os.kill(os.getpid(), 9)",
        "import sys; print('[\"panel\"]'); sys.exit(3)",
    ],
)
@pytest.mark.parametrize("executable", [sys.executable, "/gone", None])
def test_what_another_process_fails_to_draw_is_drawn_here(program, executable, run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(drawing, "_PROGRAM", program)
    monkeypatch.setattr(drawing, "draw", lambda asked, folder: [*asked.names, str(folder)])
    with Drawer() as drawer:
        assert drawer.draw(pictures_of(run, summarise(run)), tmp_path) == ["laws", "means", str(tmp_path)]


def test_what_cannot_be_drawn_is_an_error_here(run, tmp_path, capfd):
    (tmp_path / "file").touch()
    with Drawer() as drawer, pytest.raises(StoreError, match="the report cannot be written"):
        store_report(run, summarise(run), draw=lambda asked, _: drawer.draw(asked, tmp_path / "file" / "figures"))
    assert capfd.readouterr() == ("", "")


def test_where_nothing_is_asked_for_nothing_is_said():
    for given in (b"", json.dumps(sys.path).encode() + b"\n"):
        found = subprocess.run([sys.executable, "-c", drawing._PROGRAM], input=given, capture_output=True)
        assert (found.returncode, found.stdout, found.stderr) == (1, b"", b"")


def test_no_process_is_left(monkeypatch):
    with Drawer() as drawer:
        assert drawer._process.poll() is None
    assert drawer._process.poll() is not None


def test_nothing_is_drawn_any_more_where_it_is_interrupted(run, monkeypatch):
    program = """
    import json, os, sys, time
    sys.path[:] = json.loads(sys.stdin.readline())
    folder = json.load(sys.stdin)[1]
    os.fork()
    while time.process_time() < 20:
        os.makedirs(folder, exist_ok=True)
        open(os.path.join(folder, str(os.getpid())), "w").close()
        time.sleep(0.001)
    """
    monkeypatch.setattr(drawing, "_PROGRAM", textwrap.dedent(program))

    folders = []

    def interrupt(folder):
        while len(os.listdir(folder)) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    def draw():
        with signals.handled(), Drawer() as drawer, signals.scratch("ncsim-tests-") as folder:
            folders.append(folder)
            threading.Thread(target=interrupt, args=(folder,)).start()
            drawer.draw(pictures_of(run, summarise(run)), folder)

    with pytest.raises(signals.Stopped):
        draw()
    time.sleep(0.2)
    assert not folders[0].exists()


def test_a_file_of_the_working_folder_is_no_module(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("open('imported', 'w').close()")
    monkeypatch.chdir(tmp_path)
    with Drawer() as drawer:
        assert drawer.draw(NOTHING, tmp_path) == []
    assert drawer._process.returncode == 0
    assert not (tmp_path / "imported").exists()


def test_no_folder_of_matplotlib_is_left(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "file"))  # as a home that cannot be written to
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    with Drawer() as drawer:
        assert drawer.draw(NOTHING, tmp_path) == []
    assert drawer._process.returncode == 0
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
def test_what_draws_has_one_thread_whatever_others_have(tmp_path, monkeypatch):
    told = "import ncsim.report.figures; from ncsim.report.drawing import _threads; drawing = lambda *_, **__: [_threads()]"
    patched = "import ncsim.report.drawing as module; module.draw = drawing; module.serve()"
    monkeypatch.setattr(drawing, "_PROGRAM", drawing._PROGRAM.replace("serve()", f"{told}; {patched}"))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")  # as where it is not set, on two processors
    with Drawer() as drawer:
        assert drawer.draw(NOTHING, tmp_path) == [1]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
def test_what_a_forked_process_does_and_what_it_fails_at(tmp_path):
    program = """
    import os, sys
    from ncsim.report.drawing import _beside

    def write(name, fails):
        if fails and os.getpid() != parent:
            raise OSError("full")
        with open(name, "w") as file:
            file.write(str(os.getpid()))

    parent, order = os.getpid(), []
    for name, fails in (("one", False), ("two", True)):
        with _beside(lambda: write(name, fails), forking=True):
            order.append(os.path.exists("two"))
    print(parent, open("one").read() != str(parent), open("two").read() == str(parent), order)
    """
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (found.stderr, found.stdout.split()[1:]) == ("", ["True", "True", "[False,", "False]"])


def test_the_report_of_many_members_is_that_of_few(run, monkeypatch, capsys):
    report.report_run(run, quiet=False)
    few = capsys.readouterr().out, files(run.path / "figures"), (run.path / "summary.json").read_bytes()
    monkeypatch.setattr(report, "MANY", 300)
    monkeypatch.setattr(report, "cores", lambda: 2)
    monkeypatch.setattr(drawing, "draw", lambda *_: pytest.fail("drawn here"))
    report.report_run(ncsim.open_run(run.path), quiet=False)
    assert few == (capsys.readouterr().out, files(run.path / "figures"), (run.path / "summary.json").read_bytes())
