"""A C file that observes networks at recorded steps of their training, with the bits that XLA gives on the same processor.

What is observed is the jaxpr of `ncsim.training.observation.observe`, as `c_exact` has it. XLA makes a loop of every few operations
and stores what is between them; here one function has it all in registers and the first-level cache.
"""

from __future__ import annotations

from ncsim.executors.native.c_exact import START, Exact, functions
from ncsim.executors.native.c_template import HEADER, call

#: The loops over networks and recorded steps; braces are doubled for str.format.
_ALONG = r"""
#define VALUES {values}

static __attribute__((noinline)) void seen(vec *restrict out, const vec *restrict x)
{{
{seen}
}}

/* Of parameters [R, SIZE, networks], `apart` numbers from one parameter to the next, what is seen of each: four counts
   [networks, R], `column` numbers from one to the next, and VALUES numbers [networks, R]. */
static void along(uint16_t *counts, int64_t column, float *const *values, const float *trained, int64_t apart, int64_t networks,
                  int64_t points, const float *given)
{{
    vec x[{size} + {given}], out[4 + VALUES];
    for (int k = 0; k < {given}; k++) x[{size} + k] = splat(given[k]);
    for (int64_t n = 0; n < networks; n += LANES) {{
        const float *parameter = trained + n;
        for (int64_t point = 0; point < points; point++) {{
            for (int p = 0; p < {size}; p++, parameter += apart) x[p] = load(parameter);
            for (int p = 0; p < {size}; p++) __builtin_prefetch(parameter + p * apart); /* too far apart to be foreseen */
            seen(out, x);
            for (int lane = 0; lane < LANES; lane++) {{
                const int64_t place = (n + lane) * points + point;
                for (int c = 0; c < 4; c++) counts[c * column + place] = (uint16_t)out[c][lane];
                for (int k = 0; k < VALUES; k++) values[k][place] = out[4 + k][lane];
            }}
        }}
    }}
}}
"""

_OBSERVE = r"""
/* Parameters [R, P, networks] and targets in, what is seen out. */
static int observe(XLA_FFI_CallFrame *frame)
{
    const XLA_FFI_Buffer *const trained = frame->args.args[0];
    const float *const targets = ((const XLA_FFI_Buffer *)frame->args.args[1])->data;
    const int64_t points = trained->dims[0], networks = trained->dims[2];
    uint16_t *const counts = ((const XLA_FFI_Buffer *)frame->rets.rets[0])->data;
    float *values[VALUES];
    for (int k = 0; k < VALUES; k++) values[k] = ((const XLA_FFI_Buffer *)frame->rets.rets[1 + k])->data;
    const unsigned int control = _mm_getcsr();
    _mm_setcsr(control | 0x8040); /* numbers below the normal ones are 0, as in XLA's threads */
    along(counts, networks * points, values, trained->data, networks, networks, points, targets);
    _mm_setcsr(control);
    return 0;
}
"""


def along(size: int, given: int, values: int, seen: Exact) -> str:
    """A function of C that observes networks at recorded steps.

    Args:
        size: parameters of a network.
        given: how many targets a context has.
        values: how many numbers are observed.
        seen: the four counts, then those numbers.
    """
    lines = "\n".join(f"    {line}" for line in seen.lines("out"))
    return _ALONG.format(size=size, given=given, values=values, seen=lines)


def source(size: int, given: int, values: int, seen: Exact) -> str:
    """The C file that does so alone. Arguments are those of `along`."""
    said = call("What XLA calls: see observed.py.", "    const int failed = observe(frame);")
    return START + HEADER + functions() + along(size, given, values, seen) + _OBSERVE + said
