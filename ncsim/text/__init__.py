"""Real text: BERT with low-rank adapters, trained on pairs of tasks. What reads files and hubs needs `ncsim[text]`."""

from __future__ import annotations


def missing_extra(error: ImportError) -> ImportError:
    """The error to raise, in one line, where a library of the `text` extra is not installed."""
    library = (error.name or str(error)).split(".")[0]
    return ImportError(
        f"ncsim.text: {library} is not installed; install it with: pip install 'ncsim[text]'", name=library
    )
