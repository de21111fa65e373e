#ifndef COSSIM_PAIRWISE_PAIR_SCORES_H
#define COSSIM_PAIRWISE_PAIR_SCORES_H

#include "vectors/reduce.h"
#include "vectors/row_sums.h"
#include "pairwise/gemm.h"

/*
 * Scores of left rows with right rows: x.y or the cosine. Rows go into the product as they are,
 * scaled by a power of two (which is exact) where their norm is far from 1, so integers and binary
 * vectors keep exact sums; the norms come in when a sum is finished. One score has the same bits
 * whether it is calculated alone or among others.
 */

/* What a score needs of a row. */
struct norms {
    double *weight; /* 1 / max(|row|, eps) for float32, max(|row|, eps) for float64, of the scaled
                       row */
    int *exponent;  /* the row goes into the product times 2^-exponent */
};

struct pair_scores {
    const struct reduction *call;
    const struct plan *plan;
    enum compute_type compute; /* of scores: float only where they are rounded to float in the end,
                                  so that nothing is rounded twice */
    enum compute_type product; /* of the rows in the product: float for narrow floats, and for 8-bit
                                  integers, whose sums it holds exactly */
    bool symmetric;            /* both sides are the very same rows */
    bool cosine;               /* scores need norms */
    size_t first_batch;        /* batches are taken in groups, to bound the memory of norms */
    size_t left, right;        /* rows of a batch */
};

/* Scores handed on in place of a matrix: that of (r, c) of the block is scores[r * step + c], a
 * work element. Called from several threads. */
struct score_receiver {
    void (*take)(const void *context, const struct gemm_block *block, const void *scores,
                 size_t step);
    const void *context;
};

void pair_scores_init(struct pair_scores *s, const struct reduction *call);

/* x.y of one pair of rows in double, straight from the rows. */
double pair_scores_dot_again(const struct pair_scores *s, size_t batch, size_t i, size_t j);

/*
 * Rows for a tile or a sum: in place where they are contiguous elements of the product and not to
 * be scaled, else converted. exponents: of the rows wanted, or NULL.
 */
void pair_scores_find_rows(const struct pair_scores *s, enum side side, const int *exponents,
                           const struct gemm_rows *wanted);

/* Weights and exponents of the rows first .. first+n-1 of a side. Weights are read up to the next
 * multiple of COSINE_PADDING later on. */
void pair_scores_measure(const struct pair_scores *s, enum side side, size_t batch, size_t first,
                         size_t n, const struct norms *norms);

/* The cosines of a block of sums as work elements, out_step elements from row to row. The norms are
 * those of the block's rows and columns. */
void pair_scores_cosines(const struct pair_scores *s, const struct gemm_block *block,
                         const struct norms *rows, const struct norms *columns, void *out,
                         ptrdiff_t out_step);

/* The weight of one row, and the pointers at its side, of one score of its own. */
struct scored_row {
    size_t row;
    const struct norms *norms; /* at this very row; on the right with the padding that
                                  pair_scores_measure tells of */
    void *buffer;              /* room for a row as it goes into the product */
};

/* One cosine, with the bits it has in a block. Written to out as a work element. */
void pair_scores_one(const struct pair_scores *s, const struct scored_row *left,
                     const struct scored_row *right, void *out);

#endif
