"""Simplifications of a step's graph for a GPU, where issue slots bind and loads do not.

Factors that are the same for all networks go outwards through sums, choices and roots to where an optimiser has its
constants. Averages are kept over such a factor. A logit is made as an exponent of two, by head weights that are scaled
once per step. Each changes a result by a rounding or two. Powers of the number of the step stay as optax has them, since
what they are off would move every network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ncsim.executors.native.c_expressions import Graph, Node
from ncsim.executors.native.c_program import Flow

_FOLDED = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}
LOG2E = float(np.float32(math.log2(math.e)))
#: Denominators share a reciprocal if at least so much is added to each: their product is then a normal number.
SMALLEST_ADDED = 1e-15


class FoldingGraph(Graph):
    """A graph that computes constants, gathers factors outside, and has exponentials of base two."""

    def __init__(self) -> None:
        super().__init__()
        #: Carried weights that logits have in units of log 2, by how much they are scaled.
        self._in_bits: dict[Node, Node] = {}

    def _simpler(self, kind: str, operands: list[Node], dtype: str) -> Node | None:
        if kind == "gt" and is_zero(operands[1]) and (inner := rectified(operands[0])) is not None:
            return self.make("gt", [inner, operands[1]], dtype)  # max(x, 0) > 0, NaN included
        if dtype != "float32":
            return super()._simpler(kind, operands, dtype)
        if kind in _FOLDED and all(operand.kind == "constant" for operand in operands):
            with np.errstate(all="ignore"):
                return self.constant(_FOLDED[kind](*(operand.value for operand in operands)), dtype)
        if kind == "neg" and operands[0].kind == "constant":
            return self.constant(-operands[0].value, dtype)
        if kind == "neg" and operands[0].kind == "neg":
            return operands[0].operands[0]
        if kind == "sub" and is_zero(operands[1]):
            return operands[0]
        for rule in (self._pulled, self._residual, self._power, self._by_bits):
            found = rule(kind, operands)
            if found is not None:
                return found
        return super()._simpler(kind, operands, dtype)

    # ------------------------------------------------------------------------------------------------------- factors

    def factor(self, node: Node) -> tuple[Node, float] | None:
        """(x, c) of what differs by network and is x times a constant c."""
        if node.kind == "mul" and node.varying:
            for x, c in (node.operands, node.operands[::-1]):
                if c.kind == "constant":
                    return x, float(c.value)
        return None

    def times(self, x: Node, factor: float) -> Node:
        """A node times a constant."""
        return self.make("mul", [x, self.constant(factor, "float32")], "float32")

    def _pulled(self, kind: str, operands: list[Node]) -> Node | None:
        """The same with a constant factor outside."""
        if kind == "neg" and (got := self.factor(operands[0])):
            return self.times(got[0], -got[1])
        if kind == "mul":
            for a, b in (operands, operands[::-1]):
                if b.varying and (got := self.factor(a)):
                    return self.times(self.make("mul", [got[0], b], "float32"), got[1])
                if a.kind == "neg" and b.kind == "constant":
                    return self.times(a.operands[0], -float(b.value))
        if kind in ("add", "sub"):
            one, other = (self.factor(operand) for operand in operands)
            if one and other and abs(one[1]) == abs(other[1]):
                same = (kind == "add") == (one[1] == other[1])
                return self.times(self.make("add" if same else "sub", [one[0], other[0]], "float32"), one[1])
        if kind == "select_n" and operands[0].varying:
            no, yes = operands[1:]
            if is_zero(no) and (got := self.factor(yes)):
                return self.times(self.make("select_n", [operands[0], no, got[0]], "float32"), got[1])
        if kind == "sqrt" and operands[0].kind == "mul" and operands[0].varying:
            for x, uniform in (operands[0].operands, operands[0].operands[::-1]):
                if not uniform.varying:
                    roots = [self.make("sqrt", [each], "float32") for each in (x, uniform)]
                    return self.make("mul", roots, "float32")
        return None

    # ---------------------------------------------------------------------------------------------------- logistic

    def _residual(self, kind: str, operands: list[Node]) -> Node | None:
        """1 / (1 + exp(y)) - 1 as -1 / (1 + exp(-y)): one operation less, and no difference of near values."""
        if kind != "sub" or not is_constant(operands[1], 1):
            return None
        quotient = operands[0]
        if quotient.kind != "div" or not is_constant(quotient.operands[0], 1) or quotient.operands[1].kind != "add":
            return None
        one, power = sorted(quotient.operands[1].operands, key=lambda operand: operand.kind == "exp2")
        if not is_constant(one, 1) or power.kind != "exp2":
            return None
        turned = self.make("exp2", [self.make("neg", [power.operands[0]], "float32")], "float32")
        turned = self.make("div", [one, self.make("add", [one, turned], "float32")], "float32")
        return self.make("neg", [turned], "float32")

    def _power(self, kind: str, operands: list[Node]) -> Node | None:
        """exp(x) as 2^(x log2 e), with the factor in the weights that x is made of where it is a logit."""
        if kind != "exp" or not operands[0].varying:
            return None
        x = operands[0]
        bare = x.operands[0] if x.kind == "neg" else x
        scaled = self._bits_of(bare) or self.times(bare, LOG2E)
        if x.kind == "neg":
            scaled = self.make("neg", [scaled], "float32")
        return self.make("exp2", [scaled], "float32")

    def _bits_of(self, node: Node) -> Node | None:
        """A logit (head weights times activations, and a bias) times log2 e."""
        if node.kind in ("add", "sub"):
            parts = [bits for operand in node.operands if (bits := self._bits_of(operand)) is not None]
            return self.make(node.kind, parts, "float32") if len(parts) == 2 else None
        if node.kind == "mul":
            for activation, weight in (node.operands, node.operands[::-1]):
                if rectified(activation) is not None and (bits := self._weight_bits(weight)) is not None:
                    return self.make("mul", [activation, bits], "float32")
        return self._weight_bits(node)

    def _weight_bits(self, node: Node) -> Node | None:
        """A carried weight, or the difference of two (of a head with two logits), times log2 e."""
        if not is_weight(node):
            return None
        if node not in self._in_bits:
            self._in_bits[node] = self.make("bits", [node], "float32")  # no product, which would be taken apart again
        return self._in_bits[node]

    def _by_bits(self, kind: str, operands: list[Node]) -> Node | None:
        """A residual times a head's weight, by the scaled weight, so that one of the two need be kept while rows last."""
        if kind != "mul" or not all(operand.varying for operand in operands):
            return None
        for x, weight in (operands, operands[::-1]):
            if weight in self._in_bits and rectified(x) is None and x is not weight:
                return self.times(self.make("mul", [x, self._in_bits[weight]], "float32"), 1 / LOG2E)
        return None


def is_constant(node: Node, value: float) -> bool:
    """Whether a node is this number."""
    return node.kind == "constant" and bool(node.value == value)


def is_zero(node: Node) -> bool:
    """Whether a node is 0."""
    return is_constant(node, 0)


def is_weight(node: Node) -> bool:
    """Whether a node is a carried weight, the difference of two (of a head with two logits), or one in bits."""
    inner = node.operands if node.kind in ("sub", "bits") else (node,)
    return all(each.kind == "carry" for each in inner) or (node.kind == "bits" and is_weight(inner[0]))


def rectified(node: Node) -> Node | None:
    """x where a node is max(x, 0)."""
    if node.kind == "max":
        for x, zero in (node.operands, node.operands[::-1]):
            if is_zero(zero) and x.varying:
                return x
    return None


def averages_over_factors(graph: FoldingGraph, flow: Flow, size: int) -> list[Node]:
    """What a step makes of the carry, where an average c <- a x + b c of a constant a is kept as c / a: it begins with
    0, and nobody reads it but the next step."""
    after = list(flow.after)
    found: dict[int, tuple[Node, float, Node]] = {}
    for number in (lane for lane in flow.lanes if lane >= size):
        for grown, kept in (
            (after[number].operands, after[number].operands[::-1]) if after[number].kind == "add" else ()
        ):
            got = graph.factor(grown)
            if got and got[1] > 0 and kept.kind == "mul" and flow.carry[number] in kept.operands:
                (rate,) = [o for o in kept.operands if o is not flow.carry[number]] or [kept]
                if not rate.varying and is_zero(flow.begun[number]):
                    found[number] = (*got, rate)
    known = {flow.carry[number]: graph.times(flow.carry[number], scale) for number, (_, scale, _) in found.items()}
    inner = {}
    for number, (x, scale, rate) in found.items():
        kept = graph.make("mul", [flow.carry[number], rate], "float32")
        inner[number] = graph.make("add", [rebuilt(graph, x, known), kept], "float32")
        known[after[number]] = graph.times(inner[number], scale)
    return [inner[n] if n in inner else rebuilt(graph, node, known) for n, node in enumerate(after)]


def shared_reciprocals(graph: FoldingGraph, outputs: Sequence[Node]) -> list[Node]:
    """The same with one reciprocal for two denominators of an optimiser: 1 / a is b / (a b). Reciprocals are the slowest
    that a step has. Only for a root and what is added to it, which is far from the smallest numbers: no product of two is
    0. It overflows where a gradient is above 1e18 or so, where a network is lost anyway."""
    found: dict[Node, None] = {}
    stack = list(reversed(outputs))
    seen = set(stack)
    while stack:
        node = stack.pop()
        if node.kind == "div" and _is_root_and_more(node.operands[1]):
            found[node] = None
        new = [operand for operand in node.operands if operand not in seen]
        seen.update(new)
        stack.extend(new)
    known: dict[Node, Node] = {}
    quotients = list(found)
    for one, other in zip(quotients[::2], quotients[1::2], strict=False):
        product = graph.make("mul", [one.operands[1], other.operands[1]], "float32")
        both = graph.make("div", [one.operands[0], product], "float32")
        known[one] = graph.make("mul", [both, other.operands[1]], "float32")
        known[other] = graph.make("mul", [both, one.operands[1]], "float32")
    return [rebuilt(graph, node, known) for node in outputs]


def _is_root_and_more(node: Node) -> bool:
    """Whether a node is a root, perhaps with a uniform factor, and a constant that is not tiny."""
    if node.kind != "add":
        return False
    constants = [o for o in node.operands if o.kind == "constant" and o.value >= SMALLEST_ADDED]
    rest = [o for o in node.operands if o.kind != "constant"]
    if len(constants) != 1 or len(rest) != 1:
        return False
    parts = rest[0].operands if rest[0].kind == "mul" else (rest[0],)
    varying = [part for part in parts if part.varying]
    return len(varying) == 1 and varying[0].kind == "sqrt"


def rebuilt(graph: FoldingGraph, node: Node, known: dict[Node, Node]) -> Node:
    """A node with these in place of some that it is made of."""
    if node not in known:
        operands: Sequence[Node] = [rebuilt(graph, operand, known) for operand in node.operands]
        known[node] = graph.make(node.kind, operands, node.dtype) if operands else node
    return known[node]
