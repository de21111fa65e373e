#pragma once

#include "base/scratch.h"
#include "network/lanes_patches.h"
#include "network/lanes_plan.h"
#include "network/lanes_winograd_grad.h"

/* The gradients of one convolution with lanes across images. */

/* Input pixels of one residue modulo the stride. */
struct phase {
    size_t first, pixels; /* in the tables of pixels */
    size_t taps_at, taps; /* first entry in the table of taps; taps of a filter */
    size_t weights_at;    /* first element of its packed weights */
};

/* The plan and the tables for the gradients of a convolution. */
struct conv_grad {
    bool input;           /* the gradient of the convolution's input is wanted */
    bool winograd_input;  /* Winograd's algorithm computes that gradient */
    struct lanes_map map; /* of the gradients of its output, before pooling */
    /* The offset of each output pixel in `map` and in the input. */
    ptrdiff_t *gradients, *inputs;
    /* For a stage that pools, the offset of each pixel of a block of windows: in an array of these
     * pixels, in `map` and in the input. */
    ptrdiff_t *window_gradients, *window_maps, *window_inputs;
    /* By phase, for each input pixel: its offset in the map and in the gradient of the input. For
     * each tap: its offset in the map. */
    struct phase *phases;
    size_t phase_count;
    ptrdiff_t *pixels, *outputs, *taps;
    char *weights; /* packed, [phase][filter's group][channel][filter][tap] */
    struct lanes_winograd_gradients winograd;
    struct lanes_patch_gradients patches;
};

/* The taps of a phase along both axes, with the offsets of their output pixels as in taps_of. Each
 * list is as long as the longest side of a kernel. */
struct tap_lists {
    size_t *rows, *columns;
    ptrdiff_t *row_offsets, *column_offsets;
};

/* conv_grad_plan sets all sizes, for which g->input must be set. conv_grad_take takes the memory of
 * the tables, and conv_grad_fill fills them. Where Winograd's algorithm gives the gradient of the
 * input, it fills the phases only with `by_definition`. */
void conv_grad_plan(const struct lanes_plan *p, const struct lanes_stage *s, struct conv_grad *g);
void conv_grad_take(const struct lanes_plan *p, const struct lanes_stage *s, struct conv_grad *g,
                    struct arena *arena);
void conv_grad_fill(const struct lanes_plan *p, const struct lanes_stage *s, struct conv_grad *g,
                    bool by_definition, const struct tap_lists *lists);

/* Writes the gradients of a convolution's output before pooling, with their border, and returns
 * them. Returns `gradient` if that is what the map would hold. */
const char *conv_grad_spread(const struct lanes_plan *p, const struct lanes_stage *s,
                             const struct conv_grad *g, const char *choices, const char *gradient,
                             char *map);

/* conv_grad_spread for Winograd's algorithm: writes an array (filters, rows, columns), whose sizes
 * g->winograd has. */
void conv_grad_spread_tiles(const struct lanes_plan *p, const struct lanes_stage *s,
                            const struct conv_grad *g, const char *choices, const char *gradient,
                            char *tiles);

/* The gradients of the filters, summed in each lane. With `add` they are added to the sums. */
void conv_grad_weight(const struct lanes_plan *p, const struct lanes_stage *s,
                      const struct conv_grad *g, const char *input, const char *map, bool add,
                      char *sums);

/* conv_grad_weight, with the same bits, for a stage that pools. The gradients of a block of windows
 * are spread at a time, so that they stay in L1. windows has as many bytes as a map. */
void conv_grad_weight_of_pooled(const struct lanes_plan *p, const struct lanes_stage *s,
                                const struct conv_grad *g, const char *input,
                                const struct pooled_gradient *pooled, bool add, char *windows,
                                char *sums);

/* The gradient of the input, without a border. */
void conv_grad_input(const struct lanes_plan *p, const struct lanes_stage *s,
                     const struct conv_grad *g, const char *map, char *output);
