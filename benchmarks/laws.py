"""Whether a program's members have the laws of another's: tests of joint counts, and the same members one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import CONTEXTS
from ncsim.executors import choice

#: Chance that four tests on right programs together raise an alarm.
FALSE_ALARM = 0.01
#: Below so small a p a context's test is an alarm.
ALARM = FALSE_ALARM / len(CONTEXTS)
#: Counts that are rarer than so often in both samples are put together.
RARE = 10


def records(config: EnsembleConfig, program: Any, mesh: Any, members: int, steps: int, first: int) -> Any:
    """Records of so many members, [M, context, ...], from this id on."""
    width = program.lanes * mesh.devices.size
    parts = [choice.train_block(config, program, mesh, steps, first + start) for start in range(0, members, width)]
    columns: list[Any] = [
        None if leaves[0] is None else np.concatenate(leaves)[:members] for leaves in zip(*parts, strict=True)
    ]
    return type(parts[0])(*columns)


def laws(ours: Any, others: Any) -> list[dict[str, Any]]:
    """Chi-squared tests of homogeneity of the joint counts' laws of two samples of members, context by context."""
    from scipy.stats import chi2_contingency

    results = []
    for context in range(len(CONTEXTS)):
        halves = [ours.counts[:, context], others.counts[:, context]]
        _, kinds = np.unique(np.concatenate(halves), axis=0, return_inverse=True)
        both = np.split(kinds.reshape(-1), [len(halves[0])])
        table = np.stack([np.bincount(half, minlength=kinds.max() + 1) for half in both])
        rare = table.sum(axis=0) < RARE
        table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
        table = table[:, table.sum(axis=0) > 0]
        p = float(chi2_contingency(table).pvalue) if table.shape[1] > 1 else 1.0
        results.append({"context": label(context), "kinds": table.shape[1], "p": p})
    return results


def members(ours: Any, same: Any, rows: int) -> list[dict[str, Any]]:
    """Of the same members by two programs, context by context: solved by each, those whose counts differ, and of these the
    ones with an undecided answer in either."""
    results = []
    for context in range(len(CONTEXTS)):
        solved = [int((each.counts[:, context, 3] == rows).sum()) for each in (ours, same)]
        differ = (ours.counts[:, context] != same.counts[:, context]).any(axis=-1)
        undecided = sum(each.undecided_alice[:, context] + each.undecided_bob[:, context] for each in (ours, same)) > 0
        results.append(
            {
                "context": label(context),
                "solved": solved,
                "differ": int(differ.sum()),
                "differ_undecided": int((differ & undecided).sum()),
                "members": len(differ),
            }
        )
    return results


def label(context: int) -> str:
    """A context's two digits."""
    i, j = CONTEXTS[context]
    return f"{i + 1}{j + 1}"
