"""What a container leaves of a machine, from made-up control groups; and systems that lack what Linux has."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ncsim
from ncsim import c_compiler, machine
from ncsim.cli.command import main
from ncsim.cluster.tasks import whole_location
from ncsim.executors.devices import prepare_jax
from ncsim.hub.dataset import new_folder
from ncsim.planning.forecast import Forecast

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """A machine of 16 cores and 64 GiB with these files in /proc and of control groups."""
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "CONTROL_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**24}[name])

    def write(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return write


NO_LIMIT = {"proc/self/cgroup": "0::/\n", "groups/cpu.max": "max 100000\n", "groups/memory.max": "max\n"}
VERSION_1 = {
    "proc/self/cgroup": "5:cpu,cpuacct:/docker/a1\n4:memory:/docker/a1\n3:cpuset:/docker/a1\n0::/\n",
    "groups/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "groups/cpu/cpu.cfs_quota_us": "-1\n",
    "groups/cpu/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize(
    ("files", "cores", "gibibytes"),
    [
        ({}, 16, 64),
        (NO_LIMIT, 16, 64),
        (NO_LIMIT | {"groups/cpu.max": "250000 100000\n", "groups/memory.max": f"{3 * 2**30}\n"}, 3, 3),
        (NO_LIMIT | {"groups/cpu.max": "30000 100000\n"}, 1, 64),
        (NO_LIMIT | {"groups/cpu.max": "9900000 100000\n", "groups/memory.max": f"{2**40}\n"}, 16, 64),
        (NO_LIMIT | {"groups/cpuset.cpus.effective": "0-2,8\n"}, 4, 64),
        (  # a limit of a group above its own
            NO_LIMIT
            | {"proc/self/cgroup": "0::/user.slice/job\n", "groups/user.slice/cpu.max": "400000 100000\n"}
            | {"groups/user.slice/job/memory.max": f"{2**30}\n", "groups/user.slice/memory.max": f"{2**31}\n"},
            4,
            1,
        ),
        ({"proc/self/cgroup": "0::/../../job\n", "groups/job/cpu.max": "200000 100000\n"}, 2, 64),
        (VERSION_1, 16, 64),
        (
            VERSION_1
            | {"groups/cpu/docker/a1/cpu.cfs_quota_us": "150000", "groups/cpu/docker/a1/cpu.cfs_period_us": "50000"}
            | {"groups/memory/docker/a1/memory.limit_in_bytes": f"{2**31}\n"},
            3,
            2,
        ),
        (VERSION_1 | {"groups/cpuset/docker/a1/cpuset.effective_cpus": "4\n"}, 1, 64),
        ({"proc/self/cgroup": "nothing known\n", "groups/cpu.max": "\0", "groups/memory.max": "much 0\n"}, 16, 64),
        (NO_LIMIT | {"groups/cpu.max": "100000 0\n"}, 16, 64),
    ],
)
def test_limits_of_a_container(made_up, files, cores, gibibytes):
    made_up(files)
    assert machine.cores() == cores
    assert machine.memory() == gibibytes * 2**30


def test_memory_that_is_free_in_a_container(made_up):
    made_up({"proc/meminfo": "MemTotal: 67108864 kB\nMemAvailable:   33554432 kB\n"})
    assert machine.available_memory() == 2**35
    made_up(NO_LIMIT | {"groups/memory.max": f"{2**31}\n", "groups/memory.current": f"{2**30}\n"})
    assert machine.available_memory() == 2**30
    made_up({"groups/memory.stat": f"anon 5\ninactive_file {2**29}\n"})  # given up where memory is short
    assert machine.available_memory() == 2**30 + 2**29


def test_processors_are_told_apart(made_up):
    """Compiled programs are kept by it, on file systems that several machines may share."""
    told = {
        "Intel": "vendor_id\t: GenuineIntel\nmodel\t\t: 85\nflags\t\t: fpu avx2 fma\n",
        "AMD": "vendor_id\t: AuthenticAMD\nmodel\t\t: 85\nflags\t\t: fpu avx2 fma\n",
        "Graviton 2": "Features\t: fp asimd\nCPU implementer\t: 0x41\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\n",
        "Graviton 3": "Features\t: fp asimd sve\nCPU implementer\t: 0x41\nCPU variant\t: 0x1\nCPU part\t: 0xd40\n",
    }
    keys = set()
    for lines in told.values():
        made_up({"proc/cpuinfo": f"processor\t: 0\n{lines}processor\t: 1\n{lines}"})
        keys.add(c_compiler.processor_key.__wrapped__())
    assert len(keys) == len(told)
    made_up({"proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 243.75\n"})  # a speed that changes is no other processor
    assert c_compiler.processor_key.__wrapped__() == ""


def test_devices_and_forecasts_heed_them(made_up, monkeypatch):
    made_up(NO_LIMIT | {"groups/cpu.max": "300000 100000\n", "groups/memory.max": f"{2**30}\n"})
    asked = {}
    monkeypatch.setattr("jax.config.update", asked.__setitem__)
    monkeypatch.setenv("XLA_FLAGS", "")
    prepare_jax()
    assert asked == {"jax_num_cpu_devices": 3}
    forecast = Forecast(
        [], "1 x cpu (cpu)", (), start_seconds=1, report_seconds=1, peak_memory_bytes=2**31, free_disk_bytes=1,
        calibration_seconds=1,
    )  # fmt: skip
    assert any(line.startswith("Not enough memory: this machine has 1.07 GB") for line in forecast.lines())


#: What macOS has not; /proc and control groups are missing as well (the rest of /sys is what JAX itself reads).
WITHOUT_LINUX = f"""
import builtins, os, pathlib, signal, sys, time
del os.sched_getaffinity, time.CLOCK_BOOTTIME
for name in ("sched_setaffinity", "posix_fadvise", "memfd_create", "pidfd_open"):
    vars(os).pop(name, None)
def hiding(opened):
    def open(path, *rest, **more):
        if isinstance(path, (str, os.PathLike)) and str(path).startswith(("/proc/", "/sys/fs/")):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return opened(path, *rest, **more)
    return open
import io
builtins.open = io.open = hiding(io.open)
sys.path.insert(0, {str(ROOT)!r})
from ncsim.cli import main
for command in sys.argv[1:]:
    try:
        main(command.split())
    except SystemExit as end:
        assert not end.code, (command, end.code)
"""


@pytest.mark.slow
def test_without_what_linux_alone_has():
    """As macOS is: a run, its report, another of its workers, and a plan."""
    run = "--hidden 1 --members 4 --steps 2 --devices 1"
    commands = [f"ensemble {run} --out r", f"ensemble {run} --out r --shard 1/2", "report r --verify", f"plan {run}"]
    done = subprocess.run([sys.executable, "-c", WITHOUT_LINUX, *commands], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert Path("r/report.html").exists()


def test_cores_where_there_is_no_affinity(made_up, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert machine.cores() == 10
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.cores() == 1
    monkeypatch.setattr(os, "sysconf", lambda name: -1)
    assert machine.memory() == 0
    assert machine.available_memory() == math.inf


def test_a_system_that_cannot_lock_files_is_refused_in_one_line(monkeypatch, capsys):
    """As Windows, which has no fcntl."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr(sys, "platform", "win32")
    words = "win32: ncsim does not run on this system; allowed: Linux and macOS, and on Windows its Subsystem for Linux"
    for command in (["ensemble", "--members", "4"], ["report", "run"], ["plan"], ["text"]):
        with pytest.raises(SystemExit) as caught:
            main(command)
        assert caught.value.code == 2
        assert capsys.readouterr().err == f"ncsim: error: {words}\n"
    with pytest.raises(ncsim.ConfigError, match=r"^win32: ncsim does not run"):
        ncsim.run_ensemble(ncsim.EnsembleConfig(members=4))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_current_folder_is_gone(tmp_path, monkeypatch, capsys):
    """Paths that mean it are refused in one line; others are as they were."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for command in ("plan --members 4 --hidden 1 --steps 2", "plan --members 4 --hidden 1 --steps 2 --out run"):
        with pytest.raises(SystemExit) as caught:
            main(command.split())
        assert caught.value.code == 2
        assert "the current folder is gone (No such file or directory); allowed: " in capsys.readouterr().err
    with pytest.raises(ncsim.ConfigError, match=r"^run: the current folder is gone"):
        whole_location("run")
    with pytest.raises(ncsim.ConfigError, match=r"^hub: the current folder is gone"), new_folder("hub", None):
        pass
    assert whole_location(tmp_path) == str(tmp_path)


def test_a_path_for_workers_is_the_folder_that_it_was(tmp_path, monkeypatch):
    """Of `link/../run`, the link is followed first."""
    monkeypatch.chdir(tmp_path)
    Path("there/inner").mkdir(parents=True)
    Path("link").symlink_to("there/inner")
    Path(whole_location("link/../run")).mkdir()
    assert Path("there/run").is_dir()


def test_what_is_compiled_is_kept_whatever_the_umask(tmp_path, monkeypatch, capsys):
    """Where a group's users may write to new folders, the first text run made one that nothing compiled was kept in ever after."""
    loading = pytest.importorskip("ncsim.text.data.loading", exc_type=ImportError)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = os.umask(0o002)
    try:
        with loading._exclusive(loading.text_cache() / "prepared"):
            assert c_compiler.cache_folder() == tmp_path / "ncsim"
        if c_compiler.compiler():
            assert c_compiler.remember("int nothing;\n", True)
            assert c_compiler.verdict("int nothing;\n") is True
    finally:
        os.umask(before)
    assert capsys.readouterr().err == ""
    (tmp_path / "ncsim").chmod(0o775)
    for _ in range(2):  # it is said once
        assert c_compiler.cache_folder() != tmp_path / "ncsim"
    assert capsys.readouterr().err == (
        f"ncsim: {tmp_path}/ncsim: others may write to it, so that what is compiled is not kept; allowed: the user's own folder, after chmod "
        "go-w\n"
    )


def test_a_user_without_a_home(tmp_path, monkeypatch):
    """Nothing is kept in a folder called ~, nor in one beside whatever folder a run is begun in."""
    text_cache = pytest.importorskip("ncsim.text.data.loading", exc_type=ImportError).text_cache
    monkeypatch.setattr(c_compiler, "_temporary_folder", lambda: "/temporary")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert c_compiler.cache_folder() == tmp_path / "caches" / "ncsim"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert c_compiler.cache_folder() == tmp_path / "home" / ".cache" / "ncsim"
    assert text_cache() == tmp_path / "home" / ".cache" / "ncsim" / "text"
    monkeypatch.setattr(
        os.path, "expanduser", lambda path: path
    )  # what it gives where neither HOME nor the system says
    assert c_compiler.cache_folder() == Path("/temporary")
    with pytest.raises(
        ncsim.ConfigError, match=r"^--cache-dir: not given, and this user has no home; allowed: a folder"
    ):
        text_cache()
    assert sorted(os.listdir(".")) == ["caches", "home"]
