"""A C file that draws, trains and records whole blocks of members, with the bits that XLA gives on the same processor.

Random bits are JAX's (threefry2x32). What is recorded is the jaxpr of `ncsim.training.observation.record`, scalarised, in
XLA's order: a product that one sum alone uses is a multiply-add with it, as LLVM makes of XLA's code, and `exp` and
`log1p` are XLA's polynomials. Nothing else is contracted or regrouped. That it comes to XLA's bits is tried where the code
is built (`whole.py`), since another processor or version may have others.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from ncsim.executors.native.c_template import HEADER, call
from ncsim.executors.native.c_whole_template import FUNCTIONS, LOOPS, START
from ncsim.executors.scalarise import ScalariseError

_BINARY = {"mul": "*", "sub": "-", "add": "+"}
_COMPARED = ("lt", "gt", "ge", "eq", "ne")
_OF_MASKS = {"and": "mask_and", "or": "mask_or", "not": "mask_not"}
_FUNCTIONS = {"max": "greatest", "min": "least", "exp": "xla_exp", "log1p": "xla_log1p", "abs": "vabs"}
_NO_NUMBER = {"inf": "INFINITY", "-inf": "-INFINITY", "nan": "NAN"}
_SAME = ("copy", "optimization_barrier", "broadcast_in_dim", "reshape", "stop_gradient")


class _Value(NamedTuple):
    """An operation on other values, by their numbers; `mask`: it is true or false."""

    kind: str
    operands: tuple[int, ...]
    mask: bool
    constant: float = 0.0


class Exact:
    """A jaxpr of scalars as C, an operation a line, each once."""

    def __init__(self, closed: ClosedJaxpr, inputs: int) -> None:
        self.values: list[_Value] = []
        self._known: dict[_Value, int] = {}
        given = [self._kept(_Value("input", (number,), False)) for number in range(inputs)]
        self.outputs = self._build(closed, given)

    def _kept(self, value: _Value) -> int:
        if value not in self._known:
            self._known[value] = len(self.values)
            self.values.append(value)
        return self._known[value]

    def _constant(self, value: Any) -> int:
        value = np.asarray(value)
        return self._kept(_Value("constant", (), value.dtype == bool, float(np.float32(value))))

    def _build(self, closed: ClosedJaxpr, inputs: list[int]) -> list[int]:
        there: dict[Any, int] = dict(zip(closed.jaxpr.invars, inputs, strict=True))
        there |= {
            each: self._constant(value) for each, value in zip(closed.jaxpr.constvars, closed.consts, strict=True)
        }

        def read(atom: Any) -> int:
            return self._constant(atom.val) if isinstance(atom, Literal) else there[atom]

        for equation in closed.jaxpr.eqns:
            operands = [read(atom) for atom in equation.invars]
            name = equation.primitive.name
            if name in ("jit", "pjit"):
                found = self._build(equation.params["jaxpr"], operands)
            else:
                variable: Any = equation.outvars[0]
                found = [self._operation(name, operands, equation.params, str(variable.aval.dtype))]
            there.update(zip(equation.outvars, found, strict=True))
        return [read(atom) for atom in closed.jaxpr.outvars]

    def _operation(self, name: str, operands: list[int], parameters: dict[str, Any], dtype: str) -> int:
        mask = dtype == "bool"
        if name in _SAME or (name == "convert_element_type" and self.values[operands[0]].mask == mask):
            return operands[0]
        if name == "integer_pow" and parameters["y"] == 2:
            name, operands = "mul", operands * 2
        if name == "div" and self.values[operands[1]].kind == "constant":  # as XLA divides by a constant
            inverse = np.float32(1) / np.float32(self.values[operands[1]].constant)
            name, operands = "mul", [operands[0], self._constant(inverse)]
        known = {*_BINARY, *_COMPARED, *_OF_MASKS, *_FUNCTIONS, "neg", "select_n", "is_finite", "convert_element_type"}
        if name not in known or (name in _OF_MASKS and not mask) or (name == "convert_element_type" and mask):
            raise ScalariseError(f"the operation {name!r} has no C for what is recorded")
        return self._kept(_Value(name, tuple(operands), mask))

    def lines(self, result: str) -> list[str]:
        """C statements that put the outputs into an array of vectors; input n is `x[n]`."""
        uses = Counter(operand for value in self.values for operand in value.operands if value.kind != "input")
        uses.update(self.outputs)
        # A product that goes into one sum is written there, too; the compiler drops what nobody uses.
        lines = [
            f"const {'mask' if value.mask else 'vec'} v{number} = {self._expression(number, uses)};"
            for number, value in enumerate(self.values)
            if uses[number]
        ]
        for place, number in enumerate(self.outputs):
            name = f"where(v{number}, splat(1.0f))" if self.values[number].mask else f"v{number}"
            lines.append(f"{result}[{place}] = {name};")
        return lines

    def _expression(self, number: int, uses: Counter[int]) -> str:
        value = self.values[number]
        kind, names = value.kind, [f"v{operand}" for operand in value.operands]
        if kind == "input":
            return f"x[{value.operands[0]}]"
        if kind == "constant":
            of = value.constant
            if value.mask:
                return f"mask_splat({int(of)})"
            return f"splat({of.hex()}f)" if np.isfinite(of) else f"splat({_NO_NUMBER[str(of)]})"
        if kind in ("add", "sub"):
            for place, other in ((0, 1), (1, 0)):
                product = self.values[value.operands[place]]
                if product.kind == "mul" and uses[value.operands[place]] == 1:
                    factors = ", ".join(f"v{operand}" for operand in product.operands)
                    how = "multiply_add" if kind == "add" else ("multiply_less", "less_product")[place]
                    return f"{how}({factors}, {names[other]})"
        if kind in _BINARY:
            return f"{names[0]} {_BINARY[kind]} {names[1]}"
        if kind in _COMPARED:
            if self.values[value.operands[0]].mask:
                both = f"mask_xor({names[0]}, {names[1]})"
                return {"eq": f"mask_not({both})", "ne": both}[kind]
            return f"is_{kind}({names[0]}, {names[1]})"
        if kind == "select_n":
            return f"choose({names[0]}, {names[2]}, {names[1]})"
        if kind == "is_finite":
            return f"is_lt(vabs({names[0]}), splat(INFINITY))"
        if kind == "convert_element_type":
            return f"where({names[0]}, splat(1.0f))"
        if kind == "neg":
            return f"-{names[0]}"
        return f"{(_OF_MASKS | _FUNCTIONS)[kind]}({', '.join(names)})"


def source(scale: np.ndarray, common: bool, given: int, recorded: Exact) -> str:
    """The C file.

    Args:
        scale: of each parameter's uniform variate, float32 [P].
        common: whether contexts start alike.
        given: how many targets a context has.
        recorded: what is recorded after the training.
    """
    loops = LOOPS.format(
        size=len(scale),
        given=given,
        scale=", ".join(f"{float(each).hex()}f" for each in scale),
        common=int(common),
        recorded="\n".join(f"    {line}" for line in recorded.lines("out")),
    )
    said = call("What XLA calls: see whole.py.", "    const int failed = whole(frame);")
    return START + HEADER + FUNCTIONS + loops + said
