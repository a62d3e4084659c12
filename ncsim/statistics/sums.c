/* Sums over members that tally.py, trajectory_tally.py and member_statistics.py define, in one pass over each member: the same
   whole numbers, and floats added in the same order, so that a file is the same wherever it is made.

   Contexts are in the order 11, 12, 21, 22, a context's counts in the order 00, 01, 10, 11 of (Alice right, Bob right). */

#pragma GCC optimize("O3")

#include <math.h>
#include <stdint.h>
#include <string.h>

#define CONTEXTS 4
#define CELLS 4

static inline int smaller(int a, int b) { return a < b ? a : b; }
static inline int larger(int a, int b) { return a > b ? a : b; }
static inline int size(int a) { return a < 0 ? -a : a; }

/* S, direct influence and Delta, times the rows, of sums of outcomes and of their products. */
static inline void statistics_of(const int *a, const int *b, const int *c, int rows, int *s, int *influence, int *delta)
{
    const int total = c[0] + c[1] + c[2] + c[3];
    *s = total - 2 * c[3];
    const int odd = larger(larger(size(*s), size(total - 2 * c[0])), larger(size(total - 2 * c[1]), size(total - 2 * c[2])));
    *influence = size(a[0] - a[1]) + size(a[2] - a[3]) + size(b[0] - b[2]) + size(b[1] - b[3]);
    *delta = odd - 2 * rows - *influence;
}

static inline int signed_sum(const int *each) { return each[0] + each[1] + each[2] - each[3]; }

/* ------------------------------------------------------------------------------------------------------------- members */

/* The statistics of members, of counts [members][4][4]. Of one with a network that diverged they are NaN. */
void ncsim_member_statistics(
    int64_t members, int64_t rows, const int32_t *counts, double *s, double *factorised, double *influence, double *delta,
    uint8_t *solved /* [4][members] */)
{
    const double of = (double)rows, squared = (double)(rows * rows);
    for (int64_t m = 0; m < members; m++, counts += CONTEXTS * CELLS) {
        int a[CONTEXTS], b[CONTEXTS], c[CONTEXTS], there = 1;
        for (int k = 0; k < CONTEXTS; k++) {
            const int32_t *n = counts + CELLS * k;
            a[k] = n[2] + n[3] - n[0] - n[1];
            b[k] = n[1] + n[3] - n[0] - n[2];
            c[k] = n[3] + n[0] - n[1] - n[2];
            there &= (n[0] | n[1] | n[2] | n[3]) != 0;
            solved[k * members + m] = n[3] == rows;
        }
        int of_s, of_influence, of_delta;
        statistics_of(a, b, c, (int)rows, &of_s, &of_influence, &of_delta);
        const int product = a[0] * b[0] + a[1] * b[1] + a[2] * b[2] - a[3] * b[3];
        s[m] = there ? of_s / of : NAN;
        factorised[m] = there ? product / squared : NAN;
        influence[m] = there ? of_influence / of : NAN;
        delta[m] = there ? of_delta / of : NAN;
    }
}

/* What is added up of members, all of it whole numbers. */
struct tally {
    int64_t numbers[6];          /* members with a network that diverged, whole ones, others, decided ones, ranges not tight, tables' room */
    int64_t diverged[CONTEXTS], answers[CONTEXTS][2], networks[CONTEXTS], found[CONTEXTS];
    int64_t *differences;        /* [4][2 rows + 1] */
    int64_t *s;                  /* [4 rows + 1][groups] */
    int64_t *contextuality;      /* [12 rows + 1] */
    int64_t *losses;             /* [4][8192] */
    int64_t *items, *products, *decided_products; /* [groups][4] */
    int64_t *decided_s;          /* [pieces][2][groups]: sums of S of decided members, times the rows, and how many */
    int64_t *laws;               /* [5][8 rows + 1]: as they fell, coin toss, decided only, low, high */
    int32_t *place;              /* [4][(rows + 1)^3], -1 where a table was not seen yet */
    int64_t *codes;              /* [4][room] */
    int32_t *tables;             /* [4][room][groups] */
};

/* float32 as uint32 in the same order, 0 and -0 as one. */
static inline uint32_t ordered_bits(float loss)
{
    uint32_t bits;
    loss += 0.0f;
    memcpy(&bits, &loss, sizeof bits);
    return bits >> 31 ? ~bits : bits | 1u << 31;
}

/* Adds members; member 0 is in the group `first`. Gives 0, or 1 where records contradict themselves, and what was added is of no use
   then. */
int64_t ncsim_tally(
    struct tally *t, int64_t members, int64_t rows, int64_t groups, int64_t first, int64_t piece, int64_t lower_bits,
    const int32_t *counts, const float *loss, const uint8_t *diverged, const int32_t *undecided_alice,
    const int32_t *undecided_bob, const int32_t *decided_product)
{
    static const int pairs[4][3] = {{0, 0, 1}, {0, 2, 3}, {1, 0, 2}, {1, 1, 3}}; /* party, first and second context */
    const int64_t base = rows + 1, room = t->numbers[5], values = 8 * rows + 1, bins = 1ll << (32 - lower_bits);
    const int n_rows = (int)rows;
    for (int64_t m = 0; m < members; m++) {
        const int64_t group = (first + m) % groups;
        const int32_t *n = counts + CONTEXTS * CELLS * m;
        int a[CONTEXTS], b[CONTEXTS], c[CONTEXTS], d[CONTEXTS], lost[CONTEXTS], right[2][CONTEXTS];
        int any_lost = 0, sure = 1, tight = 1, reach = 0;
        for (int k = 0; k < CONTEXTS; k++, n += CELLS) {
            const int64_t at = CONTEXTS * m + k;
            const int alice = undecided_alice[at], bob = undecided_bob[at];
            const int total = n[0] + n[1] + n[2] + n[3];
            d[k] = decided_product[at];
            lost[k] = diverged[at] != 0;
            if (total != (lost[k] ? 0 : n_rows) || (n[0] | n[1] | n[2] | n[3]) < 0) return 1;
            if ((alice | bob) < 0 || alice > total || bob > total || size(d[k]) > total) return 1;
            right[0][k] = n[2] + n[3];
            right[1][k] = n[1] + n[3];
            a[k] = n[2] + n[3] - n[0] - n[1];
            b[k] = n[1] + n[3] - n[0] - n[2];
            c[k] = n[3] + n[0] - n[1] - n[2];
            int least = larger(larger(alice, bob), size(c[k] - d[k])), most = smaller(alice + bob, total - size(d[k]));
            least += (least + total - d[k]) & 1;
            most -= (most + total - d[k]) & 1;
            if (least > most) return 1;
            const int open = alice > 0 || bob > 0;
            tight &= least == most;
            reach += most;
            sure &= !open;
            any_lost |= lost[k];
            t->diverged[k] += lost[k];
            t->answers[k][0] += alice;
            t->answers[k][1] += bob;
            t->networks[k] += open;
            t->items[group * CONTEXTS + k] += total;
            t->products[group * CONTEXTS + k] += c[k];
            t->decided_products[group * CONTEXTS + k] += d[k];
            if (lost[k]) continue;
            t->losses[k * bins + (ordered_bits(loss[at]) >> lower_bits)]++;
            const int64_t code = (n[1] * base + n[2]) * base + n[3];
            int32_t *place = t->place + k * base * base * base + code;
            if (*place < 0) {
                if (t->found[k] == room) return 1;
                t->codes[k * room + t->found[k]] = code;
                *place = (int32_t)t->found[k]++;
            }
            t->tables[(k * room + *place) * groups + group]++;
        }
        for (int p = 0; p < 4; p++) {
            const int *party = right[pairs[p][0]], one = pairs[p][1], other = pairs[p][2];
            if (!(lost[one] | lost[other])) t->differences[p * (2 * rows + 1) + party[one] - party[other] + rows]++;
        }
        if (any_lost) {
            t->numbers[0]++;
            t->numbers[2]++;
            continue;
        }
        int s, influence, delta;
        statistics_of(a, b, c, n_rows, &s, &influence, &delta);
        const int tossed = signed_sum(d);
        t->numbers[1]++;
        t->numbers[3] += sure;
        t->numbers[4] += !tight;
        t->s[(s + 4 * rows) / 2 * groups + group]++;
        t->contextuality[delta + 10 * rows]++;
        const int of[4] = {s, tossed, tossed - reach, tossed + reach}, law[4] = {0, 1, 3, 4};
        for (int name = 0; name < 4; name++) t->laws[law[name] * values + of[name] + 4 * rows]++;
        if (sure) {
            int64_t *decided = t->decided_s + m / piece * 2 * groups;
            t->laws[2 * values + s + 4 * rows]++;
            decided[group] += s;
            decided[groups + group]++;
        }
    }
    return 0;
}

/* -------------------------------------------------------------------------------------------------------- trajectories */

/* Numbers of consecutive steps are neighbours; strides, from member to member and from column to column, count numbers.

   What was counted of members [members] at steps [points]: histograms by step, of whole members and of networks. `each_s` and
   `whole` [members][points] and `there` [4][members][points] are for what is added up later. `scratch` is [14][points]. Gives 0, or 1
   where counts are neither all zero nor of all rows, and what was added is of no use then. */
int64_t ncsim_outcomes(
    const uint16_t *restrict counts, int64_t stride, int64_t column, int64_t members, int64_t points, int64_t rows,
    int64_t *restrict in_s, int64_t *restrict in_influence, int64_t *restrict in_delta, int64_t *restrict in_alice,
    int64_t *restrict in_bob, int64_t *restrict solved, int64_t *restrict number, int64_t *restrict first,
    int64_t *restrict second, int16_t *restrict each_s, uint8_t *restrict whole, uint8_t *restrict there,
    int16_t *restrict scratch)
{
    const int r = (int)rows;
    for (int64_t m = 0; m < members; m++) {
        int16_t *a = scratch, *b = a + CONTEXTS * points, *c = b + CONTEXTS * points;
        int16_t *influence = c + CONTEXTS * points, *delta = influence + points;
        int16_t *s = each_s + m * points;
        uint8_t *full = whole + m * points;
        for (int64_t p = 0; p < points; p++) full[p] = 1;
        for (int k = 0; k < CONTEXTS; k++) {
            const uint16_t *n0 = counts + m * stride + CELLS * k * column, *n1 = n0 + column;
            const uint16_t *n2 = n1 + column, *n3 = n2 + column;
            uint8_t *own = there + (k * members + m) * points;
            int wrong = 0;
            for (int64_t p = 0; p < points; p++) {
                a[k * points + p] = (int16_t)(n2[p] + n3[p] - n0[p] - n1[p]);
                b[k * points + p] = (int16_t)(n1[p] + n3[p] - n0[p] - n2[p]);
                c[k * points + p] = (int16_t)(n3[p] + n0[p] - n1[p] - n2[p]);
                own[p] = (n0[p] | n1[p] | n2[p] | n3[p]) != 0;
                full[p] &= own[p];
                wrong |= own[p] & (n0[p] + n1[p] + n2[p] + n3[p] != r);
            }
            if (wrong) return 1;
            for (int64_t p = 0; p < points; p++) {
                const int64_t at = p * CONTEXTS + k;
                in_alice[at * (rows + 1) + n2[p] + n3[p]] += own[p];
                in_bob[at * (rows + 1) + n1[p] + n3[p]] += own[p];
                solved[at] += n3[p] == r;
            }
        }
        for (int64_t p = 0; p < points; p++) {
            const int oa[CONTEXTS] = {a[p], a[points + p], a[2 * points + p], a[3 * points + p]};
            const int ob[CONTEXTS] = {b[p], b[points + p], b[2 * points + p], b[3 * points + p]};
            const int oc[CONTEXTS] = {c[p], c[points + p], c[2 * points + p], c[3 * points + p]};
            int of_s, of_influence, of_delta;
            statistics_of(oa, ob, oc, r, &of_s, &of_influence, &of_delta);
            s[p] = (int16_t)of_s;
            influence[p] = (int16_t)(of_influence / 2);
            delta[p] = (int16_t)((of_delta + 10 * r) / 2);
            const int64_t product = full[p] ? oa[0] * ob[0] + oa[1] * ob[1] + oa[2] * ob[2] - oa[3] * ob[3] : 0;
            number[p] += full[p];
            first[p] += product;
            second[p] += product * product;
        }
        for (int64_t p = 0; p < points; p++) {
            if (!full[p]) continue;
            in_s[p * (4 * rows + 1) + (s[p] + 4 * r) / 2]++;
            in_influence[p * (4 * rows + 1) + influence[p]]++;
            in_delta[p * (6 * rows + 1) + delta[p]]++;
        }
    }
    return 0;
}

/* Number, sum and sum of squares of one observed number of one context, by step: of those of networks that are there, and finite.
   What these members add up to is added to sums [points][4] as a whole. `scratch` is [2][points]. */
void ncsim_moments(
    const float *restrict numbers, int64_t stride, int64_t members, int64_t points, const uint8_t *restrict there,
    int64_t *restrict number, double *restrict first, double *restrict second, double *restrict scratch)
{
    double *one = scratch, *two = scratch + points;
    int plain = 1;
    for (int64_t n = 0; n < members * points; n++) plain &= there[n];
    memset(scratch, 0, 2 * points * sizeof *scratch);
    if (plain) {
        for (int64_t m = 0; m < members; m++)
            for (int64_t p = 0; p < points; p++) {
                const double x = numbers[m * stride + p];
                one[p] += x;
                two[p] += x * x;
            }
        for (int64_t p = 0; p < points; p++) plain &= isfinite(one[p]) != 0;
    }
    if (plain) {
        for (int64_t p = 0; p < points; p++) number[CONTEXTS * p] += members;
    } else {
        memset(scratch, 0, 2 * points * sizeof *scratch);
        for (int64_t m = 0; m < members; m++)
            for (int64_t p = 0; p < points; p++) {
                const float given = numbers[m * stride + p];
                const int kept = there[m * points + p] && isfinite(given);
                const double x = kept ? given : 0;
                number[CONTEXTS * p] += kept;
                one[p] += x;
                two[p] += x * x;
            }
    }
    for (int64_t p = 0; p < points; p++) {
        first[CONTEXTS * p] += one[p];
        second[CONTEXTS * p] += two[p];
    }
}

/* Networks of one context by loss and step, in [points][4][bins]. `lowest` has the bin of the lowest number with each 16 upper bits,
   `edges` the lowest number of each bin, and infinity. */
void ncsim_loss_bins(
    const float *restrict losses, int64_t stride, int64_t members, int64_t points, const uint8_t *restrict there,
    const int16_t *restrict lowest, const float *restrict edges, int64_t bins, int64_t *restrict histogram)
{
    for (int64_t m = 0; m < members; m++)
        for (int64_t p = 0; p < points; p++) {
            const float loss = losses[m * stride + p];
            uint32_t bits;
            memcpy(&bits, &loss, sizeof bits);
            const int kept = there[m * points + p] && isfinite(loss);
            int bin = kept ? lowest[bits >> 16] : 0; /* an infinite loss would be behind the last bin */
            bin += kept && loss >= edges[bin + 1];
            histogram[CONTEXTS * bins * p + bin] += kept;
        }
}
