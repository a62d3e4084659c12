"""A function on small arrays, evaluated as elementwise operations on lane arrays: what a kernel on registers can run.

A kernel that keeps a network's state in registers has no small arrays: every parameter of every network is a register,
and Triton knows neither `stack` nor an array of 23 parameters. So the one definition of the step, written for one
network (`ncsim.training.step.make_step`), is traced once, and its jaxpr evaluated here with an array of shape [S] held
as a NumPy array of S objects, its *elements*. An element is a lane array (one entry a network), or a scalar where it is
the same for all networks, as the number of the step is. Operations that move elements about happen while tracing, on the
NumPy arrays, and leave nothing in the kernel; elementwise ones are bound once an element.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from jax.sharding import AbstractMesh, use_abstract_mesh

from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS, EnsembleConfig
from ncsim.training.network import Architecture


class ScalariseError(NotImplementedError):
    """An operation that has no meaning element by element; the message names it, in one line."""


def out_of_reach(config: EnsembleConfig, program: str, max_hidden: int, max_rows: int | None = None) -> str | None:
    """Why an element-by-element step cannot train this config, in words; None where it can. `program`: what to call it."""
    if config.precision != "float32":
        return f"precision {config.precision}; {program} has float32"
    if config.optimizer not in ELEMENTWISE_OPTIMIZERS:
        return f"optimizer {config.optimizer}, which takes norms over a layer; {program} has elementwise ones"
    units, rows = Architecture.of(config).hidden, config.tasks.rows
    # Of separate trunks the option says how many units each has.
    asked = f"hidden {config.hidden}" + (f" in each of two trunks, {units} units" if units != config.hidden else "")
    if max_rows is None:
        return f"{asked}; {program} has 1 to {max_hidden} units" if units > max_hidden else None
    if units > max_hidden or rows > max_rows:
        return f"{asked} with {rows} rows; {program} has 1 to {max_hidden} units and at most {max_rows} rows"
    return None


#: Primitives that act on each element alone, by name. They are bound as they are, with all their parameters.
ELEMENTWISE = frozenset(
    "abs add add_any and atan2 cbrt ceil clamp convert_element_type cos cosh div eq erf exp exp2 expm1 floor ge gt "
    "integer_pow is_finite le log log1p logistic lt max min mul ne neg not or pow rem round rsqrt select_n sign sin "
    "sinh sqrt square sub tan tanh xor".split()
)
#: Primitives whose only work is another jaxpr, which is evaluated in their place, and where they keep it.
_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr"}
#: Primitives that mean something to the compiler or to autodiff, and nothing to a value.
_IDENTITIES = frozenset({"optimization_barrier", "copy", "stop_gradient", "pvary", "pcast"})
_FOLDS: dict[str, Callable[[Any, Any], Any]] = {
    "reduce_sum": jax.lax.add,
    "reduce_prod": jax.lax.mul,
    "reduce_max": jax.lax.max,
    "reduce_min": jax.lax.min,
    "reduce_and": jax.lax.bitwise_and,
    "reduce_or": jax.lax.bitwise_or,
}


def scalarise(function: Callable[..., Any], *like: Any) -> Callable[..., Any]:
    """`function` on arrays of elements.

    Args:
        function: takes and gives trees of arrays; traced here once, without any lane.
        like: example arguments (arrays or `jax.ShapeDtypeStruct`) that give its shapes and types.

    Returns:
        A function of trees of the same structure whose leaves are NumPy object arrays of the same shapes, each element
        a lane array or a scalar; gives such a tree. Elements that are the same object are computed once.

    Raises:
        ScalariseError: when it is called, for an operation that is neither elementwise nor a rearrangement.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*like)
    structure: Any = jax.tree.structure(shapes)
    given: Any = jax.tree.structure(like)

    def on_elements(*arguments: Any) -> Any:
        leaves, found = jax.tree.flatten(arguments)
        assert found == given, f"{found} is not {given}"
        return jax.tree.unflatten(structure, _Evaluation().closed(closed, [as_elements(leaf) for leaf in leaves]))

    return on_elements


def scalars(function: Callable[..., Any], *like: Any) -> ClosedJaxpr:
    """The jaxpr of `function` with every element of every array as an argument or result of its own."""
    on_elements = scalarise(function, *like)
    leaves, structure = jax.tree.flatten(like)

    def flat(*scalars: jax.Array) -> list[jax.Array]:
        given = iter(scalars)
        arrays = [element_array([next(given) for _ in range(leaf.size)], leaf.shape) for leaf in leaves]
        results = jax.tree.leaves(on_elements(*jax.tree.unflatten(structure, arrays)))
        return [jnp.asarray(element) for array in results for element in array.reshape(-1)]

    return jax.make_jaxpr(flat)(*(jax.ShapeDtypeStruct((), leaf.dtype) for leaf in leaves for _ in range(leaf.size)))


def as_elements(value: Any) -> np.ndarray:
    """An array of elements as it is; a constant array as its elements; a traced scalar as an array of one element."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return value
    if isinstance(value, jax.core.Tracer):
        return element_array([value], ())
    array = np.asarray(value)
    return element_array([array[index] for index in np.ndindex(array.shape)], array.shape)


def element_array(elements: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    """Elements, in row-major order, as an object array; NumPy by itself would look into them."""
    array = np.empty(len(elements), object)
    for number, element in enumerate(elements):
        array[number] = element
    return array.reshape(shape)


class _Evaluation:
    """One evaluation of a jaxpr. It remembers what it broadcast, so that a scalar becomes a lane array once."""

    def __init__(self) -> None:
        self._broadcasts: dict[tuple[int, tuple[int, ...]], tuple[Any, Any]] = {}

    def closed(self, closed: ClosedJaxpr, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self.jaxpr(closed.jaxpr, [as_elements(constant) for constant in closed.consts], arguments)

    def jaxpr(self, jaxpr: Jaxpr, constants: Sequence[np.ndarray], arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
        values: dict[Any, np.ndarray] = dict(zip(jaxpr.constvars, constants, strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> np.ndarray:
            if isinstance(atom, Literal):
                return as_elements(np.asarray(atom.val, atom.aval.dtype))  # type: ignore[attr-defined]
            return values[atom]

        for equation in jaxpr.eqns:
            results = self.equation(equation, [read(atom) for atom in equation.invars])
            for variable, result in zip(equation.outvars, results, strict=True):
                assert result.shape == variable.aval.shape, f"{equation.primitive}: {result.shape}"  # type: ignore[attr-defined]
                values[variable] = result
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, equation: JaxprEqn, operands: list[np.ndarray]) -> list[np.ndarray]:
        name, parameters = equation.primitive.name, equation.params
        if name in ELEMENTWISE:
            return [self.elementwise(equation, operands)]
        if name in _IDENTITIES:
            return operands
        if name in _CALLS:
            inner = parameters[_CALLS[name]]
            return self.closed(inner, operands)
        if name in _FOLDS:
            return [self.fold(_FOLDS[name], operands[0], parameters["axes"])]
        if name in _REARRANGEMENTS:
            result = _REARRANGEMENTS[name](*operands, **parameters)
            return list(result) if isinstance(result, list | tuple) else [result]
        raise ScalariseError(f"the operation {name!r} acts on whole arrays and cannot run inside a kernel on registers")

    def elementwise(self, equation: JaxprEqn, operands: list[np.ndarray]) -> np.ndarray:
        shape = np.broadcast_shapes(*(operand.shape for operand in operands))
        columns = [np.broadcast_to(operand, shape).reshape(-1) for operand in operands]
        known: dict[tuple[int, ...], Any] = {}  # elements that are one object (a bias over all rows) are one result
        results = []
        for elements in zip(*columns, strict=True):
            key = tuple(map(id, elements))
            if key not in known:
                known[key] = self.bind(equation, elements)
            results.append(known[key])
        return element_array(results, shape)

    def bind(self, equation: JaxprEqn, elements: tuple[Any, ...]) -> Any:
        if equation.primitive.name == "select_n" and _is_constant(elements[0]):
            return elements[1 + int(elements[0])]  # a mask of the topology costs nothing
        if all(_is_constant(element) for element in elements):
            # Kernels want no operation that has only literals. Computed here, whatever mesh it is lowered for.
            with jax.ensure_compile_time_eval(), use_abstract_mesh(AbstractMesh((), ())):
                return np.asarray(equation.primitive.bind(*elements, **equation.params))[()]
        if equation.primitive.name == "sign":
            return _sign(elements[0])
        if equation.primitive.name == "select_n" and not np.shape(elements[0]):
            return equation.primitive.bind(elements[0], *self.alike(elements[1:]), **equation.params)
        return equation.primitive.bind(*self.alike(elements), **equation.params)

    def alike(self, elements: Sequence[Any]) -> list[Any]:
        """The elements in one shape: lane arrays if any is one, else scalars."""
        shape = next((np.shape(element) for element in elements if np.shape(element)), ())
        return [element if np.shape(element) == shape != () else self.broadcast(element, shape) for element in elements]

    def broadcast(self, element: Any, shape: tuple[int, ...]) -> Any:
        key = (id(element), shape)
        if key not in self._broadcasts:
            # The element is kept beside its broadcast: an id is its own only while the object lives.
            self._broadcasts[key] = (element, broadcast_element(element, shape))
        return self._broadcasts[key][1]

    def fold(self, combine: Callable[[Any, Any], Any], operand: np.ndarray, axes: Sequence[int]) -> np.ndarray:
        kept = [axis for axis in range(operand.ndim) if axis not in axes]
        shape = tuple(operand.shape[axis] for axis in kept)
        groups = operand.transpose(*kept, *axes).reshape(math.prod(shape), -1)
        return element_array(
            [functools.reduce(lambda a, b: combine(*self.alike((a, b))), group) for group in groups], shape
        )


def broadcast_element(element: Any, shape: tuple[int, ...]) -> Any:
    """A scalar, constant or traced, as a lane array of this shape; a lane array as it is."""
    if np.shape(element) == shape != ():
        return element
    return jnp.full(shape, element) if _is_constant(element) and shape else jnp.broadcast_to(element, shape)


def _is_constant(element: Any) -> bool:
    return not isinstance(element, jax.Array)


def _sign(element: Any) -> Any:
    """Written out, because Mosaic's own depends on the TPU at hand and cannot be lowered without one. 0 and NaN stay."""
    ones = jnp.ones_like(element)
    return jnp.where(element > 0, ones, jnp.where(element < 0, -ones, element))


# Rearrangements: each as NumPy has it, on arrays of elements. Parameters that only concern devices are ignored.


def _broadcast_in_dim(operand: np.ndarray, *, shape: Any, broadcast_dimensions: Any, **_: Any) -> np.ndarray:
    aligned = [1] * len(shape)
    for size, dimension in zip(operand.shape, broadcast_dimensions, strict=True):
        aligned[dimension] = size
    return np.broadcast_to(operand.reshape(aligned), shape)


def _slice(operand: np.ndarray, *, start_indices: Any, limit_indices: Any, strides: Any, **_: Any) -> np.ndarray:
    steps = strides or (1,) * operand.ndim
    return operand[tuple(slice(*bounds) for bounds in zip(start_indices, limit_indices, steps, strict=True))]


def _reshape(operand: np.ndarray, *, new_sizes: Any, **_: Any) -> np.ndarray:
    return operand.reshape(new_sizes)


def _squeeze(operand: np.ndarray, *, dimensions: Any, **_: Any) -> np.ndarray:
    return np.squeeze(operand, dimensions)


def _expand_dims(operand: np.ndarray, *, dimensions: Any, **_: Any) -> np.ndarray:
    return np.expand_dims(operand, dimensions)


def _transpose(operand: np.ndarray, *, permutation: Any, **_: Any) -> np.ndarray:
    return operand.transpose(permutation)


def _reverse(operand: np.ndarray, *, dimensions: Any, **_: Any) -> np.ndarray:
    return np.flip(operand, dimensions)


def _concatenate(*operands: np.ndarray, dimension: int, **_: Any) -> np.ndarray:
    return np.concatenate(operands, dimension)


def _stack(*operands: np.ndarray, axis: int, **_: Any) -> np.ndarray:
    return np.stack(operands, axis)


def _split(operand: np.ndarray, *, sizes: Any, axis: int, **_: Any) -> list[np.ndarray]:
    return np.split(operand, np.cumsum(sizes)[:-1], axis)


def _unstack(operand: np.ndarray, *, axis: int, **_: Any) -> list[np.ndarray]:
    return [np.squeeze(part, axis) for part in np.split(operand, operand.shape[axis], axis)]


def _iota(*, dtype: Any, shape: Any, dimension: int, **_: Any) -> np.ndarray:
    return as_elements(np.indices(shape)[dimension].astype(dtype))


_REARRANGEMENTS: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "slice": _slice,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "expand_dims": _expand_dims,
    "transpose": _transpose,
    "rev": _reverse,
    "concatenate": _concatenate,
    "stack": _stack,
    "split": _split,
    "unstack": _unstack,
    "iota": _iota,
}
