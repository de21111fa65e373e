/*
 * Winograd convolution F(2, 5) down the columns, for float32 and kernels of five rows: see
 * layer_kernels/winograd_template.h. It takes six products for a pair of output rows. The error of
 * a result is relative to the largest element of the six input rows that the pair reads. If a
 * result of a row block is not finite, conv2d_direct computes the block again.
 *
 * Output rows of one narrow vector, as of 8 pixels with AVX-512, are computed two pairs at a time
 * in one wide vector. The transformed input is then stored once for each kernel column, so that the
 * pixels of both pairs are adjacent. The bits are the same.
 *
 * The state of the last convolution is kept. A network that encodes one image at a time uses it
 * again: comparing 20 KB of weights takes a tenth of the time of their transform.
 */
#include <string.h>

#include "base/kept.h"
#include "conv2d/conv2d_algorithm.h"
#include "conv2d/conv2d_cost.h"
#include "conv2d/conv2d_input.h"

enum {
    /* Fewest filters for which the input transform, which they share, pays off. */
    MIN_FILTERS = 8,
    /* Fewest terms (channels times kernel columns) for which the output transform pays off. */
    MIN_STEPS = 24
};

struct winograd {
    /* A worker's scratch memory from this byte on holds the state of conv2d_direct, if needed. */
    size_t direct;
    /* A worker's scratch memory holds the transformed input, [channel_block][6][input_step]. From
     * byte `products` on, it holds the products, [6][filters][product_step]. */
    size_t products;
    size_t input_step, product_step; /* elements */
    float *filters;                  /* the transformed filters: six arrays */
    size_t filter_step;              /* elements from one array to the next */
    /* Offsets in elements. step_at has those of each channel and kernel column in the transformed
     * input. The next three have those of each vector of products: in the transformed input, among
     * the products, and in the output. last_at has those of a last single row in the output. */
    ptrdiff_t *step_at, *input_at, *product_at, *output_at, *last_at;
    const struct layer_kernels *wide; /* kernels whose vectors hold two pairs of rows, or NULL */
    ptrdiff_t *wide_at; /* offset of each wide vector, in the transformed input and the products */
    struct conv2d_plan plan; /* of this state, without arrays */
    size_t scratch;          /* bytes of a worker's scratch memory */
    float *weights;          /* a copy */
};

/* Returns the number of pairs of output rows; a last single row counts as a pair. */
static size_t pairs_of(size_t rows)
{
    return (rows + 1) / 2;
}

/* Returns the kernels of vectors that hold two output rows, or NULL if rows do not fit them, or if
 * the processor splits such vectors. */
static const struct layer_kernels *wide_kernels(const struct conv2d_plan *p)
{
    const struct kernels *kernels = kernels_current();
    const struct layer_kernels *wide = &kernels->layers[p->conv.compute];
    const struct extent2 computed = conv2d_computed(&p->conv);
    return !kernels->is_split && wide->lanes == 2 * p->lanes && computed.w == p->lanes &&
                   p->row_block == computed.h && pairs_of(p->row_block) % 2 == 0
               ? wide
               : NULL;
}

static bool winograd_fits(const struct conv2d_plan *p)
{
    const struct conv2d *c = &p->conv;
    return c->compute == COMPUTE_F32 && c->kernel.h == 5 && c->stride.h == 1 &&
           c->dilation.h == 1 && c->out.h >= 2 && !p->narrow && p->pitch >= p->lanes &&
           p->filters >= MIN_FILTERS && p->channels * c->kernel.w >= MIN_STEPS;
}

/* Two rows take six products instead of ten. The transforms take about as long as one more
 * product. */
static double winograd_cost(const struct conv2d_plan *p, size_t images)
{
    (void)images;
    return 0.7 * conv2d_cost_terms(p) *
           conv2d_cost_outer(p, (double)(conv2d_computed(&p->conv).h * p->row_vectors));
}

/* Returns the position of a kernel column in a row of the input or of its copy. */
static size_t kernel_column(const struct conv2d_plan *p, size_t x)
{
    return conv2d_copied_column(x * p->conv.dilation.w, p->conv.stride.w, p->phase);
}

static void fill_tables(const struct conv2d_plan *p, struct winograd *s)
{
    const struct conv2d *c = &p->conv;
    const size_t out_w = c->out.w / conv2d_pool_size(c);
    ptrdiff_t *step = s->step_at;
    for (size_t channel = 0; channel < p->channel_block; channel++) {
        for (size_t x = 0; x < c->kernel.w; x++) {
            const size_t at =
                s->wide == NULL ? kernel_column(p, x) : x * pairs_of(p->row_block) * p->lanes;
            *step++ = (ptrdiff_t)(channel * WINOGRAD_PRODUCTS * s->input_step + at);
        }
    }
    if (s->wide != NULL) {
        fill_steps(s->wide_at, pairs_of(p->row_block) / 2, s->wide->lanes);
    }
    size_t n = 0;
    for (size_t t = 0; t < pairs_of(p->row_block); t++) {
        for (size_t v = 0; v < p->row_vectors; v++, n++) {
            const size_t x = conv2d_column(p, v);
            s->input_at[n] = (ptrdiff_t)(t * p->pitch + x);
            s->product_at[n] = (ptrdiff_t)(n * p->lanes);
            if (c->pool) {
                s->output_at[n] = (ptrdiff_t)(t * out_w + x / 2);
            } else {
                s->output_at[2 * n] = (ptrdiff_t)(2 * t * out_w + x);
                s->output_at[2 * n + 1] = (ptrdiff_t)((2 * t + 1) * out_w + x);
            }
        }
    }
    const size_t last_row = (c->out.h - 1) % p->row_block;
    for (size_t v = 0; v < p->row_vectors; v++) {
        s->last_at[2 * v] = s->last_at[2 * v + 1] =
            (ptrdiff_t)(last_row * out_w + conv2d_column(p, v));
    }
}

/* Sets *key to the members of a plan that its state depends on, apart from the weights. */
static void key_of(const struct conv2d_plan *p, struct conv2d_plan *key)
{
    memcpy(key, p, sizeof *key); /* copies the padding of members too: keys are compared as bytes */
    key->conv.input = key->conv.weight = key->conv.bias = NULL;
    key->conv.output = NULL;
    key->conv.token = NULL;
    key->trimmed = NULL;
}

static size_t weight_bytes(const struct conv2d_plan *p)
{
    return p->conv.out_channels * p->channels * p->conv.kernel.h * p->conv.kernel.w * p->size;
}

/* Takes the arrays of a state from the arena. */
static struct winograd *take_state(const struct conv2d_plan *p, struct arena *arena,
                                   struct winograd *arrays)
{
    const size_t vectors = pairs_of(p->row_block) * p->row_vectors,
                 steps = p->channel_block * p->conv.kernel.w;
    struct winograd *s = arena_take(arena, 1, sizeof *s);
    arrays->filters = arena_take(arena, arrays->filter_step, WINOGRAD_PRODUCTS * sizeof(float));
    arrays->weights = arena_take(arena, 1, weight_bytes(p));
    arrays->step_at = arena_take(arena, steps, sizeof(ptrdiff_t));
    arrays->input_at = arena_take(arena, vectors, sizeof(ptrdiff_t));
    arrays->product_at = arena_take(arena, vectors, sizeof(ptrdiff_t));
    arrays->output_at = arena_take(arena, vectors, 2 * sizeof(ptrdiff_t));
    arrays->last_at = arena_take(arena, p->row_vectors, 2 * sizeof(ptrdiff_t));
    arrays->wide_at = arena_take(arena, vectors, sizeof(ptrdiff_t));
    return s;
}

static void *winograd_plan(const struct conv2d_plan *p, size_t *scratch)
{
    const struct conv2d *c = &p->conv;
    struct winograd *s = kept_take(KEPT_FILTERS), new = {.wide = wide_kernels(p)};
    key_of(p, &new.plan);
    if (s != NULL && s->wide == new.wide && memcmp(&s->plan, &new.plan, sizeof new.plan) == 0 &&
        memcmp(s->weights, c->weight, weight_bytes(p)) == 0) {
        *scratch = s->scratch;
        return s;
    }
    kept_drop(s);
    new.filter_step = c->out_channels * p->channels * c->kernel.w + WINOGRAD_PADDING;
    struct arena arena = {.block = NULL};
    take_state(p, &arena, &new);
    arena = (struct arena){.block = kept_alloc(KEPT_FILTERS, arena.bytes)};
    if (arena.block == NULL) {
        return NULL;
    }
    s = take_state(p, &arena, &new);
    const size_t pairs = pairs_of(p->row_block);
    new.input_step = pairs * (new.wide == NULL ? p->pitch : c->kernel.w * p->lanes);
    new.product_step = pairs * p->row_vectors * p->lanes;
    size_t own_scratch = 0, results;
    scratch_add(&own_scratch, size_product_or_max(p->channel_block, new.input_step),
                WINOGRAD_PRODUCTS * sizeof(float));
    new.products = scratch_add(&own_scratch, size_product_or_max(p->filters, new.product_step),
                               WINOGRAD_PRODUCTS * sizeof(float));
    /* conv2d_direct uses the same memory afterwards. */
    *scratch = larger(conv2d_direct_scratch(p, &results), own_scratch);
    new.direct = scratch_add(scratch, 1, conv2d_direct_state_bytes(p));
    new.scratch = *scratch;
    memcpy(s, &new, sizeof new);
    fill_tables(p, s);
    memcpy(s->weights, c->weight, weight_bytes(p));
    p->winograd->filter_transform(s->filters, s->filter_step, s->weights,
                                  c->out_channels * p->channels, c->kernel.w);
    return s;
}

static void winograd_free(void *state)
{
    enum { MOST_BYTES = 1 << 20 };
    if (kept_size(state) > MOST_BYTES) {
        kept_drop(state);
    } else {
        kept_free(KEPT_FILTERS, state);
    }
}

/* Adds the products of all filters and one block of channels. */
static void add_channels(const struct conv2d_plan *p, const struct winograd *s,
                         const struct conv2d_block *b, size_t channel_block)
{
    const size_t channels = conv2d_channels(p, channel_block), columns = p->conv.kernel.w,
                 filter_size = p->channels * columns;
    const float *planes = conv2d_block_input(p, b, channel_block);
    float *inputs = (float *)b->scratch, *products = (float *)(b->scratch + s->products);
    for (size_t i = 0; i < channels; i++) {
        float *sums = inputs + i * WINOGRAD_PRODUCTS * s->input_step;
        const float *plane = planes + i * p->plane;
        if (s->wide == NULL) {
            p->winograd->input_transform(sums, s->input_step, plane, p->pitch, pairs_of(b->rows),
                                         p->pitch);
        }
        for (size_t x = 0; s->wide != NULL && x < columns; x++) {
            p->winograd->input_transform(sums + x * pairs_of(b->rows) * p->lanes, s->input_step,
                                         plane + kernel_column(p, x), p->pitch, pairs_of(b->rows),
                                         p->lanes);
        }
    }
    struct conv2d_plan products_plan = *p;
    if (s->wide != NULL) {
        products_plan.kernels = s->wide;
        products_plan.tile_rows = s->wide->rows;
    }
    for (size_t f = 0; f < WINOGRAD_PRODUCTS; f++) {
        float *out = products + f * p->filters * s->product_step;
        conv2d_outer(&products_plan,
                     (struct outer){
                         .left = s->filters + f * s->filter_step + b->filter * filter_size +
                                 channel_block * p->channel_block * columns,
                         .left_row_step = filter_size,
                         .left_depth_step = 1,
                         .right = inputs + f * s->input_step,
                         .vector_offsets = s->wide == NULL ? s->input_at : s->wide_at,
                         .depth_offsets = s->step_at,
                         .vectors = s->wide == NULL ? pairs_of(b->rows) * p->row_vectors
                                                    : pairs_of(b->rows) / 2,
                         .depth = channels * columns,
                         .partial_sums = channel_block > 0 ? out : NULL,
                         .partial_sums_step = s->product_step,
                         .out = out,
                         .out_step = s->product_step,
                         .out_offsets = s->wide == NULL ? s->product_at : s->wide_at,
                     });
    }
}

/* Writes the results of the output transform. Returns false if one of them is not finite. */
static bool transform_output(const struct conv2d_plan *p, const struct winograd *s,
                             const struct conv2d_block *b)
{
    const struct conv2d *c = &p->conv;
    struct winograd_output_transform transform = {
        .sums = (const float *)(b->scratch + s->products),
        .sum_step = p->filters * s->product_step,
        .row_step = s->product_step,
        .rows = p->filters,
        .vectors = b->rows / 2 * p->row_vectors,
        .bias = (const float *)b->bias,
        .relu = c->relu,
        .pool = c->pool,
        .out = (float *)b->output,
        .out_step = conv2d_map_size(c),
        .out_offsets = s->output_at,
    };
    winograd_output_transform_kernel *kernel = p->winograd->output_transform;
    bool finite = kernel(&transform);
    if (b->rows % 2 != 0) { /* an odd last row has no partner */
        transform.sums += transform.vectors * p->lanes;
        transform.out_offsets = s->last_at;
        transform.vectors = p->row_vectors;
        finite &= kernel(&transform);
    }
    return finite;
}

static void winograd_run(const struct conv2d_plan *p, const void *state,
                         const struct conv2d_block *b)
{
    const struct winograd *s = state;
    for (size_t i = 0; i < p->channel_blocks; i++) {
        add_channels(p, s, b, i);
    }
    if (!transform_output(p, s, b)) {
        conv2d_direct_begin(p, b->scratch + s->direct);
        conv2d_direct.run(p, b->scratch + s->direct, b);
    }
}

const struct conv2d_algorithm conv2d_winograd = {
    .name = "winograd",
    .rows_together = 2,
    .pools = true,
    .buffered_rows = WINOGRAD_PRODUCTS / 2,
    .fits = winograd_fits,
    .cost = winograd_cost,
    .plan = winograd_plan,
    .free_state = winograd_free,
    .run = winograd_run,
};
