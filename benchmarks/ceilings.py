"""What an accelerator can do at most, measured: float32 multiply-adds and memory copies; and what a step must do.

Operations of a network-step, n hidden units, counted as the least that does the work, not what any program executes.
An addition, multiplication, comparison, exponential, division or root is one, a multiply-add two:

- pre-activations: every row is a neighbour's plus one weight, 15 additions a unit: 15 n; ReLU of 16 rows: 16 n
- logits, 16 rows x 2 heads x n multiply-adds: 64 n
- residuals of 32 logits: exponential (with its factor), one added, reciprocal, less the target: 5 x 32 = 160
- gradient of the heads: 64 n, of their biases 30
- derivative by each activation, a product, a multiply-add and ReLU's mask, 16 rows: 64 n
- gradient of input weights and hidden biases, sums of rows folded in halves: 26 n
- Adam, 7 n + 2 parameters: averages 3 and 4, corrections 2, root, epsilon, quotient, rate and step 5: 14 each

Together 249 n + 190 + 14 (7 n + 2) = 347 n + 218.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

from benchmarks.work import parameter_count

BYTES = 4


def operations(hidden: int) -> int:
    """Float32 operations of a network-step, as derived above."""
    return 249 * hidden + 190 + 14 * parameter_count(hidden)


def bytes_through_memory(hidden: int) -> int:
    """Bytes that a network-step would move if its state (parameters, two averages) were read and written once."""
    return 3 * parameter_count(hidden) * BYTES * 2


class Ceilings:
    """The measured ceilings of JAX's default device, as a peer: `measure` gives them."""

    detail = ""
    compile_seconds = 0.0
    tried: ClassVar[dict[str, float]] = {}

    def measure(self, elements: int = 1 << 22, copied: int = 1 << 28) -> dict[str, float]:
        """Operations a second in float32 multiply-adds, and bytes a second of a copy (read and written both count), of so
        many numbers: enough to fill any chip, unless a test asks for less."""
        import jax
        import jax.numpy as jnp

        # Four chains of multiply-adds in each element, in registers.
        chains, links, turns = 4, 128, 16

        def multiply_add(x: Any) -> Any:
            def turn(_: Any, x: Any) -> Any:
                values = [x + chain for chain in range(chains)]
                for _link in range(links):
                    values = [value * 0.999 + 0.001 for value in values]
                return sum(values) * (1 / chains)

            return jax.lax.fori_loop(0, turns, turn, x)

        seconds = _best_seconds(jax.jit(multiply_add), jnp.ones(elements))
        copying = _best_seconds(jax.jit(lambda x: x + 1), jnp.ones(copied))
        return {
            "multiply_add_operations": 2.0 * elements * chains * links * turns / seconds,
            "copy_bytes": 2.0 * copied * BYTES / copying,
        }


def lines(hidden: int, rate: float | None, measured: dict[str, float] | None) -> list[str]:
    """The fraction of the ceilings that a rate of network-steps reaches, or that there is no accelerator."""
    if measured is None or rate is None:
        return ["Fraction of an accelerator's ceilings: not measured: no accelerator"]
    done, ceiling = rate * operations(hidden), measured["multiply_add_operations"]
    moved, copy = rate * bytes_through_memory(hidden), measured["copy_bytes"]
    return [
        f"{operations(hidden):,} operations a network-step: {done:.3g} of {ceiling:.3g} float32 multiply-add operations a "
        f"second, {done / ceiling:.1%} of the measured ceiling",
        f"memory copies at {copy:.3g} bytes a second; state through memory at every step would take "
        f"{moved / copy:.2f} of that, so above 1 it stays on the chip",
    ]


def _best_seconds(function: Callable[[Any], Any], argument: Any, rounds: int = 5) -> float:
    import jax

    jax.block_until_ready(function(argument))
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        jax.block_until_ready(function(argument))
        seconds.append(time.perf_counter() - begun)
    return min(seconds)
