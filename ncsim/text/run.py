"""A text run from its config to stored evaluations and adapters: which groups, on which devices, resumed where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ncsim.config.fields import whole_number
from ncsim.errors import ConfigError, StoreError
from ncsim.executors.devices import validate_device_count
from ncsim.jax_settings import own_settings
from ncsim.machine import check_system
from ncsim.terminal import ProgressListener, say, telling
from ncsim.text.config import TextConfig
from ncsim.text.data.prepare import PreparedSuite, prepare_suite
from ncsim.text.model.checkpoint import backbone_fingerprint, backbone_folder, listed, load_backbone, tensors_left_out
from ncsim.text.model.lora import check_pooling, check_rank
from ncsim.text.model.sizes import BertConfig
from ncsim.text.results import TextRun
from ncsim.text.run_folder import TextFolder
from ncsim.text.training.compiled import kept_programs
from ncsim.text.training.devices import mesh_of
from ncsim.text.training.trainer import Trainer


# JAX's check of keys takes the gradient of a scan that draws a dropout mask for a second draw.
@own_settings(debug_key_reuse=False)
@kept_programs()
def run_text(
    config: TextConfig,
    out: str | Path,
    source_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    devices: int | None = None,
    at_once: int | None = None,
    progress: ProgressListener | None = None,
) -> TextRun:
    """Train every adapter of a run and evaluate it on the way (arXiv:2603.04451, section 5).

    Killed at any moment and called again, it goes on from its last checkpoint and ends with the same evaluations, bit for
    bit on one machine with as many devices. Ctrl-C and SIGTERM, where `ncsim.signals` handles them, let the call that is
    on the devices end and store a checkpoint.

    Args:
        config: the run.
        out: its folder; one that holds this run is resumed.
        source_dir: data files that are on disk already; None downloads them from their official addresses.
        cache_dir: where prepared data is kept (default: $XDG_CACHE_HOME/ncsim/text).
        devices: how many to use, 1 or more; None uses all accelerators, or the CPU as one device that uses all cores.
        at_once: adapters trained at once, 1 or more; None leaves it to the program. A run that is taken up again with
            another number is grouped anew, which changes results by rounding only.
        progress: told how it goes on; `ncsim.terminal.Progress` prints it.

    Returns:
        The run, opened from its folder.

    Raises:
        ConfigError: an option that does not fit the model, the data or the machine.
        StoreError: the folder holds another run or cannot be written to; the data or the model cannot be read.

    Example:
        >>> config = TextConfig(model="model", suite="multilingual", ranks=(2,), epochs=1, batch_size=2, length=12)
        >>> run = run_text(config, "run", source_dir="data")  # doctest: +SKIP
        >>> run.counts.shape, run.missing()  # doctest: +SKIP
        ((1, 1, 2, 2, 2, 2, 2, 2), 0)
    """
    check_system()
    if "://" in str(out):
        raise ConfigError(f"--out: {out}; allowed: a folder of this machine, which is where text runs are stored")
    validate_device_count(devices)
    if at_once is not None and (whole_number(at_once) is None or not 1 <= at_once <= 4096):
        raise ConfigError(f"--at-once: {at_once!r}; allowed: a whole number from 1 to 4096")
    mesh = mesh_of(devices)
    folder_of_model = backbone_folder(config.model, config.revision)
    bert, parameters = load_backbone(folder_of_model)
    for rank in config.ranks:
        check_rank(rank, bert)
    check_pooling(config.pooling, bert)
    with telling(None if progress is None else "preparing the items"):
        prepared = prepare_suite(
            config.suite, tokenizer=folder_of_model, length=config.length, vocab_size=bert.vocab_size,
            max_positions=bert.max_positions, items=config.items or None, test_items=config.test_items or None,
            form=config.form, pairing=config.pairing, seed=config.root_seed, source_dir=source_dir, cache_dir=cache_dir,
        )  # fmt: skip
    check_segments(prepared, bert)
    data = prepared.report() | {"fingerprint": prepared.fingerprint}
    sources = {"data": data, "backbone": _described(folder_of_model)}
    trainer = Trainer(config, bert, parameters, prepared, mesh)
    folder = TextFolder.create(out, config, sources, lambda: trainer.plan(at_once))
    try:
        with folder.exclusive():
            if at_once is not None:
                trainer.regroup(folder, at_once)
            trainer.train(folder, progress)
    except StoreError:  # a run that is complete is given also from a folder that cannot be written to
        if not all(folder.complete(number) for number in range(len(folder.groups))):
            raise
    return TextRun(folder)


def _described(model: Path) -> dict[str, Any]:
    """What a run's config.json says of its backbone. What is left out of the checkpoint is said on the terminal too."""
    described: dict[str, Any] = {"fingerprint": backbone_fingerprint(model)}
    if left_out := tensors_left_out(model):
        described["left_out"] = left_out
        say(f"--model: {len(left_out)} tensors that are not of its encoder are left out: {listed(left_out)}")
    return described


def check_segments(prepared: PreparedSuite, bert: BertConfig) -> None:
    """Refuse items whose tokeniser numbers more segments than the model has rows for: they would be NaN.

    Raises:
        ConfigError: naming the task.
    """
    for place, splits in prepared.tasks.items():
        kinds = max(int(encoded.types.max(initial=0)) for encoded in splits.values()) + 1
        if bert.reads_segments and kinds > bert.type_vocab_size:
            raise ConfigError(
                f"--model: knows {bert.type_vocab_size} kind of segment (type_vocab_size), and its tokeniser numbers those of "
                f"{place}, which has two texts, from 0 to {kinds - 1}; allowed: a suite of single texts, or another model"
            )
