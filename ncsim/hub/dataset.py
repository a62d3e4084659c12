"""The folder of a data set as the Hugging Face hub and Croissant read it.

FOLDER/
  README.md               the card: what the tables are, and which of them `datasets.load_dataset` gives under which name
  croissant.json          the same for machines (MLCommons Croissant 1.0), with a checksum of each file
  data/members.parquet    one file of flat columns per table
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

import ncsim
from ncsim import signals
from ncsim.config.fields import shown
from ncsim.errors import ConfigError, StoreError, reason
from ncsim.formatting import json_text, page_bytes
from ncsim.machine import absolute
from ncsim.storage.arrow_tables import bounded

CARD, TABLES, UNFINISHED = "README.md", "data", ".unfinished-"
#: What an export puts in place before the card.
WRITTEN = ("croissant.json", TABLES, "adapters")
_PAPER = "arXiv:2603.04451"
#: The context that Croissant 1.0 prescribes (http://mlcommons.org/croissant/1.0), in whose words the metadata is.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
} | {
    name: f"cr:{name}"
    for name in (
        "citeAs column equivalentProperty extract field fileObject fileProperty fileSet format includes isLiveDataset jsonPath key md5 "
        "parentField path recordSet references regex repeated replace samplingRate separator source subField transform"
    ).split()
}


class TableFile(NamedTuple):
    """A table that is written.

    Attributes:
        name: of the table, as `load_dataset` has it.
        words: what a row is.
        schema: its columns.
        rows: how many.
        content_sha256: of the file, hexadecimal digits.
    """

    name: str
    words: str
    schema: pa.Schema
    rows: int
    content_sha256: str

    @property
    def place(self) -> str:
        """Where it is in the folder."""
        return f"data/{self.name}.parquet"


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str], license_id: str | None) -> Iterator[HubFolder]:
    """A new folder for a data set. It is written in a hidden folder within, so that a kill leaves nothing that looks whole, and
    where it cannot be finished, nothing is left.

    Args:
        path: a folder that is not there, or is empty.
        license_id: as the hub calls it; None leaves it out.

    Raises:
        ConfigError: the folder is not empty, or cannot be made; or no licence is called so.
        StoreError: it cannot be written to.
    """
    path = os.fspath(path)
    if not path or "://" in path:
        raise ConfigError(f"--hub: {path}; allowed: a folder on this machine")
    if license_id is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license_id):
        raise ConfigError(f"--license: {shown(license_id)}; allowed: a licence as the hub calls it, as cc-by-4.0")
    place = Path(absolute(path))
    try:
        place.mkdir(parents=True, exist_ok=True)
        left, there = _killed(place)
    except OSError as error:
        raise ConfigError(f"--hub: {path}; cannot be made ({reason(error)}); allowed: a new folder") from None
    if there:
        raise ConfigError(f"--hub: {path} is not empty; allowed: a new folder")
    try:
        for entry in left:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        with signals.scratch(UNFINISHED, place) as made:
            folder = HubFolder(made, license_id)
            yield folder
            folder.path = place
            # The card comes last: a folder that has one is whole. Tables come first: where they are still here, nothing is in place.
            for entry in sorted(made.iterdir(), key=lambda entry: (entry.name == CARD, entry.name != TABLES)):
                entry.rename(place / entry.name)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written to ({reason(error)})") from None


def _killed(place: Path) -> tuple[list[Path], list[Path]]:
    """What an export that was killed has left in a folder, and all else there. One that was killed at its very end has put some of
    it in place: what its hidden folder, with the card that comes last and without the tables that come first, has no more."""
    hidden = [entry for entry in place.iterdir() if entry.name.startswith(UNFINISHED)]
    others = [entry for entry in place.iterdir() if entry not in hidden]
    ending = [folder for folder in hidden if (folder / CARD).is_file() and not (folder / TABLES).exists()]
    moved = [
        entry for entry in others if entry.name in WRITTEN and any(not (each / entry.name).exists() for each in ending)
    ]
    return [*moved, *hidden], [entry for entry in others if entry not in moved]


class HubFolder:
    """The folder of a data set while it is written; see `new_folder`."""

    def __init__(self, path: Path, license_id: str | None) -> None:
        self.path, self.license_id = path, license_id
        self.tables: list[TableFile] = []
        (path / "data").mkdir()

    def add_table(self, name: str, words: str, tables: Iterable[pa.Table]) -> None:
        """Write a table piece by piece; none of no rows.

        Args:
            name: of it.
            words: what a row is.
            tables: its pieces in order, with the same columns.
        """
        place, rows, writer = self.path / "data" / f"{name}.parquet", 0, None
        try:
            for table in tables:
                if writer is None:
                    told = bounded(table.schema)
                    writer = pq.ParquetWriter(place, table.schema, compression="zstd", write_statistics=told)
                writer.write_table(table)
                rows += table.num_rows
        finally:
            if writer is not None:
                writer.close()
        if writer is not None:
            with open(place, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self.tables.append(TableFile(name, words, writer.schema, rows, digest))

    def write(self, name: str, content: str | bytes) -> None:
        """Write another file."""
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(page_bytes(content) if isinstance(content, str) else content)

    def describe(self, title: str, words: str, body: Sequence[str], columns: Callable[[str], str]) -> None:
        """Write the card and the metadata of all tables.

        Args:
            title: of the data set.
            words: what it is, in a sentence or two.
            body: more paragraphs of the card.
            columns: what a column holds, by its name.
        """
        self.write("croissant.json", json_text(_croissant(self, title, words, columns), 2))
        self.write(CARD, _card(self, title, words, body, columns))


def front_matter(values: Mapping[str, Any]) -> str:
    """The YAML at the head of a card. JSON is YAML, so that each value stands on a line as JSON."""
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value is not None]
    return "\n".join(["---", *lines, "---", ""])


def _card(folder: HubFolder, title: str, words: str, body: Sequence[str], columns: Callable[[str], str]) -> str:
    tables = folder.tables
    configs = [{"config_name": table.name, "data_files": table.place} for table in tables]
    configs[0]["default"] = True  # type: ignore[assignment]
    head = front_matter(
        {
            "pretty_name": title,
            "license": folder.license_id,
            "tags": ["ncsim", "CHSH", "multi-task-learning", "synthetic"],
            "size_categories": [_size(max(table.rows for table in tables))],
            "configs": configs,
        }
    )
    lines = [head, f"# {title}", "", words, "", "| table | a row is | rows |", "|---|---|---|"]
    lines += [f"| `{table.name}` | {table.words} | {table.rows:,} |" for table in tables]
    load = "\n".join(f'{t.name} = datasets.load_dataset("FOLDER", "{t.name}", split="train")' for t in tables)
    lines += ["", "```python", "import datasets", "", load, "```", ""]
    for paragraph in body:
        lines += [paragraph, ""]
    for table in tables:
        lines += [f"## Columns of `{table.name}`", "", "| column | type | what it is |", "|---|---|---|"]
        lines += [f"| `{field.name}` | {field.type} | {columns(field.name)} |" for field in table.schema]
        lines.append("")
    lines += [f"Made by ncsim {ncsim.__version__}. The experiment is that of {_PAPER}."]
    return "\n".join(lines) + "\n"


def _size(rows: int) -> str:
    """The hub's word for a number of rows."""
    marks = ("1K", "10K", "100K", "1M", "10M", "100M", "1B")
    at = sum(rows >= 10 ** (3 + n) for n in range(len(marks)))
    return f"n<{marks[0]}" if at == 0 else f"n>{marks[-1]}" if at == len(marks) else f"{marks[at - 1]}<n<{marks[at]}"


def _croissant(folder: HubFolder, title: str, words: str, columns: Callable[[str], str]) -> dict[str, Any]:
    found = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": title,
        "description": words,
        "citeAs": _PAPER,
        "version": "1.0.0",
        "datePublished": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": table.place,
                "name": table.place,
                "contentUrl": table.place,
                "encodingFormat": "application/x-parquet",
                "sha256": table.content_sha256,
            }
            for table in folder.tables
        ],
        "recordSet": [_record_set(table, columns) for table in folder.tables],
    }
    return found | ({} if folder.license_id is None else {"license": folder.license_id})


def _record_set(table: TableFile, columns: Callable[[str], str]) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{table.name}/{field.name}",
            "name": field.name,
            "description": columns(field.name),
            "dataType": _data_type(field.type),
            "source": {"fileObject": {"@id": table.place}, "extract": {"column": field.name}},
        }
        for field in table.schema
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": table.name,
        "name": table.name,
        "description": f"A row is {table.words}.",
        "field": fields,
    }


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"
