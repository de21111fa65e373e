#ifndef COSSIM_VECTORS_REDUCE_H
#define COSSIM_VECTORS_REDUCE_H

#include "base/cancel.h"
#include "vectors/dtype.h"
#include "vectors/plan.h"

/* What is made of the sums. */
enum op {
    OP_COSINE,    /* x.y / (max(|x|, eps) max(|y|, eps)) */
    OP_DISTANCE,  /* 1 - cosine */
    OP_DOT,       /* x.y */
    OP_NORM,      /* |x| */
    OP_NORMALIZE, /* x / max(|x|, eps): as large as x */
};

/* One call: operands of any layout, a planned contraction, and a float result with the plan's out
 * strides. */
struct reduction {
    enum op op;
    double eps;
    struct operand x, y; /* y is unused by OP_NORM and OP_NORMALIZE */
    enum dtype out_dtype;
    char *out;
    const struct plan *plan;
    const struct score_receiver
        *receiver; /* or NULL: of all pairs of one batch, takes the cosines in place of out */
    bool distinct; /* of all pairs: the sides are to be taken for different rows even where they are
                      the same in memory */
    int workers;   /* of all pairs: at most so many; 0: as many as there are threads */
    struct cancel_token
        *token; /* or NULL; counts outputs done, of all pairs those on and above the diagonal */
};

static inline bool op_has_one_operand(enum op op)
{
    return op == OP_NORM || op == OP_NORMALIZE;
}

/* Plans of rows and columns. 0, or -1 when there is no memory. */
int reduce(const struct reduction *reduction);

/*
 * The straight way for at most FEW_ROWS short contiguous rows of float32 or float64, without plan,
 * threads or memory. False where it does not do: no elements, or doubles that have to be scaled.
 */
enum { FEW_ROWS = 64 };
bool reduce_few_rows(enum op op, double eps, enum dtype dtype, const void *x, const void *y,
                     size_t rows, size_t depth, double *results);

#endif
