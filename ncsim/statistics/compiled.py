"""What `sums.c` adds up and `order.c` puts in order, where there is a C compiler: with the bits that NumPy gives, in a fifth of its
time. Only laws of the best by loss are added up in another order than by BLAS, and differ in their last bits.

Of few members NumPy is as well. Of many, as in the parts of a run that are stored while the processors train, sums would take
longer than a short training.
"""

from __future__ import annotations

import ctypes
import functools
import math
import platform
from importlib.resources import files
from typing import Any

import numpy as np

from ncsim import c_compiler
from ncsim.errors import ConfigError
from ncsim.records.members import MemberRecords
from ncsim.records.trajectories import MemberTrajectories

#: Members, or members times recorded steps, from which on it is compiled (half a second, once per machine), and from which on it is
#: used where it is there.
MANY, SOME = 2**16, 2**12
#: Of more rows there are too many different tables of counts for a place for each.
MOST_ROWS = 32
#: What `library` gives.
Library = ctypes.CDLL
LAWS = ("as_they_fell", "coin_toss", "decided_only", "low", "high")
#: The functions, with their arguments: (p)laces in memory and (n)umbers.
_ARGUMENTS = {
    "ncsim_member_statistics": "nnpppppp",
    "ncsim_tally": "pnnnnnnpppppp",
    "ncsim_outcomes": "pnnnnnppppppppppppp",
    "ncsim_moments": "pnnnppppp",
    "ncsim_loss_bins": "pnnnpppnp",
    "ncsim_order": "ppppnnppppp",
    "ncsim_packed": "pppnnp",
    "ncsim_within": "ppppnnnnnp",
    "ncsim_weights_by_loss": "pnnp",
    "ncsim_draw": "ppnnpnpp",
    "ncsim_laws_by_neighbours": "pnnnnppppppp",
}
#: Together one library.
_SOURCES = ("sums.c", "order.c")
_KINDS: dict[str, Any] = {"p": ctypes.c_void_p, "n": ctypes.c_int64}
_loaded: list[Library] = []


def library(size: int) -> Library | None:
    """The compiled sums, for so many members or recorded steps of members; None where NumPy is as well or there is no compiler."""
    if size < SOME or (size < MANY and not _loaded):
        return None
    found = _library()
    if found is not None and not _loaded:
        _loaded.append(found)
    return found


@functools.lru_cache(maxsize=1)
def _library() -> Library | None:
    # Elsewhere a product and a sum may be rounded otherwise, and nobody has looked.
    if platform.machine() not in ("x86_64", "AMD64") or c_compiler.compiler() is None:
        return None
    try:
        found = c_compiler.loaded("\n".join((files(__package__) / name).read_text("utf-8") for name in _SOURCES))
    except ConfigError:
        return None
    for name, kinds in _ARGUMENTS.items():
        function = getattr(found, name)
        function.argtypes, function.restype = [_KINDS[kind] for kind in kinds], ctypes.c_int64
    return found


def _at(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def _are(arrays: dict[str, np.ndarray], **kinds: Any) -> bool:
    """Whether arrays lie in memory as C reads them."""
    return all(arrays[name].dtype == kind and arrays[name].flags.c_contiguous for name, kind in kinds.items())


# ------------------------------------------------------------------------------------------------------------- members


def member_statistics(counts: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray] | None:
    """S, S_factorised, influence and Delta, float64[4, M], and what is solved, bool[4, M], of counts [M, 16]; None where NumPy is to
    do it."""
    size = len(counts)
    used = library(size) if _are({"counts": counts}, counts=np.int32) else None
    if used is None:
        return None
    numbers, solved = np.empty((4, size)), np.empty((4, size), bool)
    used.ncsim_member_statistics(size, rows, _at(counts), *map(_at, numbers), _at(solved))
    return numbers, solved


class _Tally(ctypes.Structure):
    """As in sums.c."""

    _ARRAYS = (
        *("differences", "s", "contextuality", "losses", "items", "products", "decided_products", "decided_s", "laws"),
        *("place", "codes", "tables"),
    )
    _fields_ = [
        ("numbers", ctypes.c_int64 * 6),
        ("diverged", ctypes.c_int64 * 4),
        ("answers", ctypes.c_int64 * 8),
        ("networks", ctypes.c_int64 * 4),
        ("found", ctypes.c_int64 * 4),
        *((name, ctypes.c_void_p) for name in _ARRAYS),
    ]


def tally(
    records: MemberRecords, rows: int, groups: int, first: int, piece: int, lower_bits: int
) -> dict[str, Any] | None:
    """What a batch of members adds up to; None where NumPy is to do it, or to say what is wrong.

    Args:
        records: the members, of which the first is in group `first`.
        rows: of a context.
        groups: of the jackknife.
        first: a group.
        piece: members whose S are added up before they are divided by the rows.
        lower_bits: of a loss, that tell no bin.

    Returns:
        The sums by name, whole numbers as `Tally` and `UndecidedTally` have them.
    """
    kinds = dict.fromkeys(("counts", "undecided_alice", "undecided_bob", "decided_product"), np.int32)
    there = _are(records._asdict(), loss=np.float32, diverged=np.bool_, **kinds)
    used = library(records.size) if there and rows <= MOST_ROWS else None
    if used is None:
        return None
    room = math.comb(rows + 3, 3)
    shapes = {
        "differences": (4, 2 * rows + 1),
        "s": (4 * rows + 1, groups),
        "contextuality": (12 * rows + 1,),
        "losses": (4, 1 << 32 - lower_bits),
        **dict.fromkeys(("items", "products", "decided_products"), (groups, 4)),
        "decided_s": (-(-records.size // piece), 2, groups),
        "laws": (len(LAWS), 8 * rows + 1),
        "codes": (4, room),
    }
    arrays = {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}
    arrays["tables"] = np.zeros((4, room, groups), np.int32)
    arrays["place"] = np.full((4, (rows + 1) ** 3), -1, np.int32)
    sums = _Tally(**{name: array.ctypes.data for name, array in arrays.items()})
    sums.numbers[5] = room
    columns = [getattr(records, name) for name in ("counts", "loss", "diverged", "undecided_alice", "undecided_bob")]
    failed = used.ncsim_tally(
        ctypes.addressof(sums),
        *(records.size, rows, groups, first, piece, lower_bits),
        *map(_at, columns),
        _at(records.decided_product),
    )
    if failed:
        return None
    few = {name: np.array(getattr(sums, name)) for name in ("numbers", "diverged", "networks", "found")}
    return arrays | few | {"answers": np.array(sums.answers).reshape(4, 2)}


# -------------------------------------------------------------------------------------------------------- trajectories


def _by_step(values: np.ndarray) -> np.ndarray:
    """Numbers [M, R, ...] so that those of consecutive steps are neighbours, as they are but for few arrays."""
    if values.strides[1] == values.itemsize and values.strides[0] >= 0:
        return values
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(values, (0, 1), (-2, -1))), (-2, -1), (0, 1))


def outcomes(
    used: Library, part: MemberTrajectories, rows: int, sums: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add what was counted of some members to the sums of `TrajectoryTally`; gives S times the rows, int16[M, R], whether members are
    whole, bool[M, R], and which networks are there, bool[4, M, R].

    Raises:
        ValueError: counts that are neither all zero nor of all rows; the sums are of no use then.
    """
    members, points = part.counts.shape[:2]
    counts = _by_step(part.counts)
    column, own = counts.strides[3] // counts.itemsize, counts.strides[0] // counts.itemsize
    if counts.strides[2] != 4 * counts.strides[3]:
        counts = np.moveaxis(np.ascontiguousarray(np.moveaxis(counts, (0, 1), (-2, -1))), (-2, -1), (0, 1))
        column, own = members * points, points
    names = [*("s", "influence", "contextuality", "accuracy_alice", "accuracy_bob", "solved")]
    names += [f"s_factorised {which}" for which in ("number", "first", "second")]
    s = np.empty((members, points), np.int16)
    whole, there = np.empty((members, points), bool), np.empty((4, members, points), bool)
    scratch = np.empty((14, points), np.int16)
    failed = used.ncsim_outcomes(
        *(_at(counts), own, column, members, points, rows),
        *(_at(sums[name]) for name in names),
        *map(_at, (s, whole, there, scratch)),
    )
    if failed:
        raise ValueError(f"trajectories: counts that are neither all zero nor of {rows} rows")
    return s, whole, there


def observed(
    used: Library,
    name: str,
    values: np.ndarray,
    there: np.ndarray,
    sums: dict[str, np.ndarray],
    bins: tuple[np.ndarray, np.ndarray],
) -> None:
    """Add one observed number of some members, float32[M, R, 4], to the sums of `TrajectoryTally`; `bins` as `trajectory_tally` has
    them."""
    values = _by_step(values.astype(np.float32, copy=False))
    members, points = values.shape[:2]
    scratch = _at(room := np.empty((2, points)))
    size, stride = len(bins[1]) - 1, values.strides[0] // values.itemsize
    numbers, networks, (lowest, edges) = _at(values), _at(there), map(_at, bins)
    moments = [_at(sums[f"{name} {which}"]) for which in ("number", "first", "second")]
    histogram = _at(sums[f"{name} bins"]) if f"{name} bins" in sums else None
    for context in range(4):
        given = (numbers + context * values.strides[2], stride, members, points, networks + context * members * points)
        used.ncsim_moments(*given, *(each + 8 * context for each in moments), scratch)
        if histogram is not None:
            used.ncsim_loss_bins(*given, lowest, edges, size, histogram + 8 * size * context)
    del room  # until here it is written to


# ------------------------------------------------------------------------------------------------- in the order of losses


def _fit(*arrays: np.ndarray) -> bool:
    return all(array.flags.c_contiguous for array in arrays)


def in_order(
    loss: np.ndarray, diverged: np.ndarray, code: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The networks of M members in one context that did not diverge, in the order of their losses: losses as `ordered_bits`, members,
    and tables, which `places` has by their codes. None where NumPy is to do it."""
    size = len(loss)
    used = library(size) if size < 2**32 and _fit(loss, diverged, code, places) else None
    if used is None:
        return None
    keys, found = np.empty((2, size), np.uint64), [np.empty(size, kind) for kind in (np.uint32, np.uint32, np.int32)]
    of_table = int(places.max(initial=0)).bit_length() or 1
    of_table = of_table if size.bit_length() + of_table <= 32 else 0
    given = map(_at, (loss, diverged, code, places))
    count = used.ncsim_order(*given, size, of_table, *map(_at, keys), *map(_at, found))
    bits, member, table = (each[:count].copy() if count < size else each for each in found)
    return bits, member, table


def packed(bits: np.ndarray, table: np.ndarray, member: np.ndarray, groups: int) -> np.ndarray | None:
    """Networks as `loss_order.packed` has them; None where NumPy is to do it."""
    used = library(len(bits)) if _fit(bits, table, member) else None
    if used is None:
        return None
    found = np.empty(len(bits), np.uint64)
    used.ncsim_packed(*map(_at, (bits, table, member)), len(bits), groups, _at(found))
    return found


def within(
    loss: np.ndarray,
    diverged: np.ndarray,
    code: np.ndarray,
    places: np.ndarray,
    span: tuple[int, int],
    first: int,
    groups: int,
) -> np.ndarray | None:
    """Those networks of M members in one context whose `ordered_bits` are in a span, `packed` in the order of members, of whom the first
    is in the group `first`; None where NumPy is to do it."""
    size = len(loss)
    used = library(size) if _fit(loss, diverged, code, places) else None
    if used is None:
        return None
    found = np.empty(size, np.uint64)
    given = map(_at, (loss, diverged, code, places))
    return found[: used.ncsim_within(*given, size, *span, first, groups, _at(found))]


def weights_by_loss(bits: np.ndarray, tries: int) -> np.ndarray | None:
    """The probabilities of networks in the order of losses to be the best of so many tries; None where NumPy is to do it."""
    used = library(len(bits)) if _fit(bits) else None
    if used is None:
        return None
    found = np.empty(len(bits))
    used.ncsim_weights_by_loss(_at(bits), len(bits), tries, _at(found))
    return found


def drawn(table: np.ndarray, weights: np.ndarray, by_table: bool, uniform: np.ndarray) -> np.ndarray | None:
    """The tables, int64[runs], of networks that are drawn with some weights, which may be by table; None where NumPy is to do it.

    Args:
        table: of each network, int32[N].
        weights: of each network or of each table, float64.
        by_table: which of the two.
        uniform: a number from 0 to 1 for each run.
    """
    used = library(len(table)) if _fit(table, weights, uniform) else None
    if used is None:
        return None
    found, starts = np.empty(len(uniform), np.int64), np.empty(len(table) // 64 + 1)
    used.ncsim_draw(_at(table), _at(weights), by_table, len(table), _at(uniform), len(uniform), _at(starts), _at(found))
    return found


def add_laws(
    used: Library, keys: np.ndarray, size: int, tries: int, total: np.ndarray, sums: dict[str, np.ndarray]
) -> None:
    """Add sorted `packed` networks to the sums of `loss_order`'s laws by neighbours: before, law, own, seen."""
    tables, groups = sums["own"].shape
    scratch, met = np.zeros(tables), np.empty(size, np.int32)
    into = (_at(sums[name]) for name in ("before", "law", "own", "seen"))
    used.ncsim_laws_by_neighbours(_at(keys), len(keys), size, tries, groups, _at(total), *into, _at(scratch), _at(met))
