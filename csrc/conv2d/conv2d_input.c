#include "conv2d/conv2d_input.h"

#include <string.h>

#include "nn/loops.h"

bool conv2d_may_fit(const struct conv2d *c)
{
    const double room = 64.0, largest = 0x1p52;
    const double h = (double)c->out.h * (double)c->stride.h +
                     (double)c->kernel.h * (double)c->dilation.h + (double)c->padding.h +
                     (double)c->stride.h;
    const double w = ((double)c->out.w + room) * (double)c->stride.w +
                     (double)c->kernel.w * (double)c->dilation.w + (double)c->padding.w;
    return h * w * ((double)c->in_channels + 1.0) * (double)compute_size(c->compute) < largest;
}

const struct kernels *conv2d_row_kernels(const struct conv2d *c)
{
    const struct kernels *wide = kernels_current();
    const size_t lanes = wide->layers[c->compute].lanes, all = size_parts(c->out.w, lanes) * lanes,
                 most_unused = wide->is_split ? lanes / 2 - 1 : all / 3;
    return wide->narrow != NULL && all - c->out.w > most_unused ? wide->narrow : wide;
}

size_t conv2d_input_rows(const struct conv2d *c, size_t rows)
{
    return (rows - 1) * c->stride.h + (c->kernel.h - 1) * c->dilation.h + 1;
}

bool conv2d_needs_copy(const struct conv2d *c)
{
    return c->padding.h != 0 || c->padding.w != 0 || c->stride.w > 1 ||
           conv2d_input_rows(c, c->out.h) > c->in.h ||
           c->out.w + (c->kernel.w - 1) * c->dilation.w > c->in.w;
}

void conv2d_copy_rows(const struct conv2d *c, const char *plane, size_t first, size_t rows,
                      size_t stride, size_t phase, char *to)
{
    const size_t size = compute_size(c->compute), pitch = phase * stride,
                 before = smaller(c->padding.w, pitch), n = smaller(c->in.w, pitch - before);
    for (size_t y = first; y < first + rows; y++, to += pitch * size) {
        if (y < c->padding.h || y - c->padding.h >= c->in.h) {
            memset(to, 0, pitch * size);
            continue;
        }
        const char *row = plane + (y - c->padding.h) * c->in.w * size;
        if (stride == 1) {
            if (before > 0) {
                memset(to, 0, before * size);
            }
            memcpy(to + before * size, row, n * size);
            memset(to + (before + n) * size, 0, (pitch - before - n) * size);
        } else {
            layer_loops[c->compute].copy_grouped(row, c->in.w, c->padding.w, stride, phase, to);
        }
    }
}
