"""Sizes of programs, and states that were stored at others."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from ncsim.text.config import TextConfig
from ncsim.text.model.sizes import BertConfig
from ncsim.text.records import AdapterId
from ncsim.text.training.regrouping import regrouped
from ncsim.text.training.shapes import best_microbatch, by_layer, frozen, joined, setting_of
from ncsim.text.training.trainer import _resized

BERT = BertConfig(hidden_size=384, layers=6, intermediate_size=1536)
LENGTHS = np.array([4, 10, 30, 60, 101], np.int32)


def test_rows_hold_the_longest_item_and_are_not_short():
    config = TextConfig(ranks=(1, 8))
    assert setting_of(config, BERT, LENGTHS, 100, 1).row == 104
    assert setting_of(config, BERT, LENGTHS[:3], 100, 1).row == 64
    assert setting_of(config, BERT, np.array([64], np.int32), 100, 1).slots == 1
    # Three times 104 / 41 and 64 / (44 / 3), rounded up; and no more than items of the shortest kind fill a row with.
    assert setting_of(config, BERT, LENGTHS, 100, 1).slots == 8
    assert setting_of(config, BERT, LENGTHS[:3], 100, 1).slots == 14
    assert setting_of(config, BERT, np.array([30, 31], np.int32), 100, 1).slots == 2


@pytest.mark.parametrize(("ranks", "width"), [((1, 2, 32), 32), ((1, 2, 64), 2)])
def test_ranks_share_a_width_where_padding_is_cheap(ranks, width):
    assert setting_of(TextConfig(ranks=ranks), BERT, LENGTHS, 100, 2).width == width


def test_more_rows_at_a_time_where_a_microbatch_costs_more():
    setting = setting_of(TextConfig(ranks=(1,)), BERT, LENGTHS, 10**4, 1)
    assert best_microbatch(setting, LENGTHS, 1, "cpu") in (2, 3)
    assert best_microbatch(setting, LENGTHS, 16, "cpu") == 1
    few, many = (best_microbatch(setting, LENGTHS, at_once, "gpu") for at_once in (16, 1))
    assert 1 < few < many <= 2 * 32 * LENGTHS.mean() / setting.row + 1


@pytest.mark.parametrize("at_once", [4, 16, 64])
def test_rows_at_a_time_are_those_of_the_least_cost(at_once):
    """By trying all: each part is begun again, and half of the last is empty in the mean."""
    setting = setting_of(TextConfig(ranks=(1,)), BERT, LENGTHS, 10**4, 1)
    rows, begun = 64 * 41 / 104, 2048 / (104 * at_once)
    costs = {number: rows / number * begun + number / 2 for number in range(1, 27)}
    assert best_microbatch(setting, LENGTHS, at_once, "gpu") == min(costs, key=costs.get)


def test_pairs_are_of_the_items_that_they_were_of():
    """All items one behind another: a pair's places are there those of its context's tasks and split."""
    rng, tasks = np.random.default_rng(3), {}
    for name in ("A1", "A2", "B1", "B2"):
        tasks[name] = {}
        for split, count in (("train", 5), ("test", 3)):
            mask = (np.arange(6) < rng.integers(1, 7, (count, 1))).astype(np.int32)
            drawn = (rng.integers(1, 10**6, (count, 6)) * mask, mask * 0, mask, rng.integers(0, 2, count))
            tasks[name][split] = SimpleNamespace(**dict(zip(("ids", "types", "mask", "labels"), drawn, strict=True)))
    pairs = {split: rng.integers(0, count, (4, 7, 2)) for split, count in (("train", 5), ("test", 3))}
    tokens, found = joined(SimpleNamespace(tasks=tasks, pairs=pairs))
    for split, (context, names) in itertools.product(
        pairs, enumerate((("A1", "B1"), ("A1", "B2"), ("A2", "B1"), ("A2", "B2")))
    ):
        for (head, name), pair in itertools.product(enumerate(names), range(7)):
            place, item = found[split][context, pair, head], pairs[split][context, pair, head]
            own = tasks[name][split]
            begins, length = tokens.begins[place], tokens.lengths[place]
            assert tokens.ids[begins : begins + length].tolist() == own.ids[item][own.mask[item] > 0].tolist()
            assert (tokens.heads[place], tokens.labels[place]) == (head, own.labels[item])


@pytest.mark.parametrize(("remat", "apart"), [(False, True), (True, False)])
def test_layers_are_apart_where_there_is_no_loop_over_them(remat, apart):
    bert = BertConfig(hidden_size=8, layers=3, heads=2)
    stack = {"embeddings": {"word": np.zeros((4, 8))}, "layers": {"norm": np.arange(24.0).reshape(3, 8)}}
    found = by_layer(stack, TextConfig(remat=remat), bert)
    if not apart:
        assert found is stack
        return
    assert [layer["norm"].tolist() for layer in found["layers"]] == stack["layers"]["norm"].tolist()
    assert all(np.shares_memory(layer["norm"], stack["layers"]["norm"]) for layer in found["layers"])
    # A large model is in memory once, unless its numbers are to be others.
    single = {**stack, "layers": {"norm": stack["layers"]["norm"].astype(np.float32)}}
    for precision, shared in (("float32", True), ("bfloat16", False)):
        own = frozen(single, TextConfig(remat=remat, precision=precision), bert)["layers"][1]["norm"]
        assert str(own.dtype) == precision
        assert np.shares_memory(own, single["layers"]["norm"]) is shared


def test_a_stored_state_fits_another_width():
    """Padding of ranks is zero: it may be dropped and added."""
    narrow = np.ones((2, 3, 4))
    wide = _resized(narrow, (2, 3, 7))
    assert wide.shape == (2, 3, 7)
    assert (wide[..., :4] == 1).all()
    assert not wide[..., 4:].any()
    np.testing.assert_array_equal(_resized(wide, narrow.shape), narrow)


def test_groups_are_formed_anew_and_what_has_begun_is_divided():
    """Of four groups one is complete, two have begun, of which one is as large as groups may be, and one waits."""
    many = [AdapterId(2, seed, context) for seed in range(4) for context in range(4)]
    groups = [tuple(many[:3]), tuple(many[3:8]), tuple(many[8:10]), tuple(many[10:13])]
    state = {"complete": [True, False, False, False], "begun": [False, True, True, False]}
    found = regrouped(groups, **state, size=2)
    assert found.staying == [groups[0], (), groups[2], ()]
    assert found.new == [tuple(many[a:b]) for a, b in ((3, 5), (5, 7), (7, 8), (10, 12), (12, 13))]
    assert found.moved == {4: (1, range(0, 2)), 5: (1, range(2, 4)), 6: (1, range(4, 5))}
    assert regrouped(groups, **state, size=5) is None
    nothing = [False] * 3
    assert regrouped([(), groups[2], groups[3][:1]], nothing, nothing, 2) is None
