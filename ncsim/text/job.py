"""The groups of adapters that one call of `run_text` asks for, trained by this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ncsim.cluster.shards import Shard
from ncsim.errors import ConfigError
from ncsim.executors.own_programs import own_programs
from ncsim.formatting import counted
from ncsim.terminal import ProgressListener, say, telling
from ncsim.text.config import field_specs
from ncsim.text.data.prepare import PreparedSuite, prepare_suite
from ncsim.text.model.checkpoint import backbone_fingerprint, backbone_folder, listed, load_backbone, tensors_left_out
from ncsim.text.model.lora import check_pooling, check_rank
from ncsim.text.model.sizes import BertConfig
from ncsim.text.order import TextOrder
from ncsim.text.run_folder import TextFolder
from ncsim.text.training.devices import mesh_of
from ncsim.text.training.trainer import Trainer


class Opened(NamedTuple):
    """An order with its model and data read, on devices."""

    trainer: Trainer
    sources: dict[str, Any]  # what of them stands in config.json


def opened(order: TextOrder, progress: ProgressListener | None = None) -> Opened:
    """Read an order's model and data.

    Raises:
        ConfigError, StoreError: as `ncsim.text.run_text`.
    """
    config = order.config
    mesh = mesh_of(order.devices)
    folder_of_model = backbone_folder(order.model, config.revision)
    bert, parameters = load_backbone(folder_of_model)
    if config.adaptation != "full":
        for rank in config.ranks:
            check_rank(rank, bert, "--ranks")
    check_length(config.length, bert)
    check_pooling(config.pooling, bert)
    with telling(None if progress is None else "preparing the items"):
        prepared = prepare_suite(
            order.suite, tokenizer=folder_of_model, length=config.length, vocab_size=bert.vocab_size,
            max_positions=bert.max_positions, items=config.items or None, test_items=config.test_items or None,
            form=config.form, pairing=config.pairing, seed=config.root_seed, source_dir=order.source_dir,
            cache_dir=order.cache_dir,
        )  # fmt: skip
    check_segments(prepared, bert)
    data = prepared.report() | {"fingerprint": prepared.fingerprint}
    sources = {"data": data, "backbone": _described(folder_of_model)}
    return Opened(Trainer(config, bert, parameters, prepared, mesh), sources)


def _described(model: Path) -> dict[str, Any]:
    """What a run's config.json says of its backbone. What is left out of the checkpoint is said on the terminal too."""
    described: dict[str, Any] = {"fingerprint": backbone_fingerprint(model)}
    if left_out := tensors_left_out(model):
        described["left_out"] = left_out
        say(f"--model: left out {counted(len(left_out), 'tensor')} outside its encoder: {listed(left_out)}")
    return described


def check_length(length: int, bert: BertConfig) -> None:
    """Refuse items that are longer than the model has positions.

    Raises:
        ConfigError: naming the option and what both it and the model allow.
    """
    if length > bert.max_positions:
        least = field_specs()["length"]["low"]
        raise ConfigError(
            f"--length: {length}; allowed: {least} to {bert.max_positions}, the positions that the model has"
        )


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


@own_programs()
def train_here(order: TextOrder, shard: Shard | None, progress: ProgressListener | None) -> TextFolder:
    """Train what the folder lacks, or this shard's share of it, in this process. Raises as `ncsim.text.run_text`."""
    trainer, sources = opened(order, progress)
    folder = TextFolder.create(order.location, order.config, sources, lambda: trainer.plan(order.at_once))
    with folder.unless_complete(), folder.exclusive() if shard is None else folder.shared():
        if order.at_once is not None and shard is None:
            trainer.regroup(folder, order.at_once)
        ours = range(len(folder.groups)) if shard is None else shard.of_many(len(folder.groups))
        if work := [number for number in ours if not folder.complete(number)]:
            folder.note_environment(trainer.kind(), work)
            folder.note_means(order.config)
            trainer.train(folder, work, progress)
    return folder
