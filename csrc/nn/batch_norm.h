#pragma once

#include <stddef.h>

#include "base/cancel.h"
#include "vectors/compute_type.h"

/*
 * The two loops of batch normalization and of its gradient, channel by channel. x and y are
 * contiguous arrays (images, channels, pixels) of the compute type. Sums and statistics are double.
 * Each channel has one order of summation for any number of threads.
 */
struct channels {
    enum compute_type compute;
    size_t images, channels, pixels;
    const void *x, *y;          /* y may be NULL */
    const double *centre;       /* [channels], subtracted from x; unused by channel_statistics */
    struct cancel_token *token; /* or NULL */
};

/* With v = x - centre: sums[c][0] is the sum of y, sums[c][1] the sum of v * y, over all elements
 * of channel c. If y is NULL, v replaces y. */
void channel_sums(const struct channels *call, double (*sums)[2]);

/* Writes the mean of x of each channel, and the sums as channel_sums does for centre = means and no
 * y. */
void channel_statistics(const struct channels *call, double *means, double (*sums)[2]);

/* output = v * factors[c][0] + y * factors[c][1] + factors[c][2]. If y is NULL, its term is left
 * out. The result is computed in double and rounded once. */
void channel_affine(const struct channels *call, const double (*factors)[3], void *output);
