#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Every call is a contraction of two arrays whose axes have roles: reduced, left, right or outer.
 * The plan derives the roles from shapes and strides alone, drops axes of size 1, merges axes that
 * are contiguous with each other, and picks the driver.
 */

enum { PLAN_MAX_AXES = 64 };

/*
 * One axis: its size, and its byte strides in the first operand, the second operand and the result.
 * An operand that is broadcast along the axis has stride 0.
 */
struct axis {
    size_t size;
    ptrdiff_t x, y, out;
};

struct axes {
    int count;
    struct axis at[PLAN_MAX_AXES]; /* outermost first */
};

enum plan_driver {
    PLAN_ROWS,    /* computes one sum after another, along the reduced axes */
    PLAN_COLUMNS, /* computes together the sums of outputs that are close in memory */
    PLAN_GEMM,    /* left x right: a blocked matrix product */
};

struct plan {
    enum plan_driver driver;
    /*
     * The operands are swapped: x is the caller's y. Only PLAN_GEMM swaps them, to make the
     * innermost axis of the result a right axis.
     */
    bool swapped;
    /* The number of sums. plan_pairs accepts sides of any size, and sets SIZE_MAX on overflow. */
    size_t outputs;
    size_t depth; /* terms of each sum */
    struct axes reduced;
    /*
     * All other axes, largest strides first. With PLAN_GEMM, these are the batch axes: both
     * operands vary along them, or both are broadcast.
     */
    struct axes outer;
    struct axes left;  /* PLAN_GEMM: axes that only x has */
    struct axes right; /* PLAN_GEMM: axes that only y has */
};

/* The input of a plan: the broadcast operands. */
struct plan_request {
    int ndim;
    const struct axis *axes;  /* [ndim], outermost first */
    uint64_t reduced;         /* bit i: axis i is reduced */
    ptrdiff_t x_item, y_item; /* bytes of an element */
    bool one_operand;         /* there is no y; axes[i].y is axes[i].x */
};

/* Makes a plan. Returns false if a size overflows. */
bool plan_make(struct plan *plan, const struct plan_request *request);

/* Plans the scores of every row of x with every row of y. The axes may have any size. */
void plan_pairs(struct plan *plan, const struct axis *left, const struct axis *right,
                const struct axis *reduced);

/* Returns the product of the sizes, or SIZE_MAX on overflow. Axes of plan_make do not overflow. */
size_t axes_size(const struct axes *axes);

/*
 * The byte offsets of element `index` in x, y and out. Elements are counted along all axes; the
 * innermost axis varies fastest.
 */
struct offsets {
    ptrdiff_t x, y, out;
};
struct offsets axes_offsets_many(const struct axes *axes, size_t index);

static inline struct offsets axes_offsets(const struct axes *axes, size_t index)
{
    if (axes->count > 1) {
        return axes_offsets_many(axes, index);
    }
    const ptrdiff_t step = axes->count == 0 ? 0 : (ptrdiff_t)index;
    const struct axis *axis = &axes->at[0];
    return step == 0 ? (struct offsets){0, 0, 0}
                     : (struct offsets){step * axis->x, step * axis->y, step * axis->out};
}
