"""Five data sets as builders of TensorFlow Datasets, without TensorFlow: SST-2, MRPC, PAWS-X, CommonsenseQA, MathQA.

Files of a folder of the user's (`source_dir`) are read as they are: to parse the 92,444 rows of the mixed suite takes a second
of processor time, to write them as array_record another fifteen. What is downloaded from where the authors put it is
prepared by the builder and kept as array_record. Either way the rows are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from ncsim.errors import ConfigError, DataError, missing_extra, one_line, reason
from ncsim.machine import user_caches
from ncsim.terminal import say
from ncsim.text.data.datasets import DATA_SETS, PAWS_X_LANGUAGES, DataSet
from ncsim.text.data.rows import Labelled, Question, Row, read_own, read_rows
from ncsim.text.data.sources import SourceFile, digest, errors_only, find, members, read
from ncsim.text.data.suites import Task

try:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.proto import tf_example_pb2
except ImportError as error:
    raise missing_extra(error) from error


class Prepared(NamedTuple):
    """A data set: rows by split (train, validation, test: those there are), and what is to be told."""

    splits: dict[str, list[Row]]
    notes: tuple[str, ...]


def load(
    name: str,
    *,
    language: str = "",
    source_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Prepared:
    """One of the five data sets; one that is downloaded is prepared where it was not yet.

    Args:
        name: sst2, mrpc, paws_x, commonsense_qa or math_qa.
        language: of PAWS-X: de, en, es, fr, ja, ko, zh.
        source_dir: folder with the files, or the archives, as their authors named them; None: download them.
        cache_dir: where downloads and what is prepared of them are kept; `text_cache()` if None.

    Returns:
        Rows in an order that depends on their ids alone.

    Raises:
        DataError: files that are missing, broken or cannot be had.
        ConfigError: no such data set or language.
    """
    data_set = DATA_SETS.get(name)
    if data_set is None:
        raise ConfigError(f"dataset={name}: allowed: {', '.join(DATA_SETS)}, file")
    if name == "paws_x" and language not in PAWS_X_LANGUAGES:
        raise ConfigError(f"language={language or 'none'}: allowed for paws_x: {', '.join(PAWS_X_LANGUAGES)}")
    if name != "paws_x" and language:
        raise ConfigError(f"language={language}: {name} has none; allowed: leave it out")
    if source_dir == "":  # as of a variable of a shell that is not set; a path of nothing is the folder in which one is
        raise ConfigError("source_dir: ''; allowed: a folder, or none at all, to download the files")
    if source_dir is not None:
        return _as_read(name, _located(data_set, language, Path(source_dir)))
    cache = Path(cache_dir) if cache_dir is not None else text_cache()
    addresses = "\n".join(data_set.addresses.values()).encode()
    kept = cache / "prepared" / f"official-{hashlib.sha256(addresses).hexdigest()[:16]}"
    with _quiet(), _exclusive(kept):
        try:
            return _prepared(name, language, kept, cache / "downloads")
        except DataError:
            raise
        except Exception:  # whatever the reader says of a damaged file, it is made again, once
            shutil.rmtree(kept / BUILDERS[name].name, ignore_errors=True)
            try:
                made = _prepared(name, language, kept, cache / "downloads")
            except DataError:
                raise
            except Exception as error:
                raise DataError(f"{kept}: {name} cannot be prepared there ({one_line(error)})") from None
            return Prepared(made.splits, (*made.notes, "what had been prepared was damaged and was made anew"))


def text_cache() -> Path:
    """Where downloads and tokens are kept: $XDG_CACHE_HOME/ncsim/text, ~/.cache/ncsim/text without it.

    Raises:
        ConfigError: this user has neither.
    """
    base = user_caches()
    if base is None:
        raise ConfigError(
            "--cache-dir: not given, and this user has no home; allowed: a folder, or XDG_CACHE_HOME set to one"
        )
    folder = base / "ncsim"
    with contextlib.suppress(OSError):  # whoever writes there says so
        # The user's alone, whatever the umask: it has generated code, too, which is kept in no folder that others may write to.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / "text"


class TextBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """What the five builders share. Files are those of `source_dir`; without it they are downloaded."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    data_set: ClassVar[DataSet]

    def __init__(self, *, source_dir: str | os.PathLike[str] | None = None, **kwargs: Any) -> None:
        self._source_dir = source_dir
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        about, text = self.data_set, tfds.features.Text()
        features: dict[str, Any] = {"id": text, "question": text, "options": tfds.features.Sequence(text)}
        features["answer"] = tfds.features.ClassLabel(num_classes=5)
        if about.classes:
            features = {"id": text, "first": text, "second": text}
            features["label"] = tfds.features.ClassLabel(names=about.classes)
        return tfds.core.DatasetInfo(
            builder=self,
            description=about.description,
            features=tfds.features.FeaturesDict(features),
            homepage=about.homepage,
            citation=about.citation,
            license=about.licence,
            metadata=tfds.core.MetadataDict(notes=[]),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        language = self.builder_config.name if self.builder_config else ""
        if self._source_dir is None:
            found = _downloaded(self.data_set, language, dl_manager)
        else:
            found = _as_read(self.data_set.name, _located(self.data_set, language, Path(self._source_dir)))
        self.info.metadata["notes"] = list(found.notes)
        return {split: self._generate_examples(rows) for split, rows in found.splits.items()}

    def _generate_examples(self, rows: Sequence[Row]) -> Iterator[tuple[str, dict[str, Any]]]:
        for row in rows:
            yield row.id, {**row._asdict(), **({"options": list(row.options)} if isinstance(row, Question) else {})}


class NcsimSst2(TextBuilder):
    """SST-2 with its ids."""

    data_set = DATA_SETS["sst2"]


class NcsimMrpc(TextBuilder):
    """MRPC: all training rows, none put aside as a development set."""

    data_set = DATA_SETS["mrpc"]


class NcsimPawsX(TextBuilder):
    """PAWS-X, one config a language, with ids, by which rows of different languages are translations of each other."""

    data_set = DATA_SETS["paws_x"]
    VERSION = tfds.core.Version("1.1.0")  # what an earlier one prepared is made anew
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.1.0": "Quoted cells are read as what was written."}
    BUILDER_CONFIGS: ClassVar[list[Any]] = [
        tfds.core.BuilderConfig(name=language, version=tfds.core.Version("1.1.0")) for language in PAWS_X_LANGUAGES
    ]


class NcsimCommonsenseQa(TextBuilder):
    """CommonsenseQA, random split; its test file has no answers and is left alone."""

    data_set = DATA_SETS["commonsense_qa"]


class NcsimMathQa(TextBuilder):
    """MathQA with its options taken apart."""

    data_set = DATA_SETS["math_qa"]


BUILDERS: dict[str, type[TextBuilder]] = {
    builder.data_set.name: builder for builder in (NcsimSst2, NcsimMrpc, NcsimPawsX, NcsimCommonsenseQa, NcsimMathQa)
}


def _located(data_set: DataSet, language: str, folder: Path) -> dict[str, SourceFile]:
    """The source files that a folder has, by split."""
    names = data_set.names(language)
    found = find(folder, data_set.folder, data_set.archive, list(names.values()))
    _check_complete(data_set, names, found, f"{folder / data_set.folder}")
    return {split: found[name] for split, name in names.items() if name in found}


def _downloaded(data_set: DataSet, language: str, manager: tfds.download.DownloadManager) -> Prepared:
    """The rows by split, from the official addresses."""
    try:
        say(f"{data_set.name}: its files are downloaded where they are not kept yet")
        paths = {name: Path(path) for name, path in manager.download(dict(data_set.addresses)).items()}
    except Exception as error:  # what it raises is the network's, the library's or the server's
        addresses = ", ".join(data_set.addresses.values())
        raise DataError(f"{addresses}: cannot be downloaded ({one_line(error)}); allowed: source_dir") from None
    try:
        files = _fetched(data_set, language, paths)
        return _as_read(data_set.name, files, data_set.rows)
    except DataError as error:
        # The page of a network that wants a login, or half a file, would be kept and read for ever.
        for path in paths.values():
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.INFO").unlink(missing_ok=True)  # the library's, with the checksum
        raise DataError(f"{error}; what was downloaded is removed, and downloaded again next time") from None


def _fetched(data_set: DataSet, language: str, paths: Mapping[str, Path]) -> dict[str, SourceFile]:
    """The source files by split, of what was downloaded from each address."""
    names = data_set.names(language)
    if data_set.archive:
        address = data_set.addresses[data_set.archive]
        found = members(paths[data_set.archive], data_set.folder, list(names.values()), shown=address)
    else:
        found = {name: SourceFile(data_set.addresses[name], read(path).content) for name, path in paths.items()}
    _check_complete(data_set, names, found, ", ".join(data_set.addresses.values()))
    return {split: found[name] for split, name in names.items() if name in found}


def _check_complete(data_set: DataSet, names: dict[str, str], found: dict[str, SourceFile], where: str) -> None:
    missing = [names[split] for split in data_set.needed if names[split] not in found]
    if missing:
        raise DataError(f"{where}: {', '.join(missing)} is not there; {data_set.name} needs {_listed(data_set, names)}")


def _listed(data_set: DataSet, names: dict[str, str]) -> str:
    needed = " and ".join(names[split] for split in data_set.needed)
    further = [name for split, name in names.items() if split not in data_set.needed]
    return needed + (f", and takes {', '.join(further)} where they are" if further else "")


def _as_read(name: str, files: dict[str, SourceFile], expected: Mapping[str, int] | None = None) -> Prepared:
    """The rows of a data set's files, by split; of a download, so many are `expected`: a server or a proxy that ends a file early may do
    so where a row ends."""
    notes = [] if "train" in files else [f"{name}: no training file, so training items are of dev"]
    splits = {}
    for split, file in files.items():
        rows, left_out = read_rows(name, file)
        found, known = len(rows) + left_out.total(), (expected or {}).get(split, 0)
        if found < known:
            raise DataError(f"{file.shown}: has {found:,} rows of {known:,}")
        notes += [f"{split}: {count} rows left out ({reason})" for reason, count in left_out.items()]
        splits[split] = sorted(rows, key=lambda row: row.id)
    return Prepared(splits, tuple(notes))


def _prepared(name: str, language: str, kept: Path, downloads: Path) -> Prepared:
    """What the builder has, once it has prepared what is not there yet."""
    options: dict[str, Any] = {"config": language} if language else {}
    builder = BUILDERS[name](data_dir=str(kept), file_format="array_record", **options)
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        builder.download_and_prepare(download_dir=str(downloads), download_config=config)
    except Exception as error:
        cause: BaseException | None = error  # the library wraps what comes out of a builder
        while cause is not None and not isinstance(cause, DataError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise DataError(str(cause)) from None
        raise
    splits = {}
    for split, info in builder.info.splits.items():
        # Its own decoding, feature by feature through NumPy, takes ten times as long.
        source = builder.as_data_source(split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        rows = [_row(record) for record in source.__getitems__(range(info.num_examples))]
        if len({row.id for row in rows}) != info.num_examples:
            raise ValueError(f"{split} has not its {info.num_examples} rows")
        splits[split] = sorted(rows, key=lambda row: row.id)
    return Prepared(splits, tuple(builder.info.metadata["notes"]))


def _row(record: bytes) -> Row:
    """A row from the `tf.train.Example` that a builder wrote."""
    features = tf_example_pb2.Example.FromString(record).features.feature

    def text(name: str) -> str:
        return str(features[name].bytes_list.value[0], "utf-8")

    if "options" in features:
        options = tuple(str(option, "utf-8") for option in features["options"].bytes_list.value)
        return Question(text("id"), text("question"), options, features["answer"].int64_list.value[0])
    return Labelled(text("id"), text("first"), text("second"), features["label"].int64_list.value[0])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's bars, and what it prints."""
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()), errors_only("urllib3", "urllib3.connectionpool"):
        yield


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """One process prepares, others wait and find it done. The operating system lets go when a process ends."""
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".lock").touch()
    except OSError as error:
        raise DataError(f"{folder}: cannot be written to ({reason(error)})") from None
    with open(folder / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{folder}: waiting for another process that prepares the same data")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class Rows(NamedTuple):
    """Rows to train on, and to test on where there are any. Ids begin with their name space: `paws_x:validation:108`."""

    space: str  # of the training ids
    train: list[Row]
    test: list[Row]
    splits: dict[str, str]
    notes: list[str]


def official_rows(
    task: Task, source_dir: str | os.PathLike[str] | None, cache_dir: str | os.PathLike[str] | None
) -> Rows:
    loaded: Prepared = load(task.dataset, language=task.language, source_dir=source_dir, cache_dir=cache_dir)
    return _chosen_splits(task.dataset, loaded.splits, list(loaded.notes))


def _chosen_splits(space: str, splits: Mapping[str, list[Row]], notes: list[str]) -> Rows:
    training = "train" if "train" in splits else "validation"
    testing = next((name for name in ("test", "validation") if name in splits and name != training), "")
    used = {"train": training, "test": testing or training}
    return Rows(
        f"{space}:{training}",
        _named(splits[training], f"{space}:{training}"),
        _named(splits[testing], f"{space}:{testing}") if testing else [],
        used,
        notes,
    )


def own_rows(task: Task) -> Rows:
    named, spaces = {}, {}
    notes: list[str] = []
    known: Collection[str] = ()
    for split, path in (("train", task.train), ("test", task.test)):
        if path:
            file = read(Path(path))
            own = read_own(file, task.columns, known)
            known = own.labels
            # Without ids, rows are those of this file alone; with them, they pair with rows of other files.
            spaces[split] = "file" if own.has_ids else f"file-{digest([file])}"
            named[split] = _named(own.rows, spaces[split])
            notes += [f"{split}: {note}" for note in own.notes]
    both = {row.id for row in named["train"]} & {row.id for row in named.get("test", [])}
    if both:
        example = min(both).split(":", 1)[1]
        raise DataError(f"{task.test}: {len(both)} of its rows are in {task.train} too, by id (as {example})")
    splits = {"train": task.train, "test": task.test or task.train}
    return Rows(spaces["train"], named["train"], named.get("test", []), splits, notes)


def _named(rows: Iterable[Row], space: str) -> list[Row]:
    return [row._replace(id=f"{space}:{row.id}") for row in rows]
