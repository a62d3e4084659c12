"""The peers of the throughput benchmark, each a way to do the work of `work.py`, each alone in a process of its own.

A peer is made once, which may compile; `train` repeats what it does from given starts, for the checks; `run` does
so many members' work as it is timed. A process of its own gives every peer the switches and threads that it would have
without the others: what ncsim sets for XLA changes nothing for the obvious way.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np

from benchmarks.native import MissingError, NativeReference
from benchmarks.work import CONTEXT_COUNT, INPUTS, LEARNING_RATE, TARGETS, Outcome, starts


class Peer(Protocol):
    """One way to train many networks."""

    detail: str  # what was chosen: batch, threads, instructions
    compile_seconds: float  # before the first step can be taken; 0 where nothing is compiled
    tried: dict[str, float]  # rates, network-steps a second, of what the fastest was chosen from; may be empty

    def run(self, amount: int) -> int:
        """Do `amount` times the least work that can be timed: the network-steps that were taken."""

    def train(self, start: np.ndarray, targets: np.ndarray, steps: int) -> np.ndarray:
        """Parameters [P, N] after `steps` from `start` [P, N] on targets [rows, heads]."""


class Ncsim:
    """ncsim through its public function, everything included: keys, starts, training, counts, records."""

    MEMBERS = 512  # a unit of `amount`

    def __init__(self, hidden: int, steps: int, stored: bool = False, **fields: Any) -> None:
        self.tried: dict[str, float] = {}
        self._fields = {"hidden": hidden, "steps": steps, **fields}
        self._stored = stored
        self.detail = "run folder on disk" if stored else "in memory"
        seconds = []
        for _ in range(2):  # the first compiles
            begun = time.perf_counter()
            self.run(1)
            seconds.append(time.perf_counter() - begun)
        self.compile_seconds = max(seconds[0] - seconds[1], 0.0)

    def run(self, amount: int) -> int:
        """Train 512 x `amount` members in four contexts."""
        import ncsim

        config = ncsim.EnsembleConfig(**self._fields, members=self.MEMBERS * amount)
        if self._stored:
            with tempfile.TemporaryDirectory(prefix="ncsim-benchmark-") as folder:
                ncsim.run_ensemble(config, out=f"{folder}/run")
        else:
            ncsim.run_ensemble(config)
        return config.members * CONTEXT_COUNT * config.steps

    def train(self, start: np.ndarray, targets: np.ndarray, steps: int) -> np.ndarray:
        """ncsim draws its own starts: its law is compared (`outcomes`), not its parameters."""
        raise NotImplementedError

    def outcomes(self, members: int, steps: int) -> list[Outcome]:
        """How `members` members end after `steps`, context by context."""
        import ncsim

        records = ncsim.run_ensemble(
            ncsim.EnsembleConfig(**self._fields | {"members": members, "steps": steps})
        ).records()
        return [
            Outcome(
                solved=float(np.mean(records.margin[:, context] > 0)),
                loss=float(np.mean(records.loss[:, context])),
                loss_error=float(np.std(records.loss[:, context]) / np.sqrt(members)),
                networks=members,
            )
            for context in range(CONTEXT_COUNT)
        ]


class ObviousFlax:
    """Flax linen and optax as one would write it: dense layers, a scan over steps, vmap over members and contexts."""

    STEPS = 100  # a scan; a unit of `amount`
    BATCHES = (256, 1024, 4096, 16384)  # members, of which the fastest is kept
    MOST_UNITS = 65_536  # hidden units of a batch that is tried: wider networks are as fast in smaller batches

    def __init__(self, hidden: int, batches: tuple[int, ...] | None = None) -> None:
        import flax.linen as nn
        import jax
        import jax.numpy as jnp
        import optax

        class Network(nn.Module):
            @nn.compact
            def __call__(self, x: Any) -> Any:
                x = nn.relu(nn.Dense(hidden)(x))
                return jnp.concatenate([nn.Dense(1)(x), nn.Dense(1)(x)], axis=-1)

        network, optimizer = Network(), optax.adam(LEARNING_RATE)
        inputs = jnp.asarray(INPUTS)

        def loss(parameters: Any, targets: Any) -> Any:
            logits = network.apply(parameters, inputs)
            return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, targets), axis=0).sum()

        def step(carry: Any, targets: Any) -> Any:
            parameters, state = carry
            updates, state = optimizer.update(jax.grad(loss)(parameters, targets), state, parameters)
            return optax.apply_updates(parameters, updates), state

        def several_steps(carry: Any, targets: Any, count: int) -> Any:
            return jax.lax.scan(lambda c, _: (step(c, targets), None), carry, length=count)[0]

        def start_of(parameters: Any) -> Any:
            return parameters, optimizer.init(parameters)

        self._hidden = hidden
        self._starting = jax.jit(jax.vmap(start_of))
        one_context = jax.vmap(several_steps, in_axes=(0, None, None))
        self._one_context = jax.jit(one_context, static_argnums=2)
        self._training = jax.jit(jax.vmap(one_context, in_axes=(0, 0, None)), static_argnums=2)
        self._choose(batches or tuple(batch for batch in self.BATCHES if batch * hidden <= self.MOST_UNITS))

    def _choose(self, batches: tuple[int, ...]) -> None:
        import jax

        best = 0.0
        self.tried: dict[str, float] = {}
        for batch in batches:
            carry = self._carry(starts(self._hidden, CONTEXT_COUNT * batch, 0))
            carry = jax.tree.map(lambda x, n=batch: x.reshape(CONTEXT_COUNT, n, *x.shape[1:]), carry)
            begun = time.perf_counter()
            training = self._training.lower(carry, TARGETS, self.STEPS).compile()
            compile_seconds = time.perf_counter() - begun
            jax.block_until_ready(training(carry, TARGETS))
            seconds = _least_seconds(functools.partial(_finished, training, carry, TARGETS))
            rate = CONTEXT_COUNT * batch * self.STEPS / seconds
            self.tried[f"{batch} members"] = rate
            if rate > best:
                best, self._batch, self._state, self._kept = rate, batch, carry, training
                self.compile_seconds = compile_seconds
        self.detail = f"{self._batch} members at a time"

    def _carry(self, start: np.ndarray) -> Any:
        """Parameters [P, N] as Flax has them, one network a leading entry, with the optimiser's state."""
        n, lanes = self._hidden, start.T
        tree = {
            "Dense_0": {"kernel": lanes[:, : 4 * n].reshape(-1, 4, n), "bias": lanes[:, 4 * n : 5 * n]},
            "Dense_1": {"kernel": lanes[:, 5 * n : 6 * n, None], "bias": lanes[:, 7 * n, None]},
            "Dense_2": {"kernel": lanes[:, 6 * n : 7 * n, None], "bias": lanes[:, 7 * n + 1, None]},
        }
        return self._starting({"params": tree})

    def run(self, amount: int) -> int:
        """100 x `amount` steps of one batch in four contexts."""
        import jax

        carry = self._state
        for _ in range(amount):
            carry = self._kept(carry, TARGETS)
        jax.block_until_ready(carry)
        return self._batch * CONTEXT_COUNT * self.STEPS * amount

    def train(self, start: np.ndarray, targets: np.ndarray, steps: int) -> np.ndarray:
        """Parameters [P, N] after `steps` from `start` on targets [rows, heads]."""
        tree = self._one_context(self._carry(start), targets, steps)[0]["params"]
        layers = [tree[f"Dense_{number}"] for number in range(3)]
        pieces = [layers[0]["kernel"], layers[0]["bias"], *(layer["kernel"] for layer in layers[1:])]
        pieces += [layer["bias"] for layer in layers[1:]]
        return np.concatenate([np.asarray(piece).reshape(len(piece), -1) for piece in pieces], axis=1).T


class TorchBatched:
    """PyTorch, all networks of a batch in batched matrix products, one Adam over the stacked parameters."""

    STEPS = 20  # a unit of `amount`
    BATCHES = (256, 1024, 4096, 16384)  # members, of which the fastest is kept
    WAYS = ("fused", "foreach")  # how torch.optim.Adam updates, of which the fastest is kept
    compile_seconds = 0.0

    def __init__(self, hidden: int, batches: tuple[int, ...] | None = None) -> None:
        self._torch = torch = _torch()
        self._hidden = hidden
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._inputs = torch.tensor(INPUTS, device=self._device)
        best = 0.0
        self.tried: dict[str, float] = {}
        for batch in batches or self.BATCHES:
            for way in self.WAYS:
                networks = CONTEXT_COUNT * batch
                state = self._state(starts(hidden, networks, 0), way)
                answers = torch.tensor(TARGETS, device=self._device).repeat_interleave(batch, dim=0)
                self._steps(state, answers, 5)
                seconds = _least_seconds(functools.partial(self._steps, state, answers, self.STEPS))
                rate = networks * self.STEPS / seconds
                self.tried[f"{batch} members, {way}"] = rate
                if rate > best:
                    best, self._kept, self._networks = rate, (state, answers), networks
                    self.detail = f"{batch} members at a time, {way} Adam"
        self.detail += f"; {torch.get_num_threads()} threads" if self._device == "cpu" else "; cuda"

    def _state(self, start: np.ndarray, way: str) -> Any:
        n, torch = self._hidden, self._torch
        lanes = torch.tensor(np.ascontiguousarray(start.T), device=self._device)
        pieces = (
            lanes[:, : 4 * n].reshape(-1, 4, n),
            lanes[:, 4 * n : 5 * n].reshape(-1, 1, n),
            lanes[:, 5 * n : 7 * n].reshape(-1, 2, n).transpose(1, 2),
            lanes[:, 7 * n :].reshape(-1, 1, 2),
        )
        parameters = [piece.contiguous().requires_grad_() for piece in pieces]
        return parameters, torch.optim.Adam(parameters, lr=LEARNING_RATE, **{way: True})

    def _steps(self, state: Any, answers: Any, count: int) -> None:
        torch = self._torch
        (kernel, bias, heads, head_bias), optimizer = state
        inputs = self._inputs.expand(len(answers), -1, -1)
        for _ in range(count):
            optimizer.zero_grad()
            active = torch.relu(torch.baddbmm(bias, inputs, kernel))
            logits = torch.baddbmm(head_bias, active, heads)
            # Summed over networks, so that each gets the gradient of its own loss.
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, answers, reduction="sum")
            (loss / len(INPUTS)).backward()
            optimizer.step()
        if self._device == "cuda":
            torch.cuda.synchronize()

    def run(self, amount: int) -> int:
        """20 x `amount` steps of one batch in four contexts."""
        self._steps(*self._kept, self.STEPS * amount)
        return self._networks * self.STEPS * amount

    def train(self, start: np.ndarray, targets: np.ndarray, steps: int) -> np.ndarray:
        """Parameters [P, N] after `steps` from `start` on targets [rows, heads]."""
        state = self._state(start, self.WAYS[0])
        answers = self._torch.tensor(targets, device=self._device).expand(start.shape[1], -1, -1)
        self._steps(state, answers, steps)
        kernel, bias, heads, head_bias = (p.detach().cpu().numpy() for p in state[0])
        pieces = (kernel, bias, heads.transpose(0, 2, 1), head_bias)
        return np.concatenate([piece.reshape(len(piece), -1) for piece in pieces], axis=1).T


class TorchLoop:
    """PyTorch as in a tutorial: one network, a Python loop over steps, torch.nn and torch.optim.Adam."""

    STEPS = 100  # a unit of `amount`
    detail = "one network after another"
    compile_seconds = 0.0
    tried: ClassVar[dict[str, float]] = {}

    def __init__(self, hidden: int) -> None:
        self._torch = _torch()
        self._hidden = hidden
        self._inputs = self._torch.tensor(INPUTS)

    def _network(self, start: np.ndarray) -> Any:
        torch, n = self._torch, self._hidden
        body, alice, bob = torch.nn.Linear(4, n), torch.nn.Linear(n, 1), torch.nn.Linear(n, 1)
        values = torch.tensor(start)
        with torch.no_grad():
            body.weight.copy_(values[: 4 * n].reshape(4, n).T)
            body.bias.copy_(values[4 * n : 5 * n])
            for number, head in enumerate((alice, bob)):
                head.weight.copy_(values[(5 + number) * n : (6 + number) * n].reshape(1, n))
                head.bias.copy_(values[7 * n + number : 7 * n + number + 1])
        return torch.nn.ModuleList([body, alice, bob])

    def _steps(self, network: Any, targets: np.ndarray, count: int) -> None:
        torch = self._torch
        body, alice, bob = network
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        loss_of, answers = torch.nn.BCEWithLogitsLoss(), torch.tensor(targets)
        for _ in range(count):
            optimizer.zero_grad()
            active = torch.relu(body(self._inputs))
            loss = loss_of(alice(active)[:, 0], answers[:, 0]) + loss_of(bob(active)[:, 0], answers[:, 1])
            loss.backward()
            optimizer.step()

    def run(self, amount: int) -> int:
        """100 x `amount` steps of one network."""
        network = self._network(starts(self._hidden, 1, 0)[:, 0])
        self._steps(network, TARGETS[0], self.STEPS * amount)
        return self.STEPS * amount

    def train(self, start: np.ndarray, targets: np.ndarray, steps: int) -> np.ndarray:
        """Parameters [P, N] after `steps` from `start` on targets [rows, heads], one network at a time."""
        columns = []
        for lane in range(start.shape[1]):
            network = self._network(start[:, lane])
            self._steps(network, targets, steps)
            body, *heads = network
            pieces = [body.weight.T, body.bias, *(head.weight for head in heads), *(head.bias for head in heads)]
            columns.append(np.concatenate([piece.detach().numpy().ravel() for piece in pieces]))
        return np.stack(columns, axis=1)


class Native:
    """The limit: vectors of networks in registers, in C, on all cores (benchmarks/native/ncnet.c)."""

    MEMBERS = 256  # a unit of `amount`

    def __init__(self, hidden: int, steps: int) -> None:
        self._hidden, self._steps = hidden, steps
        begun = time.perf_counter()
        self._reference = NativeReference(hidden)
        self.tried: dict[str, float] = {}
        self.compile_seconds = time.perf_counter() - begun
        self.detail = self._reference.description
        self._start = np.zeros((0, 0, 0), np.float32)

    def run(self, amount: int) -> int:
        """Train 256 x `amount` members in four contexts. Starts are drawn when the amount is a new one."""
        members = self.MEMBERS * amount
        if self._start.shape[2] != members:
            drawn = starts(self._hidden, CONTEXT_COUNT * members, 0)
            self._start = np.ascontiguousarray(drawn.reshape(len(drawn), CONTEXT_COUNT, members).swapaxes(0, 1))
        self._reference.train_contexts(self._start, TARGETS, self._steps)
        return members * CONTEXT_COUNT * self._steps

    def train(self, start: np.ndarray, targets: np.ndarray, steps: int) -> np.ndarray:
        """Parameters [P, N] after `steps` from `start` on targets [rows, heads]."""
        return self._reference.train(start, targets, steps)


#: Every peer by its name in tables and JSON.
PEERS: dict[str, Callable[..., Any]] = {
    "ncsim": Ncsim,
    "ncsim, stored": lambda hidden, steps, **fields: Ncsim(hidden, steps, stored=True, **fields),
    "native reference": Native,
    "flax + optax, vmap": lambda hidden, steps: ObviousFlax(hidden),
    "torch, batched": lambda hidden, steps: TorchBatched(hidden),
    "torch, a loop": lambda hidden, steps: TorchLoop(hidden),
}


def _least_seconds(work: Callable[[], Any], times: int = 3) -> float:
    """The quickest of a few: what chooses a batch, not what is reported."""
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def _finished(function: Callable[..., Any], *arguments: Any) -> None:
    import jax

    jax.block_until_ready(function(*arguments))


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise MissingError("PyTorch is not installed (pip install torch)") from None
    return torch
