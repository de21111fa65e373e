/*
 * Winograd's algorithm with lanes across images. The transform of a tile of all channels stays in
 * the L2 cache. A few filters are multiplied with it at a time, so that their products stay in L1
 * until they are transformed.
 */
#include "network/lanes_winograd.h"

#include <string.h>

#include "base/cancel.h"

size_t lanes_winograd_conv2d_scratch(const struct lanes_plan *p, const struct lanes_stage *s)
{
    return lanes_winograd_bytes(p, s->channels, s->in.pitch) +
           lanes_winograd_bytes(p, lanes_winograd_part(p, s->filters), s->winograd.width);
}

/* One tile of the filters of a group. scratch begins with its transformed input. */
static void conv2d_tile(const struct lanes_plan *p, const struct lanes_stage *s, size_t group,
                        size_t tile, char *scratch, char *output, char *choices, void *check)
{
    const char *transform = scratch;
    char *products = scratch + lanes_winograd_bytes(p, s->channels, s->in.pitch);
    const struct lanes_winograd *w = &s->winograd;
    const struct layer *l = &s->layer;
    const size_t vector = p->lanes * p->size, part = lanes_winograd_part(p, s->filters),
                 in_step = lanes_winograd_step(s->channels, s->in.pitch) * p->lanes,
                 depth = s->channels * l->kernel.w, row = tile * LANES_WINOGRAD_ROWS / s->unit,
                 chosen = s->out.size.h * s->out.size.w;
    const char *weight = w->filters + group * lanes_winograd_elements(s) * p->size;
    for (size_t f = 0, n; f < s->filters; f += n) {
        n = smaller(s->filters - f, part);
        const size_t out_step = lanes_winograd_step(n, w->width) * p->lanes;
        struct lanes_conv c = {
            .filter_step = depth,
            .depth_step = 1,
            .pixel_offsets = w->columns,
            .tap_offsets = w->taps,
            .depth = depth,
            .chain = lanes_winograd_chain(s->channels, l->kernel.w),
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
    for (size_t group = 0; group < s->layer.groups; group++) {
        for (size_t tile = 0; tile < s->winograd.tiles && !cancel_poll_here(); tile++) {
            for (size_t c = 0; c < s->channels; c++) {
                const size_t at =
                    (group * s->channels + c) * s->in.plane + tile * LANES_WINOGRAD_ROWS * pitch;
                p->kernels->winograd_input(scratch + c * pitch * vector,
                                           lanes_winograd_step(s->channels, pitch) * p->lanes,
                                           input + at * vector, pitch * p->lanes, pitch);
            }
            conv2d_tile(p, s, group, tile, scratch, output, choices, check);
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
