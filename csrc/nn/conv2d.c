/*
 * Convolution as outer products that read the image without rearranging it. The vector of output
 * pixels (y, x .. x+lanes-1) is a sum over all channels and kernel taps; each term is the filter's
 * weight at the tap times the vector of the image at that tap. One list of offsets locates these
 * image vectors and serves every output vector. An image is copied only to add a border of zeros,
 * to make the columns that a stride above 1 visits adjacent, or to pad rows shorter than a vector.
 *
 * Order of summation: channel by channel, then kernel row by kernel row, in one chain for each
 * segment (block of channels); the sums of the segments are added in order.
 */
#include <stdint.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "nn/conv2d_winograd.h"
#include "nn/layers.h"
#include "vectors/reduce.h"

enum {
    /* Approximate number of terms of a chain: short enough to be accurate, and to keep the weights
     * of a tile in L1. */
    SEGMENT_STEPS = 256,
    /* Upper limit of the input bytes, and of the output bytes, of a band (block of output rows):
     * both stay in L2. */
    BAND_BYTES = 192 << 10
};

/* n limited to the range 1 .. most. */
static size_t clamp_from_one(size_t n, size_t most)
{
    return n == 0 ? 1 : smaller(n, most);
}

/* Output rows and columns that are computed: pooling drops an odd last row or column. */
static struct extent2 computed_extent(const struct conv2d *c)
{
    struct extent2 out = {c->pool ? c->out.h & ~(size_t)1 : c->out.h,
                          c->pool ? c->out.w & ~(size_t)1 : c->out.w};
    return out;
}

static size_t lanes_of(enum compute_type compute)
{
    const struct layer_kernels *kernels = kernels_current()->layers;
    return compute == COMPUTE_F64 ? kernels->lanes_f64 : kernels->lanes_f32;
}

bool conv2d_pools(const struct conv2d *c)
{
    return computed_extent(c).w >= lanes_of(c->compute);
}

/* Input rows that `rows` output rows read. */
static size_t input_rows_for(const struct conv2d *c, size_t rows)
{
    return (rows - 1) * c->stride.h + (c->kernel.h - 1) * c->dilation.h + 1;
}

/* Vectors of an output row with its odd last column. The size of a band depends on these and not
 * on pooling, so a value that is not finite makes the same band fall back from Winograd with and
 * without pooling. */
static size_t vectors_before_pooling(const struct conv2d_plan *p)
{
    return size_parts(p->conv.out.w, p->lanes);
}

static void plan_input_copy(struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    const size_t last = (c->kernel.w - 1) * c->dilation.w;
    p->row_vectors = size_parts(computed_extent(c).w, p->lanes);
    p->narrow = computed_extent(c).w < p->lanes;
    p->copied = p->narrow || c->padding.h != 0 || c->padding.w != 0 || c->stride.w > 1 ||
                input_rows_for(c, c->out.h) > c->in.h ||
                (c->out.w - 1) * c->stride.w + last + 1 > c->in.w;
    p->phase = p->copied ? last / c->stride.w + vectors_before_pooling(p) * p->lanes : c->in.w;
    p->pitch = p->copied ? p->phase * c->stride.w : c->in.w;
}

/* Output rows that fit the cache together with the input rows that they read. The result is all
 * rows, or an even number if rows are computed in pairs. */
static size_t rows_of_band(const struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    /* Winograd keeps 6 transformed rows for each pair of rows. */
    const size_t rows = computed_extent(c).h, copies = p->winograd ? WINOGRAD_PRODUCTS / 2 : 1;
    const size_t input = BAND_BYTES / (copies * p->size * p->pitch * larger(p->segment, 1)) + 1,
                 first = input_rows_for(c, 1);
    const size_t by_input = input <= first ? 1 : 1 + (input - first) / c->stride.h;
    const size_t by_output =
        p->segments == 1 && !p->winograd
            ? rows
            : BAND_BYTES / (copies * p->size * vectors_before_pooling(p) * p->lanes) / p->filters;
    const size_t band = clamp_from_one(smaller(by_input, by_output), rows);
    return (c->pool || p->winograd) && band < rows ? larger(band & ~(size_t)1, 2) : band;
}

/* The last vector of a row overlaps the one before it, so that it ends with the row. */
size_t conv2d_column(const struct conv2d_plan *p, size_t vector)
{
    return p->narrow ? 0 : smaller(vector * p->lanes, computed_extent(&p->conv).w - p->lanes);
}

static void fill_tables(struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    const size_t rows_together = c->pool ? 2 : 1, out_w = c->pool ? c->out.w / 2 : c->out.w;
    ptrdiff_t *offset = p->offsets;
    for (size_t channel = 0; channel < p->segment; channel++) {
        for (size_t y = 0; y < c->kernel.h; y++) {
            for (size_t x = 0, at = 0; x < c->kernel.w; x++, at += c->dilation.w) {
                const size_t column =
                    c->stride.w == 1 ? at : at % c->stride.w * p->phase + at / c->stride.w;
                *offset++ = (ptrdiff_t)(channel * p->plane + y * c->dilation.h * p->pitch + column);
            }
        }
    }
    size_t n = 0;
    for (size_t y = 0; y < p->band; y += rows_together) {
        for (size_t v = 0; v < p->row_vectors; v++) {
            const size_t x = conv2d_column(p, v);
            p->out_at[n / rows_together] =
                (ptrdiff_t)(p->narrow ? n * p->lanes
                                      : y / rows_together * out_w + x / rows_together);
            for (size_t row = 0; row < rows_together; row++, n++) {
                p->right_at[n] = (ptrdiff_t)((y + row) * c->stride.h * p->pitch + x);
                p->dense_at[n] = (ptrdiff_t)(n * p->lanes);
            }
        }
    }
}

int conv2d_plan(struct conv2d_plan *p, const struct conv2d *c)
{
    const struct layer_kernels *kernels = kernels_current()->layers;
    const size_t window = c->kernel.h * c->kernel.w;
    memset(p, 0, sizeof *p);
    p->conv = *c;
    p->outer = c->compute == COMPUTE_F64 ? kernels->outer_f64 : kernels->outer_f32;
    p->size = compute_size(c->compute);
    p->lanes = lanes_of(c->compute);
    p->tile_rows = kernels->outer_rows;
    p->channels = c->in_channels / c->groups;
    p->filters = c->out_channels / c->groups;
    if (computed_extent(c).h == 0 || computed_extent(c).w == 0 || c->images == 0 ||
        c->out_channels == 0) {
        return 0;
    }
    if (!conv2d_may_fit(c)) {
        return -1;
    }
    const size_t most = clamp_from_one(SEGMENT_STEPS / window, larger(p->channels, 1));
    p->segments = larger(size_parts(p->channels, most), 1);
    p->segment = size_parts(p->channels, p->segments);
    plan_input_copy(p);
    p->winograd = winograd_is_profitable(p);
    /* With an odd number of rows, the last pair reads beyond the image. */
    p->copied |= p->winograd && computed_extent(c).h % 2 != 0;
    p->band = larger(rows_of_band(p), 1);
    p->bands = size_parts(computed_extent(c).h, p->band);
    p->plane = p->copied ? input_rows_for(c, p->band + p->winograd) * p->pitch : c->in.h * c->in.w;
    const size_t vectors = p->band * p->row_vectors, entries = p->segment * window;
    const size_t tables = size_sum_or_max(entries, size_product_or_max(3, vectors));
    const size_t copy = size_product_or_max(p->segment * p->size, p->plane),
                 filter_bytes = size_product_or_max(vectors * p->lanes, p->size);
    if ((p->offsets = scratch_alloc(size_product_or_max(tables, sizeof *p->offsets))) == NULL) {
        return -1;
    }
    p->right_at = p->offsets + entries;
    p->out_at = p->right_at + vectors;
    p->dense_at = p->out_at + vectors;
    p->copy_bytes = p->copied ? scratch_round(copy) : 0;
    p->sums_bytes = p->segments > 1 || p->narrow
                        ? scratch_round(size_product_or_max(p->filters, filter_bytes))
                        : 0;
    fill_tables(p);
    return p->winograd ? winograd_plan(p) : 0;
}

void conv2d_plan_free(struct conv2d_plan *p)
{
    winograd_plan_free(p);
    scratch_free(p->offsets);
}

size_t conv2d_scratch(const struct conv2d_plan *p)
{
    const size_t sums = size_product_or_max(2, p->sums_bytes);
    return size_sum_or_max(size_sum_or_max(p->copy_bytes, sums),
                           p->winograd ? winograd_scratch(p) : 0);
}

/* Copies one input row, its columns grouped by residue: element i of residue r is column r + i *
 * stride.w of the padded row. */
static void copy_row(const struct conv2d_plan *p, const char *row, char *to)
{
    const struct conv2d *c = &p->conv;
    const size_t size = p->size;
    if (c->stride.w == 1) {
        const size_t before = smaller(c->padding.w, p->pitch),
                     n = smaller(c->in.w, p->pitch - before);
        memset(to, 0, before * size);
        memcpy(to + before * size, row, n * size);
        memset(to + (before + n) * size, 0, (p->pitch - before - n) * size);
        return;
    }
    memset(to, 0, p->pitch * size);
    for (size_t x = 0; x < c->in.w; x++) {
        const size_t column = x + c->padding.w, residue = column % c->stride.w,
                     index = column / c->stride.w;
        if (index >= p->phase) {
            break;
        }
        if (size == sizeof(float)) {
            ((float *)to)[residue * p->phase + index] = ((const float *)row)[x];
        } else {
            ((double *)to)[residue * p->phase + index] = ((const double *)row)[x];
        }
    }
}

/* Copies the rows of `channels` planes that the output rows [first, first + rows) read. */
static void copy_planes(const struct conv2d_plan *p, const char *planes, size_t channels,
                        size_t first, size_t rows, char *to)
{
    const struct conv2d *c = &p->conv;
    const size_t line = p->pitch * p->size,
                 input_rows = input_rows_for(c, rows + (p->winograd && rows % 2 != 0));
    for (size_t channel = 0; channel < channels; channel++, planes += c->in.h * c->in.w * p->size) {
        char *row = to + channel * p->plane * p->size;
        for (size_t i = 0; i < input_rows; i++, row += line) {
            const size_t y = first * c->stride.h + i;
            if (y < c->padding.h || y - c->padding.h >= c->in.h) {
                memset(row, 0, line);
            } else {
                copy_row(p, planes + (y - c->padding.h) * c->in.w * p->size, row);
            }
        }
    }
}

/* Copies the rows of a band, each shorter than a vector, out of a buffer of one vector a row. */
static void copy_narrow(const struct conv2d_plan *p, const char *from, size_t rows, size_t filters,
                        char *to)
{
    const struct conv2d *c = &p->conv;
    const size_t line = c->out.w * p->size, step = p->band * p->lanes * p->size;
    for (size_t f = 0; f < filters; f++, from += step, to += c->out.h * line) {
        for (size_t y = 0; y < rows; y++) {
            memcpy(to + y * line, from + y * p->lanes * p->size, line);
        }
    }
}

/* One band of one group of one image. */
struct band {
    const char *input, *weight, *bias; /* at the first channel and filter of the group */
    char *output;                      /* at the first filter of the group and the first row */
    size_t first, rows;
    char *copy, *sums, *results, *winograd; /* scratch memory of the worker */
};

/* The input rows that a band reads of a segment's channels, copied with their border if the plan
 * says so. */
static const char *input_planes(const struct conv2d_plan *p, const struct band *b, size_t segment)
{
    const struct conv2d *c = &p->conv;
    const size_t channel = segment * p->segment,
                 channels = smaller(p->segment, p->channels - channel);
    const char *planes = b->input + channel * c->in.h * c->in.w * p->size;
    if (!p->copied) {
        return planes + b->first * c->stride.h * p->pitch * p->size;
    }
    copy_planes(p, planes, channels, b->first, b->rows, b->copy);
    return b->copy;
}

/* Adds the products of all filters with one segment of channels. */
static void add_segment(const struct conv2d_plan *p, const struct band *b, size_t segment)
{
    const struct conv2d *c = &p->conv;
    const size_t window = c->kernel.h * c->kernel.w, channel = segment * p->segment,
                 channels = smaller(p->segment, p->channels - channel);
    const size_t dense = p->band * p->row_vectors * p->lanes, pooled = c->pool ? 2 : 1;
    const bool last = segment + 1 == p->segments;
    struct outer o = {
        .left_row_step = p->channels * window,
        .left_depth_step = 1,
        .right = input_planes(p, b, segment),
        .vector_offsets = p->right_at,
        .depth_offsets = p->offsets,
        .vectors = b->rows * p->row_vectors,
        .depth = channels * window,
        .partial_sums_step = dense,
        .relu = c->relu && last,
        .pool = c->pool && last,
        .out_step = !last || p->narrow ? dense : (c->out.h / pooled) * (c->out.w / pooled),
        .out_offsets = last ? p->out_at : p->dense_at,
    };
    const size_t parts = size_parts(p->filters, p->tile_rows);
    /* Tiles are as even as possible: ten filters are 5 and 5, not 6 and 4. */
    for (size_t part = 0; part < parts; part++) {
        const size_t f = part * p->filters / parts, rows = (part + 1) * p->filters / parts - f;
        o.left = b->weight + (f * p->channels + channel) * window * p->size;
        o.bias = last && b->bias != NULL ? b->bias + f * p->size : NULL;
        o.partial_sums = segment > 0 ? b->sums + f * dense * p->size : NULL;
        o.out = (!last ? b->sums : p->narrow ? b->results : b->output) + f * o.out_step * p->size;
        p->outer(&o, rows);
    }
}

static void compute_band(const struct conv2d_plan *p, const char *input, char *output, size_t group,
                         size_t band, char *scratch)
{
    const struct conv2d *c = &p->conv;
    const size_t pooled = c->pool ? 2 : 1, filter = group * p->filters, first = band * p->band;
    const size_t line = c->out.w / pooled * p->size, map = c->out.h / pooled * line;
    const struct band b = {
        .input = input + group * p->channels * c->in.h * c->in.w * p->size,
        .weight =
            (const char *)c->weight + filter * p->channels * c->kernel.h * c->kernel.w * p->size,
        .bias = c->bias == NULL ? NULL : (const char *)c->bias + filter * p->size,
        .output = output + filter * map + first / pooled * line,
        .first = first,
        .rows = smaller(p->band, computed_extent(c).h - first),
        .copy = scratch,
        .sums = scratch + p->copy_bytes,
        .results = scratch + p->copy_bytes + p->sums_bytes,
        .winograd = scratch + p->copy_bytes + 2 * p->sums_bytes,
    };
    if (p->winograd) {
        for (size_t segment = 0; segment < p->segments; segment++) {
            winograd_add_segment(p, filter, segment, (const float *)input_planes(p, &b, segment),
                                 p->plane, b.rows, b.winograd);
        }
        if (winograd_output(p, (const float *)b.bias, b.rows, (float *)b.output, b.winograd)) {
            return;
        }
    }
    for (size_t segment = 0; segment < p->segments; segment++) {
        add_segment(p, &b, segment);
    }
    if (p->narrow) {
        copy_narrow(p, b.results, b.rows, p->filters, b.output);
    }
}

void conv2d_image(const struct conv2d_plan *p, const void *input, void *output, void *scratch)
{
    for (size_t i = 0; i < p->conv.groups * p->bands && !cancel_poll_here(); i++) {
        compute_band(p, input, output, i / p->bands, i % p->bands, scratch);
    }
}

struct conv2d_run {
    const struct conv2d_plan *plan;
    char *scratch;
};

static void band_task(void *context, size_t task, size_t worker)
{
    const struct conv2d_run *run = context;
    const struct conv2d_plan *p = run->plan;
    const struct conv2d *c = &p->conv;
    const size_t image = task / (c->groups * p->bands), rest = task % (c->groups * p->bands),
                 pooled = c->pool ? 2 : 1;
    compute_band(p, (const char *)c->input + image * c->in_channels * c->in.h * c->in.w * p->size,
                 (char *)c->output +
                     image * c->out_channels * (c->out.h / pooled) * (c->out.w / pooled) * p->size,
                 rest / p->bands, rest % p->bands, run->scratch + worker * conv2d_scratch(p));
}

size_t conv2d_outputs(const struct conv2d *c)
{
    return size_product_or_max(size_product_or_max(c->images, c->out_channels),
                               size_product_or_max(c->out.h, c->out.w));
}

int conv2d(const struct conv2d *c)
{
    struct conv2d_plan plan;
    int status = conv2d_plan(&plan, c);
    const size_t tasks = c->images * c->groups * plan.bands,
                 terms = size_product_or_max(plan.channels * c->kernel.h, c->kernel.w);
    const int threads = (int)smaller((size_t)thread_count_for(conv2d_outputs(c), terms, GRAIN_GEMM),
                                     larger(tasks, 1));
    struct conv2d_run run = {&plan, NULL};
    if (status < 0 || (run.scratch = scratch_alloc(
                           size_product_or_max((size_t)threads, conv2d_scratch(&plan)))) == NULL) {
        status = -1;
    } else {
        pool_run(tasks, threads, band_task, &run, c->token);
    }
    scratch_free(run.scratch);
    conv2d_plan_free(&plan);
    return status;
}

/* ---- convolution and pooling ---- */

struct pooled_run {
    const struct conv2d_plan *plan;
    const struct max_pool2d *pool;
    char *scratch;
    size_t map_bytes;
};

static void pooled_task(void *context, size_t image, size_t worker)
{
    const struct pooled_run *run = context;
    const struct conv2d_plan *p = run->plan;
    const struct conv2d *c = &p->conv;
    char *maps = run->scratch + worker * (run->map_bytes + conv2d_scratch(p));
    struct max_pool2d pool = *run->pool;
    const size_t at = image * pool.planes * pool.out.h * pool.out.w;
    conv2d_image(p, (const char *)c->input + image * c->in_channels * c->in.h * c->in.w * p->size,
                 maps, maps + run->map_bytes);
    pool.input = maps;
    pool.output = (char *)pool.output + at * p->size;
    pool.indices = pool.indices == NULL ? NULL : pool.indices + at;
    max_pool2d_planes(&pool, 0, pool.planes);
}

int conv2d_max_pool2d(const struct conv2d *c, const struct max_pool2d *pool)
{
    struct conv2d_plan plan;
    if (c->images == 0) {
        return 0;
    }
    int status = conv2d_plan(&plan, c);
    const size_t outputs = conv2d_outputs(c),
                 terms = size_product_or_max(plan.channels * c->kernel.h, c->kernel.w);
    const int threads =
        (int)smaller((size_t)thread_count_for(outputs, terms, GRAIN_GEMM), c->images);
    struct pooled_run run = {&plan, pool, NULL,
                             scratch_round(size_product_or_max(outputs / c->images, plan.size))};
    const size_t worker_bytes = size_sum_or_max(run.map_bytes, conv2d_scratch(&plan));
    if (status < 0 ||
        (run.scratch = scratch_alloc(size_product_or_max((size_t)threads, worker_bytes))) == NULL) {
        status = -1;
    } else {
        pool_run(c->images, threads, pooled_task, &run, c->token);
    }
    scratch_free(run.scratch);
    conv2d_plan_free(&plan);
    return status;
}
