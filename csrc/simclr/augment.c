/* Views of images. Each view samples its image through its own affine map. It samples a copy of the
 * image with a margin of zeros, so that sampling needs no bounds checks. */
#include "simclr/augment.h"

#include <stdbool.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "simclr/normal_rng.h"

enum {
    MARGIN = 2,      /* zeros on each side of an image; see clamp_to_margin() */
    COLUMNS = 256,   /* sample points computed at a time, along a row of a view */
    PIXEL_COST = 16, /* cost of one pixel in multiplications, for thread_count_for */
};

struct augment_state {
    const struct augment *call;
    size_t padded_width, padded_plane; /* elements of a row and of a channel, with margins */
    size_t padded_bytes;               /* of all channels */
    char *padded;                      /* one padded image for each worker; margins stay zeros */
    size_t colour_bytes;               /* of one worker */
    char *colour_scratch;
};

/* The points of the padded image where consecutive pixels of a view are sampled. (row, column) is
 * the pixel above and to the left of a point. down and right are the distances of the point from
 * this pixel, in [0, 1). */
struct sample_points {
    int32_t row[COLUMNS], column[COLUMNS];
    double down[COLUMNS], right[COLUMNS];
};

/*
 * Clamps a coordinate to the range from 2 before the first pixel to 1 after the last one. All four
 * neighbours of a clamped point are zeros of the margin, so a NaN at the edge of the image does not
 * spread. A coordinate can be NaN if the map overflows; NaN is clamped too.
 */
static inline double clamp_to_margin(double at, double size)
{
    at = at > -(double)MARGIN ? at : -(double)MARGIN;
    return at < size ? at : size;
}

/* Computes one coordinate of n sample points in the padded image, the first at `start`. whole[i] is
 * its integer part, fraction[i] the rest. */
static inline void find_coordinates(double start, double step, double size, size_t n,
                                    int32_t *whole, double *fraction)
{
    for (int32_t i = 0; i < (int32_t)n; i++) {
        const double at = clamp_to_margin(start + step * (double)i, size) + MARGIN;
        whole[i] = (int32_t)at;
        fraction[i] = at - (double)whole[i];
    }
}

static void find_sample_points(const struct augment *call, const struct affine *map, size_t y,
                               size_t x, size_t n, struct sample_points *points)
{
    const double start_x = map->x[0] * (double)x + map->x[1] * (double)y + map->x[2];
    const double start_y = map->y[0] * (double)x + map->y[1] * (double)y + map->y[2];
    find_coordinates(start_x, map->x[0], (double)call->width, n, points->column, points->right);
    find_coordinates(start_y, map->y[0], (double)call->height, n, points->row, points->down);
}

#define ELEMENT float
#define NAME(loop) loop##_f32
#include "simclr/augment_template.h"

#define ELEMENT double
#define NAME(loop) loop##_f64
#include "simclr/augment_template.h"

static const struct augment_loops {
    /* Samples n pixels of a view. `width` is that of a padded row. */
    void (*sample)(const void *padded, size_t width, const struct sample_points *points, size_t n,
                   void *view);
    /* Adds `deviation` times the numbers to n elements of a view. */
    void (*add)(double deviation, const float *numbers, size_t n, void *view);
    void (*clip)(double low, double high, size_t n, void *view);
} loops[COMPUTE_TYPES] = {
    [COMPUTE_F32] = {sample_f32, add_f32, clip_f32},
    [COMPUTE_F64] = {sample_f64, add_f64, clip_f64},
};

/* Copies an image into a padded image. */
static void pad(const struct augment_state *a, const char *image, char *padded)
{
    const struct augment *call = a->call;
    const size_t size = compute_size(call->compute), row_bytes = call->width * size;
    for (size_t c = 0; c < call->channels; c++) {
        char *row = padded + (c * a->padded_plane + MARGIN * a->padded_width + MARGIN) * size;
        for (size_t y = 0; y < call->height;
             y++, image += row_bytes, row += a->padded_width * size) {
            memcpy(row, image, row_bytes);
        }
    }
}

/* Samples all pixels of a view. */
static void warp(const struct augment_state *a, const struct affine *map, const char *padded,
                 char *view)
{
    const struct augment *call = a->call;
    const size_t size = compute_size(call->compute);
    struct sample_points points;
    for (size_t y = 0; y < call->height; y++) {
        for (size_t x = 0; x < call->width; x += COLUMNS) {
            const size_t n = smaller(COLUMNS, call->width - x);
            find_sample_points(call, map, y, x, n, &points);
            for (size_t c = 0; c < call->channels; c++) {
                const void *plane = padded + c * a->padded_plane * size;
                void *row = view + ((c * call->height + y) * call->width + x) * size;
                loops[call->compute].sample(plane, a->padded_width, &points, n, row);
            }
        }
    }
}

/* Adds random numbers to the n elements of one view, then clips the elements. */
static void add_noise_and_clip(const struct augment *call, uint64_t key, size_t n, char *view)
{
    const size_t size = compute_size(call->compute);
    float numbers[NORMAL_RNG_BLOCK];
    if (call->noise != 0.0) {
        for (size_t i = 0; i < n; i += NORMAL_RNG_BLOCK) {
            normal_rng_block(key, i / NORMAL_RNG_BLOCK, numbers);
            loops[call->compute].add(call->noise, numbers, smaller(NORMAL_RNG_BLOCK, n - i),
                                     view + i * size);
        }
    }
    loops[call->compute].clip(call->low, call->high, n, view);
}

static bool is_identity(const struct affine *map)
{
    return map->x[0] == 1.0 && map->x[1] == 0.0 && map->x[2] == 0.0 && map->y[0] == 0.0 &&
           map->y[1] == 1.0 && map->y[2] == 0.0;
}

static void image_task(void *context, size_t image, size_t worker)
{
    const struct augment_state *a = context;
    const struct augment *call = a->call;
    const size_t n = call->channels * call->height * call->width,
                 bytes = n * compute_size(call->compute);
    const char *from = (const char *)call->input + image * bytes;
    char *view = (char *)call->output + image * bytes,
         *padded = a->padded + worker * a->padded_bytes;
    if (is_identity(&call->maps[image])) {
        memcpy(view, from, bytes);
    } else {
        pad(a, from, padded);
        warp(a, &call->maps[image], padded, view);
    }
    if (call->colours != NULL) {
        change_colours(call->compute, &call->colours[image], call->channels, call->height,
                       call->width, view, a->colour_scratch + worker * a->colour_bytes);
    }
    add_noise_and_clip(call, call->keys[image], n, view);
}

int augment(const struct augment *call)
{
    struct augment_state a = {.call = call, .padded_width = call->width + 2 * MARGIN};
    const size_t pixels = call->channels * call->height * call->width;
    const size_t workers = smaller(
        (size_t)thread_count_for(call->images, size_product_or_max(pixels, PIXEL_COST), GRAIN_SUMS),
        call->images);
    if (call->images == 0 || pixels == 0) {
        return 0;
    }
    /* This product does not overflow, because AUGMENT_MAX_SIZE bounds both factors. */
    a.padded_plane = (call->height + 2 * MARGIN) * a.padded_width;
    a.padded_bytes = scratch_round(size_product_or_max(
        size_product_or_max(a.padded_plane, call->channels), compute_size(call->compute)));
    if (call->colours != NULL) {
        a.colour_bytes = colour_scratch(call->compute, call->height, call->width);
    }
    const size_t bytes = size_product_or_max(a.padded_bytes, workers),
                 colour_bytes = size_product_or_max(a.colour_bytes, workers);
    if ((a.padded = scratch_alloc(size_sum_or_max(bytes, colour_bytes))) == NULL) {
        return -1;
    }
    memset(a.padded, 0, bytes);
    a.colour_scratch = a.padded + bytes;
    pool_run(call->images, (int)workers, image_task, &a, call->token);
    scratch_free(a.padded);
    return 0;
}
