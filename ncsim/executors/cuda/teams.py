"""Wide networks on a GPU: a team of threads has one network, each of them some of its units, in registers.

The step is taken apart as native's rolled C is (`native/c_rolled.py`): what a unit does, what the network does, and sums over
units between them. A thread does its own units, sums go through a team's threads by shuffles, and what the network does each
thread does for itself. A sum has the same bits in all of them, as an addition of two has them in both.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from ncsim.executors.cuda.blocks import blocks_of, by_blocks
from ncsim.executors.cuda.folding import FoldingGraph, averages_over_factors, shared_reciprocals
from ncsim.executors.cuda.layout import Team
from ncsim.executors.cuda.source import GpuBlock, Kernel
from ncsim.executors.native.c_expressions import Node
from ncsim.executors.native.c_program import Flow, Step, body, flow, needed_uniforms, reachable
from ncsim.executors.native.c_rolled import Parts, Writer
from ncsim.executors.native.places import Kind


class TeamWriter(Writer):
    """Lines of what a thread does with its own units; a unit that the network does not have is left out."""

    block = GpuBlock

    def __init__(self, parts: Parts, inputs: dict[Node, str], of: Team) -> None:
        self._team = of
        super().__init__(parts, inputs)

    def loop(self, level: int, kind: Kind) -> list[str]:
        """The loop over a thread's units of a kind, which a compiler writes out."""
        inside = self.units(level, kind, 1)
        if not inside:
            return []
        last = kind.first + kind.width - 1
        width = next(each.width for each in self._team.wide.kinds if each.small == kind.small)
        condition = f"if (u < {last} || thread + TEAM * (u - {kind.first}) < {width}) "
        condition = condition if width % self._team.threads else ""
        head = f"for (int u = {kind.first}; u <= {last}; u++) {condition}{{"
        return ["#pragma unroll", head, *(f"    {line}" for line in inside), "}"]

    def again(self) -> list[str]:
        """Marks on a parameter of each unit, so that what is made of it (its activations) is made again in the next loop: a
        compiler would keep it in registers, of which there are too few."""
        lines = []
        for kind in self.parts.places.kinds:
            unit = kind.small[0]
            made = [n for n, of in self.parts.unit.items() if of == unit and self.parts.level[n] == 0 and n.operands]
            uses = Counter(c for node in made for c in reachable([node]) if self.parts.unit.get(c) == unit)
            most = next((self.parts.number[c] for c, _ in uses.most_common() if c.kind == "carry"), None)
            if most is None:
                continue
            base, last = self.parts.places.base[most], kind.first + kind.width - 1
            lines += ["#pragma unroll", f"for (int u = {kind.first}; u <= {last}; u++) AGAIN(s[{base} + u]);"]
        return lines


def kernel(program: Step, targets: np.ndarray, of: Team, rows: int | None = None) -> Kernel:
    """As `source.kernel`, of a network of few units of each kind, for the wide one that `of` has; in blocks of so many rows.

    Raises:
        ScalariseError: an operation or state that a kernel has nothing for.
    """
    graph = FoldingGraph()
    found = flow(graph, program, np.asarray(targets, np.float32).reshape(-1).tolist(), of.wide.leaf)
    after = averages_over_factors(graph, found, program.size)
    after = _with_shared_reciprocals(graph, found, after, of)
    wanted, stages = [after[number] for number in found.lanes], None
    if rows is not None:
        unit = dict(zip(found.carry, of.wide.unit, strict=True))
        wanted = by_blocks(graph, wanted, blocks_of(wanted, unit, rows))
        stages = {node: max(bits.bit_length() - 1, 0) for node, bits in blocks_of(wanted, unit, rows).items()}
    row = needed_uniforms(wanted)
    parts = Parts(list(zip(found.lanes, wanted, strict=True)), of.local, found.carry, stages)
    writer = TeamWriter(parts, {node: f"row[{k}]" for k, node in enumerate(row)}, of)
    return Kernel(_text(writer, found, of), found, [found.begun[number] for number in found.lanes], row, of)


def _with_shared_reciprocals(graph: FoldingGraph, found: Flow, after: list[Node], of: Team) -> list[Node]:
    """With one reciprocal for two denominators of one unit, or of the network."""
    after = list(after)
    for unit in dict.fromkeys(of.wide.unit):
        numbers = [number for number in found.lanes if of.wide.unit[number] == unit]
        shared = shared_reciprocals(graph, [after[number] for number in numbers])
        for number, node in zip(numbers, shared, strict=True):
            after[number] = node
    return after


FUNCTION = """
INLINE void do_{name}(vec *s, vec *g, vec *t, const float *row, int thread, unsigned never)
{{
    (void)s; (void)g; (void)t; (void)row; (void)thread; (void)never;
{lines}
}}
"""


def _text(writer: TeamWriter, found: Flow, of: Team) -> str:
    """Functions of a step's phases, of loading and storing, and the step as a list of those."""
    parts = writer.parts
    sums, kept = writer.sizes
    functions = FUNCTION.format(name="nothing", lines=body(f"g[{each.number}] = 0.0f;" for each in parts.sums.values()))
    functions += FUNCTION.format(name="again", lines=body(writer.again()))
    calls = ["EACH(nothing)"]
    for name, lines in writer.phases():
        functions += FUNCTION.format(name=name, lines=body(lines))
        calls.append(f"EACH({name})")
        if name.startswith("units"):
            level = int(name.removeprefix("units"))
            calls += [f"SUM({each.number})" for each in parts.sums.values() if each.loop == level]
            calls += ["EACH(again)"] if level < parts.last else []
    places = dict.fromkeys((of.wide.base[n], of.local.base[n], of.wide.unit[n] is None) for n in found.lanes)
    moves = []
    for base, local, of_network in places:
        if of_network:
            moves.append(f"MOVE({local}, 1, {base}, 1, 0)")
            continue
        for there, here in zip(of.wide.kinds, of.local.kinds, strict=True):
            moves.append(f"MOVE({local + here.first}, {here.width}, {base + there.first}, {there.width}, 1)")
    sizes = {"TEAM": of.threads, "SLOTS": of.local.slots, "SUMS": max(sums, 1), "KEPT": max(kept, 1)}
    head = "".join(f"#define {name} {size}\n" for name, size in sizes.items())
    return f"{head}{functions}\n#define STEP {' '.join(calls)}\n#define MOVES {' '.join(moves)}\n"
