/*
 * The gradient of a convolution's input. One matmul multiplies the weights of all filters at each
 * channel and kernel tap, (channels * taps, filters), with the gradient of the output, (filters,
 * pixels). Each row of the product is then added to the input pixels that its tap reads.
 *
 * Order of summation: over filters as in matmul.c, then tap by tap in each block of output rows,
 * block after block. Shapes alone determine the blocks.
 */
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "nn/layers.h"
#include "vectors/reduce.h"

enum {
    BLOCK_BYTES = 128 << 10
}; /* limit of the products that are buffered before they are added */

struct grad_input_run {
    const struct conv2d_grad_input *call;
    const struct conv2d *conv;
    add_rows_kernel *add_rows;
    size_t size, channels, filters, window;
    size_t block_rows, block_channels; /* output rows and channels of one matmul */
    char *scratch;
    size_t worker_scratch, product_bytes;
};

/* to[i * step] += from[i] for i < n. */
#define ADD_STRIDED(type) \
    static void add_strided_##type(type *to, size_t step, const type *from, size_t n) \
    { \
        for (size_t i = 0; i < n; i++) { \
            to[i * step] += from[i]; \
        } \
    }
ADD_STRIDED(float)
ADD_STRIDED(double)

/* Outputs [first, end) along one axis whose input pixel at a given tap is inside the image.
 */
struct output_range {
    size_t first, end;
};

/* The range of such outputs among [from, from + n) for the tap at distance x from the start of the
 * window, in input pixels. */
static struct output_range range_inside(size_t from, size_t n, size_t x, size_t padding,
                                        size_t stride, size_t size)
{
    const size_t most = size + padding, before = x >= padding ? 0 : padding - x + stride - 1,
                 after = most <= x ? 0 : most - x + stride - 1;
    struct output_range part = {larger(from, stride == 1 ? before : before / stride),
                                smaller(from + n, stride == 1 ? after : after / stride)};
    return part;
}

/* Adds the products (rows, out.w) of one tap, for the output rows from y on, to the pixels of one
 * channel. */
static void add_tap(const struct grad_input_run *r, size_t kernel_y, size_t kernel_x, size_t y,
                    size_t rows, const char *products, char *plane)
{
    const struct conv2d *c = r->conv;
    const size_t x = kernel_x * c->dilation.w, down = kernel_y * c->dilation.h;
    const struct output_range columns =
                                  range_inside(0, c->out.w, x, c->padding.w, c->stride.w, c->in.w),
                              lines =
                                  range_inside(y, rows, down, c->padding.h, c->stride.h, c->in.h);
    const size_t first = columns.first, end = columns.end, top = lines.first, bottom = lines.end;
    if (first >= end || top >= bottom) {
        return;
    }
    char *to = plane + ((top * c->stride.h + down - c->padding.h) * c->in.w + first * c->stride.w +
                        x - c->padding.w) *
                           r->size;
    const char *from = products + ((top - y) * c->out.w + first) * r->size;
    if (c->stride.w == 1) {
        r->add_rows(to, c->stride.h * c->in.w, from, c->out.w, bottom - top, end - first);
        return;
    }
    for (size_t i = 0; i < bottom - top;
         i++, to += c->stride.h * c->in.w * r->size, from += c->out.w * r->size) {
        if (r->size == sizeof(float)) {
            add_strided_float((float *)to, c->stride.w, (const float *)from, end - first);
        } else {
            add_strided_double((double *)to, c->stride.w, (const double *)from, end - first);
        }
    }
}

static void image_task(void *context, size_t task, size_t worker)
{
    const struct grad_input_run *r = context;
    const struct conv2d *c = r->conv;
    const size_t image = task / c->groups, group = task % c->groups, pixels = c->out.h * c->out.w,
                 plane = c->in.h * c->in.w * r->size;
    const size_t taps = r->channels * r->window;
    char *scratch = r->scratch + worker * r->worker_scratch, *products = scratch + r->product_bytes;
    char *planes = (char *)r->call->input + (image * c->in_channels + group * r->channels) * plane;
    const char *maps =
        (const char *)c->output + (image * c->out_channels + group * r->filters) * pixels * r->size;
    memset(planes, 0, r->channels * plane);
    for (size_t y = 0, rows; y < c->out.h; y += rows) {
        rows = smaller(c->out.h - y, r->block_rows);
        for (size_t channel = 0, channels; channel < r->channels && !cancel_poll_here();
             channel += channels) {
            channels = smaller(r->channels - channel, r->block_channels);
            const struct matmul product = {
                .compute = c->compute,
                .rows = channels * r->window,
                .columns = rows * c->out.w,
                .depth = r->filters,
                .left = (const char *)c->weight +
                        (group * r->filters * taps + channel * r->window) * r->size,
                .left_step = 1,
                .left_next = taps,
                .right = maps + y * c->out.w * r->size,
                .right_step = pixels,
                .output = products,
                .output_step = rows * c->out.w,
            };
            matmul_block(&product, scratch);
            const char *from = products;
            for (size_t i = 0; i < channels; i++) {
                for (size_t u = 0; u < c->kernel.h; u++) {
                    for (size_t v = 0; v < c->kernel.w;
                         v++, from += product.output_step * r->size) {
                        add_tap(r, u, v, y, rows, from, planes + (channel + i) * plane);
                    }
                }
            }
        }
    }
}

int conv2d_grad_input(const struct conv2d_grad_input *call)
{
    const struct conv2d *c = &call->conv;
    struct grad_input_run r = {
        .call = call,
        .conv = c,
        .add_rows = c->compute == COMPUTE_F64 ? kernels_current()->layers->add_rows_f64
                                              : kernels_current()->layers->add_rows_f32,
        .size = compute_size(c->compute),
        .channels = c->in_channels / c->groups,
        .filters = c->out_channels / c->groups,
        .window = c->kernel.h * c->kernel.w,
    };
    if (c->images == 0) { /* the other sizes can then be arbitrary */
        return 0;
    }
    const size_t row =
        size_product_or_max(size_product_or_max(r.window, larger(c->out.w, 1)), r.size);
    r.block_rows = larger(smaller(BLOCK_BYTES / row, c->out.h), 1);
    r.block_channels = larger(smaller(BLOCK_BYTES / row / r.block_rows, r.channels), 1);
    r.product_bytes = matmul_scratch(c->compute);
    r.worker_scratch = size_sum_or_max(
        r.product_bytes, scratch_round(size_product_or_max(r.block_channels * r.block_rows, row)));
    size_t tasks;
    if (!size_mul(c->images, c->groups, &tasks)) {
        return -1; /* more tasks than size_t can count */
    }
    const int threads =
        (int)smaller((size_t)thread_count_for(
                         conv2d_outputs(c), size_product_or_max(r.channels, r.window), GRAIN_GEMM),
                     larger(tasks, 1));
    if ((r.scratch = scratch_alloc(size_product_or_max((size_t)threads, r.worker_scratch))) ==
        NULL) {
        return -1;
    }
    pool_run(tasks, threads, image_task, &r, c->token);
    scratch_free(r.scratch);
    return 0;
}
