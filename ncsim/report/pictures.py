"""What a report has drawn of a run's laws, here or by a process of its own.

Python computes on one processor at a time. A process that is started with the report imports what draws while members are read here, and
then draws one figure in each of two processes. It has no threads, so that it can be forked, as the process of a report could not.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from ncsim import signals
from ncsim.formatting import counted

if TYPE_CHECKING:  # what draws needs none of a storage's libraries, of which one starts a thread
    from ncsim.statistics.intervals import Estimate
    from ncsim.statistics.lattice_law import LatticeLaw
    from ncsim.statistics.protocols import Protocol, ProtocolLaw
    from ncsim.storage.files import Storage

_ENDING = (signal.SIGINT, signal.SIGTERM)
#: The path comes from the process that starts it, so that both import the same ncsim.
_PROGRAM = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from ncsim.report.pictures import serve; serve()"
)
#: Cells that have a place of their own on an axis; of more, a panel is a map, as wide as one of so many.
MOST_PLACES = 12


@contextlib.contextmanager
def stored_figures(storage: Storage) -> Iterator[Path]:
    """A folder to draw in. What is there at the end is stored in figures/, so that a figure is there whole or not at all, also
    in an object store. Raises OSError."""
    with signals.scratch("ncsim-") as drawn:
        yield drawn
        for path in sorted(drawn.iterdir()):
            storage.write(f"figures/{path.name}", path.read_bytes())


def dots_label(runs: Sequence[Sequence[np.ndarray]]) -> str:
    """How many runs are drawn as dots in each place of any panel. A single shot has fewer where fewer members are whole.

    Args:
        runs: [protocol][ensemble] or the other way round, S of the runs.
    """
    counts = {len(dots) for each in runs for dots in each}
    most = max(counts)
    return f"{'up to ' if len(counts) > 1 else ''}{counted(most, 'run')}"


class PlottedLaw(NamedTuple):
    """What is drawn of a protocol's law. Its numbers are made where they are told, since sums of arrays that lie elsewhere in memory may
    have other last digits."""

    protocol: Protocol
    law: LatticeLaw
    mean: Estimate
    correlators: list[Estimate]

    @classmethod
    def of(cls, law: ProtocolLaw) -> Self:
        """That of a `ProtocolLaw`."""
        return cls(law.protocol, law.law, law.mean, law.correlators)


class Pictures(NamedTuple):
    """What is drawn of laws, [protocol][cell], of the cells that have them.

    Attributes:
        laws: of S.
        dots: S of some runs.
        labels: of the cells.
        axis_label: what tells cells apart.
        numbers: of the cells, in the run.
        names: of the files: of the runs with their laws, and of the means.
    """

    laws: list[list[PlottedLaw]]
    dots: list[list[np.ndarray]]
    labels: list[str]
    axis_label: str
    numbers: list[int]
    names: tuple[str, str]

    def draw(self, folder: Path, forking: bool = False) -> list[str]:
        """Draw both figures into a folder, with `forking` by two processes; gives the page's panels, each as an `<svg>` element."""
        from ncsim.report.figures import plot_means, plot_runs_and_laws

        if not self.numbers:
            return []
        with _beside(lambda: plot_means(self.laws, self.labels, self.axis_label, folder / self.names[1]), forking):
            plot_runs_and_laws(self.laws, self.dots, self.labels, self.axis_label, folder / self.names[0])
            return self.panels()

    def panels(self) -> list[str]:
        """The page's panels."""
        from ncsim.report.figures import inline_panels

        if not self.numbers:
            return []
        return inline_panels(self.laws, self.dots, self.labels, self.axis_label, self.numbers)


class Drawer:
    """A process that draws, once. A context: at its end the process is gone."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        # A signal to both is for this process to answer. The other one takes it as its end as soon as it can.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            self._process = subprocess.Popen(
                [sys.executable or "", "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert self._process.stdin is not None
            self._process.stdin.write(pickle.dumps(sys.path))
            self._process.stdin.flush()
        except OSError:  # as of a system without room for another process
            pass
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            with contextlib.suppress(OSError), self._process:
                self._process.kill()

    def draw(self, pictures: Pictures, folder: Path) -> list[str]:
        """As `Pictures.draw`; where the process fails, it is drawn here, and raises what it raises."""
        if self._process is not None:
            with contextlib.suppress(OSError, ValueError, pickle.UnpicklingError, EOFError):
                answer, _ = self._process.communicate(pickle.dumps((pictures, folder)))
                if self._process.returncode == 0:
                    panels: list[str] = pickle.loads(answer)
                    return panels
        return pictures.draw(folder)


def serve() -> None:
    """What a `Drawer`'s process does. What fails is told by who does it again."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    try:
        import matplotlib.backends.backend_pdf
        import matplotlib.backends.backend_svg  # noqa: F401

        import ncsim.report.figures  # noqa: F401

        pictures, folder = pickle.load(sys.stdin.buffer)
        sys.stdout.buffer.write(pickle.dumps(pictures.draw(folder, forking=True)))
        sys.stdout.flush()
    except Exception:
        os._exit(1)
    os._exit(0)  # to take down all that was imported takes a tenth of a second


@contextlib.contextmanager
def _beside(action: Callable[[], object], forking: bool) -> Iterator[None]:
    """Write files in a forked process while the body is done; or else here, after the body, also where the other one fails, so that an error
    is raised as if there were no other. It is forked only where this process has no other thread, whose locks would be held for ever."""
    child = None
    if forking and _threads() == 1:
        with contextlib.suppress(OSError):
            child = os.fork()
    if child == 0:
        try:
            warnings.simplefilter("ignore")  # the other figure has the same words
            action()
        except Exception:
            os._exit(1)
        os._exit(0)
    try:
        yield
    finally:
        failed = child is None or os.waitpid(child, 0)[1] != 0
    if failed:
        action()


def _threads() -> int:
    """Threads of this process, also those that Python knows nothing of; 0 where the system does not say."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0
