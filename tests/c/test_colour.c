/* Checks the colours of views (simclr/colour.c) against a slow reference, which sums a Gaussian
 * over the square around each pixel. All arrays are guarded blocks. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "guarded.h"
#include "simclr/colour.h"

enum { MOST = 3 * 30 * 30 };

/* The weight of a pixel k columns or rows away, before the weights are divided by their sum. */
static double gaussian_of(double blur, long k)
{
    return exp(-0.5 * (double)(k * k) / (blur * blur));
}

static long clamped(long at, size_t n)
{
    return at < 0 ? 0 : at < (long)n ? at : (long)n - 1;
}

/* view (channels, height, width) becomes the reference's result, in double. */
static void reference(const struct colour *colour, size_t channels, size_t height, size_t width,
                      double *view)
{
    static double before[MOST];
    static const double shares[3] = {0.299, 0.587, 0.114};
    const size_t n = height * width;
    double mean = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < 3; c++) {
            mean += shares[c] * view[(channels == 3 ? c : 0) * n + i] / (double)n;
        }
    }
    memcpy(before, view, channels * n * sizeof *view);
    for (size_t i = 0; i < channels * n; i++) {
        double sum = colour->pivot * mean;
        for (size_t c = 0; c < 3; c++) {
            sum += colour->matrix[i / n][c] * before[(channels == 3 ? c : 0) * n + i % n];
        }
        view[i] = sum;
    }
    if (colour->blur == 0) {
        return;
    }
    memcpy(before, view, channels * n * sizeof *view);
    const long radius = (long)ceil(3 * colour->blur);
    for (size_t i = 0; i < channels * n; i++) {
        const long y = (long)(i % n / width), x = (long)(i % width);
        double sum = 0, weights = 0;
        for (long dy = -radius; dy <= radius; dy++) {
            for (long dx = -radius; dx <= radius; dx++) {
                const double weight = gaussian_of(colour->blur, dy) * gaussian_of(colour->blur, dx);
                const size_t at =
                    (size_t)clamped(y + dy, height) * width + (size_t)clamped(x + dx, width);
                sum += weight * before[i / n * n + at];
                weights += weight;
            }
        }
        view[i] = sum / weights;
    }
}

static void check_colours(int f64, size_t channels, size_t height, size_t width, double blur)
{
    static double expected[MOST];
    const enum compute_type compute = f64 ? COMPUTE_F64 : COMPUTE_F32;
    const size_t n = channels * height * width;
    struct colour colour = {.pivot = below(3) == 0 ? 0 : random_number(), .blur = blur};
    void *view = guarded_alloc(n * size_of(f64)),
         *scratch = guarded_alloc(colour_scratch(compute, height, width));
    for (size_t i = 0; i < 9; i++) {
        colour.matrix[i / 3][i % 3] = random_number();
    }
    for (size_t i = 0; i < n; i++) {
        put(f64, view, i, 0.5 + 0.5 * random_number());
        expected[i] = get(f64, view, i);
    }
    reference(&colour, channels, height, width, expected);
    change_colours(compute, &colour, channels, height, width, view, scratch);
    for (size_t i = 0; i < n; i++) {
        CHECK(fits(f64, get(f64, view, i), expected[i], 40, 4),
              "f%d (%zu, %zu, %zu), blur %g: %zu: %.17g, not %.17g", f64 ? 64 : 32, channels,
              height, width, blur, i, get(f64, view, i), expected[i]);
    }
    guarded_release("colours");
}

int main(void)
{
    for (int f64 = 0; f64 < 2; f64++) {
        for (int round = 0; round < 120; round++) {
            const double blur = round % 3 == 0 ? 0 : 0.1 + 1.2 * (1 + random_number());
            check_colours(f64, round % 2 == 0 ? 3 : 1, 1 + below(16), 1 + below(16), blur);
        }
        check_colours(f64, 3, 30, 30, 5);
        check_colours(f64, 1, 4, 25, BLUR_MAX); /* a radius above the sizes of the image */
    }
    return finish("colour");
}
