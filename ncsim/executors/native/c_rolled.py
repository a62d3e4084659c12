"""A whole C file for a wide network's training step: loops over hidden units around what one unit does.

Straight-line code grows with the width, and compile time faster. But units of one kind (those that see the same features
and feed the same heads) do the same, on other parameters. So the step is written out for a network of a few units of
each kind, and its graph taken apart: a value belongs to a unit, or to the whole network. A sum over terms of several units
is where the one becomes the other. Its terms are added up in a loop over units, before what is made of the sum is computed
once; then the next loop begins. What no such sum is needed for (a unit's activations) is computed again in every loop.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ncsim.executors.native.c_expressions import Graph, Node
from ncsim.executors.native.c_program import Block, Step, body, flow, reachable, signs, uniform_parts
from ncsim.executors.native.c_template import HEADER, TEMPLATE
from ncsim.executors.native.places import Kind, Places
from ncsim.executors.scalarise import ScalariseError

#: Units that a loop takes at a time where it adds to sums: each is read and written once for so many terms.
UNITS_AT_ONCE = 2


class _Sum(NamedTuple):
    """A sum over terms of several units."""

    number: int  # of its accumulator
    loop: int  # in which it is added up
    shared: list[tuple[str, Node]]  # terms of the whole network
    of_unit: dict[int, list[tuple[str, Node]]]


class Parts:
    """A graph, taken apart: the unit of every value, and how many sums over units lie before it."""

    def __init__(
        self,
        outputs: Sequence[tuple[int, Node]],
        places: Places,
        carry: Sequence[Node],
        stages: Mapping[Node, int] | None = None,
    ) -> None:
        """`outputs`: values by number of the carry that they become. `stages`: before which loop the sum over units that a
        value needs is not to be made; what such loops make and later ones read is then made at once."""
        self.places, self._stages = places, stages or {}
        self.number = {node: number for number, node in enumerate(carry)}
        self.outputs = [(number, node) for number, node in outputs if carry[number] is not node]
        nodes = sorted(reachable(node for _, node in self.outputs), key=lambda node: node.serial)
        uses = Counter(operand for node in nodes for operand in node.operands)
        uses.update(node for _, node in self.outputs)
        self._inner = {
            part
            for node in nodes
            if _is_sum(node)
            for part in node.operands
            if _is_sum(part) and uses[part] == 1 and self._stages.get(part) == self._stages.get(node)
        }
        self.unit: dict[Node, int | None] = {}
        self.level: dict[Node, int] = {}
        self.sums: dict[Node, _Sum] = {}
        self._keys: dict[Node, int] = {}
        self._known: dict[tuple[object, ...], int] = {}
        for node in nodes:
            if node not in self._inner:
                self._place(node)
        self.last = max((self.level[node] for _, node in self.outputs if node.varying), default=0)
        self.last = max([self.last, *(each.loop for each in self.sums.values())])
        self.early = self._read_later(nodes) if stages else []
        self._check_kinds()

    def terms(self, node: Node, sign: str = "+") -> list[tuple[str, Node]]:
        """A sum's terms, through the sums that are part of it alone."""
        found = []
        for place, operand in enumerate(node.operands):
            own = signs(sign, "-") if node.kind == "sub" and place else sign
            found += self.terms(operand, own) if operand in self._inner else [(own, operand)]
        return found

    def _place(self, node: Node) -> None:
        """Note a value's unit, level and key, which is the same for units that do the same."""
        if not node.varying:
            self.unit[node], self.level[node], self._keys[node] = None, 0, self._key("shared", node.serial)
            return
        if node.kind == "carry":
            number = self.number[node]
            self.unit[node], self.level[node] = self.places.unit[number], 0
            self._keys[node] = self._key("carry", self.places.base[number])
            return
        terms = self.terms(node) if _is_sum(node) else [("+", operand) for operand in node.operands]
        units = {self.unit[term] for _, term in terms} - {None}
        level = max(self.level[term] for _, term in terms)
        if len(units) > 1:
            if not _is_sum(node):
                raise ScalariseError(f"{node.kind!r} of values of several units has no loop in the native executor")
            loop = max(self.level[term] for _, term in terms if self.unit[term] is not None)
            loop = max(loop, self._stages.get(node, 0))
            level = max(level, loop + 1)
            of_unit = {
                u: [(s, t) for s, t in terms if self.unit[t] == u]
                for u in {u for kind in self.places.kinds for u in kind.small}
            }
            shared = [(s, t) for s, t in terms if self.unit[t] is None]
            self.sums[node] = _Sum(len(self.sums), loop, shared, of_unit)
        unit = next(iter(units)) if len(units) == 1 else None
        self.unit[node], self.level[node] = unit, level
        if unit is None:
            self._keys[node] = self._key("shared", node.serial)
        elif _is_sum(node):
            self._keys[node] = self._key("sum", *sorted((s, self._keys[t]) for s, t in terms))
        else:
            operands = [self._keys[term] for _, term in terms]
            self._keys[node] = self._key(node.kind, node.dtype, *(sorted(operands) if node.kind == "mul" else operands))

    def _read_later(self, nodes: Iterable[Node]) -> list[Node]:
        """What is made after a sum over units and read by a later loop than the first that can make it."""
        found: dict[Node, None] = {}
        for node in nodes:
            terms = [term for _, term in self.terms(node)] if _is_sum(node) else node.operands
            early = [term for term in terms if term.varying and term.dtype == "float32" and node in self.level]
            found.update(dict.fromkeys(term for term in early if 0 < self.level[term] < self.level[node]))
        return list(found)

    def _key(self, *words: object) -> int:
        return self._known.setdefault(words, len(self._known))

    def _check_kinds(self) -> None:
        """
        Raises:
            ScalariseError: two units of a kind do not do the same.
        """
        for kind in self.places.kinds:
            if len({self._does(unit) for unit in kind.small}) > 1:
                raise ScalariseError("units of one kind that do not do the same have no loop in the native executor")

    def _does(self, unit: int) -> tuple[object, ...]:
        becomes = [
            (self.places.base[number], self._keys[node])
            for number, node in self.outputs
            if self.places.unit[number] == unit
        ]
        added = [sorted((s, self._keys[t]) for s, t in each.of_unit[unit]) for each in self.sums.values()]
        return (tuple(sorted(becomes)), *map(tuple, added))


class Writer:
    """Lines of C for a graph that is taken apart. Values that outlive a loop lie in arrays: `s` is the state, `g` has sums
    and what is made of them, `t` what a unit keeps for a later loop."""

    #: What puts operations into order.
    block: type[Block] = Block

    def __init__(self, parts: Parts, inputs: dict[Node, str]) -> None:
        self.parts, self._inputs = parts, inputs
        self._spots: dict[str, int] = {}  # numbers of what Block takes for places of the state
        self._kept = {kind: self._kept_of(kind) for kind in parts.places.kinds}
        self._shared = self._shared_values()

    @property
    def sizes(self) -> tuple[int, int]:
        """Vectors in `g` and in `t`."""
        kept = max((len(each) for each in self._kept.values()), default=0)
        return len(self.parts.sums) + len(self._shared), kept * self.parts.places.units

    def phases(self) -> Iterator[tuple[str, list[str]]]:
        """Pieces of code in order, each with a name."""
        for level in range(self.parts.last + 1):
            shared = [node for node in self._shared if self.parts.level[node] == level]
            if shared:
                copy = self._of_network_copier({n: p for n, p in self._shared.items() if self.parts.level[n] < level})
                yield f"shared{level}", self._block([(self._shared[node], copy(node)) for node in shared])
            lines = [line for kind in self.parts.places.kinds for line in self.loop(level, kind)]
            if lines:
                yield f"units{level}", lines
        copy = self._of_network_copier(self._shared)
        of_network = [
            (f"s[{self.parts.places.base[number]}]", copy(node))
            for number, node in self.parts.outputs
            if self.parts.places.unit[number] is None
        ]
        if of_network:
            yield "network", self._block(of_network)

    # ------------------------------------------------------------------------------------------------ values that stay

    def _roots(self, level: int, unit: int) -> list[Node]:
        """What a loop makes of a unit."""
        terms = [t for each in self.parts.sums.values() if each.loop == level for _, t in each.of_unit[unit]]
        terms += [node for node in self.parts.early if (self.parts.level[node], self.parts.unit[node]) == (level, unit)]
        if level == self.parts.last:
            terms += [node for number, node in self.parts.outputs if self.parts.places.unit[number] == unit]
        return terms

    def _walk(self, roots: Iterable[Node], stop: Callable[[Node], bool]) -> list[Node]:
        """Values that differ by network, from the roots down to where `stop` says so, with those."""
        found: dict[Node, None] = {}
        stack = [node for node in roots if node.varying]
        while stack:
            node = stack.pop()
            if node not in found:
                found[node] = None
                if not stop(node):
                    stack += [operand for operand in node.operands if operand.varying]
        return list(found)

    def _kept_of(self, kind: Kind) -> dict[Node, int]:
        """What is made of a unit of this kind in one loop, after a sum, and used again in a later one."""
        kept: dict[Node, int] = {}
        made: set[Node] = set()

        def there(node: Node) -> bool:
            return node in made or self._of_network(node)

        for level in range(self.parts.last + 1):
            found = self._walk(self._roots(level, kind.small[0]), there)
            for node in found:
                if node in made:
                    kept.setdefault(node, len(kept))
            floats = [node for node in found if self.parts.unit.get(node) is not None and node.dtype == "float32"]
            made.update(node for node in floats if self.parts.level[node] > 0)
        return kept

    def _of_network(self, node: Node) -> bool:
        """Whether a value is the network's, and can lie in an array. A condition is made again where it is needed."""
        return node in self.parts.unit and self.parts.unit[node] is None and node.dtype == "float32"

    def _shared_values(self) -> dict[Node, str]:
        """The network's values that units use, each with its place."""
        roots = [
            node
            for kind in self.parts.places.kinds
            for level in range(self.parts.last + 1)
            for node in self._roots(level, kind.small[0])
        ]
        roots += [node for node in self.parts.early if self._of_network(node)]
        found = [
            node for node in self._walk(roots, self._of_network) if self._of_network(node) and node.kind != "carry"
        ]
        found.sort(key=lambda node: node.serial)
        first = len(self.parts.sums)
        return {node: f"g[{first + number}]" for number, node in enumerate(found)}

    # ------------------------------------------------------------------------------------------------------------ code

    def _block(self, outputs: Sequence[tuple[str, Node]]) -> list[str]:
        lines = self.block([(self._spot(name), node) for name, node in outputs], self._inputs).lines
        names = list(self._spots)
        return [re.sub(r"s\[(\d+)\]", lambda found: names[int(found[1])], line) for line in lines]

    def _spot(self, name: str) -> int:
        return self._spots.setdefault(name, len(self._spots))

    def _leaf(self, name: str) -> Node:
        node = Node("carry", (), "float32", self._spot(name))
        node.varying = True
        return node

    def loop(self, level: int, kind: Kind) -> list[str]:
        """The loop over units of a kind; what is left over when it takes several at a time comes after it."""
        at_once = UNITS_AT_ONCE if level < self.parts.last else 1
        whole = kind.width - kind.width % at_once
        stop = kind.first + kind.width
        lines = []
        for first, last, step in ((kind.first, kind.first + whole, at_once), (kind.first + whole, stop, 1)):
            inside = self.units(level, kind, step) if first < last else []
            if inside:
                lines += [
                    f"for (int u = {first}; u < {last}; u += {step}) {{",
                    *(f"    {line}" for line in inside),
                    "}",
                ]
        return lines

    def units(self, level: int, kind: Kind, at_once: int) -> list[str]:
        """What a loop does with so many units, the first of which is u."""
        parts, unit = self.parts, kind.small[0]
        copies = [self._copier(level, kind, more) for more in range(at_once)]
        outputs = []
        for each in parts.sums.values():
            if each.loop == level and each.of_unit[unit]:
                total = self._leaf(f"g[{each.number}]")
                for copy in copies:
                    for sign, term in each.of_unit[unit]:
                        total = _plus(total, sign, copy(term))
                outputs.append((f"g[{each.number}]", total))
        for more, copy in enumerate(copies):
            if level == parts.last:
                outputs += [
                    (_of_unit("s", parts.places.base[number], more), copy(node))
                    for number, node in parts.outputs
                    if parts.places.unit[number] == unit
                ]
            for node, place in self._kept[kind].items():
                if parts.level[node] == level:
                    outputs.append((_of_unit("t", place * parts.places.units, more), copy(node)))
        return self._block(outputs)

    def _copier(self, level: int, kind: Kind, more: int) -> Callable[[Node], Node]:
        """Copies values of a kind's first unit for the unit u + more: what is there is read."""
        places = self.parts.places

        @functools.cache
        def copy(node: Node) -> Node:
            if not node.varying:
                return node
            if node.kind == "carry":
                number = self.parts.number[node]
                base = places.base[number]
                return self._leaf(f"s[{base}]" if places.unit[number] is None else _of_unit("s", base, more))
            if node in self._shared:
                return self._leaf(self._shared[node])
            if node in self._kept[kind] and self.parts.level[node] < level:
                return self._leaf(_of_unit("t", self._kept[kind][node] * places.units, more))
            return Node(node.kind, tuple(map(copy, node.operands)), node.dtype, node.number, node.value)

        return copy

    def _of_network_copier(self, there: dict[Node, str]) -> Callable[[Node], Node]:
        """Copies values of the network: what is there is read, and so are the sums."""

        @functools.cache
        def copy(node: Node) -> Node:
            if not node.varying:
                return node
            if node in there:
                return self._leaf(there[node])
            if node.kind == "carry":
                return self._leaf(f"s[{self.parts.places.base[self.parts.number[node]]}]")
            if node in self.parts.sums:
                total = self._leaf(f"g[{self.parts.sums[node].number}]")
                for sign, term in self.parts.sums[node].shared:
                    total = _plus(total, sign, copy(term))
                return total
            return Node(node.kind, tuple(map(copy, node.operands)), node.dtype, node.number, node.value)

        return copy


def _of_unit(array: str, base: int, more: int) -> str:
    return f"{array}[{base + more} + u]"


def _plus(total: Node, sign: str, term: Node) -> Node:
    return Node("add" if sign == "+" else "sub", (total, term), "float32")


def _is_sum(node: Node) -> bool:
    return node.kind in ("add", "sub") and node.varying and node.dtype == "float32"


def source(program: Step, places: Places) -> str:
    """The C file, as `c_program.source`, for the wide network that `places` says of the small one's step.

    Raises:
        ScalariseError: an operation that there is no C for, or no loop.
    """
    nodes = flow(Graph(), program, arrays=places.leaf)
    uniform = uniform_parts(nodes, places.size)
    after = [(number, nodes.after[number]) for number in nodes.lanes]
    step = Writer(Parts(after, places, nodes.carry), uniform.step_names)
    started = [(number, nodes.begun[number]) for number in nodes.lanes if number >= program.size]
    begin = Writer(Parts(started, places, nodes.carry), uniform.begin_names)
    functions, calls = "", []
    for name, lines in step.phases():
        functions += FUNCTION.format(name=name, lines=body(lines))
        calls.append(f"{name}(s, g, t, fixed, row);")
    arrays, zeros = _arrays(step)
    return TEMPLATE.format(
        header="#define VECTORS 1 /* more do not stay in the cache */\n" + HEADER + functions,
        slots=places.slots,
        begin=body(
            [*uniform.begin_lines, *_arrays(begin)[0], *(line for _, lines in begin.phases() for line in lines)]
        ),
        step=body([*arrays, *zeros, *calls]),
        **uniform.parts,
    )


FUNCTION = """
static __attribute__((noinline)) void {name}(vec *restrict s, vec *restrict g, vec *restrict t,
                                             const float *restrict fixed, const float *restrict row)
{{
    (void)s; (void)g; (void)t; (void)fixed; (void)row;
{lines}
}}
"""


def _arrays(writer: Writer) -> tuple[list[str], list[str]]:
    """What a writer's code works in, and sums as they begin."""
    shared, kept = writer.sizes
    sums = len(writer.parts.sums)
    zeros = [f"for (int k = 0; k < {sums}; k++) g[k] = splat(0.0f);"] if sums else []
    return [f"vec g[{max(shared, 1)}], t[{max(kept, 1)}];", "(void)g; (void)t;"], zeros
