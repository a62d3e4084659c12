"""What the cuda executor makes of a step's graph, beside the graph as it was traced: both by NumPy in float64, so that nothing is compiled."""

import math

import numpy as np
import pytest

import ncsim
from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS
from ncsim.config.tasks import context_targets
from ncsim.executors.cuda.blocks import blocks_of, by_blocks
from ncsim.executors.cuda.folding import FoldingGraph, averages_over_factors, shared_reciprocals
from ncsim.executors.native import program as native
from ncsim.executors.native.c_expressions import Graph
from ncsim.executors.native.c_program import flow, reachable
from tests.support.cases import first_fast
from tests.support.tasks import FOUR_ROWS

#: By NumPy. Of a choice the condition comes first, then what is taken where it is false.
FUNCTIONS = {
    **{"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "pow": np.power},
    **{"max": np.maximum, "min": np.minimum, "abs": np.abs, "sqrt": np.sqrt, "exp": np.exp, "exp2": np.exp2},
    **{
        "gt": np.greater,
        "ge": np.greater_equal,
        "lt": np.less,
        "le": np.less_equal,
        "eq": np.equal,
        "ne": np.not_equal,
    },
    **{"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert, "cbrt": np.cbrt},
    "select_n": lambda which, no, yes: np.where(which, yes, no),
    "bits": lambda weight: weight * math.log2(math.e),
}
FLOATS = {"float32": np.float64, "int32": np.int32, "bool": bool}


class AsTraced(Graph):
    """A graph that simplifies nothing."""

    def _simpler(self, *_):
        return None


def values(nodes, leaves):
    """Of nodes, from those of what is carried and given."""
    known = dict(leaves)
    for node in sorted(reachable(nodes), key=lambda node: node.serial):
        if node.kind == "constant":
            known[node] = np.asarray(node.value, FLOATS[node.dtype])
        elif node not in known:
            operands = [known[operand] for operand in node.operands]
            if node.kind == "pow":
                operands = [np.float64(each) for each in operands]
            known[node] = (
                operands[0].astype(FLOATS[node.dtype]) if node.kind == "convert" else FUNCTIONS[node.kind](*operands)
            )
    return [known[node] for node in nodes]


def trained(found, after, vector, rate, steps):
    """Parameters [P, N] after some steps. `after`: what a step makes of the whole carry."""
    given = {found.given[-1]: rate}
    with np.errstate(all="ignore"):  # also of what a choice does not take
        state = values(found.begun, given | dict(zip(found.carry, vector, strict=False)))
        for _ in range(steps):
            state = values(after, given | dict(zip(found.carry, state, strict=True)))
    return np.stack(state[: len(vector)])


def folded(program, targets, in_blocks=False):
    """As `cuda.source.kernel` has it, and `cuda.teams.kernel` in blocks of two rows: the flow, and what a step makes of the carry."""
    graph = FoldingGraph()
    found = flow(graph, program, targets.reshape(-1).tolist())
    after = averages_over_factors(graph, found, program.size)
    wanted = shared_reciprocals(graph, [after[number] for number in found.lanes])
    if in_blocks:
        unit = dict.fromkeys(found.carry)
        wanted = by_blocks(graph, wanted, blocks_of(wanted, unit, 2))
    for number, node in zip(found.lanes, wanted, strict=True):
        after[number] = node
    return found, after


CASES = {
    "adabelief": {"optimizer": "adabelief"},
    "rmsprop, two logits": {"optimizer": "rmsprop", "optimizer_options": "momentum=0.9", "loss": "cross_entropy"},
    "squared error, signs, weights": {
        "loss": "squared_error",
        "encoding": "sign",
        "alice_weight": 0.3,
        "optimizer": "adamw",
    },
    "overlap": {"hidden": 3, "topology": "overlap", "shared": 1, "optimizer": "amsgrad"},
    "surgery": {"intervention": "pcgrad", "optimizer": "sgd", "optimizer_options": "momentum=0.9,nesterov=true"},
    "some rows": {"training_rows": 3},
    "a frozen trunk": {"intervention": "frozen_trunk"},
    "16 rows": {"tasks": ncsim.EnsembleConfig().tasks},
    **{name: {"optimizer": name} for name in sorted(ELEMENTWISE_OPTIMIZERS)},
}


@pytest.mark.parametrize("name", first_fast(CASES, 5))
def test_a_step_is_what_was_traced(name):
    config = ncsim.EnsembleConfig(**({"hidden": 2, "tasks": FOUR_ROWS} | CASES[name]))
    program = native.scalar_step(native.shape(config))
    targets = np.asarray(context_targets(config.tasks)[2], np.float32)
    vector = np.random.default_rng(6).normal(size=(program.size, 200)).astype(np.float32).astype(float)
    if config.intervention != "pcgrad":  # whose projections may leave nothing but a rounding to move by
        # Biases of 0: of the row that is all 0 such units are exactly at 0, where a ReLU sends nothing back.
        trunk = config.tasks.features * config.hidden
        vector[trunk : trunk + config.hidden, ::4] = 0
    if config.training_rows:
        vector[-config.tasks.rows :] = vector[-config.tasks.rows :] > 0  # which rows a network trains on
    as_traced = flow(AsTraced(), program, targets.reshape(-1).tolist())
    expected = trained(as_traced, as_traced.after, vector, 0.01, 3)
    assert np.abs(expected - vector).max() > 1e-4
    for in_blocks in (False, True):
        ours = trained(*folded(program, targets, in_blocks), vector, 0.01, 3)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)
