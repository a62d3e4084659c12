"""The same, with BERT on real text.

Its public names load what they need when first used; what reads files and hubs needs the `text` extra.
The folder has the rooms of the package itself: `config`, `records`, `run`, `run_folder`, `results`, and the folders `data`, `model`,
`training` and `report`.

Decisions
---------
Text: a tree frozen, a tree trained. Low-rank factors live in a variable collection of their own, so that adapters are
vmapped and the backbone is not, and every frozen product stays one matrix product. Ranks are zero-padded to the run's largest
where that is cheap, so that all share one program, else to their group's; the padding's gradient is zero. Each adapter is drawn at its own rank from its own key.

Text: items are packed into rows. Programs have fixed shapes, and items have not. A step's items, Alice's and Bob's, stand one
behind another in rows of one length, in any order, and each sees itself alone. What a step is does not depend on it. Sorting
batches by length would change which pairs a step has; a program per length would be compiled for each.

Text: own checkpoints, not orbax's. A group's state is one safetensors file with a checksum, written as every other file
here is: whole or not at all. A checkpoint is for one machine and one run, and needs nothing that a checkpoint library adds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ncsim.errors import DataError
    from ncsim.text.attention_entropies import attention_entropy
    from ncsim.text.config import TextConfig
    from ncsim.text.data.suites import SUITES, open_suite
    from ncsim.text.entanglement import entanglement_profile, spectrum_null
    from ncsim.text.model.adapter_files import load_adapter, save_adapter
    from ncsim.text.model.attention import attention_matrices
    from ncsim.text.model.checkpoint import load_backbone
    from ncsim.text.model.sizes import BertConfig
    from ncsim.text.profiles import adapter_profiles
    from ncsim.text.results import TextRun, open_text_run
    from ncsim.text.run import run_text


#: The public names, and the module of ncsim each comes from.
_PUBLIC = {
    "TextConfig": "text.config",
    "run_text": "text.run",
    "open_text_run": "text.results",
    "TextRun": "text.results",
    "load_adapter": "text.model.adapter_files",
    "save_adapter": "text.model.adapter_files",
    "load_backbone": "text.model.checkpoint",
    "BertConfig": "text.model.sizes",
    "DataError": "errors",
    "open_suite": "text.data.suites",
    "SUITES": "text.data.suites",
    "entanglement_profile": "text.entanglement",
    "spectrum_null": "text.entanglement",
    "adapter_profiles": "text.profiles",
    "attention_matrices": "text.model.attention",
    "attention_entropy": "text.attention_entropies",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ncsim.text' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ncsim.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
