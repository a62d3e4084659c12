"""Rows of a wide network in blocks, where a team's threads have no registers for what all rows need at once.

A loop over units ends where the network needs a sum over them: a logit. Were all rows' logits made in one loop and all rows' gradients
in the next, twice as many numbers as there are rows would lie between. In blocks, a loop adds one block's rows to the gradients
and makes the logits of the next block's. What sums over rows are so far is kept. They are put into the order of the blocks, which
changes a result by a rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ncsim.executors.cuda.folding import FoldingGraph, rebuilt, rectified
from ncsim.executors.native.c_expressions import Node
from ncsim.executors.native.c_program import reachable, signs

_SUMS = ("add", "sub")


def blocks_of(outputs: Sequence[Node], unit: Mapping[Node, int | None], rows: int) -> dict[Node, int]:
    """A bit for each block of so many rows whose activations a value is made of; 0 where it is of none.

    Args:
        outputs: what is made.
        unit: of what is carried, the unit that it belongs to.
        rows: of a block.
    """
    found: dict[Node, int] = {}
    seen: dict[int | None, int] = {}  # rows of each unit so far: activations are made row after row
    for node in sorted(reachable(outputs), key=lambda node: node.serial):
        found[node] = 0
        for operand in node.operands:
            found[node] |= found[operand]
        if rectified(node) is not None:
            own = next((unit[each] for each in reachable([node]) if unit.get(each) is not None), None)
            found[node] |= 1 << (seen.get(own, 0) // rows)
            seen[own] = seen.get(own, 0) + 1
    return found


def by_blocks(graph: FoldingGraph, outputs: Sequence[Node], blocks: Mapping[Node, int]) -> list[Node]:
    """The same with sums over several blocks as sums of what is so far and the next block's."""
    nodes = sorted(reachable(outputs), key=lambda node: node.serial)
    over = {node for node in nodes if node.kind in _SUMS and node.varying and blocks[node] & (blocks[node] - 1)}
    whole = {operand for node in nodes if node not in over for operand in node.operands} | set(outputs)
    known: dict[Node, Node] = {}

    def terms(node: Node, sign: str) -> list[tuple[str, Node]]:
        if node not in over:
            return [(sign, node)]
        second = signs(sign, "-") if node.kind == "sub" else sign
        return [*terms(node.operands[0], sign), *terms(node.operands[1], second)]

    for node in nodes:
        if node in over and node in whole:
            in_order = sorted(terms(node, "+"), key=lambda term: (blocks[term[1]].bit_length(), term[0] == "-"))
            (sign, first), *rest = ((sign, rebuilt(graph, term, known)) for sign, term in in_order)
            total = graph.make("neg", [first], "float32") if sign == "-" else first
            for sign, term in rest:
                total = graph.make("add" if sign == "+" else "sub", [total, term], "float32")
            known[node] = total
    return [rebuilt(graph, node, known) for node in outputs]
