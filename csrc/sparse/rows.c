/* Sparse rows: reads CSR arrays and dense rows into canonical form, and measures the rows. */
#include "sparse/rows.h"

#include <string.h>

#include "base/kept.h"
#include "kernels/kernels.h"
#include "results/filter.h"
#include "sparse/exact_sum.h"
#include "sparse/sort.h"

enum {
    /* Columns are renumbered if there are more than this many, and more than four times as many as
     * entries. */
    MANY_COLUMNS = 1 << 20
};

/* ---- reading ---- */

/* Reads integer i in a single load, because another thread may change it. A negative integer
 * becomes a number that is too large for any array. */
static inline uint64_t integer_at(const void *integers, bool wide, size_t i)
{
    return wide ? (uint64_t)__atomic_load_n((const int64_t *)integers + i, __ATOMIC_RELAXED)
                : (uint64_t)(int64_t)__atomic_load_n((const int32_t *)integers + i,
                                                     __ATOMIC_RELAXED);
}

/* Copies the starts of the rows from indptr. Returns the length of the longest row. If indptr does
 * not ascend or points beyond the entries, sets *row to the position of the error and returns
 * SIZE_MAX. */
static size_t read_starts(struct sparse_rows *rows, const struct sparse_source *s, size_t *row)
{
    size_t longest = 0;
    for (size_t i = 0; i <= s->count; i++) {
        const uint64_t start = integer_at(s->indptr, s->wide_indptr, i),
                       previous = i == 0 ? 0 : rows->starts[i - 1];
        if (start < previous || start > s->entries || (i == 0 && start != 0)) {
            *row = i;
            return SIZE_MAX;
        }
        longest = larger(longest, (size_t)start - (size_t)previous);
        rows->starts[i] = (size_t)start;
    }
    return longest;
}

/* Counts the elements of a dense source that are not 0. NaN is not 0. buffer is one row. */
static size_t count_nonzeros(const struct sparse_source *s, double *buffer)
{
    size_t count = 0;
    for (size_t i = 0; i < s->count && !cancel_poll_here(); i++) {
        operand_load(&s->data, s->data.data + (ptrdiff_t)i * s->row_stride, s->stride, s->columns,
                     COMPUTE_F64, buffer);
        for (size_t c = 0; c < s->columns; c++) {
            count += !(buffer[c] == 0.0);
        }
    }
    return count;
}

static bool allocate_rows(struct sparse_rows *rows, size_t count)
{
    struct arena arena = {.block = NULL};
    while (arena_pass(&arena)) {
        rows->starts = arena_take(&arena, size_sum_or_max(count, 1), sizeof *rows->starts);
        rows->squares = arena_take(&arena, count, sizeof *rows->squares);
        /* kernels read norms up to the next multiple of COSINE_PADDING */
        rows->norms =
            arena_take(&arena, size_sum_or_max(count, COSINE_PADDING), sizeof *rows->norms);
        rows->exponents = arena_take(&arena, count, sizeof *rows->exponents);
    }
    rows->blocks[0] = arena.block;
    return arena.block != NULL;
}

static bool allocate_entries(struct sparse_rows *rows, size_t entries)
{
    struct arena arena = {.block = NULL};
    while (kept_arena_pass(KEPT_ROWS, &arena)) {
        rows->values = arena_take(&arena, entries, sizeof *rows->values);
        rows->column = arena_take(&arena, entries, sizeof *rows->column);
    }
    rows->blocks[1] = arena.block;
    return arena.block != NULL;
}

/* ---- columns ---- */

enum sparse_status column_map_init(struct column_map *map, const struct sparse_source *sources,
                                   size_t n)
{
    size_t entries = 0, at = 0;
    bool has_dense = false;
    for (size_t i = 0; i < n; i++) {
        entries = size_sum_or_max(entries, sources[i].is_dense ? 0 : sources[i].entries);
        has_dense |= sources[i].is_dense && sources[i].count > 0;
    }
    const size_t columns = sources[0].columns;
    *map = (struct column_map){.is_identity =
                                   has_dense || columns <= MANY_COLUMNS || columns / 4 <= entries};
    if (map->is_identity && columns <= UINT32_MAX) {
        return SPARSE_OK;
    }
    if (has_dense) {
        return SPARSE_NO_MEMORY; /* the columns of one dense row take 2^32 elements or more */
    }
    map->is_identity = false;
    map->used = scratch_alloc(size_product_or_max(entries, 2 * sizeof *map->used));
    if (map->used == NULL) {
        return SPARSE_NO_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        const size_t count = sources[i].is_dense ? 0 : sources[i].entries;
        for (size_t e = 0; e < count; e++) {
            map->used[at++] = integer_at(sources[i].indices, sources[i].wide_indices, e);
        }
    }
    sort_numbers(map->used, map->used + entries, entries);
    for (size_t e = 0; e < entries; e++) {
        if (map->count == 0 || map->used[map->count - 1] != map->used[e]) {
            map->used[map->count++] = map->used[e];
        }
    }
    return map->count <= UINT32_MAX ? SPARSE_OK : SPARSE_NO_MEMORY;
}

void column_map_free(struct column_map *map)
{
    scratch_free(map->used);
}

/* Returns the number of a column, or UINT32_MAX for a column that the map lacks. */
static uint32_t mapped(const struct column_map *map, uint64_t column)
{
    size_t low = 0, high = map->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        low = map->used[middle] < column ? middle + 1 : low;
        high = map->used[middle] < column ? high : middle;
    }
    return low < map->count && map->used[low] == column ? (uint32_t)low : UINT32_MAX;
}

/* ---- rows ---- */

struct row_reader {
    struct sparse_rows *rows;
    const struct sparse_source *source;
    const struct column_map *map;
    bool narrow;    /* duplicates are summed in float32 */
    uint64_t *keys; /* (2, longest row): column and position of each entry; room to sort them */
    double *values; /* (longest row) */
};

/* Reads the columns of n entries from `begin` on. Sets *ascending to true if each column is higher
 * than the one before it. Returns false if a column is out of range. */
static bool read_columns(const struct row_reader *r, size_t begin, size_t n, uint32_t *to,
                         bool *ascending)
{
    const struct sparse_source *s = r->source;
    const bool wide = s->wide_indices, is_identity = r->map->is_identity;
    bool in_range = true, in_order = true;
    int64_t before = -1;
    for (size_t i = 0; i < n; i++) {
        const uint64_t column = integer_at(s->indices, wide, begin + i);
        const uint32_t number = is_identity ? (uint32_t)column : mapped(r->map, column);
        /* the map lacks a column if the array has changed since the map was made */
        in_range &= column < s->columns && (is_identity || number != UINT32_MAX);
        in_order &= (int64_t)number > before;
        before = number;
        to[i] = number;
    }
    *ascending = in_order;
    return in_range;
}

/* Adds one duplicate to the sum, in the order of the arrays, as SciPy's toarray does. Sums of
 * float32 and of 16-bit floats are rounded to float32. */
static double sum_of_duplicates(const struct row_reader *r, double sum, double value)
{
    if (r->source->is_logical) {
        return sum != 0.0 || value != 0.0 ? 1.0 : 0.0;
    }
    return r->narrow ? (double)((float)sum + (float)value) : sum + value;
}

/* Sorts n entries by column and sums entries of the same column. Returns how many are left. */
static size_t sort_entries(const struct row_reader *r, size_t n, uint32_t *columns, double *values)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        r->keys[i] = (uint64_t)columns[i] << 32 | i;
    }
    sort_numbers(r->keys, r->keys + n, n);
    memcpy(r->values, values, n * sizeof *values);
    for (size_t i = 0; i < n; i++) {
        const uint32_t column = (uint32_t)(r->keys[i] >> 32);
        const double value = r->values[(uint32_t)r->keys[i]];
        if (count > 0 && columns[count - 1] == column) {
            values[count - 1] = sum_of_duplicates(r, values[count - 1], value);
        } else {
            columns[count] = column;
            values[count++] = value;
        }
    }
    return count;
}

/* The largest magnitude of the values of a row, or NaN if a value is NaN, and the sum of their
 * squares. */
struct row_size {
    double largest, square;
};

/* Leaves out zeros. Returns how many entries are left. */
static inline __attribute__((always_inline)) size_t drop_zeros(const enum compute_type compute,
                                                               size_t n, uint32_t *columns,
                                                               double *values,
                                                               struct row_size *size)
{
    size_t count = 0;
    double largest = 0.0;
    struct exact_sum squares = {0.0, 0.0};
    for (size_t i = 0; i < n; i++) {
        const double value = values[i], magnitude = fabs(value);
        uint64_t bits;
        memcpy(&bits, &magnitude, sizeof bits);
        columns[count] = columns[i];
        values[count] = value;
        count += bits != 0;
        largest = magnitude > largest ? magnitude : largest;
        exact_add(compute, &squares, value * value);
    }
    *size = (struct row_size){isnan(squares.sum) ? NAN : largest, exact_total(&squares)};
    return count;
}

/* True if a row of whole numbers can have this squared norm and the cosine kernel can compute its
 * cosines exactly. */
static bool has_whole_square(double square)
{
    return square >= 1.0 && square <= COSINE_MAX_WHOLE && square == (double)(int64_t)square;
}

/* True if all values are whole numbers. The caller has checked that the sum of their squares is at
 * most COSINE_MAX_WHOLE. */
static bool are_whole(const double *values, size_t n)
{
    size_t whole = 0;
    for (size_t i = 0; i < n; i++) {
        whole += values[i] == (double)(int32_t)values[i];
    }
    return whole == n;
}

/* Leaves out the zeros of a row of n entries, measures the row and scales it if needed. Returns how
 * many entries are left: none if a value is not finite. */
static size_t measure_row(struct sparse_rows *rows, size_t row, uint32_t *columns, double *values,
                          size_t n)
{
    struct row_size size;
    n = rows->compute == COMPUTE_F32 ? drop_zeros(COMPUTE_F32, n, columns, values, &size)
                                     : drop_zeros(COMPUTE_F64, n, columns, values, &size);
    const double largest = size.largest;
    double square = isfinite(largest) ? size.square : largest;
    int exponent = 0;
    if (rows->compute == COMPUTE_F64 && n > 0 && isfinite(largest) && !square_is_safe(square)) {
        exponent = ilogb(largest);
        for (size_t i = 0; i < n; i++) {
            values[i] = ldexp(values[i], -exponent);
        }
        n = drop_zeros(COMPUTE_F64, n, columns, values, &size);
        square = size.square;
    }
    const double norm =
        isfinite(largest) ? formula_clamped_norm(square, eps_scaled(rows->eps, exponent)) : NAN;
    rows->squares[row] = square;
    rows->exponents[row] = exponent;
    rows->norms[row] = rows->compute == COMPUTE_F32 ? 1.0 / norm : norm;
    if (rows->compute == COMPUTE_F64 && exponent == 0 && norm == sqrt(square) &&
        has_whole_square(square) && are_whole(values, n)) {
        rows->norms[row] = -norm;
    }
    return isfinite(largest) ? n : 0;
}

double sparse_whole_cosine(const double *x, const double *y, double xy)
{
    const double sums[COSINE_PADDING] = {xy};
    const struct cosine_tile tile = {sums, 0, x, y, 1, 1, INFINITY};
    uint32_t found[1];
    double cosine;
    kernels_current()->tiles[COMPUTE_F64].cosine(&tile, &cosine, 0, found);
    return cosine;
}

/* Reads one row and writes its entries from position `at` on, where all entries of the source's row
 * fit. Returns false if a column is out of range. Else sets *count to the number of entries that
 * are left. */
static bool read_row(const struct row_reader *r, size_t row, size_t at, size_t *count)
{
    const struct sparse_source *s = r->source;
    struct sparse_rows *rows = r->rows;
    uint32_t *columns = rows->column + at;
    double *values = rows->values + at;
    const size_t begin = rows->starts[row], n = rows->starts[row + 1] - begin;
    bool ascending;
    operand_load(&s->data, s->data.data + (ptrdiff_t)begin * s->stride, s->stride, n, COMPUTE_F64,
                 values);
    if (!read_columns(r, begin, n, columns, &ascending)) {
        return false;
    }
    *count = measure_row(rows, row, columns, values,
                         ascending ? n : sort_entries(r, n, columns, values));
    return true;
}

static enum sparse_status read_csr(struct sparse_rows *rows, const struct sparse_source *s,
                                   const struct column_map *map, size_t *row)
{
    const size_t longest = read_starts(rows, s, row);
    if (longest == SIZE_MAX) {
        return SPARSE_BAD_INDPTR;
    }
    if (longest > UINT32_MAX || !allocate_entries(rows, rows->starts[s->count])) {
        return SPARSE_NO_MEMORY;
    }
    struct row_reader r = {rows, s,   map, dtype_compute_type(s->data.dtype) == COMPUTE_F32,
                           NULL, NULL};
    struct arena arena = {.block = NULL};
    while (arena_pass(&arena)) {
        r.keys = arena_take(&arena, longest, 2 * sizeof *r.keys);
        r.values = arena_take(&arena, longest, sizeof *r.values);
    }
    enum sparse_status status = arena.block == NULL ? SPARSE_NO_MEMORY : SPARSE_OK;
    size_t at = 0;
    for (size_t i = 0; i < s->count && status == SPARSE_OK && !cancel_poll_here(); i++) {
        size_t count = 0;
        status = read_row(&r, i, at, &count) ? SPARSE_OK : SPARSE_BAD_INDEX;
        *row = i;
        rows->starts[i] = at; /* at is at most the start of this row in the source */
        at += count;
    }
    rows->starts[s->count] = at;
    scratch_free(arena.block);
    return status;
}

/* Copies the elements of a dense row that are not 0. Returns how many were copied: at most `room`,
 * because another thread may change the array after its nonzeros were counted. */
static size_t compress_row(const double *row, size_t columns, size_t room, uint32_t *to,
                           double *values)
{
    size_t count = 0;
    for (size_t c = 0; c < columns && count < room; c++) {
        to[count] = (uint32_t)c;
        values[count] = row[c];
        count += !(row[c] == 0.0);
    }
    return count;
}

static enum sparse_status read_dense(struct sparse_rows *rows, const struct sparse_source *s)
{
    double *buffer = scratch_alloc(size_product_or_max(s->columns, sizeof *buffer));
    const size_t entries = buffer == NULL ? 0 : count_nonzeros(s, buffer);
    const bool has_memory = buffer != NULL && allocate_entries(rows, entries);
    size_t at = 0;
    for (size_t i = 0; i < s->count && has_memory && !cancel_poll_here(); i++) {
        rows->starts[i] = at;
        operand_load(&s->data, s->data.data + (ptrdiff_t)i * s->row_stride, s->stride, s->columns,
                     COMPUTE_F64, buffer);
        const size_t count =
            compress_row(buffer, s->columns, entries - at, rows->column + at, rows->values + at);
        at += measure_row(rows, i, rows->column + at, rows->values + at, count);
    }
    if (has_memory) {
        rows->starts[s->count] = at;
    }
    scratch_free(buffer);
    return has_memory ? SPARSE_OK : SPARSE_NO_MEMORY;
}

enum sparse_status sparse_rows_init(struct sparse_rows *rows, const struct sparse_source *source,
                                    const struct column_map *map, size_t *row)
{
    *rows = (struct sparse_rows){.compute = rows->compute,
                                 .eps = rows->eps,
                                 .count = source->count,
                                 .columns = map->is_identity ? source->columns : map->count};
    if (!allocate_rows(rows, source->count)) {
        return SPARSE_NO_MEMORY;
    }
    for (size_t i = 0; i < COSINE_PADDING; i++) {
        rows->norms[source->count + i] = 1.0;
    }
    return source->is_dense ? read_dense(rows, source) : read_csr(rows, source, map, row);
}

void sparse_rows_free(struct sparse_rows *rows)
{
    scratch_free(rows->blocks[0]);
    kept_free(KEPT_ROWS, rows->blocks[1]);
}

double sparse_dot(const struct sparse_rows *x, size_t i, const struct sparse_rows *y, size_t j)
{
    const size_t x_end = x->starts[i + 1], y_end = y->starts[j + 1];
    size_t a = x->starts[i], b = y->starts[j];
    struct exact_sum sum = {0.0, 0.0};
    while (a < x_end && b < y_end) {
        const uint32_t left = x->column[a], right = y->column[b];
        if (left == right) {
            exact_add(x->compute, &sum, x->values[a] * y->values[b]);
        }
        a += left <= right;
        b += right <= left;
    }
    return exact_total(&sum);
}

void sparse_list_starts(const struct sparse_rows *rows, size_t first, size_t end,
                        const uint64_t *kept, uint32_t *starts)
{
    memset(starts, 0, (rows->columns + 2) * sizeof *starts);
    for (size_t row = first; row < end; row++) {
        const size_t last = bitmap_has(kept, row) ? rows->starts[row + 1] : 0;
        for (size_t e = rows->starts[row]; e < last; e++) {
            starts[rows->column[e] + 2]++;
        }
    }
    for (size_t c = 2; c < rows->columns + 2; c++) {
        starts[c] += starts[c - 1];
    }
}

size_t sparse_products(const struct sparse_rows *x, const struct sparse_rows *y)
{
    const double products =
        (double)x->starts[x->count] * (double)y->starts[y->count] / (double)larger(y->columns, 1);
    return products < 0x1p62 ? (size_t)products : SIZE_MAX;
}
