#include "nn/conv2d_winograd.h"

#include "base/scratch.h"

enum {
    /* Fewest filters that repay the input transform, which they share. */
    MIN_FILTERS = 8,
    /* Fewest terms (channels times kernel columns) that repay the output transform. */
    MIN_STEPS = 24
};

bool winograd_is_profitable(const struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    return c->compute == COMPUTE_F32 && c->kernel.h == 5 && c->stride.h == 1 &&
           c->dilation.h == 1 && c->out.h >= 2 && !p->narrow && p->pitch >= p->lanes &&
           p->filters >= MIN_FILTERS && p->channels * c->kernel.w >= MIN_STEPS;
}

/* Pairs of output rows; a last single row counts as one. */
static size_t pairs_of(size_t rows)
{
    return (rows + 1) / 2;
}

/* Elements of one of the six transformed inputs of a channel. */
static size_t input_step(const struct conv2d_plan *p)
{
    return pairs_of(p->band) * p->pitch;
}

/* Elements of one of the six products of a filter. */
static size_t product_step(const struct conv2d_plan *p)
{
    return pairs_of(p->band) * p->row_vectors * p->lanes;
}

/* Elements of one of the six transforms of all filters. */
static size_t filter_step(const struct conv2d_plan *p)
{
    return p->conv.out_channels * p->channels * p->conv.kernel.w + WINOGRAD_PADDING;
}

static size_t input_bytes(const struct conv2d_plan *p)
{
    return scratch_round(
        size_product_or_max(p->segment * WINOGRAD_PRODUCTS * sizeof(float), input_step(p)));
}

size_t winograd_scratch(const struct conv2d_plan *p)
{
    return size_sum_or_max(input_bytes(p),
                           scratch_round(size_product_or_max(
                               WINOGRAD_PRODUCTS * sizeof(float) * p->filters, product_step(p))));
}

static void fill_tables(struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    const size_t out_w = c->pool ? c->out.w / 2 : c->out.w;
    ptrdiff_t *offset = p->winograd_offsets;
    for (size_t channel = 0; channel < p->segment; channel++) {
        for (size_t x = 0, at = 0; x < c->kernel.w; x++, at += c->dilation.w) {
            const size_t column =
                c->stride.w == 1 ? at : at % c->stride.w * p->phase + at / c->stride.w;
            *offset++ = (ptrdiff_t)(channel * WINOGRAD_PRODUCTS * input_step(p) + column);
        }
    }
    size_t n = 0;
    for (size_t t = 0; t < pairs_of(p->band); t++) {
        for (size_t v = 0; v < p->row_vectors; v++, n++) {
            const size_t x = conv2d_column(p, v);
            p->winograd_right_at[n] = (ptrdiff_t)(t * p->pitch + x);
            if (c->pool) {
                p->winograd_out_at[n] = (ptrdiff_t)(t * out_w + x / 2);
            } else {
                p->winograd_out_at[2 * n] = (ptrdiff_t)(2 * t * out_w + x);
                p->winograd_out_at[2 * n + 1] = (ptrdiff_t)((2 * t + 1) * out_w + x);
            }
        }
    }
    const size_t last_row = (c->out.h - 1) % p->band;
    for (size_t v = 0; v < p->row_vectors; v++) {
        p->winograd_last_at[2 * v] = p->winograd_last_at[2 * v + 1] =
            (ptrdiff_t)(last_row * out_w + conv2d_column(p, v));
    }
}

int winograd_plan(struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    const size_t entries = p->segment * c->kernel.w, vectors = pairs_of(p->band) * p->row_vectors;
    const size_t tables =
        size_sum_or_max(entries + 2 * p->row_vectors, size_product_or_max(3, vectors));
    if ((p->winograd_filters = scratch_alloc(
             size_product_or_max(filter_step(p), WINOGRAD_PRODUCTS * sizeof(float)))) == NULL ||
        (p->winograd_offsets = scratch_alloc(size_product_or_max(tables, sizeof(ptrdiff_t)))) ==
            NULL) {
        return -1;
    }
    p->winograd_right_at = p->winograd_offsets + entries;
    p->winograd_out_at = p->winograd_right_at + vectors;
    p->winograd_last_at = p->winograd_out_at + 2 * vectors;
    fill_tables(p);
    kernels_current()->layers->winograd_filter_transform(
        p->winograd_filters, filter_step(p), c->weight, c->out_channels * p->channels, c->kernel.w);
    return 0;
}

void winograd_plan_free(struct conv2d_plan *p)
{
    scratch_free(p->winograd_offsets);
    scratch_free(p->winograd_filters);
}

void winograd_add_segment(const struct conv2d_plan *p, size_t filter, size_t segment,
                          const float *planes, size_t plane_step, size_t rows, char *scratch)
{
    const struct conv2d *c = &p->conv;
    const size_t channel = segment * p->segment,
                 channels = smaller(p->segment, p->channels - channel),
                 steps = p->channels * c->kernel.w;
    float *inputs = (float *)scratch, *products = (float *)(scratch + input_bytes(p));
    for (size_t i = 0; i < channels; i++) {
        kernels_current()->layers->winograd_input_transform(
            inputs + i * WINOGRAD_PRODUCTS * input_step(p), input_step(p), planes + i * plane_step,
            p->pitch, pairs_of(rows), p->pitch);
    }
    const size_t parts = size_parts(p->filters, p->tile_rows);
    for (size_t f = 0; f < WINOGRAD_PRODUCTS; f++) {
        struct outer o = {
            .left_row_step = steps,
            .left_depth_step = 1,
            .right = inputs + f * input_step(p),
            .vector_offsets = p->winograd_right_at,
            .depth_offsets = p->winograd_offsets,
            .vectors = pairs_of(rows) * p->row_vectors,
            .depth = channels * c->kernel.w,
            .partial_sums_step = product_step(p),
            .out_step = product_step(p),
            .out_offsets = p->dense_at,
        };
        for (size_t part = 0; part < parts; part++) {
            const size_t r = part * p->filters / parts;
            float *out = products + (f * p->filters + r) * product_step(p);
            o.left = p->winograd_filters + f * filter_step(p) + (filter + r) * steps +
                     channel * c->kernel.w;
            o.partial_sums = segment > 0 ? out : NULL;
            o.out = out;
            p->outer(&o, (part + 1) * p->filters / parts - r);
        }
    }
}

bool winograd_output(const struct conv2d_plan *p, const float *bias, size_t rows, float *output,
                     const char *scratch)
{
    const struct conv2d *c = &p->conv;
    const size_t pooled = c->pool ? 2 : 1;
    struct winograd_output_transform transform = {
        .sums = (const float *)(scratch + input_bytes(p)),
        .sum_step = p->filters * product_step(p),
        .row_step = product_step(p),
        .rows = p->filters,
        .vectors = rows / 2 * p->row_vectors,
        .bias = bias,
        .relu = c->relu,
        .pool = c->pool,
        .out = output,
        .out_step = (c->out.h / pooled) * (c->out.w / pooled),
        .out_offsets = p->winograd_out_at,
    };
    winograd_output_transform_kernel *winograd_output_transform =
        kernels_current()->layers->winograd_output_transform;
    bool finite = winograd_output_transform(&transform);
    if (rows % 2 != 0) { /* the last row of the image has no second row */
        transform.sums += transform.vectors * p->lanes;
        transform.out_offsets = p->winograd_last_at;
        transform.vectors = p->row_vectors;
        finite &= winograd_output_transform(&transform);
    }
    return finite;
}
