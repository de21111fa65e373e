#pragma once

#include <math.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/scratch.h"
#include "vectors/dtype.h"
#include "vectors/formula.h"

/*
 * Rows to read: CSR arrays, or a dense array whose zeros are left out. Another thread may change
 * the arrays of a CSR source at any time, so each number is read once and then checked.
 */
struct sparse_source {
    struct operand data;          /* (entries) values of CSR; (count, columns) of a dense array */
    ptrdiff_t row_stride, stride; /* in bytes: between dense rows; between elements of data */
    bool is_dense;
    bool is_logical;                /* bool: duplicates are or-ed, not summed */
    const void *indptr, *indices;   /* (count + 1) and (entries), int32 or int64, contiguous */
    bool wide_indptr, wide_indices; /* int64 */
    size_t count, columns, entries;
};

/*
 * A copy of sparse rows in canonical form. In each row the columns ascend, and no value is 0.
 *
 * A row of doubles whose sum of squares would leave the safe range is scaled by 2^-exponent. A row
 * that holds NaN or infinity has no entries, and its norm is NaN. So it scores NaN with every row,
 * as it does in the dense formula.
 */
struct sparse_rows {
    enum compute_type compute; /* of scores; the same for both sides of a call */
    double eps;
    size_t count, columns;
    size_t *starts;   /* (count + 1): row i has the entries [starts[i], starts[i + 1]) */
    uint32_t *column; /* of each entry */
    double *values;
    double *squares; /* the squared norm of each row, after scaling */
    int *exponents;
    /* max(|row|, eps), or its inverse for COMPUTE_F32. The norm of a row of whole numbers is stored
     * as a negative number, as the cosine kernel expects (COSINE_MAX_WHOLE of kernels.h). */
    double *norms;
    void *blocks[2]; /* memory */
};

/* Maps columns to numbers of 32 bits. A matrix can have 2^63 columns. If it has many more columns
 * than entries, the columns in use are renumbered 0, 1, 2 ... in ascending order. */
struct column_map {
    bool is_identity;
    uint64_t *used; /* the columns in use, ascending */
    size_t count;
};

enum sparse_status {
    SPARSE_OK,
    SPARSE_NO_MEMORY,
    SPARSE_BAD_INDPTR, /* does not ascend from 0 to at most the number of entries */
    SPARSE_BAD_INDEX   /* a column that is not below the number of columns */
};

/* Returns the map for the columns of one or two sources. Free it in any case. */
enum sparse_status column_map_init(struct column_map *map, const struct sparse_source *sources,
                                   size_t n);
void column_map_free(struct column_map *map);

/* Reads and measures all rows. The caller sets compute and eps of *rows first. On an error, *row is
 * the number of the row that has it. Free the rows in any case. */
enum sparse_status sparse_rows_init(struct sparse_rows *rows, const struct sparse_source *source,
                                    const struct column_map *map, size_t *row);
void sparse_rows_free(struct sparse_rows *rows);

/*
 * Finds where lists of entries by column begin, for rows [first, end) that a bitmap marks; NULL
 * marks all. starts is (columns + 2), and starts[c + 1] becomes the position of the first entry of
 * list c. The caller moves it forward for each entry that it writes. After all of them, list c is
 * entries [starts[c], starts[c + 1]).
 */
void sparse_list_starts(const struct sparse_rows *rows, size_t first, size_t end,
                        const uint64_t *kept, uint32_t *starts);

/* Returns 1 / max(|row|, eps). */
static inline double sparse_inverse_norm(const struct sparse_rows *rows, size_t row)
{
    const double norm = fabs(rows->norms[row]);
    return rows->compute == COMPUTE_F32 ? norm : 1.0 / norm;
}

/* An estimate of the number of products of all rows of x with all rows of y. */
size_t sparse_products(const struct sparse_rows *x, const struct sparse_rows *y);

/* ---- scores ---- */

/* A cosine whose magnitude is above this is recomputed by formula_cosine, which gives exactly 1 for
 * identical rows. */
static inline double sparse_recompute_above(enum compute_type compute)
{
    return compute == COMPUTE_F32 ? 1.0 - 0x1p-17 : 1.0 - 1e-13;
}

/* Returns x.y / (max(|x|, eps) max(|y|, eps)) in double, by the formula of a single pair. */
static inline double sparse_cosine(const struct sparse_rows *x, size_t i,
                                   const struct sparse_rows *y, size_t j, double xy)
{
    if (isnan(x->norms[i]) || isnan(y->norms[j])) {
        return NAN;
    }
    return formula_cosine(xy, x->squares[i], y->squares[j], eps_scaled(x->eps, x->exponents[i]),
                          eps_scaled(y->eps, y->exponents[j]));
}

/* Returns the cosine of two whole-number rows, correctly rounded, from their norms and x.y. Kernels
 * read COSINE_PADDING norms from y on. */
double sparse_whole_cosine(const double *x, const double *y, double xy);

/* Returns the score of rows i and j from their sum x.y, rounded to the compute type. It computes
 * scores as pair_scores.c does: float32 multiplies by inverse norms, float64 divides by norms. */
static inline double sparse_score(const struct sparse_rows *x, size_t i,
                                  const struct sparse_rows *y, size_t j, double xy)
{
    if (x->norms[i] < 0.0 && y->norms[j] < 0.0) {
        return sparse_whole_cosine(x->norms + i, y->norms + j, xy);
    }
    const double norms = fabs(x->norms[i] * y->norms[j]),
                 plain = x->compute == COMPUTE_F32 ? xy * norms : xy / norms,
                 score = fabs(plain) > sparse_recompute_above(x->compute)
                             ? sparse_cosine(x, i, y, j, xy)
                             : plain;
    return x->compute == COMPUTE_F32 ? (double)(float)score : score;
}

/* Returns x.y of rows i and j, in which common columns are added in ascending order. */
double sparse_dot(const struct sparse_rows *x, size_t i, const struct sparse_rows *y, size_t j);
