"""A text run as a folder for the hub: its evaluations as a data set, and each adapter as PEFT loads it, with a model card."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any

import pyarrow as pa

from ncsim.config.fields import shown, spelled_one_or_all
from ncsim.config.tasks import context_names
from ncsim.errors import ConfigError, StoreError
from ncsim.formatting import counted, json_text
from ncsim.hub.dataset import HubFolder, front_matter, new_folder
from ncsim.storage.checksums import UNSEALED, sealed
from ncsim.text.checkpoint_file import safetensors_metadata
from ncsim.text.records import PROFILES, AdapterId
from ncsim.text.results import TextRun
from ncsim.text.run_folder import ADAPTER_FILES

WORDS = (
    "Adapters of a frozen language model, each with two heads that were trained on two tasks at once, and how many items they answer "
    "right. Counts give the CHSH statistic S."
)
_COLUMNS = {
    "rank": "rank of the adapter",
    "seed": "seed of the adapter",
    "context": "Alice's task and Bob's: 12 is her first and his second",
    "epoch": "epochs trained",
    "split": "items that were evaluated",
    "loss_alice": "mean cross-entropy of Alice's head",
    "loss_bob": "mean cross-entropy of Bob's head",
    "diverged": "whether a logit was not finite; then all counts are 0",
    "undecided_alice": "items on which Alice's answer is undecided",
    "undecided_bob": "items on which Bob's answer is undecided",
    "decided_product": "sum of the product of outcomes over items that both decided",
}
_WORDS = {"0": "wrong", "1": "right"}
#: By split: items on which both are wrong, Bob alone is right, Alice alone, both.
_Counts = dict[str, list[int]]


def export_text(
    run: TextRun, path: str | os.PathLike[str], base_model: str | None, license_id: str | None = None
) -> HubFolder:
    """Write a text run as a folder for the hub.

    Args:
        run: a run that is stored; adapters that are still to be trained are left out.
        path: a new folder.
        base_model: the backbone's id on the hub, such as "google-bert/bert-base-uncased".
        license_id: as the hub calls it.

    Raises:
        ConfigError: that is no id, the folder is not empty or cannot be made, or no licence is called so.
        StoreError: nothing is stored yet, a file is torn, or the folder cannot be written to.
    """
    # Whether the run's own model was an id or a folder is not on record.
    if base_model is None or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", base_model):
        raise ConfigError(
            f"--base-model: {shown(base_model)}; allowed: the id on the hub of {run.config.model}, as google-bert/bert-base-uncased"
        )
    if run.config.adaptation == "full":
        raise ConfigError(
            "--hub: PEFT has no adapters without factors, as --adaptation full trains them; allowed: lora and mps"
        )
    table = run.table()
    ended = _last_counts(table)
    with new_folder(path, license_id) as folder:
        flat = table.drop_columns([PROFILES.name]) if PROFILES.name in table.column_names else table
        folder.add_table("evaluations", "one adapter after an epoch, on one split", [_flat(flat)])
        trained = _trained(run)
        for adapter in trained:
            _export_adapter(run, adapter, folder, base_model, ended.get(adapter, {}))
        title = f"ncsim text: {run.data['suite']}"
        folder.describe(title, WORDS, _body(run, base_model, len(trained)), _described)
    return folder


def _flat(table: pa.Table) -> pa.Table:
    """A column per number."""
    columns: dict[str, Any] = {}
    for field in table.schema:
        values = table[field.name].combine_chunks()
        if field.name == "counts":
            flat = values.flatten().to_numpy().reshape(-1, 4)
            columns |= {f"counts_{a}{b}": pa.array(flat[:, 2 * a + b]) for a in (0, 1) for b in (0, 1)}
        else:
            columns[field.name] = values
    return pa.table(columns)


def _trained(run: TextRun) -> list[AdapterId]:
    return [adapter for group in run._folder.groups for adapter in group if run._folder.has_adapter(adapter)]


def _export_adapter(run: TextRun, adapter: AdapterId, folder: HubFolder, base: str, ended: _Counts) -> None:
    """Write the files of one adapter, and its card."""
    torn = run._folder.torn_of_adapter(adapter)
    if torn is not None:
        raise StoreError(torn.problem, f"{run.location}/{torn.name}")
    place = f"adapters/rank-{adapter.rank}-seed-{adapter.seed}-context-{adapter.context_name}"
    stored = [run.storage.read(f"{run._folder.adapter_name(adapter)}/{name}") for name in ADAPTER_FILES]
    for name, content in _over(base, *stored).items():
        folder.write(f"{place}/{name}", content)
    folder.write(f"{place}/README.md", _model_card(run, adapter, base, folder.license_id, ended))


def _over(base: str, weights: bytes, config: bytes, heads: bytes) -> dict[str, bytes]:
    """The files of an adapter whose config names the backbone that PEFT is to load. The heads hold the checksums of the others."""
    named = (json_text(json.loads(config) | {"base_model_name_or_path": base}, 2) + "\n").encode()
    if (said := safetensors_metadata(heads).get("ncsim")) is not None:
        seal = json.loads(said)["checksum"]
        old, new = (hashlib.sha256(content).hexdigest().encode() for content in (config, named))
        heads = sealed(heads.replace(old, new).replace(seal.encode(), UNSEALED.encode()))
    return dict(zip(ADAPTER_FILES, (weights, named, heads), strict=True))


def _model_card(run: TextRun, adapter: AdapterId, base: str, license_id: str | None, ended: _Counts) -> str:
    """The card of an adapter. Values of the run are told by the data set's card."""
    title = f"ncsim {run.data['suite']}: rank {adapter.rank}, seed {adapter.seed}, context {adapter.context_name}"
    head = front_matter(
        {
            "base_model": base,
            "library_name": "peft",
            "license": license_id,
            "tags": ["ncsim", "lora", "multi-task-learning"],
        }
    )
    sets = (run.data["tasks"][name]["dataset"] for name in _tasks(adapter))
    alice, bob = ("texts from files" if name == "file" else name for name in sets)
    rows = "\n".join(f"| {split} | {' | '.join(map(str, row))} |" for split, row in ended.items())
    # Each split has pairs: all counts are 0 of an adapter that diverged alone.
    if any(not sum(row) for row in ended.values()):
        rows += "\n\nIt diverged: a logit was not finite, so that no pair is counted. It is of no use."
    return f"""{head}
# {title}

A LoRA adapter of [{base}](https://huggingface.co/{base}) and two heads on it, trained at once: Alice's on {alice}
({_tasks(adapter)[0]}), Bob's on {bob} ({_tasks(adapter)[1]}).

| split | both wrong | only Bob right | only Alice right | both right |
|---|---|---|---|---|
{rows}

```python
from peft import PeftModel
from transformers import AutoModel

model = PeftModel.from_pretrained(AutoModel.from_pretrained("{base}"), "FOLDER")
```

The heads are in `heads.safetensors`. They read the encoder's output as `--pooling {run.config.pooling}` of ncsim says.
Where PEFT warns of missing adapter keys, this model has its encoder inside, as DPR's have, and nothing is adapted: load the adapter over that encoder.
"""


def _tasks(adapter: AdapterId) -> tuple[str, str]:
    name = adapter.context_name
    return f"A{name[0]}", f"B{name[1]}"


def _last_counts(table: pa.Table) -> dict[AdapterId, _Counts]:
    """Counts of each adapter after its last epoch."""
    found: dict[AdapterId, _Counts] = {}
    for row in table.to_pylist():
        adapter = AdapterId(row["rank"], row["seed"], context_names().index(row["context"]))
        found.setdefault(adapter, {})[row["split"]] = row["counts"]  # epochs ascend
    return found


def _described(column: str) -> str:
    if column.startswith("counts_"):
        return f"items on which Alice is {_WORDS[column[-2]]} and Bob {_WORDS[column[-1]]}"
    return _COLUMNS[column]


def _body(run: TextRun, base: str, adapters: int) -> list[str]:
    """Paragraphs of the data set's card; no path of the machine that trained."""
    config = {name: value for name, value in vars(run.config).items() if name not in ("model", "suite")}
    rows = [f"| {name} | {spelled_one_or_all(value)} |" for name, value in config.items()]
    tasks = [
        f"| {name} | {task['dataset']} | {task['items']['train']:,} | {task['items']['test']:,} |"
        for name, task in run.data["tasks"].items()
    ]
    paragraphs = [
        f"Backbone: [{base}](https://huggingface.co/{base}), frozen; fingerprint of its files {run.backbone['fingerprint']}.",
        "| task | data set | items, train | items, test |\n|---|---|---|---|\n" + "\n".join(tasks),
        f"`adapters/` has {counted(adapters, 'adapter')} in PEFT's format, each with a model card and its heads. The text of the tasks is not here.",
        "## Settings\n\n| field | value |\n|---|---|\n" + "\n".join(rows),
    ]
    if missing := run.missing():
        paragraphs.insert(0, f"Not complete: {counted(missing, 'adapter was', 'adapters were')} still to be trained.")
    return paragraphs
