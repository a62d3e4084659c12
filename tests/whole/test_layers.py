"""A file imports only from smaller numbers, so that each can be read without those above it."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "ncsim"
LAYERS = {
    "background": 0,
    "checksums": 0,
    "executors.c_text": 0,
    "executors.scalarise": 0,
    "fields": 0,
    "memory": 0,
    "signals": 0,
    "storage": 0,
    "tasks": 0,
    "claims": 1,
    "config": 1,
    "counts": 1,
    "description": 1,
    "executors.c_source": 1,
    "inequalities": 1,
    "inference": 1,
    "progress": 1,
    "bootstrap": 2,
    "chsh": 2,
    "contextuality": 2,
    "executors.c_program": 2,
    "network": 2,
    "recording": 2,
    "records": 2,
    "delta_interval": 3,
    "hypothesis_tests": 3,
    "parts": 3,
    "protocols": 3,
    "train": 3,
    "undecided": 3,
    "dynamics": 4,
    "member_tests": 4,
    "store": 4,
    "trajectory_parts": 4,
    "observation": 5,
    "plots": 5,
    "sensing": 5,
    "trajectory_store": 5,
    "workers": 5,
    "distributed": 6,
    "executors": 6,
    "executors.xla": 6,
    "runs": 6,
    "trajectories": 6,
    "verify": 6,
    "devices": 7,
    "executors.native": 7,
    "executors.pallas": 7,
    "summary": 7,
    "executors.choice": 8,
    "report": 8,
    "forecast": 9,
    "trainer": 9,
    "ensemble": 10,
    "audit": 11,
    "calibration": 11,
    "options": 12,
    "plan": 12,
    "cli": 13,
    "text": 0,
    "text.catalogue": 0,
    "text.extra": 0,
    "text.config": 1,
    "text.bert": 2,
    "text.sources": 2,
    "text.lora": 3,
    "text.rows": 3,
    "text.suites": 3,
    "text.adapter_files": 4,
    "text.checkpoint": 4,
    "text.datasets": 4,
    "text.finetune": 4,
    "text.tokens": 4,
    "text.items": 5,
    "text.programs": 5,
    "text.store": 5,
    "text.prepare": 6,
    "text.results": 6,
    "text.summary": 9,
    "text.plots": 10,
    "text.report": 11,
    "text.run": 11,
    "text.command": 12,
}
#: What a module may import besides the standard library, numpy and jaxtyping; everything else is refused.
THIRD_PARTY = {
    "chsh": {"jax"},
    "network": {"jax", "flax"},
    "train": {"jax", "optax"},
    "observation": {"jax"},
    "dynamics": {"jax"},
    "sensing": {"scipy", "sklearn"},
    "executors.scalarise": {"jax"},
    "executors.xla": {"jax"},
    "executors.pallas": {"jax"},
    "executors.c_source": {"jax"},
    "executors.c_program": {"jax"},
    "executors.native": {"jax"},
    "executors.choice": {"jax"},
    "ensemble": {"jax"},
    "trainer": {"jax"},
    "parts": {"pyarrow"},
    "storage": {"fsspec"},
    "devices": {"jax"},
    "distributed": {"jax"},
    "runs": {"pyarrow"},
    "trajectory_parts": {"pyarrow"},
    "inference": {"scipy"},
    "bootstrap": {"scipy"},
    "contextuality": {"scipy"},
    "delta_interval": {"scipy"},
    "hypothesis_tests": {"scipy"},
    "member_tests": {"scipy"},
    "inequalities": {"scipy"},
    "progress": {"tqdm"},
    "plots": {"matplotlib"},
    "text.bert": {"jax", "flax"},
    "text.finetune": {"jax", "optax"},
    "text.programs": {"jax"},
    "text.store": {"pyarrow", "safetensors"},
    "text.run": {"jax"},
    "text.results": {"pyarrow"},
    "text.lora": {"jax"},
    "text.checkpoint": {"safetensors", "huggingface_hub"},
    "text.adapter_files": {"jax", "safetensors"},
    "text.datasets": {"tensorflow_datasets"},
    "text.tokens": {"tokenizers", "transformers"},
}
#: Reports and figures see stored records, never a network.
NEVER = {
    name: {"network", "train", *(inner for inner in LAYERS if inner.startswith("executors.")), "ensemble"}
    for name in ("plots", "report", "summary", "protocols", "store")
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            yield name, ast.parse(path.read_text())


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module in ("ncsim", "ncsim.executors", "ncsim.text"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(("name", "tree"), list(modules()), ids=[name for name, _ in modules()])
def test_imports_go_down(name, tree):
    assert name in LAYERS, f"ncsim/{name}.py has no layer: give it one here and in DESIGN.md"
    for target in imported(tree):
        if target.startswith("ncsim."):
            inner = target.removeprefix("ncsim.")
            assert inner in LAYERS, target
            assert LAYERS[inner] < LAYERS[name] or inner == "executors", f"{name} imports {inner}"
            assert inner not in NEVER.get(name, ()), f"{name} may not see {inner}"


@pytest.mark.parametrize(("name", "tree"), list(modules()), ids=[name for name, _ in modules()])
def test_third_parties_stay_where_they_belong(name, tree):
    import sys

    for target in imported(tree):
        package = target.split(".")[0]
        if package not in sys.stdlib_module_names and package not in ("ncsim", "numpy", "jaxtyping"):
            assert package in THIRD_PARTY.get(name, ()), f"ncsim/{name}.py imports {package}"


def test_files_stay_about_one_thing():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, f"{path.name} has grown past 400 lines: split it"


def test_the_design_page_has_the_same_layers():
    page = (PACKAGE.parent / "DESIGN.md").read_text()
    rows = re.findall(r"^\| `([\w/]+)\.py` \|.*\| (\d+) \|$", page, re.MULTILINE)
    packages = {"text", "executors"}
    assert [(name.replace("/", "."), int(layer)) for name, layer in rows] == [
        (name, layer) for name, layer in LAYERS.items() if name not in packages
    ]
