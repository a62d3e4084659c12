"""A training step as operations on lane arrays, in an order that keeps few values alive: what a kernel on registers runs.

The graph is the one that C is made of (`native/c_expressions.py`), with its simplifications: what is the same for all
networks is computed outside the kernel and given to it as scalars, and sums take their terms as those come to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ncsim.executors.native.c_expressions import C_TYPES, Graph, Node, build
from ncsim.executors.native.c_program import Block, Step, needed_uniforms
from ncsim.executors.scalarise import ScalariseError

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "and": jax.lax.bitwise_and,
    "or": jax.lax.bitwise_or,
    "xor": jax.lax.bitwise_xor,
    "not": jax.lax.bitwise_not,
}


class LaneProgram:
    """A step, divided in what is uniform and what differs by network.

    Attributes:
        lanes: places in the carry, as a list of scalars, of what differs by network; the vector comes first.
        fixed, rows: how many uniform values the networks' part reads that stay, and that change from step to step.
    """

    def __init__(self, program: Step) -> None:
        dtypes = [str(variable.aval.dtype) for variable in program.step.jaxpr.outvars]
        graph = Graph()
        self._given = [graph.leaf("given", number, "float32", False) for number in range(program.given)]
        vector = [graph.leaf("carry", number, "float32", True) for number in range(program.size)]
        self._vector = vector
        self._begun = build(graph, program.begin, [*vector, *self._given])
        varying = [number < program.size or node.varying for number, node in enumerate(self._begun)]
        while True:  # what a step makes different by network is so from the beginning
            self._carry = [graph.leaf("carry", n, dtypes[n], differs) for n, differs in enumerate(varying)]
            self._after = build(graph, program.step, [*self._carry, *self._given])
            grown = [differs or node.varying for differs, node in zip(varying, self._after, strict=True)]
            if grown == varying:
                break
            varying = grown
        self.lanes = [number for number, differs in enumerate(varying) if differs]
        if any(dtypes[number] != "float32" for number in self.lanes):
            raise ScalariseError(
                "optimiser state by network that is no float32 cannot run inside a kernel on registers"
            )
        self._scalars = [number for number, differs in enumerate(varying) if not differs]
        uniforms = needed_uniforms(self._after[number] for number in self.lanes)
        self._fixed = [node for node in uniforms if not node.changing]
        self._changing = [node for node in uniforms if node.changing]
        self.fixed, self.rows = len(self._fixed), len(self._changing)

    def begin(self, vector: jax.Array, given: Sequence[jax.Array]) -> tuple[list[jax.Array], jax.Array, list[Any]]:
        """From parameters [P, N]: what differs by network, each [N]; the values that stay [F]; the uniform carry."""
        known = dict(zip(self._given, given, strict=True))
        uniforms = _values(needed_uniforms(self._begun[number] for number in self.lanes), known)
        state = {node: vector[number] for number, node in enumerate(self._vector)}
        outputs = [(place, self._begun[number]) for place, number in enumerate(self.lanes)]
        lanes = _Lanes(outputs, uniforms, state).results
        scalars = [self._begun[number] for number in self._scalars]
        fixed = _values(self._fixed, known)
        at = _values(scalars, known)
        return lanes, _as_row([fixed[node] for node in self._fixed]), [at[node] for node in scalars]

    def advance(self, carry: Sequence[Any], given: Sequence[jax.Array]) -> list[Any]:
        """The uniform carry after a step."""
        wanted = [self._after[number] for number in self._scalars]
        values = _values(wanted, self._known(carry, given))
        return [jnp.asarray(values[node], node.dtype) for node in wanted]

    def row(self, carry: Sequence[Any], given: Sequence[jax.Array]) -> jax.Array:
        """The uniform values of a step that change, [K] float32."""
        values = _values(self._changing, self._known(carry, given))
        return _as_row([values[node] for node in self._changing])

    def step(self, lanes: Sequence[Any], fixed: Callable[[int], Any], row: Callable[[int], Any]) -> list[Any]:
        """What differs by network after a step; `fixed` and `row` read a uniform value by its number."""
        inputs: dict[Node, Any] = {}
        for read, nodes in ((fixed, self._fixed), (row, self._changing)):
            inputs |= {node: _of_type(read(number), node.dtype) for number, node in enumerate(nodes)}
        state = {self._carry[number]: lanes[place] for place, number in enumerate(self.lanes)}
        outputs = [(place, self._after[number]) for place, number in enumerate(self.lanes)]
        return _Lanes(outputs, inputs, state).results

    def _known(self, carry: Sequence[Any], given: Sequence[jax.Array]) -> dict[Node, Any]:
        known = dict(zip(self._given, given, strict=True))
        return known | {self._carry[number]: value for number, value in zip(self._scalars, carry, strict=True)}


class _Lanes(Block):
    """The order of `Block`, with lane arrays in place of lines of C."""

    def __init__(self, outputs: Sequence[tuple[int, Node]], inputs: dict[Node, Any], state: dict[Node, Any]) -> None:
        self._shape = jnp.shape(next(iter(state.values())))
        self._values: dict[Node, Any] = dict(state)
        self._uniforms = inputs
        self.results: list[Any] = [None] * len(outputs)
        super().__init__(outputs, {})

    def _order(self) -> None:
        outputs, self._outputs = self._outputs, []
        super()._order()  # sums of many terms
        while outputs:
            place = min(range(len(outputs)), key=lambda number: self._missing(outputs[number][1], 10**9))
            slot, node = outputs.pop(place)
            self.results[slot] = self._lane(node)

    def _add_term(self, total: Node, term: tuple[str, Node]) -> None:
        self._pending[total].remove(term)
        sign, value = term[0], self._lane(term[1])
        before = self._values.get(total)
        self._values[total] = _signed(before, sign, value)
        if not self._pending[total]:
            del self._pending[total]
            self._names[total] = "made"

    def _lane(self, node: Node) -> Any:
        if not node.varying:
            return jnp.broadcast_to(jnp.asarray(self._uniform(node), node.dtype), self._shape)
        while node in self._pending:
            self._add_term(node, self._pending[node][0])
        if node not in self._names and node.kind != "carry":
            if node in self._sums:
                value = None
                for sign, term in self._sums[node]:
                    value = _signed(value, sign, self._lane(term))
            else:
                value = _operation(node, [self._lane(operand) for operand in node.operands])
            self._values[node], self._names[node] = value, "made"
        return self._values[node]

    def _uniform(self, node: Node) -> Any:
        return node.value if node.kind == "constant" else self._uniforms[node]


def _signed(before: Any, sign: str, value: Any) -> Any:
    if before is None:
        return -value if sign == "-" else value
    return before - value if sign == "-" else before + value


def _values(wanted: Sequence[Node], known: dict[Node, Any]) -> dict[Node, Any]:
    """Uniform values, from those that are known."""
    made = dict(known)

    def value(node: Node) -> Any:
        if node.kind == "constant":
            return jnp.asarray(node.value, node.dtype)
        if node not in made:
            made[node] = _operation(node, [value(operand) for operand in node.operands])
        return made[node]

    return {node: value(node) for node in wanted}


def _operation(node: Node, operands: list[Any]) -> Any:
    if node.kind == "convert":
        return _of_type(operands[0], node.dtype)
    if node.kind == "pow":  # the exponent may be a whole number
        return jax.lax.pow(operands[0], operands[1].astype(operands[0].dtype))
    return _OPERATIONS.get(node.kind, getattr(jax.lax, node.kind, None))(*operands)  # type: ignore[misc]


def _of_type(value: Any, dtype: str) -> Any:
    assert dtype in C_TYPES, dtype
    return value if value.dtype == dtype else (value != 0 if dtype == "bool" else value.astype(dtype))


def _as_row(values: Sequence[Any]) -> jax.Array:
    return jnp.stack([jnp.asarray(value, jnp.float32) for value in values]) if values else jnp.zeros(1, jnp.float32)
