"""Real text: BERT with low-rank adapters, trained on pairs of tasks. What reads files and hubs needs the text extra.

Importing this package needs no extra library and loads no JAX; names load what they need when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ncsim.errors import DataError
    from ncsim.text.config import TextConfig
    from ncsim.text.data.suites import SUITES, open_suite
    from ncsim.text.model.adapter_files import load_adapter, save_adapter
    from ncsim.text.model.bert import BertConfig
    from ncsim.text.model.checkpoint import load_backbone
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
    "BertConfig": "text.model.bert",
    "DataError": "errors",
    "open_suite": "text.data.suites",
    "SUITES": "text.data.suites",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ncsim.text' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ncsim.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
