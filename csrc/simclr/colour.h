#pragma once

#include <stddef.h>

#include "vectors/compute_type.h"

/*
 * A change of the colours of one view: result = matrix * (red, green, blue) + pivot * mean. mean is
 * the mean brightness of the view, 0.299 red + 0.587 green + 0.114 blue. The single channel of a
 * grey image counts as red, green and blue. Then a Gaussian blurs the view. Pixels beyond its edge
 * have the value of the nearest pixel.
 */
struct colour {
    double matrix[3][3];
    double pivot;
    double blur; /* standard deviation in pixels; 0 leaves the view as it is */
};

/* The largest blur, and how many pixels on each side it reads. */
enum { BLUR_MAX = 20, BLUR_MAX_RADIUS = 3 * BLUR_MAX };

/* The bytes of scratch memory that change_colours needs, a multiple of SCRATCH_ALIGN. */
size_t colour_scratch(enum compute_type compute, size_t height, size_t width);

/* Changes a view (channels, height, width) in place. channels is 1 or 3. */
void change_colours(enum compute_type compute, const struct colour *colour, size_t channels,
                    size_t height, size_t width, void *view, void *scratch);
