"""What the stored runs were made on, and what can be said of one of their files without the code that wrote it."""

import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet

FOLDER = Path(__file__).parents[1] / "fixtures" / "stored_runs"
#: What a training's bits depend on, what writes the files, and what the numbers of a report come from.
PACKAGES = {
    "ensemble": ("jax", "jaxlib", "flax", "optax", "numpy", "pyarrow"),
    "text": ("jax", "jaxlib", "flax", "optax", "numpy", "pyarrow", "tokenizers", "safetensors"),
    "report": ("jax", "jaxlib", "numpy", "scipy"),
}
#: Instructions that compilers choose arithmetic by: how many lanes, and whether a product and a sum are rounded once.
INSTRUCTIONS = re.compile(r"(sse|ssse|avx|amx|fma|f16c|asimd|sve|sme(?!p)|neon|bf16|i8mm)")
SUMMARY = "summary.json"


def here():
    """The machine and the versions, read beside the package and not by it."""
    cpu = _processor()
    flags = cpu.get("flags", cpu.get("Features", "")).split()
    names = sorted({package for packages in PACKAGES.values() for package in packages})
    return {
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in names},
        "architecture": platform.machine(),
        "instructions": sorted(flag for flag in flags if INSTRUCTIONS.match(flag)),
        "processor": [cpu.get(name, "") for name in ("vendor_id", "cpu family", "model")],
        "compiler": compiler(),
    }


def _processor():
    """The first processor of /proc/cpuinfo; nothing where there is no such file, which equals no recorded one."""
    try:
        text = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def compiler():
    """The first C compiler of those that the native executor looks for, in its own words; None where there is none."""
    for name in ("cc", "gcc", "clang"):
        try:
            answer = subprocess.run([name, "--version"], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return answer.stdout.splitlines()[0]
    return None


def differences(then, now, kind):
    """Why a training, or a report, may have other bits here than it had: in words, nothing where it may not.

    A text run's products of matrices are blocked by the sizes of a processor's caches, and a report's sums by numpy's own
    choice, so these want the same model of processor. The native executor wants the same compiler, too.
    """
    packages = PACKAGES["text" if kind == "text" else "report" if kind == "report" else "ensemble"]
    facts = ["architecture", "instructions", *(["processor"] if kind in ("text", "report") else [])]
    facts += ["compiler"] if kind == "native" else []
    found = [name for name in facts if then[name] != now[name]]
    return found + [
        f"{name} {then['versions'][name]}, here {now['versions'][name]}"
        for name in packages
        if then["versions"][name] != now["versions"][name]
    ]


def sha256(path):
    """Of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files(folder):
    """Every file of a run folder by its name, but for what a report is made of, what it makes, and a lock that nobody reads."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    made = ("figures/", "report.html", SUMMARY, "rejected/", "summaries/")
    return {name: folder / name for name in names if not name.startswith((".", *made))}


def facts(path):
    """What a file is, besides its bits: for parts and adapters what a reader goes by."""
    found = {"sha256": sha256(path)}
    if path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path, partitioning=None)
        found["rows"] = table.num_rows
        found["columns"] = [[field.name, str(field.type)] for field in table.schema]
        found["keys"] = sorted(key.decode() for key in pyarrow.parquet.read_metadata(path).metadata)
        # What a row is of, of which no bit depends on arithmetic.
        of = [
            name
            for name in ("member", "step", "rank", "seed", "context", "epoch", "split")
            if name in table.column_names
        ]
        found["of"] = of
        found["of_sha256"] = _digest([table[name].to_pylist() for name in of])
        if "member" in of:
            members = table["member"].to_pylist()
            found["members"] = [min(members), max(members), len(set(members))]
    elif path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "numpy") as file:
            tensors = {name: file.get_slice(name) for name in sorted(file.keys())}
            found["tensors"] = {name: [each.get_dtype(), each.get_shape()] for name, each in tensors.items()}
            found["keys"] = file.metadata()
    return found


def _digest(values):
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def array_facts(values):
    """An array's shape, its bits, and, so that a difference can be read, its sum over members."""
    values = np.asarray(values)
    found = {
        "shape": list(values.shape),
        "dtype": values.dtype.str,
        "sha256": hashlib.sha256(values.tobytes()).hexdigest(),
    }
    if values.dtype.kind in "iu":
        found["sum"] = int(values.sum())
    return found


def trajectory_facts(batches):
    """What a run recorded of a cell's members along training."""
    batches = list(batches)
    if not batches:
        return None
    found = {
        "member": array_facts(np.concatenate([batch.member for batch in batches])),
        "step": batches[0].step.tolist(),
        "counts": array_facts(np.concatenate([batch.counts for batch in batches])),
    }
    for name in batches[0].values:
        found[name] = array_facts(np.concatenate([batch.values[name] for batch in batches]))
    return found
