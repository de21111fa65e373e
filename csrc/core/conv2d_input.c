/*
 * The gradient of a convolution's input: for each channel and place of the kernel, the filters' weights there times the output's
 * gradient, a product of matrices, whose rows are then added to the pixels that the place saw.
 *
 * Order of summation: over filters as in product.c; the places' parts in order, band of rows by band, which depend on shapes alone.
 */
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "core/layers.h"
#include "core/reduce.h"

enum { BLOCK_BYTES = 128 << 10 }; /* of products that are kept until they are added */

struct run {
    const struct conv2d_input *call;
    const struct conv2d *conv;
    size_t size, channels, filters, window;
    size_t band, together;      /* rows of the output, and channels, whose products are made at a time */
    char *scratch;
    size_t scratch_of_worker, product_bytes;
};

#define ADD_ROW(type)                                                                                                       \
    static void add_row_##type(type *restrict to, const type *restrict from, size_t n, size_t step)                         \
    {                                                                                                                       \
        if (step == 1) {                                                                                                    \
            for (size_t i = 0; i < n; i++) {                                                                                \
                to[i] += from[i];                                                                                           \
            }                                                                                                               \
            return;                                                                                                         \
        }                                                                                                                   \
        for (size_t i = 0; i < n; i++) {                                                                                    \
            to[i * step] += from[i];                                                                                        \
        }                                                                                                                   \
    }
ADD_ROW(float)
ADD_ROW(double)

/* The columns first .. end-1 of the output whose window has its column x inside the image. */
static void columns_inside(const struct conv2d *c, size_t x, size_t *first, size_t *end)
{
    const size_t padding = c->padding.w, stride = c->stride.w, most = c->in.w + padding;
    *first = x >= padding ? 0 : (padding - x + stride - 1) / stride;
    *end = most <= x ? 0 : smaller((most - x + stride - 1) / stride, c->out.w);
}

/* One place's products, of some rows of the output, to the pixels of one channel. */
static void add_place(const struct run *r, size_t place, size_t y, size_t rows, const char *products, char *plane)
{
    const struct conv2d *c = r->conv;
    const size_t x = place % c->kernel.w * c->dilation.w, down = place / c->kernel.w * c->dilation.h;
    size_t first, end;
    columns_inside(c, x, &first, &end);
    for (size_t i = 0; i < rows && first < end; i++) {
        const size_t padded = (y + i) * c->stride.h + down, row = padded - c->padding.h;
        if (padded < c->padding.h || row >= c->in.h) {
            continue;
        }
        char *to = plane + (row * c->in.w + first * c->stride.w + x - c->padding.w) * r->size;
        const char *from = products + (i * c->out.w + first) * r->size;
        if (r->size == sizeof(float)) {
            add_row_float((float *)to, (const float *)from, end - first, c->stride.w);
        } else {
            add_row_double((double *)to, (const double *)from, end - first, c->stride.w);
        }
    }
}

static void image_task(void *context, size_t task, size_t worker)
{
    const struct run *r = context;
    const struct conv2d *c = r->conv;
    const size_t image = task / c->groups, group = task % c->groups, pixels = c->out.h * c->out.w, plane = c->in.h * c->in.w * r->size;
    const size_t places = r->channels * r->window;
    char *scratch = r->scratch + worker * r->scratch_of_worker, *products = scratch + r->product_bytes;
    char *planes = (char *)r->call->input + (image * c->in_channels + group * r->channels) * plane;
    const char *maps = (const char *)c->output + (image * c->out_channels + group * r->filters) * pixels * r->size;
    memset(planes, 0, r->channels * plane);
    for (size_t y = 0, rows; y < c->out.h; y += rows) {
        rows = smaller(c->out.h - y, r->band);
        for (size_t channel = 0, some; channel < r->channels; channel += some) {
            some = smaller(r->channels - channel, r->together);
            const struct product product = {
                .work = c->work,
                .rows = some * r->window,
                .columns = rows * c->out.w,
                .depth = r->filters,
                .left = (const char *)c->weight + (group * r->filters * places + channel * r->window) * r->size,
                .left_step = 1,
                .left_next = places,
                .right = maps + y * c->out.w * r->size,
                .right_step = pixels,
                .output = products,
                .output_step = rows * c->out.w,
            };
            product_block(&product, scratch);
            for (size_t p = 0; p < product.rows; p++) {
                add_place(r, p % r->window, y, rows, products + p * product.output_step * r->size, planes + (channel + p / r->window) * plane);
            }
        }
    }
}

int conv2d_input(const struct conv2d_input *call)
{
    const struct conv2d *c = &call->conv;
    struct run r = {
        .call = call,
        .conv = c,
        .size = work_size(c->work),
        .channels = c->in_channels / c->groups,
        .filters = c->out_channels / c->groups,
        .window = c->kernel.h * c->kernel.w,
    };
    const size_t row = r.window * larger(c->out.w, 1) * r.size;
    r.band = larger(smaller(BLOCK_BYTES / row, c->out.h), 1);
    r.together = larger(smaller(BLOCK_BYTES / (row * r.band), r.channels), 1);
    r.product_bytes = product_scratch(c->work);
    r.scratch_of_worker = r.product_bytes + scratch_round(r.together * r.band * row);
    const size_t tasks = c->images * c->groups;
    const int threads = (int)smaller((size_t)threads_for(c->images * c->out_channels * c->out.h * c->out.w, r.channels * r.window, WORK_OF_TILES), larger(tasks, 1));
    size_t bytes;
    if (!size_mul((size_t)threads, r.scratch_of_worker, &bytes) || (r.scratch = scratch_alloc(bytes)) == NULL) {
        return -1;
    }
    pool_run(tasks, threads, image_task, &r, NULL);
    scratch_free(r.scratch);
    return 0;
}
