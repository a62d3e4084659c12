"""What to say where a library of the `text` extra is not installed."""

from __future__ import annotations


def missing_extra(error: ImportError) -> ImportError:
    """The error to raise in place of `error`, in one line."""
    library = (error.name or str(error)).split(".")[0]
    return ImportError(
        f"ncsim.text: {library} is not installed; install it with: pip install 'ncsim[text]'", name=library
    )
