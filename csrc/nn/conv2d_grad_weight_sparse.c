/*
 * The gradient of a convolution's filters where only some pixels of the feature maps have a
 * gradient. It is the sum of the image patches that these pixels read, each times its gradient.
 * Before a 2 x 2 pool this takes a quarter of the multiplications, and fewer if a ReLU zeroes some
 * of the gradients.
 *
 * Order of summation: block of images by block of images, which shapes alone determine; inside a
 * block as in kernels.h (patches), over the gradients that are not zero.
 */
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "nn/layers.h"
#include "vectors/reduce.h"

enum {
    BATCH_BYTES = 128 << 10, /* limit of the images that are copied at a time */
    MAX_BATCH = 32,          /* limit of their number */
    MAX_BLOCKS = 32,         /* blocks of images; each has its own sums */
    SUMS_BYTES = 64 << 20    /* limit of the sums of all blocks */
};

struct sparse_run {
    const struct conv2d_grad_weight_sparse *call;
    const struct conv2d *conv;
    patches_kernel *patches;
    size_t size, lanes;
    size_t channels, filters, window;
    size_t pitch, plane; /* elements of a row and a channel of a copied image, with its border and
                            one vector of padding after each row */
    size_t batch;        /* images that are copied at a time */
    size_t block_images, blocks; /* images of a block; number of blocks */
    ptrdiff_t *pixel_at; /* [out.h * out.w]: offset of the patch that each output pixel reads */
    char *sums;          /* [blocks][out_channels][channels * window + 1] */
    char *scratch;
    size_t image_bytes, at_bytes, worker_scratch;
};

/* Entries of a filter's gradient: its weights and its bias. */
static size_t entries_of(const struct sparse_run *r)
{
    return r->channels * r->window + 1;
}

/* Copies one channel of an image, with its border. */
static void copy_plane(const struct sparse_run *r, const char *plane, char *to)
{
    const struct conv2d *c = r->conv;
    const size_t rows = r->plane / r->pitch,
                 n = smaller(c->in.w, r->pitch - smaller(r->pitch, c->padding.w));
    memset(to, 0, r->plane * r->size);
    for (size_t y = 0; y < c->in.h && y + c->padding.h < rows; y++) {
        memcpy(to + ((y + c->padding.h) * r->pitch + c->padding.w) * r->size,
               plane + y * c->in.w * r->size, n * r->size);
    }
}

/* Gathers the nonzero gradients of one filter in `count` images, and the offsets of their patches.
 * Returns their number. */
#define GATHER(type) \
    static size_t gather_##type(const struct sparse_run *r, size_t filter, size_t image, \
                                size_t count, ptrdiff_t *at, type *factors) \
    { \
        const size_t kept = r->call->kept; \
        size_t n = 0; \
        for (size_t i = 0; i < count; i++) { \
            const size_t map = ((image + i) * r->conv->out_channels + filter) * kept; \
            const type *gradient = (const type *)r->conv->output + map; \
            const ptrdiff_t start = (ptrdiff_t)(i * r->channels * r->plane); \
            for (size_t k = 0; k < kept; k++) { \
                at[n] = start + r->pixel_at[r->call->indices[map + k]]; \
                factors[n] = gradient[k]; \
                n += gradient[k] != 0; \
            } \
        } \
        return n; \
    } \
\
    /* Adds the sums over the n gathered patches to the filter's entries. */ \
    static void add_filter_##type(const struct sparse_run *r, const char *images, \
                                  const ptrdiff_t *at, const type *factors, size_t n, type *out) \
    { \
        const struct conv2d *c = r->conv; \
        _Alignas(64) type sums[PATCH_ROWS * WINOGRAD_PADDING], eight[8] = {0}; \
        for (size_t channel = 0; channel < r->channels; channel++) { \
            const type *plane = (const type *)images + channel * r->plane; \
            for (size_t y = 0, rows; y < c->kernel.h; y += rows) { \
                rows = smaller(c->kernel.h - y, PATCH_ROWS); \
                for (size_t x = 0; x < c->kernel.w; x += r->lanes) { \
                    r->patches(sums, plane + y * c->dilation.h * r->pitch + x, \
                               c->dilation.h * r->pitch, at, factors, n, rows); \
                    for (size_t i = 0; i < rows; i++) { \
                        type *to = out + (channel * c->kernel.h + y + i) * c->kernel.w + x; \
                        for (size_t j = 0; j < smaller(c->kernel.w - x, r->lanes); j++) { \
                            to[j] += sums[i * r->lanes + j]; \
                        } \
                    } \
                } \
            } \
        } \
        for (size_t i = 0; i < n; i++) { \
            eight[i % 8] += factors[i]; \
        } \
        for (size_t i = 0; i < 8; i++) { \
            out[r->channels * r->window] += eight[i]; \
        } \
    }
GATHER(float)
GATHER(double)

static void block_task(void *context, size_t task, size_t worker)
{
    const struct sparse_run *r = context;
    const struct conv2d *c = r->conv;
    const size_t block = task / c->groups, group = task % c->groups,
                 first = block * r->block_images, end = smaller(first + r->block_images, c->images);
    char *images = r->scratch + worker * r->worker_scratch,
         *factors = images + r->image_bytes + r->at_bytes;
    ptrdiff_t *at = (ptrdiff_t *)(images + r->image_bytes);
    memset(r->sums + (block * c->out_channels + group * r->filters) * entries_of(r) * r->size, 0,
           r->filters * entries_of(r) * r->size);
    for (size_t image = first, n; image < end && !cancel_poll(c->token, worker); image += n) {
        n = smaller(end - image, r->batch);
        for (size_t i = 0; i < n * r->channels; i++) {
            const size_t channel =
                (image + i / r->channels) * c->in_channels + group * r->channels + i % r->channels;
            copy_plane(r, (const char *)c->input + channel * c->in.h * c->in.w * r->size,
                       images + i * r->plane * r->size);
        }
        for (size_t f = group * r->filters; f < (group + 1) * r->filters; f++) {
            char *out = r->sums + (block * c->out_channels + f) * entries_of(r) * r->size;
            if (r->size == sizeof(float)) {
                add_filter_float(r, images, at, (float *)factors,
                                 gather_float(r, f, image, n, at, (float *)factors), (float *)out);
            } else {
                add_filter_double(r, images, at, (double *)factors,
                                  gather_double(r, f, image, n, at, (double *)factors),
                                  (double *)out);
            }
        }
    }
}

/* Chooses batches and blocks of images from shapes alone. */
static void plan_scratch(struct sparse_run *r)
{
    const struct conv2d *c = r->conv;
    r->channels = c->in_channels / c->groups;
    r->filters = c->out_channels / c->groups;
    r->window = c->kernel.h * c->kernel.w;
    r->pitch = larger((c->out.w - 1) * c->stride.w + c->kernel.w, c->padding.w) + r->lanes;
    r->plane = ((c->out.h - 1) * c->stride.h + (c->kernel.h - 1) * c->dilation.h + 1) * r->pitch;
    const size_t image = size_product_or_max(r->channels * r->plane, r->size);
    const size_t sums =
        size_product_or_max(size_product_or_max(c->out_channels, entries_of(r)), r->size);
    r->batch =
        larger(smaller(smaller(BATCH_BYTES / size_sum_or_max(image, 1), MAX_BATCH), c->images), 1);
    const size_t max_blocks = larger(smaller(MAX_BLOCKS, SUMS_BYTES / size_sum_or_max(sums, 1)), 1);
    const size_t min_images = size_parts(c->images, max_blocks);
    r->block_images = size_parts(larger(min_images, r->batch), r->batch) * r->batch;
    r->blocks = size_parts(c->images, r->block_images);
    /* One more, because gather writes each gradient before it tests it. */
    const size_t kept = size_sum_or_max(size_product_or_max(r->batch, r->call->kept), 1);
    r->image_bytes = scratch_round(size_product_or_max(r->batch, image));
    r->at_bytes = scratch_round(size_product_or_max(kept, sizeof(ptrdiff_t)));
    r->worker_scratch = size_sum_or_max(size_sum_or_max(r->image_bytes, r->at_bytes),
                                        scratch_round(size_product_or_max(kept, r->size)));
}

int conv2d_grad_weight_sparse(const struct conv2d_grad_weight_sparse *call)
{
    const struct layer_kernels *kernels = kernels_current()->layers;
    const struct conv2d *c = &call->conv;
    const bool f64 = c->compute == COMPUTE_F64;
    struct sparse_run r = {
        .call = call,
        .conv = c,
        .patches = f64 ? kernels->patches_f64 : kernels->patches_f32,
        .size = compute_size(c->compute),
        .lanes = f64 ? kernels->lanes_f64 : kernels->lanes_f32,
    };
    if (c->images == 0) {
        clear_filters(call->weight, call->bias, c);
        return 0;
    }
    if (c->out.h == 0 || c->out.w == 0 || !conv2d_may_fit(c)) {
        return -1;
    }
    plan_scratch(&r);
    const size_t tasks = r.blocks * c->groups, pixels = c->out.h * c->out.w;
    const size_t sums =
        scratch_round(size_product_or_max(size_product_or_max(r.blocks, c->out_channels),
                                          size_product_or_max(entries_of(&r), r.size)));
    const size_t table = scratch_round(size_product_or_max(pixels, sizeof *r.pixel_at)),
                 weights = size_product_or_max(r.channels * r.window, r.filters);
    const int threads = (int)smaller(
        (size_t)thread_count_for(size_product_or_max(c->images, call->kept), weights, GRAIN_GEMM),
        tasks);
    const size_t worker_bytes = size_product_or_max((size_t)threads, r.worker_scratch);
    char *memory = scratch_alloc(size_sum_or_max(size_sum_or_max(sums, table), worker_bytes));
    if (memory == NULL) {
        return -1;
    }
    r.sums = memory;
    r.pixel_at = (ptrdiff_t *)(memory + sums);
    r.scratch = memory + sums + table;
    for (size_t y = 0, i = 0; y < c->out.h; y++) {
        for (size_t x = 0; x < c->out.w; x++, i++) {
            r.pixel_at[i] = (ptrdiff_t)(y * c->stride.h * r.pitch + x * c->stride.w);
        }
    }
    pool_run(tasks, threads, block_task, &r, c->token);
    add_filter_blocks(call->weight, call->bias, c->compute, r.sums, r.blocks, c->out_channels,
                      entries_of(&r));
    scratch_free(memory);
    return 0;
}

/* An element times 0 is 0 if the element is finite and NaN if not. So the sum of all such products,
 * in any order, is 0 exactly if all elements are finite. */
#define ALL_FINITE(type) \
    static bool all_finite_##type(size_t n, const type *elements) \
    { \
        type checks[16] = {0}, check = 0; \
        size_t i = 0; \
        for (; i + 16 <= n; i += 16) { \
            for (size_t j = 0; j < 16; j++) { \
                checks[j] += 0 * elements[i + j]; \
            } \
        } \
        for (; i < n; i++) { \
            check += 0 * elements[i]; \
        } \
        for (size_t j = 0; j < 16; j++) { \
            check += checks[j]; \
        } \
        return check == 0; \
    }
ALL_FINITE(float)
ALL_FINITE(double)

bool all_finite(enum compute_type compute, size_t n, const void *elements)
{
    return compute == COMPUTE_F64 ? all_finite_double(n, elements) : all_finite_float(n, elements);
}
