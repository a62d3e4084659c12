"""A suite made ready for training: four tasks' items as numbers, and which of Alice's goes with which of Bob's."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from ncsim.errors import ConfigError
from ncsim.text.data.datasets import DATA_SETS
from ncsim.text.data.items import FORMS, Items, TaskItems, drawn, seen_notes, suite_items
from ncsim.text.data.loading import text_cache
from ncsim.text.data.suites import PARTS, Suite, open_suite
from ncsim.text.data.tokens import Encoded, Tokenizer

SPLITS = ("train", "test")
PAIRINGS = ("shuffled", "aligned")
#: Largest share of a task's tokens that the tokeniser may not know. A text of another script has about 0.8.
MOST_UNKNOWN = 0.9
#: Alice's and Bob's task in each context, in the order 11, 12, 21, 22.
CONTEXTS = (("A1", "B1"), ("A1", "B2"), ("A2", "B1"), ("A2", "B2"))


@dataclass(frozen=True)
class PreparedSuite:
    """What `prepare_suite` made.

    `tasks[place][split]` are the items of A1, A2, B1, B2 to train on ("train") and to test on ("test"), N in each;
    `ids` name them. `pairs[split]` is int32 [4, N, 2]: for each context (11, 12, 21, 22), which of Alice's items goes
    with which of Bob's. Every item stands in every context of its task exactly once.
    """

    suite: Suite
    tasks: Mapping[str, Mapping[str, Encoded]]
    ids: Mapping[str, Mapping[str, tuple[str, ...]]]
    pairs: Mapping[str, Int32[np.ndarray, "4 items 2"]]
    length: int
    _report: dict[str, Any]

    def report(self) -> dict[str, Any]:
        """What a reader needs to know of the items, for JSON: data set and split, numbers, majority rates, notes."""
        return json.loads(json.dumps(self._report))

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits of all that training sees of the data: numbers, labels, pairs."""
        content = hashlib.sha256(f"{self.length}".encode())
        for place in PARTS:
            for split in SPLITS:
                for array in self.tasks[place][split]:
                    content.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
        for split in SPLITS:
            content.update(np.ascontiguousarray(self.pairs[split], "<i4").tobytes())
        return content.hexdigest()[:16]


def prepare_suite(
    suite: str | os.PathLike[str] | Suite,
    *,
    tokenizer: str | os.PathLike[str],
    length: int,
    vocab_size: int,
    max_positions: int,
    items: int | None = None,
    test_items: int | None = None,
    form: str = "balanced",
    pairing: str = "shuffled",
    seed: int = 0,
    source_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    revision: str | None = None,
) -> PreparedSuite:
    """A suite's items, tokenised and paired. The same for the same files, options and seed, on any machine.

    Args:
        suite: "multilingual", "mixed", the path of a suite's TOML or JSON file, or a `Suite`.
        tokenizer: a folder or a hub id; see `Tokenizer`, also for length, vocab_size and max_positions.
        items, test_items: items a task, the same in all four; None: as many as the smallest task has.
        form: what becomes of a question with five options: "balanced": two items, the right option and a wrong one that
            is drawn (majority rate 1/2); "all-options": an item an option (4/5).
        pairing: "shuffled": Alice's and Bob's items have nothing to do with each other; "aligned": they have the same id,
            which needs tasks with ids in common, as PAWS-X has.
        seed: of all that is drawn.
        source_dir: folder with the data sets' files; None: download them.
        cache_dir: where what was prepared is kept; `text_cache()` if None.
        revision: of a hub's tokeniser: a branch, tag or commit.

    Raises:
        ConfigError: an option that cannot be (`DataError`: a file), in one line.
    """
    wanted = {"train": items, "test": test_items}
    _check_options(wanted, form, pairing, seed)
    suite = suite if isinstance(suite, Suite) else open_suite(suite)
    questions = any(task.dataset != "file" and not DATA_SETS[task.dataset].classes for task in suite.tasks.values())
    if form != "balanced" and not questions:
        raise ConfigError(f"form={form}: suite={suite.name} has no multiple choice; allowed: balanced")
    fitted = Tokenizer(tokenizer, length=length, vocab_size=vocab_size, max_positions=max_positions, revision=revision)
    cache = text_cache() if cache_dir is None else Path(cache_dir)
    found = suite_items(suite, form=form, seed=seed, source_dir=source_dir, cache_dir=cache)
    chosen, notes = _chosen(found, wanted, pairing)
    pairs = {split: _pairs(len(chosen["A1"][split].ids), split, pairing, seed) for split in SPLITS}

    tasks: dict[str, dict[str, Encoded]] = {}
    described = {}
    for place in PARTS:
        tasks[place], shares, rebuilt = _encoded(place, chosen[place], fitted, cache)
        described[place] = _described(suite, place, found[place], chosen, rebuilt) | shares
    report = {
        "suite": suite.name,
        "length": length,
        "form": form,
        "pairing": pairing,
        "seed": seed,
        "items": {split: int(pairs[split].shape[1]) for split in SPLITS},
        "tasks": described,
        "notes": [*notes, *fitted.notes],
    }
    if pairing == "aligned":
        report["differing_labels"] = {split: _differing(tasks, pairs[split], split) for split in SPLITS}
    ids = {place: {split: chosen[place][split].ids for split in SPLITS} for place in PARTS}
    return PreparedSuite(suite, tasks, ids, pairs, length, report)


def _check_options(wanted: Mapping[str, int | None], form: str, pairing: str, seed: int) -> None:
    """Refuse options that cannot be, before any file is opened.

    Raises:
        ConfigError: the first of them, in one line.
    """
    if pairing not in PAIRINGS:
        raise ConfigError(f"pairing={pairing}: allowed: {', '.join(PAIRINGS)}")
    if type(seed) is not int or seed < 0:
        raise ConfigError(f"seed={seed}: allowed: whole numbers from 0")
    for option, split in (("items", "train"), ("test_items", "test")):
        number = wanted[split]
        if number is not None and (type(number) is not int or number < 1):
            raise ConfigError(f"{option}={number}: allowed: whole numbers from 1, or none for all")
    if form not in FORMS:
        raise ConfigError(f"form={form}: allowed: {', '.join(FORMS)}")


def _chosen(
    found: Mapping[str, TaskItems], wanted: Mapping[str, int | None], pairing: str
) -> tuple[dict[str, dict[str, Items]], list[str]]:
    """The items of each task and split, as many in all four tasks; and a note on each split that has fewer than wanted."""
    notes: list[str] = []
    chosen: dict[str, dict[str, Items]] = {place: {} for place in PARTS}
    for split in SPLITS:
        available = {place: getattr(found[place], split) for place in PARTS}
        if pairing == "aligned":
            available = _in_common(available, split)
        number = min(len(one.ids) for one in available.values())
        asked = wanted[split]
        if asked is not None and asked > number:
            notes.append(f"{split}: {asked} items were asked for, the smallest task has {number}")
        number = number if asked is None else min(asked, number)
        for place in PARTS:
            chosen[place][split] = available[place].chosen(range(number))
    return chosen, notes


def _in_common(available: dict[str, Items], split: str) -> dict[str, Items]:
    """Of each task, the items whose id all four have, in one order."""
    common = set.intersection(*(set(one.ids) for one in available.values()))
    if not common:
        raise ConfigError(
            f"pairing=aligned: the tasks have no ids in common ({split}); allowed: shuffled, or tasks whose items are parallel"
        )
    order = [one for one in available["A1"].ids if one in common]
    aligned = {}
    for place, items in available.items():
        where = {one: number for number, one in enumerate(items.ids)}
        aligned[place] = items.chosen([where[one] for one in order])
    return aligned


def _pairs(number: int, split: str, pairing: str, seed: int) -> Int32[np.ndarray, "4 items 2"]:
    """Alice's items in order, and Bob's in the same order (aligned) or in one drawn for each context (shuffled)."""
    pairs = np.empty((len(CONTEXTS), number, 2), np.int32)
    pairs[:, :, 0] = np.arange(number)
    for context, (one, other) in enumerate(CONTEXTS):
        bob = list(range(number))
        if pairing == "shuffled":
            purpose = f"pairs {split} {one} {other}"
            bob.sort(key=lambda place: (drawn(seed, purpose, str(place)), place))
        pairs[context, :, 1] = bob
    return pairs


def _encoded(
    place: str, chosen: dict[str, Items], tokenizer: Tokenizer, cache: Path
) -> tuple[dict[str, Encoded], dict[str, dict[str, float]], bool]:
    """A task's items as numbers, what of them the model does not see by split, and whether a damaged cache was replaced.

    Raises:
        ConfigError: nearly all tokens are unknown to the tokeniser.
    """
    encoded: dict[str, Encoded] = {}
    shares: dict[str, dict[str, float]] = {"truncated_fraction": {}, "unknown_fraction": {}}
    rebuilt = False
    for split, items in chosen.items():
        tokens = tokenizer.encode(items.first, items.second, cache)
        encoded[split] = Encoded(tokens.ids, tokens.mask, tokens.types, items.labels)
        shares["truncated_fraction"][split] = float(np.mean(tokens.truncated))
        unknown = shares["unknown_fraction"][split] = tokenizer.unknown_fraction(tokens)
        if unknown > MOST_UNKNOWN:
            raise ConfigError(
                f"--model: its tokeniser does not know {unknown:.0%} of the tokens of {place} ({split}); "
                f"allowed: at most {MOST_UNKNOWN:.0%}, a model whose vocabulary has the texts' language"
            )
        rebuilt |= tokens.rebuilt
    return encoded, shares, rebuilt


def _described(
    suite: Suite, place: str, found: TaskItems, all_chosen: dict[str, dict[str, Items]], rebuilt: bool
) -> dict[str, Any]:
    chosen = all_chosen[place]
    # Of the items that are taken: fewer may be asked for than there are.
    notes = [*found.notes, *seen_notes(suite, place, all_chosen)]
    return {
        "task": suite.tasks[place].name,
        "dataset": suite.tasks[place].dataset,
        "split": found.splits,
        "available": {split: len(getattr(found, split).ids) for split in SPLITS},
        "items": {split: len(chosen[split].ids) for split in SPLITS},
        "majority_rate": {split: chosen[split].majority_rate for split in SPLITS},
        "notes": [*notes, *(["kept tokens were damaged and were made anew"] if rebuilt else [])],
    }


def _differing(tasks: dict[str, dict[str, Encoded]], pairs: np.ndarray, split: str) -> dict[str, int]:
    """How many pairs have two labels, by context: parallel items should have one."""
    counts = {}
    for (one, other), pair in zip(CONTEXTS, pairs, strict=True):
        alice, bob = (tasks[place][split].labels[pair[:, party]] for party, place in enumerate((one, other)))
        counts[one + other] = int(np.sum(alice != bob))
    return counts
