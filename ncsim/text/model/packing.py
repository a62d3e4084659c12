"""Sequences of many lengths in rows of one length: which goes where, so that next to nothing is computed on padding.

Programs have fixed shapes, sequences have not. Padded to the longest, a step of the paper's mixed suite computes 3.2
tokens for each that is there; packed in rows, 1.06 (benchmarks/notes-text.md). Rows are filled by first-fit decreasing
(Johnson 1973, Near-Optimal Bin Packing Algorithms): the longest sequence first, each into the first row that has room.

Axes: n sequences, B rows, T tokens of a row, Q sequences of a row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

#: Sequences that are packed together; more make the rows hardly fuller, and the search longer.
BLOCK = 256


class Packed(NamedTuple):
    """Rows of tokens that hold several sequences each, one behind another.

    A sequence sees its own tokens alone, at its own positions: its hidden states are those that it has by itself.
    """

    ids: Any  # int[B, T]
    types: Any  # int[B, T]: segments of a pair of texts
    positions: Any  # int[B, T]: places of the tokens in their sequences
    sequences: Any  # int[B, T]: which of the row's sequences a token is of, -1 for padding
    firsts: Any  # int[B, Q]: where each sequence begins

    @property
    def begins(self) -> Array:
        """Where the sequence of each token begins, int[B, T]."""
        return jnp.take_along_axis(self.firsts, jnp.maximum(self.sequences, 0), axis=1)

    @staticmethod
    def of(ids: Any, mask: Any, types: Any) -> Packed:
        """One sequence a row, from its first token on."""
        rows, tokens = ids.shape
        positions = jnp.broadcast_to(jnp.arange(tokens), (rows, tokens))
        return Packed(ids, types, positions, (jnp.asarray(mask) > 0) - 1, jnp.zeros((rows, 1), jnp.int32))


class Layout(NamedTuple):
    """Where each of n sequences stands; one of no tokens stands in row -1."""

    rows: Any  # int32[n]
    slots: Any  # int32[n]: how many stand before it in its row
    starts: Any  # int32[n]: its first token's place in its row
    count: Any  # int32: rows used


class Chosen(NamedTuple):
    """What some rows hold, by slot."""

    places: Any  # int32[B, Q]: which of the n sequences, -1 for none
    starts: Any  # int32[B, Q]
    lengths: Any  # int32[B, Q]; 0 for none


def laid_out(lengths: Int[Array, " n"], row: int | Array, slots: int | Array) -> Layout:
    """Sequences of these lengths in rows of `row` tokens, at most `slots` of them in each.

    Args:
        lengths: 0 to `row` tokens; 0 is no sequence.
        row: tokens of a row.
        slots: 1 or more.
    """
    number = len(lengths)
    size = min(number, BLOCK)
    blocks = -(-number // size)
    padded = jnp.pad(lengths, (0, blocks * size - number)).reshape(blocks, size)
    rows, places, starts = jax.vmap(lambda block: _first_fit(block, row, slots))(padded)
    counts = jnp.max(rows, axis=1) + 1
    before = jnp.cumsum(counts) - counts
    rows = jnp.where(rows >= 0, rows + before[:, None], -1)
    rows, places, starts = (array.reshape(-1)[:number] for array in (rows, places, starts))
    return Layout(rows, places, starts, jnp.sum(counts))


def _first_fit(lengths: Int[Array, " n"], row: int | Array, slots: int | Array) -> tuple[Array, Array, Array]:
    every = jnp.arange(len(lengths), dtype=jnp.int32)
    order = jnp.argsort(-lengths)

    def place(carry: tuple[Array, Array], length: Array) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
        filled, held = carry
        here = jnp.argmax((filled + length <= row) & (held < slots))
        taken = (every == here) & (length > 0)
        found = (jnp.where(length > 0, here.astype(jnp.int32), -1), held[here], filled[here])
        return (filled + taken * length, held + taken), found

    nothing = jnp.zeros(len(lengths), jnp.int32)
    _, found = jax.lax.scan(place, (nothing, nothing), lengths[order].astype(jnp.int32))
    rows, places, starts = (nothing.at[order].set(array) for array in found)
    return rows, places, starts


def rows_of(layout: Layout, lengths: Int[Array, " n"], first: Array, rows: int, slots: int) -> Chosen:
    """What so many rows from `first` on hold."""
    none = jnp.full((rows, slots), -1, jnp.int32)
    row = layout.rows - first
    # Negative places would count from the end; beyond it nothing is set.
    places = none.at[jnp.where(row < 0, rows, row), layout.slots].set(jnp.arange(len(lengths)), mode="drop")
    there = places >= 0
    return Chosen(places, jnp.where(there, layout.starts[places], 0), jnp.where(there, lengths[places], 0))


def packed_rows(chosen: Chosen, begins: Int[Array, "B Q"], ids: Array, types: Array, tokens: int) -> Packed:
    """The tokens of rows, taken from all sequences' tokens one behind another, [all tokens].

    Args:
        chosen: what the rows hold.
        begins: where each sequence begins in `ids` and `types`.
        ids: of all sequences, without padding; `types` likewise.
        tokens: of a row, T.
    """
    place = jnp.arange(tokens)
    after = place >= chosen.starts[..., None]
    inside = after & (place < (chosen.starts + chosen.lengths)[..., None])  # [B, Q, T]
    there = jnp.any(inside, axis=1)
    sequence = jnp.argmax(inside, axis=1)
    positions = jnp.where(there, place - jnp.take_along_axis(chosen.starts, sequence, axis=1), 0)
    source = jnp.where(there, jnp.take_along_axis(begins, sequence, axis=1) + positions, 0)
    own_ids, own_types = (jnp.where(there, array[source], 0) for array in (ids, types))
    return Packed(own_ids, own_types, positions, jnp.where(there, sequence, -1), chosen.starts)


def token_keys(keys: Key[Array, "B Q"], packed: Packed) -> Key[Array, "B T"]:
    """A key for each token from its sequence's: of the sequence and the token's place in it, wherever it stands."""
    own = jnp.take_along_axis(keys, jnp.maximum(packed.sequences, 0), axis=1)
    return jax.vmap(jax.vmap(jax.random.fold_in))(own, packed.positions)


def fold_in_each(keys: Key[Array, "B T"], number: Any) -> Key[Array, "B T"]:
    """Keys with a number folded into each."""
    return jax.vmap(jax.vmap(jax.random.fold_in, in_axes=(0, None)), in_axes=(0, None))(keys, number)
