/* The limit: training many NCnets of one width as fast as this processor's vector units go. A yardstick, not a part of
 * ncsim: one network shape, one loss, one optimiser, compiled for the machine it runs on.
 *
 * A network has 4 binary inputs, HIDDEN ReLU units, and two heads of one logit each (arXiv:2603.04451, section 4.1); it
 * is trained on all 16 rows of a truth table with the mean binary cross-entropy of a head, summed over the heads, by
 * Adam (Kingma and Ba 2015, epsilon outside the root). Each lane of a vector is a network.
 *
 *     cc -O3 -march=native -ffp-contract=fast -fno-math-errno -fno-trapping-math -fPIC -shared -DHIDDEN=3 ncnet.c -o ncnet.so -lm
 *
 * What makes it fast:
 *   - The step's ~1,000 vector operations are straight-line code on a block of lanes whose state stays in L1.
 *   - A row's pre-activation is its neighbour's plus one weight: 15 additions a unit for 16 rows.
 *   - The gradient of an input weight is the sum over the eight rows that have the input. All four such sums and the
 *     total come out of folding the rows in halves, 26 additions a unit in place of 43.
 *   - ReLU is a mask on multiply-adds, not an operation.
 *   - Heads are stored multiplied by -log2(e), so that a logit is already the exponent of 2 that the sigmoid needs. Adam
 *     does not mind: its step is the same for a scaled gradient, up to a constant for a sign, a scale and epsilon.
 *   - Nor does it mind the mean over rows, or (1 - beta) in its averages: constants of the step size, made once.
 *   - 1/x and 1/sqrt(x) are the processor's 14-bit estimates and one Newton step; the targets ride in the last one.
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef HIDDEN
#define HIDDEN 3
#endif
#ifndef VECTORS
#define VECTORS 2 /* in flight: one works while another waits for its last results */
#endif

#define FEATURES 4
#define ROWS 16
#define INPUT_WEIGHTS (FEATURES * HIDDEN)
#define HIDDEN_END (INPUT_WEIGHTS + HIDDEN)      /* input weights [feature][unit], hidden biases [unit], */
#define PARAMETERS (HIDDEN_END + 2 * HIDDEN + 2) /* head weights [head][unit], head biases [head] */

#define PRAGMA(text) _Pragma(#text)
#define UNROLL_BY(count) PRAGMA(GCC unroll count)
#if HIDDEN <= 8
#define UNROLL_UNITS UNROLL_BY(8)
#define UNROLL_PARAMETERS UNROLL_BY(58)
#else
#define UNROLL_UNITS UNROLL_BY(1)
#define UNROLL_PARAMETERS UNROLL_BY(1)
#endif
#define INLINE static inline __attribute__((always_inline))

/* ------------------------------------------------------------------------------------ the vector unit, two ways */

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>

#define LANES 16
#define DESCRIPTION "AVX-512 intrinsics"
typedef __m512 vector;
typedef __mmask16 mask;

INLINE vector splat(float x) { return _mm512_set1_ps(x); }
INLINE vector load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void store(float *p, vector x) { _mm512_storeu_ps(p, x); }
INLINE mask positive(vector x) { return _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ); }
/* a b + c; where the mask is not set: c, 0. */
INLINE vector multiply_add(vector a, vector b, vector c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vector multiply_add_where(mask m, vector a, vector b, vector c) { return _mm512_mask3_fmadd_ps(a, b, c, m); }
INLINE vector multiply_add_or_zero(mask m, vector a, vector b, vector c) { return _mm512_maskz_fmadd_ps(m, a, b, c); }
INLINE vector rough_reciprocal(vector x) { return _mm512_rcp14_ps(x); }
INLINE vector rough_inverse_root(vector x) { return _mm512_rsqrt14_ps(x); }

/* 1 + 2^x, x clamped to +-120, to 4e-7: 2^(k/16) from a table of sixteen, from whose bits k's low four are subtracted so
 * that adding k moves the exponent alone, times a minimax quadratic of what is left of x. */
INLINE vector one_plus_power_of_two(vector x)
{
    const __m512i table = _mm512_setr_epi32(
        0x3f800000, 0x3f7daac3, 0x3f7b95c2, 0x3f79c3d3, 0x3f7837f0, 0x3f76f532, 0x3f75fed7, 0x3f75583f,
        0x3f7504f3, 0x3f7508a4, 0x3f75672a, 0x3f76248c, 0x3f7744fd, 0x3f78ccdf, 0x3f7ac0c7, 0x3f7d257d);
    const vector to_sixteenths = splat(0x1.8p19f); /* x + this has x in sixteenths in its low bits */
    x = _mm512_range_ps(x, splat(120.0f), 0x2);    /* the smaller magnitude, with x's sign */
    const vector shifted = x + to_sixteenths;
    const vector rest = x - (shifted - to_sixteenths);
    const __m512i sixteenths = _mm512_castps_si512(shifted);
    const __m512i bits = _mm512_add_epi32(
        _mm512_permutexvar_epi32(sixteenths, table), _mm512_slli_epi32(sixteenths, 19));
    const vector quadratic = multiply_add(
        multiply_add(splat(0.24021946f), rest, splat(0.69318783f)), rest, splat(1.0f));
    return multiply_add(_mm512_castsi512_ps(bits), quadratic, splat(1.0f));
}

#else

/* Vector extensions of GCC and Clang: AVX2, NEON, SVE or plain SSE, as the machine has it. */
#if defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define DESCRIPTION "vector extensions of the compiler"
typedef float vector __attribute__((vector_size(4 * LANES)));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));

INLINE vector splat(float x) { return x - (vector){0}; }
INLINE vector load(const float *p) { vector x; memcpy(&x, p, sizeof x); return x; }
INLINE void store(float *p, vector x) { memcpy(p, &x, sizeof x); }
INLINE mask positive(vector x) { return x > 0.0f; }
INLINE vector keep(mask m, vector x) { return (vector)((mask)x & m); }
INLINE vector multiply_add(vector a, vector b, vector c) { return a * b + c; }
INLINE vector multiply_add_where(mask m, vector a, vector b, vector c) { return a * keep(m, b) + c; }
INLINE vector multiply_add_or_zero(mask m, vector a, vector b, vector c) { return keep(m, a * b + c); }
INLINE vector rough_reciprocal(vector x) { return 1.0f / x; }
INLINE vector rough_inverse_root(vector x)
{
    vector root;
    for (int lane = 0; lane < LANES; lane++) root[lane] = __builtin_sqrtf(x[lane]);
    return 1.0f / root;
}

/* 1 + 2^x, x clamped to +-120, to 2e-7: a minimax polynomial of x less its nearest whole number, which goes to the
 * exponent's bits. */
INLINE vector one_plus_power_of_two(vector x)
{
    const float to_whole = 0x1.8p23f;
    for (int lane = 0; lane < LANES; lane++) x[lane] = x[lane] > 120.0f ? 120.0f : x[lane] < -120.0f ? -120.0f : x[lane];
    const vector shifted = x + to_whole;
    const vector rest = x - (shifted - to_whole);
    vector power = splat(0.00132765f);
    power = power * rest + 0.00967554f;
    power = power * rest + 0.05550713f;
    power = power * rest + 0.2402212f;
    power = power * rest + 0.69314697f;
    power = power * rest + 1.0f;
    return 1.0f + (vector)((mask)power + ((mask)shifted << 23));
}

#endif

/* --------------------------------------------------------------------------------------------------- one step */

typedef struct {
    vector parameter[PARAMETERS]; /* heads times -log2(e) */
    vector first[PARAMETERS];     /* Adam's averages, each over (1 - beta), of gradients in the units of `gradient` */
    vector second[PARAMETERS];
} state;

/* Adam's constants of one step, for hidden parameters and for heads: see `schedule_of`. */
typedef struct {
    float rate[2];
    float epsilon[2];
    float floor[2];
} schedule;

/* sigmoid(z) - target from x = -z log2(e): r (2 - d r) is Newton's step for 1/d, and minus the target costs nothing. */
INLINE vector residual(vector x, const float *minus_target)
{
    const vector d = one_plus_power_of_two(x);
    const vector r = rough_reciprocal(d);
    return multiply_add(r, splat(2.0f) - d * r, splat(*minus_target));
}

typedef struct {
    const vector *parameter;
    const float (*minus_target)[2];
    vector *gradient;
} step_context;

/* Two rows that differ in x4 alone: from the units' pre-activations to the rows' share of the heads' gradient, added up,
 * and of the gradient of x4's weights, and to the sum of the derivatives by each pre-activation (times -log2 e, as the
 * heads are). Two rows, because an accumulator is then fetched and put back half as often, and six masks fit. */
INLINE void rows_of_x4(const step_context *c, int row, const vector without[HIDDEN], vector sum[HIDDEN])
{
    const vector *head = c->parameter + HIDDEN_END;
    vector *gradient = c->gradient + HIDDEN_END;
    vector pre[2][HIDDEN], residuals[2][2];
    mask active[2][HIDDEN];
    UNROLL_BY(2)
    for (int x4 = 0; x4 < 2; x4++) {
        vector x[2] = {head[2 * HIDDEN], head[2 * HIDDEN + 1]};
        UNROLL_UNITS
        for (int unit = 0; unit < HIDDEN; unit++) {
            pre[x4][unit] = without[unit];
            if (x4) pre[x4][unit] += c->parameter[3 * HIDDEN + unit];
            active[x4][unit] = positive(pre[x4][unit]);
            x[0] = multiply_add_where(active[x4][unit], head[unit], pre[x4][unit], x[0]);
            x[1] = multiply_add_where(active[x4][unit], head[HIDDEN + unit], pre[x4][unit], x[1]);
        }
        residuals[x4][0] = residual(x[0], &c->minus_target[row + x4][0]);
        residuals[x4][1] = residual(x[1], &c->minus_target[row + x4][1]);
    }
    UNROLL_UNITS
    for (int unit = 0; unit < HIDDEN; unit++) {
        UNROLL_BY(2)
        for (int k = 0; k < 2; k++) {
            vector g = gradient[k * HIDDEN + unit];
            g = multiply_add_where(active[0][unit], residuals[0][k], pre[0][unit], g);
            g = multiply_add_where(active[1][unit], residuals[1][k], pre[1][unit], g);
            gradient[k * HIDDEN + unit] = g;
        }
        vector through[2];
        UNROLL_BY(2)
        for (int x4 = 0; x4 < 2; x4++)
            through[x4] = multiply_add_or_zero(
                active[x4][unit], residuals[x4][0], head[unit], residuals[x4][1] * head[HIDDEN + unit]);
        c->gradient[3 * HIDDEN + unit] += through[1];
        sum[unit] = through[0] + through[1];
    }
    gradient[2 * HIDDEN] += residuals[0][0] + residuals[1][0];
    gradient[2 * HIDDEN + 1] += residuals[0][1] + residuals[1][1];
}

/* Rows that agree in the inputs before `feature`: those without it, then those with it. Their sums go up; the sum of
 * those with it is added to the gradient of its weights. */
#define HALVES(name, feature, lower)                                                                     \
    INLINE void name(const step_context *c, int row, const vector pre[HIDDEN], vector sum[HIDDEN])       \
    {                                                                                                    \
        vector with[HIDDEN], sum_with[HIDDEN];                                                           \
        UNROLL_UNITS                                                                                     \
        for (int unit = 0; unit < HIDDEN; unit++) with[unit] = pre[unit] + c->parameter[(feature) * HIDDEN + unit]; \
        lower(c, row, pre, sum);                                                                         \
        lower(c, row + (ROWS >> ((feature) + 1)), with, sum_with);                                       \
        UNROLL_UNITS                                                                                     \
        for (int unit = 0; unit < HIDDEN; unit++) {                                                      \
            c->gradient[(feature) * HIDDEN + unit] += sum_with[unit];                                    \
            sum[unit] += sum_with[unit];                                                                 \
        }                                                                                                \
    }
HALVES(rows_of_x3, 2, rows_of_x4)
HALVES(rows_of_x2, 1, rows_of_x3)
HALVES(rows_of_x1, 0, rows_of_x2)

/* Adam with epsilon outside the root: with s = sqrt(second + epsilon^2), 1 / s (1 - epsilon / s). It is 1 / (sqrt(second)
 * + epsilon) up to (epsilon / s)^2, and 0 where there has been no gradient. */
INLINE void adam(state *s, int parameter, vector gradient, float rate, float epsilon, float floor)
{
    const vector first = multiply_add(splat(0.9f), s->first[parameter], gradient);
    const vector square = multiply_add(gradient, gradient, splat(floor));
    const vector second = multiply_add(splat(0.999f), s->second[parameter], square);
    const vector y = rough_inverse_root(second);
    const vector inverse_root = y * (splat(3.0f) - second * y * y); /* Newton's step for twice 1 / sqrt(second) */
    const vector inverse = inverse_root - splat(epsilon) * inverse_root * inverse_root;
    s->first[parameter] = first;
    s->second[parameter] = second;
    s->parameter[parameter] -= splat(rate) * (first * inverse);
}

INLINE void step(state *s, const float minus_target[ROWS][2], const schedule *now)
{
    vector gradient[PARAMETERS];
    UNROLL_PARAMETERS
    for (int parameter = 0; parameter < PARAMETERS; parameter++) gradient[parameter] = splat(0.0f);
    const step_context c = {s->parameter, minus_target, gradient};
    rows_of_x1(&c, 0, s->parameter + INPUT_WEIGHTS, gradient + INPUT_WEIGHTS);
    UNROLL_PARAMETERS
    for (int parameter = 0; parameter < HIDDEN_END; parameter++)
        adam(s, parameter, gradient[parameter], now->rate[0], now->epsilon[0], now->floor[0]);
    UNROLL_PARAMETERS
    for (int parameter = HIDDEN_END; parameter < PARAMETERS; parameter++)
        adam(s, parameter, gradient[parameter], now->rate[1], now->epsilon[1], now->floor[1]);
}

/* ------------------------------------------------------------------------------------------------- what is called */

/* What the parameters of a head are multiplied by in `state`, and what gradients there are of. */
static const double head_scale = -1.44269504088896340736; /* -log2(e) */

/* Adam's constants at step t, counted from 1. Hidden gradients are -log2(e) ROWS times the true ones, heads' ROWS times,
 * averages lack the factor (1 - beta), and the inverse root is twice what it says. */
static schedule schedule_of(int t, double learning_rate)
{
    const double true_first = (1 - 0.9) / (1 - pow(0.9, t));
    const double true_root = sqrt((1 - 0.999) / (1 - pow(0.999, t)));
    const double rate = learning_rate * true_first / true_root / 2, epsilon = 1e-8 * ROWS;
    return (schedule){
        .rate = {(float)-rate, (float)(rate * head_scale)},
        .epsilon = {(float)(epsilon * -head_scale / true_root / 2), (float)(epsilon / true_root / 2)},
        .floor = {(float)(epsilon * head_scale * epsilon * head_scale), (float)(epsilon * epsilon)},
    };
}

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

const char *ncnet_description(void) { return DESCRIPTION; }
int ncnet_lanes(void) { return LANES * VECTORS; }
int ncnet_parameters(void) { return PARAMETERS; }

/* Train `networks` networks, a multiple of ncnet_lanes(), in place: parameter[p * stride + network], in the order of
 * `state`. Returns 0, or 1 where there is no memory. Several threads may work on their own networks at once. */
int ncnet_train(float *parameter, ptrdiff_t stride, ptrdiff_t networks, const float target[ROWS][2], int steps, double learning_rate)
{
    schedule *const schedules = malloc((size_t)(steps > 0 ? steps : 1) * sizeof *schedules);
    state *const block = aligned_alloc(sizeof(vector), VECTORS * sizeof *block);
    if (schedules == NULL || block == NULL) {
        free(schedules);
        free(block);
        return 1;
    }
    float minus_target[ROWS][2];
    for (int row = 0; row < ROWS; row++)
        for (int head = 0; head < 2; head++) minus_target[row][head] = -target[row][head];
    for (int t = 1; t <= steps; t++) schedules[t - 1] = schedule_of(t, learning_rate);
#if defined(__SSE__)
    const unsigned int control = _mm_getcsr();
    _mm_setcsr(control | 0x8040); /* numbers below the normal ones are 0: averages of dead units pass through them */
#endif
    for (ptrdiff_t start = 0; start < networks; start += LANES * VECTORS) {
        memset(block, 0, VECTORS * sizeof *block);
        for (int p = 0; p < PARAMETERS; p++)
            for (int v = 0; v < VECTORS; v++)
                block[v].parameter[p] = load(parameter + p * stride + start + v * LANES)
                    * splat(p < HIDDEN_END ? 1.0f : (float)head_scale);
        for (int t = 0; t < steps; t++)
            for (int v = 0; v < VECTORS; v++) step(block + v, minus_target, schedules + t);
        for (int p = 0; p < PARAMETERS; p++)
            for (int v = 0; v < VECTORS; v++)
                store(parameter + p * stride + start + v * LANES,
                      block[v].parameter[p] * splat(p < HIDDEN_END ? 1.0f : (float)(1 / head_scale)));
    }
#if defined(__SSE__)
    _mm_setcsr(control);
#endif
    free(schedules);
    free(block);
    return 0;
}
