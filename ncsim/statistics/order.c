/* Networks of one context in the order of their losses, as outcomes.py, loss_order.py and protocols.py define it: runs that are drawn
   from them, and the laws of the best of several by loss. Compiled with sums.c, and below it. */

static inline int64_t larger64(int64_t a, int64_t b) { return a > b ? a : b; }

/* `packed` networks: loss as ordered bits, table, group of the jackknife; they sort by loss. */
static inline uint64_t packed(uint32_t bits, uint32_t table, uint32_t group) { return (uint64_t)bits << 32 | table << 8 | group; }

/* A whole power by repeated squares, as `power` in loss_order.py. */
static inline double power(double base, int64_t exponent)
{
    double found = 1;
    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1) found *= base;
    return found;
}

/* Those of M members' networks that did not diverge, by loss, and by member where losses are equal; gives how many. Losses are sorted
   by digits of 11 bits from the lowest on. Members carry their table where both fit into 32 bits, which spares looking it up in any
   order: `of_table` is how many bits a table takes then, else 0. `keys` and `other` are [M], to work in. */
int64_t ncsim_order(
    const float *loss, const uint8_t *diverged, const int32_t *code, const int32_t *place, int64_t members, int64_t of_table,
    uint64_t *keys, uint64_t *other, uint32_t *bits, uint32_t *member, int32_t *table)
{
    enum { DIGITS = 3, WIDTH = 11, VALUES = 1 << WIDTH };
    int64_t starts[DIGITS][VALUES] = {{0}}, count = 0;
    for (int64_t m = 0; m < members; m++) {
        const uint32_t own = ordered_bits(loss[m]);
        if (diverged[m]) continue;
        keys[count] = (uint64_t)own << 32 | (uint64_t)m << of_table | (of_table ? (uint32_t)place[code[m]] : 0);
        count++;
        for (int d = 0; d < DIGITS; d++) starts[d][own >> WIDTH * d & (VALUES - 1)]++;
    }
    for (int d = 0; d < DIGITS; d++) {
        int64_t start = 0;
        int alike = 0;
        for (int v = 0; v < VALUES; v++) {
            const int64_t own = starts[d][v];
            alike |= own == count;
            starts[d][v] = start;
            start += own;
        }
        if (alike) continue;
        for (int64_t n = 0; n < count; n++) other[starts[d][keys[n] >> (32 + WIDTH * d) & (VALUES - 1)]++] = keys[n];
        uint64_t *sorted = other;
        other = keys;
        keys = sorted;
    }
    for (int64_t n = 0; n < count; n++) {
        const uint32_t carried = (uint32_t)keys[n];
        member[n] = carried >> of_table;
        bits[n] = (uint32_t)(keys[n] >> 32);
        table[n] = of_table ? (int32_t)(carried & ((1u << of_table) - 1)) : place[code[member[n]]];
    }
    return count;
}

/* Networks in any order, `packed`. */
void ncsim_packed(
    const uint32_t *bits, const int32_t *table, const uint32_t *member, int64_t networks, int64_t groups, uint64_t *found)
{
    for (int64_t n = 0; n < networks; n++) found[n] = packed(bits[n], (uint32_t)table[n], member[n] % (uint32_t)groups);
}

/* Those of M members' networks that did not diverge and have a loss in a span, `packed`; gives how many. The first member is in the
   group `first`. */
int64_t ncsim_within(
    const float *loss, const uint8_t *diverged, const int32_t *code, const int32_t *place, int64_t members, int64_t low,
    int64_t high, int64_t first, int64_t groups, uint64_t *found)
{
    int64_t count = 0;
    for (int64_t m = 0; m < members; m++) {
        const int64_t own = ordered_bits(loss[m]);
        if (diverged[m] || own < low || own >= high) continue;
        found[count++] = packed((uint32_t)own, (uint32_t)place[code[m]], (uint32_t)((first + m) % groups));
    }
    return count;
}

/* The probability of each network in the order of losses to be the best of so many tries; those of one loss share theirs. */
void ncsim_weights_by_loss(const uint32_t *bits, int64_t networks, int64_t tries, double *weights)
{
    double before = 1;
    for (int64_t start = 0, stop; start < networks; start = stop) {
        for (stop = start + 1; stop < networks && bits[stop] == bits[start];) stop++;
        const double behind = power((double)(networks - stop) / (double)networks, tries);
        const double own = (before - behind) / (double)(stop - start);
        for (int64_t n = start; n < stop; n++) weights[n] = own;
        before = behind;
    }
}

/* The tables of networks that are drawn with some weights: each network's, or by its table where `by_table`. Network n is drawn where
   a uniform number times the sum of all weights is below the sum of those up to it, and is not for the one before. `starts` has
   a place for each 64 networks. */
void ncsim_draw(
    const int32_t *table, const double *weights, int64_t by_table, int64_t networks, const double *uniform, int64_t runs,
    double *starts, int64_t *drawn)
{
    enum { BLOCK = 64 };
    double sum = 0;
    for (int64_t n = 0; n < networks; n++) {
        if (n % BLOCK == 0) starts[n / BLOCK] = sum;
        sum += weights[by_table ? table[n] : n];
    }
    for (int64_t r = 0; r < runs; r++) {
        const double target = uniform[r] * sum;
        int64_t low = 0, high = (networks - 1) / BLOCK + 1;
        while (high - low > 1) {
            const int64_t middle = (low + high) / 2;
            if (starts[middle] <= target) low = middle;
            else high = middle;
        }
        int64_t n = low * BLOCK;
        for (double reached = starts[low]; n < networks - 1; n++) {
            reached += weights[by_table ? table[n] : n];
            if (reached > target) break;
        }
        drawn[r] = table[n];
    }
}

/* Adds some `packed` networks, which follow those before in their order, to the laws of the best of so many tries by loss. How leaving
   out a group changes a network's weight is told for `size` neighbours together. `total` and `before` are networks, and those before
   these, of all and without each group, [1 + groups]. `law` is [tables][1 + groups], `own` and `seen` are [tables][groups]; `sums` is
   [tables], all zero, and `met` is [size], to work in. */
void ncsim_laws_by_neighbours(
    const uint64_t *keys, int64_t networks, int64_t size, int64_t tries, int64_t groups, const int64_t *total, int64_t *before,
    double *law, double *own, int64_t *seen, double *sums, int32_t *met)
{
    double change[257], scale[257];
    int64_t number[257], left = 0, done = before[0];
    double share = power(1 - (double)done / (double)total[0], tries), weight = 0;
    for (int64_t g = 0; g <= groups; g++) scale[g] = (double)total[0] / (double)larger64(total[g], 1);
    for (int64_t start = 0; start < networks; start += size) {
        const int64_t stop = start + size < networks ? start + size : networks;
        memset(number, 0, sizeof number);
        for (int64_t n = start; n < stop; n++) number[1 + (keys[n] & 255)]++;
        for (int64_t g = 0; g <= groups; g++) {
            const int64_t end = before[g] + (stop - start) - number[g];
            const double middle = (double)(before[g] + end) / 2 / (double)larger64(total[g], 1);
            before[g] = end;
            change[g] = middle;
        }
        for (int64_t g = groups; g >= 0; g--) change[g] = power((1 - change[g]) / (1 - change[0]), tries - 1) * scale[g];
        int64_t tables = 0;
        for (int64_t n = start; n < stop; n++) {
            if (left == 0) { /* the first of one loss */
                const uint32_t bits = (uint32_t)(keys[n] >> 32);
                while (n + left < networks && (uint32_t)(keys[n + left] >> 32) == bits) left++;
                done += left;
                const double behind = power(1 - (double)done / (double)total[0], tries);
                weight = (share - behind) / (double)left;
                share = behind;
            }
            left--;
            const int64_t table = (int64_t)(keys[n] >> 8 & 0xffffff), group = (int64_t)(keys[n] & 255);
            if (sums[table] == 0) met[tables++] = (int32_t)table;
            sums[table] += weight;
            own[table * groups + group] += weight * change[1 + group];
            seen[table * groups + group]++;
        }
        for (int64_t t = 0; t < tables; t++) {
            double *to = law + (1 + groups) * met[t];
            const double of = sums[met[t]];
            sums[met[t]] = 0;
            for (int64_t g = 0; g <= groups; g++) to[g] += of * change[g];
        }
    }
}
