"""Peers in processes of their own, told by the benchmark what to do next."""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import Any

from benchmarks.native import MissingError


class Worker:
    """A peer in its own process.

    Attributes:
        missing: why the peer cannot run here, in one line; None where it can.
        detail, compile_seconds, tried: the peer's own (`peers.Peer`).

    Raises:
        RuntimeError: the peer failed for another reason than that something it needs is not there.
    """

    def __init__(self, name: str, **arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.name = name
        self.missing: str | None = None
        self.detail, self.compile_seconds = "", 0.0
        self.tried: dict[str, float] = {}
        try:
            self.detail, self.compile_seconds, self.tried = self._receive()
        except MissingError as error:
            self.missing = str(error)
            self.close()

    def call(self, method: str, *arguments: Any) -> tuple[Any, float]:
        """What a method of the peer gives, and the seconds it took there."""
        self._connection.send((method, arguments))
        return self._receive()

    def close(self) -> None:
        """End the process. May be called twice."""
        self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()

    def _receive(self) -> Any:
        try:
            status, value = self._connection.recv()
        except EOFError:
            self._process.join(timeout=10)
            raise RuntimeError(f"{self.name}: its process ended with status {self._process.exitcode}") from None
        if status == "missing":
            raise MissingError(value)
        if status == "failed":
            raise RuntimeError(f"{self.name}: {value}")
        return value


def _serve(connection: Any, name: str, arguments: dict[str, Any]) -> None:
    """Make the peer, then answer calls until the other end is closed."""
    # Several processes share an accelerator: none may take all of its memory at the start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        from benchmarks.ceilings import Ceilings
        from benchmarks.peers import PEERS
        from benchmarks.text_peers import TEXT_PEERS
        from benchmarks.text_real_peers import REAL_PEERS

        makers = {**PEERS, **TEXT_PEERS, **REAL_PEERS, "ceilings": Ceilings}
        peer = makers[name](**arguments)
        connection.send(("made", (peer.detail, peer.compile_seconds, peer.tried)))
        while True:
            method, given = connection.recv()
            begun = time.perf_counter()
            value = getattr(peer, method)(*given)
            connection.send(("done", (value, time.perf_counter() - begun)))
    except (EOFError, KeyboardInterrupt):
        return
    except MissingError as error:
        connection.send(("missing", str(error)))
    except Exception as error:
        connection.send(("failed", f"{type(error).__name__}: {error}"))
