#pragma once

#include "conv2d/convolutions.h"

/* The convolution algorithms. A convolution uses the one whose cost is least among those that fit
 * it. conv2d_direct fits every convolution. */
#define FOR_EACH_CONV2D_ALGORITHM(ROW) \
    ROW(conv2d_winograd3) \
    ROW(conv2d_winograd) \
    ROW(conv2d_pointwise) \
    ROW(conv2d_filter_lanes) \
    ROW(conv2d_direct)

/* With this many images, an algorithm that is not exact may be chosen where fewer images take an
 * exact one, because all images share the transforms of filters. */
enum { CONV2D_MANY_IMAGES = 16 };

/* A block of output rows of one group of one image, or of several images. */
struct conv2d_block {
    const char *input;    /* at the first image and the group's first channel */
    const char *bias;     /* at the group's first filter, or NULL */
    char *output;         /* at the first image, the group's first filter and the first row */
    size_t images;        /* 1, unless the algorithm has a layout */
    size_t filter;        /* the group's first filter */
    size_t row, rows;     /* the first output row and the number of rows, before pooling */
    char *copy, *scratch; /* memory of the worker: for conv2d_block_input and for the algorithm */
};

struct conv2d_algorithm {
    const char *name;
    /* The number of output rows that are computed together. If the output does not divide into such
     * groups, the input is copied with zeros for the missing rows. */
    size_t rows_together;
    bool pools; /* can fuse 2 x 2 pooling */
    /* Rows of scratch memory for each input row, and the same number for each output row. 0: the
     * algorithm needs scratch memory only for partial sums, if there are several blocks of
     * channels. */
    size_t buffered_rows;
    /* True if sums have the same bits as in conv2d_direct. The choice among such algorithms may
     * depend on the number of images. */
    bool exact;
    /* Returns true if the algorithm can compute this convolution. NULL: it can compute all. The
     * plan's row blocks, plane and sizes of memory are not set yet. */
    bool (*fits)(const struct conv2d_plan *plan);
    /* Returns the estimated time for one group of one image, in a call with `images` images. The
     * unit is the time of a multiply-add of two vectors at peak speed. conv2d_cost.h has estimates
     * that algorithms share. benchmarks/convolutions.py compares the choices that follow with
     * measured times. */
    double (*cost)(const struct conv2d_plan *plan, size_t images);
    /* Sets the plan's row_block and image_block; scratch memory then holds copies of the input too.
     * NULL: conv2d.c sets them, for blocks of one image, and conv2d_block_input copies. */
    void (*layout)(struct conv2d_plan *plan);
    /* Returns the algorithm's tables, or NULL when there is no memory. Sets *scratch to the bytes
     * of scratch memory of one worker. The plan is complete, except for state and scratch. */
    void *(*plan)(const struct conv2d_plan *plan, size_t *scratch);
    void (*free_state)(void *state);
    /* Computes a block of output rows. */
    void (*run)(const struct conv2d_plan *plan, const void *state, const struct conv2d_block *b);
};

/* Forces the named algorithm for all convolutions that it fits, for tests and benchmarks. NULL: the
 * cost decides. Returns false if there is no such algorithm. */
bool conv2d_force_algorithm(const char *name);

#define DECLARE(name) extern const struct conv2d_algorithm name;
FOR_EACH_CONV2D_ALGORITHM(DECLARE)
#undef DECLARE

/* Functions that conv2d.c and the algorithms share. */

/*
 * For algorithms that rarely need conv2d_direct. The first two functions return the bytes of its
 * state, and those of a worker's scratch memory; *results is for conv2d_direct.c.
 * conv2d_direct_begin makes the state, which conv2d_direct.run takes, in memory of the caller.
 */
size_t conv2d_direct_state_bytes(const struct conv2d_plan *plan);
size_t conv2d_direct_scratch(const struct conv2d_plan *plan, size_t *results);
void conv2d_direct_begin(const struct conv2d_plan *plan, void *state);

/* Returns the output rows and columns that are computed: pooling drops an odd last row or column.
 */
static inline struct extent2 conv2d_computed(const struct conv2d *c)
{
    const size_t by = conv2d_pool_size(c);
    return (struct extent2){c->out.h / by * by, c->out.w / by * by};
}

/* Returns the number of input rows that a block of `rows` output rows reads. `rows` is rounded up
 * to whole groups of rows_together. */
size_t conv2d_block_rows(const struct conv2d_plan *plan, size_t rows);

/* Returns the first column of a vector of an output row. The last vector ends with the row, so it
 * can overlap the one before it. */
static inline size_t conv2d_column(const struct conv2d_plan *p, size_t vector)
{
    return p->narrow ? 0 : smaller(vector * p->lanes, conv2d_computed(&p->conv).w - p->lanes);
}

/* Returns the number of channels of a block: plan->channel_block, or fewer in the last block. */
static inline size_t conv2d_channels(const struct conv2d_plan *p, size_t channel_block)
{
    return smaller(p->channel_block, p->channels - channel_block * p->channel_block);
}

/* Returns the first input row that a row block reads in a block of channels. Copies the input first
 * if plan->copied. Rows are plan->pitch elements apart, and channels plan->plane. */
const void *conv2d_block_input(const struct conv2d_plan *plan, const struct conv2d_block *b,
                               size_t channel_block);

/* True if conv2d_outer divides the filters into tiles of OUTER_WIDE_ROWS. */
static inline bool conv2d_has_wide_tiles(const struct conv2d_plan *p)
{
    return p->tile_rows >= OUTER_WIDE_ROWS && p->filters % OUTER_WIDE_ROWS == 0 && !p->conv.pool;
}

/* Runs the outer kernel on all filters of a group, a tile at a time. o.left, o.bias,
 * o.partial_sums and o.out are those of the group's first filter. */
void conv2d_outer(const struct conv2d_plan *plan, struct outer o);
