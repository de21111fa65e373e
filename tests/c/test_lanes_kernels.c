/* Checks the kernels of layers with lanes across images, of every instruction set that this machine
 * supports, against naive references. Arrays are guarded blocks of small integers, so that sums are
 * exact in any order. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "guarded.h"
#include "kernels/kernels.h"

enum { ROUNDS = 150, PIXELS = 24, DEPTH = 90, FILTERS = 14, MOST_LANES = 16 };

static const char *isa;
static int f64;
static const struct lanes_kernels *kernels;

/* Returns element i of an array of integers that are as wide as the float type. */
static long long integer(const void *array, size_t i)
{
    return f64 ? (long long)((const int64_t *)array)[i] : (long long)((const int32_t *)array)[i];
}

/* Draws offsets of vectors in an array of `room` vectors. */
static void draw(ptrdiff_t *offsets, size_t count, size_t room)
{
    for (size_t i = 0; i < count; i++) {
        offsets[i] = (ptrdiff_t)(below(room) * kernels->lanes);
    }
}

/* Sets the offsets of `count` different vectors, in descending order. */
static void draw_apart(ptrdiff_t *offsets, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        offsets[i] = (ptrdiff_t)((count - 1 - i) * kernels->lanes);
    }
}

/* Returns the maximum of a window and sets *choice to its position: the first of equal maxima, or
 * the last NaN. */
static double chosen(const double *values, size_t n, long long *choice)
{
    double best = -INFINITY;
    *choice = 0;
    for (size_t i = 0; i < n; i++) {
        if (values[i] > best || isnan(values[i])) {
            best = values[i];
            *choice = (long long)i;
        }
    }
    return best;
}

static void check_conv(bool pool)
{
    static ptrdiff_t pixel_offsets[PIXELS], tap_offsets[DEPTH], output_offsets[PIXELS],
        choice_offsets[PIXELS];
    const size_t lanes = kernels->lanes, size = size_of(f64), room = 40,
                 windows = 1 + below(PIXELS / 4), pixels = pool ? 4 * windows : 1 + below(PIXELS),
                 outputs = pool ? windows : pixels, depth = below(DEPTH),
                 filters = 1 + below(FILTERS), map = (outputs + below(3)) * lanes;
    const bool transposed = below(3) == 0;
    draw(pixel_offsets, pixels, room / 2);
    draw(tap_offsets, depth, room / 2 + 1);
    draw_apart(output_offsets, outputs);
    draw_apart(choice_offsets, outputs);
    void *out = numbers(f64, filters * map, 9),
         *choices = pool && below(3) > 0 ? guarded_alloc(filters * outputs * lanes * size) : NULL;
    struct lanes_conv c = {
        .weight = numbers(f64, filters * depth, 3),
        .filter_step = transposed ? 1 : depth,
        .depth_step = transposed ? filters : 1,
        .input = numbers(f64, room * lanes, 3),
        .pixel_offsets = pixel_offsets,
        .tap_offsets = tap_offsets,
        .depth = depth,
        .chain = 1 + below(DEPTH),
        .bias = below(2) == 0 ? numbers(f64, filters, 5) : NULL,
        .add = !pool && below(2) == 0,
        .relu = below(2) == 0,
        .pool = pool,
        .output = out,
        .map_step = map,
        .output_offsets = output_offsets,
        .choices = choices,
        .choice_step = outputs * lanes,
        .choice_offsets = choice_offsets,
    };
    if (below(4) == 0) {
        put(f64, (void *)(uintptr_t)c.input, below(room * lanes), NAN);
    }
    void *before = guarded_alloc(filters * map * size);
    memcpy(before, out, filters * map * size);
    kernels->conv(&c, filters, pixels);
    for (size_t r = 0; r < filters; r++) {
        for (size_t w = 0; w < outputs; w++) {
            for (size_t lane = 0; lane < lanes; lane++) {
                double values[4];
                long long choice = 0;
                const size_t n = pool ? 4 : 1, at = r * map + (size_t)output_offsets[w] + lane;
                for (size_t j = 0; j < n; j++) {
                    double sum = c.add ? get(f64, before, at) : 0;
                    for (size_t i = 0; i < depth; i++) {
                        const size_t from =
                            (size_t)(pixel_offsets[n * w + j] + tap_offsets[i]) + lane;
                        sum += get(f64, c.weight, r * c.filter_step + i * c.depth_step) *
                               get(f64, c.input, from);
                    }
                    values[j] = sum + (c.bias == NULL ? 0 : get(f64, c.bias, r));
                }
                double expected = chosen(values, n, &choice);
                expected = c.relu && 0 > expected ? 0 : expected;
                CHECK(same(get(f64, out, at), expected), "%s conv f%d: %a, not %a", isa,
                      f64 ? 64 : 32, get(f64, out, at), expected);
                const size_t number = r * c.choice_step + (size_t)choice_offsets[w] + lane;
                CHECK(choices == NULL || integer(choices, number) == choice,
                      "%s: pixel %lld, not %lld", isa, integer(choices, number), choice);
            }
        }
    }
    guarded_release("lanes_conv");
}

static void check_transposition(void)
{
    const size_t lanes = kernels->lanes, size = size_of(f64), images = 1 + below(lanes),
                 n = below(40), step = n + below(3);
    const void *in = numbers(f64, images * step, 99);
    void *vectors = guarded_alloc(n * lanes * size), *out = numbers(f64, images * step, 99);
    kernels->gather(vectors, in, step, images, n);
    for (size_t i = 0; i < n * lanes; i++) {
        const size_t image = i % lanes;
        const double expected = image < images ? get(f64, in, image * step + i / lanes) : 0;
        CHECK(get(f64, vectors, i) == expected, "%s gather of %zu images", isa, images);
    }
    kernels->scatter(out, step, vectors, images, n);
    for (size_t i = 0; i < images * n; i++) {
        const size_t at = i / (n == 0 ? 1 : n) * step + i % (n == 0 ? 1 : n);
        CHECK(get(f64, out, at) == get(f64, in, at), "%s scatter of %zu images", isa, images);
    }
    guarded_release("lanes_gather");
}

static void check_elementwise(void)
{
    const size_t lanes = kernels->lanes, size = size_of(f64), n = below(12);
    const void *x = numbers(f64, n * lanes, 2), *gradient = numbers(f64, n * lanes, 9);
    void *out = guarded_alloc(n * lanes * size), *sum = numbers(f64, lanes, 9),
         *before = guarded_alloc(lanes * size), *totals = guarded_alloc(n * size);
    const size_t images = 1 + below(lanes);
    memcpy(before, sum, lanes * size);
    kernels->relu(out, x, n);
    for (size_t i = 0; i < n * lanes; i++) {
        CHECK(get(f64, out, i) == fmax(get(f64, x, i), 0), "%s relu", isa);
    }
    kernels->relu_gradient(out, x, gradient, n);
    for (size_t i = 0; i < n * lanes; i++) {
        CHECK(get(f64, out, i) == (get(f64, x, i) <= 0 ? 0 : get(f64, gradient, i)),
              "%s relu_gradient", isa);
    }
    kernels->add_sum(sum, x, n);
    kernels->reduce(totals, x, images, n);
    for (size_t lane = 0; lane < lanes; lane++) {
        double expected = get(f64, before, lane);
        for (size_t i = 0; i < n; i++) {
            expected += get(f64, x, i * lanes + lane);
        }
        CHECK(get(f64, sum, lane) == expected, "%s add_sum of %zu", isa, n);
    }
    for (size_t i = 0; i < n; i++) {
        double expected = 0;
        for (size_t lane = 0; lane < images; lane++) {
            expected += get(f64, x, i * lanes + lane);
        }
        CHECK(get(f64, totals, i) == expected, "%s reduce of %zu lanes", isa, images);
    }
    guarded_release("lanes_relu");
}

static void check_products(void)
{
    static ptrdiff_t gradients[PIXELS], inputs[PIXELS], entries[DEPTH];
    const size_t lanes = kernels->lanes, size = size_of(f64), room = 30, pixels = below(PIXELS),
                 count = 1 + below(30), filters = 1 + below(FILTERS), map = 20 * lanes;
    draw(gradients, pixels, 20);
    draw(inputs, pixels, room / 2);
    draw(entries, count, room / 2 + 1);
    void *sums = numbers(f64, filters * count * lanes, 9),
         *before = guarded_alloc(filters * count * lanes * size);
    memcpy(before, sums, filters * count * lanes * size);
    const struct lanes_products p = {
        .gradient = numbers(f64, filters * map, 3),
        .map_step = map,
        .gradient_offsets = gradients,
        .input = numbers(f64, room * lanes, 3),
        .input_offsets = inputs,
        .entry_offsets = entries,
        .pixels = pixels,
        .filters = filters,
        .entries = count,
        .add = below(2) == 0,
        .sums = sums,
    };
    kernels->products(&p);
    for (size_t i = 0; i < filters * count * lanes; i++) {
        const size_t lane = i % lanes, e = i / lanes % count, r = i / lanes / count;
        double expected = p.add ? get(f64, before, i) : 0;
        for (size_t j = 0; j < pixels; j++) {
            expected += get(f64, p.gradient, r * map + (size_t)gradients[j] + lane) *
                        get(f64, p.input, (size_t)(entries[e] + inputs[j]) + lane);
        }
        CHECK(get(f64, sums, i) == expected, "%s products: %a, not %a", isa, get(f64, sums, i),
              expected);
    }
    guarded_release("lanes_products");
}

/* Pools windows of any size, and spreads gradients over the chosen pixels. */
static void check_pools(void)
{
    const size_t lanes = kernels->lanes, size = size_of(f64), rows = below(4),
                 columns = 1 + below(4), row_step = (columns + below(3)) * lanes;
    const struct lanes_window w = {rows, columns, row_step, lanes};
    const size_t room = rows * row_step;
    void *in = numbers(f64, room, 2), *out = guarded_alloc(lanes * size),
         *choices = guarded_alloc(lanes * size), *spread = numbers(f64, room, 9),
         *before = guarded_alloc(room * size);
    const void *gradient = numbers(f64, lanes, 9);
    if (below(3) == 0 && room > 0) {
        put(f64, in, below(room), NAN);
        put(f64, in, below(room), NAN);
    }
    memcpy(before, spread, room * size);
    kernels->max_pool(out, below(4) == 0 ? NULL : choices, in, &w);
    kernels->max_pool(out, choices, in, &w);
    kernels->max_unpool(spread, choices, gradient, &w);
    for (size_t lane = 0; lane < lanes; lane++) {
        double values[16];
        long long choice;
        for (size_t i = 0; i < rows * columns; i++) {
            values[i] = get(f64, in, i / columns * row_step + i % columns * lanes + lane);
        }
        const double expected = chosen(values, rows * columns, &choice);
        CHECK(same(get(f64, out, lane), expected) && integer(choices, lane) == choice,
              "%s max_pool: %a, not %a", isa, get(f64, out, lane), expected);
        for (size_t i = 0; i < rows * columns; i++) {
            const size_t at = i / columns * row_step + i % columns * lanes + lane;
            const double added = (long long)i == choice ? get(f64, gradient, lane) : 0;
            CHECK(get(f64, spread, at) == get(f64, before, at) + added, "%s max_unpool", isa);
        }
    }
    guarded_release("lanes_max_pool");
}

static void check_unpool(void)
{
    const size_t lanes = kernels->lanes, size = size_of(f64), n = 1 + below(6),
                 row_step = (2 * n + below(3)) * lanes;
    void *out = guarded_alloc((row_step + 2 * n * lanes) * size),
         *choices = guarded_alloc(n * lanes * size);
    const void *gradient = numbers(f64, n * lanes, 9);
    for (size_t i = 0; i < n * lanes; i++) {
        if (f64) {
            ((int64_t *)choices)[i] = (int64_t)below(4);
        } else {
            ((int32_t *)choices)[i] = (int32_t)below(4);
        }
    }
    kernels->unpool(out, row_step, choices, gradient, n);
    for (size_t i = 0; i < 4 * n * lanes; i++) {
        const size_t j = i / lanes % 4, window = i / lanes / 4, lane = i % lanes,
                     at = j / 2 * row_step + (2 * window + j % 2) * lanes + lane,
                     from = window * lanes + lane;
        const double expected =
            integer(choices, from) == (long long)j ? get(f64, gradient, from) : 0;
        CHECK(get(f64, out, at) == expected, "%s unpool", isa);
    }
    guarded_release("lanes_unpool");
}

int main(void)
{
    size_t count;
    const struct kernels *const *tables = kernels_all(&count);
    for (size_t t = 0; t < count; t++) {
        bool seen = !kernels_supported(tables[t]);
        for (size_t other = 0; other < t; other++) {
            seen |= kernels_supported(tables[other]) && tables[other]->lanes == tables[t]->lanes;
        }
        for (f64 = 0; !seen && f64 < 2; f64++) {
            isa = tables[t]->name;
            kernels = &tables[t]->lanes[f64 ? COMPUTE_F64 : COMPUTE_F32];
            CHECK(kernels->lanes <= MOST_LANES, "%s: too many lanes", isa);
            for (int round = 0; round < ROUNDS; round++) {
                check_conv(round % 2 == 0);
                check_transposition();
                check_elementwise();
                check_products();
                check_pools();
                check_unpool();
            }
        }
    }
    return finish("lanes_kernels");
}
