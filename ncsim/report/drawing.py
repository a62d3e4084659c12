"""Who draws a report's figures: this process, or another one.

Python computes on one processor at a time. A process that is started with the report imports what draws while members are read here, and
then draws one figure in each of two processes. It has no threads, so that it can be forked, as the process of a report could not.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from ncsim import signals
from ncsim.report.pictures import Pictures

#: Without threads of OpenBLAS it can be forked, also after `ncsim ensemble`, which leaves them to training.
_ALONE = {"OPENBLAS_NUM_THREADS": "1"}
#: The path comes from the process that starts it, so that both import the same ncsim. That may end before it gives one.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline() or sys.exit(1)); "
    "from ncsim.report.drawing import serve; serve()"
)


def draw(pictures: Pictures, folder: Path, forking: bool = False) -> list[str]:
    """Draw both figures into a folder, with `forking` by two processes; gives `panels`."""
    from ncsim.report.figures import plot_means, plot_runs_and_laws

    laws, dots, labels, axis_label, numbers, (of_laws, of_means) = pictures
    if not numbers:
        return []
    with _beside(lambda: plot_means(laws, labels, axis_label, folder / of_means), forking):
        plot_runs_and_laws(laws, dots, labels, axis_label, folder / of_laws)
        return panels(pictures)


def panels(pictures: Pictures) -> list[str]:
    """The panels of the first figure, each as an `<svg>` element for a page."""
    from ncsim.report.figures import inline_panels

    laws, dots, labels, axis_label, numbers, _ = pictures
    return inline_panels(laws, dots, labels, axis_label, numbers) if numbers else []


class Drawer:
    """A process that draws, once. A context: at its end the process is gone."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        # A signal to both is for this process to answer. The other one takes it as its end as soon as it can.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals.STOPPING)
        try:
            # -P, since the working folder may have a file of the name of a module. A session of its own is one number for the
            # process and what it forks; and a terminal does not stop it where it warns, as it may what is not in front.
            self._process = subprocess.Popen(
                [sys.executable or "", "-P", "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | _ALONE,
                start_new_session=True,
            )
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(sys.path).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:  # as of a system without room for another process
            pass
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        if self._process is not None:
            with contextlib.suppress(OSError), self._process:
                pass

    def _end(self) -> None:
        """End the process and what it has forked; both are gone when the pipe has an end."""
        process = self._process
        if process is None or process.returncode is not None:  # its number may be another's by now
            return
        with contextlib.suppress(OSError, ValueError):
            assert process.stdout is not None
            os.killpg(process.pid, signal.SIGKILL)
            while os.read(process.stdout.fileno(), 2**16):
                pass

    def draw(self, pictures: Pictures, folder: Path) -> list[str]:
        """As the function `draw`; where the process fails, that is called here, and raises what it raises."""
        if self._process is not None:
            # It is ended before the folder is taken away, also by a signal: whoever saves a figure makes its folder. And any error
            # may come of an answer after what a user's `sitecustomize` has printed.
            with signals.cleaned_up(self._end), contextlib.suppress(Exception):
                answer, _ = self._process.communicate(json.dumps([pictures.plain(), str(folder)]).encode())
                if self._process.returncode == 0:
                    found: list[str] = json.loads(answer)
                    return found
        return draw(pictures, folder)


def serve() -> None:
    """What a `Drawer`'s process does. What fails is told by who does it again."""
    for number in signals.STOPPING:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.STOPPING)
    try:
        import matplotlib.backends.backend_pdf
        import matplotlib.backends.backend_svg  # noqa: F401

        import ncsim.report.figures  # noqa: F401

        pictures, folder = json.load(sys.stdin.buffer)
        sys.stdout.write(json.dumps(draw(Pictures.from_plain(pictures), Path(folder), forking=True)))
        sys.stdout.flush()
    except Exception:
        os._exit(1)
    # Not `os._exit`: without a home that can be written to, matplotlib has a folder for temporary files to take away. What is
    # frozen is not looked at again, which would take a tenth of a second.
    gc.freeze()


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
