#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "simclr/colour.h"
#include "vectors/compute_type.h"

/* The largest height and width of an image. */
enum { AUGMENT_MAX_SIZE = INT32_MAX - 8 };

/*
 * Maps a pixel (x, y) of a view to a point (x', y') of its image:
 *
 *     x' = x[0] x + x[1] y + x[2]
 *     y' = y[0] x + y[1] y + y[2]
 *
 * The centres of pixels are at whole numbers.
 */
struct affine {
    double x[3], y[3];
};

/*
 * Makes one view of every image: samples the image bilinearly, with zeros outside it, changes its
 * colours, adds normal random numbers, then clips to [low, high]. Arrays are contiguous and hold
 * elements of the compute type. All channels of an image share its affine map.
 */
struct augment {
    enum compute_type compute;
    size_t images, channels, height, width;
    const void *input;            /* [images][channels][height][width] */
    const struct affine *maps;    /* [images]; the identity copies the image exactly */
    const struct colour *colours; /* [images], for 1 or 3 channels; NULL leaves colours alone */
    double noise;                 /* standard deviation of the random numbers; 0 adds none */
    const uint64_t *keys;         /* [images]: keys of the streams of random numbers */
    double low, high;             /* -INFINITY and INFINITY leave the values unchanged */
    void *output;                 /* has the shape of input and does not overlap it */
    struct cancel_token *token;   /* or NULL */
};

/* Returns 0, or -1 when memory runs out. */
int augment(const struct augment *call);
