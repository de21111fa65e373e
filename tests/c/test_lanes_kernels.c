/* Checks the kernels of layers with lanes across images, of every instruction set that this machine
 * supports, against naive references. Arrays are guarded blocks of small integers, so that sums are
 * exact in any order, except with Winograd's algorithm. */
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

/* Choices from 0 to 3. */
static void *draw_choices(size_t n)
{
    void *choices = guarded_alloc(n * size_of(f64));
    for (size_t i = 0; i < n; i++) {
        if (f64) {
            ((int64_t *)choices)[i] = (int64_t)below(4);
        } else {
            ((int32_t *)choices)[i] = (int32_t)below(4);
        }
    }
    return choices;
}

static void check_channels(void)
{
    const size_t lanes = kernels->lanes, size = size_of(f64), channels = 1 + below(40),
                 n = 1 + below(5), padded = (channels + lanes - 1) / lanes * lanes,
                 step = below(2) == 0 ? channels : padded, map = (n + below(3)) * lanes,
                 image_step = n * step + lanes + below(3);
    const void *in = numbers(f64, channels * map, 99);
    void *out = guarded_alloc(lanes * image_step * size), *check = numbers(f64, lanes, 0);
    const size_t odd = below(n * lanes);
    const bool finite = below(2) == 0;
    if (!finite) {
        put(f64, (void *)(uintptr_t)in, below(channels) * map + odd, INFINITY);
    }
    kernels->channels(out, image_step, in, map, channels, step, n, check);
    for (size_t lane = 0; lane < lanes; lane++) {
        CHECK(isnan(get(f64, check, lane)) == (!finite && lane == odd % lanes),
              "%s: check of lane %zu", isa, lane);
    }
    for (size_t i = 0; i < lanes * n * step; i++) {
        const size_t c = i % step, pixel = i / step % n, image = i / step / n;
        const double expected = c < channels ? get(f64, in, c * map + pixel * lanes + image) : 0;
        CHECK(get(f64, out, image * image_step + pixel * step + c) == expected,
              "%s: channel %zu of %zu", isa, c, channels);
    }
    guarded_release("lanes_channels");
}

static void check_patches(void)
{
    enum { WINDOWS = 6 };
    static ptrdiff_t windows[WINDOWS];
    const size_t lanes = kernels->lanes, size = size_of(f64), room = 8, filters = 1 + below(3),
                 columns = 1 + below(12), rows = 1 + below(12), count = below(WINDOWS + 1),
                 step = (columns + below(3)) * lanes, filter_step = count + below(3),
                 patch = rows * columns * lanes, width = lanes_patch_width(columns),
                 read = (columns + width - 1) / width * width * lanes;
    const bool zeros = below(2) == 0, infinite = below(4) == 0;
    draw(windows, count, room / 2);
    void *sums = numbers(f64, filters * patch, 9), *before = guarded_alloc(filters * patch * size);
    memcpy(before, sums, filters * patch * size);
    const struct lanes_patches p = {
        .input = numbers(f64, room * lanes + (rows - 1) * step + read, 3),
        .gradients = numbers(f64, filters * filter_step, 3),
        .choices = draw_choices(filters * filter_step),
        .window_offsets = windows,
        .choice_offsets = {0, (ptrdiff_t)lanes, 2 * (ptrdiff_t)lanes, 4 * (ptrdiff_t)lanes},
        .zeros = zeros,
        .filters = filters,
        .filter_step = filter_step,
        .windows = count,
        .rows = rows,
        .columns = columns,
        .row_step = step,
        .sums = sums,
    };
    if (infinite) {
        put(f64, (void *)(uintptr_t)p.input, below(room * lanes), INFINITY);
    }
    kernels->patches(&p);
    for (size_t i = 0; i < filters * patch; i++) {
        const size_t f = i / patch, y = i % patch / (columns * lanes), x = i % (columns * lanes);
        double expected = get(f64, before, i);
        for (size_t w = 0; w < count; w++) {
            const ptrdiff_t pixel =
                windows[w] + p.choice_offsets[integer(p.choices, f * filter_step + w)];
            const double gradient = get(f64, p.gradients, f * filter_step + w);
            if (zeros || gradient != 0) {
                expected += gradient * get(f64, p.input, (size_t)pixel + y * step + x);
            }
        }
        CHECK(same(get(f64, sums, i), expected), "%s patches: %a, not %a", isa, get(f64, sums, i),
              expected);
    }
    guarded_release("lanes_patches");
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
         *choices = draw_choices(n * lanes);
    const void *gradient = numbers(f64, n * lanes, 9);
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

/* A tile of a convolution by kernels of five rows. */
struct tile {
    size_t width, channels, filters, columns, pitch; /* pitch: columns of the input */
    const void *weight, *in;                         /* in: (channels, 8, pitch) vectors */
};

static double weight_at(const struct tile *t, size_t filter, size_t channel, size_t y, size_t x)
{
    return get(f64, t->weight, ((filter * t->channels + channel) * 5 + y) * t->width + x);
}

static void check_near(double got, double expected, double scale, const char *what)
{
    const double error = fabs(got - expected), limit = (f64 ? 1e-14 : 4e-6) * scale;
    CHECK(error <= limit, "%s %s f%d: %a, not %a", isa, what, f64 ? 64 : 32, got, expected);
}

/* Output (y, x) of a filter by the definition. */
static double convolved(const struct tile *t, size_t filter, size_t y, size_t x, size_t lane)
{
    double sum = 0;
    for (size_t i = 0; i < t->channels * 5 * t->width; i++) {
        const size_t c = i / t->width / 5, ky = i / t->width % 5, kx = i % t->width,
                     at = (c * 8 + y + ky) * t->pitch + x + kx;
        sum += weight_at(t, filter, c, ky, kx) * get(f64, t->in, at * kernels->lanes + lane);
    }
    return sum;
}

/* One filter's output transform, with and without pooling. sums: (8, columns) vectors. */
static void check_winograd_output(const struct tile *t, size_t filter, const void *sums)
{
    const size_t lanes = kernels->lanes, size = size_of(f64);
    const bool pool = below(2) == 0, odd = below(4) == 0;
    const size_t rows = pool ? 2 * (1 + below(2)) : 1 + below(4), side = pool ? 2 : 1,
                 width = t->columns / side;
    void *check = guarded_alloc(lanes * size), *bias = numbers(f64, 1, 5),
         *out = guarded_alloc(rows / side * width * lanes * size),
         *choices = pool && below(3) > 0 ? guarded_alloc(rows / side * width * lanes * size) : NULL;
    const double scale = 30 * (double)(t->channels * t->width);
    memset(check, 0, lanes * size);
    if (odd) {
        put(f64, (void *)(uintptr_t)sums, below(8 * t->columns) * lanes, INFINITY);
    }
    const struct lanes_winograd_output o = {
        .sums = sums,
        .sum_step = t->columns * lanes,
        .n = t->columns,
        .rows = rows,
        .bias = below(2) == 0 ? bias : NULL,
        .relu = below(2) == 0,
        .pool = pool,
        .output = out,
        .row_step = width * lanes,
        .choices = choices,
        .choice_row_step = width * lanes,
        .check = check,
    };
    kernels->winograd_output(&o);
    for (size_t lane = odd ? 1 : 0; lane < lanes; lane++) {
        CHECK(get(f64, check, lane) == 0, "%s winograd_output: check of finite results", isa);
        for (size_t i = 0; i < rows / side * width; i++) {
            double largest = -INFINITY, values[4];
            for (size_t v = 0; v < side * side; v++) {
                values[v] = convolved(t, filter, i / width * side + v / side,
                                      i % width * side + v % side, lane);
                values[v] += o.bias == NULL ? 0 : get(f64, bias, 0);
                largest = fmax(largest, values[v]);
            }
            const size_t at = i * lanes + lane;
            check_near(get(f64, out, at), o.relu ? fmax(largest, 0) : largest, scale,
                       "winograd_output");
            if (choices != NULL) {
                const long long choice = integer(choices, at);
                CHECK(choice >= 0 && choice < 4, "%s: pixel %lld", isa, choice);
                check_near(values[choice & 3], largest, scale, "chosen pixel");
            }
        }
    }
    if (odd && rows == 4) {
        CHECK(isnan(get(f64, check, 0)), "%s winograd_output: infinity in a sum", isa);
    }
}

/* The transforms of a tile of images, its products, and its outputs. */
static void check_winograd(void)
{
    const size_t lanes = kernels->lanes, size = size_of(f64);
    struct tile t = {.width = 1 + below(LANES_WINOGRAD_WIDTH),
                     .channels = 1 + below(4),
                     .filters = 1 + below(9),
                     .columns = 2 * (1 + below(3))};
    t.pitch = t.columns + t.width - 1;
    t.weight = numbers(f64, t.filters * t.channels * 5 * t.width, 3);
    t.in = numbers(f64, t.channels * 8 * t.pitch * lanes, 3);
    const size_t kernel_count = t.filters * t.channels, in_step = t.channels * t.pitch * lanes,
                 out_step = t.columns * lanes;
    void *weights = guarded_alloc(8 * kernel_count * t.width * size),
         *transform = guarded_alloc(8 * in_step * size), *sums = guarded_alloc(8 * out_step * size);
    kernels->winograd_filters(weights, t.weight, t.filters, t.channels, t.width, false);
    for (size_t c = 0; c < t.channels; c++) {
        kernels->winograd_input((char *)transform + c * t.pitch * lanes * size, in_step,
                                (const char *)t.in + c * 8 * t.pitch * lanes * size,
                                t.pitch * lanes, t.pitch);
    }
    const size_t filter = below(t.filters);
    for (size_t i = 0; i < 8 * out_step; i++) {
        const size_t f = i / out_step, x = i / lanes % t.columns, lane = i % lanes;
        double sum = 0;
        for (size_t k = 0; k < t.channels * t.width; k++) {
            const size_t c = k / t.width, kx = k % t.width;
            sum +=
                get(f64, weights, ((f * kernel_count + filter * t.channels + c) * t.width) + kx) *
                get(f64, transform, f * in_step + (c * t.pitch + x + kx) * lanes + lane);
        }
        put(f64, sums, i, sum);
    }
    check_winograd_output(&t, filter, sums);
    guarded_release("winograd");
}

/* The gradient of one channel's input, from the gradients of all filters. */
static void check_winograd_gradient(void)
{
    const size_t lanes = kernels->lanes, size = size_of(f64), width = 1 + below(8),
                 channels = 1 + below(4), filters = 1 + below(9), columns = 1 + below(6),
                 in = columns + width - 1, step = filters * columns * lanes, first = below(8),
                 end = first + 1 + below(8 - first), channel = below(channels);
    const void *weight = numbers(f64, filters * channels * 5 * width, 3),
               *gradient = numbers(f64, filters * 4 * columns * lanes, 3);
    void *weights = guarded_alloc(8 * filters * channels * width * size),
         *transform = guarded_alloc(8 * step * size), *sums = guarded_alloc(8 * in * lanes * size),
         *out = numbers(f64, (end - first) * in * lanes, 9),
         *before = guarded_alloc((end - first) * in * lanes * size),
         *check = guarded_alloc(lanes * size);
    const struct tile t = {.width = width, .channels = channels, .weight = weight};
    memset(check, 0, lanes * size);
    memcpy(before, out, (end - first) * in * lanes * size);
    kernels->winograd_filters(weights, weight, filters, channels, width, true);
    for (size_t r = 0; r < filters; r++) {
        kernels->winograd_output_gradient((char *)transform + r * columns * lanes * size, step,
                                          (const char *)gradient + r * 4 * columns * lanes * size,
                                          columns * lanes, columns);
    }
    for (size_t i = 0; i < 8 * in * lanes; i++) {
        const size_t f = i / lanes / in, x = i / lanes % in, lane = i % lanes;
        double sum = 0;
        for (size_t k = 0; k < filters * width; k++) {
            const size_t r = k / width, kx = k % width;
            if (x >= kx && x - kx < columns) {
                sum += get(f64, weights, ((f * channels + channel) * width + kx) * filters + r) *
                       get(f64, transform, f * step + (r * columns + x - kx) * lanes + lane);
            }
        }
        put(f64, sums, i, sum);
    }
    kernels->winograd_input_gradient(out, in * lanes, first, end, sums, in * lanes, in, check);
    for (size_t i = 0; i < (end - first) * in * lanes; i++) {
        const size_t y = first + i / lanes / in, x = i / lanes % in, lane = i % lanes;
        double sum = get(f64, before, i);
        for (size_t k = 0; k < filters * 5 * width; k++) {
            const size_t r = k / width / 5, ky = k / width % 5, kx = k % width;
            if (y >= ky && y - ky < 4 && x >= kx && x - kx < columns) {
                sum += weight_at(&t, r, channel, ky, kx) *
                       get(f64, gradient, ((r * 4 + y - ky) * columns + x - kx) * lanes + lane);
            }
        }
        check_near(get(f64, out, i), sum, 30 * (double)(filters * width), "input gradient");
    }
    for (size_t lane = 0; lane < lanes; lane++) {
        CHECK(get(f64, check, lane) == 0, "%s input gradient: check of finite results", isa);
    }
    guarded_release("winograd_input_gradient");
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
                check_channels();
                check_patches();
                check_pools();
                check_unpool();
                check_winograd();
                check_winograd_gradient();
            }
        }
    }
    return finish("lanes_kernels");
}
