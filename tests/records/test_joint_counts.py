"""Joint counts from outcomes, merging, and what is no count."""

import numpy as np
import pytest

import ncsim
from ncsim.records.joint_counts import from_context_order, unequal_outcomes, validated_counts


def outcomes(*shape, seed=0):
    return np.random.default_rng(seed).choice([-1, 1], size=shape).astype(np.int8)


def test_joint_counts_against_a_loop():
    data = outcomes(3, 2, 2, 2, 11)
    counts = ncsim.joint_counts(data)
    expected = np.zeros((3, 2, 2, 2, 2), int)
    for m, i, j, item in np.ndindex(3, 2, 2, 11):
        alice, bob = data[m, i, j, :, item]
        expected[m, i, j, (alice + 1) // 2, (bob + 1) // 2] += 1
    assert counts.dtype == np.int32
    assert np.array_equal(counts, expected)


def test_merge_is_the_whole():
    data = outcomes(2, 2, 2, 30)
    parts = np.stack([ncsim.joint_counts(data[..., :13]), ncsim.joint_counts(data[..., 13:17])])
    merged = ncsim.merge_counts(np.concatenate([parts, ncsim.joint_counts(data[..., 17:])[None]]))
    assert np.array_equal(merged, ncsim.joint_counts(data))
    with pytest.raises(ValueError, match="axis: 1; allowed"):
        ncsim.merge_counts(parts, axis=1)


def test_no_items_are_zero_counts():
    assert not ncsim.joint_counts(np.zeros((2, 2, 2, 0), np.int8)).any()


def test_derived_numbers():
    counts = ncsim.joint_counts(outcomes(5, 2, 2, 2, 16, seed=4))
    assert np.array_equal(unequal_outcomes(counts), counts[..., 0, 1] + counts[..., 1, 0])
    assert np.array_equal(from_context_order(counts.reshape(5, 4, 4)), counts)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.ones((2, 2, 2)), "shape"),
        (np.ones((2, 2, 3, 5)), "party=2"),
        (np.zeros((2, 2, 2, 5)), r"0.0 at \(0, 0, 0, 0\); allowed: -1 or \+1"),
    ],
)
def test_bad_outcomes_are_named(bad, words):
    with pytest.raises(ValueError, match=words):
        ncsim.joint_counts(bad)


@pytest.mark.parametrize(
    ("value", "words"),
    [(-1, "-1.0 at"), (np.nan, "nan at"), (0.5, "0.5 at"), (np.inf, "inf at")],
)
def test_bad_counts_are_named_with_their_place(value, words):
    counts = np.ones((3, 2, 2, 2, 2))
    counts[2, 1, 0, 1, 1] = value
    with pytest.raises(ValueError, match=words) as caught:
        validated_counts(counts)
    assert "(2, 1, 0, 1, 1)" in str(caught.value)
    if value != 0.5:  # probabilities are taken by the kernel
        with pytest.raises(ValueError, match=words):
            ncsim.chsh_statistics(counts)
    with pytest.raises(ValueError, match="type bool"):
        validated_counts(np.ones((2, 2, 2, 2), bool))


@pytest.mark.parametrize("size", [2**62, 1e19, 1e300])
def test_a_sum_that_int64_cannot_hold_is_refused(size):
    counts = np.full((2, 2, 2, 2, 2), size)
    with pytest.raises(ValueError, match=r"^counts: .* in a cell of the sum; allowed: below 2\^63$"):
        ncsim.merge_counts(counts)
    assert ncsim.merge_counts(np.full((2, 2, 2, 2, 2), 2**61))[0, 0, 0, 0] == 2**62
