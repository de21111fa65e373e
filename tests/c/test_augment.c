/* Checks simclr/augment.c against a slow reference, which checks the bounds of the image for every
 * pixel that it reads. Checks the moments of the random numbers of simclr/normal_rng.c. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "check.h"
#include "simclr/augment.h"
#include "simclr/normal_rng.h"

enum { MOST = 64 * 24 * 24 }; /* upper limit of the elements of a call's images */

static double pixel(const double *plane, const struct augment *call, double y, double x)
{
    const bool inside = y >= 0 && y < (double)call->height && x >= 0 && x < (double)call->width;
    return inside ? plane[(size_t)y * call->width + (size_t)x] : 0.0;
}

static double interpolate(double before, double after, double weight)
{
    return before + weight * (after - before);
}

static double reference_pixel(const double *plane, const struct augment *call,
                              const struct affine *map, size_t y, size_t x)
{
    const double at_x = map->x[0] * (double)x + map->x[1] * (double)y + map->x[2];
    const double at_y = map->y[0] * (double)x + map->y[1] * (double)y + map->y[2];
    const double left = floor(at_x), top = floor(at_y);
    if (!isfinite(at_x) || !isfinite(at_y)) {
        return 0.0;
    }
    return interpolate(
        interpolate(pixel(plane, call, top, left), pixel(plane, call, top, left + 1), at_x - left),
        interpolate(pixel(plane, call, top + 1, left), pixel(plane, call, top + 1, left + 1),
                    at_x - left),
        at_y - top);
}

static double image[MOST], views[MOST];
static float image_f32[MOST], views_f32[MOST];

static void check_maps(size_t images, size_t channels, size_t height, size_t width,
                       struct affine *maps)
{
    const size_t n = channels * height * width;
    const uint64_t keys[4] = {1, 2, 3, 4};
    struct augment call = {.compute = COMPUTE_F64,
                           .images = images,
                           .channels = channels,
                           .height = height,
                           .width = width,
                           .input = image,
                           .maps = maps,
                           .keys = keys,
                           .low = -INFINITY,
                           .high = INFINITY,
                           .output = views};
    CHECK(images <= 4 && images * n <= MOST, "too many pixels for the test");
    for (size_t i = 0; i < images * n; i++) {
        image_f32[i] = (float)random_number();
        image[i] = image_f32[i];
    }
    CHECK(augment(&call) == 0, "no memory");
    call.compute = COMPUTE_F32;
    call.input = image_f32;
    call.output = views_f32;
    CHECK(augment(&call) == 0, "no memory");
    for (size_t i = 0; i < images; i++) {
        for (size_t k = 0; k < n; k++) {
            const size_t plane = k / (height * width), y = k / width % height, x = k % width;
            const double expected =
                reference_pixel(image + i * n + plane * height * width, &call, &maps[i], y, x);
            CHECK(fabs(views[i * n + k] - expected) < 1e-12 * (double)larger(height, width),
                  "(%zu, %zu, %zu, %zu) image %zu pixel %zu, %zu: %g, not %g", images, channels,
                  height, width, i, y, x, views[i * n + k], expected);
            CHECK(fabs((double)views_f32[i * n + k] - expected) < 1e-6, "%g, not %g",
                  (double)views_f32[i * n + k], expected);
        }
    }
}

static void check_shapes(void)
{
    static const size_t shapes[][4] = {{4, 3, 9, 300}, {2, 1, 300, 9}, {3, 1, 28, 28}, {1, 1, 1, 1},
                                       {2, 2, 1, 5},   {2, 1, 5, 1},   {4, 3, 2, 257}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (int round = 0; round < 20; round++) {
            struct affine maps[4];
            for (size_t i = 0; i < 4; i++) {
                for (size_t c = 0; c < 3; c++) {
                    maps[i].x[c] = 1.5 * random_number() * (c == 2 ? (double)shapes[s][3] : 1.0);
                    maps[i].y[c] = 1.5 * random_number() * (c == 2 ? (double)shapes[s][2] : 1.0);
                }
            }
            check_maps(shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3], maps);
        }
    }
}

static void check_extremes(void)
{
    static const double extremes[] = {0.0, -0.0, 1.0,   -1.0,   -2.0,     5.0,       5.999, 6.0,
                                      1e9, -1e9, 1e300, -1e300, INFINITY, -INFINITY, NAN};
    enum { COUNT = sizeof extremes / sizeof *extremes };
    for (size_t a = 0; a < COUNT; a++) {
        for (size_t b = 0; b < COUNT; b++) {
            struct affine maps[3] = {{{1.0, 0.0, extremes[a]}, {0.0, 1.0, extremes[b]}},
                                     {{extremes[a], 0.0, 0.25}, {0.0, extremes[b], 0.5}},
                                     {{0.0, extremes[a], 0.25}, {extremes[b], 0.0, 0.5}}};
            check_maps(3, 1, 6, 6, maps);
        }
    }
}

static void check_noise(void)
{
    enum { BLOCKS = 40000 };
    double sums[5] = {0}, most = 0, products = 0;
    float numbers[NORMAL_RNG_BLOCK], again[NORMAL_RNG_BLOCK];
    for (size_t block = 0; block < BLOCKS; block++) {
        normal_rng_block(0x0123456789ABCDEF, block, numbers);
        normal_rng_block(0x0123456789ABCDEF, block, again);
        CHECK(memcmp(numbers, again, sizeof numbers) == 0, "block %zu differs from itself", block);
        for (size_t i = 0; i < NORMAL_RNG_BLOCK; i++) {
            const double x = numbers[i];
            sums[1] += x;
            sums[2] += x * x;
            sums[3] += x * x * x;
            sums[4] += x * x * x * x;
            products += x * (double)numbers[(i + NORMAL_RNG_BLOCK / 2) % NORMAL_RNG_BLOCK];
            most = fabs(x) > most ? fabs(x) : most;
        }
    }
    /* The standard deviation of the mean of x^k is at most sqrt((2k - 1)!! / n). */
    const double n = (double)BLOCKS * NORMAL_RNG_BLOCK, sigmas = 4.5 / sqrt(n);
    CHECK(fabs(sums[1] / n) < sigmas, "mean %g", sums[1] / n);
    CHECK(fabs(sums[2] / n - 1) < sigmas * sqrt(2), "variance %g", sums[2] / n);
    CHECK(fabs(sums[3] / n) < sigmas * sqrt(15), "third moment %g", sums[3] / n);
    CHECK(fabs(sums[4] / n - 3) < sigmas * sqrt(96), "fourth moment %g", sums[4] / n);
    CHECK(fabs(products / n) < 2 * sigmas, "the two numbers of a pair are correlated: %g",
          products / n);
    CHECK(most > 4.5 && most < 6.7, "largest %g", most);
}

static void check_threads(void)
{
    enum { IMAGES = 64, PIXELS = 24 * 24 };
    static struct affine maps[IMAGES];
    static uint64_t keys[IMAGES];
    static double once[IMAGES * PIXELS];
    for (size_t i = 0; i < IMAGES; i++) {
        maps[i] = (struct affine){{1.0, 0.1 * random_number(), random_number()},
                                  {0.1 * random_number(), 1.0, random_number()}};
        keys[i] = i;
    }
    struct augment call = {.compute = COMPUTE_F64,
                           .images = IMAGES,
                           .channels = 1,
                           .height = 24,
                           .width = 24,
                           .input = image,
                           .maps = maps,
                           .noise = 0.1,
                           .keys = keys,
                           .low = -0.5,
                           .high = 0.5,
                           .output = once};
    pool_set_threads(1);
    CHECK(augment(&call) == 0, "no memory");
    for (int threads = 2; threads <= 4; threads++) {
        pool_set_threads(threads);
        call.output = views;
        CHECK(augment(&call) == 0, "no memory");
        CHECK(memcmp(once, views, sizeof once) == 0, "%d threads", threads);
    }
    pool_stop();
}

int main(void)
{
    check_shapes();
    check_extremes();
    check_noise();
    check_threads();
    return finish("augment");
}
