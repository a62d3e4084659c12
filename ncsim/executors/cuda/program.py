"""Blocks of members with the training loop as one CUDA kernel, made from `ncsim.training.step` and compiled by NVRTC.

A thread is one network, or a team of threads is, where it has more than eight units (`teams.py`). Its parameters and its
optimiser's state are registers over thousands of steps, and memory is touched before and after. The step's text is the native executor's, by the same generator, with what a GPU has for it
(`source.py`). Targets are compiled in, so that there is a kernel per context. What is the same for all networks is a
table of a row per step, which XLA makes as optax has it. XLA launches the kernel itself, by its custom call for PTX, in
the same program that draws initial parameters and counts answers. That call is internal to XLA: where it fails, `choice`
takes another executor. Not measured: no GPU was at hand (`benchmarks/gpu_static.py` has what machine code says).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ncsim.config.ensemble import EnsembleConfig
from ncsim.config.tasks import context_targets
from ncsim.errors import ConfigError
from ncsim.executors import xla
from ncsim.executors.cuda import layout, nvrtc, source, teams
from ncsim.executors.native import program as native
from ncsim.executors.native import units
from ncsim.executors.native.c_expressions import Node
from ncsim.executors.native.c_program import Flow
from ncsim.executors.native.places import Places
from ncsim.executors.scalarise import ScalariseError, out_of_reach
from ncsim.training.network import Architecture

#: Members a block: several times what 132 multiprocessors hold at once, so that the last wave is a small part.
LANES = 1 << 18
#: Threads that share a multiprocessor's registers: of one block of the grid.
THREADS = 128
#: Wider networks have more state than a thread has registers: a team of threads has one of them. More rows make longer code
#: than an instruction cache holds.
MAX_STRAIGHT = 8
MAX_ROWS = 64
#: Units of a team, both heads' where trunks are separate; and rows that its threads each have sums of at once.
MAX_HIDDEN = layout.UNITS * layout.MOST_THREADS
ROWS_AT_ONCE = 16
#: Of more rows, a thread has so many between two loops over its units (`blocks.py`). By the model, with 64 rows at n = 16: 4, 8 and 16
#: give 1.16e9, 1.24e9 and 1.24e9 network-steps per second, and spill 72, 128 and 428 bytes.
BLOCK_ROWS = 8
#: Steps of one launch, whose uniform values are made at once. State goes through memory once in so many.
CHUNK = 4096
#: XLA's custom call that launches a kernel of PTX.
CALL = "__gpu$xla.gpu.ptx"
NO_NVRTC = "without NVRTC, which jax[cuda13] brings"

_REGISTERS = 65_536  # of a multiprocessor
#: Registers of a thread beside its state: temporary values of a row or two.
_TEMPORARY = 48
#: And of a team's thread, which has sums over all rows.
_TEAM_TEMPORARY = 72


def unsupported(config: EnsembleConfig) -> str | None:
    """Why this config cannot be trained by the kernel, in words; None where it can. Compiles nothing."""
    if (reason := out_of_reach(config, "the kernel", MAX_HIDDEN, MAX_ROWS)) is not None:
        return reason
    if nvrtc.library() is None:
        return NO_NVRTC
    try:
        kernels(native.shape(config))
    except ScalariseError as error:
        return f"optimizer {config.optimizer}: {error}"
    return None


def block_program(
    config: EnsembleConfig,
    mesh: Mesh,
    blocks: int,
    lanes: int | None = None,
    points: int | None = None,
    kept: bool = False,
) -> xla.BlockProgram:
    """As `xla.block_program`, with the training loop as a CUDA kernel. `lanes`: a multiple of `THREADS`.

    Raises:
        ConfigError: the config cannot be trained here.
    """
    reason = "without a CUDA GPU" if mesh.devices.flat[0].platform != "gpu" else unsupported(config)
    if reason is not None:
        raise ConfigError(f"--executor: cuda cannot train {reason}; allowed here: xla")
    lanes = lanes or lanes_of(config)
    return xla.block_program(config, mesh, blocks, lanes, training(native.shape(config)), points, kept)


def lanes_of(config: EnsembleConfig) -> int:
    """Members a block: of wide networks, which have several threads each, as many fewer."""
    return LANES // threads_of(kernels(native.shape(config))[0])


@functools.lru_cache(maxsize=16)
def kernels(config: EnsembleConfig) -> list[source.Kernel]:
    """The step of each context.

    Raises:
        ScalariseError: it has an operation or a state that a kernel has nothing for.
    """
    with jax.enable_x64(False):
        made = list(_wide(config) if _is_wide(config) else _straight(config))
        check_uniform(made[0])
    return made


def _is_wide(config: EnsembleConfig) -> bool:
    return Architecture.of(config).hidden > MAX_STRAIGHT


def _straight(config: EnsembleConfig) -> Iterator[source.Kernel]:
    """Of a network a thread."""
    program = native.scalar_step(config)
    for targets in context_targets(config.tasks):
        yield source.kernel(program, targets)


def _wide(config: EnsembleConfig) -> Iterator[source.Kernel]:
    """Of a team of threads a network, from the step of a network of few units."""
    little = units.small(config)
    program = native.scalar_step(little)
    of = layout.team(units.places(config, little, program.arrays))
    rows = BLOCK_ROWS if config.tasks.rows > ROWS_AT_ONCE else None
    for targets in context_targets(config.tasks):
        yield teams.kernel(program, targets, of, rows)


def threads_of(made: source.Kernel) -> int:
    """Threads that share a network."""
    return 1 if made.team is None else made.team.threads


def blocks_together(made: source.Kernel, threads: int = THREADS) -> int:
    """Blocks of the grid that are to share a multiprocessor, by the numbers that a thread carries."""
    slots = len(made.lanes) + _TEMPORARY if made.team is None else made.team.local.slots + _TEAM_TEMPORARY
    least, most = (2 * THREADS // threads, 12 * THREADS // threads)
    return min(max(_REGISTERS // threads // slots, least), most)


@functools.lru_cache(maxsize=64)
def ptx(config: EnsembleConfig, context: int, networks: int, threads: int = THREADS, more: int = 0) -> str:
    """The PTX of a context's kernel, for so many networks. `threads` a block; `more` blocks than usual are to share a
    multiprocessor.

    Raises:
        nvrtc.NvrtcError: NVRTC does not compile it.
    """
    made = kernels(config)[context]
    together = max(blocks_together(made, threads) + more, 1)
    return nvrtc.ptx(source.device_text(made, networks, threads, together))


def launched(
    config: EnsembleConfig,
    context: int,
    state: jax.Array,
    table: jax.Array,
    steps: jax.Array,
    threads: int = THREADS,
    more: int = 0,
) -> jax.Array:
    """The state [S, N] after `steps` [2] (from, to) rows of a table [T, ROW], by XLA's call of the kernel; `threads` and
    `more` as `ptx` has them."""
    networks = state.shape[1]
    call = jax.ffi.ffi_call(CALL, jax.ShapeDtypeStruct(state.shape, jnp.float32))
    blocks = networks * threads_of(kernels(config)[context]) // threads
    sizes = {"grid_x": blocks, "grid_y": 1, "grid_z": 1, "block_x": threads, "block_y": 1, "block_z": 1}
    attributes = {name: np.int32(size) for name, size in (sizes | {"shared_mem_bytes": 0}).items()}
    text = ptx(config, context, networks, threads, more)
    result: jax.Array = call(state, table, steps, name=source.NAME, kernel_type="ptx", kernel_data=text, **attributes)
    return result


@functools.lru_cache(maxsize=16)
def training(config: EnsembleConfig, launch: Callable[..., jax.Array] = launched) -> Callable[..., jax.Array]:
    """A function as `ncsim.training.step.train`, for parameters [P, N], N a multiple of the networks of a block of the
    grid. `launch`: what takes the steps, for tests."""
    made = kernels(config)
    answers = np.asarray(context_targets(config.tasks), np.float32)
    a_block = THREADS // threads_of(made[0])

    def train(_: EnsembleConfig, vector: jax.Array, targets: jax.Array, rate: jax.Array, steps: jax.Array) -> jax.Array:
        size, networks = vector.shape
        assert networks % a_block == 0, f"{networks} networks do not fill blocks of {a_block}"
        # Contexts of the same targets have the same kernel.
        context = jnp.argmax(jnp.all(jnp.asarray(answers) == targets[None], axis=(1, 2)))

        def chunk(number: int) -> Callable[..., jax.Array]:
            def run(state: jax.Array, done: jax.Array, count: jax.Array) -> jax.Array:
                limits = jnp.stack([jnp.zeros((), jnp.int32), count]).astype(jnp.uint32)
                return launch(config, number, state, table(made[number], rate, done), limits)

            return run

        def between(state: jax.Array, first: jax.Array, last: jax.Array) -> jax.Array:
            def body(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
                state, done = carry
                count = jnp.minimum(last - done, CHUNK)
                state = jax.lax.switch(context, [chunk(number) for number in range(len(made))], state, done, count)
                return state, done + count

            return jax.lax.while_loop(lambda carry: carry[1] < last, body, (state, first))[0]

        state, zero = begun(made[0], vector, rate), jnp.zeros((), jnp.int32)
        stops = jnp.asarray(steps, jnp.int32)
        if stops.ndim == 0:
            return between(state, zero, stops)[:size]

        def segment(
            carry: tuple[jax.Array, jax.Array], stop: jax.Array
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            state = between(carry[0], carry[1], stop)
            return (state, stop), state[:size]

        return jax.lax.scan(segment, (state, zero), stops)[1]

    return train


# ------------------------------------------------------------------------------------- what is the same for all networks


def begun(made: source.Kernel, vector: jax.Array, rate: jax.Array) -> jax.Array:
    """What is kept of each network when training begins: [S, N] of parameters [P, N]."""
    flow = made.flow
    if made.team is not None:
        return _begun_of_team(flow, made.team.wide, vector, rate)
    leaves = {flow.carry[number]: vector[number] for number in range(len(vector))} | {flow.given[-1]: rate}
    rest = evaluated(made.lanes[len(vector) :], leaves)
    rows = [jnp.broadcast_to(jnp.asarray(each, jnp.float32), vector.shape[1:]) for each in rest]
    return jnp.concatenate([vector, jnp.stack(rows)]) if rows else vector


def _begun_of_team(flow: Flow, places: Places, vector: jax.Array, rate: jax.Array) -> jax.Array:
    """As `begun` of a wide network: what each unit of few begins with, all of its kind do."""
    state = jnp.concatenate([vector, jnp.zeros((places.slots - len(vector), vector.shape[1]), jnp.float32)])
    units: list[tuple[int | None, int, int]] = [(kind.small[0], kind.first, kind.width) for kind in places.kinds]
    for unit, first, width in [*units, (None, 0, 1)]:
        leaves: dict[Node, jax.Array] = {flow.given[-1]: rate}
        for number, base in enumerate(places.base):
            if base < places.size and places.unit[number] in (unit, None):
                rows = (first, width) if places.unit[number] is not None else (0, 1)
                leaves[flow.carry[number]] = vector[base + rows[0] : base + sum(rows)]
        for number in flow.lanes:
            if places.unit[number] == unit and places.base[number] >= places.size:
                (value,) = evaluated([flow.begun[number]], leaves)
                base = places.base[number] + first
                state = state.at[base : base + width].set(jnp.broadcast_to(value, (width, vector.shape[1])))
    return state


def table(made: source.Kernel, rate: jax.Array, first: jax.Array) -> jax.Array:
    """The uniform values of `CHUNK` steps, [CHUNK, ROW], from the step of this number on."""
    steps = first + jnp.arange(CHUNK, dtype=jnp.int32)
    values = evaluated(made.row, uniform_leaves(made, steps) | {made.flow.given[-1]: rate})
    rows = [jnp.broadcast_to(value.astype(jnp.float32), (CHUNK,)) for value in values]
    rows += [jnp.zeros(CHUNK, jnp.float32)] * (source.row_size(made) - len(rows))
    return jnp.stack(rows, axis=1)


def uniform_leaves(made: source.Kernel, steps: jax.Array) -> dict[Node, jax.Array]:
    """What a step is handed of values that are the same for all networks: the number of steps so far, a mark of the
    first, or what stays as it was, as the average of gradients that are 0. `check_uniform` knows no other."""
    flow, leaves = made.flow, {}
    for number in flow.scalars:
        before, after = flow.begun[number], flow.after[number]
        if before.kind != "constant":
            raise ScalariseError("a state that is the same for all networks and depends on the learning rate")
        value = jnp.asarray(before.value, before.dtype)
        if flow.dtypes[number] == "int32":
            leaves[flow.carry[number]] = steps
        elif after.kind == "constant":
            leaves[flow.carry[number]] = jnp.where(steps == 0, value, jnp.asarray(after.value, after.dtype))
        else:
            leaves[flow.carry[number]] = jnp.broadcast_to(value, steps.shape)
    return leaves


def check_uniform(made: source.Kernel) -> None:
    """Raise a ScalariseError where a step makes something else of such a value, over a few steps."""
    flow, steps = made.flow, np.array([0, 1, 2, 3, 1000], np.int32)
    with jax.ensure_compile_time_eval():
        before, after = (uniform_leaves(made, jnp.asarray(each)) for each in (steps, steps + 1))
        given = {flow.given[-1]: jnp.ones(steps.shape)}
        for number in flow.scalars:
            (following,) = evaluated([flow.after[number]], before | given)
            if not np.array_equal(np.broadcast_to(following, steps.shape), after[flow.carry[number]]):
                raise ScalariseError("a state that is the same for all networks has no place in the cuda executor")


_OPERATIONS: dict[str, Callable[..., jax.Array]] = {
    **{"add": jnp.add, "sub": jnp.subtract, "mul": jnp.multiply, "div": jnp.divide, "max": jnp.maximum},
    **{"min": jnp.minimum, "neg": jnp.negative, "and": jnp.bitwise_and, "or": jnp.bitwise_or, "not": jnp.invert},
    **{"xor": jnp.bitwise_xor, "lt": jnp.less, "le": jnp.less_equal, "gt": jnp.greater, "ge": jnp.greater_equal},
    **{"eq": jnp.equal, "ne": jnp.not_equal, "pow": jax.lax.pow},
    "select_n": lambda which, no, yes: jnp.where(which, yes, no),
}


def evaluated(nodes: Sequence[Node], leaves: dict[Node, jax.Array]) -> list[jax.Array]:
    """The values of nodes, by XLA, of what they are made of; elementwise, so that leaves may have any shape."""
    known = dict(leaves)

    def value(node: Node) -> jax.Array:
        if node not in known:
            if node.kind == "constant":
                known[node] = jnp.asarray(node.value, node.dtype)
            elif node.kind == "convert":
                known[node] = value(node.operands[0]).astype(node.dtype)
            else:
                operation = _OPERATIONS.get(node.kind) or getattr(jnp, node.kind)
                known[node] = operation(*map(value, node.operands))
        return known[node]

    return [value(node) for node in nodes]
