"""C source for a training step: a scalar jaxpr of elementwise operations as straight-line code on vectors of networks.

What is the same for all networks (the number of the step, what Adam's averages are divided by) is *uniform*: it becomes
scalar code that runs once a step. The rest runs on vectors, a network a lane, with the state of one vector of networks
in an array that stays in the first-level cache. Such code is bound by loads and stores, not by arithmetic, so the order
of operations is chosen to use values soon after they are made: a row of the truth table is taken from its inputs to its
share of every gradient before the next one begins. Sums are regrouped for that, and quotients by uniform values become
products; each changes a result by a rounding. NaN and infinities go through as IEEE has them, but a product in another order
overflows elsewhere: where Adam's second average is infinite, XLA's step is 0, and here the learning rate times the first one may be
infinite, too, and the network diverge. That takes learning rates of some 1e10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from ncsim.executors.scalarise import ScalariseError

C_TYPES = {"float32": "float", "int32": "int32_t", "uint32": "uint32_t", "bool": "int"}
_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", "xor": "^"}
_COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
#: Functions of one argument that the vector header has, and of the C library, which are called lane by lane.
_VECTOR_FUNCTIONS = frozenset({"sqrt", "exp", "abs", "neg"})
_LIBRARY = {"log": "logf", "tanh": "tanhf", "cbrt": "cbrtf", "expm1": "expm1f", "sin": "sinf", "cos": "cosf"}
_LIBRARY |= {"exp": "expf", "log1p": "log1pf", "sqrt": "sqrtf", "abs": "fabsf", "floor": "floorf", "ceil": "ceilf"}
_LIBRARY |= {"exp2": "exp2f", "erf": "erff", "sinh": "sinhf", "cosh": "coshf", "tan": "tanf"}


class Node:
    """A value: an operation on other values. `kind` is "constant", "given" (the same in every step), "carry" or an
    operation; `number` says which carry or given value; `value` is a constant's; `varying`: it differs by network;
    `changing`: uniform, and differs by step."""

    __slots__ = ("changing", "dtype", "kind", "number", "operands", "serial", "value", "varying")

    def __init__(self, kind: str, operands: tuple[Node, ...], dtype: str, number: int = -1, value: Any = None):
        self.kind, self.operands, self.dtype, self.number, self.value = kind, operands, dtype, number, value
        self.serial = -1
        self.varying: bool = any(operand.varying for operand in operands)
        self.changing: bool = not self.varying and any(operand.changing for operand in operands)


class Graph:
    """Makes nodes, each once, and simplifies as it goes."""

    def __init__(self) -> None:
        self._known: dict[Any, Node] = {}

    def leaf(self, kind: str, number: int, dtype: str, varying: bool) -> Node:
        node = Node(kind, (), dtype, number)
        node.varying = varying
        node.changing = kind == "carry" and not varying
        return self._kept((kind, number, dtype, varying), node)

    def constant(self, value: Any, dtype: str) -> Node:
        value = np.asarray(value, dtype)[()]
        return self._kept(("constant", value.tobytes(), dtype), Node("constant", (), dtype, value=value))

    def make(self, kind: str, operands: Sequence[Node], dtype: str) -> Node:
        """The node of an operation, or a simpler one of the same value."""
        simpler = self._simpler(kind, list(operands), dtype)
        if simpler is not None:
            return simpler
        if kind in ("add", "mul"):
            operands = sorted(operands, key=lambda operand: operand.serial)
        key = (kind, *(operand.serial for operand in operands), dtype)
        return self._kept(key, Node(kind, tuple(operands), dtype))

    def _kept(self, key: Any, node: Node) -> Node:
        if key not in self._known:
            node.serial = len(self._known)  # an order that is the same in every process
            self._known[key] = node
        return self._known[key]

    def _simpler(self, kind: str, operands: list[Node], dtype: str) -> Node | None:
        if dtype != "float32":
            return None
        one = self.constant(1, dtype)
        if kind == "add":
            for x, y in (operands, operands[::-1]):
                if _is(y, 0):
                    return x
        if kind == "mul":
            for x, y in (operands, operands[::-1]):
                if _is(y, 1):
                    return x
                if _is(y, -1) and x.varying:
                    return self.make("neg", [x], dtype)
                if x.varying and not y.varying:
                    moved = self._scaled(x, y)
                    if moved is not None:
                        return moved
        if kind == "div" and operands[0].varying and not operands[1].varying:
            return self.make("mul", [operands[0], self.make("div", [one, operands[1]], dtype)], dtype)
        if kind == "div" and operands[1].varying and operands[0] is not one:
            # A product with a reciprocal, so that uniform factors gather in one.
            return self.make("mul", [operands[0], self.make("div", [one, operands[1]], dtype)], dtype)
        return None

    def _scaled(self, x: Node, factor: Node) -> Node | None:
        """`factor * x` for a uniform factor, where it can be put into what x is made of."""
        if x.kind == "mul":
            for y, z in (x.operands, x.operands[::-1]):
                if not y.varying:
                    return self.make("mul", [z, self.make("mul", [y, factor], "float32")], "float32")
                if y.kind == "mul" and not all(operand.varying for operand in y.operands):
                    return self.make("mul", [self.make("mul", [y, factor], "float32"), z], "float32")
        exact = factor.kind == "constant" and abs(np.frexp(factor.value)[0]) == 0.5  # a power of two rounds nothing,
        if exact and x.kind in ("add", "sub") and not all(operand.varying for operand in x.operands):
            # and a multiplication before an addition is free.
            return self.make(x.kind, [self.make("mul", [y, factor], "float32") for y in x.operands], "float32")
        return None


def _is(node: Node, value: float) -> bool:
    return node.kind == "constant" and bool(node.value == value)


def build(graph: Graph, closed: ClosedJaxpr, inputs: Sequence[Node]) -> list[Node]:
    """The outputs of a jaxpr of scalars, as nodes.

    Raises:
        ScalariseError: an operation that there is no C for, by name.
    """
    values: dict[Any, Node] = {}
    for variable, constant in zip(closed.jaxpr.constvars, closed.consts, strict=True):
        values[variable] = graph.constant(constant, str(np.asarray(constant).dtype))
    values.update(zip(closed.jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Node:
        return graph.constant(atom.val, _dtype(atom)) if isinstance(atom, Literal) else values[atom]

    for equation in closed.jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        if equation.primitive.name in ("jit", "pjit"):  # jnp.where, inside what scalarise writes out
            results = build(graph, equation.params["jaxpr"], operands)
            values.update(zip(equation.outvars, results, strict=True))
            continue
        variable = equation.outvars[0]
        dtype = _dtype(variable)
        values[variable] = _operation(graph, equation.primitive.name, operands, equation.params, dtype)
    return [read(atom) for atom in closed.jaxpr.outvars]


def _dtype(atom: Any) -> str:
    return str(atom.aval.dtype)


def _operation(graph: Graph, name: str, operands: list[Node], parameters: dict[str, Any], dtype: str) -> Node:
    if dtype not in C_TYPES:
        raise ScalariseError(f"the type {dtype} has no C here")
    if name in ("copy", "broadcast_in_dim", "reshape", "optimization_barrier"):
        return operands[0]
    if name in ("add_any", "square", "integer_pow", "rsqrt", "logistic", "clamp", "is_finite"):
        return _expanded(graph, name, operands, parameters, dtype)
    if name == "convert_element_type":
        return operands[0] if operands[0].dtype == dtype else graph.make("convert", operands, dtype)
    known = {"add", "sub", "mul", "div", "max", "min", "neg", "and", "or", "xor", "not", "select_n", "pow"}
    if name not in known and name not in _COMPARISONS and name not in _LIBRARY:
        raise ScalariseError(f"the operation {name!r} has no C in the native executor")
    result = graph.make(name, operands, dtype)
    if result.varying and dtype not in ("float32", "bool"):
        raise ScalariseError(f"{name!r} on {dtype} that differs between networks has no C in the native executor")
    return result


def _expanded(graph: Graph, name: str, operands: list[Node], parameters: dict[str, Any], dtype: str) -> Node:
    x = operands[0]
    one = graph.constant(1, dtype)
    if name == "add_any":
        return graph.make("add", operands, dtype)
    if name == "clamp":
        return graph.make("min", [operands[2], graph.make("max", [x, operands[1]], dtype)], dtype)
    if name == "is_finite":
        return graph.make("lt", [graph.make("abs", [x], x.dtype), graph.constant(np.inf, x.dtype)], dtype)
    if name == "rsqrt":
        return graph.make("div", [one, graph.make("sqrt", [x], dtype)], dtype)
    if name == "logistic":
        power = graph.make("exp", [graph.make("neg", [x], dtype)], dtype)
        return graph.make("div", [one, graph.make("add", [one, power], dtype)], dtype)
    exponent = 2 if name == "square" else parameters["y"]
    result = one
    for _ in range(abs(exponent)):
        result = graph.make("mul", [result, x], dtype)
    return graph.make("div", [one, result], dtype) if exponent < 0 else result


def literal(node: Node) -> str:
    """A constant in C."""
    if node.dtype == "float32":
        value = float(node.value)
        if np.isfinite(value):
            return f"{value.hex()}f"
        return "NAN" if value != value else ("INFINITY" if value > 0 else "-INFINITY")
    return str(int(node.value))


def scalar_expression(node: Node, name: Callable[[Node], str]) -> str:
    """A uniform operation in C."""
    given = [name(operand) for operand in node.operands]
    kind, floating = node.kind, node.operands[0].dtype == "float32"
    if kind in ("add", "sub", "mul", "div", "and", "or", "xor"):
        return f"{given[0]} {_SIGNS[kind]} {given[1]}"
    if kind in _COMPARISONS:
        return f"{given[0]} {_COMPARISONS[kind]} {given[1]}"
    if kind in ("max", "min"):
        sign = ">" if kind == "max" else "<"
        return f"({given[0]} {sign} {given[1]} || {given[0]} != {given[0]}) ? {given[0]} : {given[1]}"
    if kind == "select_n":
        return f"{given[0]} ? {given[2]} : {given[1]}"
    if kind == "convert":
        return f"({C_TYPES[node.dtype]}){given[0]}" + (" != 0" if node.dtype == "bool" else "")
    if kind == "neg":
        return f"-{given[0]}"
    if kind == "not":
        return f"!{given[0]}" if node.dtype == "bool" else f"~{given[0]}"
    if kind == "pow" and floating:
        # The exponent, often a whole number, has the base's type in C.
        return f"powf({given[0]}, (float){given[1]})"
    if kind in _LIBRARY and floating:
        return f"{_LIBRARY[kind]}({given[0]})"
    raise ScalariseError(f"the operation {kind!r} on {node.dtype} has no C in the native executor")


def vector_expression(node: Node, name: Callable[[Node], str], scalar: Callable[[Node], str]) -> str:
    """An operation on vectors in C; `name` gives a vector (or mask) for uniform operands too, `scalar` the scalar."""
    given = [name(operand) for operand in node.operands]
    kind = node.kind
    if kind in ("add", "sub", "mul"):
        return f"{given[0]} {_SIGNS[kind]} {given[1]}"
    if kind == "div":
        return f"reciprocal({given[1]})"
    if kind in _COMPARISONS:
        if node.operands[0].dtype != "float32":
            raise ScalariseError(f"{kind!r} on {node.operands[0].dtype} has no C in the native executor")
        return f"is_{kind}({given[0]}, {given[1]})"
    if kind in ("max", "min"):
        # The processor's gives its second operand where either is NaN: right where the first is a number.
        first, second = node.operands
        if second.kind == "constant":
            given.reverse()
        return f"{kind}{'imum' if 'constant' in (first.kind, second.kind) else '_of'}({given[0]}, {given[1]})"
    if kind == "select_n":
        if node.dtype != "float32":
            raise ScalariseError("a choice between conditions has no C in the native executor")
        if not node.operands[0].varying:
            return f"{scalar(node.operands[0])} ? {given[2]} : {given[1]}"
        if _is(node.operands[1], 0):
            return f"where({given[0]}, {given[2]})"
        if _is(node.operands[2], 0):
            return f"where(mask_not({given[0]}), {given[1]})"
        return f"choose({given[0]}, {given[2]}, {given[1]})"
    if kind == "convert" and node.dtype == "float32" and node.operands[0].dtype == "bool":
        return f"where({given[0]}, splat(1.0f))"
    if kind in ("and", "or", "xor", "not") and node.dtype == "bool":
        return f"mask_{kind}({', '.join(given)})"
    if kind in _VECTOR_FUNCTIONS:
        return f"v{kind}({given[0]})"
    if kind in _LIBRARY:
        return f"by_lane({_LIBRARY[kind]}, {given[0]})"
    raise ScalariseError(f"the operation {kind!r} on {node.dtype} has no C in the native executor")
