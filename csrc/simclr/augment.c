/* Views of images: each is read through its own affine map, from a copy with a margin of zeros, so
 * that no pixel asks where it is. */
#include "simclr/augment.h"

#include <stdbool.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "simclr/normal_rng.h"
#include "vectors/reduce.h"

enum {
    MARGIN = 2,      /* zeros on each side of an image; see within() */
    COLUMNS = 256,   /* of a row of a view, whose places are found at a time */
    PIXEL_COST = 16, /* in the multiplications of thread_count_for */
};

struct augmentation {
    const struct augment *call;
    size_t padded_width, padded_plane; /* with margins, in elements */
    size_t padded_bytes;               /* of all channels */
    char *padded;                      /* an image a worker; its margins stay as they are */
};

/* Where pixels of a row of a view lie in the padded image: the pixel up and left, and how far on
 * from it. */
struct places {
    int32_t row[COLUMNS], column[COLUMNS];
    double down[COLUMNS], right[COLUMNS];
};

/*
 * Places outside are moved to 2 before the first pixel or 1 behind the last, where all neighbours
 * are zeros: a NaN at the edge is not to show there. A place that is itself NaN, of a map beyond
 * the range of doubles, is outside.
 */
static inline double within(double at, double size)
{
    at = at > -(double)MARGIN ? at : -(double)MARGIN;
    return at < size ? at : size;
}

/* One coordinate of n places, the first of which is at `start`. */
static inline void find(double start, double step, double size, size_t n, int32_t *before,
                        double *on)
{
    for (int32_t i = 0; i < (int32_t)n; i++) {
        const double at = within(start + step * (double)i, size) + MARGIN;
        before[i] = (int32_t)at;
        on[i] = at - (double)before[i];
    }
}

static void find_places(const struct augment *call, const struct affine *map, size_t y, size_t x,
                        size_t n, struct places *places)
{
    const double start_x = map->x[0] * (double)x + map->x[1] * (double)y + map->x[2];
    const double start_y = map->y[0] * (double)x + map->y[1] * (double)y + map->y[2];
    find(start_x, map->x[0], (double)call->width, n, places->column, places->right);
    find(start_y, map->y[0], (double)call->height, n, places->row, places->down);
}

#define AUGMENT_LOOPS(type) \
    static void sample_##type(const type *padded, size_t width, const struct places *places, \
                              size_t n, type *view) \
    { \
        for (size_t i = 0; i < n; i++) { \
            const type *upper = \
                padded + (size_t)places->row[i] * width + (size_t)places->column[i]; \
            const type *lower = upper + width; \
            const type right = (type)places->right[i], down = (type)places->down[i]; \
            const type above = upper[0] + right * (upper[1] - upper[0]); \
            const type below = lower[0] + right * (lower[1] - lower[0]); \
            view[i] = above + down * (below - above); \
        } \
    } \
\
    static void add_##type(type deviation, const float *numbers, size_t n, type *view) \
    { \
        for (size_t i = 0; i < n; i++) { \
            view[i] += deviation * (type)numbers[i]; \
        } \
    } \
\
    /* NaN stays. */ \
    static void clip_##type(type low, type high, size_t n, type *view) \
    { \
        for (size_t i = 0; i < n; i++) { \
            const type raised = low > view[i] ? low : view[i]; \
            view[i] = high < raised ? high : raised; \
        } \
    }
AUGMENT_LOOPS(float)
AUGMENT_LOOPS(double)

/* The function of the loops for this call's type, with pointers to its elements. */
#define LOOP(call, name, ...) \
    ((call)->compute == COMPUTE_F64 ? name##_double(__VA_ARGS__) : name##_float(__VA_ARGS__))

static void pad(const struct augmentation *a, const char *image, char *padded)
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

static void warp(const struct augmentation *a, const struct affine *map, const char *padded,
                 char *view)
{
    const struct augment *call = a->call;
    const size_t size = compute_size(call->compute);
    struct places places;
    for (size_t y = 0; y < call->height; y++) {
        for (size_t x = 0; x < call->width; x += COLUMNS) {
            const size_t n = smaller(COLUMNS, call->width - x);
            find_places(call, map, y, x, n, &places);
            for (size_t c = 0; c < call->channels; c++) {
                const void *plane = padded + c * a->padded_plane * size;
                void *row = view + ((c * call->height + y) * call->width + x) * size;
                LOOP(call, sample, plane, a->padded_width, &places, n, row);
            }
        }
    }
}

static void finish(const struct augment *call, uint64_t key, size_t n, char *view)
{
    const size_t size = compute_size(call->compute);
    float numbers[NORMAL_RNG_BLOCK];
    for (size_t i = 0; i < n && call->noise != 0.0; i += NORMAL_RNG_BLOCK) {
        void *pixels = view + i * size;
        normal_rng_block(key, i / NORMAL_RNG_BLOCK, numbers);
        LOOP(call, add, call->noise, numbers, smaller(NORMAL_RNG_BLOCK, n - i), pixels);
    }
    void *pixels = view;
    LOOP(call, clip, call->low, call->high, n, pixels);
}

static bool changes_nothing(const struct affine *map)
{
    return map->x[0] == 1.0 && map->x[1] == 0.0 && map->x[2] == 0.0 && map->y[0] == 0.0 &&
           map->y[1] == 1.0 && map->y[2] == 0.0;
}

static void task_image(void *context, size_t image, size_t worker)
{
    const struct augmentation *a = context;
    const struct augment *call = a->call;
    const size_t n = call->channels * call->height * call->width,
                 bytes = n * compute_size(call->compute);
    const char *from = (const char *)call->input + image * bytes;
    char *view = (char *)call->output + image * bytes,
         *padded = a->padded + worker * a->padded_bytes;
    if (changes_nothing(&call->maps[image])) {
        memcpy(view, from, bytes);
    } else {
        pad(a, from, padded);
        warp(a, &call->maps[image], padded, view);
    }
    finish(call, call->keys[image], n, view);
}

int augment(const struct augment *call)
{
    struct augmentation a = {.call = call, .padded_width = call->width + 2 * MARGIN};
    const size_t pixels = call->channels * call->height * call->width;
    const size_t workers = smaller(
        (size_t)thread_count_for(call->images, size_product_or_max(pixels, PIXEL_COST), GRAIN_SUMS),
        call->images);
    if (call->images == 0 || pixels == 0) {
        return 0;
    }
    a.padded_plane = (call->height + 2 * MARGIN) * a.padded_width; /* at most AUGMENT_MOST each */
    a.padded_bytes = scratch_round(size_product_or_max(
        size_product_or_max(a.padded_plane, call->channels), compute_size(call->compute)));
    const size_t bytes = size_product_or_max(a.padded_bytes, workers);
    if ((a.padded = scratch_alloc(bytes)) == NULL) {
        return -1;
    }
    memset(a.padded, 0, bytes);
    pool_run(call->images, (int)workers, task_image, &a, call->token);
    scratch_free(a.padded);
    return 0;
}
