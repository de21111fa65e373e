/*
 * The gradient of a convolution's filters. For each filter and kernel tap it is the dot product of
 * the output's gradient and the input pixels that the tap reads, over all pixels of all images (the
 * `dots` kernel). The gradients are copied so that vectors do not straddle cache lines; rows that
 * are not whole vectors are padded with zeros. Images are copied if they need a border, padded rows
 * or columns grouped by residue.
 *
 * Order of summation: block of images by block of images, and inside one in chunks of vectors.
 * Shapes alone determine both. The sums of the blocks are added in order.
 */
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "nn/layers.h"
#include "vectors/reduce.h"

enum {
    MAX_BLOCKS = 32, /* blocks of images; each has its own sums */
    /* Limit of the copies of a batch of images, which stay in the cache for all their products. */
    BATCH_BYTES = 512 << 10,
    SUMS_BYTES = 64 << 20,   /* limit of the sums of all blocks */
    VECTORS_PER_CHUNK = 128, /* vectors of a row in one kernel call: eight such rows stay in L1 */
    ROWS_PER_CALL = 256      /* row pointers of one kernel call */
};

struct grad_weight_run {
    const struct conv2d_grad_weight *call;
    const struct conv2d *conv;
    dots_kernel *dots;
    size_t size, lanes;
    size_t channels, filters, window;
    size_t row_vectors, phase, pitch, plane; /* of an image, as in struct conv2d_plan */
    bool images_copied;
    size_t image_step, map_step; /* elements from one image, and from one gradient, to the next */
    size_t batch;                /* images that are copied and multiplied at a time */
    size_t block_images, blocks; /* images of a block; number of blocks */
    size_t vectors;              /* vectors of the gradients of a batch */
    bool by_rows;                /* see add_rows */
    ptrdiff_t *image_at, *gradient_at, *ones_at, *row_at;
    char *ones; /* a row of ones: the dot product with it is a sum */
    char *sums; /* [blocks][out_channels][channels * window + 1] */
    char *scratch;
    size_t image_bytes, gradient_bytes; /* of one worker's copies, or 0 */
};

/* Entries of a filter's gradient: its weights and its bias. */
static size_t entries_of(const struct grad_weight_run *r)
{
    return r->channels * r->window + 1;
}

/* Copies one channel of an image, with its border and its columns grouped by their number modulo
 * stride.w, as conv2d reads it. */
static void copy_plane(const struct grad_weight_run *r, const char *plane, char *to)
{
    const struct conv2d *c = r->conv;
    const size_t rows = r->plane / r->pitch;
    memset(to, 0, r->plane * r->size);
    for (size_t y = 0; y < c->in.h; y++, plane += c->in.w * r->size) {
        const size_t row = y + c->padding.h;
        if (row >= rows) {
            break;
        }
        char *line = to + row * r->pitch * r->size;
        if (c->stride.w == 1) {
            memcpy(line + c->padding.w * r->size, plane,
                   smaller(c->in.w, r->phase - smaller(r->phase, c->padding.w)) * r->size);
            continue;
        }
        for (size_t x = 0; x < c->in.w; x++) {
            const size_t column = x + c->padding.w, residue = column % c->stride.w,
                         index = column / c->stride.w;
            if (index >= r->phase) {
                break;
            }
            if (r->size == sizeof(float)) {
                ((float *)line)[residue * r->phase + index] = ((const float *)plane)[x];
            } else {
                ((double *)line)[residue * r->phase + index] = ((const double *)plane)[x];
            }
        }
    }
}

/* Copies the gradients of one image's feature maps and pads their rows with zeros. */
static void copy_maps(const struct grad_weight_run *r, const char *map, char *to)
{
    const struct conv2d *c = r->conv;
    const size_t line = c->out.w * r->size, whole = r->row_vectors * r->lanes * r->size,
                 rows = r->filters * c->out.h;
    if (line == whole) {
        memcpy(to, map, rows * line);
        return;
    }
    for (size_t y = 0; y < rows; y++, map += line, to += whole) {
        memcpy(to, map, line);
        memset(to + line, 0, whole - line);
    }
}

/* For all filters of a group, over the vectors of d: the dot products of the gradients with the
 * pixels of each kernel tap, and the sums of the gradients. out is (filters, entries). */
static void add_vectors(const struct grad_weight_run *r, struct dots *d, const ptrdiff_t *image_at,
                        const char *images, const char *gradients, char *out)
{
    const struct conv2d *c = r->conv;
    const size_t entries = entries_of(r), map = c->out.h * r->row_vectors * r->lanes;
    d->out_row_step = entries;
    d->out_column_step = 1;
    for (size_t f = 0, filters; f < r->filters; f += filters) {
        const void *left[ROWS_PER_CALL], *right[ROWS_PER_CALL];
        filters = smaller(r->filters - f, ROWS_PER_CALL);
        for (size_t i = 0; i < filters; i++) {
            left[i] = gradients + (f + i) * map * r->size;
        }
        for (size_t p = 0, taps; p + 1 < entries; p += taps) {
            taps = smaller(entries - 1 - p, ROWS_PER_CALL);
            for (size_t i = 0; i < taps; i++) {
                const size_t channel = (p + i) / r->window,
                             y = (p + i) % r->window / c->kernel.w * c->dilation.h;
                const size_t x = (p + i) % c->kernel.w * c->dilation.w;
                right[i] = images + (channel * r->plane + y * r->pitch +
                                     x % c->stride.w * r->phase + x / c->stride.w) *
                                        r->size;
            }
            d->right_offsets = image_at;
            r->dots(d, left, filters, right, taps, out + (f * entries + p) * r->size);
        }
        right[0] = r->ones;
        d->right_offsets = r->ones_at;
        r->dots(d, left, filters, right, 1, out + (f * entries + entries - 1) * r->size);
    }
}

/*
 * Adds one output row at a time and handles its last elements separately. This is the path for sums
 * that are not finite: it never multiplies a zero of the padding with a pixel beyond the end of a
 * row, which could make a NaN that is not in the result.
 */
static void add_rows(const struct grad_weight_run *r, const char *images, const char *gradients,
                     size_t count, bool add, char *out)
{
    const struct conv2d *c = r->conv;
    const size_t whole = c->out.w / r->lanes;
    for (size_t i = 0; i < count * c->out.h; i++) {
        const size_t v = i * r->row_vectors;
        struct dots d = {.left_offsets = r->row_at,
                         .vectors = whole,
                         .tail = c->out.w % r->lanes,
                         .tail_offset = (ptrdiff_t)(whole * r->lanes),
                         .add = add || i > 0};
        add_vectors(r, &d, r->row_at, images + r->image_at[v] * (ptrdiff_t)r->size,
                    gradients + r->gradient_at[v] * (ptrdiff_t)r->size, out);
    }
}

/* Adds the products of the `count` images of a batch. */
static void add_products(const struct grad_weight_run *r, const char *images, const char *gradients,
                         size_t count, bool add, char *out)
{
    const size_t vectors = r->vectors / r->batch * count;
    if (r->by_rows) {
        add_rows(r, images, gradients, count, add, out);
        return;
    }
    for (size_t v = 0, n; v < vectors; v += n) {
        n = smaller(vectors - v, VECTORS_PER_CHUNK);
        struct dots d = {.left_offsets = r->gradient_at + v, .vectors = n, .add = add || v > 0};
        add_vectors(r, &d, r->image_at + v, images, gradients, out);
    }
}

static void block_task(void *context, size_t task, size_t worker)
{
    const struct grad_weight_run *r = context;
    const struct conv2d *c = r->conv;
    const size_t block = task / c->groups, group = task % c->groups,
                 first = block * r->block_images, end = smaller(first + r->block_images, c->images);
    char *images = r->scratch + worker * (r->image_bytes + r->gradient_bytes),
         *gradients = images + r->image_bytes;
    char *out = r->sums + (block * c->out_channels + group * r->filters) * entries_of(r) * r->size;
    for (size_t image = first, n; image < end && !cancel_poll(c->token, worker); image += n) {
        n = smaller(end - image, r->batch);
        const char *planes =
            (const char *)c->input +
            (image * c->in_channels + group * r->channels) * c->in.h * c->in.w * r->size;
        const char *maps =
            (const char *)c->output +
            (image * c->out_channels + group * r->filters) * c->out.h * c->out.w * r->size;
        for (size_t i = 0; r->images_copied && i < n * r->channels; i++) {
            const size_t channel = i / r->channels * c->in_channels + i % r->channels;
            copy_plane(r, planes + channel * c->in.h * c->in.w * r->size,
                       images + i * r->plane * r->size);
        }
        for (size_t i = 0; i < n; i++) {
            copy_maps(r, maps + i * c->out_channels * c->out.h * c->out.w * r->size,
                      gradients + i * r->map_step * r->size);
        }
        add_products(r, r->images_copied ? images : planes, gradients, n, image > first, out);
    }
}

#define ADD_BLOCKS(type) \
    static void add_blocks_##type(type *weight, type *bias, type *sums, size_t blocks, \
                                  size_t filters, size_t entries) \
    { \
        for (size_t b = 1; b < blocks; b++) { \
            for (size_t i = 0; i < filters * entries; i++) { \
                sums[i] += sums[b * filters * entries + i]; \
            } \
        } \
        for (size_t f = 0; f < filters; f++) { \
            memcpy(weight + f * (entries - 1), sums + f * entries, (entries - 1) * sizeof *sums); \
            if (bias != NULL) { \
                bias[f] = sums[f * entries + entries - 1]; \
            } \
        } \
    }
ADD_BLOCKS(float)
ADD_BLOCKS(double)

void add_filter_blocks(void *weight, void *bias, enum compute_type compute, void *sums,
                       size_t blocks, size_t filters, size_t entries)
{
    if (compute == COMPUTE_F64) {
        add_blocks_double(weight, bias, sums, blocks, filters, entries);
    } else {
        add_blocks_float(weight, bias, sums, blocks, filters, entries);
    }
}

void clear_filters(void *weight, void *bias, const struct conv2d *c)
{
    const size_t filter_size = c->in_channels / c->groups * c->kernel.h * c->kernel.w,
                 size = compute_size(c->compute);
    memset(weight, 0, c->out_channels * filter_size * size);
    if (bias != NULL) {
        memset(bias, 0, c->out_channels * size);
    }
}

/* Chooses batches and blocks of images from shapes alone. */
static void plan_scratch(struct grad_weight_run *r)
{
    const struct conv2d *c = r->conv;
    const size_t last = (c->kernel.w - 1) * c->dilation.w,
                 input_rows = (c->out.h - 1) * c->stride.h + (c->kernel.h - 1) * c->dilation.h + 1;
    r->channels = c->in_channels / c->groups;
    r->filters = c->out_channels / c->groups;
    r->window = c->kernel.h * c->kernel.w;
    r->row_vectors = size_parts(c->out.w, r->lanes);
    r->images_copied = c->out.w % r->lanes != 0 || c->padding.h != 0 || c->padding.w != 0 ||
                       c->stride.w > 1 || input_rows > c->in.h || c->out.w + last > c->in.w;
    r->phase = r->images_copied ? last / c->stride.w + r->row_vectors * r->lanes : c->in.w;
    r->pitch = r->phase * c->stride.w;
    r->plane = r->images_copied ? input_rows * r->pitch : c->in.h * c->in.w;
    r->image_step = (r->images_copied ? r->channels : c->in_channels) * r->plane;
    r->map_step = r->filters * c->out.h * r->row_vectors * r->lanes;
    const size_t image = size_product_or_max(r->channels * r->plane, r->size),
                 map = size_product_or_max(r->map_step, r->size);
    const size_t sums =
        size_product_or_max(size_product_or_max(c->out_channels, entries_of(r)), r->size);
    r->batch = larger(
        smaller(BATCH_BYTES / size_sum_or_max(size_sum_or_max(image, map), 1), c->images), 1);
    const size_t max_blocks = larger(smaller(MAX_BLOCKS, SUMS_BYTES / size_sum_or_max(sums, 1)), 1);
    const size_t min_images = size_parts(c->images, max_blocks);
    r->block_images = size_parts(larger(min_images, r->batch), r->batch) * r->batch;
    r->blocks = size_parts(c->images, r->block_images);
    r->vectors = r->batch * c->out.h * r->row_vectors;
    r->image_bytes = r->images_copied ? scratch_round(size_product_or_max(r->batch, image)) : 0;
    r->gradient_bytes = scratch_round(size_product_or_max(r->batch, map));
}

static void fill_tables(struct grad_weight_run *r)
{
    const struct conv2d *c = r->conv;
    size_t n = 0;
    for (size_t image = 0; image < r->batch; image++) {
        for (size_t y = 0; y < c->out.h; y++) {
            for (size_t v = 0; v < r->row_vectors; v++, n++) {
                r->image_at[n] =
                    (ptrdiff_t)(image * r->image_step + y * c->stride.h * r->pitch + v * r->lanes);
                r->gradient_at[n] =
                    (ptrdiff_t)(image * r->map_step + (y * r->row_vectors + v) * r->lanes);
                r->ones_at[n] = 0;
            }
        }
    }
    for (size_t v = 0; v < r->row_vectors; v++) {
        r->row_at[v] = (ptrdiff_t)(v * r->lanes);
    }
    for (size_t i = 0; i < (r->row_vectors + 1) * r->lanes; i++) {
        if (r->size == sizeof(float)) {
            ((float *)r->ones)[i] = 1.0f;
        } else {
            ((double *)r->ones)[i] = 1.0;
        }
    }
}

int conv2d_grad_weight(const struct conv2d_grad_weight *call)
{
    const struct layer_kernels *kernels = kernels_current()->layers;
    const struct conv2d *c = &call->conv;
    const bool f64 = c->compute == COMPUTE_F64;
    struct grad_weight_run r = {
        .call = call,
        .conv = c,
        .dots = f64 ? kernels->dots_f64 : kernels->dots_f32,
        .size = compute_size(c->compute),
        .lanes = f64 ? kernels->lanes_f64 : kernels->lanes_f32,
    };
    if (c->images == 0 || c->out.h == 0 || c->out.w == 0) {
        clear_filters(call->weight, call->bias, c);
        return 0;
    }
    if (!conv2d_may_fit(c)) {
        return -1;
    }
    plan_scratch(&r);
    const size_t tasks = r.blocks * c->groups;
    const int threads = (int)smaller(
        (size_t)thread_count_for(size_product_or_max(c->images, c->out.h * c->out.w),
                                 size_product_or_max(r.channels * r.window, r.filters), GRAIN_GEMM),
        tasks);
    const size_t entries = size_sum_or_max(size_product_or_max(3, r.vectors), r.row_vectors),
                 tables = size_product_or_max(entries, sizeof(ptrdiff_t));
    const size_t ones = scratch_round((r.row_vectors + 1) * r.lanes * r.size);
    const size_t sums = size_product_or_max(size_product_or_max(r.blocks, c->out_channels),
                                            size_product_or_max(entries_of(&r), r.size));
    const size_t shared =
        size_sum_or_max(size_sum_or_max(scratch_round(tables), scratch_round(sums)), ones);
    const size_t worker_bytes =
        size_product_or_max((size_t)threads, size_sum_or_max(r.image_bytes, r.gradient_bytes));
    char *memory = scratch_alloc(size_sum_or_max(shared, worker_bytes));
    if (memory == NULL) {
        return -1;
    }
    r.image_at = (ptrdiff_t *)memory;
    r.gradient_at = r.image_at + r.vectors;
    r.ones_at = r.gradient_at + r.vectors;
    r.row_at = r.ones_at + r.vectors;
    r.sums = memory + scratch_round(tables);
    r.ones = r.sums + scratch_round(sums);
    r.scratch = r.ones + ones;
    fill_tables(&r);
    pool_run(tasks, threads, block_task, &r, c->token);
    if (c->out.w % r.lanes != 0 &&
        !all_finite(c->compute, r.blocks * c->out_channels * entries_of(&r), r.sums)) {
        r.by_rows = true;
        pool_run(tasks, threads, block_task, &r, c->token);
    }
    add_filter_blocks(call->weight, call->bias, c->compute, r.sums, r.blocks, c->out_channels,
                      entries_of(&r));
    scratch_free(memory);
    return 0;
}
