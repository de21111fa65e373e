/*
 * Convolution, in blocks of output rows: plans them, copies their input and runs the algorithm.
 * Each algorithm has its own file; conv2d_algorithm.h lists them. An image is copied only to add a
 * border of zeros, to group the columns that a stride above 1 visits, or to pad rows shorter than a
 * vector.
 */
#include <stdint.h>
#include <string.h>

#include "conv2d/conv2d_algorithm.h"
#include "conv2d/conv2d_input.h"
#include "conv2d/convolutions.h"

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

/* n clamped to the range 1 .. most. */
static size_t clamp_from_one(size_t n, size_t most)
{
    return n == 0 ? 1 : smaller(n, most);
}

bool conv2d_pools(const struct conv2d *c)
{
    return (c->out.w & ~(size_t)1) >= layer_lanes(c->compute);
}

/* Vectors of an output row, including an odd last column that pooling drops. Row blocks depend on
 * this number, so they are the same with and without pooling. So are the blocks that Winograd
 * computes again because a result is not finite. */
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
    p->phase = p->copied ? (c->kernel.w - 1) * c->dilation.w / c->stride.w +
                               vectors_before_pooling(p) * p->lanes
                         : c->in.w;
    p->pitch = p->phase * c->stride.w; /* stride.w is 1 without a copy */
}

/* Output rows of a block: as many as fit the cache together with the input rows that they read. A
 * block has all rows, or a multiple of the rows that are computed together. */
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
    const size_t block = clamp_from_one(smaller(by_input, by_output), rows);
    return block < rows ? larger(block / together * together, together) : block;
}

int conv2d_plan(struct conv2d_plan *p, const struct conv2d *c)
{
    const struct layer_kernels *kernels = &kernels_current()->layers[c->compute];
    const struct extent2 computed = conv2d_computed(c);
    memset(p, 0, sizeof *p);
    p->conv = *c;
    p->outer = kernels->outer;
    p->size = compute_size(c->compute);
    p->lanes = kernels->lanes;
    p->tile_rows = kernels->rows;
    p->channels = c->in_channels / c->groups;
    p->filters = c->out_channels / c->groups;
    if (computed.h == 0 || computed.w == 0 || c->images == 0 || c->out_channels == 0) {
        return 0;
    }
    if (!conv2d_may_fit(c)) {
        return -1;
    }
    const size_t most =
        clamp_from_one(CHAIN_STEPS / (c->kernel.h * c->kernel.w), larger(p->channels, 1));
    p->channel_blocks = larger(size_parts(p->channels, most), 1);
    p->channel_block = size_parts(p->channels, p->channel_blocks);
    plan_input_copy(p);
    const struct conv2d_algorithm *const *algorithm = algorithms;
    while ((*algorithm)->applies != NULL && !(*algorithm)->applies(p)) {
        algorithm++;
    }
    p->algorithm = *algorithm;
    /* Without a copy, an incomplete last group of rows would read beyond the image. */
    p->copied |= computed.h % p->algorithm->rows_together != 0;
    p->row_block = rows_of_block(p);
    p->row_blocks = size_parts(computed.h, p->row_block);
    p->plane = p->copied ? conv2d_block_rows(p, p->row_block) * p->pitch : c->in.h * c->in.w;
    scratch_add(&p->copy_bytes, p->copied ? size_product_or_max(p->channel_block, p->plane) : 0,
                p->size);
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
}

static void compute_block(const struct conv2d_plan *p, const char *input, char *output,
                          size_t group, size_t row_block, char *scratch)
{
    const struct conv2d *c = &p->conv;
    const size_t pooled = conv2d_pool_size(c), filter = group * p->filters,
                 row = row_block * p->row_block;
    const struct conv2d_block b = {
        .input = input + group * p->channels * c->in.h * c->in.w * p->size,
        .bias = c->bias == NULL ? NULL : (const char *)c->bias + filter * p->size,
        .output =
            output + (filter * conv2d_map_size(c) + row / pooled * (c->out.w / pooled)) * p->size,
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
        compute_block(p, input, output, i / p->row_blocks, i % p->row_blocks, scratch);
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
    const size_t image = task / (c->groups * p->row_blocks),
                 rest = task % (c->groups * p->row_blocks);
    compute_block(p, (const char *)c->input + image * c->in_channels * c->in.h * c->in.w * p->size,
                  (char *)c->output + image * c->out_channels * conv2d_map_size(c) * p->size,
                  rest / p->row_blocks, rest % p->row_blocks, run->scratch + worker * p->scratch);
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
    const size_t tasks = c->images * c->groups * plan.row_blocks,
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
