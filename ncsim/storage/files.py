"""Where a run folder is: a folder of this machine (or of a network file system), or keys of an object store.

Both promise the same of `write`: a file is there whole or not at all, whatever is killed and whenever. A local folder takes a
temporary name outside its folders, where no reader of parts meets it, flushes it to disk, renames it and flushes the folder. An
object store's PUT is whole or not at all by itself, so nothing is renamed: what was put is read back and compared.

Names are relative, with "/" between folders: "parts/hidden-3/members-0000000000-16384.parquet".
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from ncsim.errors import StoreError, reason
from ncsim.storage.attempts import persistently
from ncsim.storage.object_storage import ObjectStorage, memory_store, probe_name, said, store_of

#: Object stores that a run folder may be in: Amazon's and what speaks as it does, Google's, Azure's, and this process's memory.
OBJECT_STORES = ("s3", "gs", "az", "memory")
#: Folders in which a run, of any kind, has files.
RUN_FOLDERS = ("parts", "trajectories", "summaries", "claims", "figures", "rejected", "checkpoints", "adapters")
#: Names of files that are being written, of earlier versions too.
TEMPORARY = re.compile(r"\..+-[0-9a-f]+\.tmp", re.DOTALL)


class Storage(Protocol):
    """Files of one run folder by relative name. Every method raises OSError where the folder cannot be reached."""

    location: str
    #: Reads that are worth making side by side: an answer over a network takes a while, of however little.
    at_once: int

    def prepare(self) -> None:
        """Make the folder; found out now, and not after an hour of training, if it cannot be written to."""

    def read(self, name: str) -> bytes:
        """A file's content. Raises FileNotFoundError."""

    def read_tail(self, name: str, size: int) -> bytes:
        """The last `size` bytes of a file, or all of it. Raises FileNotFoundError."""

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Put a file there, whole or not at all, in place of what has the name."""

    def create(self, name: str, content: bytes) -> bool:
        """As `write`, but only where nothing has the name; False where something has."""

    def exchange(self, name: str, held: bytes, content: bytes) -> bool:
        """As `write`, but only in the place of what was read; False where something else is there now. Of a local folder it is for whoever
        holds it: no file system compares and writes at once."""

    def exists(self, name: str) -> bool:
        """Whether a file has this name."""

    def names(self, folder: str) -> list[str]:
        """The names of all files below a folder, in order; none where there is no such folder."""

    def own_names(self) -> list[str]:
        """The names of the files that lie in no folder of it, in order: what others keep below it, as runs/a in runs, is not looked at."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def move(self, name: str, to: str) -> None:
        """Give a file another name."""


def open_storage(location: str | os.PathLike[str]) -> Storage:
    """The storage that a path or an address names: a local path, file://, s3://, gs://, az:// or memory://.

    Raises:
        StoreError: no name of a folder, an address of another kind, or one that the environment says too little of.
    """
    text = os.fspath(location)
    if not text or "\0" in text:
        raise StoreError(f"{text!r}: names no folder; allowed: as runs/figure2")
    protocol, separator, rest = text.partition("://")
    if not separator:
        return LocalStorage(Path(text))
    if protocol == "file":
        return LocalStorage(Path("/" + rest.lstrip("/")))
    if protocol == "gcs":
        protocol, text = "gs", f"gs://{rest}"
    if protocol not in OBJECT_STORES:
        known = ", ".join(f"{name}://" for name in OBJECT_STORES)
        raise StoreError(f"{text}: {protocol}:// is no storage that ncsim knows; allowed: a local folder, {known}")
    if not rest.strip("/"):
        raise StoreError(f"{text}: names no folder; allowed: as {protocol}://bucket/runs/figure2")
    bucket, _, root = rest.strip("/").partition("/")
    try:
        store = memory_store() if protocol == "memory" else store_of(f"{protocol}://{bucket}")
    except Exception as error:
        raise StoreError(f"{text}: cannot be opened ({said(error)})") from None
    return ObjectStorage(store, rest.strip("/") if protocol == "memory" else root, text.rstrip("/"))


class LocalStorage:
    """A folder of a file system that this machine has mounted."""

    at_once = 1

    def __init__(self, root: Path) -> None:
        self.root = root
        self.location = str(root)
        self._was_there = False

    def prepare(self) -> None:
        def prepared() -> None:
            make_folder(self.root)
            probe = self.root / probe_name()
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            os.unlink(probe)

        persistently(prepared)
        self._was_there = True

    def read(self, name: str) -> bytes:
        content = persistently(lambda: (self.root / name).read_bytes())
        self._was_there = True
        return content

    def read_tail(self, name: str, size: int) -> bytes:
        def read() -> bytes:
            with open(self.root / name, "rb") as handle:
                handle.seek(max(os.fstat(handle.fileno()).st_size - size, 0))
                return handle.read()

        return persistently(read)

    def write(self, name: str, content: bytes | memoryview) -> None:
        with self._not_moved() as within:
            write_atomically(self.root / name, content, self.root, within)

    def create(self, name: str, content: bytes) -> bool:
        with self._not_moved() as within:
            return persistently(lambda: _put(_create, self.root / name, content, self.root, within))

    def exchange(self, name: str, held: bytes, content: bytes) -> bool:
        same = self.read(name) == held
        if same:
            self.write(name, content)
        return same

    @contextlib.contextmanager
    def _not_moved(self) -> Iterator[Path | None]:
        """A folder that was there, which must not be made anew: with the rest of a run without the beginning, while whoever moved it had
        the beginning without the rest. None of one that was not. Raises FileNotFoundError where it is gone, or goes meanwhile."""
        try:
            yield self.root if self._was_there else None
        except FileNotFoundError:
            if not self._was_there or persistently(lambda: _is(stat.S_ISDIR, self.root)):
                raise
            words = "its run folder is not there any more: was it moved?"
            raise FileNotFoundError(errno.ENOENT, words, self.location) from None

    def exists(self, name: str) -> bool:
        return persistently(lambda: _is(stat.S_ISREG, self.root / name))

    def names(self, folder: str) -> list[str]:
        return persistently(lambda: sorted(self._below(folder)))

    def own_names(self) -> list[str]:
        def listed() -> list[str]:
            try:
                with os.scandir(self.root) as found:
                    return sorted(entry.name for entry in found if not entry.is_dir())
            except (FileNotFoundError, NotADirectoryError):  # as `names` has it
                return []

        return persistently(listed)

    def _below(self, folder: str) -> Iterator[str]:
        def failed(error: OSError) -> None:
            # Left to itself, `os.walk` takes what it cannot read for a folder without files.
            gone = isinstance(error, FileNotFoundError | NotADirectoryError)
            others = not folder and error.filename != str(self.root)  # as lost+found, where a disk is the run folder
            if not gone and not others:
                raise error

        for place, _, files in os.walk(self.root / folder, onerror=failed):
            inner = Path(place).relative_to(self.root).as_posix()
            yield from (f"{inner}/{file}" for file in files)

    def remove(self, name: str) -> None:
        persistently(lambda: (self.root / name).unlink(missing_ok=True))

    def move(self, name: str, to: str) -> None:
        with self._not_moved() as within:
            make_folder((self.root / to).parent, within)
            try:
                os.replace(self.root / name, self.root / to)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._move_elsewhere(name, to)
        for folder in {(self.root / name).parent, (self.root / to).parent}:
            _flush_folder(folder)
        with contextlib.suppress(OSError):  # the first folder above it that holds more
            os.removedirs((self.root / name).parent)

    def _move_elsewhere(self, name: str, to: str) -> None:
        """Move a file, or a folder with what is in it, to another file system."""
        place = self.root / name
        if not place.is_dir() or place.is_symlink():
            self.write(to, self.read(name))
            place.unlink()
            return
        for inner in self.names(name):
            self.write(f"{to}{inner.removeprefix(name)}", self.read(inner))
        shutil.rmtree(place)


@contextlib.contextmanager
def reading(storage: Storage, name: str) -> Iterator[None]:
    """A file that cannot be read now is none that is wrong: what it holds is not given up for that. Raises StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot be read ({reason(error)})", f"{storage.location}/{name}") from None


#: Bytes handed to the system at once. Linux 6.18 on ext4, in a virtual machine, took seven times as long for 2 MB and more at once as
#: for 1 MB: pages of the size of its largest then.
AT_ONCE = 2**20


def write_atomically(
    path: Path, content: bytes | memoryview, unfinished: Path | None = None, within: Path | None = None
) -> None:
    """A file of this machine that is there whole or not at all, also after a power cut. Its folder is made.

    Args:
        path: the file.
        content: what it is to hold.
        unfinished: a folder of the same file system that has it until it is whole; None for its own.
        within: a folder that is not made, but must be there; None where all are made.
    """
    persistently(lambda: _put(_replace, path, content, unfinished or path.parent, within))


def _is(kind: Callable[[int], bool], path: Path) -> bool:
    """Whether something of this kind is there. Raises OSError where that cannot be known now: `is_file` and `is_dir` of Python 3.14
    say then that it is not there."""
    try:
        return kind(os.stat(path).st_mode)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
    except ValueError:  # no name of a file
        pass
    return False


def make_folder(path: Path, within: Path | None = None) -> None:
    """A folder with those above it, each of them on disk before it is used; FileNotFoundError where it would be `within` that is made."""
    if _is(stat.S_ISDIR, path):
        return
    if path == within:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    make_folder(path.parent, within)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    _flush_folder(path.parent)


def is_temporary(name: str) -> bool:
    """Whether a file is one that `write` had begun when it was killed, by a name that nobody else gives."""
    return TEMPORARY.fullmatch(name.rpartition("/")[2]) is not None


def unfinished_files(storage: Storage) -> list[str]:
    """The files of a run that killed writers had begun. What else lies in its folder may be another run that trains now, as
    runs/a in runs, or the user's."""
    return [name for name in names_of_run(storage) if is_temporary(name)]


def names_of_run(storage: Storage) -> list[str]:
    """The files in the folder itself, and all below the folders that runs have."""
    return [*storage.own_names(), *(name for folder in RUN_FOLDERS for name in storage.names(folder))]


def discard_unfinished(storage: Storage) -> None:
    """Remove the files of a run that killed writers had begun. Call it only while you hold the folder exclusively, beside no
    worker of another machine.

    Raises:
        StoreError: one cannot be removed.
    """
    try:
        for name in unfinished_files(storage):
            storage.remove(name)
    except OSError as error:
        raise StoreError(f"{storage.location}: cannot be written to ({reason(error)})") from None


def _put(
    give_name: Callable[[Path, Path], bool],
    path: Path,
    content: bytes | memoryview,
    unfinished: Path,
    within: Path | None,
) -> bool:
    """Have a file with this content, made in the folder `unfinished`, given its name; in its own folder where names are not given
    across: what is mounted twice, or counted apart, is one file system by its number and two by what can be done."""
    make_folder(path.parent, within)
    try:
        with _temporary(path, content, unfinished, within) as temporary:
            done = give_name(temporary, path)
    except OSError as error:
        if error.errno != errno.EXDEV or unfinished == path.parent:
            raise
        return _put(give_name, path, content, path.parent, within)
    _flush_folder(path.parent)
    return done


def _replace(temporary: Path, path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        for folder, *_ in os.walk(path, topdown=False):
            os.rmdir(folder)  # it must hold no file
    os.replace(temporary, path)
    return True


def _create(temporary: Path, path: Path) -> bool:
    """A link is made only where nothing has the name, also on network file systems, and what it names is whole."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # Over a network, the answer to a link that was made may be lost, and the link be tried again.
        return os.stat(temporary).st_nlink == 2
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if path.exists():  # no links there: the best that is left, with a gap between looking and renaming
            return False
        os.replace(temporary, path)
    return True


@contextlib.contextmanager
def _temporary(path: Path, content: bytes | memoryview, folder: Path, within: Path | None) -> Iterator[Path]:
    """A file with this content, on disk, that is gone afterwards unless it was renamed: in `folder`, or beside `path` where
    that is on another file system, to which nothing can be renamed."""
    make_folder(folder, within)
    if folder.stat().st_dev != path.parent.stat().st_dev:
        folder = path.parent
    temporary = folder / f".{path.name}-{secrets.token_hex(8)}.tmp"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(handle, left[:AT_ONCE]) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that flush folders by themselves
            raise
    finally:
        os.close(handle)
