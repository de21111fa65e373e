/*
 * Checks vectors/plan.c with the extreme strides that empty arrays can have. Checks all pairs over
 * two reduced axes, which no Python function computes. tests/fuzz covers ordinary arrays.
 */
#include <limits.h>

#include "check.h"
#include "pairwise/contract.h"
#include "guarded.h"

enum { ITEM = 8 };

static void plan_of(struct plan *plan, const struct axis *axes, int ndim, uint64_t reduced)
{
    const struct plan_request request = {
        .ndim = ndim, .axes = axes, .reduced = reduced, .x_item = ITEM, .y_item = ITEM};
    CHECK(plan_make(plan, &request), "sizes fit");
}

/* Products and magnitudes of these strides overflow. The undefined-behaviour sanitizer reports
 * every overflow in the plan. */
static void test_strides_of_any_size(void)
{
    static const ptrdiff_t strides[] = {
        PTRDIFF_MIN, PTRDIFF_MIN / 2, PTRDIFF_MAX, PTRDIFF_MAX / 2 + 1, -1, 0};
    const size_t n = sizeof strides / sizeof *strides;
    for (size_t i = 0; i < n * n; i++) {
        const struct axis axes[] = {
            {5, strides[i % n], strides[i / n], strides[i % n]},
            {7, strides[i / n], strides[i % n], strides[i / n]},
            {0, strides[i % n], strides[i % n], 0},
        };
        for (uint64_t reduced = 0; reduced < 8; reduced++) {
            struct plan plan;
            plan_of(&plan, axes, 3, reduced);
            CHECK(plan.outputs == 0 || plan.depth == 0, "no elements");
        }
    }
}

/* The size of the inner axis times its stride wraps around to the stride of the outer axis. The
 * plan must not merge the two axes. */
static void test_no_merge_by_overflow(void)
{
    const struct axis axes[] = {{3, 0, 0, 0},
                                {4, (ptrdiff_t)1 << 62, (ptrdiff_t)1 << 62, (ptrdiff_t)1 << 62},
                                {0, ITEM, ITEM, ITEM}};
    struct plan plan;
    plan_of(&plan, axes, 3, 4);
    CHECK(plan.outer.count == 2, "%d axes", plan.outer.count);
}

/* Sums x[i] . y[j] over two axes, where x does not vary along the inner one. A row of x is then not
 * contiguous, although the stride of its outer axis is the size of an element. */
static void test_pairs_over_two_axes(void)
{
    enum { ROWS = 3, A = 4, B = 2 };
    double *x = guarded_alloc(ROWS * A * sizeof *x), *y = guarded_alloc(ROWS * A * B * sizeof *y),
           *out = guarded_alloc(ROWS * ROWS * sizeof *out);
    for (size_t i = 0; i < ROWS * A * B; i++) {
        x[i / B] = (double)(i / B);
        y[i] = (double)(i % 5);
    }
    const struct axis axes[] = {
        {ROWS, A * ITEM, 0, ROWS * ITEM},
        {ROWS, 0, A * B * ITEM, ITEM},
        {A, ITEM, B * ITEM, 0},
        {B, 0, ITEM, 0},
    };
    struct plan plan;
    plan_of(&plan, axes, 4, 12);
    CHECK(plan.driver == PLAN_GEMM && plan.reduced.count == 2, "%d reduced axes",
          plan.reduced.count);
    const struct operand of_x = {.data = (const char *)x, .dtype = DTYPE_F64, .aligned = true},
                         of_y = {.data = (const char *)y, .dtype = DTYPE_F64, .aligned = true};
    const struct reduction call = {.op = OP_DOT,
                                   .x = of_x,
                                   .y = of_y,
                                   .out_dtype = DTYPE_F64,
                                   .out = (char *)out,
                                   .plan = &plan};
    CHECK(contract(&call) == 0, "memory");
    for (size_t i = 0; i < ROWS * ROWS; i++) {
        double expected = 0.0;
        for (size_t k = 0; k < A * B; k++) {
            expected += x[i / ROWS * A + k / B] * y[i % ROWS * A * B + k];
        }
        CHECK(out[i] == expected, "pair %zu: %g, not %g", i, out[i], expected);
    }
    guarded_release("all pairs");
}

int main(void)
{
    test_strides_of_any_size();
    test_no_merge_by_overflow();
    test_pairs_over_two_axes();
    return finish("plan");
}
