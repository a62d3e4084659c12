"""What is the same in every generated C file: the vector unit, two ways, and the loops around a step."""

from __future__ import annotations

#: Every function is elementwise over the lanes of a vector.
HEADER = r"""
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "xla/ffi/api/c_api.h"

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define LANES 16
typedef __m512 vec;
typedef __mmask16 mask;
INLINE vec splat(float x) { return _mm512_set1_ps(x); }
#define COMPARISON(name, code) INLINE mask is_##name(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, code); }
INLINE mask mask_and(mask a, mask b) { return a & b; }
INLINE mask mask_or(mask a, mask b) { return a | b; }
INLINE mask mask_xor(mask a, mask b) { return a ^ b; }
INLINE mask mask_not(mask a) { return (mask)~a; }
INLINE mask mask_splat(int x) { return (mask)(x ? 0xffff : 0); }
INLINE vec where(mask m, vec x) { return _mm512_maskz_mov_ps(m, x); }
INLINE vec choose(mask m, vec yes, vec no) { return _mm512_mask_blend_ps(m, no, yes); }
INLINE vec maximum(vec a, vec b) { return _mm512_max_ps(a, b); }
INLINE vec minimum(vec a, vec b) { return _mm512_min_ps(a, b); }
INLINE vec vabs(vec x) { return _mm512_abs_ps(x); }

INLINE vec vsqrt(vec x) { return _mm512_sqrt_ps(x); }
INLINE vec times_power_of_two(vec x, vec n) { return _mm512_scalef_ps(x, n); }
#else
#define LANES 8
typedef __m256 vec;
typedef __m256 mask;
INLINE vec splat(float x) { return _mm256_set1_ps(x); }
#define COMPARISON(name, code) INLINE mask is_##name(vec a, vec b) { return _mm256_cmp_ps(a, b, code); }
INLINE mask mask_and(mask a, mask b) { return _mm256_and_ps(a, b); }
INLINE mask mask_or(mask a, mask b) { return _mm256_or_ps(a, b); }
INLINE mask mask_xor(mask a, mask b) { return _mm256_xor_ps(a, b); }
INLINE mask mask_splat(int x) { return _mm256_castsi256_ps(_mm256_set1_epi32(x ? -1 : 0)); }
INLINE mask mask_not(mask a) { return _mm256_xor_ps(a, mask_splat(1)); }
INLINE vec where(mask m, vec x) { return _mm256_and_ps(m, x); }
INLINE vec choose(mask m, vec yes, vec no) { return _mm256_blendv_ps(no, yes, m); }
INLINE vec maximum(vec a, vec b) { return _mm256_max_ps(a, b); }
INLINE vec minimum(vec a, vec b) { return _mm256_min_ps(a, b); }
INLINE vec vabs(vec x) { return _mm256_andnot_ps(splat(-0.0f), x); }
INLINE vec vsqrt(vec x) { return _mm256_sqrt_ps(x); }
/* In two halves, each of which is a number's exponent. */
INLINE vec power_of_two(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
INLINE vec times_power_of_two(vec x, vec n)
{
    const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    return x * power_of_two(half) * power_of_two(_mm256_sub_epi32(whole, half));
}
#endif

COMPARISON(lt, _CMP_LT_OQ)
COMPARISON(le, _CMP_LE_OQ)
COMPARISON(gt, _CMP_GT_OQ)
COMPARISON(ge, _CMP_GE_OQ)
COMPARISON(eq, _CMP_EQ_OQ)
COMPARISON(ne, _CMP_NEQ_UQ)

/* As exact as IEEE has them: estimates with a step of Newton's gained a hundredth where measured. */
INLINE vec reciprocal(vec x) { return splat(1.0f) / x; }
INLINE vec vneg(vec x) { return -x; }
INLINE vec load(const float *p) { vec x; memcpy(&x, p, sizeof x); return x; }
INLINE void store(float *p, vec x) { memcpy(p, &x, sizeof x); }
/* Of two that may both be NaN. */
INLINE vec max_of(vec a, vec b) { return choose(is_ne(a, a), a, maximum(a, b)); }
INLINE vec min_of(vec a, vec b) { return choose(is_ne(a, a), a, minimum(a, b)); }

/* 2^y for y = x log2(e): the whole part of y goes to the exponent, a polynomial has the rest. y is
 * rounded, which is as if x were: within 2 + 0.65 |x| units of the last place. */
INLINE vec vexp(vec x)
{
    vec y = x * splat(0x1.715476p0f);
#if LANES == 16
    const vec rest = _mm512_reduce_ps(y, 8); /* 0 for infinities */
    const vec whole = y - rest;
#else
    y = minimum(splat(129.0f), maximum(splat(-151.0f), y));
    const vec whole = _mm256_round_ps(y, 8);
    const vec rest = y - whole;
#endif
    vec p = splat(0x1.5bba14p-10f);
    p = p * rest + splat(0x1.3cea88p-7f);
    p = p * rest + splat(0x1.c6b752p-5f);
    p = p * rest + splat(0x1.ebf9bcp-3f);
    p = p * rest + splat(0x1.62e42ap-1f);
    p = p * rest + splat(1.0f);
    return times_power_of_two(p, whole);
}

/* A function of the C library, for what is too rare to be worth a vector one. */
INLINE vec by_lane(float (*function)(float), vec x)
{
    for (int lane = 0; lane < LANES; lane++) x[lane] = function(x[lane]);
    return x;
}
"""


def call(comment: str, work: str) -> str:
    """What XLA calls: C that says what it is, does `work`, which sets `failed`, and says how that went."""
    return f"""/* {comment} */
XLA_FFI_Error *ncsim_call(XLA_FFI_CallFrame *frame)
{{
    /* Not by the type's name, which differs between versions of the header. */
    const __typeof__(*frame->extension_start) *const extension = frame->extension_start;
    if (extension != NULL && extension->type == XLA_FFI_Extension_Metadata) {{
        XLA_FFI_Metadata *const metadata = ((XLA_FFI_Metadata_Extension *)extension)->metadata;
        metadata->api_version.major_version = XLA_FFI_API_MAJOR;
        metadata->api_version.minor_version = XLA_FFI_API_MINOR;
        return NULL;
    }}
{work}
    if (failed == 0) return NULL;
    XLA_FFI_Error_Create_Args error = {{
        .struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE,
        .message = failed == 1 ? "ncsim: no memory for a training step" : "ncsim: asked to end",
        .errc = failed == 1 ? XLA_FFI_Error_Code_RESOURCE_EXHAUSTED : XLA_FFI_Error_Code_CANCELLED,
    }};
    return frame->api->XLA_FFI_Error_Create(&error);
}}
"""


_CALL = call(
    """What XLA calls: parameters [P, networks], targets and learning rate, and either a number of steps (int32) in, parameters
   out; or R ascending numbers of steps in, parameters [R, P, networks] out.""",
    """    const XLA_FFI_Buffer *const start = frame->args.args[0], *const trained = frame->rets.rets[0];
    const XLA_FFI_Buffer *const given = frame->args.args[1], *const steps = frame->args.args[2];
    const int64_t networks = start->dims[1], points = steps->rank == 0 ? 1 : steps->dims[0];
    const int failed = ncsim_train(start->data, trained->data, networks, networks, given->data, steps->data, points);""",
)

#: The loops around generated statements, and what XLA calls; braces are doubled for str.format.
TEMPLATE = """/* Made by ncsim from its training step. */
{header}
#define SIZE {size}
#define SLOTS {slots}
#define FIXED {fixed_count}
#define ROW {row_count}
#ifndef VECTORS
#define VECTORS 4 /* a block: one works while another waits for its last results; all stay in the first-level cache */
#endif
#define MOST_ROWS 65536 /* steps whose uniform values are made at once */

/* Where a function lies in its page. A step of three units just fits what a processor keeps of decoded instructions, and at
 * some distances from the loop that calls it, it does not: those that a linker happens to choose cost up to two fifths of the rate
 * (benchmarks/placement.py). */
#if !defined(PLACED) && defined(__linux__) && defined(__has_attribute)
#if __has_attribute(patchable_function_entry)
#define PLACED(at) __attribute__((aligned(4096), patchable_function_entry(at, at)))
#endif
#endif
#ifndef PLACED
#define PLACED(at)
#endif
#ifndef STEP_AT
#define STEP_AT 48
#endif
#ifndef TRAIN_AT
#define TRAIN_AT 1984
#endif

/* What a step hands to the next one and is the same for all networks. */
typedef struct {{ {fields} }} carried;

static void begin_carried(carried *c, const float *given)
{{
    (void)c; (void)given;
{begin_carried}
}}

static void fixed_values(float *fixed, const float *given)
{{
    (void)fixed; (void)given;
{fixed}
}}

static void uniform_step(carried *c, const float *given, float *row)
{{
    (void)c; (void)given; (void)row;
{uniform}
}}

static __attribute__((noinline)) void begin(vec *restrict s, const float *restrict given)
{{
    (void)s; (void)given;
{begin}
}}

PLACED(STEP_AT) static __attribute__((noinline)) void step(vec *restrict s, const float *restrict fixed, const float *restrict row)
{{
    (void)fixed; (void)row;
{step}
}}

int ncsim_lanes(void) {{ return LANES; }}

/* Set from outside where nobody waits for results any more. */
volatile int ncsim_ending = 0;

/* Train `networks` networks, a multiple of the lanes, from start[p * stride + network], and store their parameters after
   each of `points` ascending numbers of steps: trained[(point * SIZE + p) * stride + network]. 1: no memory, 2: asked
   to end. */
PLACED(TRAIN_AT) int ncsim_train(const float *start, float *trained, int64_t stride, int64_t networks, const float *given,
                                 const int32_t *stops, int64_t points)
{{
    const int64_t steps = stops[points - 1], most = steps < MOST_ROWS ? steps : MOST_ROWS;
    float *const rows = malloc((size_t)(most + 1) * ROW * sizeof *rows);
    vec *const block = aligned_alloc(sizeof(vec), VECTORS * SLOTS * sizeof *block);
    float fixed[FIXED];
    int ended = 0; /* of this call: the flag may be taken back meanwhile */
    if (rows == NULL || block == NULL) {{
        free(rows);
        free(block);
        return 1;
    }}
    const unsigned int control = _mm_getcsr();
    _mm_setcsr(control | 0x8040); /* numbers below the normal ones are 0, as in XLA's threads */
    fixed_values(fixed, given);
    for (int64_t first = 0; first < networks; first += LANES * VECTORS) {{
        const int64_t left = (networks - first) / LANES;
        const int vectors = left < VECTORS ? (int)left : VECTORS;
        for (int v = 0; v < vectors; v++) {{
            for (int p = 0; p < SIZE; p++) block[v * SLOTS + p] = load(start + p * stride + first + v * LANES);
            begin(block + v * SLOTS, given);
        }}
        carried c;
        begin_carried(&c, given);
        int64_t done = 0, made = 0, base = 0; /* steps taken; steps whose rows are there; the step of the first row */
        for (int64_t point = 0; point < points; point++) {{
            while (done < stops[point]) {{
                if (ncsim_ending) {{
                    ended = 2;
                    goto end;
                }}
                if (done == made) {{
                    base = made;
                    made = steps - base < most ? steps : base + most;
                    if (first == 0 || steps > most)
                        for (int64_t t = base; t < made; t++) uniform_step(&c, given, rows + (t - base) * ROW);
                }}
                const int64_t end = made < stops[point] ? made : stops[point];
                for (int64_t t = done; t < end; t++)
                    for (int v = 0; v < vectors; v++) step(block + v * SLOTS, fixed, rows + (t - base) * ROW);
                done = end;
            }}
            for (int v = 0; v < vectors; v++)
                for (int p = 0; p < SIZE; p++)
                    store(trained + (point * SIZE + p) * stride + first + v * LANES, block[v * SLOTS + p]);
        }}
    }}
end:
    _mm_setcsr(control);
    free(rows);
    free(block);
    return ended;
}}

""" + _CALL.replace("{", "{{").replace("}", "}}")
