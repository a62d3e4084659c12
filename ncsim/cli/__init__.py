"""The command `ncsim`.

`command` has `main` and what every command needs; `ensemble`, `text`, `plan` and `report` have one command each, its options and its function;
`options` has the options that commands and experiments share. `main` is imported here, so no file may have that name: it would hide the
function. Nothing here needs JAX before something is trained.

Decisions
---------
A signal is a flag that training looks at between two calls, for commands only: in a user's own process Ctrl-C is
Python's. Nothing of a part in work is stored, so that parts do not depend on when a run was interrupted.

Command line: argparse, not a generator of interfaces. Options are made from the config's field metadata in one loop;
errors must be one line and `--help` must answer at once without importing jax, which the libraries tried did not give
(tyro prints its errors as boxes of several lines).
"""

from ncsim.cli.command import main as main
