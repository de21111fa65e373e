#pragma once

#include "base/cancel.h"
#include "network/lanes_plan.h"

/*
 * Gradients of a network with lanes across images. The forward pass keeps the maps between the
 * stages. The backward pass sums the gradients of filters in each lane over the pixels of an image
 * and over the images of a group, and then adds the lanes and the groups. Only the number of images
 * decides the groups.
 */

/* The data that a forward pass keeps for backward passes. */
struct lanes_tape {
    struct lanes_plan plan;
    char *memory;
    /* The maps of all vectors: the input of stage i, and the output of the last one at [count]. */
    char *maps[MOST_LAYERS + 1];
    /* The chosen pixels of all vectors, for stages that pool, else NULL. */
    char *choices[MOST_LAYERS];
};

/* Plans layers for which lanes_apply holds, and allocates the tape. Returns 0, or -1 when there is
 * no memory. Free the tape in both cases. */
int lanes_tape_alloc(struct lanes_tape *tape, enum compute_type compute, const struct layer *layers,
                     size_t count, size_t images, struct shape shape);

/* Runs the layers of the tape, like network_run, and fills the tape. The weights must stay in
 * place. Returns 0, or -1 when there is no memory. */
int lanes_forward(struct lanes_tape *tape, const void *input, void *output,
                  struct cancel_token *token);
void lanes_tape_free(struct lanes_tape *tape);

/* The gradients of the output, of the input (NULL: not computed) and of the parameters of each
 * layer. The bias is NULL for a layer without one. */
struct lanes_gradients {
    const void *output;
    void *input;
    void *weights[MOST_LAYERS], *biases[MOST_LAYERS];
};

/* Writes the gradients. Returns 0, or -1 when there is no memory. */
int lanes_backward(const struct lanes_tape *tape, const struct lanes_gradients *gradients,
                   struct cancel_token *token);
