#pragma once

#include "base/cancel.h"
#include "vectors/dtype.h"
#include "vectors/plan.h"

/* The result that a call computes from the sums of a pair of rows. */
enum op {
    OP_COSINE,    /* x.y / (max(|x|, eps) max(|y|, eps)) */
    OP_DISTANCE,  /* 1 - cosine */
    OP_DOT,       /* x.y */
    OP_NORM,      /* |x| */
    OP_NORMALIZE, /* x / max(|x|, eps): has the shape of x */
};

/*
 * One call: operands of any layout, a planned contraction, and a float result with the plan's out
 * strides. Members whose comments begin with "All pairs" apply only to PLAN_GEMM.
 */
struct reduction {
    enum op op;
    double eps;
    struct operand x, y; /* y is unused by OP_NORM and OP_NORMALIZE */
    enum dtype out_dtype;
    char *out;
    const struct plan *plan;
    /* All pairs of one batch: receives the cosines; out is unused. NULL: out gets the scores. */
    const struct score_receiver *receiver;
    /* All pairs: treats the sides as different rows even if they are the same in memory. */
    bool distinct;
    /*
     * All pairs: left row r is row x_numbers[r] of x, which begins x_numbers[r] * x_step bytes
     * after x.data. NULL: left row r begins where the plan's axis places it. y_numbers and y_step
     * place right rows in y in the same way.
     */
    const size_t *x_numbers, *y_numbers;
    ptrdiff_t x_step, y_step;
    int workers; /* All pairs: at most this many threads; 0: the pool's number. */
    /*
     * May be NULL. Only PLAN_GEMM counts progress, by outputs. If both sides are the same
     * rows, only outputs on and above the diagonal count.
     */
    struct cancel_token *token;
};

static inline bool op_has_one_operand(enum op op)
{
    return op == OP_NORM || op == OP_NORMALIZE;
}

/* Runs a plan of rows or columns. Returns 0, or -1 when memory runs out. */
int reduce(const struct reduction *reduction);

/*
 * The fast path for at most FEW_ROWS short contiguous rows of float32 or float64: it needs no plan,
 * threads or memory. results has `rows` doubles. Returns false if the general path must run,
 * because rows have no elements or doubles need scaling.
 */
enum { FEW_ROWS = 64 };
bool reduce_few_rows(enum op op, double eps, enum dtype dtype, const void *x, const void *y,
                     size_t rows, size_t depth, double *results);
