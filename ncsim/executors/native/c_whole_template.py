"""What is the same in every C file that draws, trains and records: JAX's random bits, and loops."""

from __future__ import annotations

#: JAX's random bits.
DRAWS = r"""/* Salmon et al. 2011, as jax.random has it. */
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
"""

#: Where nothing is observed along training.
NOTHING_ALONG = "#define VALUES 0"

#: The loops over networks and contexts; braces are doubled for str.format.
LOOPS = r"""
#define SIZE {size}
#define GIVEN {given}
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

{along}

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
    const int64_t width = ARGUMENT(1)->dims[1], networks = *used * width; /* members of a block, and of all */
    const int64_t points = ARGUMENT(5)->rank == 0 ? 1 : ARGUMENT(5)->dims[0];
    int32_t *const counts = RESULT(0), *const undecided_alice = RESULT(4), *const undecided_bob = RESULT(5);
    int32_t *const product = RESULT(6);
    float *const loss = RESULT(1), *const margin = RESULT(2);
    uint8_t *const diverged = RESULT(3);
    float *const start = malloc((size_t)(1 + points) * SIZE * width * sizeof *start);
    if (start == NULL) return 1;
    float *const trained = start + SIZE * width, *const last = trained + (points - 1) * SIZE * width;
    int failed = 0;
    vec x[SIZE + GIVEN], out[10];
    float given[GIVEN + 1], *values[VALUES + 1];
    const unsigned int control = _mm_getcsr();
    _mm_setcsr(control | 0x8040); /* numbers below the normal ones are 0, as in XLA's threads */
    for (int64_t first = 0; first < networks && !failed; first += width) {{
        for (int context = 0; context < 4 && !failed; context++) {{
            memcpy(given, targets + context * GIVEN, GIVEN * sizeof *given);
            given[GIVEN] = *rate;
            for (int64_t n = 0; n < width; n += LANES) draw(start + n, width, root, ids + first + n, (uint32_t)context);
            failed = train(start, trained, width, width, given, steps, points);
            for (int64_t n = 0; n < width && !failed; n += LANES) {{
                take(x, last + n, width, given);
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
#if VALUES
            /* By context and column, members of all blocks side by side, as they are kept: nothing has to be moved. */
            const int64_t column = ARGUMENT(1)->dims[0] * width * points, before = first * points;
            for (int k = 0; k < VALUES; k++) values[k] = (float *)RESULT(8 + k) + context * column + before;
            uint16_t *const columns = (uint16_t *)RESULT(7) + 4 * context * column + before;
            if (!failed) along(columns, column, values, trained, width, width, points, given);
#endif
        }}
    }}
    _mm_setcsr(control);
    free(start);
    return failed;
}}
"""
