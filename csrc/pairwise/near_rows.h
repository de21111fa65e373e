#pragma once

#include <stdint.h>

#include "kernels/rough_kernels.h"
#include "pairwise/pair_scores.h"

/*
 * The rows of documents that may hold a largest cosine with a row of the query. Rough cosines rule
 * the other rows out.
 */
struct near_rows {
    struct pair_scores scores; /* left: rows of all documents; right: rows of the query */
    const int64_t *offsets;    /* document n has the rows from offsets[n] to offsets[n + 1] */
    const struct rough_kernels *kernels;
    int32_t margin;  /* rough cosines this far apart are in the order of the exact ones */
    bool in_place;   /* document rows are floats in memory */
    int16_t *panels; /* codes of the query */
    char *scratch;   /* of all workers; NULL if rough cosines do not pay */
    size_t scratch_of_worker;
};

/* The largest number of rows of a call of near_rows_find. */
enum { NEAR_ROWS = 1024 };

/*
 * Prepares calls of near_rows_find() from `workers` workers. Leaves scratch NULL if rough cosines
 * do not pay or do not fit the rows. call and its plan must outlive n. Returns 0, or -1 when memory
 * runs out.
 */
int near_rows_begin(struct near_rows *n, const struct reduction *call, const int64_t *offsets,
                    size_t documents, int workers);
void near_rows_end(struct near_rows *n);

/*
 * Finds the rows from first to end that may hold a largest cosine of their document. Writes their
 * numbers, counted from `base`, to numbers (end - first,), and returns how many there are. Row
 * `first` belongs to `document`. Earlier calls of this worker have handled rows [base, first).
 */
size_t near_rows_find(const struct near_rows *n, size_t worker, size_t document, size_t first,
                      size_t end, size_t base, size_t *numbers);
