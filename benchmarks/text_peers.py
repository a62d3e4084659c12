"""Ways to do the work of `text_work.py`, each alone in a process of its own (`workers.py`)."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.native import MissingError
from benchmarks.text_work import SIZES, TextWork


class NcsimText:
    """ncsim's adapter training as `ncsim text` runs it: compiled programs of groups of adapters.

    `at_once`: adapters a group; the groups are trained one after another.
    """

    tried: ClassVar[dict[str, float]] = {}

    def __init__(self, work: TextWork, at_once: int = 1) -> None:
        import jax

        from ncsim.text.config import TextConfig
        from ncsim.text.records import AdapterId
        from ncsim.text.training.attention import attention_for
        from ncsim.text.training.programs import adapter_mesh, group_program
        from ncsim.text.training.shapes import best_microbatch, frozen, setting_of

        self._work, bert = work, SIZES[work.size]
        mesh = adapter_mesh(jax.devices()[:1])
        backbone = _backbone(work)
        if work.precision == "bfloat16":
            backbone = jax.tree.map(lambda leaf: leaf.astype(jax.numpy.bfloat16), backbone)
        tokens, pairs = work.tokens_without_padding()
        config = TextConfig(
            ranks=(work.rank,),
            seeds=-(-work.adapters // 4),
            epochs=10**5,
            batch_size=work.batch,
            learning_rate=work.learning_rate,
            schedule="constant",
            warmup=0.0,
            clip=0.0,
            weight_decay=0.0,
            precision=work.precision,
            length=work.tokens,
        )
        adapters = [AdapterId(work.rank, number // 4, number % 4) for number in range(work.adapters)]
        setting = setting_of(config, bert, tokens.lengths, work.batch * work.steps, work.rank)
        rows = best_microbatch(setting, tokens.lengths, at_once, jax.default_backend())
        attention = work.attention or attention_for(config, bert, setting.row, mesh)
        setting = setting._replace(microbatch=rows, attention=attention)
        self._groups = [adapters[first : first + at_once] for first in range(0, len(adapters), at_once)]
        self._programs = [
            group_program(
                setting, mesh, jax.device_put(frozen(backbone, config, bert)), jax.device_put(tokens), pairs, group
            )
            for group in self._groups
        ]
        begun = time.perf_counter()
        for program in self._programs:
            program.memory()  # compiles
        self.compile_seconds = time.perf_counter() - begun
        self._states = [program.begin() for program in self._programs]
        self._orders = [program.order(0) for program in self._programs]
        self.detail = f"{at_once} at once, {work.precision}" + (", fused attention" if attention != "xla" else "")

    def run(self, amount: int) -> int:
        """Train every adapter for so many epochs: the sequences that passed."""
        for number, program in enumerate(self._programs):
            for _ in range(amount):
                self._states[number], losses = program.train(
                    self._states[number], self._orders[number], 0, 0, self._work.steps
                )
            losses.block_until_ready()
        return amount * self._work.adapters * self._work.sequences

    def begin(self, folder: str) -> np.ndarray:
        """Write each adapter as it begins to `folder`/<number>, and give the order of pairs, int32[G, steps, B, 2]."""
        import jax

        from ncsim.text.model.adapter_files import save_adapter

        for group, program, first in zip(self._groups, self._programs, self._firsts(), strict=True):
            state = program.begin()
            for place in range(len(group)):
                tree = jax.tree.map(lambda leaf, place=place: np.asarray(leaf[place]), state.adapters)
                save_adapter(Path(folder) / str(first + place), tree, rank=self._work.rank, alpha=16.0)
        pairs = np.concatenate([np.asarray(order.pairs) for order in self._orders])
        return pairs - np.array([0, self._work.batch * self._work.steps])  # Bob's items come after Alice's

    def losses(self, steps: int) -> np.ndarray:
        """Each adapter's loss at each of the first steps, from its beginning: [G, steps]."""
        found = []
        for program, order in zip(self._programs, self._orders, strict=True):
            state, each = program.begin(), []
            for step in range(steps):
                state, loss = program.train(state, order, 0, step, step + 1)
                each.append(np.asarray(loss))
            found.append(np.stack(each, axis=1))
        return np.concatenate(found)

    def _firsts(self) -> list[int]:
        sizes = [len(group) for group in self._groups]
        return [sum(sizes[:number]) for number in range(len(sizes))]


class TorchPeft:
    """PyTorch with PEFT: transformers' BertModel, LoRA by PEFT, two linear heads, torch.optim.AdamW; one adapter after
    another. Both sequences of each pair go through the backbone in one batch."""

    compile_seconds = 0.0
    tried: ClassVar[dict[str, float]] = {}

    def __init__(self, work: TextWork, adapters: str, order: np.ndarray) -> None:
        try:
            import peft
            import torch
            import transformers
        except ImportError as error:
            raise MissingError(f"{error.name} is not installed") from None
        warnings.simplefilter("ignore", FutureWarning)  # what peft uses of transformers is on its way out
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self._torch, self._work, self._order = torch, work, order
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._parties, _ = work.arrays()
        self._models = []
        for number in range(work.adapters):
            folder = Path(adapters) / str(number)
            bert = transformers.BertModel.from_pretrained(work.model)
            model = peft.PeftModel.from_pretrained(bert, folder, is_trainable=True).eval()  # no dropout, as ncsim
            heads = torch.nn.ModuleList(torch.nn.Linear(SIZES[work.size].hidden_size, 2) for _ in range(2))
            from safetensors.torch import load_file

            heads.load_state_dict(load_file(folder / "heads.safetensors"))
            model, heads = model.to(self._device), heads.to(self._device)
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            optimizer = torch.optim.AdamW([*trained, *heads.parameters()], work.learning_rate, weight_decay=0.0)
            self._models.append((model, heads, optimizer))
        self.detail = f"torch {torch.__version__}, peft {peft.__version__}, {torch.get_num_threads()} threads, eager"

    def run(self, amount: int) -> int:
        """Train every adapter for so many epochs: the sequences that passed."""
        for number in range(self._work.adapters):
            for step in list(range(self._work.steps)) * amount:
                loss = self._step(number, step)
            loss.item()
        return amount * self._work.adapters * self._work.sequences

    def losses(self, steps: int) -> np.ndarray:
        """Each adapter's loss at each of the first steps: [G, steps]. Trains; call it first."""
        return np.array(
            [[self._step(number, step).item() for step in range(steps)] for number in range(self._work.adapters)]
        )

    def _step(self, number: int, step: int) -> Any:
        torch, pairs = self._torch, self._order[number, step]
        model, heads, optimizer = self._models[number]
        ids, mask, types = (
            torch.from_numpy(np.concatenate([self._parties[p][field][pairs[:, p]] for p in range(2)]))
            .long()
            .to(self._device)
            for field in range(3)
        )
        pooled = model(input_ids=ids, attention_mask=mask, token_type_ids=types).pooler_output
        loss = torch.zeros((), device=self._device)
        for party, (head, features) in enumerate(zip(heads, pooled.chunk(2), strict=True)):
            labels = torch.from_numpy(self._parties[party][3][pairs[:, party]]).long().to(self._device)
            loss = loss + torch.nn.functional.cross_entropy(head(features), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()


class MatrixProducts:
    """The rate of matrix products on JAX's default device, as a peer: `measure` gives operations a second."""

    detail = ""
    compile_seconds = 0.0
    tried: ClassVar[dict[str, float]] = {}

    def measure(self, dtype: str, size: int, rounds: int = 7) -> float:
        """Of square matrices, in a chain, so that nothing waits for the host; the best round."""
        import jax
        import jax.numpy as jnp

        links = 16
        left = jnp.full((size, size), 1 / size, dtype)

        @jax.jit
        def chain(right: Any) -> Any:
            return jax.lax.fori_loop(0, links, lambda _, x: left @ x, right)

        right = jax.block_until_ready(chain(left))
        seconds = []
        for _ in range(rounds):
            begun = time.perf_counter()
            right = jax.block_until_ready(chain(right))
            seconds.append(time.perf_counter() - begun)
        return 2.0 * size**3 * links / min(seconds)


def _backbone(work: TextWork) -> Any:
    import jax

    from ncsim.text.model.bert import initial_parameters
    from ncsim.text.model.checkpoint import load_backbone

    if work.model is None:
        return jax.jit(initial_parameters, static_argnums=1)(jax.random.key(0), SIZES[work.size])
    config, tree = load_backbone(work.model)
    if config != SIZES[work.size]:
        raise ValueError(f"--model: {work.model} is not of the size of {work.size}")
    return tree


TEXT_PEERS: dict[str, Any] = {"ncsim text": NcsimText, "torch + peft": TorchPeft, "matrix products": MatrixProducts}
