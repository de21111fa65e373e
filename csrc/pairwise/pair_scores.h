#pragma once

#include <math.h>

#include "vectors/reduce.h"
#include "vectors/row_sums.h"
#include "pairwise/gemm.h"

/*
 * Scores of left rows with right rows: dot products x.y or cosines. Rows enter the product without
 * being normalized, so integers and binary vectors have exact sums. For cosines, a row whose norm
 * is far from 1 is scaled by a power of two, which is exact. The norms are applied when a sum is
 * complete. A score has the same bits whether it is computed alone or in a block.
 */

/* The norms of some rows. */
struct norms {
    /*
     * For float32 scores the inverse norm, 1 / max(|row|, eps); for float64 scores the norm,
     * max(|row|, eps). For a scaled row, |row| is the norm after scaling. For float64 scores,
     * -|row| marks a row of whole numbers whose sums are exact: see cosine_kernel.
     */
    double *value;
    int *exponent; /* the row is scaled by 2^-exponent */
};

struct pair_scores {
    const struct reduction *call;
    const struct plan *plan;
    /* Type of the scores. It is float32 only if the result is float32, so that no score is rounded
     * twice. */
    enum compute_type compute;
    /*
     * Type of the rows in the product. It is float32 if both operands are floats of at most 32
     * bits, except for dot products with a float64 result. It is their own type if both are int8 or
     * both are uint8, and the instruction set has kernels for them. It is also float32 for other
     * pairs of 8-bit integers: float32 holds the sums of a block of the depth exactly. Else it is
     * float64.
     */
    enum compute_type product;
    bool symmetric;     /* both sides are the same rows in memory */
    bool cosine;        /* scores need norms */
    size_t first_batch; /* of the current group of batches; groups bound the memory for norms */
    size_t left, right; /* rows of a batch */
};

/*
 * Receives scores block by block when no matrix is stored. The score of (r, c) of the block is
 * scores[r * step + c], an element of the compute type. Several threads call it.
 */
struct score_receiver {
    void (*take)(const void *context, const struct gemm_block *block, const void *scores,
                 size_t step);
    const void *context;
};

/* Returns max(|row|, eps) of the scaled row from its value in struct norms. */
static inline double pair_scores_divisor(const struct pair_scores *s, double value)
{
    return s->compute == COMPUTE_F32 ? 1.0 / value : fabs(value);
}

void pair_scores_init(struct pair_scores *s, const struct reduction *call);

/* Recomputes x.y of one pair in double, directly from the rows. */
double pair_scores_recompute_dot(const struct pair_scores *s, size_t batch, size_t i, size_t j);

/*
 * Answers a request for rows. Rows that are contiguous elements of the product's type and need no
 * scaling are used in place; other rows are converted. exponents are those of the requested rows;
 * NULL means that none is scaled.
 */
void pair_scores_find_rows(const struct pair_scores *s, enum side side, const int *exponents,
                           const struct gemm_rows *request);

/*
 * Measures the norms and exponents of rows [first, first + n) of a side. Kernels later read norm
 * values up to the next multiple of COSINE_PADDING, so these must be readable.
 */
void pair_scores_measure(const struct pair_scores *s, enum side side, size_t batch, size_t first,
                         size_t n, const struct norms *norms);

/* Turns a block of sums into cosines. Writes them as elements of the compute type; the rows of out
 * are out_step elements apart. `rows` and `columns` are the norms of the block's rows and
 * columns. */
void pair_scores_cosines(const struct pair_scores *s, const struct gemm_block *block,
                         const struct norms *rows, const struct norms *columns, void *out,
                         ptrdiff_t out_step);

/* One operand row of a single-pair score, with its norm and a scratch buffer. */
struct scored_row {
    size_t row;
    /* The norm of this row. For a right row, kernels read COSINE_PADDING values from here on. */
    const struct norms *norms;
    void *buffer; /* room for one row of the product's type */
};

/* Computes one cosine, with the same bits as in a block. */
double pair_scores_one(const struct pair_scores *s, const struct scored_row *left,
                       const struct scored_row *right);
