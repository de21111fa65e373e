/*
 * Convolution by its definition, with lanes across filters: each pixel of the image is broadcast
 * and multiplied with the weights of up to four vectors of filters. The weights are packed once: in
 * the plan, or chain by chain if the whole call is one block. Pixels are read one by one at any
 * address, so narrow outputs, strides and kernels of any size are as fast as wide images. Small
 * images are computed several at a time, because the weights are read once for all of them.
 *
 * Sums have the same order and the same bits as in conv2d_direct.
 */
#include "conv2d/conv2d_cost.h"
#include "conv2d/conv2d_input.h"
#include "conv2d/conv2d_pixels.h"

enum {
    BLOCK_PIXELS = 192,     /* output pixels of a block: the weights are read once for each block */
    COPY_BYTES = 384 << 10, /* limit of a block's copied images */
    LATE_BYTES = 512 << 10, /* bytes of packed weights that do not fit the cache */
    MANY_IMAGES = 32,       /* with fewer images, twice as large blocks would leave threads idle */
    PREFETCH_BYTES = 256    /* results of shorter runs of pixels are not prefetched */
};

struct filter_lanes {
    struct packed_filters packed;
    bool copied;
    /* Elements from one row, channel and image to the next, of the images or of their copy. */
    size_t pitch, plane, image_step;
    size_t late; /* offset in scratch memory of filters that are not packed yet */
    ptrdiff_t *step_at, *pixel_at;
    size_t sums, row; /* offsets in scratch memory, after the copy: results, and a row of pooling */
};

static bool reads_border(const struct conv2d *c)
{
    return c->padding.h != 0 || c->padding.w != 0 || conv2d_input_rows(c, c->out.h) > c->in.h ||
           (c->out.w - 1) * c->stride.w + (c->kernel.w - 1) * c->dilation.w + 1 > c->in.w;
}

static size_t padded_width(const struct conv2d *c)
{
    return (c->out.w - 1) * c->stride.w + (c->kernel.w - 1) * c->dilation.w + 1;
}

/* True if the input is copied: to add a border, or because channels lie so far apart that a tile of
 * pixels reads more pages than the TLB holds. The second reason applies only if several blocks of
 * filters read the copy. */
static bool is_copied(const struct conv2d_plan *p)
{
    enum { PAGE = 4096, TLB_PAGES = 48 };
    const struct conv2d *c = &p->conv;
    return reads_border(c) || (c->in.h * c->in.w * p->size >= PAGE && p->channels > TLB_PAGES &&
                               c->stride.h == 1 && conv2d_filter_blocks(p) > 1);
}

static size_t copy_bytes(const struct conv2d_plan *p, size_t rows)
{
    const struct conv2d *c = &p->conv;
    return is_copied(p) ? size_product_or_max(p->channels * conv2d_input_rows(c, rows),
                                              padded_width(c) * p->size)
                        : 0;
}

/* Returns the bytes of the packed weights of one group. */
static size_t packed_bytes(const struct conv2d_plan *p)
{
    const size_t steps = size_product_or_max(p->channels, p->conv.kernel.h * p->conv.kernel.w);
    return size_product_or_max(size_product_or_max(conv2d_filter_vectors(p) * p->lanes, steps),
                               p->size);
}

static double filter_lanes_cost(const struct conv2d_plan *p, size_t images)
{
    const struct conv2d *c = &p->conv;
    const size_t pixels = c->out.h * c->out.w, vectors = conv2d_filter_vectors(p);
    const double lanes = (double)p->lanes,
                 copy = is_copied(p)
                            ? conv2d_cost_copy((double)(p->channels * c->in.h), (double)c->in.w)
                            : 0;
    /* Results are transposed, and weights are packed once a call. Many of them do not fit the
     * cache. */
    const double results = (double)(pixels * vectors) * lanes,
                 weights = (double)vectors * lanes * conv2d_cost_terms(p),
                 store = results * (results * (double)p->size > 4e6 ? 4.0 : 2.5) *
                         (c->pool ? 0.5 : 1.0),
                 pack = weights * (weights > 1e6 ? 12.0 : 4.0) / (double)images;
    /* Strided pixels of distant channels are read in place, from more pages than the TLB holds. */
    const bool distant = !is_copied(p) && c->in.h * c->in.w * p->size >= 4096 && p->channels > 48;
    return conv2d_cost_terms(p) * conv2d_cost_pixels(p, pixels, vectors) * (distant ? 1.5 : 1.0) +
           store + copy + pack;
}

static void filter_lanes_layout(struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    size_t rows = smaller(size_parts(BLOCK_PIXELS, c->out.w), c->out.h);
    while (rows > 1 && copy_bytes(p, rows) > COPY_BYTES) {
        rows = (rows + 1) / 2;
    }
    const size_t computed = conv2d_computed(c).h, by = conv2d_pool_size(c);
    rows = larger(smaller(rows, computed) / by * by, by); /* whole windows */
    p->row_block = rows;
    p->image_block = 1;
    if (rows == computed) {
        /* Weights that do not fit the cache are read again for each block. */
        const bool is_large = c->images >= MANY_IMAGES && packed_bytes(p) > LATE_BYTES;
        const size_t scale = is_large ? 2 : 1, images = scale * BLOCK_PIXELS / (rows * c->out.w),
                     fit = scale * COPY_BYTES / larger(copy_bytes(p, rows), 1);
        p->image_block = larger(smaller(smaller(images, fit), c->images), 1);
    }
}

static void fill_tables(const struct conv2d_plan *p, struct filter_lanes *s)
{
    const struct conv2d *c = &p->conv;
    ptrdiff_t *at = s->step_at;
    for (size_t channel = 0; channel < p->channels; channel++) {
        at = fill_offsets(at, channel * s->plane, c->kernel.h, c->kernel.w,
                          c->dilation.h * s->pitch, c->dilation.w);
    }
    at = s->pixel_at;
    for (size_t image = 0; image < p->image_block; image++) {
        at = fill_offsets(at, image * s->image_step, p->row_block, c->out.w, c->stride.h * s->pitch,
                          c->stride.w);
    }
}

/* True if weights are packed chain by chain. Other algorithms read the packed weights. */
static bool packs_late(const struct conv2d_plan *p)
{
    return p->algorithm == &conv2d_filter_lanes && packed_bytes(p) > LATE_BYTES &&
           p->row_block == conv2d_computed(&p->conv).h && p->image_block >= p->conv.images;
}

static void *filter_lanes_plan(const struct conv2d_plan *p, size_t *scratch)
{
    const struct conv2d *c = &p->conv;
    const size_t steps = size_product_or_max(p->channels, c->kernel.h * c->kernel.w),
                 pixels = p->image_block * p->row_block * c->out.w,
                 lanes = conv2d_filter_vectors(p) * p->lanes,
                 weights = size_product_or_max(c->groups * lanes, steps);
    const bool late = packs_late(p);
    struct arena arena = {.block = NULL};
    struct filter_lanes *s = NULL, parts = {.copied = is_copied(p)};
    while (arena_pass(&arena)) {
        s = arena_take(&arena, 1, sizeof *s);
        parts.packed.filters = arena_take(&arena, late ? 0 : weights, p->size);
        parts.packed.bias = arena_take(&arena, c->groups * lanes, p->size);
        parts.step_at = arena_take(&arena, steps, sizeof(ptrdiff_t));
        parts.pixel_at = arena_take(&arena, pixels, sizeof(ptrdiff_t));
    }
    if (arena.block == NULL) {
        return NULL;
    }
    parts.pitch = parts.copied ? padded_width(c) : c->in.w;
    parts.plane =
        parts.copied ? conv2d_input_rows(c, p->row_block) * parts.pitch : c->in.h * c->in.w;
    parts.image_step = (parts.copied ? p->channels : c->in_channels) * parts.plane;
    *scratch = 0;
    scratch_add(scratch, size_product_or_max(parts.copied ? p->image_block : 0, parts.image_step),
                p->size);
    parts.sums =
        scratch_add(scratch, size_product_or_max(pixels, p->kernels->vectors * p->lanes), p->size);
    parts.row =
        scratch_add(scratch, c->pool ? 2 * c->out.w * p->kernels->vectors * p->lanes : 0, p->size);
    parts.late = scratch_add(
        scratch,
        late ? p->channel_block * c->kernel.h * c->kernel.w * p->kernels->vectors * p->lanes : 0,
        p->size);
    char *to = parts.packed.filters;
    for (size_t g = 0; g < c->groups && !late; g++) {
        for (size_t b = 0; b < conv2d_filter_blocks(p); b++) {
            const struct filter_block block = conv2d_filter_block(p, b);
            conv2d_pack_filters(p, g * p->filters, block, 0, steps, to);
            to += steps * block.vectors * p->lanes * p->size;
        }
    }
    parts.packed.filters = late ? NULL : parts.packed.filters;
    if (c->bias == NULL) {
        parts.packed.bias = NULL;
    } else {
        conv2d_pack_bias(p, parts.packed.bias);
    }
    *s = parts;
    fill_tables(p, s);
    return s;
}

/* Copies the input rows of a block, with a border of zeros. */
static const char *copied_input(const struct conv2d_plan *p, const struct filter_lanes *s,
                                const struct conv2d_block *b)
{
    const struct conv2d *c = &p->conv;
    const size_t rows = conv2d_input_rows(c, p->row_block), image = c->in_channels * c->in.h;
    for (size_t i = 0; i < b->images; i++) {
        conv2d_copy_padded(c, b->input + i * image * c->in.w * p->size, p->channels,
                           b->row * c->stride.h, rows, s->pitch,
                           b->scratch + i * s->image_step * p->size);
    }
    return b->scratch;
}

static void filter_lanes_run(const struct conv2d_plan *p, const void *state,
                             const struct conv2d_block *b)
{
    const struct filter_lanes *s = state;
    const struct conv2d *c = &p->conv;
    const size_t taps = c->kernel.h * c->kernel.w, steps = p->channels * taps,
                 lanes = conv2d_filter_vectors(p) * p->lanes, group = b->filter / p->filters,
                 pixels = b->rows * c->out.w, map = conv2d_map_size(c),
                 stored = c->pool ? b->rows / 2 * (c->out.w / 2) : pixels;
    const char *input =
        s->copied ? copied_input(p, s, b) : b->input + b->row * c->stride.h * c->in.w * p->size;
    char *sums = b->scratch + s->sums;
    for (size_t i = 0; i < conv2d_filter_blocks(p); i++) {
        const struct filter_block block = conv2d_filter_block(p, i);
        const size_t width = block.vectors * p->lanes,
                     at = (group * lanes + block.first_vector * p->lanes) * p->size;
        for (size_t k = 0; k < p->channel_blocks; k++) {
            const bool last = k + 1 == p->channel_blocks;
            const size_t first = k * p->channel_block * taps, depth = conv2d_channels(p, k) * taps;
            char *filters = s->packed.filters == NULL
                                ? b->scratch + s->late
                                : s->packed.filters + at * steps + first * width * p->size;
            if (s->packed.filters == NULL) {
                conv2d_pack_filters(p, b->filter, block, first, depth, filters);
            }
            const struct pixels call = {
                .input = input,
                .pixel_offsets = s->pixel_at,
                .depth_offsets = s->step_at + first,
                .pixels = b->images * pixels,
                .depth = depth,
                .filters = filters,
                .vectors = block.vectors,
                .add = k > 0,
                .relu = last && c->relu,
                .bias = last && s->packed.bias != NULL ? s->packed.bias + at : NULL,
                .sums = sums,
                .sums_step = width,
                .prefetch = b->output + block.first * map * p->size,
                .prefetch_rows = last && stored * p->size >= PREFETCH_BYTES ? block.count : 0,
                .prefetch_step = map,
                .prefetch_bytes = stored * p->size,
            };
            p->kernels->pixels(&call);
        }
        for (size_t image = 0; image < b->images; image++) {
            char *results = sums + image * pixels * width * p->size;
            if (c->pool) {
                conv2d_pool_sums(p, results, b->rows, width, b->scratch + s->row);
            }
            conv2d_store_pixels(p, results, block, stored,
                                b->output +
                                    (image * c->out_channels + block.first) * map * p->size);
        }
    }
}

const struct conv2d_algorithm conv2d_filter_lanes = {
    .name = "filter_lanes",
    .rows_together = 1,
    .exact = true,
    .pools = true,
    .cost = filter_lanes_cost,
    .layout = filter_lanes_layout,
    .plan = filter_lanes_plan,
    .free_state = scratch_free,
    .run = filter_lanes_run,
};
