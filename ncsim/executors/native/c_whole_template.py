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
#include <pthread.h>

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

/* What one device has been called for. */
typedef struct job {{
    const uint32_t *root, *ids;
    const int32_t *steps;
    const float *targets, *rate;
    int64_t width, points, blocks;        /* members of a block, recorded steps, and blocks that results have room for */
    const XLA_FFI_Buffer *const *results;
    int64_t pieces, next, done; /* contexts of blocks: all, the first that nobody has begun, and how many are ended */
    int failed;
    struct job *other;
}} job;

/* One context of one block: drawn, trained and recorded. `start` has room for the networks at the start and at all recorded steps. */
static int piece(const job *of, int64_t number, float *start)
{{
#define RESULT(n) of->results[n]->data
    int32_t *const counts = RESULT(0), *const undecided_alice = RESULT(4), *const undecided_bob = RESULT(5);
    int32_t *const product = RESULT(6);
    float *const loss = RESULT(1), *const margin = RESULT(2);
    uint8_t *const diverged = RESULT(3);
    const int64_t width = of->width, points = of->points, first = number / 4 * width, context = number % 4;
    float *const trained = start + SIZE * width, *const last = trained + (points - 1) * SIZE * width;
    vec x[SIZE + GIVEN], out[10];
    float given[GIVEN + 1];
    memcpy(given, of->targets + context * GIVEN, GIVEN * sizeof *given);
    given[GIVEN] = *of->rate;
    for (int64_t n = 0; n < width; n += LANES) draw(start + n, width, of->root, of->ids + first + n, (uint32_t)context);
    const int failed = train(start, trained, width, width, given, of->steps, points);
    if (failed) return failed;
    for (int64_t n = 0; n < width; n += LANES) {{
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
    const int64_t column = of->blocks * width * points, before = first * points;
    float *values[VALUES];
    for (int k = 0; k < VALUES; k++) values[k] = (float *)RESULT(8 + k) + context * column + before;
    uint16_t *const columns = (uint16_t *)RESULT(7) + 4 * context * column + before;
    along(columns, column, values, trained, width, width, points, given);
#endif
    return 0;
}}

/* Devices wait for one another at the end of a call, and what is stored beside the training takes the time of one of them alone. So
   who is through with its own pieces takes those of others. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static job *jobs;

/* A job with pieces that nobody has begun, this one's own or one that takes as much room; call it with the lock. */
static job *with_work(job *own)
{{
    if (own->next < own->pieces) return own;
    for (job *of = jobs; of != NULL; of = of->other)
        if (of->next < of->pieces && of->width == own->width && of->points == own->points) return of;
    return NULL;
}}

static void work(job *own, float *start)
{{
    pthread_mutex_lock(&lock);
    own->other = jobs;
    jobs = own;
    for (job *of; (of = with_work(own)) != NULL;) {{
        const int64_t number = of->next++;
        pthread_mutex_unlock(&lock);
        const int failed = piece(of, number, start);
        pthread_mutex_lock(&lock);
        of->done++;
        if (failed) {{
            of->failed = failed;
            of->pieces = of->next; /* the rest is not begun */
        }}
        if (of->done == of->pieces) pthread_cond_broadcast(&ended);
    }}
    while (own->done < own->pieces) pthread_cond_wait(&ended, &lock);
    job **at = &jobs;
    while (*at != own) at = &(*at)->other;
    *at = own->other;
    pthread_mutex_unlock(&lock);
}}

static int whole(XLA_FFI_CallFrame *frame)
{{
#define ARGUMENT(n) ((const XLA_FFI_Buffer *)frame->args.args[n])
    const int64_t used = *(const int32_t *)ARGUMENT(2)->data;
    job own = {{
        .root = ARGUMENT(0)->data, .ids = ARGUMENT(1)->data, .targets = ARGUMENT(3)->data, .rate = ARGUMENT(4)->data,
        .steps = ARGUMENT(5)->data, .blocks = ARGUMENT(1)->dims[0], .width = ARGUMENT(1)->dims[1],
        .points = ARGUMENT(5)->rank == 0 ? 1 : ARGUMENT(5)->dims[0], .results = (const XLA_FFI_Buffer *const *)frame->rets.rets,
        .pieces = 4 * used,
    }};
    float *const start = malloc((size_t)(1 + own.points) * SIZE * own.width * sizeof *start);
    if (start == NULL) return 1;
    const unsigned int control = _mm_getcsr();
    _mm_setcsr(control | 0x8040); /* numbers below the normal ones are 0, as in XLA's threads */
    work(&own, start);
    _mm_setcsr(control);
    free(start);
    return own.failed;
}}
"""
