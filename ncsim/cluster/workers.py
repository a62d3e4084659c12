"""Several workers on one run folder, without a coordinator: which parts a worker trains, and in what order.

Worker 3 of 16 begins with the third sixteenth of what is missing, and then helps with what nobody has claimed or whose
worker is gone (`ncsim.cluster.claims`), until everything is there. Which worker trains a member changes nothing of it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ncsim import signals
from ncsim.cluster import claims
from ncsim.cluster.claims import Claims
from ncsim.config.fields import shown, whole_number
from ncsim.errors import ConfigError, StoreError, reason
from ncsim.executors.devices import arithmetic_settings
from ncsim.storage.environment import differences as environment_differences
from ncsim.storage.environment import environment, recorded_environments
from ncsim.storage.part_folder import PartFolder
from ncsim.storage.run_folder import RunFolder
from ncsim.terminal import say

SECONDS_BETWEEN_LOOKS = 1.0
MOST_SHARDS = 1_000_000

#: A cell's number, and consecutive ids of it that make one part.
Work = tuple[int, range]


class Shard(NamedTuple):
    """One of several workers: `number` of `of`, from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, word: str) -> Shard:
        """ "3/16" as a shard.

        Raises:
            ConfigError: it is not a number from 1 to N and N.
        """
        number, _, of = word.partition("/")
        digits = number.isascii() and number.isdigit() and of.isascii() and of.isdigit() and len(word) < 20
        if not digits or not 1 <= int(number) <= int(of) <= MOST_SHARDS:
            raise ConfigError(f"--shard: {word}; allowed: I/N with I from 1 to N, as 3/16, N up to {MOST_SHARDS}")
        return cls(int(number), int(of))

    @classmethod
    def checked(cls, place: Any) -> Shard:
        """A pair (number, workers) as a shard.

        Raises:
            ConfigError: it is not a number from 1 to N and N.
        """
        numbers = [whole_number(each) for each in place] if isinstance(place, tuple | list) else []
        if len(numbers) != 2 or None in numbers or not 1 <= numbers[0] <= numbers[1] <= MOST_SHARDS:  # type: ignore[operator]
            raise ConfigError(f"--shard: {shown(place)}; allowed: (I, N) with I from 1 to N, N up to {MOST_SHARDS}")
        return cls(*numbers)  # type: ignore[arg-type]


def in_order(work: Sequence[Work], shard: Shard) -> list[Work]:
    """A worker's own share from its front, then the shares that follow, each from the end that its worker is far from."""
    cuts = [len(work) * k // shard.of for k in range(shard.of + 1)]
    shares = [list(work[a:b]) for a, b in itertools.pairwise(cuts)]
    own, others = shares[shard.number - 1], shares[shard.number :] + shares[: shard.number - 1]
    return own + [piece for share in others for piece in reversed(share)]


def claimed(
    parts: PartFolder[Any], shard: Shard, claims: Claims, missing: Callable[[], Sequence[Work]]
) -> Iterator[Work]:
    """The work of one worker, each piece claimed until the next is asked for, when it must have been stored. It ends when
    nothing is missing, of whomever.

    Args:
        parts, shard, claims: of what, as which worker, with which claims.
        missing: what there is to do still.

    Raises:
        StoreError: the folder cannot be read or written to.
    """
    storage, said = parts.storage, False
    try:
        while work := missing():
            taken = False
            left = []
            for cell, ids in in_order(work, shard):
                signals.check()
                part = parts.part(parts.configs[cell], ids.start, len(ids))
                if storage.exists(part):
                    continue
                if not claims.take(part):
                    left.append(part)
                    continue
                if not storage.exists(part):  # it may have been stored between the look and the claim
                    taken = True
                    yield cell, ids
                claims.release(part)
            if left and not taken:
                if not said:
                    say(f"waiting for {len(left)} parts that other workers are training")
                    said = True
                while all(claims.alive(part) and not storage.exists(part) for part in left):
                    signals.check()
                    time.sleep(SECONDS_BETWEEN_LOOKS)
        for part in claims.of_others():
            if storage.exists(part):
                claims.forget(part)
    except OSError as error:
        raise StoreError(f"{parts.location}: cannot be worked on ({reason(error)})") from None


def refuse_beside_workers(folder: RunFolder) -> None:
    """Where claims of workers are left, see whether the workers are.

    Raises:
        StoreError: they are.
    """
    watching = Claims(folder.storage)
    try:
        before = watching.of_others()
        if not before:
            return
        unknown = [part for part in before if watching.alive(part)]
        if unknown:
            say(
                f"{len(unknown)} claims of other workers are there; watching for {claims.EXPIRY_SECONDS:.0f} s whether they live"
            )
        while any(watching.alive(part) for part in before):
            if watching.of_others() != before or watching.has_changed:
                raise StoreError(
                    f"{folder.location}: other workers are writing to it; --shard I/N lets this one help them"
                )
            signals.check()
            time.sleep(SECONDS_BETWEEN_LOOKS)
        for part in before:
            watching.forget(part)
    except OSError as error:
        raise StoreError(f"{folder.location}: cannot be worked on ({reason(error)})") from None


def say_differences(folder: RunFolder, device: str) -> None:
    """Say where this process is not of the kind that trained the run before it, and put it on record: single members may
    then differ.

    Raises:
        StoreError: config.json cannot be written.
    """
    here = _environment(device)
    found = recorded_environments(folder.location)
    different = _differences(here, found[:1])
    if different:
        say(f"this process is not of the kind that began the run ({'; '.join(different)}): single members may differ")
    if found and environment_differences(here, found[-1]):
        folder.note_environment(here)


def differences(folder: RunFolder, device: str) -> list[str]:
    """In what this process is not of the kinds that have trained a run, in words: versions, devices, settings."""
    return _differences(_environment(device), recorded_environments(folder.location))


def _environment(device: str) -> dict[str, Any]:
    return environment() | {"device": device} | arithmetic_settings()


def _differences(here: dict[str, Any], found: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(words for there in found for words in environment_differences(here, there)))
