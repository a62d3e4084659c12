"""Sequences in rows against each by itself, and how full the rows are."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncsim.text.model.bert import initial_parameters
from ncsim.text.model.lora import ForwardOptions, head_logits, init_adapter, packed_logits
from ncsim.text.model.packing import BLOCK, laid_out, packed_rows, rows_of
from tests.support.cases import first_fast
from tests.support.text_model import TINY

pytestmark = pytest.mark.usefixtures("quickly")


def first_fit_decreasing(lengths, row, slots):
    """How many rows, in plain Python."""
    rows = []
    for length in sorted(filter(None, lengths), reverse=True):
        fitting = next((held for held in rows if sum(held) + length <= row and len(held) < slots), None)
        if fitting is None:
            rows.append([length])
        else:
            fitting.append(length)
    return len(rows)


@pytest.mark.parametrize("number", [1, 7, 64, BLOCK + 50])
def test_every_sequence_has_a_place_of_its_own(number):
    random = np.random.default_rng(number)
    row, slots = 32, 5
    lengths = random.integers(0, 20, number)
    layout = jax.jit(laid_out, static_argnums=(1, 2))(jnp.asarray(lengths), row, slots)
    taken = np.zeros((max(int(layout.count), 1), row), int)
    for length, place, slot, start in zip(lengths, *map(np.asarray, layout[:3]), strict=True):
        assert (place >= 0) == (length > 0)
        if length:
            taken[place, start : start + length] += 1
            assert start + length <= row
            assert slot < slots
    assert taken.max(initial=0) <= 1
    assert taken.sum() == lengths.sum()
    blocks = [lengths[first : first + BLOCK] for first in range(0, number, BLOCK)]
    assert int(layout.count) == sum(first_fit_decreasing(block, row, slots) for block in blocks)


@pytest.mark.parametrize(("steps", "rows"), [(20, 2), (1, 4)], ids=["training", "evaluation"])
def test_rows_are_nearly_full(steps, rows):
    """Lengths as the paper's mixed suite has them at 128 tokens: at most 1.15 tokens computed for each that is there, the
    empty rows of a step's last microbatch included. An evaluation is one step of all."""
    random = np.random.default_rng(0)
    short, long = random.gamma(2, 7, 640), random.normal(50, 15, 640)
    lengths = np.clip(np.stack([short, long], axis=1), 4, 128).astype(int)
    pack = jax.jit(laid_out, static_argnums=(1, 2))
    counts = [int(pack(jnp.asarray(own.reshape(-1)), 128, 12).count) for own in np.split(lengths, steps)]
    computed = sum(-(-count // rows) * rows * 128 for count in counts)
    assert 1 < computed / lengths.sum() < 1.15


@functools.partial(jax.jit, static_argnames=("options", "rows", "config"))
def answers(backbone, adapter, lengths, ids, types, first, key=None, *, rows=3, options=ForwardOptions(), config=TINY):  # noqa: B008
    """Of each sequence in some rows, and where it is among all."""
    begins = jnp.cumsum(lengths) - lengths
    chosen = rows_of(laid_out(lengths, 16, 4), lengths, first, rows, 4)
    item = jnp.maximum(chosen.places, 0)
    packed = packed_rows(chosen, begins[item], ids, types, 16)
    keys = None if key is None else key[item]
    return packed_logits(config, backbone, adapter, 0.7, packed, options=options, dropout_key=keys), chosen.places


@pytest.mark.parametrize(("dropout", "pad_id"), first_fast([(0.4, None), (0.0, 1), (0.0, None)], 0, slow=1))
def test_a_sequence_in_a_row_is_the_sequence_alone(dropout, pad_id, key_slices):
    """To 1e-5, with other sequences beside it, in each of the rows, and with its own dropout."""
    random = np.random.default_rng(3)
    lengths = random.integers(1, 13, 9)
    ids, types = random.integers(0, 97, lengths.sum()), random.integers(0, 2, lengths.sum())
    config = dataclasses.replace(TINY, pad_id=pad_id)
    backbone = jax.jit(initial_parameters, static_argnums=1)(jax.random.key(0), config)
    backbone = jax.tree.map(lambda leaf: leaf * 3, backbone)
    adapter = init_adapter(jax.random.key(1), config, 4)
    for pair in adapter["lora"]["layers"]["attention"].values():
        pair["b"] = 0.1 * random.standard_normal(pair["b"].shape, np.float32)
    options = ForwardOptions(dropout=dropout)
    keys = jax.random.split(jax.random.key(2), len(lengths)) if dropout else None
    mask = np.arange(lengths.max()) < lengths[:, None]
    source = np.where(mask, (np.cumsum(lengths) - lengths)[:, None] + np.arange(lengths.max()), 0)
    alone = jax.jit(functools.partial(head_logits, config, options=options))
    expected = alone(
        backbone, adapter, 0.7, np.where(mask, ids[source], pad_id or 0), mask, types[source] * mask, dropout_key=keys
    )
    seen = []
    for first in (0, 3, 6):
        found, places = answers(backbone, adapter, lengths, ids, types, first, keys, options=options, config=config)
        for at in np.argwhere(np.asarray(places) >= 0):
            place = int(places[*at])
            np.testing.assert_allclose(found[*at], expected[place], atol=1e-5)
            seen.append(place)
    assert sorted(seen) == list(range(len(lengths)))
    assert np.ptp(np.asarray(expected), axis=0).min() > 1e-2, "the answers differ, or nothing is compared"
