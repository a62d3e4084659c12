"""What a text run is: one frozen dataclass, checked when it is made, whose fields are also the options of `ncsim text`."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ncsim.config import fields
from ncsim.config.fields import option_name, shown, whole_number
from ncsim.errors import ConfigError

MAX_RANK = 4096
#: Ends of BERT's names of a layer's dense layers, as PEFT's target_modules has them.
TARGET_MODULES = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
#: Fields that training has in float32, where a smaller number is 0, by which nothing would be learned, and a larger one infinite.
IN_FLOAT32 = ("learning_rate", "weight_decay", "clip", "alpha", "undecided_tolerance")
#: What is allowed in fields that have several values.
SEVERAL = {
    "ranks": f"different whole numbers from 1 to {MAX_RANK}",
    "target_modules": f"different ones of {', '.join(TARGET_MODULES)}",
}


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Adapters of several ranks and seeds, one per context, trained on one suite over one frozen backbone.

    An adapter is LoRA, or another `adaptation`, on query and value of every layer, or on `target_modules`, and two linear heads, Alice's first. In context (i, j) Alice's
    head learns her task i and Bob's head his task j, on pairs of items, one of either task. The paper (arXiv:2603.04451,
    section 5) gives suites, models, ranks and 80 or more epochs; it does not give the optimiser, rate, batch, alpha or
    length: those defaults are ours. LoRA is of Hu et al. 2021.

    Attributes:
        model: a BERT: a folder with config.json and model.safetensors, or the id of a model on a Hugging Face hub.
        suite: "multilingual", "mixed" (the paper's table 3), or the path of a suite file.
        ranks: LoRA ranks, different, each 1 to 4,096; sorted.
        seeds: adapters of each rank in each context, 1 to 10,000.
        epochs: passes over the training pairs, 1 to 100,000.
        evaluate_every: epochs between evaluations on training and test pairs, 1 to 100,000 and at most `epochs`.
        items: training pairs per context, 0 to 100,000,000; 0 is as many as the smallest task has items.
        test_items: test pairs per context, likewise.
        batch_size: pairs per step, 1 to 65,536.
        length: tokens that an item is cut or padded to, 8 to 65,536.
        learning_rate: AdamW's at its highest, above 0.
        schedule: how the rate falls to 0 over the run, "cosine" or "linear", or "constant".
        warmup: share of all steps over which the rate rises, 0 to 1.
        weight_decay: AdamW's, of the adapters, 0 or above.
        clip: largest norm of an adapter's gradient, 0 or above; 0 is no limit.
        alpha: LoRA's alpha, above 0: A B is scaled by alpha / rank.
        dropout: of LoRA's inputs while training, 0 to 0.99.
        pooling: what the heads see, the backbone's "pooler" of the first token, or that token ("cls").
        form: multiple choice as two classes: "balanced", the right option against one wrong one, or "all-options".
        pairing: Alice's and Bob's items of a pair: "shuffled", unrelated, or "aligned", of the same id.
        precision: arithmetic of the frozen backbone, "float32" or "bfloat16".
        remat: whether activations are computed again in the backward pass, for less memory.
        undecided_tolerance: difference of two logits below which an answer is recorded as undecided, 0 or above.
        root_seed: seed of adapters, data order, pairing and dropout, 0 to 2,147,483,647.
        revision: branch, tag or commit of a hub's model.
        target_modules: dense layers that have LoRA, different, as PEFT reads the ends of BERT's names: "query", "key", "value",
            "attention.output.dense", "intermediate.dense", "output.dense" (attention's too).
        adaptation: what is trained of a layer's update: "lora"; "full", all of it, which has no rank (`ranks` is then 0) and no
            alpha; or "mps", LoRA whose first factor is two tensors (arXiv:2601.06788, equation 84).
        bond: what these two tensors have in common, 1 to 4,096 and at most about the root of the width.
        record_entanglement: whether entanglement profiles of the updates (`ncsim.text.entanglement_profile`) are stored with each
            evaluation.

    Raises:
        ConfigError: a field that is out of range, in one line.

    Example:
        >>> config = TextConfig(ranks=(8, 2), epochs=5, evaluate_every=2)
        >>> config.ranks, config.evaluated_epochs, config.scale(8)
        ((2, 8), [0, 2, 4, 5], 2.0)
    """

    model: str = fields.text("bert-base-uncased", "a BERT: folder with config.json and model.safetensors, or hub id")
    suite: str = fields.text("mixed", "multilingual, mixed (the paper's table 3), or a suite file (TOML)")
    ranks: tuple[int, ...] = field(
        default=(1, 2, 4, 8, 16, 32), metadata={"type": tuple, "help": "LoRA ranks, each with its own adapters"}
    )
    seeds: int = fields.integer(1, 1, 10_000, "adapters of each rank in each context")
    epochs: int = fields.integer(80, 1, 100_000, "passes over the training pairs")
    evaluate_every: int = fields.integer(1, 1, 100_000, "epochs between evaluations on training and test pairs")
    items: int = fields.integer(0, 0, 10**8, "training pairs per context; 0: as many as the smallest task has items")
    test_items: int = fields.integer(0, 0, 10**8, "test pairs per context; 0: as many as the smallest task has")
    batch_size: int = fields.integer(32, 1, 65_536, "pairs per step")
    length: int = fields.integer(128, 8, 65_536, "tokens an item is cut or padded to")
    learning_rate: float = fields.number(5e-4, 0.0, math.inf, "AdamW's learning rate at its highest")
    schedule: str = fields.choice(
        "cosine", ("cosine", "linear", "constant"), "how the learning rate falls to 0 over the run, or stays"
    )
    warmup: float = fields.number(
        0.05, 0.0, 1.0, "share of all steps over which the learning rate rises", open_low=False
    )
    weight_decay: float = fields.number(0.0, 0.0, math.inf, "AdamW's weight decay of the adapters", open_low=False)
    clip: float = fields.number(
        1.0, 0.0, math.inf, "largest norm of an adapter's gradient; 0: no limit", open_low=False
    )
    alpha: float = fields.number(16.0, 0.0, math.inf, "LoRA's alpha: A B is scaled by alpha / rank")
    dropout: float = fields.number(0.0, 0.0, 0.99, "dropout of LoRA's inputs while training", open_low=False)
    pooling: str = fields.choice(
        "pooler", ("pooler", "cls"), "what the heads see: the backbone's pooler of the first token, or that token"
    )
    form: str = fields.choice(
        "balanced",
        ("balanced", "all-options"),
        "multiple choice as two classes: the right option against one wrong one, or every option by itself",
    )
    pairing: str = fields.choice(
        "shuffled", ("shuffled", "aligned"), "Alice's and Bob's items of a pair: unrelated, or of the same id"
    )
    precision: str = fields.choice("float32", ("float32", "bfloat16"), "arithmetic of the frozen backbone")
    remat: bool = fields.flag(False, "recompute activations in the backward pass, for less memory")
    undecided_tolerance: float = fields.number(
        0.01, 0.0, math.inf, "an answer whose two logits differ by less is recorded as undecided", open_low=False
    )
    root_seed: int = fields.integer(0, 0, 2**31 - 1, "seed of adapters, data order, pairing and dropout")
    revision: str = fields.text("main", "branch, tag or commit of a hub's model")
    target_modules: tuple[str, ...] = field(
        default=("query", "value"),
        metadata={"type": tuple, "help": "dense layers that have LoRA, named as in PEFT's target_modules"},
    )
    adaptation: str = fields.choice(
        "lora",
        ("lora", "full", "mps"),
        "what is trained of a layer's update: two factors, all of it, or factors of which the first is two tensors",
    )
    bond: int = fields.integer(8, 1, MAX_RANK, "what the two tensors of --adaptation mps have in common")
    record_entanglement: bool = fields.flag(False, "store entanglement profiles of the updates with each evaluation")

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            value = os.fspath(value) if isinstance(value, os.PathLike) else value  # a model or a suite may be a path
            ranks = _no_ranks if isinstance(self.adaptation, str) and self.adaptation == "full" else _checked_ranks
            several = {"ranks": ranks, "target_modules": _checked_targets}.get(spec.name)
            value = several(value) if several else fields.checked(spec.name, value, spec.metadata)
            if isinstance(value, str) and (not value or "\n" in value or "\0" in value):
                raise ConfigError(f"{option_name(spec.name)}: {shown(value)}; allowed: text of one line")
            object.__setattr__(self, spec.name, value)
        for name in IN_FLOAT32:
            if (problem := fields.lost_in_float32(option_name(name), getattr(self, name))) is not None:
                raise ConfigError(problem)
        if self.evaluate_every > self.epochs:
            raise ConfigError(f"--evaluate-every: {self.evaluate_every}; allowed: 1 to --epochs, {self.epochs}")
        if self.warmup == 1 and self.schedule != TextConfig.schedule:
            raise ConfigError(
                f"--schedule: {self.schedule} with --warmup 1, which leaves no step for it; allowed: below 1"
            )
        if self.adaptation == "full" and self.alpha != TextConfig.alpha:
            raise ConfigError(
                f"--alpha: {self.alpha:g} with --adaptation full, which has none; allowed: without --alpha"
            )
        if self.adaptation != "mps" and self.bond != TextConfig.bond:
            raise ConfigError(f"--bond: {self.bond} with --adaptation {self.adaptation}; allowed: with mps")

    def scale(self, rank: int) -> float:
        """What an update is multiplied by: alpha / rank, and 1 where all of it is trained.

        Args:
            rank: one of `ranks`.
        """
        return 1.0 if self.adaptation == "full" else self.alpha / rank

    @property
    def evaluated_epochs(self) -> list[int]:
        """The epochs after which adapters are evaluated: 0, every `evaluate_every`, and the last."""
        return sorted({0, *range(0, self.epochs, self.evaluate_every), self.epochs})


def _checked_ranks(value: Any) -> tuple[int, ...]:
    allowed = SEVERAL["ranks"]
    values = value if whole_number(value) is None else (value,)
    if not isinstance(values, tuple | list | range) or not values:
        raise ConfigError(f"--ranks: {shown(value)}; allowed: {allowed}")
    ranks: list[int] = []
    for given in values[: MAX_RANK + 1]:  # more cannot be different
        rank = whole_number(given)
        if rank is None or not 1 <= rank <= MAX_RANK:
            raise ConfigError(f"--ranks: {shown(given)}; allowed: {allowed}")
        ranks.append(rank)
    if len(set(ranks)) != len(ranks):
        raise ConfigError(f"--ranks: {shown(list(values))} names a rank twice; allowed: {allowed}")
    return tuple(sorted(ranks))


def _no_ranks(value: Any) -> tuple[int, ...]:
    """The ranks of updates that have none: 0, which stands in their names."""
    given = tuple(value) if isinstance(value, tuple | list) else (value,)
    if not all(whole_number(each) is not None for each in given) or given not in ((0,), TextConfig.ranks):
        raise ConfigError(f"--ranks: {shown(value)} with --adaptation full, which has none; allowed: without --ranks")
    return (0,)


def _checked_targets(value: Any) -> tuple[str, ...]:
    allowed = SEVERAL["target_modules"]
    values = (value,) if isinstance(value, str) else value
    if not isinstance(values, tuple | list) or not values:
        raise ConfigError(f"--target-modules: {shown(value)}; allowed: {allowed}")
    for target in values:
        if target not in TARGET_MODULES:
            raise ConfigError(f"--target-modules: {shown(target)}; allowed: {allowed}")
    if len(set(values)) != len(values):
        raise ConfigError(f"--target-modules: {shown(list(values))} names one twice; allowed: {allowed}")
    return tuple(target for target in TARGET_MODULES if target in values)


#: Fields that say how a run is computed and not what it is: a run may be taken up again with others.
MEANS = ("remat",)


#: Fields that came after runs were stored.
LATER_FIELDS = ("revision", "target_modules", "adaptation", "bond", "record_entanglement")
_DEFAULT = TextConfig()


def field_specs() -> dict[str, Mapping[str, Any]]:
    """Each field's metadata: type, help, and either choices or low and high."""
    return {spec.name: spec.metadata for spec in dataclasses.fields(TextConfig)}


def to_dict(config: TextConfig) -> dict[str, Any]:
    """A config as JSON can hold it. Later fields are left out at their defaults, so that stored runs keep their names."""
    values = dataclasses.asdict(config)
    kept = {name: v for name, v in values.items() if name not in LATER_FIELDS or v != getattr(_DEFAULT, name)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}


def from_dict(values: Mapping[str, Any]) -> TextConfig:
    """The config that `to_dict` gave, checked again."""
    unknown = sorted(set(values) - set(field_specs()))
    if unknown:
        raise ConfigError(f"{option_name(unknown[0])}: no such option in this version of ncsim")
    return TextConfig(**values)
