"""How far a run is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TextIO, runtime_checkable

from ncsim.errors import ConfigError, reason

SECONDS_BETWEEN_LINES = 10.0
#: The same of work that has no number of things done.
SECONDS_BETWEEN_WORDS = 30.0


class Progress:
    """Prints how much is done, work a second and time left to a stream: a listener for `ncsim.run_ensemble`, whose things
    are members and whose work is network-steps, and for `ncsim.text.run.run_text`: adapters, and items."""

    def __init__(self, stream: TextIO | None = None, things: str = "members", work: str = "network-steps") -> None:
        self._stream = stream or sys.stderr
        self._things, self._work = things, work
        self._bar = None
        self._members = self._steps = self._done_members = self._done_steps = 0
        self._begun = self._printed = 0.0
        self._first: tuple[int, float] | None = None

    def start(self, members: int, network_steps: int) -> None:
        """What there is to train."""
        self._members, self._steps = members, network_steps
        self._done_members = self._done_steps = 0
        self._begun = self._printed = time.monotonic()
        self._first = None  # steps of the first batch, and when it was done: before it programs were compiled
        if self._stream is not None and self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=network_steps,
                unit=self._work,
                unit_scale=True,
                file=_Forgiving(self._stream),
                dynamic_ncols=True,
                desc="training",
                smoothing=0.05,
            )
        else:
            self._line(f"training {members:,} {self._things}")

    def advance(self, members: int, network_steps: int) -> None:
        """A batch is done; or, with 0 and 0, one takes long."""
        self._done_members += members
        self._done_steps += network_steps
        now = time.monotonic()
        if network_steps and self._first is None:
            self._first = self._done_steps, now
        if self._bar is not None:
            self._bar.update(network_steps)
            self._bar.set_postfix_str(f"{self._done_members:,} {self._things}", refresh=False)
        elif now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            if self._first is None or self._done_steps == self._first[0]:
                words = f" and {self._done_steps / self._steps:.0%} of {self._work}" if self._done_steps else ""
                done = f"{self._done_members:,} of {self._members:,} {self._things}{words}"
                self._line(f"{done} after {_duration(now - self._begun)}")
                return
            rate = (self._done_steps - self._first[0]) / max(now - self._first[1], 1e-9)
            left = (self._steps - self._done_steps) / rate
            self._line(
                f"{self._done_members:,} of {self._members:,} {self._things}, {rate:.2e} {self._work}/s, {_duration(left)} left"
            )

    def close(self) -> None:
        """The end, reached or not."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        elif self._done_steps == self._steps:
            seconds = max(time.monotonic() - self._begun, 1e-9)
            self._line(
                f"trained {self._members:,} {self._things} in {_duration(seconds)}, "
                f"{self._steps / seconds:.2e} {self._work}/s with compilation"
            )

    def _line(self, text: str) -> None:
        write_line(f"ncsim: {text}", self._stream)


class _Forgiving:
    """A stream whose failures end no run, as of a terminal that has gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


PROGRAM = "ncsim"


def say(text: str) -> None:
    """One line on standard error."""
    write_line(f"ncsim: {text}", sys.stderr)


def write_line(text: str, stream: TextIO | None) -> None:
    """A line on a stream, or nowhere: a stream that is closed, full or not there ends no run."""
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            print(text, file=stream, flush=True)


def fill_standard_streams() -> None:
    """Give the null device to standard streams that are closed: a file of a run must not get the number of one, which
    libraries write their messages to. What no encoding of a stream has is written with backslashes."""
    handle = os.open(os.devnull, os.O_RDWR)
    while handle <= 2:
        handle = os.open(os.devnull, os.O_RDWR)
    os.close(handle)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def output(text: str) -> None:
    """Print what was asked for; where standard output is closed, a line says so.

    Raises:
        ConfigError: it cannot be written to, as on a full disk.
    """
    if sys.stdout is None:
        say("standard output is closed, so that nothing is printed")
        return
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigError(f"standard output: cannot be written ({reason(error)})") from None


def settle_standard_streams() -> None:
    """Give up streams that cannot be written, so that Python does not complain of them when it ends."""
    for stream in (sys.stderr, sys.stdout):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def telling(words: str | None) -> Iterator[None]:
    """Say what is being done now and then, where it takes long; nothing for None."""
    done = threading.Event()

    def tell() -> None:
        begun = time.monotonic()
        while words is not None and not done.wait(SECONDS_BETWEEN_WORDS):
            say(f"{words}, for {_duration(time.monotonic() - begun)} so far")

    threading.Thread(target=tell, name="ncsim-telling", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def waiting(progress: ProgressListener | None) -> Callable[[], object] | None:
    """What tells a listener, while a call goes on, that nothing more is done yet."""
    return None if progress is None else functools.partial(progress.advance, 0, 0)


@runtime_checkable
class ProgressListener(Protocol):
    """Told what there is to train and, after every batch, what has been; while a batch takes long, 0 and 0 now and then."""

    def start(self, members: int, network_steps: int) -> None:
        """Members to train over all cells, and their network-steps; what is stored already is not among them."""

    def advance(self, members: int, network_steps: int) -> None:
        """A batch is done."""

    def close(self) -> None:
        """Everything is done, or has been given up."""
