"""CUDA C for a training step: the statements of `native`'s generator, with what a GPU has for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ncsim.executors.cuda import template
from ncsim.executors.cuda.folding import (
    LOG2E,
    FoldingGraph,
    averages_over_factors,
    is_weight,
    is_zero,
    rectified,
    shared_reciprocals,
)
from ncsim.executors.cuda.layout import Team
from ncsim.executors.native.c_expressions import Node
from ncsim.executors.native.c_program import Block, Flow, Step, flow, needed_uniforms

#: A term of a sum: its sign, a value, and what that is multiplied by.
_Term = tuple[str, Node, Node | None]


class Kernel(NamedTuple):
    """A training step of one context as CUDA C, and how its arguments are made."""

    step: str  # the statements
    flow: Flow
    lanes: list[Node]  # what is kept of each network when training begins, [S], the parameters first
    row: list[Node]  # what is the same for all networks, by step
    team: Team | None = None  # of a wide network: `step` is of one thread of it, and `lanes` of few units


class GpuBlock(Block):
    """Statements with multiply-adds under a predicate, where the C generator has choices and maxima."""

    def __init__(self, outputs: Sequence[tuple[int, Node]], inputs: dict[Node, str]) -> None:
        self._masks: dict[Node, Node] = {}
        self._first: set[Node] = set()
        self._logits: list[tuple[int, list[Node]]] = []
        self._known_rows: dict[Node, int] = {}
        self._guards: dict[Node, tuple[Node, list[_Term]]] = {}
        super().__init__(outputs, inputs)

    def _order(self) -> None:
        """As there; ReLUs are known first: x of each x > 0 of which there is max(x, 0), too."""
        reached = list(self._uses)
        rectifiers = {rectified(node) for node in reached if rectified(node) is not None}
        self._masks = {
            node.operands[0]: node
            for node in reached
            if node.kind == "gt" and is_zero(node.operands[1]) and node.operands[0] in rectifiers
        }
        for terms in self._sums.values():
            inputs = {
                x: weight.serial
                for _, term in terms
                if term.kind == "mul"
                for activation, weight in (term.operands, term.operands[::-1])
                if is_weight(weight) and (x := rectified(activation)) in self._masks
            }
            if inputs:
                self._logits.append((min(x.serial for x in inputs), list(inputs)))
                # A sum's first product is added to what stays needed: a maximum for all of a row's is less than a move
                # for each. Of the same unit in every row.
                if self._first.isdisjoint(inputs):
                    self._first.add(min(inputs, key=lambda x: inputs[x]))
        self._logits.sort(key=lambda logit: logit[0])
        under: set[Node] = set()  # sums that are added under a condition, term by term
        for node in reached:
            if (found := self._guard(node)) is not None:
                self._guards[node] = found
                if node.kind == "select_n":
                    under.add(node.operands[2])
        self._pending = {
            node: list(terms)
            for node, terms in self._sums.items()
            if node not in under and (len(terms) >= self.ACCUMULATOR_TERMS or self._is_of_rows(node))
        }
        for node in reached:
            if node.kind == "bits":
                self._vector(node)  # of all rows
        super()._order()

    def _accumulate(self) -> None:
        """Row after row, each to its share of every gradient; the last first, which shares most with those that follow. A
        row that is added as it is comes before the one that is added to it under a condition."""
        rows = self._rows()
        done = 0
        for row in sorted(set(rows.values()), reverse=True) or [0]:
            done |= row
            while ready := self._terms_of(rows, done):
                for total, term in ready:
                    if term in self._pending.get(total, ()):  # not yet added for the sake of another
                        self._add_term(total, term)
        super()._accumulate()

    def _terms_of(self, rows: dict[Node, int], done: int) -> list[tuple[Node, tuple[str, Node]]]:
        """The terms that sums lack and that are of these rows alone."""
        return [
            (total, term)
            for total, terms in self._pending.items()
            for term in terms
            if not self._of(term[1], rows) & ~done
        ]

    def _rows(self) -> dict[Node, int]:
        """What tells rows apart: each ReLU's input, and a bit of the row that it is in."""
        rows: dict[Node, int] = {}
        for _, inputs in self._logits:
            known = [rows[x] for x in inputs if x in rows]
            bit = known[0] if known else 1 << len(set(rows.values()))
            rows.update(dict.fromkeys(inputs, bit))
        return rows

    def _of(self, node: Node, rows: dict[Node, int]) -> int:
        """The rows that a value is of."""
        if node not in self._known_rows:
            x = rectified(node) or (node.operands[0] if node in self._masks.values() else None)
            if x in rows:
                self._known_rows[node] = rows[x]
            else:
                found = 0
                for operand in node.operands:
                    found |= self._of(operand, rows)
                self._known_rows[node] = found
        return self._known_rows[node]

    def _is_of_rows(self, node: Node) -> bool:
        """Whether a sum is of what single rows send through ReLUs: it is made as they come, so that no row waits."""
        return all(
            term.kind == "select_n" or (term in self._sums and self._is_of_rows(term)) for _, term in self._sums[node]
        )

    def _guard(self, node: Node) -> tuple[Node, list[_Term]] | None:
        """The condition under which a term of a sum is not 0, and what it is made of then; None where it always counts."""
        if not node.varying or self._uses[node] != 1:
            return None
        if node.kind == "select_n" and node.operands[0].varying and is_zero(node.operands[1]):
            mask, _, value = node.operands
            alone = self._uses[value] == 1 and value in self._sums
            terms = self._sums[value] if alone else [("+", value)]
            return mask, [(sign, *self._product(term)) for sign, term in terms]
        if node.kind == "mul":
            for activation, other in (node.operands, node.operands[::-1]):
                x = rectified(activation)
                if x in self._masks and x not in self._first and other.varying and rectified(other) is None:
                    return self._masks[x], [("+", x, other)]
        return None

    def _product(self, node: Node) -> tuple[Node, Node | None]:
        """The two factors of a product that nobody else uses; else the value itself."""
        once = node.kind == "mul" and node.varying and self._uses[node] == 1
        return (node.operands[0], node.operands[1]) if once else (node, None)

    def _add_guarded(self, total: str, sign: str, guarded: tuple[Node, list[_Term]]) -> None:
        mask = self._vector(guarded[0])
        for inner, one, other in guarded[1]:
            minus = "-" if inner != sign else ""
            values = [self._vector(each) for each in (one, other) if each is not None]
            self.lines.append(
                f"{'FMA' if len(values) == 2 else 'ADD'}_IF({total}, {mask}, {minus}{', '.join(values)});"
            )

    def _add_term(self, total: Node, term: tuple[str, Node]) -> None:
        guarded = self._guards.get(term[1])
        if guarded is None:
            super()._add_term(total, term)
            return
        self._pending[total].remove(term)
        name = self._accumulator(total)
        if total not in self._started:
            self._started.add(total)
            self.lines.append(f"vec {name} = 0.0f;")
        self._add_guarded(name, term[0], guarded)
        if not self._pending[total]:
            del self._pending[total]
            self._names[total] = name

    def _summed(self, node: Node) -> str:
        terms = self._sums[node]
        guarded = [(sign, term) for sign, term in terms if term in self._guards]
        if not guarded:
            return super()._summed(node)
        plain = [term for term in terms if term not in guarded]
        name = f"t{self._numbers[node]}"
        begun = self._expression(plain) if plain else "0.0f"
        self.lines.append(f"vec {name} = {begun};")
        for sign, term in guarded:
            self._add_guarded(name, sign, self._guards[term])
        return name

    def _operation(self, node: Node) -> str:
        if node.kind == "gt" and self._masks.get(node.operands[0]) is node:
            return f"is_on({self._vector(node.operands[0])})"
        if node.kind == "exp2":
            return f"vexp2({self._vector(node.operands[0])})"
        if node.kind == "bits":
            return f"{self._vector(node.operands[0])} * splat({LOG2E.hex()}f)"
        return super()._operation(node)


def kernel(program: Step, targets: np.ndarray) -> Kernel:
    """A step with these targets [R, 2] compiled in.

    Raises:
        ScalariseError: an operation or state that a kernel has nothing for.
    """
    graph = FoldingGraph()
    found = flow(graph, program, np.asarray(targets, np.float32).reshape(-1).tolist())
    after = averages_over_factors(graph, found, program.size)
    wanted = shared_reciprocals(graph, [after[number] for number in found.lanes])
    row = needed_uniforms(wanted)
    names = {node: f"row[{k}]" for k, node in enumerate(row)}
    lines = GpuBlock(list(enumerate(wanted)), names).lines
    return Kernel(
        "\n".join(f"    {line}" for line in lines), found, [found.begun[number] for number in found.lanes], row
    )


def device_text(made: Kernel, networks: int, threads: int, blocks: int) -> str:
    """CUDA C of `NAME`, launched by a network a thread, or a team; `blocks` of so many threads share a multiprocessor."""
    loop = template.DEVICE_LOOP if made.team is None else template.TEAM_DEVICE_LOOP
    loop = loop.format(name=NAME, networks=networks, threads=threads, blocks=blocks)
    return _text(made, template.DEVICE_HEADER, "bool", loop)


def host_text(made: Kernel) -> str:
    """The same step in C for a CPU: `ncsim_host`, for tests."""
    loop = template.HOST_LOOP if made.team is None else template.TEAM_HOST_LOOP
    return _text(made, template.HOST_HEADER, "int", loop.format())


#: The kernel's name.
NAME = "ncsim_train"


def row_size(made: Kernel) -> int:
    """Numbers in a step's row of uniform values: in fours, which are read at once."""
    return -(-max(len(made.row), 1) // 4) * 4


def _text(made: Kernel, header: str, mask: str, loop: str) -> str:
    header += template.COMMON_HEADER
    if made.team is not None:
        return template.TEAM_KERNEL.format(header=header, mask=mask, row=row_size(made), step=made.step, loop=loop)
    return template.KERNEL.format(
        header=header, mask=mask, slots=len(made.lanes), row=row_size(made), step=made.step, loop=loop
    )
