/*
 * Convolution as an implicit matrix product: the filters of a group times the patches of an image. A patch is gathered
 * when the tiles driver asks for it, so the matrix of all patches never exists.
 */
#include <string.h>

#include "core/layers.h"
#include "core/tiles.h"

static size_t depth_of(const struct conv2d *c)
{
    return c->in_channels / c->groups * c->kernel.h * c->kernel.w;
}

/* Rows: output channels of the batch's group. */
static void filter_rows(const void *context, const struct tiles_rows *wanted)
{
    const struct conv2d *c = context;
    const size_t first = wanted->batch % c->groups * (c->out_channels / c->groups) + wanted->first;
    for (size_t r = 0; r < wanted->count; r++) {
        wanted->rows[r] = (const char *)c->weight + ((first + r) * depth_of(c) + wanted->k) * work_size(c->work);
    }
}

/* One row of one channel's window: kernel columns column .. column+n-1 at kernel row `row`; zeros outside the image. */
static void copy_window_row(const struct conv2d *c, const char *plane, size_t pixel, size_t row, size_t column, size_t n, char *to)
{
    const size_t size = work_size(c->work);
    const ptrdiff_t y = (ptrdiff_t)(pixel / c->out.w * c->stride.h + row * c->dilation.h) - (ptrdiff_t)c->padding.h;
    ptrdiff_t x = (ptrdiff_t)(pixel % c->out.w * c->stride.w + column * c->dilation.w) - (ptrdiff_t)c->padding.w;
    if (y < 0 || y >= (ptrdiff_t)c->in.h) {
        memset(to, 0, n * size);
        return;
    }
    const char *line = plane + (size_t)y * c->in.w * size;
    if (c->dilation.w == 1 && x >= 0 && x + (ptrdiff_t)n <= (ptrdiff_t)c->in.w) {
        memcpy(to, line + (size_t)x * size, n * size);
        return;
    }
    for (size_t i = 0; i < n; i++, x += (ptrdiff_t)c->dilation.w, to += size) {
        if (x >= 0 && x < (ptrdiff_t)c->in.w) {
            memcpy(to, line + (size_t)x * size, size);
        } else {
            memset(to, 0, size);
        }
    }
}

/* n elements from k on of a patch, which run over the group's channels, kernel rows and kernel columns. */
static void gather_patch(const struct conv2d *c, const char *image, size_t pixel, size_t k, size_t n, char *to)
{
    const size_t window = c->kernel.h * c->kernel.w, plane_bytes = c->in.h * c->in.w * work_size(c->work);
    for (size_t run; n > 0; n -= run, k += run, to += run * work_size(c->work)) {
        const size_t in_window = k % window, column = in_window % c->kernel.w;
        run = c->kernel.w - column < n ? c->kernel.w - column : n;
        copy_window_row(c, image + k / window * plane_bytes, pixel, in_window / c->kernel.w, column, run, to);
    }
}

/* Rows: output pixels. */
static void patch_rows(const void *context, const struct tiles_rows *wanted)
{
    const struct conv2d *c = context;
    const size_t first_channel = wanted->batch / c->groups * c->in_channels + wanted->batch % c->groups * (c->in_channels / c->groups);
    const char *image = (const char *)c->input + first_channel * c->in.h * c->in.w * work_size(c->work);
    for (size_t r = 0; r < wanted->count; r++) {
        char *to = wanted->buffers + r * wanted->stride;
        gather_patch(c, image, wanted->first + r, wanted->k, wanted->n, to);
        wanted->rows[r] = to;
    }
}

/* One output channel, n consecutive pixels. */
static void store_pixels(const struct conv2d *c, size_t image, size_t channel, size_t pixel, size_t n, const double *sums)
{
    const size_t at = (image * c->out_channels + channel) * c->out.h * c->out.w + pixel;
    if (c->work == WORK_F64) {
        const double bias = c->bias == NULL ? 0.0 : ((const double *)c->bias)[channel];
        for (size_t i = 0; i < n; i++) {
            ((double *)c->output)[at + i] = sums[i] + bias;
        }
    } else {
        const double bias = c->bias == NULL ? 0.0 : ((const float *)c->bias)[channel];
        for (size_t i = 0; i < n; i++) {
            ((float *)c->output)[at + i] = (float)(sums[i] + bias);
        }
    }
}

static void store_tile(const void *context, const struct tiles_block *b)
{
    const struct conv2d *c = context;
    const size_t first = b->batch % c->groups * (c->out_channels / c->groups) + b->row;
    for (size_t r = 0; r < b->rows; r++) {
        store_pixels(c, b->batch / c->groups, first + r, b->column, b->columns, b->sums + r * b->step);
    }
}

int conv2d(const struct conv2d *c)
{
    const struct tiles tiles = {
        .work = c->work,
        .batches = c->images * c->groups,
        .left = c->out_channels / c->groups,
        .right = c->out.h * c->out.w,
        .depth = depth_of(c),
        .left_rows = filter_rows,
        .right_rows = patch_rows,
        .finish = store_tile,
        .context = c,
    };
    return tiles_run(&tiles);
}
