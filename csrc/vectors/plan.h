#ifndef COSSIM_VECTORS_PLAN_H
#define COSSIM_VECTORS_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Every call is a contraction of two arrays whose axes have roles. The plan finds the roles from
 * shapes and strides alone, throws out axes of size 1, merges axes that lie behind one another, and
 * picks the driver.
 */

enum { PLAN_MAX_AXES = 64 };

/* Byte strides of the first operand, the second, and the result. A broadcast axis has stride 0. */
struct axis {
    size_t size;
    ptrdiff_t x, y, out;
};

struct axes {
    int count;
    struct axis at[PLAN_MAX_AXES]; /* outermost first */
};

enum plan_driver {
    PLAN_ROWS,    /* one sum after another along the reduced axes */
    PLAN_COLUMNS, /* many sums side by side: another axis is closer in memory than the reduced ones
                   */
    PLAN_GEMM,    /* left x right: a blocked matrix product */
};

struct plan {
    enum plan_driver driver;
    bool swapped;   /* the operands change places: x is what the caller calls y (PLAN_GEMM, so that
                       the result's inner axis is a right one) */
    size_t outputs; /* number of sums; of plan_pairs, which search has for any two sides, SIZE_MAX
                       where it is more */
    size_t depth;   /* terms of each */
    struct axes reduced;
    struct axes outer; /* all others, by falling distance in memory; with PLAN_GEMM only those that
                          both sides have */
    struct axes left;  /* PLAN_GEMM: axes that only x has */
    struct axes right; /* PLAN_GEMM: axes that only y has */
};

/* What to plan: the broadcast operands. */
struct plan_request {
    int ndim;
    const struct axis *axes;  /* [ndim], outermost first */
    uint64_t reduced;         /* bit i: axis i is reduced */
    ptrdiff_t x_item, y_item; /* bytes of an element */
    bool one_operand;         /* y is not there (its strides are those of x) */
};

/* False when a size overflows. */
bool plan_make(struct plan *plan, const struct plan_request *request);

/* Every row of x with every row of y, whatever the sizes: a PLAN_GEMM plan of one axis each. */
void plan_pairs(struct plan *plan, const struct axis *left, const struct axis *right,
                const struct axis *reduced);

/* The product of the sizes, or SIZE_MAX; of axes that plan_make made, exact. */
size_t axes_size(const struct axes *axes);

/* Where element `index` of the flattened axes lies: byte offsets of x, y and out. */
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

#endif
