/* Checks the kernels of convolutions with lanes across filters, of 3 x 3 Winograd convolution and
 * of pooling by pairs against naive references, for every instruction set that this machine
 * supports. All arrays are guarded blocks. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "guarded.h"
#include "layer_tables.h"
#include "kernels/kernels.h"

enum { ROUNDS = 100, MAX_OFFSETS = 64 };

static const struct layer_kernels *kernels;
static const struct winograd_kernels *winograd;

/* ---- pixels ---- */

static void check_pixels(int f64, size_t vectors, size_t pixels, size_t depth)
{
    const size_t lanes = kernels[f64].lanes, width = vectors * lanes, room = 50,
                 step = width + below(3);
    ptrdiff_t pixel_offsets[MAX_OFFSETS], depth_offsets[MAX_OFFSETS];
    draw_offsets(pixel_offsets, pixels, room, 1);
    draw_offsets(depth_offsets, depth, room, 1);
    struct pixels c = {.input = numbers(f64, 2 * room - 1, 0),
                       .pixel_offsets = pixel_offsets,
                       .depth_offsets = depth_offsets,
                       .pixels = pixels,
                       .depth = depth,
                       .filters = numbers(f64, depth * width, 0),
                       .vectors = vectors,
                       .add = below(2) == 0,
                       .relu = below(2) == 0,
                       .sums_step = step};
    const size_t n = pixels == 0 ? 0 : (pixels - 1) * step + width;
    const void *before = numbers(f64, n, 0);
    c.bias = below(2) == 0 ? numbers(f64, width, 0) : NULL;
    c.pixel_bias = below(2) == 0 ? numbers(f64, pixels, 0) : NULL;
    c.sums = guarded_alloc(n * size_of(f64));
    memcpy(c.sums, before, n * size_of(f64));
    kernels[f64].pixels(&c);
    for (size_t i = 0; i < n; i++) {
        const size_t p = i / step, lane = i % step;
        double sum = 0, most = 0;
        for (size_t k = 0; lane < width && k < depth; k++) {
            const double product =
                get(f64, c.input, (size_t)(pixel_offsets[p] + depth_offsets[k])) *
                get(f64, c.filters, k * width + lane);
            sum += product;
            most += fabs(product);
        }
        sum += c.add ? get(f64, before, i) : 0;
        sum += c.bias != NULL && lane < width ? get(f64, c.bias, lane) : 0;
        sum += c.pixel_bias != NULL ? get(f64, c.pixel_bias, p) : 0;
        const double expected = lane >= width ? get(f64, before, i) : c.relu ? relu_of(sum) : sum;
        CHECK(fits(f64, get(f64, c.sums, i), expected, (double)(2 * depth + 6), most + 3),
              "%s pixels f%d %zu x %zu, depth %zu: %zu, %zu: %g, not %g", isa, f64 ? 64 : 32,
              pixels, vectors, depth, p, lane, get(f64, c.sums, i), expected);
    }
    guarded_release("pixels");
}

/* ---- maxima of pairs ---- */

static void check_max_pairs(int f64, size_t n, bool positions)
{
    static const double values[] = {NAN, 1, 2, -0.0, 0, -INFINITY, INFINITY};
    const size_t size = size_of(f64);
    void *a = guarded_alloc(n * size), *b = guarded_alloc(n * size), *to = guarded_alloc(n * size),
         *at[3] = {NULL};
    for (int k = 0; positions && k < 3; k++) {
        at[k] = guarded_alloc(n * size);
        for (size_t i = 0; i < n; i++) {
            const int64_t wide = (int64_t)(2 * i) + k;
            const int32_t half = (int32_t)wide;
            memcpy((char *)at[k] + i * size, f64 ? (const void *)&wide : &half, size);
        }
    }
    for (size_t i = 0; i < n; i++) {
        put(f64, a, i, values[below(7)]);
        put(f64, b, i, values[below(7)]);
    }
    kernels[f64].max_pairs(to, at[2], a, at[0], b, at[1], n);
    for (size_t i = 0; i < n; i++) {
        const double x = get(f64, a, i), y = get(f64, b, i);
        const bool second = y > x || isnan(y);
        CHECK(memcmp((char *)to + i * size, (char *)(second ? b : a) + i * size, size) == 0 &&
                  (!positions ||
                   memcmp((char *)at[2] + i * size, (char *)at[second] + i * size, size) == 0),
              "%s max_pairs f%d: %zu of %zu: the maximum of %g and %g", isa, f64 ? 64 : 32, i, n, x,
              y);
    }
    guarded_release("max_pairs");
}

/* ---- Winograd, 3 x 3 ---- */

static const double input3[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}},
                    filter3[4][3] = {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}},
                    output3[2][4] = {{1, 1, 1, 0}, {0, 1, -1, -1}};

static void check_input_transform3(size_t tile_rows, size_t tiles)
{
    const size_t lanes = kernels[COMPUTE_F32].lanes,
                 pitch = 2 * ((tiles + lanes - 1) / lanes * lanes) + 2 + below(3),
                 sum_step = tile_rows * tiles + lanes + below(3);
    const float *in = numbers(0, (2 * tile_rows + 2) * pitch, 2);
    float *out = guarded_alloc(WINOGRAD3_PRODUCTS * sum_step * sizeof *out);
    winograd->input_transform3(out, sum_step, in, pitch, tile_rows, tiles);
    for (size_t i = 0; i < WINOGRAD3_PRODUCTS * tile_rows * tiles; i++) {
        const size_t f = i / (tile_rows * tiles), y = i / tiles % tile_rows, x = i % tiles;
        double sum = 0;
        for (size_t k = 0; k < 16; k++) {
            sum += input3[f / 4][k / 4] * input3[f % 4][k % 4] *
                   (double)in[(2 * y + k / 4) * pitch + 2 * x + k % 4];
        }
        CHECK(sum == (double)out[f * sum_step + y * tiles + x],
              "%s winograd3_input_transform %zu x %zu: sum %zu of tile %zu, %zu", isa, tile_rows,
              tiles, f, y, x);
    }
    guarded_release("winograd3_input_transform");
}

static void check_tile_transform3(size_t vectors)
{
    const size_t n = vectors * kernels[COMPUTE_F32].lanes, sum_step = n + below(3);
    const float *pixels[16];
    for (size_t k = 0; k < 16; k++) {
        pixels[k] = numbers(0, n, 2);
    }
    float *out = guarded_alloc(WINOGRAD3_PRODUCTS * sum_step * sizeof *out);
    winograd->tile_transform3(out, sum_step, pixels, n);
    for (size_t i = 0; i < WINOGRAD3_PRODUCTS * n; i++) {
        const size_t f = i / n, channel = i % n;
        double sum = 0;
        for (size_t k = 0; k < 16; k++) {
            sum += input3[f / 4][k / 4] * input3[f % 4][k % 4] * (double)pixels[k][channel];
        }
        CHECK(sum == (double)out[f * sum_step + channel],
              "%s winograd3_tile_transform of %zu: sum %zu of channel %zu", isa, n, f, channel);
    }
    guarded_release("winograd3_tile_transform");
}

static void check_filter_transform3(size_t channels, size_t vectors)
{
    const size_t width = vectors * kernels[COMPUTE_F32].lanes,
                 sum_step = channels * width + below(3);
    const float *in = numbers(0, channels * 9 * width, 2);
    float *out = guarded_alloc(WINOGRAD3_PRODUCTS * sum_step * sizeof *out);
    winograd->filter_transform3(out, sum_step, in, channels, width);
    for (size_t i = 0; i < WINOGRAD3_PRODUCTS * channels * width; i++) {
        const size_t f = i / (channels * width), channel = i / width % channels, lane = i % width;
        double sum = 0;
        for (size_t k = 0; k < 9; k++) {
            sum += filter3[f / 4][k / 3] * filter3[f % 4][k % 3] *
                   (double)in[(channel * 9 + k) * width + lane];
        }
        CHECK(sum == (double)out[f * sum_step + channel * width + lane],
              "%s winograd3_filter_transform: sum %zu of channel %zu, lane %zu", isa, f, channel,
              lane);
    }
    guarded_release("winograd3_filter_transform");
}

static void check_output_transform3(size_t rows, size_t columns, bool bad)
{
    const size_t tiles = (columns + 1) / 2, all = (rows + 1) / 2 * tiles,
                 width = (1 + below(2)) * kernels[COMPUTE_F32].lanes, first = below(all),
                 count = 1 + below(all - first), sum_step = count * width + below(3);
    float *sums = numbers(0, WINOGRAD3_PRODUCTS * sum_step, 2);
    struct winograd3_output_transform j = {.sums = sums,
                                           .sum_step = sum_step,
                                           .width = width,
                                           .first = first,
                                           .count = count,
                                           .tiles = tiles,
                                           .rows = rows,
                                           .columns = columns,
                                           .relu = below(2) == 0};
    j.bias = below(2) == 0 ? numbers(0, width, 2) : NULL;
    j.out = guarded_alloc(rows * columns * width * sizeof *j.out);
    if (bad) {
        sums[below(WINOGRAD3_PRODUCTS) * sum_step + below(count * width)] =
            below(2) == 0 ? NAN : INFINITY;
    }
    const bool finite = winograd->output_transform3(&j);
    CHECK(finite != bad, "%s winograd3_output_transform: finite %d", isa, finite);
    for (size_t i = 0; !bad && i < rows * columns * width; i++) {
        const size_t y = i / width / columns, x = i / width % columns, lane = i % width,
                     tile = y / 2 * tiles + x / 2;
        double sum = 0;
        for (size_t f = 0; f < WINOGRAD3_PRODUCTS && tile >= first && tile < first + count; f++) {
            sum += output3[y % 2][f / 4] * output3[x % 2][f % 4] *
                   (double)sums[f * sum_step + (tile - first) * width + lane];
        }
        sum += j.bias == NULL ? 0 : (double)j.bias[lane];
        CHECK(tile < first || tile >= first + count ||
                  (double)j.out[i] == (j.relu ? relu_of(sum) : sum),
              "%s winograd3_output_transform (%zu, %zu): pixel %zu, %zu, lane %zu", isa, rows,
              columns, y, x, lane);
    }
    guarded_release("winograd3_output_transform");
}

static void check_table(const struct kernels *table)
{
    kernels = table->layers;
    winograd = table->winograd;
    for (int f64 = 0; f64 < 2; f64++) {
        for (size_t vectors = 1; vectors <= kernels->vectors; vectors++) {
            for (size_t pixels = 0; pixels < 30; pixels++) {
                for (int again = 0; again < 4; again++) {
                    check_pixels(f64, vectors, pixels, below(5) == 0 ? 0 : below(30));
                }
            }
        }
        for (size_t n = 0; n < 70; n++) {
            check_max_pairs(f64, n, n % 3 > 0);
        }
    }
    for (int round = 0; round < ROUNDS; round++) {
        check_input_transform3(1 + below(3), 1 + below(40));
        check_tile_transform3(1 + below(3));
        check_filter_transform3(1 + below(4), 1 + below(3));
        check_output_transform3(1 + below(5), 1 + below(7), round % 4 == 0);
    }
}

int main(void)
{
    check_each_table(check_table);
    return finish("pixel_kernels");
}
