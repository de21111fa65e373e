#ifndef COSSIM_SIMCLR_AUGMENT_H
#define COSSIM_SIMCLR_AUGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "vectors/compute_type.h"

/* The largest height or width of an image. */
enum { AUGMENT_MOST = INT32_MAX - 8 };

/* Where a pixel of a view lies in its image: x' = x[0] x + x[1] y + x[2], and y' likewise. Pixels
 * are at whole numbers. */
struct affine {
    double x[3], y[3];
};

/*
 * A view of every image: bilinear between pixels, zeros outside, then noise, then values kept
 * between low and high. Arrays are contiguous, of `work` elements; an image's channels share its
 * map.
 */
struct augment {
    enum compute_type compute;
    size_t images, channels, height, width;
    const void *input;          /* [images][channels][height][width] */
    const struct affine *maps;  /* [images]; one that changes nothing copies the image as it is */
    double noise;               /* standard deviation; 0: none */
    const uint64_t *keys;       /* [images]: of the streams of noise */
    double low, high;           /* -INFINITY, INFINITY: values stay as they are */
    void *output;               /* as input, and no part of it */
    struct cancel_token *token; /* or NULL */
};

/* 0, or -1 when there is no memory. */
int augment(const struct augment *call);

#endif
