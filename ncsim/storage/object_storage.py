"""Keys of an object store as the files of a run folder, through obstore. `files` says what a storage promises."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from ncsim.errors import one_line
from ncsim.storage.attempts import persistently


@functools.cache
def memory_store() -> Any:
    """What this process keeps at memory:// addresses."""
    from obstore.store import MemoryStore

    return MemoryStore()


def store_of(bucket: str) -> Any:
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


class ObjectStorage:
    """Keys under a prefix of an object store, through obstore."""

    at_once = 32

    def __init__(self, store: Any, root: str, location: str) -> None:
        import obstore

        self._obstore, self._store = obstore, store
        self._root = f"{root}/" if root else ""
        self.location = location
        self._counts_from_end = True  # until it says that it does not

    def prepare(self) -> None:
        probe = probe_name()
        self.write(probe, b"ncsim")
        self.remove(probe)

    def read(self, name: str) -> bytes:
        def get() -> bytes:
            with _as_os_error():
                return bytes(self._obstore.get(self._store, self._root + name).bytes())

        return persistently(get)

    def read_tail(self, name: str, size: int) -> bytes:
        """In one request, where the store knows ranges that are counted from the end: Azure's does not, and none of them has one of an
        empty file."""
        return persistently(lambda: self._tail(self._root + name, size))

    def _tail(self, key: str, size: int) -> bytes:
        with _as_os_error():
            if self._counts_from_end:
                try:
                    return bytes(self._obstore.get(self._store, key, options={"range": {"suffix": size}}).bytes())
                except FileNotFoundError:
                    raise
                except Exception:  # what is wrong the other way says, if it is not this range alone
                    pass
            length = self._obstore.head(self._store, key)["size"]
            if not length:
                return b""
            tail = bytes(self._obstore.get_range(self._store, key, start=max(length - size, 0), end=length))
            # It has ranges, though not that one. A refusal as a server's error, which is asked for again, costs a second each.
            self._counts_from_end = False
            return tail

    def write(self, name: str, content: bytes | memoryview) -> None:
        def put() -> None:
            with _as_os_error():
                self._obstore.put(self._store, self._root + name, bytes(content))
            if self.read(name) != content:
                raise OSError(errno.EIO, "what was put there is not what is read back")

        persistently(put)

    def create(self, name: str, content: bytes) -> bool:
        """By a condition (If-None-Match), so that of two workers one has made it. A store that knows none is looked at first: there both
        may have."""
        key = self._root + name
        try:
            with _as_os_error():
                try:
                    self._obstore.put(self._store, key, content, mode="create", use_multipart=False)
                    return True
                except Exception as error:
                    if not _knows_no_conditions(error):
                        raise
        except FileExistsError:
            return False
        if self.exists(name):
            return False
        self.write(name, content)
        return True

    def exchange(self, name: str, held: bytes, content: bytes) -> bool:
        """By a condition on the version that was read (If-Match), so that of two workers one finds what the other has written. A store
        that knows no versions or no such conditions is written to as it is: there the later of two at one moment counts."""
        key = self._root + name
        with _as_os_error():
            found = self._obstore.get(self._store, key)
            if bytes(found.bytes()) != held:
                return False
            version = {each: found.meta[each] for each in ("e_tag", "version") if found.meta[each] is not None}
            try:
                if version:
                    self._obstore.put(self._store, key, content, mode=version, use_multipart=False)
                    return True
            except Exception as error:
                if type(error).__name__ in ("PreconditionError", "AlreadyExistsError"):
                    # A put whose answer was lost is tried again, and then finds its own.
                    return bytes(self._obstore.get(self._store, key).bytes()) == content
                if not _knows_no_conditions(error):
                    raise
        self.write(name, content)
        return True

    def exists(self, name: str) -> bool:
        try:
            with _as_os_error():
                self._obstore.head(self._store, self._root + name)
        except FileNotFoundError:
            return False
        return True

    def names(self, folder: str) -> list[str]:
        def listed() -> list[str]:
            with _as_os_error():
                pages = self._obstore.list(self._store, self._root + folder)
                return sorted(each["path"].removeprefix(self._root) for page in pages for each in page)

        return persistently(listed)

    def own_names(self) -> list[str]:
        def listed() -> list[str]:
            with _as_os_error():
                found = self._obstore.list_with_delimiter(self._store, self._root.rstrip("/") or None)["objects"]
            return sorted(each["path"].removeprefix(self._root) for each in found)

        return persistently(listed)

    def remove(self, name: str) -> None:
        def delete() -> None:
            with contextlib.suppress(FileNotFoundError), _as_os_error():
                self._obstore.delete(self._store, self._root + name)

        persistently(delete)

    def move(self, name: str, to: str) -> None:
        self.write(to, self.read(name))
        self.remove(name)


def _knows_no_conditions(error: Exception) -> bool:
    """Whether a store refuses a put because it is on a condition, as some that speak as Amazon's do."""
    text = str(error).partition("\n\nDebug source")[0]
    return isinstance(error, NotImplementedError) or bool(re.search("status code: 501|If-(None-)?Match", text))


def probe_name() -> str:
    """A name that no other worker takes: process numbers repeat among the machines that share a folder."""
    return f".writable-{secrets.token_hex(8)}.tmp"


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """obstore has errors of its own for what is an error of input and output."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, said(error)) from None
    except Exception as error:
        if type(error).__name__ == "AlreadyExistsError":
            raise FileExistsError(errno.EEXIST, said(error)) from None
        # obstore asks again by itself where there is no answer, and not where a list or the like ends in the middle.
        broken = "request or response body error" in str(error)
        raise OSError(errno.ECONNRESET if broken else errno.EREMOTEIO, said(error)) from None


def said(error: Exception) -> str:
    """What a store answered; else the first line of what obstore says, which goes on with all that it knows."""
    text = str(error)
    answer = re.search(r"<Message>(.*?)[\s]*</Message>", text, re.DOTALL)
    return one_line(answer[1] if answer else text.partition("\n\nDebug source")[0])
