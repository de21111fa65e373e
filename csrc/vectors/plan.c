#include "vectors/plan.h"

#include "base/scratch.h"

/*
 * Returns the absolute value of a stride. An array without elements can have any stride, even
 * PTRDIFF_MIN, whose absolute value does not fit a ptrdiff_t.
 */
static size_t magnitude(ptrdiff_t stride)
{
    return stride < 0 ? 0 - (size_t)stride : (size_t)stride;
}

/* Returns the sum of the absolute strides of both operands along an axis, in bytes. */
static size_t distance(const struct axis *axis)
{
    return size_sum_or_max(magnitude(axis->x), magnitude(axis->y));
}

/* Inserts an axis so that distances stay in descending order. Among equal distances, the new axis
 * comes last. */
static void axes_add(struct axes *axes, const struct axis *axis)
{
    int i = axes->count++;
    for (; i > 0 && distance(&axes->at[i - 1]) < distance(axis); i--) {
        axes->at[i] = axes->at[i - 1];
    }
    axes->at[i] = *axis;
}

static bool is_multiple(ptrdiff_t outer, ptrdiff_t inner, size_t size)
{
    ptrdiff_t product;
    return !__builtin_mul_overflow(inner, size, &product) && outer == product;
}

/* Merges neighbouring axes if one stride can step through both. */
static void axes_merge(struct axes *axes)
{
    int last = 0;
    for (int i = 1; i < axes->count; i++) {
        struct axis *outer = &axes->at[last];
        const struct axis *inner = &axes->at[i];
        const size_t size = inner->size;
        struct axis merged = *inner;
        if (is_multiple(outer->x, inner->x, size) && is_multiple(outer->y, inner->y, size) &&
            is_multiple(outer->out, inner->out, size) &&
            size_mul(outer->size, size, &merged.size)) {
            *outer = merged;
        } else {
            axes->at[++last] = *inner;
        }
    }
    axes->count = axes->count > 0 ? last + 1 : 0;
}

size_t axes_size(const struct axes *axes)
{
    size_t size = 1;
    for (int i = 0; i < axes->count; i++) {
        size = size_product_or_max(size, axes->at[i].size);
    }
    return size;
}

struct offsets axes_offsets_many(const struct axes *axes, size_t index)
{
    struct offsets offsets = {0, 0, 0};
    for (int i = axes->count - 1; i >= 0 && index > 0; i--) {
        const struct axis *axis = &axes->at[i];
        ptrdiff_t step = (ptrdiff_t)(i == 0 ? index : index % axis->size);
        index = i == 0 ? 0 : index / axis->size;
        offsets.x += step * axis->x;
        offsets.y += step * axis->y;
        offsets.out += step * axis->out;
    }
    return offsets;
}

/*
 * Picks rows if both operands are contiguous along the innermost reduced axis, or if no outer axis
 * has a smaller distance than that axis. Otherwise picks columns.
 */
static enum plan_driver reduction_driver(const struct plan *plan,
                                         const struct plan_request *request)
{
    if (plan->reduced.count == 0 || plan->outer.count == 0) {
        return PLAN_ROWS;
    }
    const struct axis *reduced = &plan->reduced.at[plan->reduced.count - 1];
    const struct axis *outer = &plan->outer.at[plan->outer.count - 1];
    bool contiguous = reduced->x == request->x_item && reduced->y == request->y_item;
    return !contiguous && distance(outer) < distance(reduced) ? PLAN_COLUMNS : PLAN_ROWS;
}

/* Returns the smallest absolute stride of the result along these axes, in bytes. */
static size_t closest_result(const struct axes *axes)
{
    size_t closest = SIZE_MAX;
    for (int i = 0; i < axes->count; i++) {
        const size_t step = magnitude(axes->at[i].out);
        closest = step < closest ? step : closest;
    }
    return closest;
}

static void axes_swap_operands(struct axes *axes)
{
    for (int i = 0; i < axes->count; i++) {
        struct axis *axis = &axes->at[i];
        *axis = (struct axis){axis->size, axis->y, axis->x, axis->out};
    }
}

bool plan_make(struct plan *plan, const struct plan_request *request)
{
    plan->outputs = plan->depth = 1;
    plan->reduced.count = plan->outer.count = plan->left.count = plan->right.count = 0;
    bool any_left = false, any_right = false;
    for (int i = 0; i < request->ndim; i++) {
        const struct axis *axis = &request->axes[i];
        bool reduced = request->reduced >> i & 1;
        if (!size_mul(reduced ? plan->depth : plan->outputs, axis->size,
                      reduced ? &plan->depth : &plan->outputs)) {
            return false;
        }
        any_left |= !reduced && axis->size > 1 && axis->x != 0 && axis->y == 0;
        any_right |= !reduced && axis->size > 1 && axis->x == 0 && axis->y != 0;
    }
    bool gemm = any_left && any_right && !request->one_operand;
    for (int i = 0; i < request->ndim; i++) {
        const struct axis *axis = &request->axes[i];
        if (axis->size == 1) {
            continue;
        }
        if (request->reduced >> i & 1) {
            axes_add(&plan->reduced, axis);
        } else if (gemm && axis->x != 0 && axis->y == 0) {
            axes_add(&plan->left, axis);
        } else if (gemm && axis->x == 0 && axis->y != 0) {
            axes_add(&plan->right, axis);
        } else {
            axes_add(&plan->outer, axis);
        }
    }
    axes_merge(&plan->reduced);
    axes_merge(&plan->outer);
    axes_merge(&plan->left);
    axes_merge(&plan->right);
    plan->driver = gemm ? PLAN_GEMM : reduction_driver(plan, request);
    plan->swapped = gemm && closest_result(&plan->left) < closest_result(&plan->right);
    if (plan->swapped) {
        const struct axes left = plan->left;
        plan->left = plan->right;
        plan->right = left;
        axes_swap_operands(&plan->left);
        axes_swap_operands(&plan->right);
        axes_swap_operands(&plan->outer);
        axes_swap_operands(&plan->reduced);
    }
    return true;
}

void plan_pairs(struct plan *plan, const struct axis *left, const struct axis *right,
                const struct axis *reduced)
{
    plan->driver = PLAN_GEMM;
    plan->swapped = false;
    plan->outputs = size_product_or_max(left->size, right->size);
    plan->depth = reduced->size;
    plan->outer.count = 0;
    plan->left.count = plan->right.count = plan->reduced.count = 1;
    plan->left.at[0] = *left;
    plan->right.at[0] = *right;
    plan->reduced.at[0] = *reduced;
}
