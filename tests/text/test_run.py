"""`ncsim text` from files to a table: stored, resumed exactly, refused clearly. Small made-up data and a tiny random BERT."""

import json
import math
import os
import shutil
import signal

import duckdb
import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from ncsim.cli.command import main
from ncsim.errors import ConfigError, DeviceError, StoreError
from ncsim.statistics.chsh import chsh_statistics
from ncsim.storage import environment
from ncsim.text.config import TextConfig
from ncsim.text.model.adapter_files import load_adapter
from ncsim.text.model.bert import BertConfig
from ncsim.text.report.write import write_text_report
from ncsim.text.results import open_text_run
from ncsim.text.run import run_text
from ncsim.text.run_folder import TextFolder
from ncsim.text.training import trainer
from ncsim.text.training.programs import GroupProgram, _Programs
from ncsim.text.verify import verify_text
from tests.support.cases import first_fast
from tests.support.text_model import write_model_and_data

pytestmark = pytest.mark.usefixtures("quickly")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model's folder and a source folder."""
    return write_model_and_data(tmp_path_factory.mktemp("text"))


def config(files, **changes):
    values = {
        "model": str(files / "model"),
        "suite": "multilingual",
        "ranks": (2,),
        "epochs": 3,
        "batch_size": 2,
        "length": 12,
    }
    return TextConfig(**(values | {"learning_rate": 0.01, "dropout": 0.1, "root_seed": 1} | changes))


def trained(files, out, progress=None, **changes):
    return run_text(config(files, **changes), out, files / "data", files / "cache", progress=progress)


def options_of(files, out):
    """The same as the command line has it."""
    return [str(item) for name, value in [
        ("--model", files / "model"), ("--suite", "multilingual"), ("--ranks", 2), ("--epochs", 3), ("--batch-size", 2),
        ("--length", 12), ("--learning-rate", 0.01), ("--dropout", 0.1), ("--root-seed", 1), ("--out", out),
        ("--source-dir", files / "data"), ("--cache-dir", files / "cache"),
    ] for item in (name, value)]  # fmt: skip


class Listener:
    """Counts what is trained, and ends the run at a call."""

    def __init__(self, end=None):
        self.items = self.calls = 0
        self.end = end

    def start(self, members, network_steps):
        self.wanted = network_steps

    def advance(self, members, network_steps):
        self.items += network_steps
        self.calls += 1
        if self.calls == self.end:
            raise KeyboardInterrupt

    def close(self):
        pass


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory):
    """A run from beginning to end."""
    listener = Listener()
    run = trained(files, tmp_path_factory.mktemp("runs") / "whole", listener)
    assert listener.items == listener.wanted
    return run


def contents(path):
    kinds = ("parts/*.parquet", "adapters/*/*/*/*.safetensors")
    return {str(file.relative_to(path)): file.read_bytes() for kind in kinds for file in sorted(path.glob(kind))}


def test_what_a_run_leaves(whole, files):
    counts = whole.counts
    assert counts.shape == (1, 1, 4, 2, 2, 2, 2, 2)
    items = counts.sum(axis=(-2, -1))
    assert (items[..., 0, :, :] == whole.data["items"]["train"]).all()
    assert (items[..., 1, :, :] == whole.data["items"]["test"]).all()
    assert whole.missing() == 0
    assert not list(whole.path.glob("checkpoints/*"))
    np.testing.assert_array_equal(whole.statistics().s, chsh_statistics(counts).s)
    bert = BertConfig.from_dict(json.loads((files / "model" / "config.json").read_text()))
    for context in ("11", "12", "21", "22"):
        stored = load_adapter(whole.path / "adapters" / "rank=2" / "seed=0" / f"context={context}", bert)
        assert (stored.rank, stored.alpha) == (2, 16)
        assert np.asarray(stored.adapter["lora"]["layers"]["attention"]["query"]["b"]).any()
    assert (whole.table().to_pandas().groupby(["epoch", "split", "context"]).size() == 1).all()


@pytest.mark.thorough
def test_compiled_programs_are_kept_and_give_the_same_bits(files, whole, tmp_path, monkeypatch):
    """A run that compiles, and one that reads what it compiled; outside of runs JAX keeps nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    session = jax.config.jax_compilation_cache_dir  # the tests' own, which would be kept in as a user's is
    jax.config.update("jax_compilation_cache_dir", None)
    events = []
    jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
    found = []
    try:
        for name in ("cold", "warm"):
            _Programs.of.cache_clear()
            jax.clear_caches()
            events.clear()
            assert contents(trained(files, tmp_path / name).path) == contents(whole.path)
            found.append((events.count("/jax/compilation_cache/cache_hits"), kept_in(tmp_path / "cache")))
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", session)
        compilation_cache.reset_cache()
    (cold, kept), (warm, still) = found
    assert cold == 0
    assert warm == len(kept) > 0
    assert still == kept


def kept_in(folder):
    return sorted(path.name for path in folder.glob("ncsim/programs/*/*-cache"))


@pytest.mark.parametrize("end", [1, 4, 11])
def test_interrupted_and_resumed_is_the_same(files, whole, tmp_path, monkeypatch, end):
    """Ended in the first epoch, between contexts, and in a later one; a checkpoint at every step, or none at all."""
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 1e9 if end == 4 else 0)
    monkeypatch.setattr(trainer, "CALL_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        trained(files, tmp_path / "run", Listener(end))
    assert open_text_run(tmp_path / "run").missing() > 0
    listener = Listener()
    trained(files, tmp_path / "run", listener)
    assert listener.items == listener.wanted
    assert contents(tmp_path / "run") == contents(whole.path)


@pytest.mark.parametrize(("number", "end", "status"), first_fast([(signal.SIGTERM, 2, 143), (signal.SIGINT, 10, 130)]))
def test_a_signal_stores_a_checkpoint_and_the_same_command_resumes(
    files, whole, tmp_path, monkeypatch, capsys, number, end, status
):
    """Whenever the next checkpoint would have been due."""

    class Signalling(Listener):
        def advance(self, members, network_steps):
            super().advance(members, network_steps)
            if self.calls == end:
                os.kill(os.getpid(), number)

    class Ended(Exception):
        pass

    def ended(status):
        raise Ended(status)

    listener = Signalling()
    monkeypatch.setattr(trainer, "CALL_SECONDS", 0)
    monkeypatch.setattr("ncsim.terminal.Progress", lambda **_: listener)
    monkeypatch.setattr(os, "_exit", ended)
    command = ["text", *options_of(files, tmp_path / "run")]
    with pytest.raises(Ended) as error:
        main(command)
    assert error.value.args == (status,)
    assert listener.calls == end
    assert ("terminated" if status == 143 else "interrupted") in capsys.readouterr().err
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1
    rest = Listener()
    monkeypatch.setattr("ncsim.terminal.Progress", lambda **_: rest)
    main(command)
    assert listener.items + rest.items == listener.wanted
    assert contents(tmp_path / "run") == contents(whole.path)


def test_a_report_reads_each_part_once(whole, tmp_path, monkeypatch):
    run = open_text_run(shutil.copytree(whole.path, tmp_path / "run"))
    read, real = [], TextFolder.read_part
    monkeypatch.setattr(TextFolder, "read_part", lambda folder, group: read.append(group) or real(folder, group))
    write_text_report(run)
    assert read
    assert sorted(read) == sorted(set(read))


def test_other_addresses_are_refused_before_anything_is_read(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["text", "--model", "nowhere", "--out", "ftp://host/run"])
    assert "ftp:// is no storage that ncsim knows; allowed: a local folder" in capsys.readouterr().err


def test_a_text_run_is_not_watched(whole, capsys):
    with pytest.raises(SystemExit):
        main(["report", str(whole.path), "--watch"])
    assert "holds a text run; allowed: with a run of ncsim ensemble\n" in capsys.readouterr().err


def test_jax_settings_change_no_adapter(files, whole, tmp_path):
    """Neither seeds and arithmetic nor errors of what is none here."""
    others = {"random_seed_offset": 7, "threefry_partitionable": False, "enable_x64": True, "default_prng_impl": "rbg"}
    others |= {"numpy_rank_promotion": "raise", "numpy_dtype_promotion": "strict", "softmax_custom_jvp": True}
    before = {name: getattr(jax.config, f"jax_{name}") for name in others}
    try:
        for name, value in others.items():
            jax.config.update(f"jax_{name}", value)
        run = trained(files, tmp_path / "run")
    finally:
        for name, value in before.items():
            jax.config.update(f"jax_{name}", value)
    assert contents(run.path) == contents(whole.path)


def test_going_on_with_another_version_is_said_and_on_record(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trainer.Trainer, "_train_group", lambda *_: None)
    trained(files, tmp_path / "run")
    first = (tmp_path / "run" / "config.json").read_bytes()
    trained(files, tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_bytes() == first
    monkeypatch.setattr(environment, "_build", environment._build.__wrapped__)  # asked anew, as another process would
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.9.99")
    for _ in range(2):
        trained(files, tmp_path / "run")
        assert f"jax 0.9.99 here, {jax.__version__} there" in capsys.readouterr().err
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["environment"] == json.loads(first)["environment"]
    (later,) = stored["later"]
    assert later["environment"]["versions"]["jax"] == "0.9.99"
    assert later["groups"] == [0, 1, 2, 3]


@pytest.mark.parametrize("left", ["nothing", "what was before"])
def test_the_copy_of_the_description_is_put_right_when_a_run_is_taken_up(files, whole, tmp_path, left):
    """A kill between the two writes leaves it as it was, also where the run was not new: of an ensemble it is put right, too."""
    run = shutil.copytree(whole.path, tmp_path / "run")
    before = (run / "config-copy.json").read_bytes()
    TextFolder.open(run).replan(other_means=True)
    if left == "nothing":
        (run / "config-copy.json").unlink()
    else:
        (run / "config-copy.json").write_bytes(before)
    trained(files, run)
    assert (run / "config-copy.json").read_bytes() == (run / "config.json").read_bytes() != before
    assert verify_text(run).right


@pytest.mark.parametrize("left", ["parts", "checkpoints", "nothing else"])
def test_a_run_whose_description_is_lost_is_not_begun_anew(files, whole, tmp_path, left):
    """Its copy was written over where no part was there yet, with groups that its checkpoints are not of; and no line named it."""
    run = shutil.copytree(whole.path, tmp_path / "run")
    stored = (run / "config.json").read_bytes()
    (run / "config.json").unlink()
    if left != "parts":
        shutil.rmtree(run / "parts")
    if left == "checkpoints":
        (run / "checkpoints").mkdir(exist_ok=True)
        (run / "checkpoints" / "group-000.safetensors").write_bytes(b"of hours")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert run / "config-copy.json" in before
    remedy = r"; `ncsim report --repair .*run` puts its copy there$"
    with pytest.raises(StoreError, match=r"run: has a run's config-copy.json but no config.json" + remedy):
        trained(files, run)
    with pytest.raises(StoreError, match=r"run: no run is stored there \(no config.json\)" + remedy):
        open_text_run(run)
    (run / "config.json").write_bytes(stored[:-9])
    with pytest.raises(StoreError, match=r"config.json: does not describe a text run .*" + remedy):
        open_text_run(run)
    (run / "config.json").unlink()
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_complete_runs_train_nothing_and_others_are_refused(files, whole, tmp_path):
    listener = Listener()
    trained(files, whole.path, listener)
    assert listener.calls == 0
    with pytest.raises(StoreError, match=r"holds another run .learning_rate is 0.01 there, 0.02 here"):
        trained(files, whole.path, learning_rate=0.02)
    for at_once in (0, 2.0, True, "2"):
        with pytest.raises(ConfigError, match=r"--at-once: .*; allowed: a whole number from 1"):
            run_text(config(files), whole.path, files / "data", files / "cache", at_once=at_once)
    changed = tmp_path / "changed"
    shutil.copytree(files / "data", changed)
    path = changed / "x-final" / "en" / "dev_2k.tsv"
    path.write_text(path.read_text().replace("river council", "council river"))
    with pytest.raises(StoreError, match=r"holds another run .data is"):
        run_text(config(files), whole.path, changed, files / "cache")


def test_damage_is_named(files, whole, tmp_path, monkeypatch, capsys):
    """A torn part is refused; a damaged checkpoint costs time and nothing else."""
    shutil.copytree(whole.path, tmp_path / "torn")
    part = next((tmp_path / "torn" / "parts").iterdir())
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(StoreError, match=r"group-000.parquet: is torn"):
        open_text_run(tmp_path / "torn").table()

    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(trainer, "CALL_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        trained(files, tmp_path / "run", Listener(3))
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    content = bytearray(checkpoint.read_bytes())
    content[-5] ^= 1
    checkpoint.write_bytes(content)
    trained(files, tmp_path / "run")
    assert "is damaged" in capsys.readouterr().err
    assert contents(tmp_path / "run") == contents(whole.path)


@pytest.mark.thorough
def test_dropout_is_the_same_in_any_microbatch_and_short_memory_is_met_by_small_ones(
    files, tmp_path, monkeypatch, capsys
):
    """Masks belong to the tokens: short memory changes rounding only. Eight pairs are sixteen sequences, in several rows."""
    monkeypatch.setattr(trainer, "best_microbatch", lambda *_: 4)
    found = []
    for name, free, microbatch in (("much", 1e12, 4), ("little", 1.0, 1)):
        monkeypatch.setattr(trainer, "free_memory", lambda mesh, free=free: free)
        run = trained(files, tmp_path / name, dropout=0.3, batch_size=8)
        assert ("1 x 64 tokens of a step at a time" in capsys.readouterr().err) == (microbatch == 1)
        assert json.loads((run.path / "config.json").read_text())["microbatch"] == microbatch
        found.append(contents_of_adapters(run.path))
    much, little = found
    assert much.keys() == little.keys()
    assert max(float(np.abs(much[key] - little[key]).max()) for key in much) < 1e-5


def contents_of_adapters(path):
    from safetensors.numpy import load_file

    return {
        (str(file.parent.relative_to(path)), name): tensor
        for file in sorted(path.glob("adapters/*/*/*/*.safetensors"))
        for name, tensor in load_file(file).items()
    }


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param(4, 3, marks=pytest.mark.thorough),
        pytest.param(1, 4, marks=pytest.mark.slow),
        pytest.param(4, 1, marks=pytest.mark.thorough),  # into smaller groups, as the first case
    ],
)
def test_another_at_once_groups_what_is_left_anew(files, whole, tmp_path, monkeypatch, capsys, first, then):
    """Stopped in the first group, taken up with another number: begun adapters go on, and all end as in one go."""
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(trainer, "CALL_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        run_text(
            config(files), tmp_path / "run", files / "data", files / "cache", at_once=first, progress=Listener(end=4)
        )
    run = run_text(config(files), tmp_path / "run", files / "data", files / "cache", at_once=then)
    assert f"--at-once {then}: what is left is trained in" in capsys.readouterr().err
    assert max(map(len, TextFolder.open(run.path).groups)) <= max(then, 1 if first > then else then)
    assert run.missing() == 0
    assert run.counts.shape == whole.counts.shape
    assert (run.counts.sum(axis=(-2, -1)) == whole.counts.sum(axis=(-2, -1))).all()
    ours, theirs = contents_of_adapters(run.path), contents_of_adapters(whole.path)
    assert ours.keys() == theirs.keys()
    assert max(float(np.abs(ours[key] - theirs[key]).max()) for key in ours) < 1e-5
    again = run_text(config(files), tmp_path / "run", files / "data", files / "cache", at_once=then)
    assert contents(again.path) == contents(run.path)


def failing(words, bytes_of_adapter=0):
    """Programs of groups that need so much memory, and fail at once with words of a device."""

    def begin():
        raise jax.errors.JaxRuntimeError(words)

    def program(setting, mesh, backbone, tokens, pairs, group):
        return GroupProgram(begin, None, None, None, 1, lambda: bytes_of_adapter * len(group))

    return program


OUT_OF_MEMORY = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9123456 bytes."


@pytest.mark.parametrize(
    ("words", "said", "halved"),
    [
        (
            OUT_OF_MEMORY,
            "a device has no memory for 1 adapter at once and one row of a step at a time; .* --at-once",
            2,
        ),
        (
            "INTERNAL: CUDA_ERROR_ILLEGAL_ADDRESS",
            "a device failed while training (.*ILLEGAL_ADDRESS); what is stored",
            0,
        ),
    ],
    ids=["memory", "other"],
)
def test_a_device_that_fails_is_one_line(files, tmp_path, monkeypatch, capsys, words, said, halved):
    monkeypatch.setattr(trainer, "best_microbatch", lambda *_: 4)
    monkeypatch.setattr(trainer, "group_program", failing(words))
    with pytest.raises(DeviceError, match=said.replace("(", r"\(").replace(")", r"\)")):
        trained(files, tmp_path / "run")
    told = capsys.readouterr().err
    assert told.count("out of device memory: on with") == halved
    assert told.count("on with 1 row of a step at a time") == halved / 2


@pytest.mark.parametrize("words", [OUT_OF_MEMORY, "INTERNAL: CUDA_ERROR_ILLEGAL_ADDRESS"])
@pytest.mark.parametrize("what", ["the items", "the model"])
def test_a_model_that_a_device_does_not_hold_is_one_line(files, tmp_path, monkeypatch, words, what):
    """It was a traceback: nothing is trained by then."""
    put = jax.device_put

    def short(tree, *rest):
        if (isinstance(tree, dict) and "layers" in tree) == (what == "the model"):
            raise jax.errors.JaxRuntimeError(words)
        return put(tree, *rest)

    monkeypatch.setattr(jax, "device_put", short)
    said = f"a device has no memory for {what}; allowed" if words == OUT_OF_MEMORY else "a device failed while training"
    with pytest.raises(DeviceError, match=said):
        trained(files, tmp_path / "run")


@pytest.mark.slow
def test_what_is_done_again_after_short_memory_is_told_once(files, tmp_path, monkeypatch):
    """Steps after the last checkpoint were told twice, so that more than all was done."""
    real, failed = trainer._GroupRun.evaluate, []

    def evaluate(self, *arguments):
        if self.epoch == 1 and not failed:
            failed.append(self.number)
            raise jax.errors.JaxRuntimeError(OUT_OF_MEMORY)
        return real(self, *arguments)

    monkeypatch.setattr(trainer, "best_microbatch", lambda *_: 2)
    monkeypatch.setattr(trainer._GroupRun, "evaluate", evaluate)
    listener = Listener()
    trained(files, tmp_path / "run", listener)
    assert failed == [0]
    assert listener.items == listener.wanted


@pytest.mark.parametrize("place", ["memory://text{}", "{}"])
def test_shards_put_on_record_what_changes_rounding(files, tmp_path, monkeypatch, capsys, place):
    """Neither halved rows, nor another kind of machine, nor other means of a shard stood in config.json."""
    place = place.format(tmp_path / "run")
    monkeypatch.setattr(trainer, "best_microbatch", lambda *_: 4)
    monkeypatch.setattr(trainer, "group_program", failing(OUT_OF_MEMORY))
    for number, width in ((1, "avx2 vectors"), (2, "avx512f vectors"), (3, "avx512f vectors")):
        monkeypatch.setattr("ncsim.text.training.devices.vectors", lambda width=width: width)
        with pytest.raises(DeviceError):
            run_text(config(files, remat=number > 1), place, files / "data", files / "cache", shard=(number, 3))
        told = "(avx512f vectors here, avx2 vectors there): adapters may differ"
        assert (told in capsys.readouterr().err) == (number > 1)
    folder = TextFolder.open(place)
    assert (folder.description["microbatch"], folder.description["first_microbatch"]) == (1, 4)
    assert folder.description["other_means"]
    (later,) = folder.description["later"]
    assert later["environment"]["vectors"] == "avx512f vectors"
    assert folder.storage.read("config-copy.json") == folder.storage.read("config.json")


def test_fewer_adapters_at_once_than_wanted_are_said_and_so_it_is_when_a_run_is_taken_up(
    files, tmp_path, monkeypatch, capsys
):
    def groups_of(at_once, adapters):
        """Sizes of groups with memory for so many adapters."""
        monkeypatch.setattr(trainer, "group_program", failing(OUT_OF_MEMORY, 1000))
        monkeypatch.setattr(trainer, "free_memory", lambda mesh: 1100 * adapters / trainer.MEMORY_SHARE)
        monkeypatch.setattr(trainer, "best_microbatch", lambda *_: 1)
        with pytest.raises(DeviceError):
            run_text(config(files), tmp_path / "run", files / "data", files / "cache", at_once=at_once)
        return [len(group) for group in TextFolder.open(tmp_path / "run").groups if group]

    monkeypatch.setattr(trainer, "AT_ONCE", {"cpu": 4})
    assert groups_of(None, 2) == [2, 2]
    assert "memory for 2 adapters at once and 1 x 64 tokens of a step at a time" in capsys.readouterr().err
    assert groups_of(1, 1) == [1, 1, 1, 1]
    assert "memory for" not in capsys.readouterr().err
    assert groups_of(4, 2) == [2, 2]
    said = capsys.readouterr().err
    assert "memory for 2 adapters at once" in said
    assert "--at-once 4: what is left is trained in 2 groups of at most 2 adapters" in said


@pytest.mark.parametrize("killed", [False, True])
def test_what_has_no_checkpoint_yet_is_grouped_anew(files, tmp_path, monkeypatch, killed):
    """Its part is of a group that is no more, and may outlive it where a kill comes between."""
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 1e9)
    with pytest.raises(KeyboardInterrupt):
        trained(files, tmp_path / "run", Listener(end=1))
    folder = TextFolder.open(tmp_path / "run")
    assert folder.read_part(0).num_rows == 2
    if killed:
        monkeypatch.setattr(TextFolder, "_remove", lambda folder, name: None)
    folder.regroup([(), (), (), (), sum(folder.groups, ())], {})
    assert (tmp_path / "run" / "parts" / "group-000.parquet").exists() == killed
    again = TextFolder.open(tmp_path / "run")
    assert again.incomplete() == [4]
    assert open_text_run(tmp_path / "run").missing() == 4
    assert not verify_text(tmp_path / "run").findings


@pytest.mark.thorough
def test_a_means_of_memory_does_not_make_another_run(files, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        trained(files, tmp_path / "run", Listener(end=3))
    run = trained(files, tmp_path / "run", remat=True)
    ours, theirs = contents_of_adapters(run.path), contents_of_adapters(whole.path)
    assert max(float(np.abs(ours[key] - theirs[key]).max()) for key in ours) < 1e-5
    with pytest.raises(StoreError, match="holds another run"):
        trained(files, tmp_path / "run", learning_rate=0.02)


def changed_model(files, folder, sizes=None, weights=None):
    """The tiny model with other sizes in config.json, or other tensors."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(files / "model", folder)
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(described | (sizes or {})))
    tensors = load_file(folder / "model.safetensors")
    changed = {name: weights(name, tensor) if weights else tensor for name, tensor in tensors.items()}
    save_file(changed, folder / "model.safetensors")
    return folder


def one_segment(name, tensor):
    return tensor[:1] if name.endswith("token_type_embeddings.weight") else tensor


def huge(name, tensor):
    return np.full_like(tensor, 3e38) if name.endswith("intermediate.dense.weight") else tensor


def broken(name, tensor):
    return np.where(tensor == tensor.flat[0], np.nan, tensor) if name.endswith("LayerNorm.weight") else tensor


@pytest.mark.parametrize(
    ("sizes", "weights", "message"),
    [
        ({"type_vocab_size": 1}, one_segment, r"--model: knows 1 kind of segment .* which has two texts, from 0 to 1"),
        (None, huge, r"--model: before the first step its logits are not finite on the train pairs of context 11"),
        (None, broken, r"LayerNorm.weight holds numbers that are not finite"),
    ],
)
def test_a_model_that_answers_nothing_is_refused_before_training(files, tmp_path, sizes, weights, message):
    folder = changed_model(files, tmp_path / "model", sizes, weights)
    with pytest.raises(ConfigError, match=message) as caught:
        trained(files, tmp_path / "run", model=str(folder))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "run").glob("parts/*"))


@pytest.mark.slow
def test_adapters_that_diverge_are_said_and_end_no_run(files, tmp_path, capsys):
    """Of two ranks, so that the smaller one is padded; its report, its adapters and their profiles."""
    run = trained(files, tmp_path / "run", ranks=(1, 3), epochs=1, learning_rate=1e30)
    rows = run.table().to_pylist()
    assert [row["diverged"] for row in rows] == [row["epoch"] == 1 for row in rows]
    # DuckDB skips NaN where a file says between which numbers all others lie.
    found = duckdb.sql(f"select count(*) from '{run.path}/parts/*.parquet' where isnan(loss_bob)").fetchall()[0][0]
    assert found == sum(math.isnan(row["loss_bob"]) for row in rows) > 0
    assert run.missing() == 0
    main(["report", str(run.path)])
    said = capsys.readouterr().out
    for split in ("train", "test"):
        assert f"r=1 seed 0, {split} pairs: A1B1, A1B2, A2B1, A2B2 diverged: a logit was not finite." in said
    assert "not trained yet" not in said + (run.path / "report.html").read_text()
    main(["export", str(run.path), "--hub", str(tmp_path / "hub"), "--base-model", "acme/tiny-bert"])
    cards = [file.read_text() for file in (tmp_path / "hub" / "adapters").rglob("README.md")]
    assert ["It diverged: a logit was not finite" in card for card in cards] == [True] * 8
    main(["report", str(run.path), "--verify"])
    bert = BertConfig.from_dict(json.loads((files / "model" / "config.json").read_text()))
    stored = load_adapter(run.path / "adapters" / "rank=1" / "seed=0" / "context=12", bert)
    assert stored.rank == 1
    assert np.isnan(stored.adapter["heads"]["kernel"]).all()
    capsys.readouterr()
    main(["entanglement", str(run.path)])
    told = capsys.readouterr()
    assert "no adapter has an update" in told.out
    assert "within its bound" not in told.out
    assert told.err == ""


@pytest.mark.slow
def test_notes_of_the_suite_are_printed(files, tmp_path, capsys):
    main(["text", *options_of(files, tmp_path / "run"), "--items", "5000"])
    printed = capsys.readouterr().out
    assert "train: 5000 items were asked for, the smallest task has" in printed
    assert "5000 items were asked for" in (tmp_path / "run" / "report.html").read_text()
    assert "unknown" in printed


def test_the_command_prints_a_table_and_report_reads_it(files, whole, capsys):
    main(["text", *options_of(files, whole.path)])
    printed = capsys.readouterr().out
    for words in ("Train pairs, after 3 epochs", "S_fact", "influence", "Delta", "paws_x-en", "Contextual once"):
        assert words in printed
    main(["report", str(whole.path)])
    assert capsys.readouterr().out == printed
    for name in ("summary.json", "report.html", "figures/figure3.png", "figures/figure4.svg", "figures/figure5.csv"):
        assert (whole.path / name).stat().st_size > 0
    summary = json.loads((whole.path / "summary.json").read_text())
    cell = next(cell for cell in summary["cells"] if cell["split"] == "train")
    assert cell["s"] == pytest.approx(float(whole.statistics().s[0, 0, -1, 0]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--ranks": "33"}, "--ranks: 33; allowed: whole numbers from 1 to the backbone's width, 32"),
        ({"--ranks": "0"}, "--ranks: 0; allowed: different whole numbers from 1"),
        ({"--ranks": "two"}, "--ranks: two; allowed"),
        ({"--length": "4000"}, "--length: 4000; allowed: 8 to 32, the positions that the model has"),
        ({"--model": "./nowhere"}, "no folder is there"),
        ({"--suite": "all"}, "suite=all: allowed: multilingual, mixed"),
        # Before the model is read, which may be a download.
        ({"--suite": "all", "--model": "./nowhere"}, "suite=all: allowed: multilingual, mixed"),
        ({"--evaluate-every": "9"}, "--evaluate-every: 9; allowed: 1 to --epochs, 3"),
        ({"--dropout": "1"}, "--dropout"),
        ({"--devices": "0"}, "--devices: 0; allowed"),
        ({"--source-dir": "./nowhere"}, "nowhere"),
    ],
)
def test_wrong_options_end_in_one_line(files, tmp_path, capsys, changes, words):
    options = {"--model": str(files / "model"), "--suite": "multilingual", "--epochs": "3", "--length": "12"}
    options |= {
        "--source-dir": str(files / "data"),
        "--cache-dir": str(files / "cache"),
        "--out": str(tmp_path / "run"),
    }
    options |= changes
    with pytest.raises(SystemExit) as ended:
        main(["text", *(item for pair in options.items() for item in pair)])
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.count("\n") == 1
    assert error.startswith("ncsim: error: ")
    assert words in error
    assert not (tmp_path / "run").exists()
