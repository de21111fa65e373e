/* The inverted index for approximate scores of sparse rows, and these scores. */
#include "sparse/coarse_index.h"

#include <string.h>

enum {
    ROW_MASK = COARSE_BLOCK_ROWS - 1,
    POLL_PRODUCTS = 1 << 20, /* products between two polls of the token: about 1 ms */
    LISTS_AHEAD = 12         /* lists ahead of the current one that are prefetched */
};

/* Returns 1 / max(|row|, eps). */
static double inverse_norm(const struct sparse_rows *rows, size_t row)
{
    const double norm = fabs(rows->norms[row]);
    return rows->compute == COMPUTE_F32 ? norm : 1.0 / norm;
}

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

/* Builds the lists of a block. Returns its memory, or NULL when memory runs out. */
static void *build_block(const struct sparse_rows *rows, struct coarse_block *block)
{
    const size_t first = rows->starts[block->first], end = rows->starts[block->first + block->rows];
    uint32_t *starts = NULL, *lists = NULL;
    struct arena arena = {.block = NULL};
    while (arena_pass(&arena)) {
        starts = arena_take(&arena, size_sum_or_max(rows->columns, 2), sizeof *starts);
        lists = arena_take(&arena, size_sum_or_max(end - first, COARSE_PIECE - 1), sizeof *lists);
    }
    if (arena.block == NULL) {
        return NULL;
    }
    /* starts[c + 1] is the start of list c while the lists are filled, and its end afterwards */
    memset(starts, 0, (rows->columns + 2) * sizeof *starts);
    for (size_t e = first; e < end; e++) {
        starts[rows->column[e] + 2]++;
    }
    for (size_t c = 2; c < rows->columns + 2; c++) {
        starts[c] += starts[c - 1];
    }
    for (size_t r = 0; r < block->rows; r++) {
        const size_t row = block->first + r;
        const double inverse = inverse_norm(rows, row);
        for (size_t e = rows->starts[row]; e < rows->starts[row + 1]; e++) {
            lists[starts[rows->column[e] + 1]++] = pack_entry(r, rows->values[e] * inverse);
        }
    }
    memset(lists + (end - first), 0, (COARSE_PIECE - 1) * sizeof *lists);
    block->starts = starts;
    block->lists = lists;
    return arena.block;
}

int coarse_index_init(struct coarse_index *index, const struct sparse_rows *rows,
                      struct cancel_token *token)
{
    *index = (struct coarse_index){.rows = rows};
    const size_t count = size_parts(rows->count, COARSE_BLOCK_ROWS);
    index->blocks = scratch_alloc(size_product_or_max(count, sizeof *index->blocks));
    index->memory = scratch_alloc(size_product_or_max(count, sizeof *index->memory));
    if (index->blocks == NULL || index->memory == NULL) {
        return -1;
    }
    for (size_t b = 0; b < count && !cancel_poll(token, 0); b++) {
        const size_t first = b * COARSE_BLOCK_ROWS;
        index->blocks[b] = (struct coarse_block){
            .first = first, .rows = smaller(rows->count - first, COARSE_BLOCK_ROWS)};
        index->memory[b] = build_block(rows, &index->blocks[b]);
        if (index->memory[b] == NULL) {
            return -1;
        }
        index->block_count++;
    }
    return 0;
}

void coarse_index_free(struct coarse_index *index)
{
    for (size_t b = 0; b < index->block_count; b++) {
        scratch_free(index->memory[b]);
    }
    scratch_free(index->blocks);
    scratch_free(index->memory);
}

/* ---- scores ---- */

void coarse_scores_allocate(struct coarse_scores *coarse, struct arena *arena)
{
    coarse->scores = arena_take(arena, COARSE_BLOCK_ROWS, sizeof *coarse->scores);
    coarse->rows = arena_take(arena, COARSE_TERMS + COARSE_PIECE, sizeof *coarse->rows);
    coarse->products = arena_take(arena, COARSE_TERMS + COARSE_PIECE, sizeof *coarse->products);
    coarse->candidates =
        arena_take(arena, COARSE_BLOCK_ROWS + COARSE_TERMS + 1, sizeof *coarse->candidates);
}

/* Writes the products of a value with COARSE_PIECE entries, and their rows. */
static inline void multiply_piece(uint32_t *restrict rows, float *restrict products,
                                  const uint32_t *restrict entries, float value)
{
    for (int i = 0; i < COARSE_PIECE; i++) {
        const uint32_t bits = entries[i] & ~(uint32_t)ROW_MASK;
        float narrow;
        memcpy(&narrow, &bits, sizeof narrow);
        rows[i] = entries[i] & ROW_MASK;
        products[i] = narrow * value;
    }
}

/* Adds the products that wait, and lists the rows whose scores reach the level. */
static void add_terms(struct coarse_scores *coarse, size_t count, float level)
{
    float *restrict scores = coarse->scores;
    const uint32_t *restrict rows = coarse->rows;
    const float *restrict products = coarse->products;
    uint32_t *restrict candidates = coarse->candidates;
    const bool is_listing = coarse->candidate_count <= COARSE_BLOCK_ROWS;
    size_t found = is_listing ? coarse->candidate_count : 0;
    level = is_listing ? level : INFINITY;
    for (size_t i = 0; i < count; i++) {
        const float score = scores[rows[i]] + products[i];
        scores[rows[i]] = score;
        candidates[found] = rows[i];
        found += score >= level;
    }
    coarse->candidate_count = is_listing ? found : SIZE_MAX;
}

/*
 * Products are written in pieces of constant length, and those beyond the end of a list are
 * overwritten by the next list. So a short list takes no branch that depends on its length.
 */
void coarse_accumulate(struct coarse_scores *coarse, const struct coarse_block *block,
                       const struct sparse_rows *queries, size_t query, float level)
{
    const size_t begin = queries->starts[query], end = queries->starts[query + 1];
    const double inverse = inverse_norm(queries, query);
    size_t count = 0, unpolled = 0;
    coarse->candidate_count = 0;
    for (size_t e = begin; e < end; e++) {
        const uint32_t column = queries->column[e], last = block->starts[column + 1];
        const float value = (float)(queries->values[e] * inverse);
        if (e + LISTS_AHEAD < end) {
            const uint32_t *ahead = block->lists + block->starts[queries->column[e + LISTS_AHEAD]];
            __builtin_prefetch(ahead);
            __builtin_prefetch(ahead + COARSE_PIECE - 1);
        }
        for (uint32_t at = block->starts[column]; at < last; at += COARSE_PIECE) {
            multiply_piece(coarse->rows + count, coarse->products + count, block->lists + at,
                           value);
            count += smaller(last - at, COARSE_PIECE);
            if (count >= COARSE_TERMS) {
                add_terms(coarse, COARSE_TERMS, level);
                memmove(coarse->rows, coarse->rows + COARSE_TERMS,
                        COARSE_PIECE * sizeof *coarse->rows);
                memmove(coarse->products, coarse->products + COARSE_TERMS,
                        COARSE_PIECE * sizeof *coarse->products);
                count -= COARSE_TERMS;
                unpolled += COARSE_TERMS;
                if (unpolled >= POLL_PRODUCTS) {
                    unpolled = 0;
                    if (cancel_poll_here()) {
                        return;
                    }
                }
            }
        }
    }
    add_terms(coarse, count, level);
}
