/*
 * The gradient of a convolution's input. A matmul multiplies the weights, (channels * taps,
 * filters), with the gradient of the output, (filters, pixels). Each row of the product belongs to
 * one channel and one kernel tap. It is added to the input pixels that this tap reads.
 *
 * Order of summation: over filters as in matmul.c, then tap by tap, then block of output rows by
 * block of output rows. Shapes alone determine the blocks.
 */
#include <string.h>

#include "conv2d/convolutions.h"

enum { BLOCK_BYTES = 128 << 10 }; /* limit of the products of one matmul */

struct grad_input_run {
    const struct conv2d_grad_input *call;
    const struct conv2d *conv;
    add_rows_kernel *add_rows;
    size_t size, channels, filters, taps;
    size_t block_rows, block_channels; /* output rows and channels of one matmul */
    char *scratch;
    /* Bytes. A worker's scratch memory holds the memory of matmul and, from byte `products` on, the
     * products. */
    size_t products, worker_scratch;
};

/* Outputs [first, end) along one axis. */
struct output_range {
    size_t first, end;
};

/* Returns the outputs among [from, from + n) whose tap lies inside the image of `size` pixels. The
 * tap is x pixels from the start of the kernel. */
static struct output_range range_inside(size_t from, size_t n, size_t x, size_t padding,
                                        size_t stride, size_t size)
{
    const size_t most = size + padding, before = x >= padding ? 0 : padding - x + stride - 1,
                 after = most <= x ? 0 : most - x + stride - 1;
    struct output_range range = {larger(from, stride == 1 ? before : before / stride),
                                 smaller(from + n, stride == 1 ? after : after / stride)};
    return range;
}

/* Adds the products (rows, out.w) of one tap and the output rows [y, y + rows) to one channel. */
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
    r->add_rows(to, c->stride.h * c->in.w, c->stride.w, from, c->out.w, bottom - top, end - first);
}

static void image_task(void *context, size_t task, size_t worker)
{
    const struct grad_input_run *r = context;
    const struct conv2d *c = r->conv;
    const size_t image = task / c->groups, group = task % c->groups, pixels = c->out.h * c->out.w,
                 plane = c->in.h * c->in.w * r->size;
    const size_t filter_size = r->channels * r->taps;
    char *scratch = r->scratch + worker * r->worker_scratch, *products = scratch + r->products;
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
                .rows = channels * r->taps,
                .columns = rows * c->out.w,
                .depth = r->filters,
                .left = (const char *)c->weight +
                        (group * r->filters * filter_size + channel * r->taps) * r->size,
                .left_step = 1,
                .left_next = filter_size,
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
        .add_rows = kernels_current()->layers[c->compute].add_rows,
        .size = compute_size(c->compute),
        .channels = c->in_channels / c->groups,
        .filters = c->out_channels / c->groups,
        .taps = c->kernel.h * c->kernel.w,
    };
    if (c->images == 0) { /* an empty array: its other sizes may be huge */
        return 0;
    }
    const size_t row =
        size_product_or_max(size_product_or_max(r.taps, larger(c->out.w, 1)), r.size);
    r.block_rows = larger(smaller(BLOCK_BYTES / row, c->out.h), 1);
    r.block_channels = larger(smaller(BLOCK_BYTES / row / r.block_rows, r.channels), 1);
    scratch_add(&r.worker_scratch, 1, matmul_scratch(c->compute));
    r.products = scratch_add(&r.worker_scratch, r.block_channels * r.block_rows, row);
    size_t tasks;
    if (!size_mul(c->images, c->groups, &tasks)) {
        return -1; /* more tasks than size_t can count */
    }
    const int threads =
        layer_threads(conv2d_outputs(c), size_product_or_max(r.channels, r.taps), tasks);
    if ((r.scratch = scratch_alloc(size_product_or_max((size_t)threads, r.worker_scratch))) ==
        NULL) {
        return -1;
    }
    pool_run(tasks, threads, image_task, &r, c->token);
    scratch_free(r.scratch);
    return 0;
}
