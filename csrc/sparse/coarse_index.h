#pragma once

#include "sparse/exact_sum.h"
#include "sparse/rows.h"

/*
 * An inverted index for approximate scores. An entry of a list has 32 bits: the row within the
 * block in the lowest 13, and the value divided by the norm of its row, a float with 10 bits of
 * mantissa, in the others. So a block of lists and its scores, which are floats, take half or a
 * quarter of the cache that the sums of postings.h take.
 */
enum {
    COARSE_ROW_BITS = 13,
    COARSE_BLOCK_ROWS = 1 << COARSE_ROW_BITS,
    COARSE_PIECE = 16 /* entries that are read at a time; a list may be read up to that far beyond
                         its end */
};

struct coarse_block {
    size_t first, rows;
    const uint32_t *starts; /* (columns + 1) */
    const uint32_t *lists;
    const uint32_t *positions; /* of the block's entries in the lists, row by row. NULL: none */
    const void *values; /* the exact value of each entry: floats for COMPUTE_F32, else doubles */
    void *memory;
};

struct coarse_index {
    size_t block_count;
    struct coarse_block *blocks;
};

/* True if blocks of COARSE_BLOCK_ROWS have an entry for every two lists, and positions in lists fit
 * 32 bits. */
bool coarse_index_pays(const struct sparse_rows *rows);

/* Returns 0, or -1 when memory runs out. Free the index in either case. Only queries that are
 * rows of the index need positions. */
int coarse_index_init(struct coarse_index *index, const struct sparse_rows *rows,
                      bool has_positions, struct cancel_token *token);
void coarse_index_free(struct coarse_index *index);

/* The coarse scores of one query with the rows of a block. Each worker has its own. */
enum { COARSE_PRODUCTS = 2048 };
struct coarse_scores {
    float *scores; /* (COARSE_BLOCK_ROWS): all 0, except while the scores of a query are read */
    size_t from;   /* the first row whose score may differ from 0 */
    bool keeps_products; /* the query has at most COARSE_PRODUCTS products: they are kept */

    /* (count) each: products, their rows, and their factors. A factor is the number, from 0 on, of
     * the entry of the query that was multiplied. There is room for COARSE_PRODUCTS + COARSE_PIECE.
     */
    size_t count;
    uint32_t *rows;
    float *products;
    uint32_t *factors;
    uint32_t *bases;   /* (COARSE_PRODUCTS): product i of factor f is of list entry i + bases[f] */
    uint32_t *hits;    /* (COARSE_PRODUCTS + 1): the products of the rows of coarse_exact_sums */
    uint32_t *numbers; /* (COARSE_PRODUCTS): hits[h] belongs to row rows[numbers[h]] of
                        * coarse_exact_sums */
    struct exact_sum *sums; /* (COARSE_BLOCK_ROWS) */

    /* The rows whose scores reached the level when a product was added. Rows whose final scores
     * reach it are among them, some of them several times. There is room for COARSE_PRODUCTS + 1.
     */
    uint32_t *candidates;
    size_t candidate_count;
};

/* Takes the arrays. Call it in both passes of an arena. */
void coarse_scores_allocate(struct coarse_scores *coarse, struct arena *arena);

/* Which rows of a block a query is compared with. LATER_ROWS are those after the query, which must
 * be a row of the block, in an index with positions. */
enum coarse_part { ALL_ROWS, LATER_ROWS };

/* Adds the products of a query with rows of a block to the scores, which are 0. Lists the
 * candidates for a level above 0 if it keeps the products. */
void coarse_accumulate(struct coarse_scores *coarse, const struct coarse_block *block,
                       enum coarse_part part, const struct sparse_rows *queries, size_t query,
                       float level);

/*
 * Computes the exact sums x.y of a query and n rows of a block, from the products of
 * coarse_accumulate, which must have kept them. Clears the coarse scores.
 */
void coarse_exact_sums(struct coarse_scores *coarse, const struct coarse_block *block,
                       const struct sparse_rows *queries, size_t query, const uint32_t *rows,
                       size_t n, double *sums);

/* Sets the scores of the rows of a block to 0. */
void coarse_clear(struct coarse_scores *coarse, const struct coarse_block *block);

/*
 * Returns an upper bound of the difference between a coarse score of a query and the score.
 *
 * The values of a row are rounded by at most 2^-11 of themselves, those of the query by 2^-24. With
 * n entries, the sum takes at most n additions, each with a relative error of 2^-24. The magnitudes
 * of the products add up to at most 1 (Cauchy-Schwarz). The bound leaves twice the room for all
 * roundings of 2^-24, among them that of the score.
 */
static inline double coarse_error_of(const struct sparse_rows *queries, size_t query)
{
    const size_t n = queries->starts[query + 1] - queries->starts[query];
    return 0x1p-11 * (1.0 + 0x1p-9) + ((double)n + 16.0) * 0x1p-23;
}
