"""Data files as they are found: in a folder, or as members of an archive that nobody has vouched for.

Nothing is ever unpacked to disk. Every member of an archive is checked before any is read, and those that are wanted
are read into memory up to a bound.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import logging
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ncsim.errors import DataError, one_line, reason

#: Bytes that one file may have once unpacked; the largest of the five data sets' has 25 MB.
MAX_FILE = 512 * 2**20
#: Bytes that all members of an archive may have together, and how many members it may have.
MAX_ARCHIVE = 4 * 2**30
MAX_MEMBERS = 10_000
#: How far a member may be compressed before it is taken for a bomb. Deflate gets text to about a fifth.
MAX_RATIO = 200


class SourceFile(NamedTuple):
    """One file's content, and what to call it in messages."""

    shown: str
    content: bytes

    def text(self) -> str:
        """The content as UTF-8, without a byte order mark; as UTF-16 where such a mark says so.

        Raises:
            DataError: it is neither; names the line.
        """
        if self.content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):  # Excel's "Unicode text"
            try:
                return self.content.decode("utf-16")
            except UnicodeDecodeError:
                raise DataError(f"{self.shown}: begins as UTF-16 text and is none") from None
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = self.content.count(b"\n", 0, error.start) + 1
            raise DataError(f"{self.shown}, line {line}: is not UTF-8 text") from None


def find(folder: Path, subfolder: str, archive: str, names: Sequence[str]) -> dict[str, SourceFile]:
    """Those of the named files that `folder` holds, in `subfolder` of it or in `archive` beside that.

    Args:
        folder: the user's source folder.
        subfolder: where a data set's files lie in it, as `SST-2`.
        archive: file name of the official archive, as `SST-2.zip`; empty where there is none.
        names: paths inside the subfolder, as `train.tsv` or `en/dev_2k.tsv`.

    Raises:
        DataError: the folder is not there, holds neither of the two, or the archive is not one to be trusted.
    """
    if not folder.is_dir():
        raise DataError(f"source_dir={folder}: no such folder; allowed: the folder that holds {subfolder}/")
    unpacked = folder / subfolder
    if unpacked.is_dir():
        return {name: read(unpacked / name) for name in names if (unpacked / name).is_file()}
    if archive and (folder / archive).is_file():
        return members(folder / archive, subfolder, names)
    either = f"{subfolder}/ or {archive}" if archive else f"{subfolder}/"
    raise DataError(f"{folder}: does not hold {either} with {', '.join(names)}")


def read(path: Path) -> SourceFile:
    """A file on disk.

    Raises:
        DataError: it cannot be read, or is larger than MAX_FILE.
    """
    try:
        if path.stat().st_size > MAX_FILE:
            raise DataError(f"{path}: has {path.stat().st_size} bytes; allowed: at most {MAX_FILE}")
        return SourceFile(str(path), path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from None


def members(path: Path, subfolder: str, names: Sequence[str], shown: str = "") -> dict[str, SourceFile]:
    """Those of the named files that an archive (zip, or tar however compressed) holds, at its top or in `subfolder`.

    Raises:
        DataError: it is no such archive, is damaged, or has a member that no honest archive has.
    """
    shown = shown or str(path)
    opened = _from_zip if zipfile.is_zipfile(path) else _from_tar
    wanted = {str(PurePosixPath(prefix, name)): name for name in names for prefix in ("", subfolder)}
    try:
        found = opened(path, shown, wanted)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError) as error:
        raise DataError(f"{shown}: is not an archive that can be read ({one_line(error)})") from None
    except (OSError, RuntimeError) as error:  # an encrypted zip is a RuntimeError, a damaged gzip an OSError
        raise DataError(f"{shown}: cannot be read ({one_line(error)})") from None
    return {name: SourceFile(f"{shown}: {name}", content) for name, content in found.items()}


def digest(files: Iterable[SourceFile]) -> str:
    """Sixteen hex digits of what the files hold, wherever they lie."""
    together = hashlib.sha256()
    for one in files:
        together.update(hashlib.sha256(one.content).digest())
    return together.hexdigest()[:16]


@contextlib.contextmanager
def errors_only(*loggers: str) -> Iterator[None]:
    """Without the warnings of a library that tries again and again: what comes of it is said once, at the end."""
    before = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _from_zip(path: Path, shown: str, wanted: dict[str, str]) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        _check_sizes(shown, [info.file_size for info in infos])
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            _check_name(shown, info.filename)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DataError(f"{shown}: member {info.filename!r} is a link or no plain file; none is read")
            if info.file_size > 2**20 and info.file_size > MAX_RATIO * max(info.compress_size, 1):
                raise DataError(f"{shown}: member {info.filename!r} unpacks to more than {MAX_RATIO} times its size")
        chosen = {wanted[_plain(info.filename)]: info for info in infos if _plain(info.filename) in wanted}
        found = {}
        for name, info in chosen.items():
            with archive.open(info) as handle:
                found[name] = _bounded(handle.read, shown, info.filename)
        return found


def _from_tar(path: Path, shown: str, wanted: dict[str, str]) -> dict[str, bytes]:
    found, sizes = {}, []
    with tarfile.open(path) as archive:
        for info in archive:  # one pass: what is compressed cannot be rewound for nothing
            sizes.append(info.size)
            _check_sizes(shown, sizes)
            _check_name(shown, info.name)
            try:
                tarfile.data_filter(info, str(path.parent))
            except tarfile.FilterError as error:
                raise DataError(f"{shown}: {error}; none is read") from None
            if not (info.isfile() or info.isdir()):
                raise DataError(f"{shown}: member {info.name!r} is a link or no plain file; none is read")
            handle = archive.extractfile(info) if _plain(info.name) in wanted else None
            if handle is not None:
                found[wanted[_plain(info.name)]] = _bounded(handle.read, shown, info.name)
        _check_to_the_end(archive.fileobj, shown)
    return found


def _check_to_the_end(stream: Any, shown: str) -> None:
    """Read what stands behind a tar's last member: a checksum of what was compressed is the last thing in the file, and a tar
    has none of its own of what its members hold."""
    left = MAX_ARCHIVE
    while chunk := stream.read(2**20):
        left -= len(chunk)
        if left < 0:
            raise DataError(f"{shown}: unpacks to more than {MAX_ARCHIVE} bytes; none is read")


def _check_sizes(shown: str, sizes: Sequence[int]) -> None:
    if len(sizes) > MAX_MEMBERS or sum(sizes) > MAX_ARCHIVE:
        raise DataError(f"{shown}: unpacks to more than {MAX_MEMBERS} files or {MAX_ARCHIVE} bytes; none is read")


def _check_name(shown: str, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or name[1:2] == ":":
        raise DataError(f"{shown}: member {name!r} points outside the archive; none is read")


def _plain(name: str) -> str:
    return str(PurePosixPath(name))


def _bounded(read: Callable[[int], bytes], shown: str, name: str) -> bytes:
    """What a member holds; its header may lie about how much that is."""
    content = read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise DataError(f"{shown}: member {name!r} has more than {MAX_FILE} bytes; allowed: at most that")
    return content
