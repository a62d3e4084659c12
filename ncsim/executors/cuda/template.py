"""What is the same in every generated kernel: a thread's float as the vector of the C generator, and the loop around a step."""

from __future__ import annotations

#: What a step's text is made of, on a GPU. Functions are the processor's approximations, as the PTX manual states them:
#: 2^x within 2^-22 of its value, reciprocals within one unit of the last place, roots within 2^-23. What is below the
#: normal numbers is 0, as in XLA's kernels.
DEVICE_HEADER = r"""
#define INLINE static __device__ __forceinline__
INLINE vec maximum(vec a, vec b) { vec y; asm("max.NaN.ftz.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b)); return y; }
INLINE vec minimum(vec a, vec b) { vec y; asm("min.NaN.ftz.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b)); return y; }
INLINE vec vsqrt(vec x) { vec y; asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
INLINE vec reciprocal(vec x) { vec y; asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
INLINE vec vexp2(vec x) { vec y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
/* Compilers make a selection of `if (m) sum += a * b`, one instruction more than what is predicated. */
#define GUARDED(sum, m, code, ...) \
    asm("{ .reg .pred q; setp.ne.u32 q, %1, 0; @q " code " }" : "+f"(sum) : "r"((unsigned)(m)), __VA_ARGS__)
#define ADD_IF(sum, m, a) GUARDED(sum, m, "add.rn.ftz.f32 %0, %0, %2;", "f"(a))
/* What is made of x afterwards is made again, not kept from before: it would take registers meanwhile. */
#define AGAIN(x) x = __uint_as_float(__float_as_uint(x) | never)
#define FMA_IF(sum, m, a, b) GUARDED(sum, m, "fma.rn.ftz.f32 %0, %2, %3, %0;", "f"(a), "f"(b))
"""

#: The same for a C compiler of a CPU, for tests of the text.
HOST_HEADER = r"""
#include <math.h>
#include <stdint.h>
#define INLINE static inline
INLINE float maximum(float a, float b) { return a != a || a > b ? a : b; }
INLINE float minimum(float a, float b) { return a != a || a < b ? a : b; }
INLINE float vsqrt(float x) { return sqrtf(x); }
INLINE float reciprocal(float x) { return 1.0f / x; }
INLINE float vexp2(float x) { return exp2f(x); }
#define AGAIN(x) (void)(x)
#define ADD_IF(sum, m, a) do { if (m) sum += (a); } while (0)
#define FMA_IF(sum, m, a, b) do { if (m) sum = fmaf(a, b, sum); } while (0)
"""

#: Of both.
COMMON_HEADER = r"""
INLINE vec splat(float x) { return x; }
INLINE mask is_lt(vec a, vec b) { return a < b; }
INLINE mask is_le(vec a, vec b) { return a <= b; }
INLINE mask is_gt(vec a, vec b) { return a > b; }
INLINE mask is_ge(vec a, vec b) { return a >= b; }
INLINE mask is_eq(vec a, vec b) { return a == b; }
INLINE mask is_ne(vec a, vec b) { return a != b; }
/* Whether a ReLU lets its input through; NaN goes through, so that what diverged stays so. */
INLINE mask is_on(vec a) { return !(a <= 0.0f); }
INLINE mask mask_and(mask a, mask b) { return a & b; }
INLINE mask mask_or(mask a, mask b) { return a | b; }
INLINE mask mask_xor(mask a, mask b) { return a ^ b; }
INLINE mask mask_not(mask a) { return !a; }
INLINE mask mask_splat(int x) { return x != 0; }
INLINE vec where(mask m, vec x) { return m ? x : 0.0f; }
INLINE vec choose(mask m, vec yes, vec no) { return m ? yes : no; }
INLINE vec max_of(vec a, vec b) { return maximum(a, b); }
INLINE vec min_of(vec a, vec b) { return minimum(a, b); }
INLINE vec vabs(vec x) { return fabsf(x); }
INLINE vec vneg(vec x) { return -x; }
INLINE vec by_lane(float (*function)(float), vec x) { return function(x); }
"""

#: State [SLOTS, NETWORKS] in, uniform values [steps, ROW] of each step, and from which step of these to which; state out.
KERNEL = """/* Made by ncsim from its training step. */
typedef float vec;
typedef {mask} mask;
{header}
#define SLOTS {slots}
#define ROW {row}

INLINE void step(vec *s, const float *row)
{{
    (void)row;
{step}
}}
{loop}"""

DEVICE_LOOP = """
extern "C" __global__ void __launch_bounds__({threads}, {blocks})
{name}(const float *__restrict__ state, const float4 *__restrict__ table, const unsigned *__restrict__ steps,
       float *__restrict__ out)
{{
    constexpr unsigned long long networks = {networks}ull;
    const unsigned network = blockIdx.x * {threads} + threadIdx.x;
    vec s[SLOTS];
#pragma unroll
    for (int k = 0; k < SLOTS; k++) s[k] = state[k * networks + network];
    const unsigned last = steps[1];
#pragma unroll 1
    for (unsigned t = steps[0]; t < last; t++) {{
        float row[ROW];
#pragma unroll
        for (int k = 0; k < ROW / 4; k++) {{
            const float4 four = __ldg(table + t * (ROW / 4) + k);
            row[4 * k] = four.x, row[4 * k + 1] = four.y, row[4 * k + 2] = four.z, row[4 * k + 3] = four.w;
        }}
        step(s, row);
    }}
#pragma unroll
    for (int k = 0; k < SLOTS; k++) out[k * networks + network] = s[k];
}}
"""

HOST_LOOP = """
void ncsim_host(const float *state, const float *table, const uint32_t *steps, float *out, long networks)
{{
    for (long network = 0; network < networks; network++) {{
        float s[SLOTS];
        for (int k = 0; k < SLOTS; k++) s[k] = state[k * networks + network];
        for (uint32_t t = steps[0]; t < steps[1]; t++) step(s, table + t * ROW);
        for (int k = 0; k < SLOTS; k++) out[k * networks + network] = s[k];
    }}
}}
"""

#: The same for a team of threads a network. `STEP` is a list of EACH(what every thread does) and SUM(over the team's threads);
#: `MOVES` has MOVE(place in s, how many, row of the state, how many units are there, 1 or of the network 0).
TEAM_KERNEL = """/* Made by ncsim from its training step. */
typedef float vec;
typedef {mask} mask;
typedef unsigned long long place;
{header}
#define ROW {row}
{step}
INLINE void load(vec *s, int count, const float *from, place networks, int width, int thread)
{{
#pragma unroll
    for (int k = 0; k < count; k++)
        s[k] = thread + TEAM * k < width ? from[(thread + TEAM * k) * networks] : 0.0f;
}}
INLINE void store(const vec *s, int count, float *to, place networks, int width, int thread)
{{
#pragma unroll
    for (int k = 0; k < count; k++)
        if (thread + TEAM * k < width) to[(thread + TEAM * k) * networks] = s[k];
}}
#define LOAD(local, count, wide, width, own) load(s + local, count, state + wide * networks + network, networks, width, own * thread);
/* What is of the network, its first thread stores. */
#define STORE(local, count, wide, width, own) \\
    if (own || thread == 0) store(s + local, count, out + wide * networks + network, networks, width, thread);
{loop}"""

TEAM_DEVICE_LOOP = """
INLINE vec over_team(vec x)
{{
#pragma unroll
    for (int apart = 1; apart < TEAM; apart *= 2) x += __shfl_xor_sync(0xffffffffu, x, apart);
    return x;
}}
#define EACH(phase) do_##phase(s, g, t, row, thread, never);
#define SUM(k) g[k] = over_team(g[k]);
extern "C" __global__ void __launch_bounds__({threads}, {blocks})
{name}(const float *__restrict__ state, const float4 *__restrict__ table, const unsigned *__restrict__ steps,
       float *__restrict__ out)
{{
    constexpr place networks = {networks}ull;
    const unsigned network = (blockIdx.x * {threads} + threadIdx.x) / TEAM;
    const int thread = threadIdx.x % TEAM;
    vec s[SLOTS], g[SUMS], t[KEPT];
#define MOVE LOAD
    MOVES
#undef MOVE
    const unsigned last = steps[1];
#pragma unroll 1
    for (unsigned now = steps[0]; now < last; now++) {{
        const unsigned never = now >> 31; /* 0, which no compiler knows */
        float row[ROW];
#pragma unroll
        for (int k = 0; k < ROW / 4; k++) {{
            const float4 four = __ldg(table + now * (ROW / 4) + k);
            row[4 * k] = four.x, row[4 * k + 1] = four.y, row[4 * k + 2] = four.z, row[4 * k + 3] = four.w;
        }}
        STEP
    }}
#define MOVE STORE
    MOVES
}}
"""

TEAM_HOST_LOOP = """
/* In the order of a shuffle's exchanges: each thread adds the other's to its own. */
INLINE void over_team(vec *x)
{{
    for (int apart = 1; apart < TEAM; apart *= 2) {{
        vec sums[TEAM];
        for (int i = 0; i < TEAM; i++) sums[i] = x[i * SUMS] + x[(i ^ apart) * SUMS];
        for (int i = 0; i < TEAM; i++) x[i * SUMS] = sums[i];
    }}
}}
#define EACH(phase) for (int i = 0; i < TEAM; i++) do_##phase(all + i * SLOTS, g + i * SUMS, t + i * KEPT, row, i, 0);
#define SUM(k) over_team(g + k);
void ncsim_host(const float *state, const float *table, const uint32_t *steps, float *out, long count)
{{
    const place networks = count;
    for (place network = 0; network < networks; network++) {{
        float all[TEAM * SLOTS], g[TEAM * SUMS], t[TEAM * KEPT];
#define MOVE LOAD
        for (int thread = 0; thread < TEAM; thread++) {{ float *s = all + thread * SLOTS; MOVES }}
#undef MOVE
        for (uint32_t now = steps[0]; now < steps[1]; now++) {{ const float *row = table + now * ROW; STEP }}
#define MOVE STORE
        for (int thread = 0; thread < TEAM; thread++) {{ const float *s = all + thread * SLOTS; MOVES }}
    }}
}}
"""
