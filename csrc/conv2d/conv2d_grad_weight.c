/*
 * The gradient of a convolution's filters. For each filter, channel and kernel tap, it is a dot
 * product over all output pixels of all images: of the gradients of these pixels and the input
 * pixels that the tap reads for them. The gradients are copied so that vectors do not straddle
 * cache lines, and rows that are not whole vectors are padded with zeros. Images are copied where
 * conv2d_input.h says so, and where rows are padded.
 *
 * Order of summation: each block of images is summed in chunks of vectors, and the sums of the
 * blocks are added in order. Shapes alone determine blocks and chunks.
 */
#include <string.h>

#include "conv2d/conv2d_filter_sums.h"
#include "conv2d/conv2d_input.h"
#include "conv2d/convolutions.h"
#include "nn/loops.h"

enum {
    /* Limit of the copied images and gradients of a batch, so that they stay in the cache. */
    BATCH_BYTES = 512 << 10,
    VECTORS_PER_CHUNK = 128, /* vectors of a row in one kernel call: eight such rows stay in L1 */
    ROWS_PER_CALL = 256      /* row pointers of one kernel call */
};

struct grad_weight_run {
    const struct conv2d_grad_weight *call;
    const struct conv2d *conv;
    dots_kernel *dots;
    size_t size, lanes;
    size_t channels, filters, entries;       /* of one group; see conv2d_filter_sums.h */
    size_t row_vectors, phase, pitch, plane; /* of an image, as in struct conv2d_plan */
    bool images_copied;
    size_t image_step, map_step; /* elements from one image to the next: pixels, gradients */
    struct image_blocks blocks;
    size_t vectors; /* vectors of one filter's gradients in a batch */
    bool by_rows;   /* add_rows computes the sums */
    ptrdiff_t *image_at, *gradient_at, *ones_at, *row_at;
    char *ones; /* a row of ones: a dot product with it sums the other row */
    char *sums; /* [blocks][out_channels][entries] */
    char *scratch;
    /* Bytes. A worker's scratch memory holds the copied images, then the copied gradients. */
    size_t gradients, worker_scratch;
};

/* Copies the output gradients of one image and pads their rows with zeros. */
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

/* Computes the entries of all filters of a group, out (filters, entries), over the vectors of d:
 * the dot products of the gradients with the pixels of each kernel tap, then the sum of the
 * gradients. With d->add, adds them to out. */
static void add_vectors(const struct grad_weight_run *r, struct dots *d, const ptrdiff_t *image_at,
                        const char *images, const char *gradients, char *out)
{
    const struct conv2d *c = r->conv;
    const size_t entries = r->entries, map = c->out.h * r->row_vectors * r->lanes;
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
                const size_t row = (p + i) / c->kernel.w, channel = row / c->kernel.h,
                             y = row % c->kernel.h * c->dilation.h;
                const size_t x = (p + i) % c->kernel.w * c->dilation.w;
                right[i] = images + (channel * r->plane + y * r->pitch +
                                     conv2d_copied_column(x, c->stride.w, r->phase)) *
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
 * Adds one output row at a time, without padding: the last elements of a row are summed one by one.
 * This path computes all sums again if one of them is not finite: a zero of the padding times an
 * infinite pixel would be a NaN that does not belong to the sum.
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

/* Adds the products of a batch of `count` images. */
static void add_products(const struct grad_weight_run *r, const char *images, const char *gradients,
                         size_t count, bool add, char *out)
{
    const size_t vectors = r->vectors / r->blocks.batch * count;
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
                 first = block * r->blocks.images,
                 end = smaller(first + r->blocks.images, c->images);
    char *images = r->scratch + worker * r->worker_scratch, *gradients = images + r->gradients;
    char *out = r->sums + (block * c->out_channels + group * r->filters) * r->entries * r->size;
    for (size_t image = first, n; image < end && !cancel_poll(c->token, worker); image += n) {
        n = smaller(end - image, r->blocks.batch);
        const char *planes =
            (const char *)c->input +
            (image * c->in_channels + group * r->channels) * c->in.h * c->in.w * r->size;
        const char *maps =
            (const char *)c->output +
            (image * c->out_channels + group * r->filters) * c->out.h * c->out.w * r->size;
        const size_t copies = r->images_copied ? n * r->channels : 0;
        for (size_t i = 0; i < copies; i++) {
            const size_t channel = i / r->channels * c->in_channels + i % r->channels;
            conv2d_copy_rows(c, planes + channel * c->in.h * c->in.w * r->size, 0,
                             r->plane / r->pitch, c->stride.w, r->phase,
                             images + i * r->plane * r->size);
        }
        for (size_t i = 0; i < n; i++) {
            copy_maps(r, maps + i * c->out_channels * c->out.h * c->out.w * r->size,
                      gradients + i * r->map_step * r->size);
        }
        add_products(r, r->images_copied ? images : planes, gradients, n, image > first, out);
    }
}

static void plan_copies(struct grad_weight_run *r)
{
    const struct conv2d *c = r->conv;
    r->channels = c->in_channels / c->groups;
    r->filters = c->out_channels / c->groups;
    r->entries = filter_entries(c);
    r->row_vectors = size_parts(c->out.w, r->lanes);
    r->images_copied = c->out.w % r->lanes != 0 || conv2d_needs_copy(c);
    r->phase = r->images_copied
                   ? (c->kernel.w - 1) * c->dilation.w / c->stride.w + r->row_vectors * r->lanes
                   : c->in.w;
    r->pitch = r->phase * c->stride.w;
    r->plane = r->images_copied ? conv2d_input_rows(c, c->out.h) * r->pitch : c->in.h * c->in.w;
    r->image_step = (r->images_copied ? r->channels : c->in_channels) * r->plane;
    r->map_step = r->filters * c->out.h * r->row_vectors * r->lanes;
    const size_t image = size_product_or_max(r->channels * r->plane, r->size),
                 map = size_product_or_max(r->map_step, r->size);
    r->blocks = image_blocks_of(c, BATCH_BYTES / size_sum_or_max(size_sum_or_max(image, map), 1));
    r->vectors = r->blocks.batch * c->out.h * r->row_vectors;
    scratch_add(&r->worker_scratch, r->images_copied ? r->blocks.batch : 0, image);
    r->gradients = scratch_add(&r->worker_scratch, r->blocks.batch, map);
}

static void fill_tables(struct grad_weight_run *r)
{
    const struct conv2d *c = r->conv;
    size_t n = 0;
    for (size_t image = 0; image < r->blocks.batch; image++) {
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
    fill_steps(r->row_at, r->row_vectors, r->lanes);
    for (size_t i = 0; i < (r->row_vectors + 1) * r->lanes; i++) {
        compute_store(c->compute, r->ones, i, 1.0);
    }
}

int conv2d_grad_weight(const struct conv2d_grad_weight *gradient)
{
    struct conv2d_grad_weight shortened = *gradient;
    conv2d_shorten_strides(&shortened.conv);
    const struct conv2d_grad_weight *call = &shortened;
    const struct conv2d *c = &call->conv;
    const struct layer_kernels *kernels = &conv2d_row_kernels(c)->layers[c->compute];
    struct grad_weight_run r = {
        .call = call,
        .conv = c,
        .dots = kernels->dots,
        .size = compute_size(c->compute),
        .lanes = kernels->lanes,
    };
    if (c->images == 0 || c->out.h == 0 || c->out.w == 0) {
        clear_filters(c, call->weight, call->bias);
        return 0;
    }
    if (!conv2d_may_fit(c)) {
        return -1;
    }
    plan_copies(&r);
    const size_t tasks = r.blocks.count * c->groups;
    const int threads = layer_threads(size_product_or_max(c->images, c->out.h * c->out.w),
                                      size_product_or_max(r.entries - 1, r.filters), tasks);
    const size_t all_entries = size_product_or_max(r.blocks.count * c->out_channels, r.entries);
    struct arena arena = {.block = NULL};
    while (arena_pass(&arena)) {
        r.image_at = arena_take(&arena, r.vectors, sizeof *r.image_at);
        r.gradient_at = arena_take(&arena, r.vectors, sizeof *r.gradient_at);
        r.ones_at = arena_take(&arena, r.vectors, sizeof *r.ones_at);
        r.row_at = arena_take(&arena, r.row_vectors, sizeof *r.row_at);
        r.sums = arena_take(&arena, all_entries, r.size);
        r.ones = arena_take(&arena, (r.row_vectors + 1) * r.lanes, r.size);
        r.scratch = arena_take(&arena, (size_t)threads, r.worker_scratch);
    }
    if (arena.block == NULL) {
        return -1;
    }
    fill_tables(&r);
    pool_run(tasks, threads, block_task, &r, c->token);
    if (c->out.w % r.lanes != 0 && !layer_loops[c->compute].all_finite(all_entries, r.sums)) {
        r.by_rows = true;
        pool_run(tasks, threads, block_task, &r, c->token);
    }
    add_filter_sums(c, r.sums, r.blocks.count, call->weight, call->bias);
    scratch_free(arena.block);
    return 0;
}
