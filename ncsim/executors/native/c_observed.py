"""A C file that observes networks at recorded steps of their training, with the bits that XLA gives on the same processor.

What is observed is the jaxpr of `ncsim.training.observation.observe`, as `c_exact` has it. XLA makes a loop of every few operations
and stores what is between them; here one function has it all in registers and the first-level cache.
"""

from __future__ import annotations

from ncsim.executors.native.c_exact import START, Exact, functions
from ncsim.executors.native.c_template import HEADER, call

#: The loops over networks and recorded steps; braces are doubled for str.format.
_LOOPS = r"""
#define SIZE {size}
#define GIVEN {given}
#define VALUES {values}

static __attribute__((noinline)) void seen(vec *restrict out, const vec *restrict x)
{{
{seen}
}}

/* Parameters [R, P, networks] and targets in; four counts [4, networks, R] and VALUES numbers [networks, R] out. */
static int observe(XLA_FFI_CallFrame *frame)
{{
    const XLA_FFI_Buffer *const trained = frame->args.args[0];
    const float *const targets = ((const XLA_FFI_Buffer *)frame->args.args[1])->data;
    const int64_t points = trained->dims[0], networks = trained->dims[2];
    uint16_t *const counts = ((const XLA_FFI_Buffer *)frame->rets.rets[0])->data;
    float *values[VALUES];
    for (int k = 0; k < VALUES; k++) values[k] = ((const XLA_FFI_Buffer *)frame->rets.rets[1 + k])->data;
    vec x[SIZE + GIVEN], out[4 + VALUES];
    for (int k = 0; k < GIVEN; k++) x[SIZE + k] = splat(targets[k]);
    const unsigned int control = _mm_getcsr();
    _mm_setcsr(control | 0x8040); /* numbers below the normal ones are 0, as in XLA's threads */
    for (int64_t n = 0; n < networks; n += LANES) {{
        const float *parameter = (const float *)trained->data + n;
        for (int64_t point = 0; point < points; point++) {{
            for (int p = 0; p < SIZE; p++, parameter += networks) x[p] = load(parameter);
            for (int p = 0; p < SIZE; p++) __builtin_prefetch(parameter + p * networks); /* too far apart to be foreseen */
            seen(out, x);
            for (int lane = 0; lane < LANES; lane++) {{
                const int64_t place = (n + lane) * points + point;
                for (int c = 0; c < 4; c++) counts[c * networks * points + place] = (uint16_t)out[c][lane];
                for (int k = 0; k < VALUES; k++) values[k][place] = out[4 + k][lane];
            }}
        }}
    }}
    _mm_setcsr(control);
    return 0;
}}
"""


def source(size: int, given: int, values: int, seen: Exact) -> str:
    """The C file.

    Args:
        size: parameters of a network.
        given: how many targets a context has.
        values: how many numbers are observed.
        seen: the four counts, then those numbers.
    """
    lines = "\n".join(f"    {line}" for line in seen.lines("out"))
    loops = _LOOPS.format(size=size, given=given, values=values, seen=lines)
    said = call("What XLA calls: see observed.py.", "    const int failed = observe(frame);")
    return START + HEADER + functions() + loops + said
