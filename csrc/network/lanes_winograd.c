/*
 * Winograd's algorithm with lanes across images. The transform of a tile of all channels stays in
 * the L2 cache. A few filters are multiplied with it at a time, so that their products stay in L1
 * until they are transformed.
 */
#include "network/lanes_winograd.h"

#include <string.h>

#include "base/cancel.h"

enum {
    PART = 6,         /* filters, or channels, of a part */
    CHAIN_STEPS = 256 /* approximate limit of the terms of a chain */
};

/* The step from one sum of a transform to the next, in vectors. It is odd, because the sums of a
 * column are stored one after another, and with steps of a power of two they would evict each other
 * from L1. */
static size_t odd_step(size_t maps, size_t columns)
{
    return (maps * columns) | 1;
}

static size_t transform_bytes(const struct lanes_plan *p, size_t maps, size_t columns)
{
    return scratch_round(
        size_product_or_max(LANES_WINOGRAD_SUMS * p->lanes * p->size, odd_step(maps, columns)));
}

/* Parts have nearly equal sizes. */
static size_t part_size(size_t n)
{
    return size_parts(n, size_parts(n, PART));
}

/* A chain of the sums over `depth` maps and the columns of a kernel. */
static size_t chain_steps(size_t depth, size_t width)
{
    const size_t chains = size_parts(depth, larger(CHAIN_STEPS / width, 1));
    return size_parts(depth, chains) * width;
}

size_t lanes_winograd_conv2d_scratch(const struct lanes_plan *p, const struct lanes_stage *s)
{
    return transform_bytes(p, s->channels, s->in.pitch) +
           transform_bytes(p, part_size(s->filters), s->winograd.width);
}

/* One tile of the filters of a group from `filter` on. */
static void conv2d_tile(const struct lanes_plan *p, const struct lanes_stage *s, size_t group,
                        size_t tile, const char *transform, char *products, char *output,
                        char *choices, void *check)
{
    const struct lanes_winograd *w = &s->winograd;
    const struct layer *l = &s->layer;
    const size_t vector = p->lanes * p->size, part = part_size(s->filters),
                 in_step = odd_step(s->channels, s->in.pitch) * p->lanes,
                 depth = s->channels * l->kernel.w, row = tile * LANES_WINOGRAD_ROWS / s->unit,
                 chosen = s->out.size.h * s->out.size.w;
    const char *weight = w->filters + group * lanes_winograd_elements(s) * p->size;
    for (size_t f = 0, n; f < s->filters; f += n) {
        n = smaller(s->filters - f, part);
        const size_t out_step = odd_step(n, w->width) * p->lanes;
        struct lanes_conv c = {
            .filter_step = depth,
            .depth_step = 1,
            .pixel_offsets = w->columns,
            .tap_offsets = w->taps,
            .depth = depth,
            .chain = chain_steps(s->channels, l->kernel.w),
            .map_step = w->width * p->lanes,
            .output_offsets = w->columns,
        };
        for (size_t i = 0; i < LANES_WINOGRAD_SUMS; i++) {
            c.weight = weight + (i * s->filters + f) * depth * p->size;
            c.input = transform + i * in_step * p->size;
            c.output = products + i * out_step * p->size;
            p->kernels->conv(&c, n, w->width);
        }
        for (size_t r = 0; r < n; r++) {
            const size_t filter = group * s->filters + f + r;
            const struct lanes_winograd_output o = {
                .sums = products + r * w->width * vector,
                .sum_step = out_step,
                .n = w->width,
                .rows =
                    smaller(s->units * s->unit - tile * LANES_WINOGRAD_ROWS, LANES_WINOGRAD_ROWS),
                .bias = l->bias == NULL ? NULL : (const char *)l->bias + filter * p->size,
                .relu = s->relu,
                .pool = s->pool,
                .output =
                    output + (filter * s->out.plane + s->out.first + row * s->out.pitch) * vector,
                .row_step = s->out.pitch * p->lanes,
                .choices = choices == NULL
                               ? NULL
                               : choices + (filter * chosen + row * s->out.size.w) * vector,
                .choice_row_step = s->out.size.w * p->lanes,
                .check = check,
            };
            p->kernels->winograd_output(&o);
        }
    }
}

void lanes_winograd_conv2d(const struct lanes_plan *p, const struct lanes_stage *s,
                           const char *input, char *output, char *choices, char *scratch,
                           void *check)
{
    const size_t vector = p->lanes * p->size, pitch = s->in.pitch;
    char *products = scratch + transform_bytes(p, s->channels, pitch);
    for (size_t group = 0; group < s->layer.groups; group++) {
        for (size_t tile = 0; tile < s->winograd.tiles && !cancel_poll_here(); tile++) {
            for (size_t c = 0; c < s->channels; c++) {
                const size_t at =
                    (group * s->channels + c) * s->in.plane + tile * LANES_WINOGRAD_ROWS * pitch;
                p->kernels->winograd_input(scratch + c * pitch * vector,
                                           odd_step(s->channels, pitch) * p->lanes,
                                           input + at * vector, pitch * p->lanes, pitch);
            }
            conv2d_tile(p, s, group, tile, scratch, products, output, choices, check);
        }
    }
}

size_t lanes_winograd_grad_scratch(const struct lanes_plan *p, const struct lanes_stage *s,
                                   size_t pitch)
{
    return size_sum_or_max(transform_bytes(p, s->filters, pitch),
                           transform_bytes(p, part_size(s->channels), s->in.size.w));
}

/* One tile of the channels of a group. output is the gradient of the group's input. */
static void grad_input_tile(const struct lanes_plan *p, const struct lanes_stage *s,
                            const struct lanes_winograd_gradients *g, const char *weight,
                            size_t tile, const char *transform, char *products, char *output,
                            void *check)
{
    const struct extent2 in = s->in.size;
    const size_t vector = p->lanes * p->size, part = part_size(s->channels),
                 in_step = odd_step(s->filters, g->pitch) * p->lanes,
                 depth = s->filters * s->layer.kernel.w, rows = LANES_WINOGRAD_ROWS + 4,
                 top = tile * LANES_WINOGRAD_ROWS, border = s->layer.before.h;
    /* The rows of the tile that are inside the image. */
    const size_t first = border > top ? smaller(border - top, rows) : 0,
                 end = in.h + border > top ? smaller(in.h + border - top, rows) : 0;
    if (first >= end) {
        return;
    }
    for (size_t c = 0, n; c < s->channels; c += n) {
        n = smaller(s->channels - c, part);
        const size_t out_step = odd_step(n, in.w) * p->lanes;
        struct lanes_conv conv = {
            .filter_step = depth,
            .depth_step = 1,
            .pixel_offsets = g->columns,
            .tap_offsets = g->taps,
            .depth = depth,
            .chain = chain_steps(s->filters, s->layer.kernel.w),
            .map_step = in.w * p->lanes,
            .output_offsets = g->outputs,
        };
        for (size_t i = 0; i < LANES_WINOGRAD_SUMS; i++) {
            conv.weight = weight + (i * s->channels + c) * depth * p->size;
            conv.input = transform + i * in_step * p->size;
            conv.output = products + i * out_step * p->size;
            p->kernels->conv(&conv, n, in.w);
        }
        for (size_t r = 0; r < n; r++) {
            p->kernels->winograd_input_gradient(
                output + ((c + r) * in.h + top + first - border) * in.w * vector, in.w * p->lanes,
                first, end, products + r * in.w * vector, out_step, in.w, check);
        }
    }
}

void lanes_winograd_grad_input(const struct lanes_plan *p, const struct lanes_stage *s,
                               const struct lanes_winograd_gradients *g, char *output,
                               char *scratch, void *check)
{
    const size_t vector = p->lanes * p->size, pixels = s->in.size.h * s->in.size.w;
    char *products = scratch + transform_bytes(p, s->filters, g->pitch);
    memset(output, 0, s->in.channels * pixels * vector);
    for (size_t group = 0; group < s->layer.groups; group++) {
        const char *weight = g->filters + group * lanes_winograd_elements(s) * p->size;
        for (size_t tile = 0; tile < s->winograd.tiles && !cancel_poll_here(); tile++) {
            for (size_t f = 0; f < s->filters; f++) {
                const size_t at = (group * s->filters + f) * g->plane + g->first +
                                  tile * LANES_WINOGRAD_ROWS * g->pitch;
                p->kernels->winograd_output_gradient(
                    scratch + f * g->pitch * vector, odd_step(s->filters, g->pitch) * p->lanes,
                    g->map + at * vector, g->pitch * p->lanes, g->pitch);
            }
            grad_input_tile(p, s, g, weight, tile, scratch, products,
                            output + group * s->channels * pixels * vector, check);
        }
    }
}

static bool is_nan(const struct lanes_plan *p, const void *check, size_t lane)
{
    return p->compute == COMPUTE_F64 ? ((const double *)check)[lane] != 0
                                     : ((const float *)check)[lane] != 0;
}

bool lanes_all_finite(const struct lanes_plan *p, const void *check)
{
    bool finite = true;
    for (size_t lane = 0; lane < p->lanes; lane++) {
        finite &= !is_nan(p, check, lane);
    }
    return finite;
}

void lanes_replace(const struct lanes_plan *p, const void *check, void *to, const void *from,
                   size_t n)
{
    for (size_t lane = 0; lane < p->lanes; lane++) {
        if (is_nan(p, check, lane)) {
            for (size_t i = lane; i < n * p->lanes; i += p->lanes) {
                memcpy((char *)to + i * p->size, (const char *)from + i * p->size, p->size);
            }
        }
    }
}
