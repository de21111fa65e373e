/*
 * Convolution by its definition, as outer products that read the image itself, not an im2col
 * matrix. The vector of output pixels (y, x .. x+lanes-1) is a sum over all channels and kernel
 * taps. Each term is the filter's weight at the tap times the vector of the image at that tap. One
 * list of offsets locates these image vectors, for every output vector.
 *
 * Order of summation: one chain for each block of channels, channel by channel and kernel row by
 * kernel row. The sums of the blocks are added in order.
 */
#include <string.h>

#include "conv2d/conv2d_algorithm.h"
#include "conv2d/conv2d_cost.h"
#include "conv2d/conv2d_input.h"

struct direct {
    /* A worker's scratch memory holds partial sums if there are several blocks of channels. From
     * byte `results` on, it holds the results of narrow rows. */
    size_t results;
    /* Offsets in elements. step_at has those of each channel and tap in the input. The others have
     * those of each output vector: in the input, in the output, and in scratch memory, where
     * vectors do not overlap. */
    ptrdiff_t *step_at, *input_at, *output_at, *dense_at;
    ptrdiff_t tables[]; /* the memory of these offsets */
};

/* Returns the number of elements from one filter to the next in scratch memory. */
static size_t dense_step(const struct conv2d_plan *p)
{
    return p->row_block * p->row_vectors * p->lanes;
}

static void fill_tables(const struct conv2d_plan *p, struct direct *s)
{
    const struct conv2d *c = &p->conv;
    const size_t rows_together = conv2d_pool_size(c), out_w = c->out.w / rows_together;
    ptrdiff_t *step = s->step_at;
    for (size_t channel = 0; channel < p->channel_block; channel++) {
        for (size_t y = 0; y < c->kernel.h; y++) {
            for (size_t x = 0; x < c->kernel.w; x++) {
                *step++ =
                    (ptrdiff_t)(channel * p->plane + y * c->dilation.h * p->pitch +
                                conv2d_copied_column(x * c->dilation.w, c->stride.w, p->phase));
            }
        }
    }
    size_t n = 0;
    for (size_t y = 0; y < p->row_block; y += rows_together) {
        for (size_t v = 0; v < p->row_vectors; v++) {
            const size_t x = conv2d_column(p, v);
            s->output_at[n / rows_together] =
                (ptrdiff_t)(p->narrow ? n * p->lanes
                                      : y / rows_together * out_w + x / rows_together);
            for (size_t row = 0; row < rows_together; row++, n++) {
                s->input_at[n] = (ptrdiff_t)((y + row) * c->stride.h * p->pitch + x);
                s->dense_at[n] = (ptrdiff_t)(n * p->lanes);
            }
        }
    }
}

static size_t table_steps(const struct conv2d_plan *p)
{
    return p->channel_block * p->conv.kernel.h * p->conv.kernel.w;
}

size_t conv2d_direct_state_bytes(const struct conv2d_plan *p)
{
    const size_t vectors = size_product_or_max(p->row_block, p->row_vectors),
                 entries = size_sum_or_max(table_steps(p), size_product_or_max(3, vectors));
    return size_sum_or_max(sizeof(struct direct), size_product_or_max(entries, sizeof(ptrdiff_t)));
}

size_t conv2d_direct_scratch(const struct conv2d_plan *p, size_t *results)
{
    const size_t sums = size_product_or_max(p->filters, dense_step(p));
    size_t bytes = 0;
    scratch_add(&bytes, p->channel_blocks > 1 ? sums : 0, p->size);
    *results = scratch_add(&bytes, p->narrow ? sums : 0, p->size);
    return bytes;
}

void conv2d_direct_begin(const struct conv2d_plan *p, void *state)
{
    struct direct *s = state;
    const size_t steps = table_steps(p), vectors = p->row_block * p->row_vectors;
    s->step_at = s->tables;
    s->input_at = s->step_at + steps;
    s->output_at = s->input_at + vectors;
    s->dense_at = s->output_at + vectors;
    fill_tables(p, s);
    conv2d_direct_scratch(p, &s->results);
}

static void *direct_plan(const struct conv2d_plan *p, size_t *scratch)
{
    size_t results;
    void *state = scratch_alloc(conv2d_direct_state_bytes(p));
    *scratch = conv2d_direct_scratch(p, &results);
    if (state != NULL) {
        conv2d_direct_begin(p, state);
    }
    return state;
}

/* Adds the products of all filters and one block of channels. */
static void add_channels(const struct conv2d_plan *p, const struct direct *s,
                         const struct conv2d_block *b, size_t channel_block)
{
    const struct conv2d *c = &p->conv;
    const size_t taps = c->kernel.h * c->kernel.w, filter_size = p->channels * taps;
    const bool last = channel_block + 1 == p->channel_blocks, to_output = last && !p->narrow;
    conv2d_outer(
        p,
        (struct outer){
            .left = (const char *)c->weight +
                    (b->filter * filter_size + channel_block * p->channel_block * taps) * p->size,
            .left_row_step = filter_size,
            .left_depth_step = 1,
            .right = conv2d_block_input(p, b, channel_block),
            .vector_offsets = s->input_at,
            .depth_offsets = s->step_at,
            .vectors = b->rows * p->row_vectors,
            .depth = conv2d_channels(p, channel_block) * taps,
            .partial_sums = channel_block > 0 ? b->scratch : NULL,
            .partial_sums_step = dense_step(p),
            .bias = last ? b->bias : NULL,
            .relu = c->relu && last,
            .pool = c->pool && last,
            .out = to_output ? b->output
                   : last    ? b->scratch + s->results
                             : b->scratch,
            .out_step = to_output ? conv2d_map_size(c) : dense_step(p),
            .out_offsets = last ? s->output_at : s->dense_at,
        });
}

/* Copies narrow rows from scratch memory, where each takes a whole vector, to the output. */
static void copy_narrow(const struct conv2d_plan *p, const char *results,
                        const struct conv2d_block *b)
{
    const size_t line = p->conv.out.w * p->size, vector = p->lanes * p->size;
    for (size_t f = 0; f < p->filters; f++) {
        for (size_t y = 0; y < b->rows; y++) {
            memcpy(b->output + (f * p->conv.out.h + y) * line,
                   results + (f * p->row_block + y) * vector, line);
        }
    }
}

static void direct_run(const struct conv2d_plan *p, const void *state, const struct conv2d_block *b)
{
    const struct direct *s = state;
    for (size_t i = 0; i < p->channel_blocks; i++) {
        add_channels(p, s, b, i);
    }
    if (p->narrow) {
        copy_narrow(p, b->scratch + s->results, b);
    }
}

static double direct_cost(const struct conv2d_plan *p, size_t images)
{
    (void)images;
    /* Only strides of 1 and 2 are copied by vectors. */
    const double rows = (double)conv2d_computed(&p->conv).h,
                 columns = (double)p->conv.in.w * (p->conv.stride.w > 2 ? 7.0 : 1.0),
                 vectors = rows * (double)p->row_vectors,
                 copy = p->copied ? conv2d_cost_copy((double)(p->channels * p->conv.in.h), columns)
                                  : 0;
    /* Tiles of three vectors hide the loads. The estimate for 3 x 3 ignores that, because another
     * choice between this algorithm and Winograd's would change the bits of results and raise their
     * error. */
    const struct extent2 kernel = p->conv.kernel;
    const bool wide = conv2d_has_wide_tiles(p) && (kernel.h != 3 || kernel.w != 3);
    const double products =
        wide ? 1.25 * (double)p->filters * vectors : conv2d_cost_outer(p, vectors);
    return products * conv2d_cost_terms(p) + copy;
}

const struct conv2d_algorithm conv2d_direct = {
    .name = "direct",
    .exact = true,
    .cost = direct_cost,
    .rows_together = 1,
    .pools = true,
    .plan = direct_plan,
    .free_state = scratch_free,
    .run = direct_run,
};
