#include "nn/loops.h"

#include <math.h>
#include <string.h>

/* The pixels of a window that lie inside the image, along one axis: first, first + dilation, ...,
 * below end. */
struct span {
    size_t first, end;
};

static struct span window(size_t out, size_t stride, size_t padding, size_t kernel, size_t dilation,
                          size_t size)
{
    ptrdiff_t first = (ptrdiff_t)(out * stride) - (ptrdiff_t)padding;
    ptrdiff_t end = first + (ptrdiff_t)((kernel - 1) * dilation) + 1;
    if (first < 0) { /* skips the pixels before the image without a loop: there can be 2^30 */
        first += (-first + (ptrdiff_t)dilation - 1) / (ptrdiff_t)dilation * (ptrdiff_t)dilation;
    }
    struct span span = {(size_t)first, end < (ptrdiff_t)size ? (size_t)end : size};
    return span;
}

/* Returns the number of windows that take about 10 us together, or 1 for large windows. */
static size_t windows_between_polls(const struct max_pool2d *p)
{
    return (1 << 14) / larger(size_product_or_max(p->kernel.h, p->kernel.w), 1) + 1;
}

#define ELEMENT float
#define POSITION int32_t
#define NAME(loop) loop##_f32
#include "nn/loops_template.h"

#define ELEMENT double
#define POSITION int64_t
#define NAME(loop) loop##_f64
#include "nn/loops_template.h"

#define LOOPS(type) \
    { \
        .relu = relu_##type, \
        .relu_gradient = relu_gradient_##type, \
        .all_finite = all_finite_##type, \
        .add_sum = add_sum_##type, \
        .scatter = scatter_##type, \
        .gather = gather_##type, \
        .gather_nonzero = gather_nonzero_##type, \
        .copy_grouped = copy_grouped_##type, \
        .repeat_ends = repeat_ends_##type, \
        .every = every_##type, \
        .widen_positions = widen_positions_##type, \
        .max_pool = max_pool_##type, \
    }

const struct layer_loops layer_loops[COMPUTE_TYPES] = {
    [COMPUTE_F32] = LOOPS(f32),
    [COMPUTE_F64] = LOOPS(f64),
};
