/*
 * Winograd convolution F(2 x 2, 3 x 3) for float32 and stride 1: see
 * layer_kernels/winograd3_template.h.
 * A tile of 2 x 2 output pixels takes 16 products instead of 36. The products are those of
 * pixels_kernel, with lanes across filters, tiles as its pixels and channels as its depth.
 *
 * A block is some rows of tiles of one image, or several small images.
 *
 * The error of a result is relative to the largest element of the 4 x 4 pixels that its tile reads.
 * If a result of a block of rows of an image is not finite, conv2d_filter_lanes computes these rows
 * again.
 */
#include <string.h>

#include "conv2d/conv2d_cost.h"
#include "conv2d/conv2d_input.h"
#include "conv2d/conv2d_pixels.h"

enum {
    /* Limits of the transformed input of a block, so that it stays in L2 with its products and the
     * filters. Processors whose vectors have 256 bits often have an L2 of 256 or 512 KB. */
    INPUT_BYTES = 512 << 10,
    INPUT_BYTES_256 = 160 << 10,
    MIN_TILES = 32, /* fewer leave registers of pixels_kernel unused */
    BLOCK_TILES = 96,
    MIN_BLOCK_TILES = 24,
    PRODUCT_TILES = 48,   /* tiles whose products are kept at a time */
    CHAIN_CHANNELS = 256, /* terms of a chain, as in conv2d_direct */
    MAX_LANES = 16        /* the largest VF_LANES of any instruction set */
};

struct winograd3 {
    void *exact;                    /* the state of conv2d_filter_lanes */
    size_t tile_columns, tile_rows; /* of a block's image */
    bool across;          /* the input is transformed with lanes across channels, not along rows */
    size_t pitch;         /* of a copied row, or of the channels of a copied pixel */
    size_t channel_lanes; /* channels of a transformed tile, with `across` */
    float *filters;       /* [groups][blocks of filters][16][channels][lanes of a block] */
    const float *bias;    /* [groups][lanes of all blocks], or NULL */
    ptrdiff_t *channel_at, *tile_at;
    /* A worker's scratch memory: a copy of rows, the transformed input, products, sums and a row of
     * pooling. Offsets in bytes. */
    size_t inputs, products, sums, row;
    size_t input_step; /* elements from one of the 16 sums of the input to the next */
};

static size_t tiles_of(size_t pixels)
{
    return (pixels + 1) / 2;
}

static size_t tiles_of_image(const struct conv2d_plan *p)
{
    return tiles_of(p->conv.out.h) * tiles_of(p->conv.out.w);
}

/* True if a vector has 256 bits, as with AVX2. The choices that depend on it were measured there,
 * and with 512 bits. */
static bool has_256_bits(const struct conv2d_plan *p)
{
    return p->lanes * sizeof(float) == 32;
}

/* True if the input is transformed with lanes across channels. Along a row of few tiles many lanes
 * stay unused. With 256 bits, products also read channels that are adjacent faster. */
static bool transforms_across_channels(const struct conv2d_plan *p)
{
    return p->channels >= p->lanes && (has_256_bits(p) || 2 * tiles_of(p->conv.out.w) <= p->lanes);
}

static bool winograd3_fits(const struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    return c->compute == COMPUTE_F32 && c->kernel.h == 3 && c->kernel.w == 3 && c->stride.h == 1 &&
           c->stride.w == 1 && c->dilation.h == 1 && c->dilation.w == 1 &&
           (tiles_of_image(p) >= MIN_TILES ||
            (c->images >= CONV2D_MANY_IMAGES && transforms_across_channels(p)));
}

static double winograd3_cost(const struct conv2d_plan *p, size_t images)
{
    const size_t tiles = tiles_of_image(p), vectors = conv2d_filter_vectors(p);
    const double channels = (double)p->channels, lanes = (double)p->lanes,
                 all = (double)(tiles * vectors),
                 multiply = WINOGRAD3_PRODUCTS * channels * conv2d_cost_pixels(p, tiles, vectors);
    const double transforms =
                     channels * (double)tiles / lanes * 120.0 + all * (160.0 + 10.0 * lanes),
                 filters = (double)vectors * channels * 50.0 * lanes / (double)images;
    return multiply + transforms + filters;
}

static void winograd3_layout(struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    const size_t columns = tiles_of(c->out.w), rows = tiles_of(c->out.h),
                 bytes = has_256_bits(p) ? INPUT_BYTES_256 : INPUT_BYTES,
                 fit = bytes / (WINOGRAD3_PRODUCTS * sizeof(float)) / larger(p->channels, 1),
                 tiles = larger(smaller(fit, BLOCK_TILES), MIN_BLOCK_TILES);
    const size_t row_block = smaller(size_parts(tiles, columns), rows);
    p->row_block = smaller(2 * row_block, conv2d_computed(c).h);
    p->image_block = 1;
    if (row_block == rows && transforms_across_channels(p)) {
        /* blocks of nearly equal sizes */
        const size_t most = larger(PRODUCT_TILES / (rows * columns), 1);
        p->image_block = size_parts(c->images, size_parts(c->images, most));
    }
}

static void winograd3_free(void *state)
{
    struct winograd3 *s = state;
    conv2d_filter_lanes.free_state(s->exact);
    scratch_free(s);
}

static void *winograd3_plan(const struct conv2d_plan *p, size_t *scratch)
{
    const struct conv2d *c = &p->conv;
    const size_t columns = tiles_of(c->out.w), rows = tiles_of(p->row_block),
                 tiles = rows * columns * p->image_block, lanes = p->lanes,
                 blocks = conv2d_filter_blocks(p), all_lanes = conv2d_filter_vectors(p) * lanes,
                 weights = size_product_or_max(c->groups * all_lanes, p->channels),
                 most_lanes = p->kernels->vectors * lanes;
    struct arena arena = {.block = NULL};
    struct winograd3 *s = NULL, parts = {
                                    .tile_columns = columns,
                                    .tile_rows = rows,
                                    .across = transforms_across_channels(p),
                                    .channel_lanes = size_parts(p->channels, lanes) * lanes,
                                };
    while (arena_pass(&arena)) {
        s = arena_take(&arena, 1, sizeof *s);
        parts.filters = arena_take(&arena, weights, WINOGRAD3_PRODUCTS * sizeof(float));
        parts.channel_at = arena_take(&arena, p->channels, sizeof(ptrdiff_t));
        parts.tile_at = arena_take(&arena, tiles, sizeof(ptrdiff_t));
    }
    if (arena.block == NULL) {
        return NULL;
    }
    struct conv2d_plan exact = *p;
    exact.image_block = 1;
    parts.exact = conv2d_filter_lanes.plan(&exact, scratch);
    if (parts.exact == NULL) {
        scratch_free(arena.block);
        return NULL;
    }
    const struct packed_filters *exact_filters = parts.exact;
    parts.bias = (const float *)exact_filters->bias;
    parts.pitch =
        parts.across ? parts.channel_lanes + MAX_LANES : 2 * size_parts(columns, lanes) * lanes + 2;
    parts.input_step = (parts.across ? parts.channel_lanes : p->channels) * tiles + MAX_LANES;
    size_t own = 0;
    scratch_add(&own, (2 * rows + 2) * (parts.across ? c->in.w : 1) + 1,
                parts.pitch * sizeof(float));
    parts.inputs = scratch_add(&own, parts.input_step, WINOGRAD3_PRODUCTS * sizeof(float));
    parts.products =
        scratch_add(&own, PRODUCT_TILES * most_lanes, WINOGRAD3_PRODUCTS * sizeof(float));
    parts.sums = scratch_add(&own, p->row_block * c->out.w * most_lanes, sizeof(float));
    parts.row = scratch_add(&own, c->pool ? 2 * c->out.w * most_lanes : 0, sizeof(float));
    *scratch = larger(*scratch, own);
    float *to = parts.filters;
    const float *packed = (const float *)exact_filters->filters;
    for (size_t i = 0; i < c->groups * blocks; i++) {
        const size_t width = conv2d_filter_block(p, i % blocks).vectors * lanes;
        p->winograd->filter_transform3(to, p->channels * width, packed, p->channels, width);
        to += WINOGRAD3_PRODUCTS * p->channels * width;
        packed += 9 * p->channels * width;
    }
    *s = parts;
    fill_steps(s->channel_at, p->channels, s->across ? 1 : tiles);
    fill_steps(s->tile_at, tiles, s->across ? s->channel_lanes : 1);
    return s;
}

/* Fetches the rows of a channel that transform_rows reads soon. */
static void prefetch_rows(const struct conv2d *c, const char *map, size_t first, size_t rows)
{
    enum { LINE = 64 };
    const size_t line = c->in.w * sizeof(float),
                 top = first > c->padding.h ? first - c->padding.h : 0,
                 bottom = smaller(first + rows, c->in.h);
    for (size_t at = top * line; at < bottom * line; at += LINE) {
        __builtin_prefetch(map + at, 0, 2);
    }
}

/* Transforms the input of a block of one image, along its rows. */
static void transform_rows(const struct conv2d_plan *p, const struct winograd3 *s,
                           const struct conv2d_block *b)
{
    const struct conv2d *c = &p->conv;
    const size_t map = c->in.h * c->in.w * p->size, tiles = s->tile_rows * s->tile_columns;
    float *inputs = (float *)(b->scratch + s->inputs);
    for (size_t i = 0; i < p->channels; i++) {
        if (i + 2 < p->channels) {
            prefetch_rows(c, b->input + (i + 2) * map, b->row, 2 * s->tile_rows + 2);
        }
        conv2d_copy_padded(c, b->input + i * map, 1, b->row, 2 * s->tile_rows + 2, s->pitch,
                           b->scratch);
        p->winograd->input_transform3(inputs + i * tiles, s->input_step, (const float *)b->scratch,
                                      s->pitch, s->tile_rows, s->tile_columns);
    }
}

/* Copies n pixels of all channels, `map` bytes apart: to is (n, pitch). */
static void copy_pixels(const struct conv2d_plan *p, const struct winograd3 *s, const char *from,
                        size_t n, float *to)
{
    enum { CHANNELS = 64 }; /* row pointers of one transposition */
    const size_t map = p->conv.in.h * p->conv.in.w * p->size;
    for (size_t first = 0, count; first < p->channels; first += count) {
        const void *rows[CHANNELS];
        count = smaller(p->channels - first, CHANNELS);
        for (size_t i = 0; i < count; i++) {
            rows[i] = from + (first + i) * map;
        }
        kernels_current()->tiles[COMPUTE_F32].transpose(to + first, s->pitch, rows, count, n);
    }
}

/* Transforms the input of a block of one image, with lanes across channels. Lanes beyond the last
 * channel hold anything. */
static void transform_channels(const struct conv2d_plan *p, const struct winograd3 *s,
                               const struct conv2d_block *b, const char *input, float *to)
{
    const struct conv2d *c = &p->conv;
    const size_t rows = 2 * s->tile_rows + 2,
                 top = smaller(larger(b->row, c->padding.h) - c->padding.h, c->in.h),
                 end = larger(b->row + rows, c->padding.h) - c->padding.h,
                 bottom = smaller(end, c->in.h);
    float *border = (float *)b->scratch, *copy = border + s->pitch; /* a pixel of zeros first */
    memset(border, 0, s->pitch * sizeof(float));
    copy_pixels(p, s, input + top * c->in.w * p->size, (bottom - top) * c->in.w, copy);
    for (size_t y = 0; y < s->tile_rows; y++) {
        const float *row[4];
        size_t step[4]; /* from pixel to pixel; 0 in the border */
        for (size_t r = 0; r < 4; r++) {
            const size_t at = b->row + 2 * y + r; /* in the padded image */
            const bool inside = at >= c->padding.h + top && at < c->padding.h + bottom;
            step[r] = inside ? s->pitch : 0;
            row[r] = inside ? copy + (at - c->padding.h - top) * c->in.w * s->pitch : border;
        }
        for (size_t x = 0; x < s->tile_columns; x++, to += s->channel_lanes) {
            const float *pixels[16];
            for (size_t k = 0; k < 16; k++) {
                const size_t at = 2 * x + k % 4;
                pixels[k] = at >= c->padding.w && at - c->padding.w < c->in.w
                                ? row[k / 4] + (at - c->padding.w) * step[k / 4]
                                : border;
            }
            p->winograd->tile_transform3(to, s->input_step, pixels, s->channel_lanes);
        }
    }
}

/* Multiplies tiles [first, first + count) of a block with a block of filters. Meanwhile fetches
 * their share of the output, if they are tiles of one image. */
static void multiply(const struct conv2d_plan *p, const struct winograd3 *s,
                     const struct conv2d_block *b, const float *filters, struct filter_block block,
                     size_t first, size_t count)
{
    const size_t width = block.vectors * p->lanes, map = conv2d_map_size(&p->conv),
                 tile_bytes = p->size * (p->conv.pool ? 1 : 4);
    for (size_t f = 0; f < WINOGRAD3_PRODUCTS; f++) {
        const size_t row = f * block.count / WINOGRAD3_PRODUCTS,
                     end = (f + 1) * block.count / WINOGRAD3_PRODUCTS;
        for (size_t k = 0; k == 0 || k < p->channels; k += CHAIN_CHANNELS) {
            const struct pixels call = {
                .input = (const float *)(b->scratch + s->inputs) + f * s->input_step,
                .pixel_offsets = s->tile_at + first,
                .depth_offsets = s->channel_at + k,
                .pixels = count,
                .depth = smaller(p->channels - k, CHAIN_CHANNELS),
                .filters = filters + (f * p->channels + k) * width,
                .vectors = block.vectors,
                .add = k > 0,
                .sums = (float *)(b->scratch + s->products) + f * PRODUCT_TILES * width,
                .sums_step = width,
                .prefetch = b->output + (block.first + row) * map * p->size + first * tile_bytes,
                .prefetch_rows = k == 0 && b->images == 1 ? end - row : 0,
                .prefetch_step = map,
                .prefetch_bytes = count * tile_bytes,
            };
            p->kernels->pixels(&call);
        }
    }
}

/* Computes the results of one block of filters. A block of several images is one pass over its
 * tiles. Sets finite[i] to false if a result of image i is not finite. */
static void compute_filters(const struct conv2d_plan *p, const struct winograd3 *s,
                            const struct conv2d_block *b, struct filter_block block, bool *finite)
{
    const struct conv2d *c = &p->conv;
    const size_t all_lanes = conv2d_filter_vectors(p) * p->lanes, width = block.vectors * p->lanes,
                 at = b->filter / p->filters * all_lanes + block.first_vector * p->lanes,
                 tiles = tiles_of(b->rows) * s->tile_columns;
    float *sums = (float *)(b->scratch + s->sums);
    for (size_t first = 0, count; first < tiles * b->images; first += count) {
        count = smaller(tiles * b->images - first, PRODUCT_TILES);
        multiply(p, s, b, s->filters + at * WINOGRAD3_PRODUCTS * p->channels, block, first, count);
        for (size_t i = 0; i < b->images; i++) {
            const struct winograd3_output_transform transform = {
                .sums = (const float *)(b->scratch + s->products) + i * tiles * width,
                .sum_step = PRODUCT_TILES * width,
                .width = width,
                .first = first,
                .count = smaller(count, tiles),
                .tiles = s->tile_columns,
                .rows = b->rows,
                .columns = c->out.w,
                .bias = s->bias == NULL ? NULL : s->bias + at,
                .relu = c->relu,
                .out = sums,
            };
            finite[i] &= p->winograd->output_transform3(&transform);
            if (first + count < tiles) {
                continue; /* sums are not complete yet */
            }
            if (c->pool) {
                conv2d_pool_sums(p, sums, b->rows, width, b->scratch + s->row);
            }
            conv2d_store_pixels(
                p, sums, block, c->pool ? b->rows / 2 * (c->out.w / 2) : b->rows * c->out.w,
                b->output + (i * c->out_channels + block.first) * conv2d_map_size(c) * p->size);
        }
    }
}

static void winograd3_run(const struct conv2d_plan *p, const void *state,
                          const struct conv2d_block *b)
{
    const struct winograd3 *s = state;
    const struct conv2d *c = &p->conv;
    const size_t tiles = tiles_of(b->rows) * s->tile_columns,
                 image = c->in_channels * c->in.h * c->in.w * p->size;
    bool finite[PRODUCT_TILES];
    for (size_t i = 0; i < b->images; i++) {
        finite[i] = true;
        if (s->across) {
            transform_channels(p, s, b, b->input + i * image,
                               (float *)(b->scratch + s->inputs) + i * tiles * s->channel_lanes);
        }
    }
    if (!s->across) {
        transform_rows(p, s, b);
    }
    for (size_t i = 0; i < conv2d_filter_blocks(p); i++) {
        compute_filters(p, s, b, conv2d_filter_block(p, i), finite);
    }
    for (size_t i = 0; i < b->images; i++) {
        if (!finite[i]) {
            struct conv2d_block one = *b;
            one.images = 1;
            one.input += i * image;
            one.output += i * c->out_channels * conv2d_map_size(c) * p->size;
            conv2d_filter_lanes.run(p, s->exact, &one);
        }
    }
}

const struct conv2d_algorithm conv2d_winograd3 = {
    .name = "winograd3",
    .rows_together = 2,
    .pools = true,
    .fits = winograd3_fits,
    .cost = winograd3_cost,
    .layout = winograd3_layout,
    .plan = winograd3_plan,
    .free_state = winograd3_free,
    .run = winograd3_run,
};
