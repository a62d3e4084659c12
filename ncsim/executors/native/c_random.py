"""C that draws networks and asks them, for `ncsim.training.random_networks`, which says what each function is.

Vectors are those of GCC and Clang, sixteen numbers wide on any processor, a network in each lane. Nothing is contracted, so that all
bits are those of NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ncsim.executors.native.c_exact import START
from ncsim.training.random_networks import CENTRAL, LANES, LN2, LOGARITHM, ROOT_HALF, ROOT_TWO, TAIL, RandomLaw

_FUNCTIONS = r"""
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t bits __attribute__((vector_size(4 * LANES)));

INLINE vec splat(float x) { return x - (vec){0}; }
INLINE bits turned(bits x, int by) { return (x << by) | (x >> (32 - by)); }
INLINE vec choose(ints mask, vec yes, vec no) { return (vec)((mask & (ints)yes) | (~mask & (ints)no)); }
INLINE vec load(const float *p) { vec x; memcpy(&x, p, sizeof x); return x; }
INLINE void store(float *p, vec x) { memcpy(p, &x, sizeof x); }
INLINE vec whole(bits x) { return __builtin_convertvector((ints)x, vec); }
INLINE bits ones(bits x)
{
    x = x - ((x >> 1) & 0x55555555u);
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0fu;
    x = x + (x >> 8);
    return (x + (x >> 16)) & 0x3fu;
}
INLINE bits next_bits(bits *s)
{
    const bits found = turned(s[0] + s[3], 7) + s[0], shifted = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = turned(s[3], 11);
    return found;
}
INLINE vec next_uniform(bits *s) { return whole(next_bits(s) >> 8) * 0x1p-23f + (0x1p-24f - 1); }
INLINE vec polynomial(const float *coefficients, vec x)
{
    vec p = splat(coefficients[0]);
#pragma GCC unroll 8
    for (int n = 1; n < 9; n++) p = p * x + coefficients[n];
    return p;
}
INLINE vec logarithm(vec x)
{
    const vec m = (vec)(((ints)x & 0x7fffff) | 0x3f000000);
    vec e = __builtin_convertvector(((ints)x >> 23) - 126, vec);
    const ints small = m < ROOT_HALF;
    e = e - choose(small, splat(1.0f), splat(0.0f));
    const vec t = choose(small, m + m, m) - 1.0f, square = t * t;
    vec y = polynomial(logarithm_of, t) * t * square;
    y = y + e * LN2_LOW;
    y = y - square * 0.5f;
    return t + y + e * LN2_HIGH;
}
static __attribute__((noinline)) vec normal_of(vec x)
{
    const vec w = -logarithm((1.0f - x) * (1.0f + x));
    vec p = polynomial(central_of, w - 2.5f);
    const ints far = ~(w < 5.0f);
    int any = 0;
    for (int lane = 0; lane < LANES; lane++) any |= far[lane];
    if (any) {
        vec root = choose(w > 0.0f, w, splat(0.0f));
        for (int lane = 0; lane < LANES; lane++) root[lane] = __builtin_sqrtf(root[lane]);
        p = choose(far, polynomial(tail_of, root - 3.0f), p);
    }
    return p * x * ROOT_TWO;
}
INLINE vec variate(bits *s, int k)
{
    const vec x = next_uniform(s);
    return normal[k] ? normal_of(x) : x;
}

/* Answers of both heads: bit r is 1 where the logit on row r is above 0. */
static __attribute__((noinline)) void answers(bits *found, const vec *x)
{
    vec alice[ROWS], bob[ROWS];
    const vec *const hidden_bias = x + FEATURES * HIDDEN, *const head = hidden_bias + HIDDEN;
    const vec *const bias = head + 2 * LOGITS * HIDDEN;
#define HEAD(place, stride) (LOGITS == 1 ? (place)[0] : (place)[(LOGITS - 1) * (stride)] - (place)[0])
    const vec bias_alice = HEAD(bias, 1), bias_bob = HEAD(bias + LOGITS, 1);
    for (int r = 0; r < ROWS; r++) { alice[r] = bias_alice; bob[r] = bias_bob; }
    for (int h = 0; h < HIDDEN; h++) {
        const vec b = hidden_bias[h];
        const vec a_weight = HEAD(head + h, HIDDEN), b_weight = HEAD(head + LOGITS * HIDDEN + h, HIDDEN);
#define K(feature) x[(feature) * HIDDEN + h]
#define ROW(r, sum) { const vec s = sum, relu = choose(s > 0.0f, s, splat(0.0f)); \
    alice[r] = alice[r] + a_weight * relu; bob[r] = bob[r] + b_weight * relu; }
@ROWS_OF_CODE@
    }
    bits a = {0}, c = {0};
    for (int r = 0; r < ROWS; r++) {
        a |= (bits)(alice[r] > 0.0f) & (1u << r);
        c |= (bits)(bob[r] > 0.0f) & (1u << r);
    }
    found[0] = a;
    found[1] = c;
}
INLINE void table_of(const bits *answered, const uint32_t *targets, bits *code, bits *wrong)
{
    const bits right_alice = ~(answered[0] ^ targets[0]) & FULL, right_bob = ~(answered[1] ^ targets[1]) & FULL;
    const bits both = ones(right_alice & right_bob), alice = ones(right_alice), bob = ones(right_bob);
    *code = ((bob - both) * (ROWS + 1) + alice - both) * (ROWS + 1) + both;
    *wrong = 2 * ROWS - alice - bob;
}
INLINE void parameters(vec *x, const vec *z)
{
    for (int p = 0; p < SIZE; p++) x[p] = splat(0.0f);
    for (int k = 0; k < VARIATES; k++) x[place[k]] = z[k] * scale[k];
}
static void keep(const vec *x, bits wrong, uint32_t limit, float *kept, int64_t *count, int64_t most)
{
    for (int lane = 0; lane < LANES; lane++)
        if (wrong[lane] <= limit && *count < most) {
            for (int p = 0; p < SIZE; p++) kept[*count * SIZE + p] = x[p][lane];
            ++*count;
        }
}
INLINE int some(bits wrong, uint32_t limit)
{
    const ints low = (ints)(wrong <= limit);
    int any = 0;
    for (int lane = 0; lane < LANES; lane++) any |= low[lane];
    return any;
}
#define TAKE(s, from) for (int n = 0; n < 4; n++) memcpy(&s[n], from + n * streams, sizeof s[n])
#define GIVE(s, to) for (int n = 0; n < 4; n++) memcpy(to + n * streams, &s[n], sizeof s[n])

void ncsim_guess(uint32_t *state, int64_t streams, int64_t steps, int32_t limit, int64_t *tables, float *kept,
                 int64_t *count, int64_t most)
{
    for (int64_t first = 0; first < streams; first += LANES) {
        bits s[4], answered[2], code, wrong;
        vec z[VARIATES + 1], x[SIZE];
        TAKE(s, state + first);
        for (int64_t step = 0; step < steps; step++) {
            for (int k = 0; k < VARIATES; k++) z[k] = variate(s, k);
            parameters(x, z);
            answers(answered, x);
            for (int c = 0; c < 4; c++) {
                table_of(answered, targets[c], &code, &wrong);
                int64_t *const of = tables + c * CELLS;
                for (int lane = 0; lane < LANES; lane++) of[code[lane]]++;
                if (limit >= 0 && some(wrong, limit)) keep(x, wrong, limit, kept + c * most * SIZE, count + c, most);
            }
        }
        GIVE(s, state + first);
    }
}

INLINE vec moved(vec z, int k, float reach, bits *s)
{
    const vec drawn = next_uniform(s);
    if (normal[k]) return z * __builtin_sqrtf(1.0f - reach * reach) + normal_of(drawn) * reach;
    if (reach == 1.0f) return drawn;
    const vec x = z + drawn * reach;
    return choose(x > 1.0f, 2.0f - x, choose(x < -1.0f, -2.0f - x, x));
}

void ncsim_walk(uint32_t *state, float *variates, uint8_t *deep, int64_t *trips, int64_t streams, int64_t steps,
                const int32_t *move, const float *reach, int32_t context, const float *ratio, int32_t bottom,
                int32_t top, int64_t *tables, float *kept, int64_t *count, int64_t most, int32_t limit, int64_t every)
{
    for (int64_t first = 0; first < streams; first += LANES) {
        bits s[4], answered[2], code, wrong, new_code, new_wrong;
        vec z[VARIATES + 1], old[VARIATES + 1], x[SIZE];
        TAKE(s, state + first);
        for (int k = 0; k < VARIATES; k++) z[k] = load(variates + k * streams + first);
        parameters(x, z);
        answers(answered, x);
        table_of(answered, targets[context], &code, &wrong);
        for (int64_t step = 0; step < steps; step++) {
            const int from = set_start[move[step]], to = set_start[move[step] + 1];
            const float by = reach[step];
            for (int n = from; n < to; n++) {
                const int k = set[n];
                old[n - from] = z[k];
                z[k] = by < 0 ? -z[k] : moved(z[k], k, by, s);
            }
            parameters(x, z);
            answers(answered, x);
            table_of(answered, targets[context], &new_code, &new_wrong);
            const vec chance = whole(next_bits(s) >> 8) * 0x1p-24f;
            vec allowed;
            for (int lane = 0; lane < LANES; lane++)
                allowed[lane] = ratio[wrong[lane] * (2 * ROWS + 1) + new_wrong[lane]];
            const ints taken = chance < allowed;
            for (int n = from; n < to; n++) z[set[n]] = choose(taken, z[set[n]], old[n - from]);
            code = (bits)choose(taken, (vec)new_code, (vec)code);
            wrong = (bits)choose(taken, (vec)new_wrong, (vec)wrong);
            for (int lane = 0; lane < LANES; lane++) {
                tables[code[lane]]++;
                uint8_t *const was = deep + first + lane;
                if (*was && (int)wrong[lane] >= top) { ++*trips; *was = 0; }
                if ((int)wrong[lane] <= bottom) *was = 1;
            }
            if (limit >= 0 && (step + 1) % every == 0 && some(wrong, limit)) {
                parameters(x, z);
                keep(x, wrong, limit, kept, count, most);
            }
        }
        for (int k = 0; k < VARIATES; k++) store(variates + k * streams + first, z[k]);
        GIVE(s, state + first);
    }
}
"""


def source(law: RandomLaw) -> str:
    """The C file of a law."""
    rows, sets = len(law.rows), law.moves()
    sizes = {
        "LANES": LANES,
        "ROWS": rows,
        "CELLS": (rows + 1) ** 3,
        "FULL": f"{2**rows - 1}u",
        "FEATURES": law.architecture.features,
        "HIDDEN": law.architecture.hidden,
        "LOGITS": law.architecture.logits,
        "SIZE": law.architecture.size,
        "VARIATES": len(law.place),
        "ROOT_HALF": _number(ROOT_HALF),
        "ROOT_TWO": _number(ROOT_TWO),
        "LN2_LOW": _number(LN2[0]),
        "LN2_HIGH": _number(LN2[1]),
    }
    starts = np.cumsum([0, *map(len, sets)])
    arrays = [
        _array("int32_t", "place", law.place),
        _array("float", "scale", law.scale),
        _array("int32_t", "normal", law.normal.astype(int)),
        _array("int32_t", "set_start", starts),
        _array("int32_t", "set", np.concatenate(sets)),
        f"static const uint32_t targets[4][2] = {{{', '.join(f'{{{a}u, {b}u}}' for a, b in law.targets.tolist())}}};",
        *(_array("float", *each) for each in (("central_of", CENTRAL), ("tail_of", TAIL), ("logarithm_of", LOGARITHM))),
    ]
    defined = [f"#define {name} {value}" for name, value in sizes.items()]
    start = [START, "#include <stdint.h>", *defined, *arrays]
    return "\n".join(start) + _FUNCTIONS.replace("@ROWS_OF_CODE@", "\n".join(_rows(law)))


def _rows(law: RandomLaw) -> list[str]:
    signs = {1.0: "+", -1.0: "-"}
    return [
        f"        ROW({number}, b{''.join(f' {signs[value]} K({n})' for n, value in enumerate(row.tolist()) if value)})"
        for number, row in enumerate(law.rows)
    ]


def _number(value: float) -> str:
    return f"{float(np.float32(value)).hex()}f"


def _array(kind: str, name: str, values: Sequence[Any] | np.ndarray) -> str:
    said = ", ".join(_number(each) if kind == "float" else str(int(each)) for each in values)
    return f"static const {kind} {name}[{max(len(values), 1)}] = {{{said or 0}}};"
