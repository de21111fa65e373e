/* The inverted index for approximate scores of sparse rows, and these scores. */
#include "sparse/coarse_index.h"

#include <string.h>

#include "base/kept.h"

/* Row number n of a list has the mark FIRST_MARK - n. Marks are below all scores, which are at
 * least -2. A float holds COARSE_BLOCK_ROWS different marks exactly. */
#define FIRST_MARK -4.0f

enum {
    ROW_MASK = COARSE_BLOCK_ROWS - 1,
    POLL_PRODUCTS = 1 << 20, /* products between two polls of the token: about 1 ms */
    ENTRIES_AHEAD = 24,      /* entries ahead whose places in lists are prefetched */
    LISTS_AHEAD = 24         /* lists ahead of the current one that are prefetched */
};

#define INLINE static inline __attribute__((always_inline))

/* ---- the index ---- */

bool coarse_index_pays(const struct sparse_rows *rows)
{
    const size_t entries = rows->starts[rows->count], each = entries / larger(rows->count, 1);
    return rows->starts[rows->count] <= UINT32_MAX - COARSE_PIECE &&
           rows->columns / larger(2 * each, 1) <= smaller(rows->count, COARSE_BLOCK_ROWS);
}

/* Packs a row and a value of magnitude at most 1. Rounds the value to nearest. */
static uint32_t pack_entry(size_t row, double value)
{
    const float narrow = (float)value;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    return ((bits + COARSE_BLOCK_ROWS / 2) & ~(uint32_t)ROW_MASK) | (uint32_t)row;
}

/* Builds the lists of a block. Returns false when memory runs out. */
static bool build_block(const struct sparse_rows *rows, bool has_positions,
                        struct coarse_block *block)
{
    const size_t first = rows->starts[block->first], end = rows->starts[block->first + block->rows];
    const bool narrow = rows->compute == COMPUTE_F32;
    const size_t size = narrow ? sizeof(float) : sizeof(double);
    uint32_t *starts = NULL, *lists = NULL, *positions = NULL;
    void *values = NULL;
    struct arena arena = {.block = NULL};
    while (kept_arena_pass(KEPT_INDEX, &arena)) {
        starts = arena_take(&arena, size_sum_or_max(rows->columns, 2), sizeof *starts);
        lists = arena_take(&arena, size_sum_or_max(end - first, COARSE_PIECE), sizeof *lists);
        positions = arena_take(&arena, has_positions ? end - first : 0, sizeof *positions);
        values = arena_take(&arena, end - first, size);
    }
    block->memory = arena.block;
    if (arena.block == NULL) {
        return false;
    }
    float *const floats = values;
    double *const doubles = values;
    sparse_list_starts(rows, block->first, block->first + block->rows, NULL, starts);
    for (size_t r = 0; r < block->rows; r++) {
        const size_t row = block->first + r;
        const double inverse = sparse_inverse_norm(rows, row);
        for (size_t e = rows->starts[row]; e < rows->starts[row + 1]; e++) {
            const uint32_t at = starts[rows->column[e] + 1]++;
            if (e + ENTRIES_AHEAD < end) {
                const uint32_t ahead = starts[rows->column[e + ENTRIES_AHEAD] + 1];
                __builtin_prefetch(lists + ahead, 1);
                __builtin_prefetch((char *)values + ahead * size, 1);
            }
            lists[at] = pack_entry(r, rows->values[e] * inverse);
            if (has_positions) {
                positions[e - first] = at;
            }
            if (narrow) {
                floats[at] = (float)rows->values[e];
            } else {
                doubles[at] = rows->values[e];
            }
        }
    }
    memset(lists + (end - first), 0, COARSE_PIECE * sizeof *lists);
    block->starts = starts;
    block->lists = lists;
    block->positions = has_positions ? positions : NULL;
    block->values = values;
    return true;
}

int coarse_index_init(struct coarse_index *index, const struct sparse_rows *rows,
                      bool has_positions, struct cancel_token *token)
{
    *index = (struct coarse_index){.block_count = 0};
    const size_t count = size_parts(rows->count, COARSE_BLOCK_ROWS);
    index->blocks = scratch_alloc(size_product_or_max(count, sizeof *index->blocks));
    if (index->blocks == NULL) {
        return -1;
    }
    for (size_t b = 0; b < count && !cancel_poll(token, 0); b++) {
        const size_t first = b * COARSE_BLOCK_ROWS;
        index->blocks[b] = (struct coarse_block){
            .first = first, .rows = smaller(rows->count - first, COARSE_BLOCK_ROWS)};
        if (!build_block(rows, has_positions, &index->blocks[b])) {
            return -1;
        }
        index->block_count++;
    }
    return 0;
}

void coarse_index_free(struct coarse_index *index)
{
    for (size_t b = 0; b < index->block_count; b++) {
        kept_free(KEPT_INDEX, index->blocks[b].memory);
    }
    scratch_free(index->blocks);
}

/* ---- scores ---- */

void coarse_scores_allocate(struct coarse_scores *coarse, struct arena *arena)
{
    coarse->scores = arena_take(arena, COARSE_BLOCK_ROWS, sizeof *coarse->scores);
    coarse->rows = arena_take(arena, COARSE_PRODUCTS + COARSE_PIECE, sizeof *coarse->rows);
    coarse->products = arena_take(arena, COARSE_PRODUCTS + COARSE_PIECE, sizeof *coarse->products);
    coarse->factors = arena_take(arena, COARSE_PRODUCTS + COARSE_PIECE, sizeof *coarse->factors);
    coarse->bases = arena_take(arena, COARSE_PRODUCTS, sizeof *coarse->bases);
    coarse->hits = arena_take(arena, COARSE_PRODUCTS + 1, sizeof *coarse->hits);
    coarse->numbers = arena_take(arena, COARSE_PRODUCTS, sizeof *coarse->numbers);
    coarse->sums = arena_take(arena, COARSE_BLOCK_ROWS, sizeof *coarse->sums);
    coarse->candidates = arena_take(arena, COARSE_PRODUCTS + 1, sizeof *coarse->candidates);
}

/* Writes the products of a value with COARSE_PIECE entries, their rows, and the value's number. */
INLINE void multiply_piece(uint32_t *restrict rows, float *restrict products,
                           uint32_t *restrict factors, const uint32_t *restrict entries,
                           float value, uint32_t factor)
{
    for (int i = 0; i < COARSE_PIECE; i++) {
        const uint32_t bits = entries[i] & ~(uint32_t)ROW_MASK;
        float narrow;
        memcpy(&narrow, &bits, sizeof narrow);
        rows[i] = entries[i] & ROW_MASK;
        products[i] = narrow * value;
        factors[i] = factor;
    }
}

/* Adds the kept products to the scores, and lists the rows whose scores reach the level. */
static void add_products(struct coarse_scores *coarse, float level)
{
    float *restrict scores = coarse->scores;
    const uint32_t *restrict rows = coarse->rows;
    const float *restrict products = coarse->products;
    uint32_t *restrict candidates = coarse->candidates;
    size_t found = 0;
    for (size_t i = 0; i < coarse->count; i++) {
        const float score = scores[rows[i]] + products[i];
        scores[rows[i]] = score;
        candidates[found] = rows[i];
        found += score >= level;
    }
    coarse->candidate_count = found;
}

/* The entries [begin, end) of a list. */
struct list {
    uint32_t begin, end;
};

/* Returns the rows of a block that have the column of entry e of the query. `base` is the first
 * entry of the block's rows. */
INLINE struct list list_of(const struct coarse_block *block, const enum coarse_part part,
                           const struct sparse_rows *queries, size_t base, size_t e)
{
    const uint32_t *starts = block->starts + queries->column[e];
    return (struct list){part == LATER_ROWS ? block->positions[e - base] + 1 : starts[0],
                         starts[1]};
}

/* Prefetches a list: the first and the last entry of its first piece. */
INLINE void prefetch_list(const struct coarse_block *block, struct list list)
{
    __builtin_prefetch(block->lists + list.begin);
    __builtin_prefetch(block->lists + list.begin + COARSE_PIECE - 1);
}

/*
 * Keeps the products of a query with short lists. They are written in pieces of constant length,
 * and those beyond the end of a list are overwritten by the next list. So a list takes no branch
 * that depends on its length.
 */
INLINE void keep_products(struct coarse_scores *coarse, const struct coarse_block *block,
                          const enum coarse_part part, const struct sparse_rows *queries,
                          size_t base, size_t query)
{
    const size_t begin = queries->starts[query], end = queries->starts[query + 1];
    const double inverse = sparse_inverse_norm(queries, query);
    size_t count = 0;
    for (size_t e = begin; e < end; e++) {
        const struct list list = list_of(block, part, queries, base, e);
        const float value = (float)(queries->values[e] * inverse);
        uint32_t at = list.begin;
        if (e + LISTS_AHEAD < end) {
            prefetch_list(block, list_of(block, part, queries, base, e + LISTS_AHEAD));
        }
        coarse->bases[e - begin] = at - (uint32_t)count;
        do {
            multiply_piece(coarse->rows + count, coarse->products + count, coarse->factors + count,
                           block->lists + at, value, (uint32_t)(e - begin));
            count += smaller(list.end - at, COARSE_PIECE);
            at += COARSE_PIECE;
        } while (at < list.end);
    }
    coarse->count = count;
}

/* Adds the products of a query with long lists to the scores. */
INLINE void add_lists(struct coarse_scores *coarse, const struct coarse_block *block,
                      const enum coarse_part part, const struct sparse_rows *queries, size_t base,
                      size_t query)
{
    const size_t end = queries->starts[query + 1];
    const double inverse = sparse_inverse_norm(queries, query);
    float *restrict scores = coarse->scores;
    size_t unpolled = 0;
    for (size_t e = queries->starts[query]; e < end; e++) {
        const struct list list = list_of(block, part, queries, base, e);
        const float value = (float)(queries->values[e] * inverse);
        if (e + LISTS_AHEAD < end) {
            prefetch_list(block, list_of(block, part, queries, base, e + LISTS_AHEAD));
        }
        for (uint32_t at = list.begin; at < list.end; at++) {
            const uint32_t entry = block->lists[at], bits = entry & ~(uint32_t)ROW_MASK;
            float narrow;
            memcpy(&narrow, &bits, sizeof narrow);
            scores[entry & ROW_MASK] += narrow * value;
        }
        unpolled += list.end - list.begin;
        if (unpolled >= POLL_PRODUCTS) {
            unpolled = 0;
            if (cancel_poll_here()) {
                return;
            }
        }
    }
}

INLINE void accumulate_part(struct coarse_scores *coarse, const struct coarse_block *block,
                            const enum coarse_part part, const struct sparse_rows *queries,
                            size_t base, size_t query, float level)
{
    const size_t begin = queries->starts[query], end = queries->starts[query + 1];
    size_t products = 0;
    for (size_t e = begin; e < end; e++) {
        const struct list list = list_of(block, part, queries, base, e);
        products += list.end - list.begin;
        if (e < begin + LISTS_AHEAD) {
            prefetch_list(block, list);
        }
    }
    coarse->from = part == LATER_ROWS ? query - block->first + 1 : 0;
    coarse->keeps_products = products <= COARSE_PRODUCTS && end - begin <= COARSE_PRODUCTS;
    if (coarse->keeps_products) {
        keep_products(coarse, block, part, queries, base, query);
        add_products(coarse, level);
    } else {
        add_lists(coarse, block, part, queries, base, query);
    }
}

void coarse_accumulate(struct coarse_scores *coarse, const struct coarse_block *block,
                       enum coarse_part part, const struct sparse_rows *queries, size_t query,
                       float level)
{
    if (part == LATER_ROWS) {
        accumulate_part(coarse, block, LATER_ROWS, queries, queries->starts[block->first], query,
                        level);
    } else {
        accumulate_part(coarse, block, ALL_ROWS, queries, 0, query, level);
    }
}

/* Adds the exact products that coarse_exact_sums has found. */
INLINE void add_exact_products(const enum compute_type compute, struct coarse_scores *coarse,
                               const void *values, const double *factors, size_t count)
{
    const float *const floats = values;
    const double *const doubles = values;
    for (size_t h = 0; h < count; h++) {
        const uint32_t i = coarse->hits[h], factor = coarse->factors[i],
                       at = i + coarse->bases[factor];
        const double value = compute == COMPUTE_F32 ? (double)floats[at] : doubles[at];
        exact_add(compute, &coarse->sums[coarse->numbers[h]], factors[factor] * value);
    }
}

void coarse_clear(struct coarse_scores *coarse, const struct coarse_block *block)
{
    memset(coarse->scores + coarse->from, 0, (block->rows - coarse->from) * sizeof *coarse->scores);
}

/* The scores of the rows become marks: row number n gets FIRST_MARK - n. So one pass finds all
 * products of these rows, in ascending order of column. */
void coarse_exact_sums(struct coarse_scores *coarse, const struct coarse_block *block,
                       const struct sparse_rows *queries, size_t query, const uint32_t *rows,
                       size_t n, double *sums)
{
    const double *factors = queries->values + queries->starts[query];
    const size_t size = queries->compute == COMPUTE_F32 ? sizeof(float) : sizeof(double);
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        coarse->scores[rows[i]] = FIRST_MARK - (float)i;
        coarse->sums[i] = (struct exact_sum){0.0, 0.0};
    }
    for (size_t i = 0; i < coarse->count; i++) {
        coarse->hits[count] = (uint32_t)i;
        count += coarse->scores[coarse->rows[i]] <= FIRST_MARK;
    }
    for (size_t h = 0; h < count; h++) {
        const uint32_t i = coarse->hits[h], at = i + coarse->bases[coarse->factors[i]];
        __builtin_prefetch((const char *)block->values + at * size);
        coarse->numbers[h] = (uint32_t)(FIRST_MARK - coarse->scores[coarse->rows[i]]);
    }
    coarse_clear(coarse, block); /* while the values arrive */
    if (queries->compute == COMPUTE_F32) {
        add_exact_products(COMPUTE_F32, coarse, block->values, factors, count);
    } else {
        add_exact_products(COMPUTE_F64, coarse, block->values, factors, count);
    }
    for (size_t i = 0; i < n; i++) {
        sums[i] = exact_total(&coarse->sums[i]);
    }
}
