"""Text runs by tasks of an executor, by shards, and in an object store: the same bytes as in one process and a folder."""

import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import Future
from pathlib import Path

import pytest

import ncsim
from ncsim.cli.command import main
from ncsim.cluster.tasks import RETRIES
from ncsim.errors import ConfigError, DeviceError, StoreError
from ncsim.storage.files import memory_store, open_storage
from ncsim.text import pool as pools
from ncsim.text.results import open_text_run
from ncsim.text.run import run_text
from ncsim.text.run_folder import TextFolder
from ncsim.text.training import trainer
from tests.ensemble.test_pool import Here
from tests.text.test_run import Listener, config, contents, files, options_of, trained, whole  # noqa: F401 - fixtures

pytestmark = pytest.mark.usefixtures("quickly")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.delenv("NPROC", raising=False)
    yield
    os.environ.pop("NPROC", None)
    pools._opened.cache_clear()


def by(pool, files, out, progress=None, **options):  # noqa: F811
    return run_text(config(files), out, files / "data", files / "cache", progress=progress, pool=pool, **options)


def test_tasks_store_what_one_process_does_and_lost_ones_are_handed_out_again(files, whole, tmp_path):  # noqa: F811
    pool, listener = Here(lost=RETRIES), Listener()
    run = by(pool, files, tmp_path / "run", listener)
    assert contents(run.path) == contents(whole.path)
    assert set(pool.handed.values()) == {RETRIES + 1}
    assert len(pool.handed) == 1 + 4  # a first task, and one of each group
    assert listener.items == listener.wanted
    (tmp_path / "run" / "parts" / "group-002.parquet").unlink()
    again = Here()
    assert by(again, files, tmp_path / "run").missing() == 0
    assert len(again.handed) == 2  # only what is missing
    assert contents(run.path) == contents(whole.path)
    by(Here(), files, tmp_path / "run", at_once=4)  # complete: nothing is left to group anew
    assert len(TextFolder.open(tmp_path / "run").groups) == 4


def test_a_task_that_dies_in_training_is_gone_on_with_from_its_checkpoint(files, whole, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(trainer, "CALL_SECONDS", 0)
    written, begun = [], []
    write, read = TextFolder.write_checkpoint, TextFolder.checked_checkpoint

    def dying(self, group, checkpoint):
        write(self, group, checkpoint)
        written.append(group)
        if len(written) == 3:
            raise ConnectionResetError("the machine is gone")

    def seen(self, group):
        found = read(self, group)
        begun.append(found and found.epoch + found.step)
        return found

    class Dying(Here):
        def submit(self, fn, /, *arguments):
            try:
                return super().submit(fn, *arguments)
            except ConnectionResetError as error:
                future = Future()
                future.set_exception(error)
                return future

    monkeypatch.setattr(TextFolder, "write_checkpoint", dying)
    monkeypatch.setattr(TextFolder, "checked_checkpoint", seen)
    run = by(Dying(), files, tmp_path / "run")
    assert contents(run.path) == contents(whole.path)
    assert sum(each is not None for each in begun) == 1


def test_what_fails_for_good_is_one_line(files, tmp_path, monkeypatch):  # noqa: F811
    class Losing(Here):
        def submit(self, fn, /, *arguments):
            self.lost = 99 if arguments[1:] and arguments[-1] == 2 else 0
            return super().submit(fn, *arguments)

    with pytest.raises(DeviceError, match=r"^adapter rank=2, seed=0, context=21: lost 4 times, the last time by Conn"):
        by(Losing(), files, tmp_path / "run")

    def full(self, name, content):
        raise StoreError(f"{name}: cannot be written (No space left on device)")

    monkeypatch.setattr(TextFolder, "_write", full)
    with pytest.raises(StoreError, match=r"^adapter rank=2, seed=0, context=21: parts/group-002.parquet: cannot be wr"):
        by(Here(), files, tmp_path / "run")
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"^pool: int; allowed: a concurrent\.futures\.Executor"):
        by(3, files, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"^pool: shares out all of a run; allowed: without shard"):
        by(Here(), files, tmp_path / "run", shard=(1, 2))
    with TextFolder.open(tmp_path / "run").exclusive(), pytest.raises(StoreError, match="another process is writing"):
        by(Here(), files, tmp_path / "run")


def test_machines_of_two_kinds_are_refused(files, tmp_path, monkeypatch):  # noqa: F811
    real, asked = pools._kind, []

    def kind(order):
        asked.append(order)
        return real(order) | ({"processor": "another"} if len(asked) > 2 else {})

    monkeypatch.setattr(pools, "_kind", kind)
    with pytest.raises(StoreError, match=r"^adapter rank=2, seed=0, context=12: .*the processor is another one"):
        by(Here(), files, tmp_path / "run")


def test_shards_store_what_one_process_does_and_the_last_reports(files, whole, tmp_path, capsys):  # noqa: F811
    out = tmp_path / "run"
    for number in (2, 1, 3):
        main(["text", *options_of(files, out), "--shard", f"{number}/3"])
        said = capsys.readouterr().out
        assert said.startswith(f"Share {number} of 3 is stored in {out}. When all are:") == (number != 3)
        left = said.splitlines()[1].split(" still to be trained.")[0] if number != 3 else ""
        assert left == (f"{open_text_run(out).missing()} adapters are" if number != 3 else "")
    assert "Contextual once" in said
    assert contents(out) == contents(whole.path)
    with pytest.raises(ConfigError, match=r"--shard: \(0, 3\); allowed"):
        trained_as(files, out, (0, 3))
    (out / "parts" / "group-000.parquet").unlink()
    with TextFolder.open(out).exclusive(), pytest.raises(StoreError, match="another process is writing"):
        trained_as(files, out, (1, 3))


def trained_as(files, out, shard):  # noqa: F811
    return run_text(config(files), out, files / "data", files / "cache", shard=shard)


def test_a_run_in_an_object_store(files, whole, tmp_path, capsys):  # noqa: F811
    """Trained, taken up again and reported as in a folder."""
    place = f"memory://{tmp_path.name}/run"
    try:
        with pytest.raises(KeyboardInterrupt):
            trained(files, place, Listener(3))
        run = trained(files, place)
        assert (run.location, run.path, run.missing()) == (place, None, 0)
        stored = open_storage(place)
        for name, content in contents(whole.path).items():
            assert stored.read(name) == content
        assert stored.names("checkpoints") == []
        capsys.readouterr()
        main(["report", place])
        printed = capsys.readouterr().out
        assert f"Stored in {place}: parts/" in printed
        assert "figures/figure3.png" in stored.names("figures")
        assert json.loads(stored.read("summary.json"))["run"] == place
        assert (open_text_run(place).counts == whole.counts).all()
    finally:
        memory_store.cache_clear()


def test_a_driver_imports_no_jax(files, whole, tmp_path):  # noqa: F811
    """JAX would take a TPU of its machine from the tasks."""
    described = json.loads((whole.path / "config.json").read_text())
    code = f"""
        import sys
        from concurrent.futures import Executor, Future
        import ncsim
        from ncsim.text import pool as pools

        described = {described!r}
        planned = {{name: described[name] for name in ("groups", "microbatch", "device", "environment")}}
        sources = {{name: described[name] for name in ("data", "backbone")}}

        class Elsewhere(Executor):
            def submit(self, fn, /, *arguments):
                future = Future()
                kind = described["environment"] | {{"device": described["device"], "processor": ""}}
                found = {{"sources": sources, "kind": kind, "planned": planned}}
                future.set_result(("", found if fn is pools.begin else None))
                return future

        config = ncsim.text.TextConfig(**{dict(config(files).__dict__)!r})
        run = ncsim.text.run_text(config, "run", pool=Elsewhere())
        print(run.missing(), sorted({{"jax", "jaxlib", "optax", "ray"}} & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(ncsim.__file__).parents[1])},
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("4 []\n", 0), done.stderr
