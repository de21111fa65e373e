#include "nn/conv2d_winograd.h"

#include "base/scratch.h"

enum {
    LEAST_FILTERS = 8, /* that share the splitting of rows */
    LEAST_STEPS =
        24 /* channels times columns of the kernel: what is summed before sums are joined */
};

bool winograd_is_profitable(const struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    return c->compute == COMPUTE_F32 && c->kernel.h == 5 && c->stride.h == 1 &&
           c->dilation.h == 1 && c->out.h >= 2 && !p->narrow && p->pitch >= p->lanes &&
           p->filters >= LEAST_FILTERS && p->channels * c->kernel.w >= LEAST_STEPS;
}

/* Pairs of rows of a band. */
static size_t pairs_of(size_t rows)
{
    return (rows + 1) / 2;
}

/* Elements from one of the six sums of a channel's rows to the next, and of all of them; of a
 * filter's results. */
static size_t split_step(const struct conv2d_plan *p)
{
    return pairs_of(p->band) * p->pitch;
}

static size_t result_step(const struct conv2d_plan *p)
{
    return pairs_of(p->band) * p->row_vectors * p->lanes;
}

static size_t weight_step(const struct conv2d_plan *p)
{
    return p->conv.out_channels * p->channels * p->conv.kernel.w + WINOGRAD_PADDING;
}

static size_t split_bytes(const struct conv2d_plan *p)
{
    return scratch_round(
        size_product_or_max(p->segment * WINOGRAD_PRODUCTS * sizeof(float), split_step(p)));
}

size_t winograd_scratch(const struct conv2d_plan *p)
{
    return size_sum_or_max(split_bytes(p),
                           scratch_round(size_product_or_max(
                               WINOGRAD_PRODUCTS * sizeof(float) * p->filters, result_step(p))));
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
            *offset++ = (ptrdiff_t)(channel * WINOGRAD_PRODUCTS * split_step(p) + column);
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
    const size_t last = (c->out.h - 1) % p->band;
    for (size_t v = 0; v < p->row_vectors; v++) {
        p->winograd_last_at[2 * v] = p->winograd_last_at[2 * v + 1] =
            (ptrdiff_t)(last * out_w + conv2d_column(p, v));
    }
}

int winograd_plan(struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    const size_t entries = p->segment * c->kernel.w, vectors = pairs_of(p->band) * p->row_vectors;
    const size_t tables =
        size_sum_or_max(entries + 2 * p->row_vectors, size_product_or_max(3, vectors));
    if ((p->winograd_weights = scratch_alloc(
             size_product_or_max(weight_step(p), WINOGRAD_PRODUCTS * sizeof(float)))) == NULL ||
        (p->winograd_offsets = scratch_alloc(size_product_or_max(tables, sizeof(ptrdiff_t)))) ==
            NULL) {
        return -1;
    }
    p->winograd_right_at = p->winograd_offsets + entries;
    p->winograd_out_at = p->winograd_right_at + vectors;
    p->winograd_last_at = p->winograd_out_at + 2 * vectors;
    fill_tables(p);
    kernels_current()->layers->winograd_filter_transform(
        p->winograd_weights, weight_step(p), c->weight, c->out_channels * p->channels, c->kernel.w);
    return 0;
}

void winograd_plan_free(struct conv2d_plan *p)
{
    scratch_free(p->winograd_offsets);
    scratch_free(p->winograd_weights);
}

void winograd_add_segment(const struct conv2d_plan *p, size_t filter, size_t segment,
                          const float *planes, size_t plane_step, size_t rows, char *scratch)
{
    const struct conv2d *c = &p->conv;
    const size_t channel = segment * p->segment,
                 channels = smaller(p->segment, p->channels - channel),
                 steps = p->channels * c->kernel.w;
    float *split = (float *)scratch, *results = (float *)(scratch + split_bytes(p));
    for (size_t i = 0; i < channels; i++) {
        kernels_current()->layers->winograd_input_transform(
            split + i * WINOGRAD_PRODUCTS * split_step(p), split_step(p), planes + i * plane_step,
            p->pitch, pairs_of(rows), p->pitch);
    }
    const size_t parts = size_parts(p->filters, p->most_rows);
    for (size_t f = 0; f < WINOGRAD_PRODUCTS; f++) {
        struct outer o = {
            .left_step = steps,
            .left_next = 1,
            .right = split + f * split_step(p),
            .right_at = p->winograd_right_at,
            .offsets = p->winograd_offsets,
            .vectors = pairs_of(rows) * p->row_vectors,
            .steps = channels * c->kernel.w,
            .before_step = result_step(p),
            .out_step = result_step(p),
            .out_at = p->dense_at,
        };
        for (size_t part = 0; part < parts; part++) {
            const size_t r = part * p->filters / parts;
            float *out = results + (f * p->filters + r) * result_step(p);
            o.left = p->winograd_weights + f * weight_step(p) + (filter + r) * steps +
                     channel * c->kernel.w;
            o.before = segment > 0 ? out : NULL;
            o.out = out;
            p->outer(&o, (part + 1) * p->filters / parts - r);
        }
    }
}

bool winograd_finish(const struct conv2d_plan *p, const float *bias, size_t rows, float *output,
                     const char *scratch)
{
    const struct conv2d *c = &p->conv;
    const size_t pooled = c->pool ? 2 : 1;
    struct winograd_output_transform join = {
        .sums = (const float *)(scratch + split_bytes(p)),
        .sum_step = p->filters * result_step(p),
        .row_step = result_step(p),
        .rows = p->filters,
        .vectors = rows / 2 * p->row_vectors,
        .bias = bias,
        .relu = c->relu,
        .pool = c->pool,
        .out = output,
        .out_step = (c->out.h / pooled) * (c->out.w / pooled),
        .out_at = p->winograd_out_at,
    };
    winograd_output_transform_kernel *winograd_output_transform =
        kernels_current()->layers->winograd_output_transform;
    bool finite = winograd_output_transform(&join);
    if (rows % 2 != 0) { /* the last row of the image: the second of its pair does not exist */
        join.sums += join.vectors * p->lanes;
        join.out_at = p->winograd_last_at;
        join.vectors = p->row_vectors;
        finite &= winograd_output_transform(&join);
    }
    return finite;
}
