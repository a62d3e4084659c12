"""The order of the package: which unit may import which, computed from the imports. `make layers` prints it.

A unit is a folder or a single file directly in `ncsim/`. A new file needs no entry here, a new unit needs one word.
"""

import ast
import functools
import graphlib
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "ncsim"

#: The units, bottom first: each imports only from units before it.
UNITS = (
    *("errors", "formatting", "forks", "signals", "terminal", "jax_settings", "machine", "c_compiler"),
    "config",
    *("records", "training"),
    *("statistics", "storage", "executors"),
    *("exports", "results", "scenarios", "study", "tracking", "hub", "cluster", "tables"),
    *("report", "ensemble"),
    *("planning", "text"),
    "cli",
)
#: What a unit may import besides the standard library, NumPy and jaxtyping.
THIRD_PARTY = {
    "terminal": {"tqdm"},
    "c_compiler": {"jax"},
    "jax_settings": {"jax"},
    "training": {"jax", "flax", "optax"},
    "statistics": {"cvxpy", "jax", "scipy", "sklearn"},
    "storage": {"obstore", "pyarrow"},
    "executors": {"compression", "jax", "zstandard"},
    "results": {"pyarrow"},
    "hub": {"pyarrow"},
    "cluster": {"jax", "ray"},
    "cli": {"shtab"},
    "report": {"jinja2", "matplotlib"},
    "ensemble": {"jax"},
    "text": {
        *("flax", "huggingface_hub", "jax", "optax", "pyarrow", "safetensors"),
        *("tensorflow_datasets", "tokenizers", "transformers"),
    },
}
#: Reports see stored records, never a network: these units may not import what trains.
NEVER = {
    unit: {"training", "executors", "ensemble"}
    for unit in ("statistics", "storage", "results", "scenarios", "study", "report")
}


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Every file's tree by its dotted name inside the package; a package's own file has the package's name."""
    trees = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            trees[name] = ast.parse(path.read_text())
    return trees


def imported(name: str) -> set[str]:
    """What a file imports at any depth, also inside functions: `ncsim.` names of files, and names of other packages."""
    found = set()
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"ncsim/{name}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner.removeprefix("ncsim.") in modules() else str(node.module))
    return found


def inner(name: str) -> set[str]:
    """The files of the package that a file imports."""
    return {target.removeprefix("ncsim.") for target in imported(name) if target.startswith("ncsim.")}


def outer(name: str) -> set[str]:
    """The third-party packages that a file imports."""
    packages = {target.split(".")[0] for target in imported(name)}
    return packages - sys.stdlib_module_names - {"ncsim", "numpy", "jaxtyping"}


def unit(name: str) -> str:
    """The unit that a file belongs to."""
    return name.split(".")[0]


def unit_imports() -> dict[str, set[str]]:
    """The other units that each unit imports."""
    found: dict[str, set[str]] = {}
    for name in modules():
        found.setdefault(unit(name), set()).update(unit(target) for target in inner(name))
    return {each: targets - {each} for each, targets in found.items()}


def heights(imports: dict[str, set[str]]) -> dict[str, int]:
    """One above the highest that is imported, from 1.

    Raises:
        graphlib.CycleError: some import each other in a circle.
    """
    order: dict[str, int] = {}
    for each in graphlib.TopologicalSorter(imports).static_order():
        order[each] = 1 + max((order[target] for target in imports.get(each, ())), default=0)
    return order


def main() -> None:
    """Print the units, layer by layer, and what each imports."""
    imports = unit_imports()
    order = heights(imports)
    for layer in range(1, max(order.values()) + 1):
        print(f"layer {layer}")
        for each in (each for each in UNITS if order[each] == layer):
            files = [name for name in modules() if unit(name) == each]
            inside = max(
                heights({name: {t for t in inner(name) if unit(t) == each} - {name} for name in files}).values()
            )
            print(
                f"  {each:<11} {len(files):>2} files, {inside} deep; imports {', '.join(sorted(imports[each])) or '-'}"
            )


if __name__ == "__main__":
    main()
