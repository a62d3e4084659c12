"""A static share of a run, for what starts N equal processes: arrays of SLURM, job sets of Kubernetes, hosts of a TPU slice."""

from __future__ import annotations

from typing import Any, NamedTuple

from ncsim.config.fields import shown, shown_word, whole_number
from ncsim.errors import ConfigError

MOST_SHARDS = 1_000_000


class Shard(NamedTuple):
    """One share of several: `number` of `of`, from 1."""

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
            raise ConfigError(
                f"--shard: {shown_word(word)}; allowed: I/N with I from 1 to N, as 3/16, N up to {MOST_SHARDS}"
            )
        return cls(int(number), int(of))

    @classmethod
    def checked(cls, place: Any) -> Shard:
        """A pair (number, shards) as a shard.

        Raises:
            ConfigError: it is not a number from 1 to N and N.
        """
        numbers = [whole_number(each) for each in place] if isinstance(place, tuple | list) else []
        if len(numbers) != 2 or None in numbers or not 1 <= numbers[0] <= numbers[1] <= MOST_SHARDS:  # type: ignore[operator]
            raise ConfigError(f"--shard: {shown(place)}; allowed: (I, N) with I from 1 to N, N up to {MOST_SHARDS}")
        return cls(*numbers)  # type: ignore[arg-type]

    def of_many(self, things: int) -> range:
        """The numbers, of so many things that are numbered from 0, that are this shard's: one range, as long as any other's
        or one longer."""
        return range(things * (self.number - 1) // self.of, things * self.number // self.of)
