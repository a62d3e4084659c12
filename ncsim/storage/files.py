"""Where a run folder is: a folder of this machine (or of a network file system), or keys of an object store.

Both promise the same of `write`: a file is there whole or not at all, whatever is killed and whenever. A local folder takes a
temporary name outside its folders, where no reader of parts meets it, flushes it to disk, renames it and flushes the folder. An
object store's PUT is whole or not at all by itself, so nothing is renamed: what was put is read back and compared.

Names are relative, with "/" between folders: "parts/hidden-3/members-0000000000-16384.parquet".
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ncsim.errors import StoreError, one_line, reason

#: Object stores that a run folder may be in: Amazon's and what speaks as it does, Google's, Azure's, and this process's memory.
OBJECT_STORES = ("s3", "gs", "az", "memory")
#: Errors that may be gone at the next attempt, as of a network file system; a full disk is not among them.
TRANSIENT = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.ECONNRESET}
ATTEMPTS, SECONDS_BETWEEN_ATTEMPTS = 3, 0.2

_Result = TypeVar("_Result")


class Storage(Protocol):
    """Files of one run folder by relative name. Every method raises OSError where the folder cannot be reached."""

    location: str

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

    def exists(self, name: str) -> bool:
        """Whether a file has this name."""

    def names(self, folder: str) -> list[str]:
        """The names of all files below a folder, in order; none where there is no such folder."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def move(self, name: str, to: str) -> None:
        """Give a file another name."""


def open_storage(location: str | os.PathLike[str]) -> Storage:
    """The storage that a path or an address names: a local path, file://, s3://, gs://, az:// or memory://.

    Raises:
        StoreError: an address of another kind, or one that the environment says too little of.
    """
    text = os.fspath(location)
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
        store = memory_store() if protocol == "memory" else _store_of(f"{protocol}://{bucket}")
    except Exception as error:
        raise StoreError(f"{text}: cannot be opened ({_said(error)})") from None
    return ObjectStorage(store, rest.strip("/") if protocol == "memory" else root, text.rstrip("/"))


@functools.cache
def memory_store() -> Any:
    """What this process keeps at memory:// addresses."""
    from obstore.store import MemoryStore

    return MemoryStore()


def _store_of(bucket: str) -> Any:
    """The store of a bucket, as the environment says: credentials, endpoint, region."""
    from obstore.store import from_url

    options: dict[str, Any] = {"retry_config": {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}}
    if bucket.startswith("s3:"):
        options["client_options"] = {"allow_http": os.environ.get("AWS_ENDPOINT_URL", "").startswith("http:")}
        if "AWS_ACCESS_KEY_ID" not in os.environ:
            with contextlib.suppress(Exception):  # profiles and ~/.aws, where boto3 is installed and finds any
                from obstore.auth.boto3 import Boto3CredentialProvider

                options["credential_provider"] = Boto3CredentialProvider()
    return from_url(bucket, **options)


class LocalStorage:
    """A folder of a file system that this machine has mounted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.location = str(root)

    def prepare(self) -> None:
        make_folder(self.root)
        probe = self.root / _probe()
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        os.unlink(probe)

    def read(self, name: str) -> bytes:
        return _persistently(lambda: (self.root / name).read_bytes())

    def read_tail(self, name: str, size: int) -> bytes:
        def read() -> bytes:
            with open(self.root / name, "rb") as handle:
                handle.seek(max(os.fstat(handle.fileno()).st_size - size, 0))
                return handle.read()

        return _persistently(read)

    def write(self, name: str, content: bytes | memoryview) -> None:
        write_atomically(self.root / name, content, self.root)

    def create(self, name: str, content: bytes) -> bool:
        return _persistently(lambda: _create(self.root / name, content, self.root))

    def exists(self, name: str) -> bool:
        return (self.root / name).is_file()

    def names(self, folder: str) -> list[str]:
        return _persistently(lambda: sorted(self._below(folder)))

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
        (self.root / name).unlink(missing_ok=True)

    def move(self, name: str, to: str) -> None:
        make_folder((self.root / to).parent)
        os.replace(self.root / name, self.root / to)
        for folder in {(self.root / name).parent, (self.root / to).parent}:
            _flush_folder(folder)
        with contextlib.suppress(OSError):  # the first folder above it that holds more
            os.removedirs((self.root / name).parent)


class ObjectStorage:
    """Keys under a prefix of an object store, through obstore."""

    def __init__(self, store: Any, root: str, location: str) -> None:
        import obstore

        self._obstore, self._store = obstore, store
        self._root = f"{root}/" if root else ""
        self.location = location

    def prepare(self) -> None:
        probe = _probe()
        self.write(probe, b"ncsim")
        self.remove(probe)

    def read(self, name: str) -> bytes:
        with _as_os_error():
            return bytes(self._obstore.get(self._store, self._root + name).bytes())

    def read_tail(self, name: str, size: int) -> bytes:
        with _as_os_error():
            key = self._root + name
            length = self._obstore.head(self._store, key)["size"]
            return bytes(self._obstore.get_range(self._store, key, start=max(length - size, 0), end=length))

    def write(self, name: str, content: bytes | memoryview) -> None:
        def put() -> None:
            with _as_os_error():
                self._obstore.put(self._store, self._root + name, bytes(content))
            if self.read(name) != content:
                raise OSError(errno.EIO, "what was put there is not what is read back")

        _persistently(put)

    def create(self, name: str, content: bytes) -> bool:
        try:
            with _as_os_error():
                self._obstore.put(self._store, self._root + name, content, mode="create", use_multipart=False)
        except FileExistsError:
            return False
        return True

    def exists(self, name: str) -> bool:
        try:
            with _as_os_error():
                self._obstore.head(self._store, self._root + name)
        except FileNotFoundError:
            return False
        return True

    def names(self, folder: str) -> list[str]:
        with _as_os_error():
            found = [each["path"] for batch in self._obstore.list(self._store, self._root + folder) for each in batch]
        return sorted(key.removeprefix(self._root) for key in found)

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), _as_os_error():
            self._obstore.delete(self._store, self._root + name)

    def move(self, name: str, to: str) -> None:
        self.write(to, self.read(name))
        self.remove(name)


def _probe() -> str:
    """A name that no other worker takes: process numbers repeat among the machines that share a folder."""
    return f".writable-{secrets.token_hex(8)}.tmp"


#: Bytes handed to the system at once. Linux 6.18 on ext4, in a virtual machine, took seven times as long for 2 MB and more at once as
#: for 1 MB: pages of the size of its largest then.
AT_ONCE = 2**20


def write_atomically(path: Path, content: bytes | memoryview, unfinished: Path | None = None) -> None:
    """A file of this machine that is there whole or not at all, also after a power cut. Its folder is made.

    Args:
        path: the file.
        content: what it is to hold.
        unfinished: a folder of the same file system that has it until it is whole; None for its own.
    """
    _persistently(lambda: _write(path, content, unfinished or path.parent))


def make_folder(path: Path) -> None:
    """A folder with those above it, each of them on disk before it is used."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    _flush_folder(path.parent)


def is_temporary(name: str) -> bool:
    """Whether a file is one that `write` had begun when it was killed."""
    base = name.rpartition("/")[2]
    return base.startswith(".") and base.endswith(".tmp")


def discard_unfinished(storage: Storage) -> None:
    """Remove the files that killed writers had begun. Call it only while you hold the folder exclusively, beside no worker
    of another machine.

    Raises:
        StoreError: one cannot be removed.
    """
    try:
        for name in storage.names(""):
            if is_temporary(name):
                storage.remove(name)
    except OSError as error:
        raise StoreError(f"{storage.location}: cannot be written to ({reason(error)})") from None


def _write(path: Path, content: bytes | memoryview, unfinished: Path) -> None:
    make_folder(path.parent)
    with _temporary(path, content, unfinished) as temporary:
        if path.is_dir() and not path.is_symlink():
            for folder, *_ in os.walk(path, topdown=False):
                os.rmdir(folder)  # it must hold no file
        os.replace(temporary, path)
    _flush_folder(path.parent)


def _create(path: Path, content: bytes, unfinished: Path) -> bool:
    """A link is made only where nothing has the name, also on network file systems, and what it names is whole."""
    make_folder(path.parent)
    with _temporary(path, content, unfinished) as temporary:
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
    _flush_folder(path.parent)
    return True


@contextlib.contextmanager
def _temporary(path: Path, content: bytes | memoryview, folder: Path) -> Iterator[Path]:
    """A file with this content, on disk, that is gone afterwards unless it was renamed: in `folder`, or beside `path` where
    that is on another file system, to which nothing can be renamed."""
    make_folder(folder)
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


def _persistently(action: Callable[[], _Result]) -> _Result:
    """Do it again where it failed in a way that may pass. After a failed flush nothing is known of what was written,
    so the whole of it is done again."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except OSError as error:
            if attempt == ATTEMPTS or error.errno not in TRANSIENT:
                raise
            time.sleep(SECONDS_BETWEEN_ATTEMPTS * attempt)
    raise AssertionError


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """obstore has errors of its own for what is an error of input and output."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, _said(error)) from None
    except Exception as error:
        if type(error).__name__ == "AlreadyExistsError":
            raise FileExistsError(errno.EEXIST, _said(error)) from None
        raise OSError(errno.EREMOTEIO, _said(error)) from None


def _said(error: Exception) -> str:
    """What a store answered; else the first line of what obstore says, which goes on with all that it knows."""
    text = str(error)
    answer = re.search(r"<Message>(.*?)[\s]*</Message>", text, re.DOTALL)
    return one_line(answer[1] if answer else text.partition("\n\nDebug source")[0])
