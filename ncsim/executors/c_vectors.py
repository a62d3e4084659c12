"""The vector unit in C, two ways: what generated code is written in. Every function is elementwise over the lanes."""

#: Identifies the kinds of processor that there is code for, as the compiler's macros and Linux's /proc/cpuinfo name them.
PROCESSORS = {"avx512": ("avx512f", "avx512dq", "avx512vl", "avx512bw"), "avx2": ("avx2", "fma")}

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

/* The processor's estimate to 14 bits and one step of Newton's: within 2 units of the last place. Where the estimate is
 * 0 or infinite the step would make NaN of it; it is kept there. */
INLINE vec reciprocal(vec x)
{
    const vec r = _mm512_rcp14_ps(x);
    const vec e = splat(1.0f) - x * r;
    return _mm512_mask_fmadd_ps(r, _mm512_cmp_ps_mask(e, e, _CMP_ORD_Q), e, r);
}

INLINE vec vsqrt(vec x)
{
#ifdef EXACT_SQRT
    return _mm512_sqrt_ps(x);
#else
    const mask plain = (mask)~_mm512_fpclass_ps_mask(x, 0x2e); /* neither 0, an infinity, nor below the normal numbers */
    const vec y = _mm512_rsqrt14_ps(x);
    const vec s = _mm512_mask_mul_ps(x, plain, x, y);
    const vec e = splat(0.5f) - (s * splat(0.5f)) * y;
    return _mm512_mask_fmadd_ps(s, plain, e, s);
#endif
}

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
INLINE vec reciprocal(vec x) { return splat(1.0f) / x; }
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

INLINE vec vneg(vec x) { return -x; }
INLINE vec load(const float *p) { vec x; memcpy(&x, p, sizeof x); return x; }
INLINE void store(float *p, vec x) { memcpy(p, &x, sizeof x); }
/* Of two that may both be NaN. */
INLINE vec max_of(vec a, vec b) { return choose(is_ne(a, a), a, maximum(a, b)); }
INLINE vec min_of(vec a, vec b) { return choose(is_ne(a, a), a, minimum(a, b)); }

/* 2^y for y = x log2(e): the whole part of y goes to the exponent, a polynomial has the rest. Rounding y is as if x were
 * rounded once: exp(x (1 + d)), d <= 2^-24, and 2 units of the last place beyond that. */
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
