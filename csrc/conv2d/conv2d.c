/*
 * Convolution, in blocks of output rows: plans them, copies their input and runs the algorithm.
 * Each algorithm has its own file; conv2d_algorithm.h lists them. An image is copied only to add a
 * border of zeros, to group the columns that a stride above 1 visits, or to pad rows shorter than a
 * vector.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "conv2d/conv2d_algorithm.h"
#include "conv2d/conv2d_input.h"
#include "conv2d/convolutions.h"
#include "nn/loops.h"

enum {
    /* Approximate limit of the terms of a chain. Short chains are accurate, and the weights of a
     * tile stay in L1. */
    CHAIN_STEPS = 256,
    /* Limit of the input bytes of a row block, and of its output bytes, so that both stay in L2. */
    ROW_BLOCK_BYTES = 192 << 10
};

#define ROW(name) &name,
static const struct conv2d_algorithm *const algorithms[] = {FOR_EACH_CONV2D_ALGORITHM(ROW)};
#undef ROW

enum { ALGORITHMS = sizeof algorithms / sizeof algorithms[0] };

/* Returns the number of vectors of an output row, including an odd last column that pooling drops.
 * Row blocks depend on this number, so they are the same with and without pooling. So are the
 * blocks that Winograd computes again because a result is not finite. */
static size_t vectors_before_pooling(const struct conv2d_plan *p)
{
    return size_parts(p->conv.out.w, p->lanes);
}

static void plan_input_copy(struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    p->row_vectors = size_parts(conv2d_computed(c).w, p->lanes);
    p->narrow = conv2d_computed(c).w < p->lanes;
    p->copied = p->narrow || conv2d_needs_copy(c);
    const size_t columns =
        (c->kernel.w - 1) * c->dilation.w / c->stride.w + vectors_before_pooling(p) * p->lanes;
    /* The first taps of a strided kernel read aligned vectors. */
    p->phase = !p->copied        ? c->in.w
               : c->stride.w > 1 ? size_parts(columns, p->lanes) * p->lanes
                                 : columns;
    p->pitch = p->phase * c->stride.w; /* stride.w is 1 without a copy */
}

/* Returns the number of output rows of a block: as many as fit the cache together with the input
 * rows that they read. A block has all rows, or a multiple of the rows that are computed
 * together. */
static size_t rows_of_block(const struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    const size_t rows = conv2d_computed(c).h, copies = larger(p->algorithm->buffered_rows, 1),
                 together = larger(p->algorithm->rows_together, conv2d_pool_size(c));
    const size_t input =
                     ROW_BLOCK_BYTES / (copies * p->size * p->pitch * larger(p->channel_block, 1)) +
                     1,
                 first = conv2d_input_rows(c, 1);
    const size_t by_input = input <= first ? 1 : 1 + (input - first) / c->stride.h;
    const size_t by_output = p->channel_blocks == 1 && p->algorithm->buffered_rows == 0
                                 ? rows
                                 : ROW_BLOCK_BYTES /
                                       (copies * p->size * vectors_before_pooling(p) * p->lanes) /
                                       p->filters;
    const size_t block = larger(smaller(smaller(by_input, by_output), rows), 1);
    return block < rows ? larger(block / together * together, together) : block;
}

/* The taps of a kernel along one axis that meet a pixel of the image: [first, end). */
struct tap_range {
    size_t first, end;
};

static struct tap_range taps_inside(size_t in, size_t out, size_t kernel, size_t stride,
                                    size_t dilation, size_t padding)
{
    struct tap_range taps = {0, kernel};
    /* A tap in the padding before the image for the last output is there for all outputs. */
    const size_t last = (out - 1) * stride;
    while (taps.first + 1 < taps.end && last + taps.first * dilation < padding &&
           (taps.first + 1) * dilation <= padding) {
        taps.first++;
    }
    while (taps.first + 1 < taps.end && (taps.end - 1) * dilation >= padding + in) {
        taps.end--;
    }
    return taps;
}

/*
 * Leaves out rows and columns of the kernels that meet only padding, as the outer columns of 3 x 3
 * do on an image of one column. Zeros times finite weights add nothing. Returns false when there is
 * no memory.
 */
static bool trim_kernels(struct conv2d_plan *p)
{
    struct conv2d *c = &p->conv;
    const struct extent2 kernel = c->kernel;
    const struct tap_range rows = taps_inside(c->in.h, c->out.h, kernel.h, c->stride.h,
                                              c->dilation.h, c->padding.h),
                           columns = taps_inside(c->in.w, c->out.w, kernel.w, c->stride.w,
                                                 c->dilation.w, c->padding.w);
    const size_t h = rows.end - rows.first, w = columns.end - columns.first,
                 planes = c->out_channels * (c->in_channels / c->groups), line = w * p->size;
    if ((h == kernel.h && w == kernel.w) ||
        !layer_loops[c->compute].all_finite(planes * kernel.h * kernel.w, c->weight)) {
        return true;
    }
    char *to = p->trimmed = scratch_alloc(planes * h * line);
    if (to == NULL) {
        return false;
    }
    for (size_t i = 0; i < planes * h; i++, to += line) {
        const size_t row = i / h * kernel.h + rows.first + i % h;
        memcpy(to, (const char *)c->weight + (row * kernel.w + columns.first) * p->size, line);
    }
    c->weight = p->trimmed;
    c->kernel = (struct extent2){h, w};
    c->padding.h -= rows.first * c->dilation.h;
    c->padding.w -= columns.first * c->dilation.w;
    return true;
}

static void swap_sides(struct extent2 *e)
{
    *e = (struct extent2){.h = e->w, .w = e->h};
}

/* Turns an image of one column into an image of one row: its pixels lie the same way in memory. */
static void lay_columns_down(struct conv2d *c)
{
    if (c->in.w == 1 && c->out.w == 1 && c->kernel.w == 1 && c->padding.w == 0 && !c->pool) {
        swap_sides(&c->in);
        swap_sides(&c->out);
        swap_sides(&c->kernel);
        swap_sides(&c->stride);
        swap_sides(&c->dilation);
        swap_sides(&c->padding);
    }
}

/* Starts a plan: sets all members that do not depend on the algorithm. Returns false if there is
 * nothing to compute. */
static bool begin_plan(struct conv2d_plan *p, const struct conv2d *c)
{
    const struct extent2 computed = conv2d_computed(c);
    memset(p, 0, sizeof *p);
    p->conv = *c;
    p->size = compute_size(c->compute);
    p->channels = c->in_channels / c->groups;
    p->filters = c->out_channels / c->groups;
    return computed.h > 0 && computed.w > 0 && c->images > 0 && c->out_channels > 0;
}

/* Plans blocks of channels, and lanes along rows. */
static void plan_channels(struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    const size_t most = larger(smaller(CHAIN_STEPS / (c->kernel.h * c->kernel.w), p->channels), 1);
    p->row_lanes = conv2d_row_kernels(c)->layers[c->compute].lanes;
    p->channel_blocks = larger(size_parts(p->channels, most), 1);
    p->channel_block = size_parts(p->channels, p->channel_blocks);
}

/* Plans blocks of rows of one image, and the copy of their input. */
static void plan_blocks(struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    /* Without a copy, an incomplete last group of rows would read beyond the image. */
    p->copied |= conv2d_computed(c).h % p->algorithm->rows_together != 0;
    p->image_block = 1;
    p->row_block = rows_of_block(p);
    p->plane = p->copied ? conv2d_block_rows(p, p->row_block) * p->pitch : c->in.h * c->in.w;
    scratch_add(&p->copy_bytes, p->copied ? size_product_or_max(p->channel_block, p->plane) : 0,
                p->size);
}

/* Algorithms whose lanes do not lie along rows use the widest vectors. */
static void use_kernels(struct conv2d_plan *p, const struct conv2d_algorithm *algorithm)
{
    const struct kernels *kernels =
        algorithm->layout == NULL ? conv2d_row_kernels(&p->conv) : kernels_current();
    p->kernels = &kernels->layers[p->conv.compute];
    p->winograd = kernels->winograd;
    p->lanes = p->kernels->lanes;
    p->tile_rows = p->kernels->rows;
    plan_input_copy(p);
}

static _Atomic(const struct conv2d_algorithm *) forced;

bool conv2d_force_algorithm(const char *name)
{
    const struct conv2d_algorithm *found = NULL;
    for (size_t i = 0; name != NULL && i < ALGORITHMS; i++) {
        found = strcmp(algorithms[i]->name, name) == 0 ? algorithms[i] : found;
    }
    atomic_store_explicit(&forced, found, memory_order_relaxed);
    return name == NULL || found != NULL;
}

/* Returns the algorithm with the least cost. With `exact`, considers only algorithms that give the
 * same bits as conv2d_direct. */
static const struct conv2d_algorithm *least_cost(struct conv2d_plan *p, bool exact, size_t images)
{
    const struct conv2d_algorithm *best = NULL;
    double least = 0;
    for (size_t i = 0; i < ALGORITHMS; i++) {
        const struct conv2d_algorithm *a = algorithms[i];
        use_kernels(p, a);
        if ((!exact || a->exact) && (a->fits == NULL || a->fits(p))) {
            const struct kernels *wide = kernels_current();
            const bool split = wide->is_split && p->kernels == &wide->layers[p->conv.compute];
            const double cost = a->cost(p, images) * (split ? 2.0 : 1.0);
            if (best == NULL || cost < least) {
                best = a;
                least = cost;
            }
        }
    }
    return best;
}

/*
 * Chooses the algorithm. Whether sums have the bits of conv2d_direct may only depend on whether
 * there are many images, and not on pooling. So that choice is made for two numbers of images and
 * without pooling.
 */
static void choose_algorithm(struct conv2d_plan *p)
{
    enum { FEW_IMAGES = 2 };
    const bool pool = p->conv.pool;
    const struct conv2d_algorithm *a = atomic_load_explicit(&forced, memory_order_relaxed);
    if (a != NULL) {
        use_kernels(p, a);
    }
    if (a == NULL || (a->fits != NULL && !a->fits(p))) {
        p->conv.pool = false;
        a = least_cost(p, false, FEW_IMAGES);
        if (a->exact && p->conv.images >= CONV2D_MANY_IMAGES) {
            a = least_cost(p, false, CONV2D_MANY_IMAGES);
        }
        p->conv.pool = pool;
        a = a->exact ? least_cost(p, true, p->conv.images) : a;
    }
    use_kernels(p, a);
    p->algorithm = a;
}

int conv2d_plan(struct conv2d_plan *p, const struct conv2d *convolution)
{
    struct conv2d shortened = *convolution;
    const struct conv2d *c = &shortened;
    conv2d_shorten_strides(&shortened);
    if (!begin_plan(p, c)) {
        p->conv.pool = false;
        return 0;
    }
    if (!conv2d_may_fit(c) || !trim_kernels(p)) {
        return -1;
    }
    c = &p->conv;
    p->conv.pool &= (c->out.w & ~(size_t)1) >= conv2d_row_kernels(c)->layers[c->compute].lanes;
    lay_columns_down(&p->conv);
    plan_channels(p);
    choose_algorithm(p);
    if (c->pool && !p->algorithm->pools) {
        p->conv.pool = false;
        choose_algorithm(p);
    }
    if (p->algorithm->layout != NULL) {
        p->copied = p->narrow = false;
        p->algorithm->layout(p);
    } else {
        plan_blocks(p);
    }
    p->row_blocks = size_parts(conv2d_computed(c).h, p->row_block);
    p->state = p->algorithm->plan(p, &p->scratch);
    if (p->state == NULL) {
        return -1;
    }
    p->scratch = size_sum_or_max(p->copy_bytes, p->scratch);
    return 0;
}

void conv2d_plan_free(struct conv2d_plan *p)
{
    if (p->state != NULL) {
        p->algorithm->free_state(p->state);
    }
    scratch_free(p->trimmed);
}

/* Computes one block of rows, of one group of channels, in each of `images` images. */
static void compute_block(const struct conv2d_plan *p, const char *input, char *output,
                          size_t images, size_t group, size_t row_block, char *scratch)
{
    const struct conv2d *c = &p->conv;
    const size_t pooled = conv2d_pool_size(c), filter = group * p->filters,
                 row = row_block * p->row_block;
    const struct conv2d_block b = {
        .input = input + group * p->channels * c->in.h * c->in.w * p->size,
        .bias = c->bias == NULL ? NULL : (const char *)c->bias + filter * p->size,
        .output =
            output + (filter * conv2d_map_size(c) + row / pooled * (c->out.w / pooled)) * p->size,
        .images = images,
        .filter = filter,
        .row = row,
        .rows = smaller(p->row_block, conv2d_computed(c).h - row),
        .copy = scratch,
        .scratch = scratch + p->copy_bytes,
    };
    p->algorithm->run(p, p->state, &b);
}

void conv2d_image(const struct conv2d_plan *p, const void *input, void *output, void *scratch)
{
    for (size_t i = 0; i < p->conv.groups * p->row_blocks && !cancel_poll_here(); i++) {
        compute_block(p, input, output, 1, i / p->row_blocks, i % p->row_blocks, scratch);
    }
}

struct conv2d_run {
    const struct conv2d_plan *plan;
    char *scratch;
};

static void block_task(void *context, size_t task, size_t worker)
{
    const struct conv2d_run *run = context;
    const struct conv2d_plan *p = run->plan;
    const struct conv2d *c = &p->conv;
    const size_t blocks = c->groups * p->row_blocks, image = task / blocks * p->image_block,
                 rest = task % blocks;
    compute_block(p, (const char *)c->input + image * c->in_channels * c->in.h * c->in.w * p->size,
                  (char *)c->output + image * c->out_channels * conv2d_map_size(c) * p->size,
                  smaller(p->image_block, c->images - image), rest / p->row_blocks,
                  rest % p->row_blocks, run->scratch + worker * p->scratch);
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
    const size_t tasks = size_parts(c->images, larger(plan.image_block, 1)) * c->groups *
                         plan.row_blocks,
                 terms = size_product_or_max(plan.channels * c->kernel.h, c->kernel.w);
    const int threads = layer_threads(conv2d_outputs(c), terms, tasks);
    struct conv2d_run run = {&plan, NULL};
    if (status < 0 ||
        (run.scratch = scratch_alloc(size_product_or_max((size_t)threads, plan.scratch))) == NULL) {
        status = -1;
    } else {
        pool_run(tasks, threads, block_task, &run, c->token);
    }
    scratch_free(run.scratch);
    conv2d_plan_free(&plan);
    return status;
}
