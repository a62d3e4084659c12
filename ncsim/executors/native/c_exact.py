"""A jaxpr of scalars as C with the bits that XLA gives on the same processor.

Operations are in XLA's order: a product that one sum alone uses is a multiply-add with it, as LLVM makes of XLA's code, and `exp`
and `log1p` are XLA's polynomials. Nothing else is contracted or regrouped. That it comes to XLA's bits is tried where the code
is built (`trial.py`), since another processor or version may have others.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from ncsim.executors.scalarise import ScalariseError

#: No contraction but what is written: first in the file, so that functions can be inlined in one another.
START = """/* Made by ncsim from what it records. */
#if defined(__clang__)
#pragma clang fp contract(off)
#else
#pragma GCC optimize("-ffp-contract=off")
#endif
"""

#: XLA's functions.
_FUNCTIONS_OF_XLA = r"""
typedef uint32_t bits __attribute__((vector_size(4 * LANES)));
#if LANES == 16
INLINE vec multiply_add(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vec multiply_less(vec a, vec b, vec c) { return _mm512_fmsub_ps(a, b, c); }
INLINE vec less_product(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }
INLINE vec whole_below(vec x) { return _mm512_roundscale_ps(x, 9); }
INLINE vec from_whole(bits x) { return _mm512_cvtepi32_ps((__m512i)x); }
INLINE bits to_whole(vec x) { return (bits)_mm512_cvttps_epi32(x); }
#else
INLINE vec multiply_add(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vec multiply_less(vec a, vec b, vec c) { return _mm256_fmsub_ps(a, b, c); }
INLINE vec less_product(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }
INLINE vec whole_below(vec x) { return _mm256_round_ps(x, 9); }
INLINE vec from_whole(bits x) { return _mm256_cvtepi32_ps((__m256i)x); }
INLINE bits to_whole(vec x) { return (bits)_mm256_cvttps_epi32(x); }
#endif
/* As XLA has them: NaN where either is, and -0 below 0. */
#if LANES == 16
INLINE mask unordered(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q); }
INLINE vec greatest(vec a, vec b) { return _mm512_mask_add_ps(_mm512_range_ps(a, b, 5), unordered(a, b), a, b); }
INLINE vec least(vec a, vec b) { return _mm512_mask_add_ps(_mm512_range_ps(a, b, 4), unordered(a, b), a, b); }
#else
INLINE vec greatest(vec a, vec b)
{
    const vec x = choose(is_eq(a, b), (vec)((bits)a & (bits)b), maximum(a, b));
    return choose(is_ne(a, a), a, x);
}
INLINE vec least(vec a, vec b)
{
    const vec x = choose(is_eq(a, b), (vec)((bits)a | (bits)b), minimum(a, b));
    return choose(is_ne(a, a), a, x);
}
#endif
/* Limits that are not 0; NaN stays. The processor gives the second where one is NaN. */
INLINE vec between(vec low, vec x, vec high) { return minimum(high, maximum(low, x)); }
INLINE vec xla_exp(vec x)
{
    x = between(splat(-0x1.5f3334p6f), x, splat(0x1.633334p6f)); /* -87.8, 88.8 */
    vec n = whole_below(multiply_add(x, splat(0x1.715476p0f), splat(0.5f)));
    n = between(splat(-127.0f), n, splat(127.0f));
    x = less_product(n, splat(LN2_UPPERf), x);
    x = less_product(n, splat(LN2_LOWERf), x);
    vec p = multiply_add(splat(0x1.a0d2cep-13f), x, splat(0x1.6e879cp-10f));
    p = multiply_add(p, x, splat(0x1.11121p-7f));
    p = multiply_add(p, x, splat(0x1.555382p-5f));
    p = multiply_add(p, x, splat(0x1.555554p-3f));
    p = multiply_add(p, x, splat(0.5f));
    p = multiply_add(p, x * x, x) + splat(1.0f);
    return p * (vec)((to_whole(n) << 23) + 0x3f800000u);
}
/* Of a number above 0, or NaN. */
INLINE vec xla_log(vec number)
{
    const vec x = choose(is_gt(number, splat(0x1p-126f)), number, splat(0x1p-126f));
    const vec m = (vec)(((bits)x & 0x807fffffu) | 0x3f000000u);
    const mask small = is_lt(m, splat(0x1.6a09e6p-1f));
    vec e = from_whole(((bits)x >> 23) - 127u) + splat(1.0f);
    e = e - where(small, splat(1.0f));
    const vec t = (m + splat(-1.0f)) + where(small, m), t2 = t * t, t3 = t2 * t;
    vec a = multiply_add(t, splat(0x1.204376p-4f), splat(-0x1.d7a37p-4f));
    vec b = multiply_add(t, splat(-0x1.fcba9ep-4f), splat(0x1.23d37ep-3f));
    vec c = multiply_add(t, splat(0x1.999d58p-3f), splat(-0x1.fffff8p-3f));
    a = multiply_add(a, t, splat(0x1.de4a34p-4f));
    b = multiply_add(b, t, splat(-0x1.555cap-3f));
    c = multiply_add(c, t, splat(0x1.555554p-2f));
    c = multiply_add(multiply_add(a, t3, b), t3, c);
    c = multiply_add(c, t3, e * splat(-0x1.bd0106p-13f));
    c = multiply_add(e, splat(0x1.63p-1f), less_product(t2, splat(0.5f), t) + c);
    return choose(is_ne(number, number), number, c);
}
INLINE vec xla_log1p(vec x)
{
    const vec zero = x * splat(0.0f), x2 = x * x;
    vec q = multiply_add(zero + splat(1.0f), x, splat(0x1.e2035ap3f));
    q = multiply_add(q, x, splat(0x1.4c30b6p6f));
    q = multiply_add(q, x, splat(0x1.bb865ap7f));
    q = multiply_add(q, x, splat(0x1.351946p8f));
    q = multiply_add(q, x, splat(0x1.b0db14p7f));
    q = multiply_add(q, x, splat(0x1.e0f304p5f));
    vec p = multiply_add(zero + splat(COEFFICIENTf), x, splat(0x1.fe818ap-2f));
    p = multiply_add(p, x, splat(0x1.a509f4p2f));
    p = multiply_add(p, x, splat(0x1.de9738p4f));
    p = multiply_add(p, x, splat(0x1.e798ecp5f));
    p = multiply_add(p, x, splat(0x1.c8e75ap5f));
    p = multiply_add(p, x, splat(0x1.40a202p4f));
    const vec near = x + multiply_add(x2, splat(-0.5f), (x * x2) * (p / q));
    return choose(is_lt(vabs(x), splat(0x1.a8279ap-2f)), near, xla_log(x + splat(1.0f)));
}
""".replace("COEFFICIENT", f"{float(np.float32(4.527e-05)).hex()}")

#: The two parts of ln 2 that `exp` takes whole multiples of: of jaxlib 0.10, and from 0.11 on. About one result in 10^3 to 10^5 tells
#: them apart, by its last bit. This number does.
LN2 = ("0x1.63p-1", "-0x1.bd0106p-13"), ("0x1.62e4p-1", "0x1.7f7d1cp-20")
_TELLS, _BITS_OF_FIRST = -30.055319, 0x29C75FFE


@functools.lru_cache(maxsize=1)
def functions() -> str:
    """XLA's functions in C, as the XLA that is here has them; which way it takes ln 2 it is asked."""
    found = np.asarray(jax.jit(jnp.exp)(np.full(64, _TELLS, np.float32))).view(np.uint32)
    upper, lower = LN2[int(found[0] != _BITS_OF_FIRST)]
    return _FUNCTIONS_OF_XLA.replace("LN2_UPPER", upper).replace("LN2_LOWER", lower)


@functools.lru_cache(maxsize=1)
def makes_one_factor() -> bool:
    """Whether the XLA that is here makes one constant of two that a number is multiplied by: before jaxlib 0.12 it does."""
    return bool(np.isfinite(jax.jit(lambda number: 2 * number * 0.25)(np.full(64, 3e38, np.float32))).all())


_BINARY = {"mul": "*", "sub": "-", "add": "+", "div": "/"}
_COMPARED = ("lt", "le", "gt", "ge", "eq", "ne")
_OF_MASKS = {"and": "mask_and", "or": "mask_or", "xor": "mask_xor", "not": "mask_not"}
_FUNCTIONS = {"max": "greatest", "min": "least", "exp": "xla_exp", "log1p": "xla_log1p", "sqrt": "vsqrt", "abs": "vabs"}
#: The terms of so long a sum are stored by XLA before they are added, so that no product is contracted with its sum.
MANY_TERMS = 16
#: Functions of many operations.
_LONG = ("exp", "log1p")
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
        self._in_long_sums = self._found_in_long_sums()

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
        if name == "square":
            name, operands = "mul", operands * 2
        if name == "div" and self.values[operands[1]].kind == "constant":  # as XLA divides by a constant
            inverse = np.float32(1) / np.float32(self.values[operands[1]].constant)
            name, operands = "mul", [operands[0], self._constant(inverse)]
        if name == "mul" and makes_one_factor() and (folded := self._one_factor(operands)) is not None:
            operands = folded
        if name == "clamp":
            raised = self._operation("max", [operands[1], operands[0]], {}, dtype)
            return self._operation("min", [raised, operands[2]], {}, dtype)
        known = {*_BINARY, *_COMPARED, *_OF_MASKS, *_FUNCTIONS, "neg", "select_n", "is_finite", "convert_element_type"}
        if name not in known or (name in _OF_MASKS and not mask):
            raise ScalariseError(f"the operation {name!r} has no C for what is recorded")
        return self._kept(_Value(name, tuple(operands), mask))

    def _one_factor(self, operands: list[int]) -> list[int] | None:
        """Of a product of two numbers with two constants, what XLA makes: one constant, with which 2 x / 4 does not overflow where
        x / 2 does not. None of any other product."""
        (one, factor), (other, constant) = map(self._with_constant, operands)
        if factor is None or constant is None:
            return None
        both = self._constant(np.float32(factor) * np.float32(constant))
        if one is not None and other is not None:
            return [self._kept(_Value("mul", (one, other), False)), both]
        alone = one if other is None else other
        return None if alone is None else [alone, both]

    def _with_constant(self, number: int) -> tuple[int | None, float | None]:
        """What a value is a constant times of, and the constant; a constant alone is of nothing."""
        value = self.values[number]
        if value.kind == "constant":
            return None, value.constant
        if value.kind == "mul":
            for factor, constant in (value.operands, value.operands[::-1]):
                if self.values[constant].kind == "constant":
                    return factor, self.values[constant].constant
        return number, None

    def _found_in_long_sums(self) -> set[int]:
        """The additions of sums of products, one after the other, that have MANY_TERMS or more."""
        terms: dict[int, int] = {}
        for number, value in enumerate(self.values):
            if value.kind == "add" and self.values[value.operands[1]].kind == "mul":
                terms[number] = terms.get(value.operands[0], 1) + 1
        found: set[int] = set()
        for number in reversed(terms):
            if terms[number] >= MANY_TERMS or number in found:
                found |= {number, self.values[number].operands[0]}
        return found

    def lines(self, result: str) -> list[str]:
        """C statements that put the outputs into an array of vectors; input n is `x[n]`."""
        uses = Counter(operand for value in self.values for operand in value.operands if value.kind != "input")
        uses.update(self.outputs)
        # A number that divides several is inverted once, as XLA does where it is broadcast.
        divisors = Counter(value.operands[1] for value in self.values if value.kind == "div")
        lines = []
        for level in self._levels():
            for number in level:
                value = self.values[number]
                # A product that goes into one sum is written there.
                if uses[number] and value.kind not in _LONG:
                    kind = "mask" if value.mask else "vec"
                    lines.append(f"const {kind} v{number} = {self._expression(number, uses, divisors)};")
                if divisors[number] > 1:
                    lines.append(f"const vec r{number} = splat(1.0f) / v{number};")
            for name in _LONG:
                lines += self._together(name, [number for number in level if self.values[number].kind == name])
        for place, number in enumerate(self.outputs):
            name = f"where(v{number}, splat(1.0f))" if self.values[number].mask else f"v{number}"
            lines.append(f"{result}[{place}] = {name};")
        return lines

    def _levels(self) -> list[list[int]]:
        """The values in an order in which calls of one function come together: by how many of `_LONG` come before them."""
        before: list[int] = []
        for value in self.values:
            operands = () if value.kind == "input" else value.operands
            before.append(max((before[each] + (self.values[each].kind in _LONG) for each in operands), default=0))
        return [[n for n, found in enumerate(before) if found == level] for level in range(max(before) + 1)]

    def _together(self, name: str, numbers: list[int]) -> list[str]:
        """One function of many values in a loop, whose constants and temporary values have the registers to themselves."""
        if not numbers:
            return []
        array, of = f"{name}{numbers[0]}", ", ".join(f"v{self.values[number].operands[0]}" for number in numbers)
        loop = f"for (int k = 0; k < {len(numbers)}; k++) {array}[k] = {_FUNCTIONS[name]}({array}[k]);"
        found = [f"const vec v{number} = {array}[{place}];" for place, number in enumerate(numbers)]
        return [f"vec {array}[{len(numbers)}] = {{{of}}};", loop, *found]

    def _expression(self, number: int, uses: Counter[int], divisors: Counter[int]) -> str:
        value = self.values[number]
        kind, names = value.kind, [f"v{operand}" for operand in value.operands]
        if kind == "input":
            return f"x[{value.operands[0]}]"
        if kind == "constant":
            of = value.constant
            if value.mask:
                return f"mask_splat({int(of)})"
            return f"splat({of.hex()}f)" if np.isfinite(of) else f"splat({_NO_NUMBER[str(of)]})"
        if kind in ("add", "sub") and number not in self._in_long_sums:
            for place, other in ((0, 1), (1, 0)):
                product = self.values[value.operands[place]]
                if product.kind == "mul" and uses[value.operands[place]] == 1:
                    factors = ", ".join(f"v{operand}" for operand in product.operands)
                    how = "multiply_add" if kind == "add" else ("multiply_less", "less_product")[place]
                    return f"{how}({factors}, {names[other]})"
        if kind == "div" and divisors[value.operands[1]] > 1:
            return f"{names[0]} * r{value.operands[1]}"
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
            return f"is_ne({names[0]}, splat(0.0f))" if value.mask else f"where({names[0]}, splat(1.0f))"
        if kind == "neg":
            return f"-{names[0]}"
        return f"{(_OF_MASKS | _FUNCTIONS)[kind]}({', '.join(names)})"
