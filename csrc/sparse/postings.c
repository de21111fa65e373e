/* The inverted index of sparse rows, and sums along its lists. */
#include "sparse/postings.h"

#include <string.h>

#include "base/kept.h"
#include "sparse/exact_sum.h"

enum {
    MIN_BLOCK_ROWS = 1 << 13,
    MAX_BLOCK_ROWS = 1 << 24,
    POLL_PRODUCTS = 1 << 20, /* products between two polls of the token: about 2 ms */
    PIECE = 128,             /* entries of a query whose lists are located at once */
    ENTRIES_AHEAD = 24,      /* entries ahead whose places in lists are prefetched */
    LISTS_AHEAD = 12,        /* lists ahead of the current one that are prefetched */
    LINE = 64                /* bytes of a cache line */
};

#define INLINE static inline __attribute__((always_inline))

/* An entry of a list. Values of COMPUTE_F32 are floats. */
struct posting_f32 {
    uint32_t row;
    float value;
};
struct __attribute__((packed)) posting_f64 { /* 12 bytes: fewer cache lines for each list */
    double value;
    uint32_t row;
};

static inline size_t posting_size(enum compute_type compute)
{
    return compute == COMPUTE_F32 ? sizeof(struct posting_f32) : sizeof(struct posting_f64);
}

/* ---- the index ---- */

/* Returns the number of rows of a block, with at least one entry for every two lists. */
static size_t rows_of_block(const struct sparse_rows *rows)
{
    const size_t entries = rows->starts[rows->count], each = entries / larger(rows->count, 1),
                 least = rows->columns / larger(2 * each, 1);
    return smaller(larger(least, MIN_BLOCK_ROWS), MAX_BLOCK_ROWS);
}

/* Returns the end of the block that begins with row `first`. The number of its entries must fit 32
 * bits. */
static size_t block_end(const struct sparse_rows *rows, size_t first, size_t block_rows)
{
    size_t end = smaller(first + block_rows, rows->count);
    while (end > first + 1 && rows->starts[end] - rows->starts[first] > UINT32_MAX) {
        end = first + (end - first) / 2;
    }
    return end;
}

/* Writes the lists of a block. On entry, starts[c] is the position of the first entry of list c; on
 * return, it is the position after the last one. */
INLINE void fill_lists(const enum compute_type compute, const struct postings *p,
                       const struct postings_block *block, uint32_t *starts, void *lists)
{
    const struct sparse_rows *rows = p->rows;
    const size_t entries = rows->starts[block->first + block->rows];
    for (size_t r = 0; r < block->rows; r++) {
        const size_t row = block->first + r;
        if (!bitmap_has(p->kept, row)) {
            continue;
        }
        for (size_t e = rows->starts[row]; e < rows->starts[row + 1]; e++) {
            const uint32_t at = starts[rows->column[e]]++;
            if (e + ENTRIES_AHEAD < entries) {
                const char *ahead = (const char *)lists +
                                    starts[rows->column[e + ENTRIES_AHEAD]] * posting_size(compute);
                __builtin_prefetch(ahead, 1);
            }
            if (compute == COMPUTE_F32) {
                ((struct posting_f32 *)lists)[at] =
                    (struct posting_f32){(uint32_t)r, (float)rows->values[e]};
            } else {
                ((struct posting_f64 *)lists)[at] =
                    (struct posting_f64){rows->values[e], (uint32_t)r};
            }
        }
    }
}

/* Builds one block. Returns false when memory runs out. */
static bool build_block(const struct postings *p, struct postings_block *block)
{
    const struct sparse_rows *rows = p->rows;
    const size_t last = block->first + block->rows, size = posting_size(rows->compute);
    size_t entries = 0;
    uint32_t *starts = NULL;
    void *lists = NULL;
    for (size_t row = block->first; row < last; row++) {
        entries += bitmap_has(p->kept, row) ? rows->starts[row + 1] - rows->starts[row] : 0;
    }
    struct arena arena = {.block = NULL};
    while (kept_arena_pass(KEPT_INDEX, &arena)) {
        starts = arena_take(&arena, size_sum_or_max(rows->columns, 2), sizeof *starts);
        lists = arena_take(&arena, entries, size);
    }
    block->memory = arena.block;
    if (arena.block == NULL) {
        return false;
    }
    sparse_list_starts(rows, block->first, last, p->kept, starts);
    if (rows->compute == COMPUTE_F32) {
        fill_lists(COMPUTE_F32, p, block, starts + 1, lists);
    } else {
        fill_lists(COMPUTE_F64, p, block, starts + 1, lists);
    }
    block->starts = starts;
    block->lists = lists;
    return true;
}

int postings_init(struct postings *p, const struct sparse_rows *rows, const uint64_t *kept,
                  struct cancel_token *token)
{
    *p = (struct postings){.rows = rows, .kept = kept, .block_rows = rows_of_block(rows)};
    size_t count = 0;
    for (size_t first = 0; first < rows->count; first = block_end(rows, first, p->block_rows)) {
        count++;
    }
    p->blocks = scratch_alloc(size_product_or_max(count, sizeof *p->blocks));
    if (p->blocks == NULL) {
        return -1;
    }
    size_t first = 0;
    for (size_t b = 0; b < count && !cancel_poll(token, 0); b++) {
        const size_t end = block_end(rows, first, p->block_rows);
        p->blocks[b] = (struct postings_block){.first = first, .rows = end - first};
        if (!build_block(p, &p->blocks[b])) {
            return -1;
        }
        p->block_count++;
        first = end;
    }
    return 0;
}

void postings_free(struct postings *p)
{
    for (size_t b = 0; b < p->block_count; b++) {
        kept_free(KEPT_INDEX, p->blocks[b].memory);
    }
    scratch_free(p->blocks);
}

/* ---- sums ---- */

void accumulator_allocate(struct accumulator *a, const struct postings *p, bool lists_rows,
                          struct arena *arena)
{
    a->compute = p->rows->compute;
    a->lists_rows = lists_rows;
    a->rows = smaller(p->block_rows, p->rows->count);
    const size_t compensated = a->compute == COMPUTE_F64 ? a->rows : 0,
                 additions = size_sum_or_max(2 * compensated, 1);
    a->sums = arena_take(arena, size_sum_or_max(a->rows, COSINE_PADDING), sizeof *a->sums);
    a->errors = arena_take(arena, compensated, sizeof *a->errors);
    a->additions.sums = arena_take(arena, additions, sizeof *a->additions.sums);
    a->additions.products = arena_take(arena, additions, sizeof *a->additions.products);
    a->additions.rows = arena_take(arena, additions, sizeof *a->additions.rows);
    a->is_touched = arena_take(arena, a->rows, sizeof *a->is_touched);
    a->touched = arena_take(arena, a->rows, sizeof *a->touched);
}

void accumulator_clear(struct accumulator *a)
{
    memset(a->sums, 0, (a->rows + COSINE_PADDING) * sizeof *a->sums);
    memset(a->errors, 0, (a->compute == COMPUTE_F64 ? a->rows : 0) * sizeof *a->errors);
    memset(a->is_touched, 0, a->rows * sizeof *a->is_touched);
    a->count = 0;
    a->listed = false;
}

/* Adds the rounding errors of the first n additions to the errors of their rows, in their order. */
static void add_roundings(struct accumulator *a, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct exact_sum sum = {a->additions.sums[i], 0.0};
        exact_add(COMPUTE_F64, &sum, a->additions.products[i]);
        a->errors[a->additions.rows[i]] += sum.error;
    }
}

/* Adds the rounding errors of the n listed additions to those of their rows, then the errors of
 * each row to its sum. If are_all is set, the query has no other additions, so no other row has
 * errors. */
static void add_errors(struct accumulator *a, size_t n, bool are_all)
{
    add_roundings(a, n);
    for (size_t i = 0; i < (are_all ? n : a->rows); i++) {
        const size_t row = are_all ? a->additions.rows[i] : i;
        a->sums[row] += a->errors[row];
        a->errors[row] = 0.0; /* a row can be listed again */
    }
}

/* A list of a query's column: entries [begin, end). */
struct list {
    uint32_t begin, end;
};

/* Adds a query's value times each entry of a list to the sums. Goes through the list from its end,
 * and stops at the first row below `from`; if that is a constant 0, it compares nothing. Lists its
 * additions after the n that are listed, and returns their new number. */
INLINE size_t add_list(const enum compute_type compute, const bool listed, struct accumulator *a,
                       const void *lists, struct list list, double value, const size_t from,
                       size_t n)
{
    const struct posting_f32 *floats = lists;
    const struct posting_f64 *doubles = lists;
    uint32_t *const touched = a->touched;
    uint8_t *const is_touched = a->is_touched;
    double *const sums = a->sums;
    const struct additions additions = a->additions;
    size_t count = a->count;
    for (size_t at = list.end; at > list.begin; at--) {
        const size_t row = compute == COMPUTE_F32 ? floats[at - 1].row : doubles[at - 1].row;
        if (row < from) {
            break;
        }
        const double product =
            value * (compute == COMPUTE_F32 ? (double)floats[at - 1].value : doubles[at - 1].value);
        const double sum = sums[row];
        sums[row] = sum + product;
        if (compute == COMPUTE_F64) {
            uint64_t bits; /* of the sum, which is never -0 */
            memcpy(&bits, &sum, sizeof bits);
            additions.sums[n] = sum;
            additions.products[n] = product;
            additions.rows[n] = (uint32_t)row;
            n += bits != 0;
        }
        if (listed) {
            touched[count] = (uint32_t)row;
            count += !is_touched[row];
            is_touched[row] = 1;
        }
    }
    a->count = count;
    return n;
}

/* Prefetches a list of up to three cache lines. */
INLINE void prefetch_list(const enum compute_type compute, const void *lists, struct list list)
{
    const size_t size = posting_size(compute);
    const char *first = (const char *)lists + list.begin * size;
    __builtin_prefetch(first);
    __builtin_prefetch(first + LINE);
    __builtin_prefetch((const char *)lists + list.end * size - 1);
}

INLINE void add_lists(const enum compute_type compute, const bool listed, struct accumulator *a,
                      const struct postings_block *block, const struct sparse_rows *queries,
                      size_t query, size_t from)
{
    const size_t end = queries->starts[query + 1];
    struct list lists[PIECE];
    size_t unpolled = 0, additions = 0;
    bool are_all = true; /* the listed additions */
    for (size_t first = queries->starts[query], n; first < end; first += n) {
        n = smaller(end - first, PIECE);
        for (size_t e = 0; e < n; e++) {
            const uint32_t *starts = block->starts + queries->column[first + e];
            lists[e] = (struct list){starts[0], starts[1]};
        }
        for (size_t e = 0; e < smaller(LISTS_AHEAD, n); e++) {
            prefetch_list(compute, block->lists, lists[e]);
        }
        for (size_t e = 0; e < n && (unpolled < POLL_PRODUCTS || !cancel_poll_here()); e++) {
            const size_t length = lists[e].end - lists[e].begin;
            if (e + LISTS_AHEAD < n) {
                prefetch_list(compute, block->lists, lists[e + LISTS_AHEAD]);
            }
            if (compute == COMPUTE_F64 && additions + length > 2 * a->rows) {
                add_roundings(a, additions);
                additions = 0;
                are_all = false;
            }
            const double value = queries->values[first + e];
            additions =
                from == 0
                    ? add_list(compute, listed, a, block->lists, lists[e], value, 0, additions)
                    : add_list(compute, listed, a, block->lists, lists[e], value, from, additions);
            unpolled = (unpolled < POLL_PRODUCTS ? unpolled : 0) + length;
        }
    }
    if (compute == COMPUTE_F64) {
        add_errors(a, additions, are_all);
    }
}

void accumulate(struct accumulator *a, const struct postings_block *block,
                const struct sparse_rows *queries, size_t query, size_t from)
{
    size_t products = 0;
    for (size_t e = queries->starts[query]; e < queries->starts[query + 1] && a->lists_rows; e++) {
        const uint32_t column = queries->column[e];
        products += block->starts[column + 1] - block->starts[column];
    }
    a->listed = a->lists_rows && products < block->rows / LISTED_SHARE;
    if (a->compute == COMPUTE_F32 && a->listed) {
        add_lists(COMPUTE_F32, true, a, block, queries, query, from);
    } else if (a->compute == COMPUTE_F32) {
        add_lists(COMPUTE_F32, false, a, block, queries, query, from);
    } else if (a->listed) {
        add_lists(COMPUTE_F64, true, a, block, queries, query, from);
    } else {
        add_lists(COMPUTE_F64, false, a, block, queries, query, from);
    }
}

void accumulator_forget(struct accumulator *a)
{
    for (size_t n = 0; n < a->count; n++) {
        a->is_touched[a->touched[n]] = 0;
    }
    a->count = 0;
}

void accumulator_reset(struct accumulator *a, const struct postings_block *block)
{
    if (!a->listed) {
        memset(a->sums, 0, block->rows * sizeof *a->sums);
        return;
    }
    for (size_t n = 0; n < a->count; n++) {
        a->sums[a->touched[n]] = 0.0;
    }
    accumulator_forget(a);
}
