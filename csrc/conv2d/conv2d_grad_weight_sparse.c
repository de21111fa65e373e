/*
 * The gradient of a convolution's filters if only some output pixels have a gradient. Each such
 * pixel reads a patch of the image, and the result is the sum of these patches, each times its
 * gradient. For a convolution before a 2 x 2 pool, this takes a quarter of the multiplications, and
 * fewer if a ReLU sets some of the gradients to zero.
 *
 * Order of summation: block of images by block of images. Shapes alone determine the blocks. Each
 * block is summed in the order of patches_kernel, over the gradients that are not zero.
 */
#include <string.h>

#include "conv2d/conv2d_filter_sums.h"
#include "conv2d/conv2d_input.h"
#include "nn/loops.h"

enum {
    BATCH_BYTES = 128 << 10, /* limit of the images that are copied at a time */
    MAX_BATCH = 32           /* limit of the number of these images */
};

struct sparse_run {
    const struct conv2d_grad_weight_sparse *call;
    const struct conv2d *conv;
    const struct layer_kernels *kernels;
    size_t size, lanes;
    size_t channels, filters, entries; /* of one group; see conv2d_filter_sums.h */
    /* Elements of a row and of a channel of a copied image, with its border and one vector of
     * padding after each row. */
    size_t pitch, plane;
    struct image_blocks blocks;
    ptrdiff_t *pixel_at; /* [out.h * out.w]: the offset of each output pixel's patch in a channel */
    char *sums;          /* [blocks][out_channels][entries] */
    char *scratch;
    /* Bytes. A worker's scratch memory holds the copied images, then the offsets of patches, then
     * their gradients (factors). */
    size_t patch_at, factors, worker_scratch;
};

/* Gathers the nonzero gradients of one filter in `count` images, and the offsets of their patches.
 * Returns the number of gradients. */
static size_t gather(const struct sparse_run *r, size_t filter, size_t image, size_t count,
                     ptrdiff_t *at, char *factors)
{
    const size_t gradients = r->call->gradients_per_map;
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const size_t map = ((image + i) * r->conv->out_channels + filter) * gradients;
        n += layer_loops[r->conv->compute].gather_nonzero(
            gradients, r->call->indices + map, (const char *)r->conv->output + map * r->size,
            r->pixel_at, (ptrdiff_t)(i * r->channels * r->plane), at + n, factors + n * r->size);
    }
    return n;
}

/* Adds the n gathered patches, each times its gradient, to the filter's entries. */
static void add_filter(const struct sparse_run *r, const char *images, const ptrdiff_t *at,
                       const char *factors, size_t n, char *out)
{
    const struct conv2d *c = r->conv;
    _Alignas(64) double sums[PATCH_ROWS * WINOGRAD_PADDING];
    for (size_t channel = 0; channel < r->channels; channel++) {
        for (size_t y = 0, rows; y < c->kernel.h; y += rows) {
            const size_t row = channel * r->plane + y * c->dilation.h * r->pitch,
                         to = (channel * c->kernel.h + y) * c->kernel.w;
            rows = smaller(c->kernel.h - y, PATCH_ROWS);
            for (size_t x = 0; x < c->kernel.w; x += r->lanes) {
                r->kernels->patches(sums, images + (row + x) * r->size, c->dilation.h * r->pitch,
                                    at, factors, n, rows);
                r->kernels->add_rows(out + (to + x) * r->size, c->kernel.w, 1, sums, r->lanes, rows,
                                     smaller(c->kernel.w - x, r->lanes));
            }
        }
    }
    layer_loops[c->compute].add_sum(n, factors, out + (r->entries - 1) * r->size);
}

static void block_task(void *context, size_t task, size_t worker)
{
    const struct sparse_run *r = context;
    const struct conv2d *c = r->conv;
    const size_t block = task / c->groups, group = task % c->groups,
                 first = block * r->blocks.images,
                 end = smaller(first + r->blocks.images, c->images);
    char *images = r->scratch + worker * r->worker_scratch, *factors = images + r->factors;
    ptrdiff_t *at = (ptrdiff_t *)(images + r->patch_at);
    memset(r->sums + (block * c->out_channels + group * r->filters) * r->entries * r->size, 0,
           r->filters * r->entries * r->size);
    for (size_t image = first, n; image < end && !cancel_poll(c->token, worker); image += n) {
        n = smaller(end - image, r->blocks.batch);
        for (size_t i = 0; i < n * r->channels; i++) {
            const size_t channel =
                (image + i / r->channels) * c->in_channels + group * r->channels + i % r->channels;
            conv2d_copy_rows(c, (const char *)c->input + channel * c->in.h * c->in.w * r->size, 0,
                             r->plane / r->pitch, 1, r->pitch, images + i * r->plane * r->size);
        }
        for (size_t f = group * r->filters; f < (group + 1) * r->filters; f++) {
            char *out = r->sums + (block * c->out_channels + f) * r->entries * r->size;
            add_filter(r, images, at, factors, gather(r, f, image, n, at, factors), out);
        }
    }
}

static void plan_copies(struct sparse_run *r)
{
    const struct conv2d *c = r->conv;
    r->channels = c->in_channels / c->groups;
    r->filters = c->out_channels / c->groups;
    r->entries = filter_entries(c);
    r->pitch = larger((c->out.w - 1) * c->stride.w + c->kernel.w, c->padding.w) + r->lanes;
    r->plane = conv2d_input_rows(c, c->out.h) * r->pitch;
    const size_t image = size_product_or_max(r->channels * r->plane, r->size);
    r->blocks = image_blocks_of(c, smaller(BATCH_BYTES / size_sum_or_max(image, 1), MAX_BATCH));
    /* One more, because gather stores zeros too, and the next gradient overwrites them. */
    const size_t gradients =
        size_sum_or_max(size_product_or_max(r->blocks.batch, r->call->gradients_per_map), 1);
    scratch_add(&r->worker_scratch, r->blocks.batch, image);
    r->patch_at = scratch_add(&r->worker_scratch, gradients, sizeof(ptrdiff_t));
    r->factors = scratch_add(&r->worker_scratch, gradients, r->size);
}

/* Returns the kernels for patches as wide as the filters. */
static const struct layer_kernels *patch_kernels(const struct conv2d *c)
{
    const struct kernels *wide = kernels_current();
    const bool narrow = wide->narrow != NULL && 2 * c->kernel.w <= wide->layers[c->compute].lanes;
    return &(narrow ? wide->narrow : wide)->layers[c->compute];
}

int conv2d_grad_weight_sparse(const struct conv2d_grad_weight_sparse *call)
{
    const struct conv2d *c = &call->conv;
    const struct layer_kernels *kernels = patch_kernels(c);
    struct sparse_run r = {
        .call = call,
        .conv = c,
        .kernels = kernels,
        .size = compute_size(c->compute),
        .lanes = kernels->lanes,
    };
    if (c->images == 0) {
        clear_filters(c, call->weight, call->bias);
        return 0;
    }
    if (c->out.h == 0 || c->out.w == 0 || !conv2d_may_fit(c)) {
        return -1;
    }
    plan_copies(&r);
    const size_t tasks = r.blocks.count * c->groups,
                 gradients = size_product_or_max(c->images, call->gradients_per_map);
    const int threads =
        layer_threads(gradients, size_product_or_max(r.entries - 1, r.filters), tasks);
    const size_t all_entries = size_product_or_max(r.blocks.count * c->out_channels, r.entries);
    struct arena arena = {.block = NULL};
    while (arena_pass(&arena)) {
        r.sums = arena_take(&arena, all_entries, r.size);
        r.pixel_at = arena_take(&arena, c->out.h * c->out.w, sizeof *r.pixel_at);
        r.scratch = arena_take(&arena, (size_t)threads, r.worker_scratch);
    }
    if (arena.block == NULL) {
        return -1;
    }
    fill_offsets(r.pixel_at, 0, c->out.h, c->out.w, c->stride.h * r.pitch, c->stride.w);
    pool_run(tasks, threads, block_task, &r, c->token);
    add_filter_sums(c, r.sums, r.blocks.count, call->weight, call->bias);
    scratch_free(arena.block);
    return 0;
}
