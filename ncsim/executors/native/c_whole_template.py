"""What is the same in every C file that draws, trains and records: functions with the bits of XLA and JAX, and loops."""

from __future__ import annotations

import numpy as np

#: No contraction but what is written: first in the file, so that functions can be inlined in one another.
START = """/* Made by ncsim from what it records. */
#if defined(__clang__)
#pragma clang fp contract(off)
#else
#pragma GCC optimize("-ffp-contract=off")
#endif
"""

#: XLA's functions, and JAX's random bits.
FUNCTIONS = r"""
typedef uint32_t bits __attribute__((vector_size(4 * LANES)));
#if LANES == 16
INLINE vec multiply_add(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vec multiply_less(vec a, vec b, vec c) { return _mm512_fmsub_ps(a, b, c); }
INLINE vec less_product(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }
INLINE vec whole_below(vec x) { return _mm512_roundscale_ps(x, 9); }
INLINE vec from_whole(bits x) { return _mm512_cvtepi32_ps((__m512i)x); }
INLINE bits to_whole(vec x) { return (bits)_mm512_cvttps_epi32(x); }
#else
INLINE vec multiply_add(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vec multiply_less(vec a, vec b, vec c) { return _mm256_fmsub_ps(a, b, c); }
INLINE vec less_product(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }
INLINE vec whole_below(vec x) { return _mm256_round_ps(x, 9); }
INLINE vec from_whole(bits x) { return _mm256_cvtepi32_ps((__m256i)x); }
INLINE bits to_whole(vec x) { return (bits)_mm256_cvttps_epi32(x); }
#endif
/* As XLA has them: NaN where either is, and -0 below 0. */
INLINE vec greatest(vec a, vec b)
{
    const vec x = choose(is_eq(a, b), (vec)((bits)a & (bits)b), maximum(a, b));
    return choose(is_ne(a, a), a, x);
}
INLINE vec least(vec a, vec b)
{
    const vec x = choose(is_eq(a, b), (vec)((bits)a | (bits)b), minimum(a, b));
    return choose(is_ne(a, a), a, x);
}
INLINE vec between(vec low, vec x, vec high)
{
    x = choose(is_lt(x, low), low, x);
    return choose(is_gt(x, high), high, x);
}
static __attribute__((noinline)) vec xla_exp(vec x)
{
    x = between(splat(-0x1.5f3334p6f), x, splat(0x1.633334p6f)); /* -87.8, 88.8 */
    vec n = whole_below(multiply_add(x, splat(0x1.715476p0f), splat(0.5f)));
    n = between(splat(-127.0f), n, splat(127.0f));
    x = less_product(n, splat(0x1.63p-1f), x);
    x = less_product(n, splat(-0x1.bd0106p-13f), x);
    vec p = multiply_add(splat(0x1.a0d2cep-13f), x, splat(0x1.6e879cp-10f));
    p = multiply_add(p, x, splat(0x1.11121p-7f));
    p = multiply_add(p, x, splat(0x1.555382p-5f));
    p = multiply_add(p, x, splat(0x1.555554p-3f));
    p = multiply_add(p, x, splat(0.5f));
    p = multiply_add(p, x * x, x) + splat(1.0f);
    return p * (vec)((to_whole(n) << 23) + 0x3f800000u);
}
/* Of a number above 0, or NaN. */
INLINE vec xla_log(vec number)
{
    const vec x = choose(is_gt(number, splat(0x1p-126f)), number, splat(0x1p-126f));
    const vec m = (vec)(((bits)x & 0x807fffffu) | 0x3f000000u);
    const mask small = is_lt(m, splat(0x1.6a09e6p-1f));
    vec e = from_whole(((bits)x >> 23) - 127u) + splat(1.0f);
    e = e - where(small, splat(1.0f));
    const vec t = (m + splat(-1.0f)) + where(small, m), t2 = t * t, t3 = t2 * t;
    vec a = multiply_add(t, splat(0x1.204376p-4f), splat(-0x1.d7a37p-4f));
    vec b = multiply_add(t, splat(-0x1.fcba9ep-4f), splat(0x1.23d37ep-3f));
    vec c = multiply_add(t, splat(0x1.999d58p-3f), splat(-0x1.fffff8p-3f));
    a = multiply_add(a, t, splat(0x1.de4a34p-4f));
    b = multiply_add(b, t, splat(-0x1.555cap-3f));
    c = multiply_add(c, t, splat(0x1.555554p-2f));
    c = multiply_add(multiply_add(a, t3, b), t3, c);
    c = multiply_add(c, t3, e * splat(-0x1.bd0106p-13f));
    c = multiply_add(e, splat(0x1.63p-1f), less_product(t2, splat(0.5f), t) + c);
    return choose(is_ne(number, number), number, c);
}
static __attribute__((noinline)) vec xla_log1p(vec x)
{
    const vec zero = x * splat(0.0f), x2 = x * x;
    vec q = multiply_add(zero + splat(1.0f), x, splat(0x1.e2035ap3f));
    q = multiply_add(q, x, splat(0x1.4c30b6p6f));
    q = multiply_add(q, x, splat(0x1.bb865ap7f));
    q = multiply_add(q, x, splat(0x1.351946p8f));
    q = multiply_add(q, x, splat(0x1.b0db14p7f));
    q = multiply_add(q, x, splat(0x1.e0f304p5f));
    vec p = multiply_add(zero + splat(COEFFICIENTf), x, splat(0x1.fe818ap-2f));
    p = multiply_add(p, x, splat(0x1.a509f4p2f));
    p = multiply_add(p, x, splat(0x1.de9738p4f));
    p = multiply_add(p, x, splat(0x1.e798ecp5f));
    p = multiply_add(p, x, splat(0x1.c8e75ap5f));
    p = multiply_add(p, x, splat(0x1.40a202p4f));
    const vec near = x + multiply_add(x2, splat(-0.5f), (x * x2) * (p / q));
    return choose(is_lt(vabs(x), splat(0x1.a8279ap-2f)), near, xla_log(x + splat(1.0f)));
}

/* Salmon et al. 2011, as jax.random has it. */
typedef struct { bits a, b; } pair;
INLINE bits turned(bits x, int by) { return (x << by) | (x >> (32 - by)); }
INLINE pair threefry(pair key, bits x, bits y)
{
    const bits keys[3] = {key.a, key.b, key.a ^ key.b ^ 0x1bd11bdau};
    static const int by[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
    x += keys[0];
    y += keys[1];
#pragma GCC unroll 5
    for (int round = 0; round < 5; round++) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            x += y;
            y = turned(y, by[round % 2][k]) ^ x;
        }
        x += keys[(round + 1) % 3];
        y += keys[(round + 2) % 3] + (uint32_t)(round + 1);
    }
    return (pair){x, y};
}
""".replace("COEFFICIENT", f"{float(np.float32(4.527e-05)).hex()}")

#: The loops over networks and contexts; braces are doubled for str.format.
LOOPS = r"""
#define SIZE {size}
#define GIVEN {given}
#define CHUNK 128
static const float scale[SIZE] = {{ {scale} }};

typedef int train_function(const float *, float *, int64_t, int64_t, const float *, const int32_t *, int64_t);
static train_function *train;
void ncsim_trained_by(void *function) {{ train = (train_function *)function; }}

static __attribute__((noinline)) void draw(float *start, int64_t stride, const uint32_t *root, const uint32_t *ids,
                                           uint32_t context)
{{
    bits id;
    memcpy(&id, ids, sizeof id);
    const bits zero = id - id;
    pair key = threefry((pair){{zero + root[0], zero + root[1]}}, zero, id);
    if (!{common}) key = threefry(key, zero, zero + context);
    key = threefry(key, zero, zero);
    for (uint32_t p = 0; p < SIZE; p++) {{
        const pair two = threefry(key, zero, zero + p);
        const vec unit = (vec)(((two.a ^ two.b) >> 9) | 0x3f800000u) + splat(-1.0f);
        store(start + p * stride, greatest(splat(-1.0f), unit * splat(2.0f) + splat(-1.0f)) * splat(scale[p]));
    }}
}}

static __attribute__((noinline)) void recorded(vec *restrict out, const vec *restrict x)
{{
{recorded}
}}

static void take(vec *x, const float *trained, int64_t stride, const float *given)
{{
    for (int p = 0; p < SIZE; p++) x[p] = load(trained + p * stride);
    for (int k = 0; k < GIVEN; k++) x[SIZE + k] = splat(given[k]);
}}

static int whole(XLA_FFI_CallFrame *frame)
{{
#define ARGUMENT(n) ((const XLA_FFI_Buffer *)frame->args.args[n])
#define RESULT(n) ((const XLA_FFI_Buffer *)frame->rets.rets[n])->data
    const uint32_t *const root = ARGUMENT(0)->data, *const ids = ARGUMENT(1)->data;
    const int32_t *const used = ARGUMENT(2)->data, *const steps = ARGUMENT(5)->data;
    const float *const targets = ARGUMENT(3)->data, *const rate = ARGUMENT(4)->data;
    const int64_t networks = *used * ARGUMENT(1)->dims[1];
    int32_t *const counts = RESULT(0), *const undecided_alice = RESULT(4), *const undecided_bob = RESULT(5);
    int32_t *const product = RESULT(6);
    float *const loss = RESULT(1), *const margin = RESULT(2);
    uint8_t *const diverged = RESULT(3);
    float *const start = malloc((size_t)2 * SIZE * CHUNK * sizeof *start), *const trained = start + SIZE * CHUNK;
    if (start == NULL) return 1;
    int failed = 0;
    vec x[SIZE + GIVEN], out[10];
    float given[GIVEN + 1];
    const unsigned int control = _mm_getcsr();
    _mm_setcsr(control | 0x8040); /* numbers below the normal ones are 0, as in XLA's threads */
    for (int64_t first = 0; first < networks && !failed; first += CHUNK) {{
        const int64_t width = networks - first < CHUNK ? networks - first : CHUNK;
        for (int context = 0; context < 4 && !failed; context++) {{
            memcpy(given, targets + context * GIVEN, GIVEN * sizeof *given);
            given[GIVEN] = *rate;
            for (int64_t n = 0; n < width; n += LANES) draw(start + n, CHUNK, root, ids + first + n, (uint32_t)context);
            failed = train(start, trained, CHUNK, width, given, steps, 1);
            for (int64_t n = 0; n < width && !failed; n += LANES) {{
                take(x, trained + n, CHUNK, given);
                recorded(out, x);
                for (int lane = 0; lane < LANES; lane++) {{
                    const int64_t place = (first + n + lane) * 4 + context;
                    for (int c = 0; c < 4; c++) counts[place * 4 + c] = (int32_t)out[c][lane];
                    loss[place] = out[4][lane];
                    margin[place] = out[5][lane];
                    diverged[place] = out[6][lane] != 0;
                    undecided_alice[place] = (int32_t)out[7][lane];
                    undecided_bob[place] = (int32_t)out[8][lane];
                    product[place] = (int32_t)out[9][lane];
                }}
            }}
        }}
    }}
    _mm_setcsr(control);
    free(start);
    return failed;
}}
"""
