/* Checks network/network.c against the same layers run one by one: to the bit image by image, and
 * within the rounding errors of the sums with lanes across images. Also checks that the number of
 * threads changes no bit of any layer. Under the thread sanitizer, that test finds data races. */
#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "check.h"
#include "network/lanes.h"
#include "network/network.h"
#include "nn/loops.h"
#include "guarded.h"
#include "layer_tables.h"

/* ---- networks ---- */

static struct conv2d conv_of(enum compute_type compute, const struct layer *l, size_t images,
                             const struct shape *in, const struct shape *out, const void *input,
                             void *output)
{
    return (struct conv2d){.compute = compute,
                           .images = images,
                           .groups = l->groups,
                           .in_channels = in->channels,
                           .out_channels = l->out,
                           .in = in->size,
                           .out = out->size,
                           .kernel = l->kernel,
                           .stride = l->stride,
                           .dilation = l->dilation,
                           .padding = l->before,
                           .input = input,
                           .weight = l->weight,
                           .bias = l->bias,
                           .output = output};
}

static struct max_pool2d pool_of(enum compute_type compute, const struct layer *l, size_t images,
                                 const struct shape *in, const struct shape *out, const void *input,
                                 void *output)
{
    return (struct max_pool2d){.compute = compute,
                               .planes = images * in->channels,
                               .in = in->size,
                               .out = out->size,
                               .kernel = l->kernel,
                               .stride = l->stride,
                               .dilation = l->dilation,
                               .padding = l->before,
                               .input = input,
                               .output = output};
}

/* Runs one layer on all images, and replaces *shape by the shape of the layer's output. */
static void run_alone(enum compute_type compute, const struct layer *l, size_t images,
                      struct shape *shape, const void *input, void *output)
{
    const struct shape in = *shape;
    CHECK(network_shape(l, 1, shape), "a layer does not fit");
    if (l->kind == LAYER_CONV2D) {
        const struct conv2d c = conv_of(compute, l, images, &in, shape, input, output);
        CHECK(conv2d(&c) == 0, "no memory");
    } else if (l->kind == LAYER_MAX_POOL2D) {
        const struct max_pool2d p = pool_of(compute, l, images, &in, shape, input, output);
        max_pool2d(&p);
    } else if (l->kind == LAYER_LINEAR) {
        const struct linear linear_layer = {.compute = compute,
                                            .rows = images,
                                            .in_features = l->in,
                                            .out_features = l->out,
                                            .input = input,
                                            .weight = l->weight,
                                            .bias = l->bias,
                                            .output = output};
        CHECK(linear(&linear_layer) == 0, "no memory");
    } else if (l->kind == LAYER_RELU) {
        layer_loops[compute].relu(images * shape_elements(&in), input, output);
    } else {
        memcpy(output, input, images * shape_elements(&in) * compute_size(compute));
    }
}

/* Kernels of 5 x 5, and windows of 2 x 2 that do not overlap. */
static struct layer conv_layer(size_t out, size_t in)
{
    return (struct layer){.kind = LAYER_CONV2D,
                          .out = out,
                          .in = in,
                          .kernel = {5, 5},
                          .stride = {1, 1},
                          .dilation = {1, 1},
                          .groups = 1};
}

static const struct layer pool_layer = {
    .kind = LAYER_MAX_POOL2D, .kernel = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}};

static void fill_layer(int f64, struct layer *l, size_t window)
{
    l->weight = numbers(f64, l->out * l->in * window, 0);
    l->bias = below(2) == 0 ? numbers(f64, l->out, 0) : NULL;
}

/* Returns a random layer that fits the shape. */
static struct layer any_layer(int f64, struct shape shape)
{
    static const struct extent2 one = {1, 1}, two = {2, 2}, zero = {0, 0};
    struct layer l = {.groups = 1};
    do {
        l.kind = (enum layer_kind)below(5);
        if (l.kind == LAYER_CONV2D) {
            l.groups = shape.channels % 2 == 0 && below(4) == 0 ? 2 : 1;
            l.kernel = below(2) == 0 ? (struct extent2){5, 5}
                                     : (struct extent2){from_to(1, 4), from_to(1, 4)};
            l.stride = below(3) == 0 ? (struct extent2){from_to(1, 2), from_to(1, 2)} : one;
            l.dilation = below(4) == 0 ? (struct extent2){from_to(1, 2), from_to(1, 2)} : one;
            l.before = below(2) == 0 ? zero : (struct extent2){below(3), below(3)};
            l.after = below(2) == 0 ? l.before : (struct extent2){below(3), below(3)};
            l.out = l.groups * from_to(1, 12);
            l.in = shape.channels / l.groups;
        } else if (l.kind == LAYER_MAX_POOL2D) {
            const bool squares = below(4) > 0;
            l.kernel = squares ? two : (struct extent2){from_to(1, 3), from_to(1, 3)};
            l.stride = squares ? two : (struct extent2){from_to(1, 3), from_to(1, 3)};
            l.dilation = one;
            l.before = squares
                           ? zero
                           : (struct extent2){below(l.kernel.h / 2 + 1), below(l.kernel.w / 2 + 1)};
            l.ceil_mode = below(4) == 0;
        } else if (l.kind == LAYER_LINEAR) {
            l.out = from_to(1, 30);
            l.in = shape.channels;
        }
        struct shape after = shape;
        if (network_shape(&l, 1, &after) && !(l.kind == LAYER_FLATTEN && below(3) > 0)) {
            break;
        }
    } while (true);
    if (l.kind == LAYER_CONV2D || l.kind == LAYER_LINEAR) {
        fill_layer(f64, &l, l.kind == LAYER_CONV2D ? l.kernel.h * l.kernel.w : 1);
    }
    return l;
}

/* With lanes across images, an image has the same bits in any batch and in any lane. */
static void check_batches(enum compute_type compute, const struct layer *layers, size_t count,
                          size_t images, struct shape shape, const void *input, const void *output,
                          const struct shape *after)
{
    const size_t size = compute_size(compute), in = shape_elements(&shape) * size,
                 out = shape_elements(after) * size,
                 lanes = kernels_current()->lanes[compute].lanes,
                 first = images - lanes - below(images - lanes + 1);
    void *part = guarded_alloc((images - first) * out);
    CHECK(network_run(compute, layers, count, images - first, shape,
                      (const char *)input + first * in, part, NULL) == 0,
          "no memory");
    CHECK(memcmp(part, (const char *)output + first * out, (images - first) * out) == 0,
          "%s: images from %zu of %zu", isa, first, images);
}

static void check_network(size_t images, struct shape shape, size_t most_layers)
{
    enum { MOST = 12 };
    const int f64 = below(3) == 0;
    const enum compute_type compute = f64 ? COMPUTE_F64 : COMPUTE_F32;
    struct layer layers[MOST];
    struct shape now = shape;
    const size_t count = from_to(1, most_layers);
    CHECK(count <= MOST, "too many layers");
    void *input = numbers(f64, images * shape_elements(&shape), 0);
    if (below(4) == 0 && images * shape_elements(&shape) > 0) {
        put(f64, input, below(images * shape_elements(&shape)), below(2) == 0 ? NAN : INFINITY);
    }
    void *between = input;
    for (size_t i = 0; i < count; i++) {
        layers[i] = any_layer(f64, now);
        struct shape after = now;
        network_shape(&layers[i], 1, &after);
        void *output = guarded_alloc(images * shape_elements(&after) * size_of(f64));
        run_alone(compute, &layers[i], images, &now, between, output);
        between = output;
    }
    const size_t outputs = images * shape_elements(&now);
    void *output = guarded_alloc(outputs * size_of(f64));
    CHECK(outputs == 0 ||
              network_run(compute, layers, count, images, shape, input, output, NULL) == 0,
          "no memory");
    const bool across = outputs > 0 && lanes_apply(compute, layers, count, images, shape);
    double largest = 0;
    for (size_t i = 0; i < outputs; i++) {
        const double value = get(f64, between, i);
        largest = isfinite(value) && fabs(value) > largest ? fabs(value) : largest;
    }
    const double error = !across ? 0 : largest * (f64 ? 1e-12 : 1e-4);
    for (size_t i = 0; i < outputs; i++) {
        CHECK(same(get(f64, output, i), get(f64, between, i)) ||
                  fabs(get(f64, output, i) - get(f64, between, i)) <= error,
              "%s network f%d of %zu layers, %zu images: %zu of %zu: %a, not %a", isa,
              f64 ? 64 : 32, count, images, i, outputs, get(f64, output, i), get(f64, between, i));
    }
    if (across) {
        check_batches(compute, layers, count, images, shape, input, output, &now);
    }
    guarded_release("network_run");
}

/* Checks images of several row blocks. Some have an odd last column, which pooling drops. One pixel
 * of the last block is NaN. */
static void check_row_blocks(void)
{
    struct layer layers[2] = {conv_layer(16, 5), pool_layer};
    for (size_t width = 45; width < 70; width++) {
        for (size_t padding = 0; padding < 3; padding++) {
            const struct shape shape = {.channels = 5, .size = {40, width}};
            struct shape maps = shape, after;
            layers[0].before = layers[0].after = (struct extent2){0, padding};
            CHECK(network_shape(layers, 1, &maps) &&
                      (after = maps, network_shape(layers + 1, 1, &after)),
                  "sizes");
            float *input = numbers(0, shape_elements(&shape), 0),
                  *between = guarded_alloc(shape_elements(&maps) * sizeof *between);
            float *alone = guarded_alloc(shape_elements(&after) * sizeof *alone),
                  *output = guarded_alloc(shape_elements(&after) * sizeof *output);
            fill_layer(0, &layers[0], 25);
            input[38 * width] = NAN;
            struct shape now = shape;
            run_alone(COMPUTE_F32, &layers[0], 1, &now, input, between);
            run_alone(COMPUTE_F32, &layers[1], 1, &now, between, alone);
            CHECK(network_run(COMPUTE_F32, layers, 2, 1, shape, input, output, NULL) == 0,
                  "no memory");
            for (size_t i = 0; i < shape_elements(&after); i++) {
                CHECK(same((double)output[i], (double)alone[i]),
                      "%s width %zu, padding %zu: %zu: %a, not %a", isa, width, padding, i,
                      (double)output[i], (double)alone[i]);
            }
            guarded_release("network_run");
        }
    }
}

static void check_networks(void)
{
    for (int round = 0; round < 400; round++) {
        const struct shape shape = {.flat = below(8) == 0,
                                    .channels = from_to(1, 4),
                                    .size = {from_to(1, 20), from_to(1, 30)}};
        check_network(below(6), shape, 8);
    }
    const struct shape shape = {.channels = 1, .size = {28, 28}};
    for (int round = 0; round < 12; round++) { /* enough images for several blocks */
        check_network(from_to(30, 70), shape, 6);
    }
    for (int round = 0; round < 200; round++) { /* vectors of images, the last one incomplete */
        const struct shape small = {.channels = from_to(1, 4),
                                    .size = {from_to(1, 9), from_to(1, 9)}};
        check_network(from_to(16, 40), small, 6);
    }
    check_row_blocks();
    struct shape no = {.channels = 1, .size = {4, 4}};
    const struct layer large = conv_layer(1, 1);
    CHECK(!network_shape(&large, 1, &no), "a kernel larger than the image");
}

/* Compares conv2d_max_pool2d with conv2d followed by max_pool2d. */
static void check_with_pooling(void)
{
    const int f64 = below(3) == 0;
    const enum compute_type compute = f64 ? COMPUTE_F64 : COMPUTE_F32;
    struct layer conv = {.kind = LAYER_CONV2D,
                         .out = from_to(1, 12),
                         .in = from_to(1, 4),
                         .groups = from_to(1, 2),
                         .stride = {from_to(1, 2), 1},
                         .dilation = {1, from_to(1, 2)}};
    struct layer pool = {.kind = LAYER_MAX_POOL2D,
                         .stride = {2, from_to(1, 2)},
                         .dilation = {1, 1},
                         .ceil_mode = below(4) == 0};
    const size_t images = from_to(0, 4);
    const struct shape shape = {.channels = conv.in * conv.groups,
                                .size = {from_to(1, 14), from_to(1, 24)}};
    struct shape maps = shape;
    conv.out *= conv.groups;
    conv.kernel = (struct extent2){below(2) == 0 ? 5 : from_to(1, 3), from_to(1, 5)};
    conv.before = conv.after = (struct extent2){below(3), below(3)};
    pool.kernel = (struct extent2){2, from_to(1, 3)};
    pool.before.h = below(2);
    fill_layer(f64, &conv, conv.kernel.h * conv.kernel.w);
    struct shape after = maps;
    if (network_shape(&conv, 1, &maps) && (after = maps, network_shape(&pool, 1, &after))) {
        struct shape now = shape;
        const size_t n = images * shape_elements(&after);
        const void *input = numbers(f64, images * shape_elements(&shape), 0);
        void *between = guarded_alloc(images * shape_elements(&maps) * size_of(f64));
        void *out[2] = {guarded_alloc(n * size_of(f64)), guarded_alloc(n * size_of(f64))};
        int64_t *indices[2] = {guarded_alloc(n * sizeof **indices),
                               guarded_alloc(n * sizeof **indices)};
        run_alone(compute, &conv, images, &now, input, between);
        struct max_pool2d p = pool_of(compute, &pool, images, &maps, &after, between, out[0]);
        p.indices = indices[0];
        max_pool2d(&p);
        const struct conv2d c = conv_of(compute, &conv, images, &shape, &maps, input, NULL);
        p.planes = conv.out;
        p.input = NULL;
        p.output = out[1];
        p.indices = indices[1];
        CHECK(conv2d_max_pool2d(&c, &p) == 0, "no memory");
        CHECK(memcmp(out[0], out[1], n * size_of(f64)) == 0 &&
                  memcmp(indices[0], indices[1], n * sizeof **indices) == 0,
              "%s: %zu images of %zux%zu", isa, images, shape.size.h, shape.size.w);
    }
    guarded_release("conv2d_max_pool2d");
}

/* ---- threads ---- */

enum { CALLS = 10 };

/* Runs one of CALLS calls, each large enough for several threads. Returns the output's size in
 * bytes. */
static size_t run_call(int call, int f64, const void *x, const void *y, void *out)
{
    const enum compute_type compute = f64 ? COMPUTE_F64 : COMPUTE_F32;
    struct conv2d c = {.compute = compute,
                       .images = 24,
                       .groups = 1,
                       .in_channels = 6,
                       .out_channels = 16,
                       .in = {17, 20},
                       .out = {13, 16},
                       .kernel = {5, 5},
                       .stride = {1, 1},
                       .dilation = {1, 1},
                       .relu = true,
                       .input = x,
                       .weight = y,
                       .bias = y,
                       .output = out};
    const size_t weights = 16 * 6 * 25, inputs = 24 * 6 * 17 * 20;
    if (call < 2) {
        c.pool = call == 1 && conv2d_pools(&c);
        CHECK(conv2d(&c) == 0, "no memory");
        return (c.pool ? (size_t)24 * 16 * 6 * 8 : (size_t)24 * 16 * 13 * 16) * size_of(f64);
    }
    if (call == 2) { /* narrow rows, padding and groups */
        c.groups = 2;
        c.in = (struct extent2){68, 5};
        c.out = (struct extent2){64, 3};
        c.padding.w = 1;
        CHECK(conv2d(&c) == 0, "no memory");
        return (size_t)24 * 16 * 64 * 3 * size_of(f64);
    }
    if (call < 5) {
        c.out.w = call == 3 ? 16 : 15; /* without and with a partial vector */
        c.output = (void *)(uintptr_t)x;
        c.input = y;
        const struct conv2d_grad_weight gradient = {
            .conv = c, .weight = out, .bias = (char *)out + weights * size_of(f64)};
        CHECK(conv2d_grad_weight(&gradient) == 0, "no memory");
        return (weights + 16) * size_of(f64);
    }
    if (call == 5) {
        c.output = (void *)(uintptr_t)x;
        const struct conv2d_grad_input gradient = {c, out};
        CHECK(conv2d_grad_input(&gradient) == 0, "no memory");
        return inputs * size_of(f64);
    }
    if (call == 6) {
        const struct linear l = {.compute = compute,
                                 .rows = 300,
                                 .in_features = 150,
                                 .out_features = 100,
                                 .input = x,
                                 .weight = y,
                                 .bias = y,
                                 .output = out};
        CHECK(linear(&l) == 0, "no memory");
        return (size_t)300 * 100 * size_of(f64);
    }
    if (call == 7) {
        const struct matmul p = {.compute = compute,
                                 .rows = 100,
                                 .columns = 150,
                                 .depth = 300,
                                 .left = x,
                                 .left_step = 1,
                                 .left_next = 100,
                                 .right = y,
                                 .right_step = 150,
                                 .output = out,
                                 .output_step = 150};
        CHECK(matmul(&p) == 0, "no memory");
        return (size_t)100 * 150 * size_of(f64);
    }
    if (call == 8) {
        const struct max_pool2d p = {.compute = compute,
                                     .planes = 16,
                                     .in = c.out,
                                     .out = {6, 8},
                                     .kernel = {2, 2},
                                     .stride = {2, 2},
                                     .dilation = {1, 1},
                                     .output = out};
        CHECK(conv2d_max_pool2d(&c, &p) == 0, "no memory");
        return (size_t)24 * 16 * 6 * 8 * size_of(f64);
    }
    struct layer layers[] = {
        conv_layer(16, 6),
        {.kind = LAYER_RELU},
        pool_layer,
        {.kind = LAYER_FLATTEN},
        {.kind = LAYER_LINEAR, .weight = y, .out = 20, .in = 16 * 6 * 8},
    };
    layers[0].weight = layers[0].bias = y;
    const struct shape shape = {.channels = 6, .size = {17, 20}};
    CHECK(network_run(compute, layers, sizeof layers / sizeof *layers, 24, shape, x, out, NULL) ==
              0,
          "no memory");
    return (size_t)24 * 20 * size_of(f64);
}

static void check_threads(void)
{
    for (int f64 = 0; f64 < 2; f64++) {
        const size_t n = 90000;
        const void *x = numbers(f64, n, 0), *y = numbers(f64, n, 0);
        char *once = guarded_alloc(n * size_of(f64)), *again = guarded_alloc(n * size_of(f64));
        for (int call = 0; call < CALLS; call++) {
            pool_set_threads(1);
            const size_t bytes = run_call(call, f64, x, y, once);
            for (int threads = 2; threads <= 4; threads++) {
                pool_set_threads(threads);
                memset(again, 0xff, bytes);
                CHECK(run_call(call, f64, x, y, again) == bytes && memcmp(once, again, bytes) == 0,
                      "%s f%d: call %d differs with %d threads", isa, f64 ? 64 : 32, call, threads);
            }
        }
        guarded_release("threads");
    }
    pool_set_threads(1);
}

static void check_table(const struct kernels *table)
{
    (void)table;
    check_networks();
    for (int round = 0; round < 200; round++) {
        check_with_pooling();
    }
    check_threads();
}

int main(void)
{
    check_each_table(check_table);
    pool_stop();
    return finish("network");
}
