"""A C file that draws, trains and records whole blocks of members, with the bits that XLA gives on the same processor.

Random bits are JAX's (threefry2x32). What is recorded is the jaxpr of `ncsim.training.observation.record`, as `c_exact` has it.
"""

from __future__ import annotations

import numpy as np

from ncsim.executors.native.c_exact import START, Exact, functions
from ncsim.executors.native.c_template import HEADER, call
from ncsim.executors.native.c_whole_template import DRAWS, LOOPS, NOTHING_ALONG


def source(scale: np.ndarray, common: bool, given: int, recorded: Exact, along: str = "") -> str:
    """The C file.

    Args:
        scale: of each parameter's uniform variate, float32 [P].
        common: whether contexts start alike.
        given: how many targets a context has.
        recorded: what is recorded after the training.
        along: the function that observes networks along it (`c_observed.along`), where that is wanted.
    """
    loops = LOOPS.format(
        size=len(scale),
        given=given,
        scale=", ".join(f"{float(each).hex()}f" for each in scale),
        common=int(common),
        recorded="\n".join(f"    {line}" for line in recorded.lines("out")),
        along=along or NOTHING_ALONG,
    )
    said = call("What XLA calls: see whole.py.", "    const int failed = whole(frame);")
    return START + HEADER + functions() + DRAWS + loops + said
