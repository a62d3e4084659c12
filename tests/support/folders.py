"""Files of run folders, as tests compare them."""

from pathlib import Path


def parts_of(folder: Path, name: str = "*.parquet") -> list[Path]:
    """The parts of members and of trajectories below a folder, without the summaries beside them, which any report makes."""
    return sorted(path for path in Path(folder).rglob(name) if "summaries" not in path.relative_to(folder).parts)
