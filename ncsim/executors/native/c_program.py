"""A whole C file for a training step: in what order its operations stand, and the loops around them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jax.extend.core import ClosedJaxpr

from ncsim.executors.native.c_expressions import (
    C_TYPES,
    Graph,
    Node,
    build,
    literal,
    scalar_expression,
    vector_expression,
)
from ncsim.executors.native.c_template import HEADER, TEMPLATE
from ncsim.executors.scalarise import ScalariseError


class Block:
    """Straight-line vector code for some outputs, in an order that uses values soon after they are made.

    Sums whose parts nobody else uses are regrouped: their terms are added one by one, products by multiply-add, and to
    long sums in whatever order the terms come to be. Then, again and again, the term or output is made that needs the
    fewest operations that are not there yet.
    """

    #: A sum of at least so many terms is an accumulator, to which each term is added as soon as it is there.
    ACCUMULATOR_TERMS = 6

    def __init__(self, outputs: Sequence[tuple[int, Node]], inputs: dict[Node, str]) -> None:
        """`outputs`: what to store in which place of the state s. `inputs`: names of uniform values, C scalars."""
        self.lines: list[str] = []
        self._inputs = inputs
        self._outputs = list(outputs)
        nodes = reachable(node for _, node in outputs)
        self._uses = Counter(operand for node in nodes for operand in node.operands)
        self._uses.update(node for _, node in outputs)
        self._terms = {node: self._sum(node) for node in nodes if node.kind in ("add", "sub") and node.varying}
        inner = {part for node in self._terms for part in self._swallowed(node)}
        self._sums = {node: terms for node, terms in self._terms.items() if node not in inner}
        self._pending = {
            node: list(terms) for node, terms in self._sums.items() if len(terms) >= self.ACCUMULATOR_TERMS
        }
        self._names: dict[Node, str] = {}
        self._started: set[Node] = set()
        self._numbers = {node: number for number, node in enumerate(self._sums)}
        self._order()

    # -------------------------------------------------------------------------------------------- sums of many terms

    def _swallowed(self, node: Node) -> list[Node]:
        """The sums that are part of this one alone."""
        return [
            operand
            for operand in node.operands
            if operand.kind in ("add", "sub") and operand.varying and self._uses[operand] == 1
        ]

    def _sum(self, node: Node) -> list[tuple[str, Node]]:
        terms = []
        for place, operand in enumerate(node.operands):
            sign = "-" if node.kind == "sub" and place else "+"
            if operand in self._swallowed(node):
                terms += [(signs(sign, s), part) for s, part in self._sum(operand)]
            elif operand.kind == "neg" and operand.varying and self._uses[operand] == 1:
                terms.append((signs(sign, "-"), operand.operands[0]))
            else:
                terms.append((sign, operand))
        # A sum begins with what is no product, so that all products are multiply-adds.
        return sorted(terms, key=lambda term: (term[1].kind == "mul" and term[1].varying, term[0] == "-"))

    # ------------------------------------------------------------------------------------------------ order of things

    def _operands(self, node: Node) -> list[Node]:
        if node in self._pending:
            return [term for _, term in self._pending[node]]
        return [term for _, term in self._sums[node]] if node in self._sums else list(node.operands)

    def _missing(self, node: Node, most: int) -> int:
        """Operations to do before `node` is there, counted up to `most`."""
        if node in self._names or not node.varying or node.kind == "carry":
            return 0
        seen, stack = {node}, [node]
        while stack and len(seen) <= most:
            for operand in self._operands(stack.pop()):
                if operand.varying and operand not in self._names and operand not in seen and operand.kind != "carry":
                    seen.add(operand)
                    stack.append(operand)
        return len(seen)

    def _accumulate(self) -> None:
        """Add all terms to the sums that are accumulators."""
        while True:
            targets = [(total, term) for total, terms in self._pending.items() for term in terms]
            best, choice = 10**9, None
            for target in targets:
                cost = self._missing(target[1][1], best)
                if cost < best:
                    best, choice = cost, target
                if best == 0:
                    break
            if choice is None:
                break
            total, term = choice
            self._add_term(total, term)

    def _order(self) -> None:
        self._accumulate()
        outputs = list(self._outputs)
        made = []
        while outputs:
            place = min(range(len(outputs)), key=lambda number: self._missing(outputs[number][1], 10**9))
            slot, node = outputs.pop(place)
            value = self._vector(node)
            if not value.isidentifier():  # a uniform value, or another place of the state
                self.lines.append(f"const vec o{slot} = {value};")
                value = f"o{slot}"
            made.append((len(self.lines), f"s[{slot}] = {value};", slot))
        self._store(made)

    def _store(self, made: Sequence[tuple[int, str, int]]) -> None:
        """Each output into the state once it is made and what was there has been read for the last time."""
        last_read = {
            int(slot): number + 1 for number, line in enumerate(self.lines) for slot in re.findall(r"s\[(\d+)\]", line)
        }
        stores: dict[int, list[str]] = {}
        for number, line, slot in made:
            stores.setdefault(max(number, last_read.get(slot, 0)), []).append(line)
        lines = list(stores.get(0, []))
        for number, line in enumerate(self.lines, 1):
            lines += [line, *stores.get(number, [])]
        self.lines = lines

    def _add_term(self, total: Node, term: tuple[str, Node]) -> None:
        sign, node = term
        value = self._factor(node)
        self._pending[total].remove(term)
        if total in self._started:
            self.lines.append(f"{self._accumulator(total)} {sign}= {value};")
        else:
            self._started.add(total)
            self.lines.append(f"vec {self._accumulator(total)} = {'-' if sign == '-' else ''}({value});")
        if not self._pending[total]:
            del self._pending[total]
            self._names[total] = self._accumulator(total)

    def _accumulator(self, node: Node) -> str:
        return f"a{self._numbers[node]}"

    # ---------------------------------------------------------------------------------------------------- expressions

    def _factor(self, node: Node) -> str:
        """A term of a sum: a product that nobody else uses as an expression."""
        if node.kind == "mul" and node.varying and node not in self._names and self._uses[node] == 1:
            return vector_expression(node, self._vector, self._scalar)
        return self._vector(node)

    def _vector(self, node: Node) -> str:
        """A name for a value as a vector or mask, which is made if it is not there."""
        if not node.varying:
            return f"{'mask_splat' if node.dtype == 'bool' else 'splat'}({self._scalar(node)})"
        if node.kind == "carry":
            return f"s[{node.number}]"
        if node in self._names:
            return self._names[node]
        while node in self._pending:
            self._add_term(node, self._pending[node][0])
        if node in self._names:
            return self._names[node]
        expression = self._summed(node) if node in self._sums else self._operation(node)
        name = f"v{len(self._names)}"
        self.lines.append(f"const {'mask' if node.dtype == 'bool' else 'vec'} {name} = {expression};")
        self._names[node] = name
        return name

    def _summed(self, node: Node) -> str:
        """A short sum."""
        return self._expression(self._sums[node])

    def _expression(self, terms: Sequence[tuple[str, Node]]) -> str:
        expression = ""
        for sign, term in terms:
            value = self._factor(term)
            expression = f"({expression} {sign} {value})" if expression else ("-" if sign == "-" else "") + value
        return expression

    def _operation(self, node: Node) -> str:
        """What is no sum."""
        return vector_expression(node, self._vector, self._scalar)

    def _scalar(self, node: Node) -> str:
        return literal(node) if node.kind == "constant" else self._inputs[node]


def signs(one: str, other: str) -> str:
    """The sign of a term in a sum that is a term."""
    return "+" if one == other else "-"


def reachable(nodes: Iterable[Node]) -> list[Node]:
    """These values and all that they are made of."""
    found: dict[Node, None] = {}
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in found:
            found[node] = None
            stack.extend(node.operands)
    return list(found)


def needed_uniforms(outputs: Iterable[Node]) -> list[Node]:
    """The uniform values, constants apart, that vector code for these outputs reads."""
    outputs = list(outputs)
    nodes = [node for node in reachable(outputs) if node.varying]
    read = {operand: None for node in nodes for operand in node.operands if not operand.varying}
    read |= {node: None for node in outputs if not node.varying}
    return [node for node in read if node.kind != "constant"]


def scalar_lines(wanted: Sequence[Node], leaves: dict[Node, str]) -> tuple[list[str], dict[Node, str]]:
    """C statements that make uniform values, and a name for each."""
    lines: list[str] = []
    names = dict(leaves)

    def name(node: Node) -> str:
        if node.kind == "constant":
            return literal(node)
        if node not in names:
            expression = scalar_expression(node, name)
            names[node] = f"u{len(names)}"
            lines.append(f"const {C_TYPES[node.dtype]} {names[node]} = {expression};")
        return names[node]

    return lines, {node: name(node) for node in wanted}


class Step(NamedTuple):
    """A training step as jaxprs of scalars. `begin`: vector and given values to the carry; `step`: carry and given
    values to the carry. The vector is the first of the carry."""

    begin: ClosedJaxpr
    step: ClosedJaxpr
    size: int  # of the vector
    given: int  # targets and learning rate, all float32
    arrays: list[int]  # sizes of what the carry consists of


class Flow(NamedTuple):
    """A training step as nodes: what it carries on, and what is made of that."""

    given: list[Node]
    begun: list[Node]  # the carry before the first step
    carry: list[Node]
    after: list[Node]  # the carry after a step
    dtypes: list[str]
    lanes: list[int]  # places in the carry of what differs by network; the parameters are the first
    scalars: list[int]  # and of what does not


def flow(graph: Graph, program: Step, known: Sequence[float] = (), arrays: Sequence[int] = ()) -> Flow:
    """The nodes of a step, in `graph`, which simplifies them. `known`: the first given values, where they are compiled in.
    `arrays`: the array of each element of the carry, if arrays are to differ by network as a whole or not at all.

    Raises:
        ScalariseError: an operation, or a state by network, that there is no C for.
    """
    dtypes = [str(variable.aval.dtype) for variable in program.step.jaxpr.outvars]
    given = [graph.leaf("given", number, "float32", False) for number in range(program.given)]
    given[: len(known)] = [graph.constant(value, "float32") for value in known]
    vector = [graph.leaf("carry", number, "float32", True) for number in range(program.size)]
    begun = build(graph, program.begin, [*vector, *given])
    varying = _whole([number < program.size or node.varying for number, node in enumerate(begun)], arrays)
    while True:  # what a step makes different by network is so from the beginning
        carry = [graph.leaf("carry", n, dtypes[n], differs) for n, differs in enumerate(varying)]
        after = build(graph, program.step, [*carry, *given])
        grown = _whole([differs or node.varying for differs, node in zip(varying, after, strict=True)], arrays)
        if grown == varying:
            break
        varying = grown
    for number, differs in enumerate(varying):
        if differs and dtypes[number] != "float32":
            raise ScalariseError(f"optimiser state of type {dtypes[number]} by network has no C in the native executor")
    lanes = [number for number, differs in enumerate(varying) if differs]
    scalars = [number for number, differs in enumerate(varying) if not differs]
    for place, number in enumerate(lanes):
        carry[number].number = place  # in the array of vectors; the parameters stay the first
    return Flow(given, begun, carry, after, dtypes, lanes, scalars)


def _whole(varying: list[bool], arrays: Sequence[int]) -> list[bool]:
    differing = {array for array, differs in zip(arrays, varying, strict=False) if differs}
    return [array in differing for array in arrays] or varying


class Uniform(NamedTuple):
    """What is the same for all networks: names in C for what vector code reads of it, and the template's parts."""

    step_names: dict[Node, str]
    begin_names: dict[Node, str]
    begin_lines: list[str]
    parts: dict[str, object]


def uniform_parts(flow: Flow, size: int) -> Uniform:
    """The scalar code of a step, of `size` parameters."""
    given, begun, carry, after, dtypes, lanes, scalars = flow
    leaves = {node: f"given[{number}]" for number, node in enumerate(given)}
    leaves |= {carry[number]: f"c->c{number}" for number in scalars}

    uniforms = needed_uniforms(after[number] for number in lanes)
    fixed = [node for node in uniforms if not node.changing]
    changing = [node for node in uniforms if node.changing]
    names = {node: f"fixed[{k}]" for k, node in enumerate(fixed)} | {
        node: f"row[{k}]" for k, node in enumerate(changing)
    }
    begin_lines, begin_names = scalar_lines(needed_uniforms(begun[number] for number in lanes), leaves)

    first_lines, first = scalar_lines([begun[number] for number in scalars], leaves)
    first_lines += [f"c->c{number} = {first[begun[number]]};" for number in scalars]
    fixed_lines, fixed_names = scalar_lines(fixed, leaves)
    fixed_lines += [f"fixed[{k}] = {fixed_names[node]};" for k, node in enumerate(fixed)]
    next_nodes = [after[number] for number in scalars]
    next_lines, following = scalar_lines([*changing, *next_nodes], leaves)
    next_lines += [f"row[{k}] = {following[node]};" for k, node in enumerate(changing)]
    # Read before any is written: one may be what another was.
    next_lines += [f"const {C_TYPES[dtypes[n]]} n{n} = {following[after[n]]};" for n in scalars]
    next_lines += [f"c->c{n} = n{n};" for n in scalars]
    parts: dict[str, object] = {
        "size": size,
        "fixed_count": max(len(fixed), 1),
        "row_count": max(len(changing), 1),
        "fields": " ".join(f"{C_TYPES[dtypes[n]]} c{n};" for n in scalars) or "int unused;",
        "begin_carried": body(first_lines),
        "fixed": body(fixed_lines),
        "uniform": body(next_lines),
    }
    return Uniform(names, begin_names, begin_lines, parts)


def source(program: Step) -> str:
    """The C file: `ncsim_train` of TRAIN, which takes all steps of all networks.

    Raises:
        ScalariseError: an operation that there is no C for.
    """
    nodes = flow(Graph(), program)
    uniform = uniform_parts(nodes, program.size)
    step = Block([(place, nodes.after[number]) for place, number in enumerate(nodes.lanes)], uniform.step_names).lines
    started = [(place, nodes.begun[number]) for place, number in enumerate(nodes.lanes) if place >= program.size]
    begin = [*uniform.begin_lines, *Block(started, uniform.begin_names).lines]
    return TEMPLATE.format(header=HEADER, slots=len(nodes.lanes), begin=body(begin), step=body(step), **uniform.parts)


def body(lines: Iterable[str]) -> str:
    """Lines as they stand in a function."""
    return "\n".join(f"    {line}" for line in lines)
