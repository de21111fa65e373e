#include "simclr/colour.h"

#include <math.h>

#include "base/scratch.h"

/* The weight of each channel in the brightness of a pixel (ITU-R BT.601). */
static const double RED = 0.299, GREEN = 0.587, BLUE = 0.114;

#define ELEMENT float
#define NAME(loop) loop##_f32
#include "simclr/colour_template.h"

#define ELEMENT double
#define NAME(loop) loop##_f64
#include "simclr/colour_template.h"

static const struct colour_loops {
    void (*recolour)(const struct colour *colour, size_t channels, size_t n, void *view);
    void (*blur)(const double *weights, size_t radius, size_t height, size_t width, void *plane,
                 void *scratch);
} loops[COMPUTE_TYPES] = {
    [COMPUTE_F32] = {recolour_f32, blur_f32},
    [COMPUTE_F64] = {recolour_f64, blur_f64},
};

/* Writes weights[0 .. radius] of a Gaussian that is cut off at three standard deviations. The
 * weights of both sides add up to 1. Returns the radius. */
static size_t gaussian(double deviation, double *weights)
{
    const size_t radius = smaller((size_t)ceil(3.0 * deviation), BLUR_MAX_RADIUS);
    double sum = 0.0;
    for (size_t k = 0; k <= radius; k++) {
        const double x = (double)k / deviation;
        weights[k] = exp(-0.5 * x * x);
        sum += k == 0 ? weights[k] : 2.0 * weights[k];
    }
    for (size_t k = 0; k <= radius; k++) {
        weights[k] /= sum;
    }
    return radius;
}

size_t colour_scratch(enum compute_type compute, size_t height, size_t width)
{
    const size_t row = size_sum_or_max(width, 2 * BLUR_MAX_RADIUS),
                 elements = size_sum_or_max(size_product_or_max(height, width), row);
    return scratch_round(size_product_or_max(elements, compute_size(compute)));
}

void change_colours(enum compute_type compute, const struct colour *colour, size_t channels,
                    size_t height, size_t width, void *view, void *scratch)
{
    double weights[BLUR_MAX_RADIUS + 1];
    const size_t n = height * width;
    loops[compute].recolour(colour, channels, n, view);
    if (colour->blur > 0.0) {
        const size_t radius = gaussian(colour->blur, weights);
        for (size_t c = 0; c < channels; c++) {
            loops[compute].blur(weights, radius, height, width,
                                (char *)view + c * n * compute_size(compute), scratch);
        }
    }
}
