"""How fast are ensembles of four-qubit circuits trained, beside PennyLane's default.qubit with its JAX interface?

    python -m benchmarks.circuits [--steps 200] [--rounds 3]

PennyLane is no dependency: `pip install pennylane`. The work is the same for all, and is checked before it is timed: 19 RY
gates, five rings of CNOTs, sixteen rows encoded by angle and given as one batch, <Z> of two qubits, binary cross-entropy,
optax.adam. What is timed is networks (one context of one member) times steps per second, from start to record for ncsim and
steps alone for PennyLane. Each peer has a process of its own; peers take turns. Compiling is not in the rates.

Peers: PennyLane's circuit in a jitted step, called from a loop in Python, one circuit at a time; and the same circuit under
`jit(vmap(fori_loop))`, with the best of three batches, each tried once. The numbers go to benchmarks/results/circuits.json.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ncsim.formatting import json_text
from ncsim.storage.files import write_atomically

RESULTS = Path(__file__).parent / "results"
RATE = 0.01
ANGLES = 19
BATCHES = (16, 128, 1024)
MEMBERS = 512
_made: dict[Any, Any] = {}


def starts(count: int) -> np.ndarray:
    """Parameters to start from, float32[count, 23]."""
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, (count, ANGLES))
    return np.concatenate([angles, np.ones((count, 2)), np.zeros((count, 2))], axis=1).astype(np.float32)


def pennylane_training() -> tuple[Any, Any]:
    """The optimiser, and a step (parameters, state) -> (parameters, state) of one circuit in context 22."""
    import jax
    import jax.numpy as jnp
    import optax
    import pennylane as qml

    from ncsim.config.tasks import PAPER_TASKS, context_targets

    inputs = jnp.asarray(PAPER_TASKS.inputs, jnp.float32) * np.pi
    targets = jnp.asarray(context_targets(PAPER_TASKS)[3], jnp.float32)

    @qml.qnode(qml.device("default.qubit", wires=4), interface="jax", diff_method="backprop")
    def circuit(angles: Any) -> Any:
        for wire in range(4):
            qml.RY(inputs[:, wire], wires=wire)
        for layer in range(-(-ANGLES // 4)):
            for wire in range(min(4, ANGLES - 4 * layer)):
                qml.RY(angles[4 * layer + wire], wires=wire)
            for wire in range(4):
                qml.CNOT(wires=[wire, (wire + 1) % 4])
        return qml.expval(qml.PauliZ(0)), qml.expval(qml.PauliZ(2))

    def loss(vector: Any) -> Any:
        observed = jnp.stack(circuit(vector[:ANGLES]), axis=1)
        logits = vector[ANGLES : ANGLES + 2] * observed + vector[ANGLES + 2 :]
        return optax.sigmoid_binary_cross_entropy(logits, targets).mean(axis=0).sum()

    optimizer = optax.adam(RATE)

    def step(carry: Any) -> Any:
        vector, state = carry
        updates, state = optimizer.update(jax.grad(loss)(vector), state)
        return optax.apply_updates(vector, updates), state

    return optimizer, step


def pennylane_loop(count: int, steps: int) -> np.ndarray:
    """Circuits one after the other, a jitted step per turn of a loop in Python: parameters [count, 23]."""
    import jax

    if "loop" not in _made:
        optimizer, step = pennylane_training()
        _made["loop"] = optimizer, jax.jit(step)
    optimizer, step = _made["loop"]
    found = []
    for start in starts(count):
        carry = start, optimizer.init(start)
        for _ in range(steps):
            carry = step(carry)
        found.append(np.asarray(carry[0]))
    return np.array(found)


def pennylane_vmap(count: int, steps: int) -> np.ndarray:
    """All circuits at once in one compiled loop."""
    import jax

    if "vmap" not in _made:
        optimizer, step = pennylane_training()

        def train(start: Any, steps: Any) -> Any:
            return jax.lax.fori_loop(0, steps, lambda _, carry: step(carry), (start, optimizer.init(start)))[0]

        _made["vmap"] = jax.jit(jax.vmap(train, in_axes=(0, None)))
    return np.asarray(_made["vmap"](starts(count), steps))


def ncsim_steps(count: int, steps: int) -> np.ndarray:
    """ncsim's training from the given starts, for the check alone."""
    import jax
    import jax.numpy as jnp

    from ncsim.config.ensemble import EnsembleConfig
    from ncsim.config.tasks import context_targets
    from ncsim.training.circuit import Circuit, train_circuit

    config = EnsembleConfig(hidden=3)
    train = jax.jit(train_circuit, static_argnums=(0, 1))
    targets = jnp.asarray(context_targets(config.tasks)[3], jnp.float32)
    return np.asarray(train(Circuit("angle", ANGLES), config, jnp.asarray(starts(count).T), targets, RATE, steps)).T


def ncsim_run(members: int, steps: int) -> np.ndarray:
    """The public function, everything included: S of each member."""
    from ncsim.config.ensemble import EnsembleConfig
    from ncsim.ensemble.circuits import run_circuits

    return np.asarray(run_circuits(EnsembleConfig(hidden=3, members=members, steps=steps)).statistics().s)


PEERS = {
    "ncsim": ncsim_run,
    "PennyLane, a loop": pennylane_loop,
    "PennyLane, vmap": pennylane_vmap,
    "check": ncsim_steps,
}


def rate(peer: str, count: int, steps: int) -> float:
    """Circuit-steps per second; runs in the peer's process."""
    circuits = count * (4 if peer == "ncsim" else 1)
    begun = time.perf_counter()
    PEERS[peer](count, steps)
    return circuits * steps / (time.perf_counter() - begun)


def trained(peer: str, count: int, steps: int) -> np.ndarray:
    """Parameters after some steps; runs in the peer's process."""
    return PEERS[peer](count, steps)


def measured(steps: int, rounds: int) -> dict[str, Any]:
    """Check, warm up, and time in turns."""
    context = multiprocessing.get_context("spawn")
    pools = {name: ProcessPoolExecutor(1, mp_context=context) for name in PEERS}
    ask = {name: lambda function, *given, n=name: pools[n].submit(function, n, *given).result() for name in PEERS}
    try:
        expected = ask["check"](trained, 8, 10)
        agreement = {name: float(abs(ask[name](trained, 8, 10) - expected).max()) for name in PEERS if "Penny" in name}
        assert max(agreement.values()) < 1e-3, agreement
        tried = {}
        for batch in BATCHES:
            ask["PennyLane, vmap"](rate, batch, 2)  # compiles
            tried[batch] = ask["PennyLane, vmap"](rate, batch, max(steps // 10, 2))
        counts = {
            "ncsim": MEMBERS,
            "PennyLane, a loop": 4,
            "PennyLane, vmap": max(tried, key=lambda batch: tried[batch]),
        }
        for name, count in counts.items():
            ask[name](rate, count, 2)
        rates = [{name: ask[name](rate, count, steps) for name, count in counts.items()} for _ in range(rounds)]
    finally:
        for pool in pools.values():
            pool.shutdown()
    return {
        "steps": steps,
        "circuits_at_a_time": counts | {"ncsim": 4 * MEMBERS},
        "largest_difference_of_parameters_after_10_steps": agreement,
        "batches_tried": {str(batch): value for batch, value in tried.items()},
        "rates": rates,
        "median_rate": {name: statistics.median(each[name] for each in rates) for name in counts},
        "times_as_fast": {name: [each["ncsim"] / each[name] for each in rates] for name in counts if name != "ncsim"},
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    from importlib.metadata import version

    load = os.getloadavg()[0]
    result = measured(options.steps, options.rounds) | {
        "load_at_start": load,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": platform.machine(),
        "versions": {name: version(name) for name in ("jax", "pennylane", "optax")},
        "date": time.strftime("%Y-%m-%d"),
    }
    text = json_text(result)
    print(text)
    write_atomically(RESULTS / "circuits.json", text.encode())


if __name__ == "__main__":
    main()
