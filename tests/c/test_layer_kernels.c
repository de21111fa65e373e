/* Checks the layer kernels of every instruction set that this machine supports against naive
 * references. All arrays are guarded blocks. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "guarded.h"
#include "layer_tables.h"
#include "kernels/kernels.h"

enum { ROUNDS = 400, MAX_OFFSETS = 64, SMALL = 8 };

static const struct layer_kernels *kernels;
static const struct winograd_kernels *winograd;

static double max_propagating_nan(double a, double b)
{
    return isnan(a) || isnan(b) ? NAN : fmax(a, b);
}

/* Draws offsets of `count` disjoint ranges of `length` elements, in random order and with gaps.
 * Returns the end of the last range. */
static size_t scatter(ptrdiff_t *at, size_t count, size_t length)
{
    size_t end = 0, last = 0;
    for (size_t i = 0; i < count; i++) {
        at[i] = (ptrdiff_t)(end + below(3));
        end = last = (size_t)at[i] + length;
    }
    for (size_t i = count; i > 1; i--) {
        const size_t other = below(i);
        const ptrdiff_t kept = at[i - 1];
        at[i - 1] = at[other];
        at[other] = kept;
    }
    return last;
}

/* ---- outer ---- */

static void reference_outer(int f64, const struct outer *o, size_t row, size_t vector, size_t lanes,
                            double *sums, double *size)
{
    for (size_t lane = 0; lane < lanes; lane++) {
        double sum = 0, all = 0;
        for (size_t i = 0; i < o->depth; i++) {
            const double x = get(f64, o->left, row * o->left_row_step + i * o->left_depth_step);
            const double y = get(f64, o->right,
                                 (size_t)(o->vector_offsets[vector] + o->depth_offsets[i]) + lane);
            sum += x * y;
            all += fabs(x * y);
        }
        const double partial =
            o->partial_sums == NULL
                ? 0
                : get(f64, o->partial_sums, row * o->partial_sums_step + vector * lanes + lane);
        const double bias = o->bias == NULL ? 0 : get(f64, o->bias, row);
        sum += partial + bias;
        sums[lane] = o->relu ? relu_of(sum) : sum;
        size[lane] = all + fabs(partial) + fabs(bias);
    }
}

static void check_outer(int f64, size_t rows, size_t vectors, size_t depth, bool pool)
{
    static ptrdiff_t vector_offsets[SMALL], depth_offsets[300], out_offsets[SMALL];
    const size_t lanes = kernels[f64].lanes, size = size_of(f64), room = lanes + 40,
                 kept = pool ? lanes / 2 : lanes;
    outer_kernel *outer = kernels[f64].outer;
    const int whole = below(2) == 0 ? 8 : 0;
    const bool by_columns = below(2) == 0;
    draw_offsets(vector_offsets, vectors, room, lanes + 20);
    draw_offsets(depth_offsets, depth, 20 + 1, 1);
    const ptrdiff_t shift = (ptrdiff_t)below(9) - 4; /* offsets may be negative */
    for (size_t v = 0; v < vectors; v++) vector_offsets[v] += shift;
    for (size_t i = 0; i < depth; i++) depth_offsets[i] -= shift;
    const size_t pieces = pool ? vectors / 2 : vectors, end = scatter(out_offsets, pieces, kept);
    struct outer o = {
        .left_row_step = by_columns ? 1 : depth + below(3),
        .left_depth_step = by_columns ? rows + below(3) : 1,
        .vector_offsets = vector_offsets,
        .depth_offsets = depth_offsets,
        .vectors = vectors,
        .depth = depth,
        .partial_sums_step = vectors * lanes + below(3),
        .relu = below(2) == 0,
        .pool = pool,
        .out_step = end + below(3),
        .out_offsets = out_offsets,
    };
    const size_t left = depth == 0
                            ? 0
                            : (rows - 1) * o.left_row_step + (depth - 1) * o.left_depth_step + 1,
                 outputs = (rows - 1) * o.out_step + end;
    const size_t partial_count = (rows - 1) * o.partial_sums_step + vectors * lanes;
    o.left = numbers(f64, left, whole);
    o.right = numbers(f64, room, whole);
    void *partial_sums = below(2) == 0 ? numbers(f64, partial_count, whole) : NULL;
    o.partial_sums = partial_sums;
    o.bias = below(2) == 0 ? numbers(f64, rows, whole) : NULL;
    o.out = guarded_alloc(outputs * size);
    if (partial_sums != NULL && partial_count > 0) {
        put(f64, partial_sums, below(partial_count), NAN);
    }
    outer(&o, rows);
    for (size_t r = 0; r < rows; r++) {
        size_t written = 0;
        for (size_t p = 0; p < pieces; p++) {
            double sums[2][64], sizes[2][64];
            reference_outer(f64, &o, r, pool ? 2 * p : p, lanes, sums[0], sizes[0]);
            if (pool) {
                reference_outer(f64, &o, r, 2 * p + 1, lanes, sums[1], sizes[1]);
            }
            for (size_t i = 0; i < kept; i++, written++) {
                const double got = get(f64, o.out, r * o.out_step + (size_t)out_offsets[p] + i);
                const double expected =
                    !pool ? sums[0][i]
                          : max_propagating_nan(
                                max_propagating_nan(sums[0][2 * i], sums[0][2 * i + 1]),
                                max_propagating_nan(sums[1][2 * i], sums[1][2 * i + 1]));
                const double magnitude = !pool ? sizes[0][i]
                                               : sizes[0][2 * i] + sizes[0][2 * i + 1] +
                                                     sizes[1][2 * i] + sizes[1][2 * i + 1];
                CHECK(
                    fits(f64, got, expected, (double)(2 * depth + 3), whole > 0 ? 0 : magnitude),
                    "%s outer f%d %zu rows, %zu vectors, depth %zu, pool %d: row %zu, %zu of piece "
                    "%zu: %g, not %g",
                    isa, f64 ? 64 : 32, rows, vectors, depth, pool, r, i, p, got, expected);
            }
        }
        for (size_t i = 0; r + 1 < rows && i < o.out_step; i++) {
            written += isnan(get(f64, o.out, r * o.out_step + i)) != 0; /* untouched */
        }
        CHECK(r + 1 == rows || written >= o.out_step, "%s outer wrote between its vectors", isa);
    }
    /* A single row and vector (or pair of vectors, with pooling) gives the same bits. */
    const size_t r = below(rows), p = pieces == 0 ? 0 : below(pieces), v = pool ? 2 * p : p;
    const void *all = o.out;
    struct outer alone = o;
    alone.left = (const char *)o.left + r * o.left_row_step * size;
    alone.vector_offsets += v;
    alone.vectors = pieces == 0 ? 0 : pool ? 2 : 1;
    alone.partial_sums = o.partial_sums == NULL ? NULL
                                                : (const char *)o.partial_sums +
                                                      (r * o.partial_sums_step + v * lanes) * size;
    alone.bias = o.bias == NULL ? NULL : (const char *)o.bias + r * size;
    alone.out = guarded_alloc(kept * size);
    alone.out_offsets = (const ptrdiff_t[]){0};
    outer(&alone, 1);
    CHECK(pieces == 0 ||
              memcmp(alone.out,
                     (const char *)all + (r * o.out_step + (size_t)out_offsets[p]) * size,
                     kept * size) == 0,
          "%s outer: a row alone", isa);
    guarded_release("outer");
}

/* ---- dots ---- */

static void check_dots(int f64, size_t rows, size_t columns, size_t vectors, size_t tail)
{
    static ptrdiff_t left_offsets[MAX_OFFSETS], right_offsets[MAX_OFFSETS];
    const size_t lanes = kernels[f64].lanes, size = size_of(f64), room = lanes + 30 + tail;
    dots_kernel *dots = kernels[f64].dots;
    const int whole = below(2) == 0 ? 8 : 0;
    const void *left[40], *right[40];
    draw_offsets(left_offsets, vectors, room, lanes);
    draw_offsets(right_offsets, vectors, room, lanes);
    const bool by_rows = below(2) == 0;
    struct dots d = {
        .left_offsets = left_offsets,
        .right_offsets = right_offsets,
        .vectors = vectors,
        .tail = tail,
        .tail_offset = (ptrdiff_t)(below(2) == 0 ? room - tail : below(30)),
        .add = below(2) == 0,
        .relu = below(2) == 0,
        .out_row_step = by_rows ? columns + below(3) : 1 + below(2),
    };
    d.out_column_step = by_rows ? 1 : rows * d.out_row_step + below(3);
    const size_t outputs = (rows - 1) * d.out_row_step + (columns - 1) * d.out_column_step + 1;
    const void *lefts = numbers(f64, rows * room, whole),
               *rights = numbers(f64, columns * room, whole);
    for (size_t r = 0; r < rows; r++) left[r] = (const char *)lefts + r * room * size;
    for (size_t c = 0; c < columns; c++) right[c] = (const char *)rights + c * room * size;
    d.bias = below(2) == 0 ? numbers(f64, rows, whole) : NULL;
    void *out = numbers(f64, outputs, whole), *before = guarded_alloc(outputs * size),
         *alone = guarded_alloc(size);
    if (below(4) == 0) {
        put(f64, out, below(outputs), NAN);
    }
    memcpy(before, out, outputs * size);
    dots(&d, left, rows, right, columns, out);
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < columns; c++) {
            const size_t at = r * d.out_row_step + c * d.out_column_step;
            double sum = 0, magnitude = 0;
            for (size_t i = 0; i < vectors * lanes + tail; i++) {
                const size_t v = i / lanes, x = v < vectors
                                                    ? (size_t)left_offsets[v] + i % lanes
                                                    : (size_t)d.tail_offset + i - vectors * lanes;
                const size_t y = v < vectors ? (size_t)right_offsets[v] + i % lanes
                                             : (size_t)d.tail_offset + i - vectors * lanes;
                const double term = get(f64, left[r], x) * get(f64, right[c], y);
                sum += term;
                magnitude += fabs(term);
            }
            const double old = d.add ? get(f64, before, at) : 0,
                         bias = d.bias == NULL ? 0 : get(f64, d.bias, r);
            const double expected = d.relu ? relu_of(old + sum + bias) : old + sum + bias,
                         got = get(f64, out, at);
            CHECK(fits(f64, got, expected, (double)(2 * (vectors * lanes + tail) + 3),
                       whole > 0 ? 0 : magnitude + fabs(old) + fabs(bias)),
                  "%s dots f%d %zu rows, %zu columns, %zu vectors and %zu: %zu, %zu: %g, not %g",
                  isa, f64 ? 64 : 32, rows, columns, vectors, tail, r, c, got, expected);
        }
    }
    /* A single row and column gives the same bits, and elements between the results are unchanged.
     */
    const size_t r = below(rows), c = below(columns),
                 at = r * d.out_row_step + c * d.out_column_step;
    struct dots one = d;
    one.bias = d.bias == NULL ? NULL : (const char *)d.bias + r * size;
    memcpy(alone, (char *)before + at * size, size);
    dots(&one, left + r, 1, right + c, 1, alone);
    CHECK(memcmp(alone, (char *)out + at * size, size) == 0, "%s dots: a product alone", isa);
    for (size_t i = 0; i < outputs; i++) {
        bool written = false;
        for (size_t row = 0; row < rows; row++) {
            const size_t column =
                i < row * d.out_row_step ? columns : (i - row * d.out_row_step) / d.out_column_step;
            written |= column < columns && row * d.out_row_step + column * d.out_column_step == i;
        }
        CHECK(written || memcmp((char *)out + i * size, (char *)before + i * size, size) == 0,
              "%s dots wrote between its results", isa);
    }
    guarded_release("dots");
}

/* ---- additions, patches and pooling ---- */

static void check_add_rows(int f64, size_t rows, size_t n, size_t by)
{
    const size_t to_step = n * by + below(3), from_step = n + below(3),
                 tos = (rows - 1) * to_step + n * by, froms = (rows - 1) * from_step + n;
    void *to = numbers(f64, tos, 0), *before = guarded_alloc(tos * size_of(f64));
    const void *from = numbers(f64, froms, 0);
    memcpy(before, to, tos * size_of(f64));
    kernels[f64].add_rows(to, to_step, by, from, from_step, rows, n);
    for (size_t i = 0; i < tos; i++) {
        const size_t r = i / (to_step == 0 ? 1 : to_step), c = i - r * to_step;
        const bool added = c < n * by && c % by == 0;
        const double sum =
            get(f64, before, i) + (added ? get(f64, from, r * from_step + c / by) : 0.0);
        CHECK(get(f64, to, i) == (f64 ? sum : (double)(float)sum),
              "%s add_rows %zu x %zu by %zu: %zu", isa, rows, n, by, i);
    }
    guarded_release("add_rows");
}

static void check_patches(int f64, size_t n, size_t rows)
{
    const size_t lanes = kernels[f64].lanes, row_step = lanes + below(5),
                 size = (rows - 1) * row_step + lanes + 20;
    void *x = guarded_alloc(size * size_of(f64)), *factors = guarded_alloc(n * size_of(f64)),
         *sums = guarded_alloc(rows * lanes * size_of(f64));
    ptrdiff_t *offsets = guarded_alloc(n * sizeof *offsets);
    for (size_t i = 0; i < size; i++) {
        put(f64, x, i, random_number());
    }
    for (size_t i = 0; i < n; i++) {
        put(f64, factors, i, random_number());
        offsets[i] = (ptrdiff_t)below(21);
    }
    kernels[f64].patches(sums, x, row_step, offsets, factors, n, rows);
    for (size_t i = 0; i < rows * lanes; i++) {
        double sum = 0;
        for (size_t k = 0; k < n; k++) {
            sum += get(f64, factors, k) *
                   get(f64, x, (size_t)offsets[k] + i / lanes * row_step + i % lanes);
        }
        CHECK(fabs(get(f64, sums, i) - sum) <= (double)(n + 1) * (f64 ? 1e-15 : 1e-6),
              "%s patches %zu x %zu: %zu: %g, not %g", isa, n, rows, i, get(f64, sums, i), sum);
    }
    guarded_release("patches");
}

static void check_max_pool2x2(int f64, size_t out_rows, size_t out_columns, bool odd,
                              bool with_indices)
{
    static const double values[] = {0, 1, 1, 2, -1, -0.0, -INFINITY, -INFINITY, INFINITY, NAN};
    const size_t width = 2 * out_columns + odd,
                 n = out_rows == 0 ? 0 : (2 * out_rows - 1) * width + 2 * out_columns,
                 kinds = below(2) == 0 ? 10 : 9;
    void *rows = guarded_alloc(n * size_of(f64)),
         *out = guarded_alloc(out_rows * out_columns * size_of(f64));
    int64_t *indices =
        with_indices ? guarded_alloc(out_rows * out_columns * sizeof *indices) : NULL;
    for (size_t i = 0; i < n; i++) {
        put(f64, rows, i, values[below(kinds)]);
    }
    kernels[f64].max_pool2x2(out, indices, rows, width, out_rows, out_columns);
    for (size_t s = 0; s < out_rows * out_columns; s++) {
        const size_t first = 2 * (s / out_columns * width + s % out_columns),
                     at[4] = {first, first + 1, first + width, first + width + 1};
        size_t where = at[0];
        for (size_t i = 1; i < 4; i++) {
            const double value = get(f64, rows, at[i]);
            where = value > get(f64, rows, where) || isnan(value) ? at[i] : where;
        }
        CHECK(same(get(f64, out, s), get(f64, rows, where)),
              "%s max_pool2x2 f%d: %zu of %zu x %zu: %g", isa, f64 ? 64 : 32, s, out_rows,
              out_columns, get(f64, out, s));
        CHECK(indices == NULL || indices[s] == (int64_t)where,
              "%s max_pool2x2 f%d: %zu of %zu x %zu lies at %lld", isa, f64 ? 64 : 32, s, out_rows,
              out_columns, (long long)indices[s]);
    }
    guarded_release("max_pool2x2");
}

/* ---- Winograd transforms of kernels with five rows ---- */

static void check_input_transform(size_t pairs, size_t n)
{
    static const double matrix[WINOGRAD_PRODUCTS][6] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0},
                                                        {0, 4, -4, -1, 1, 0}, {0, -2, -1, 2, 1, 0},
                                                        {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
    const int whole = below(2) == 0 ? 50 : 0;
    const size_t row_step = n + below(3), sum_step = pairs * n + below(4);
    const float *in = numbers(0, (2 * pairs + 3) * row_step + n, whole);
    const size_t outputs = (WINOGRAD_PRODUCTS - 1) * sum_step + pairs * n;
    float *out = guarded_alloc(outputs * sizeof *out);
    winograd->input_transform(out, sum_step, in, row_step, pairs, n);
    for (size_t i = 0; i < outputs; i++) {
        const size_t f = i / sum_step, t = i % sum_step / n, x = i % sum_step % n;
        double sum = 0, magnitude = 0;
        for (size_t r = 0; r < 6; r++) {
            /* Nothing is written beyond the pairs, so the output keeps its NaN there. */
            const double term =
                t < pairs ? matrix[f][r] * (double)in[(2 * t + r) * row_step + x] : NAN;
            sum += term;
            magnitude += fabs(term);
        }
        CHECK(fits(0, (double)out[i], sum, 8, whole > 0 ? 0 : magnitude),
              "%s winograd_input_transform %zu pairs of %zu: sum %zu of %zu, %zu: %g, not %g", isa,
              pairs, n, f, t, x, (double)out[i], sum);
    }
    guarded_release("winograd_input_transform");
}

static void check_filter_transform(size_t count, size_t n)
{
    static const double matrix[WINOGRAD_PRODUCTS][5] = {{1, 0, 0, 0, 0},    {1, 1, 1, 1, 1},
                                                        {1, -1, 1, -1, 1},  {1, 2, 4, 8, 16},
                                                        {1, -2, 4, -8, 16}, {0, 0, 0, 0, 1}};
    const int whole = below(2) == 0 ? 50 : 0;
    const size_t sum_step = count * n + WINOGRAD_PADDING + below(3),
                 outputs =
                     (WINOGRAD_PRODUCTS - 1) * sum_step + count * n + kernels[COMPUTE_F32].lanes;
    const float *weight = numbers(0, count * 5 * n, whole);
    float *out = guarded_alloc(outputs * sizeof *out);
    winograd->filter_transform(out, sum_step, weight, count, n);
    for (size_t i = 0; i < WINOGRAD_PRODUCTS * count * n; i++) {
        const size_t f = i / (count * n), k = i / n % count, x = i % n;
        double sum = 0, magnitude = 0;
        for (size_t r = 0; r < 5; r++) {
            sum += matrix[f][r] * (double)weight[(k * 5 + r) * n + x];
            magnitude += fabs(matrix[f][r] * (double)weight[(k * 5 + r) * n + x]);
        }
        const double got = (double)out[f * sum_step + k * n + x];
        CHECK(fits(0, got, sum, 8, whole > 0 ? 0 : magnitude),
              "%s winograd_filter_transform %zu of %zu: sum %zu of %zu, %zu: %g, not %g", isa,
              count, n, f, k, x, got, sum);
    }
    guarded_release("winograd_filter_transform");
}

enum winograd_case {
    WINOGRAD_ANY,
    WINOGRAD_WHOLE,
    WINOGRAD_NAN,
    WINOGRAD_INFINITE,
    WINOGRAD_OVERFLOW,
    WINOGRAD_CASES
};

static void check_output_transform(size_t rows, size_t vectors, bool pool, bool one_row,
                                   enum winograd_case kind)
{
    static ptrdiff_t out_offsets[2 * SMALL];
    static const double matrix[2][WINOGRAD_PRODUCTS] = {{6, -4, -4, 1, 1, 0},
                                                        {0, -2, 2, 1, -1, 12}},
                        divisors[2] = {24, 12};
    const size_t lanes = kernels[COMPUTE_F32].lanes, n = vectors * lanes,
                 kept = pool ? lanes / 2 : lanes, row_step = n + below(3),
                 sum_step = rows * row_step + below(3);
    const size_t pieces = pool || one_row ? vectors : 2 * vectors,
                 end = scatter(out_offsets, pieces, kept),
                 bad = below(WINOGRAD_PRODUCTS * rows * n);
    if (one_row) { /* both rows of a pair have the same offset, and the first row must remain */
        for (size_t v = vectors; v-- > 0;) {
            out_offsets[2 * v] = out_offsets[2 * v + 1] = out_offsets[v];
        }
    }
    float *sums = guarded_alloc(((WINOGRAD_PRODUCTS - 1) * sum_step + (rows - 1) * row_step + n) *
                                sizeof *sums);
    for (size_t i = 0; i < WINOGRAD_PRODUCTS * rows * n; i++) {
        const size_t f = i / (rows * n), r = i / n % rows, x = i % n;
        const double bad_value = kind == WINOGRAD_NAN        ? NAN
                                 : kind == WINOGRAD_INFINITE ? -INFINITY
                                                             : 3e38;
        sums[f * sum_step + r * row_step + x] =
            (float)(kind == WINOGRAD_WHOLE              ? 24 * (double)(int)(below(41)) - 480
                    : kind > WINOGRAD_WHOLE && i == bad ? bad_value
                                                        : random_number());
    }
    struct winograd_output_transform j = {.sums = sums,
                                          .sum_step = sum_step,
                                          .row_step = row_step,
                                          .rows = rows,
                                          .vectors = vectors,
                                          .relu = below(2) == 0,
                                          .pool = pool,
                                          .out_step = end + below(3),
                                          .out_offsets = out_offsets};
    j.bias = below(2) == 0 ? numbers(0, rows, kind == WINOGRAD_WHOLE ? 8 : 0) : NULL;
    j.out = guarded_alloc(((rows - 1) * j.out_step + end) * sizeof *j.out);
    const bool finite = winograd->output_transform(&j);
    /* 3e38 overflows if the matrix multiplies it by 6, 12 or 4. Sums 3 and 4 have factors of 1 and
     * may not overflow. */
    const bool overflows =
        kind == WINOGRAD_OVERFLOW && bad / (rows * n) != 3 && bad / (rows * n) != 4;
    CHECK(finite == (kind < WINOGRAD_NAN || (kind == WINOGRAD_OVERFLOW && !overflows)),
          "%s winograd_output_transform: finite %d, case %d, %zu", isa, finite, kind, bad);
    for (size_t r = 0; finite && kind != WINOGRAD_OVERFLOW && r < rows; r++) {
        for (size_t v = 0; v < vectors; v++) {
            double results[2][64];
            for (size_t i = 0; i < 2 * lanes; i++) {
                double *result = &results[i / lanes][i % lanes];
                *result = 0;
                for (size_t f = 0; f < WINOGRAD_PRODUCTS; f++) {
                    *result += matrix[i / lanes][f] *
                               (double)sums[f * sum_step + r * row_step + v * lanes + i % lanes];
                }
                *result = *result / divisors[i / lanes] + (j.bias == NULL ? 0 : (double)j.bias[r]);
                *result = j.relu ? relu_of(*result) : *result;
            }
            for (size_t i = 0; i < (pool ? kept : 2 * lanes); i++) {
                const size_t row = i / lanes;
                const double expected = pool ? fmax(fmax(results[0][2 * i], results[0][2 * i + 1]),
                                                    fmax(results[1][2 * i], results[1][2 * i + 1]))
                                             : results[row][i % lanes];
                const double got =
                    (double)j.out[r * j.out_step + (size_t)out_offsets[pool ? v : 2 * v + row] +
                                  i % lanes];
                CHECK((one_row && row == 1) ||
                          fits(0, got, expected, 12, kind == WINOGRAD_WHOLE ? 0 : 4),
                      "%s winograd_output_transform row %zu vector %zu, %zu: %g, not %g", isa, r, v,
                      i, got, expected);
            }
        }
    }
    guarded_release("winograd_output_transform");
}

static void check_table(const struct kernels *table)
{
    kernels = table->layers;
    winograd = table->winograd;
    static const size_t steps[] = {0, 1, 2, 3, 25, 300};
    for (int f64 = 0; f64 < 2; f64++) {
        for (size_t rows = 1; rows <= kernels->rows; rows++) {
            for (size_t vectors = 0; vectors < SMALL; vectors++) {
                for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
                    for (int again = 0; again < 4; again++) {
                        check_outer(f64, rows, vectors, steps[s], false);
                        check_outer(f64, rows, vectors / 2 * 2, steps[s], true);
                    }
                }
            }
        }
        for (size_t rows = 1; rows <= 17; rows++) {
            for (size_t columns = 1; columns <= 5; columns++) {
                for (int again = 0; again < 6; again++) {
                    check_dots(f64, rows, columns, below(6), below(2) == 0 ? below(12) : 0);
                }
            }
        }
        check_dots(f64, 3, 31, MAX_OFFSETS, 0);
        for (size_t n = 0; n < 40; n++) {
            check_add_rows(f64, 1 + below(4), n, 1);
            check_add_rows(f64, 1 + below(4), n, 2 + below(2));
            check_patches(f64, n, 1 + n % PATCH_ROWS);
        }
        /* The kernel processes 256 windows at a time. */
        for (size_t columns = 0; columns < 700; columns += columns < 140 ? 1 : 58) {
            for (int i = 0; i < 4; i++) {
                check_max_pool2x2(f64, below(below(2) == 0 ? 4 : 20), columns, i % 2 == 0,
                                  i / 2 == 0);
            }
        }
        check_max_pool2x2(f64, 600, 1, false, true);
        check_max_pool2x2(f64, 3, 256, false, true);
    }
    for (int round = 0; round < ROUNDS; round++) {
        check_input_transform(1 + below(4), kernels[COMPUTE_F32].lanes + below(40));
        check_filter_transform(1 + below(below(2) == 0 ? 8 : 40),
                               1 + below(below(4) == 0 ? 40 : 7));
        const bool pool = below(3) == 0;
        check_output_transform(1 + below(5), 1 + below(SMALL / 2), pool, !pool && below(2) == 0,
                               (enum winograd_case)(round % WINOGRAD_CASES));
    }
}

int main(void)
{
    check_each_table(check_table);
    return finish("layer_kernels");
}
