"""The command `ncsim`.

`command` has `main` and what every command needs; `ensemble`, `text`, `plan`, `report` and `show` have one command each, its options and its function;
`options` has the options that commands and experiments share, `settings` the file of `--config`, and `completion` what shells complete. `main` is defined here, so no file may have that name: it would hide the
function. Nothing here needs JAX before something is trained.

Decisions
---------
A signal is a flag that training looks at while it waits for a call, for commands only: in a user's own process Ctrl-C is
Python's, and comes through, because calls are awaited in a thread. Python runs no handler while the main thread is in a
library (a compiler, a rendezvous, a download); a second thread is told of signals too, and ends a command that does not
come back within half a second, once nothing is being stored. Cutting a training into calls by steps would have
needed a state that each executor can hand over, and a proof that no bit depends on where it is cut. Nothing of a part in work is stored, so that parts do not depend on when a run was interrupted.

Command line: argparse, not a generator of interfaces. Options are made from the config's field metadata in one loop;
errors must be one line and `--help` must answer at once without importing jax, which the libraries tried did not give
(tyro prints its errors as boxes of several lines).

Settings in a file: TOML, which the standard library reads, under the names of the fields. What it says is put in the place of options
that are not given, so that one set of checks serves both, and an error is of the file where its value is from there.
config.json, the frozen copy in a run folder, is taken as such a file. Files are written by ten lines of our own.

Cycles: Python looks for them after each 700 new objects, and three times when it ends, which was a tenth of a report's two seconds. A
report's objects are needed until it ends: it looks more rarely, and no command looks at its end. Training keeps Python's number:
what it makes is large.

Completion: shtab (extra `completion`), which makes a script once. argcomplete starts Python at each press of the key, and needs to be
registered in the shell of each user.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
from collections.abc import Sequence

#: What libraries are told before they are imported by `ncsim report`: OpenBLAS's threads keep a processor busy while they wait for a
#: product, and Arrow's own memory is new for each part of a run, which the system has to clear. What --repair and --audit train needs neither.
_FOR_REPORTS = {"OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `ncsim` command. Ctrl-C is answered from here on, while what the command needs is loaded."""
    atexit.register(gc.freeze)  # what is frozen is not looked at again
    if (sys.argv[1:] if arguments is None else list(arguments))[:1] == ["report"]:
        for name, value in _FOR_REPORTS.items():
            os.environ.setdefault(name, value)
    try:
        from ncsim.cli import command

        command.main(arguments)
    except KeyboardInterrupt:
        with contextlib.suppress(AttributeError, OSError):  # a standard error that is closed
            sys.stderr.write("\nncsim: interrupted\n")
        raise SystemExit(130) from None
