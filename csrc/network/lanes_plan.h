#pragma once

#include "kernels/kernels.h"
#include "network/shapes.h"
#include "vectors/compute_type.h"

/*
 * Networks with lanes across images. A vector holds one pixel of as many images as it has lanes,
 * and between two layers lie arrays (channels, height, width) of vectors. So a convolution reads
 * whole vectors for any stride, padding, dilation or groups: a tap is an address. A block of images
 * is transposed before the first layer and after the last one.
 *
 * Every sum runs within one lane, in an order that the layer's shape alone decides. So the result
 * of an image has the same bits in any lane, in any batch that is computed in this way, and for any
 * number of threads. Images that are missing in the last vector are zeros.
 */

/* An array of vectors: (channels, height, width) with a border of zeros for the next layer. Counts
 * vectors. Flat data are (features, 1, 1). */
struct lanes_map {
    size_t channels;
    struct extent2 size;
    struct extent2 before; /* border above and to the left */
    /* of a channel with its border: its rows, the vectors of a row, all of its vectors */
    size_t rows, pitch, plane;
    size_t first, total; /* first vector that is not in the border; all vectors */
};

/* Winograd's algorithm for a convolution by kernels of five rows (kernels/lanes_kernels.h). Steps
 * and offsets count elements. */
struct lanes_winograd {
    size_t tiles;       /* tiles of rows; 0: the convolution is computed by its definition */
    size_t width;       /* columns that are computed */
    ptrdiff_t *columns; /* the offset of each computed column */
    ptrdiff_t *taps;    /* the offset of each column of each channel's kernel in a transform */
    char *filters; /* the filter transforms of the groups, each (8, filters, channels, width) */
};

/* A layer and the layers fused into it. */
struct lanes_stage {
    struct layer layer;
    size_t number;   /* of the layer in the network */
    bool relu, pool; /* fused into a convolution or linear layer */
    struct lanes_map in, out;
    /* For a convolution or linear layer: channels and filters of a group; the size of the output
     * before pooling; terms of a sum, and of a chain. */
    size_t channels, filters;
    struct extent2 computed;
    size_t depth, chain;
    /* A unit is `unit` output rows: 2 with pooling, else 1. The output has `units` units of
     * unit_pixels pixels; a kernel call computes up to unit_block units. */
    size_t unit, unit_block, units, unit_pixels;
    ptrdiff_t *taps, *pixels, *outputs, *choices;
    struct lanes_winograd winograd;
};

struct lanes_plan {
    enum compute_type compute;
    const struct lanes_kernels *kernels;
    size_t size, lanes; /* bytes of an element; elements of a vector */
    size_t images;      /* of the call */
    size_t vectors;     /* vectors that hold one pixel of all images */
    /* number of stages; number of stages that read images, which come before the flat stages */
    size_t count, mapped;
    struct lanes_stage stages[MOST_LAYERS];
    size_t multiplications; /* for one image; SIZE_MAX on overflow */
    void *tables;
};

/* True if the layers run faster with lanes across images than image by image. All layers must fit
 * the shape. */
bool lanes_apply(enum compute_type compute, const struct layer *layers, size_t count, size_t images,
                 struct shape shape);

/* Plans layers for which lanes_apply holds. Returns 0, or -1 when there is no memory. Free the plan
 * in both cases. */
int lanes_plan(struct lanes_plan *plan, enum compute_type compute, const struct layer *layers,
               size_t count, size_t images, struct shape shape);
void lanes_plan_free(struct lanes_plan *plan);

/* The filter transforms of a stage with Winograd's algorithm. With `transposed`, those of a group
 * are (8, channels, width, filters). */
void lanes_winograd_filters(const struct lanes_plan *plan, const struct lanes_stage *stage,
                            char *out, bool transposed);
/* Elements of the filter transforms of a group. */
size_t lanes_winograd_elements(const struct lanes_stage *stage);

/* The map of the network's input or of its output. */
const struct lanes_map *lanes_input(const struct lanes_plan *plan);
const struct lanes_map *lanes_output(const struct lanes_plan *plan);

/* Bytes of a vector. */
static inline size_t vector_bytes(const struct lanes_plan *p)
{
    return p->lanes * p->size;
}

/* Bytes of a map without its border. The choices of a pool take as many. */
static inline size_t dense_bytes(const struct lanes_plan *p, const struct lanes_map *m)
{
    return m->channels * m->size.h * m->size.w * vector_bytes(p);
}

/* True if the vectors of a map are adjacent: it has no border. */
static inline bool is_dense(const struct lanes_map *m)
{
    return m->plane == m->size.h * m->size.w;
}

/* Returns the bytes of a map. */
static inline size_t lanes_bytes(const struct lanes_plan *p, const struct lanes_map *map)
{
    return map->total * p->lanes * p->size;
}

/* Returns the vectors of a task of a forward pass: at most LANES_BLOCK, and at least two tasks for
 * each thread. Linear layers multiply each weight with all vectors of a task. */
enum { LANES_BLOCK = 4 };
size_t lanes_block(const struct lanes_plan *plan, int threads);

/* Returns the number of images of vector v. */
static inline size_t lanes_images(const struct lanes_plan *p, size_t v)
{
    const size_t rest = p->images - v * p->lanes;
    return rest < p->lanes ? rest : p->lanes;
}

/* Fills the border of a map with zeros. */
void lanes_clear_border(const struct lanes_plan *plan, const struct lanes_map *map, void *vectors);

/* lanes_gather transposes the images of vector v, from (images, C, H, W), into a map with its
 * border. lanes_scatter transposes a map without a border back into these images. */
void lanes_gather(const struct lanes_plan *plan, const struct lanes_map *map, size_t v,
                  const void *images, void *vectors);
void lanes_scatter(const struct lanes_plan *plan, const struct lanes_map *map, size_t v,
                   const void *vectors, void *images);
