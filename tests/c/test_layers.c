/* Checks convolution and its gradients (csrc/conv2d) against naive references in double, over many
 * shapes and with every algorithm. All arrays are guarded blocks. */
#include <math.h>
#include <string.h>

#include "base/scratch.h"
#include "check.h"
#include "conv2d/conv2d_algorithm.h"
#include "guarded.h"
#include "layer_tables.h"
#include "layer_cases.h"

/* ---- convolution, and its gradients ---- */

/* Two arrays of sums: of products, and of the magnitudes of these products. */
struct reference {
    double *sum, *most;
};

static struct reference reference_alloc(size_t n)
{
    struct reference s = {calloc(n + 1, sizeof(double)), calloc(n + 1, sizeof(double))};
    CHECK(s.sum != NULL && s.most != NULL, "no memory");
    return s;
}

static void reference_free(struct reference s)
{
    free(s.sum);
    free(s.most);
}

static void reference_add(struct reference s, size_t at, double x, double y)
{
    s.sum[at] += x * y;
    s.most[at] += fabs(x * y);
}

enum pass { FORWARD, OF_WEIGHT, OF_INPUT };

/* Adds one product for each output pixel and each input pixel that it reads. The product is added
 * to the sum of the output pixel (FORWARD), of the weight between the two pixels (OF_WEIGHT), or of
 * the input pixel (OF_INPUT). */
static void conv_reference(const struct conv2d *c, enum pass pass, struct reference to)
{
    const int f64 = c->compute == COMPUTE_F64;
    const size_t channels = c->in_channels / c->groups, filters = c->out_channels / c->groups;
    for (size_t n = 0; n < c->images; n++) {
        for (size_t f = 0; f < c->out_channels; f++) {
            for (size_t k = 0; k < channels * c->kernel.h * c->kernel.w; k++) {
                const size_t channel = f / filters * channels + k / (c->kernel.h * c->kernel.w),
                             u = k / c->kernel.w % c->kernel.h, v = k % c->kernel.w;
                const size_t weight = f * channels * c->kernel.h * c->kernel.w + k;
                for (size_t y = 0; y < c->out.h; y++) {
                    /* A negative row wraps to a huge number. */
                    const size_t row = y * c->stride.h + u * c->dilation.h - c->padding.h;
                    for (size_t x = 0; row < c->in.h && x < c->out.w; x++) {
                        const size_t column = x * c->stride.w + v * c->dilation.w - c->padding.w;
                        if (column >= c->in.w) {
                            continue;
                        }
                        const size_t in = ((n * c->in_channels + channel) * c->in.h + row) *
                                              c->in.w +
                                          column,
                                     out =
                                         ((n * c->out_channels + f) * c->out.h + y) * c->out.w + x;
                        if (pass == FORWARD) {
                            reference_add(to, out, get(f64, c->weight, weight),
                                          get(f64, c->input, in));
                        } else if (pass == OF_WEIGHT) {
                            reference_add(to, weight, get(f64, c->output, out),
                                          get(f64, c->input, in));
                        } else {
                            reference_add(to, in, get(f64, c->output, out),
                                          get(f64, c->weight, weight));
                        }
                    }
                }
            }
        }
    }
}

#define SHAPE \
    "%s f%d (%zu, %zu, %zu, %zu) to (%zu, %zu, %zu), kernel %zux%zu, " \
    "stride %zux%zu, dilation %zux%zu, padding %zux%zu, groups %zu, pool %d, kind %d"
#define SHAPE_OF(c, kind) \
    isa, (c)->compute == COMPUTE_F64 ? 64 : 32, (c)->images, (c)->in_channels, (c)->in.h, \
        (c)->in.w, (c)->out_channels, (c)->out.h, (c)->out.w, (c)->kernel.h, (c)->kernel.w, \
        (c)->stride.h, (c)->stride.w, (c)->dilation.h, (c)->dilation.w, (c)->padding.h, \
        (c)->padding.w, (c)->groups, (c)->pool, kind

enum { PATHS = 24 };

/* The code paths of conv2d, and calls by code path, without and with fused pooling. The shapes of
 * check_convolutions must cover all of them. */
static const char *path_names[PATHS];
static size_t path_counts[PATHS][2];

/* Counts the code paths of a call, and returns its algorithm. */
static const struct conv2d_algorithm *count_paths(const struct conv2d *c)
{
    struct conv2d_plan p;
    CHECK(conv2d_plan(&p, c) == 0, "no memory");
    const bool winograd = p.algorithm == &conv2d_winograd, three = p.algorithm == &conv2d_winograd3,
               direct = p.algorithm == &conv2d_direct, lanes = p.algorithm == &conv2d_filter_lanes,
               pointwise = p.algorithm == &conv2d_pointwise, row_blocks = p.row_blocks > 1,
               channel_blocks = p.channel_blocks > 1;
    const struct {
        const char *name;
        bool taken;
    } paths[] = {
        {"copied", p.copied && direct},
        {"in place", !p.copied && direct},
        {"narrow", p.narrow},
        {"row blocks", row_blocks && direct},
        {"in place row blocks", row_blocks && !p.copied && direct},
        {"narrow row blocks", row_blocks && p.narrow},
        {"channel blocks", channel_blocks && direct},
        {"narrow channel blocks", channel_blocks && p.narrow},
        {"winograd", winograd},
        {"winograd in place", winograd && !p.copied},
        {"winograd row blocks", winograd && row_blocks},
        {"winograd channel blocks", winograd && channel_blocks},
        {"winograd odd height", winograd && c->out.h % 2 != 0},
        {"filter lanes", lanes},
        {"filter lanes images", lanes && p.image_block > 1},
        {"filter lanes row blocks", lanes && row_blocks},
        {"filter lanes channel blocks", lanes && channel_blocks},
        {"pointwise", pointwise},
        {"pointwise row blocks", pointwise && row_blocks},
        {"pointwise channel blocks", pointwise && channel_blocks},
        {"winograd3", three},
        {"winograd3 row blocks", three && row_blocks},
        {"winograd3 images", three && p.image_block > 1},
        {"winograd3 odd", three && c->out.h % 2 + c->out.w % 2 != 0},
    };
    _Static_assert(sizeof paths / sizeof *paths == PATHS, "the number of code paths");
    for (size_t i = 0; i < PATHS; i++) {
        path_names[i] = paths[i].name;
        path_counts[i][c->pool] += paths[i].taken;
    }
    const struct conv2d_algorithm *algorithm = p.algorithm;
    conv2d_plan_free(&p);
    return algorithm;
}

static size_t inputs_of(const struct conv2d *c)
{
    return c->images * c->in_channels * c->in.h * c->in.w;
}

static size_t weights_of(const struct conv2d *c)
{
    return c->out_channels * (c->in_channels / c->groups) * c->kernel.h * c->kernel.w;
}

/* True if the elements have the same bits, or both are NaN. The bits of a NaN depend on the order
 * of factors. */
static bool same_bits(const void *a, const void *b, size_t n, int f64)
{
    for (size_t i = 0; i < n; i++) {
        const double x = get(f64, a, i), y = get(f64, b, i);
        if (!(isnan(x) && isnan(y)) && (x != y || signbit(x) != signbit(y))) {
            return false;
        }
    }
    return true;
}

/* The algorithms to force. NULL lets conv2d choose, and so does an algorithm that does not fit. */
static const char *const algorithms[] = {NULL,        "direct",   "filter_lanes",
                                         "pointwise", "winograd", "winograd3"};
enum { DIRECT = 1, ALGORITHMS = 6 };

/* With `must_fit`, checks nothing if the algorithm does not fit. */
static void check_conv2d(struct conv2d c, enum kind kind, const char *algorithm, bool must_fit)
{
    const int f64 = c.compute == COMPUTE_F64;
    const size_t by = c.pool ? 2 : 1, h = c.out.h / by, w = c.out.w / by,
                 outputs = c.images * c.out_channels * h * w, size = size_of(f64);
    const size_t steps = (c.in_channels / c.groups) * c.kernel.h * c.kernel.w;
    /* Winograd adds and subtracts rows, and the differences lose digits. */
    const bool three = c.kernel.h == 3 && c.kernel.w == 3;
    const double times = c.compute == COMPUTE_F32 && (c.kernel.h == 5 || three) ? 60 : 1;
    c.input = of_kind(f64, inputs_of(&c), kind, true);
    c.weight = of_kind(f64, weights_of(&c), kind, false);
    c.bias = below(2) == 0 ? of_kind(f64, c.out_channels, kind, false) : NULL;
    c.output = guarded_alloc(outputs * size);
    conv2d_force_algorithm(algorithm);
    CHECK(conv2d(&c) == 0, "no memory");
    const struct conv2d_algorithm *used = count_paths(&c);
    if (must_fit && algorithm != NULL && (used == NULL || strcmp(used->name, algorithm) != 0)) {
        conv2d_force_algorithm(NULL);
        guarded_release("conv2d");
        return;
    }
    if (used != NULL && used->exact) {
        struct conv2d direct = c;
        direct.output = guarded_alloc(outputs * size);
        conv2d_force_algorithm("direct");
        CHECK(conv2d(&direct) == 0, "no memory");
        CHECK(same_bits(direct.output, c.output, outputs, f64),
              SHAPE ": %s has other bits than direct", SHAPE_OF(&c, kind), algorithm);
    }
    conv2d_force_algorithm(algorithm);
    struct reference expected_sums = reference_alloc(c.images * c.out_channels * c.out.h * c.out.w);
    conv_reference(&c, FORWARD, expected_sums);
    for (size_t i = 0; i < outputs; i++) {
        const size_t map = w == 0 || h == 0 ? 0 : i / (h * w), y = i / w % h * by, x = i % w * by;
        double expected = -INFINITY,
               most = times > 1 ? (double)steps * (kind == HUGE_ONES ? 1e37 : 1) : 0;
        for (size_t k = 0; k < by * by; k++) {
            const size_t at = (map * c.out.h + y + k / by) * c.out.w + x + k % by;
            const double bias = c.bias == NULL ? 0 : get(f64, c.bias, map % c.out_channels),
                         sum = expected_sums.sum[at] + bias, value = c.relu ? relu_of(sum) : sum;
            expected = value > expected || isnan(value) ? value : expected;
            most = fmax(most, expected_sums.most[at] + fabs(bias));
        }
        CHECK(agrees(f64, kind, get(f64, c.output, i), expected, steps, most, times),
              SHAPE ": %zu: %g, not %g", SHAPE_OF(&c, kind), i, get(f64, c.output, i), expected);
    }
    reference_free(expected_sums);
    if (c.images > 1) { /* a call with the last image alone, or many, gives the same bits */
        struct conv2d last = c;
        last.images = c.images < CONV2D_MANY_IMAGES ? 1 : CONV2D_MANY_IMAGES;
        const size_t before = c.images - last.images, count = outputs / c.images * last.images;
        last.input = (const char *)c.input + inputs_of(&c) / c.images * before * size;
        last.output = guarded_alloc(count * size);
        CHECK(conv2d(&last) == 0, "no memory");
        CHECK(same_bits(last.output, (const char *)c.output + (outputs - count) * size, count, f64),
              SHAPE ": the last %zu images", SHAPE_OF(&c, kind), last.images);
    }
    conv2d_force_algorithm(NULL);
    guarded_release("conv2d");
}

/* Checks conv2d_grad_weight. With `sparse`, checks conv2d_grad_weight_sparse instead, if it accepts
 * the shape and the numbers: then only some output pixels have a gradient. */
static void check_weights(struct conv2d c, enum kind kind, bool sparse)
{
    sparse = sparse && c.out.h * c.out.w > 0 && c.dilation.w == 1 && kind != NOT_FINITE;
    const int f64 = c.compute == COMPUTE_F64;
    const size_t outputs = c.images * c.out_channels * c.out.h * c.out.w, maps = c.out.h * c.out.w;
    c.input = of_kind(f64, inputs_of(&c), kind, true);
    void *dense = of_kind(f64, outputs, kind, false);
    c.output = dense;
    struct conv2d_grad_weight call = {c, guarded_alloc(weights_of(&c) * size_of(f64)),
                                      below(2) == 0 ? guarded_alloc(c.out_channels * size_of(f64))
                                                    : NULL};
    if (sparse) {
        struct conv2d_grad_weight_sparse patches = {.conv = c,
                                                    .gradients_per_map = from_to(1, 1 + maps / 2),
                                                    .weight = call.weight,
                                                    .bias = call.bias};
        const size_t gradients = c.images * c.out_channels * patches.gradients_per_map;
        int64_t *indices = guarded_alloc(gradients * sizeof *indices);
        patches.indices = indices;
        patches.conv.output = of_kind(f64, gradients, kind, false);
        memset(dense, 0, outputs * size_of(f64));
        for (size_t i = 0; i < gradients; i++) {
            indices[i] = (int64_t)below(maps);
            /* Gradients of one pixel have one sign: a sum that cancels has larger errors. */
            put(f64, patches.conv.output, i,
                copysign(get(f64, patches.conv.output, i), indices[i] % 2 == 0 ? 1 : -1));
            const size_t at = i / patches.gradients_per_map * maps + (size_t)indices[i];
            put(f64, dense, at, get(f64, dense, at) + get(f64, patches.conv.output, i));
        }
        CHECK(conv2d_grad_weight_sparse(&patches) == 0, "no memory");
    } else {
        CHECK(conv2d_grad_weight(&call) == 0, "no memory");
    }
    struct reference expected_sums = reference_alloc(weights_of(&c));
    conv_reference(&c, OF_WEIGHT, expected_sums);
    for (size_t i = 0; i < weights_of(&c); i++) {
        const double got = get(f64, call.weight, i);
        CHECK(
            agrees(f64, kind, got, expected_sums.sum[i], c.images * maps, expected_sums.most[i], 1),
            SHAPE ": weight %zu: %g, not %g", SHAPE_OF(&c, kind), i, got, expected_sums.sum[i]);
    }
    for (size_t f = 0; call.bias != NULL && f < c.out_channels; f++) {
        double sum = 0;
        for (size_t i = 0; i < c.images * maps; i++) {
            sum += get(f64, c.output,
                       (i / (maps == 0 ? 1 : maps) * c.out_channels + f) * maps + i % maps);
        }
        CHECK(agrees(f64, kind == WHOLE ? WHOLE : ANY, get(f64, call.bias, f), sum, c.images * maps,
                     (double)(c.images * maps), 1),
              SHAPE ": bias %zu: %g, not %g", SHAPE_OF(&c, kind), f, get(f64, call.bias, f), sum);
    }
    reference_free(expected_sums);
    guarded_release("conv2d_weights");
}

static void check_input(struct conv2d c, enum kind kind)
{
    const int f64 = c.compute == COMPUTE_F64;
    c.output = of_kind(f64, c.images * c.out_channels * c.out.h * c.out.w, kind, true);
    c.weight = of_kind(f64, weights_of(&c), kind, false);
    struct conv2d_grad_input call = {c, guarded_alloc(inputs_of(&c) * size_of(f64))};
    CHECK(conv2d_grad_input(&call) == 0, "no memory");
    struct reference expected_sums = reference_alloc(inputs_of(&c));
    conv_reference(&c, OF_INPUT, expected_sums);
    for (size_t i = 0; i < inputs_of(&c); i++) {
        const double got = get(f64, call.input, i);
        CHECK(agrees(f64, kind, got, expected_sums.sum[i],
                     c.out_channels / c.groups * c.kernel.h * c.kernel.w, expected_sums.most[i], 1),
              SHAPE ": %zu: %g, not %g", SHAPE_OF(&c, kind), i, got, expected_sums.sum[i]);
    }
    reference_free(expected_sums);
    guarded_release("conv2d_input");
}

static struct conv2d any_shape(void)
{
    struct conv2d c = {.compute = below(3) == 0 ? COMPUTE_F64 : COMPUTE_F32,
                       .images = from_to(0, 3),
                       .groups = below(3) == 0 ? from_to(1, 3) : 1,
                       .relu = below(2) == 0};
    const bool plain = below(2) == 0; /* stride and dilation 1 */
    c.in_channels = c.groups * (below(4) == 0 ? from_to(5, 40) : from_to(0, 4));
    c.out_channels = c.groups * from_to(1, below(2) == 0 ? 3 : 20);
    const size_t square = below(4); /* 1 x 1 and 3 x 3 kernels have special algorithms */
    c.kernel = square == 0   ? (struct extent2){1, 1}
               : square == 1 ? (struct extent2){3, 3}
                             : (struct extent2){below(2) == 0 ? 5 : from_to(1, 6), from_to(1, 6)};
    c.stride = (struct extent2){plain ? 1 : from_to(1, 3), plain ? 1 : from_to(1, 4)};
    c.dilation = (struct extent2){plain ? 1 : from_to(1, 3), plain ? 1 : from_to(1, 3)};
    c.padding = below(2) == 0 ? (struct extent2){0, 0} : (struct extent2){below(8), below(8)};
    c.in = (struct extent2){from_to(1, 16), from_to(1, below(2) == 0 ? 12 : 40)};
    const size_t after_h = below(3) == 0 ? below(8) : c.padding.h,
                 after_w = below(3) == 0 ? below(20) : c.padding.w;
    c.out.h = outputs_of(c.in.h, c.padding.h, after_h, c.kernel.h, c.stride.h, c.dilation.h);
    c.out.w = outputs_of(c.in.w, c.padding.w, after_w, c.kernel.w, c.stride.w, c.dilation.w);
    if (c.images * c.out_channels * c.out.h * c.out.w * (c.in_channels / c.groups) * c.kernel.h *
            c.kernel.w >
        300000) {
        return any_shape();
    }
    return c;
}

/* Shapes with several row blocks and channel blocks. Winograd computes pairs of output rows, so
 * some shapes with kernels of five rows have an odd number of output rows. */
#define SHAPE_WITH(n, group_count, channels, filters, ih, iw, oh, ow, kh, kw, sh, sw, ph, pw) \
    {.in = {ih, iw}, \
     .out = {oh, ow}, \
     .kernel = {kh, kw}, \
     .stride = {sh, sw}, \
     .dilation = {1, 1}, \
     .padding = {ph, pw}, \
     .images = n, \
     .groups = group_count, \
     .in_channels = channels, \
     .out_channels = filters}
static const struct conv2d large_shapes[] = {
    SHAPE_WITH(1, 1, 8, 8, 27, 250, 23, 248, 5, 3, 1, 1, 0, 0),
    SHAPE_WITH(1, 1, 7, 8, 16, 23, 12, 19, 5, 5, 1, 1, 0, 0),
    SHAPE_WITH(2, 1, 23, 9, 13, 20, 9, 17, 5, 5, 1, 1, 0, 1),
    SHAPE_WITH(1, 1, 20, 8, 23, 120, 23, 120, 5, 2, 1, 1, 2, 1),
    SHAPE_WITH(1, 2, 60, 6, 45, 200, 22, 99, 3, 3, 2, 2, 0, 0),
    SHAPE_WITH(2, 1, 300, 7, 6, 9, 5, 9, 3, 3, 1, 1, 0, 1),
    SHAPE_WITH(1, 1, 12, 70, 25, 41, 25, 39, 3, 3, 1, 1, 1, 0),
    SHAPE_WITH(1, 1, 20, 12, 15, 13, 15, 13, 3, 3, 1, 1, 1, 1),
    SHAPE_WITH(1, 1, 6, 9, 40, 4, 41, 5, 3, 3, 1, 1, 1, 2),
    SHAPE_WITH(19, 2, 18, 22, 5, 8, 5, 8, 3, 3, 1, 1, 1, 1),
    SHAPE_WITH(16, 1, 9, 7, 7, 17, 7, 18, 3, 3, 1, 1, 1, 3),
    SHAPE_WITH(1, 2, 20, 20, 70, 33, 35, 17, 1, 1, 2, 2, 0, 0),
    SHAPE_WITH(9, 1, 40, 75, 4, 4, 1, 1, 4, 4, 1, 1, 0, 0),
    SHAPE_WITH(1, 1, 600, 3, 9, 33, 9, 33, 1, 1, 1, 1, 0, 0),
    SHAPE_WITH(2, 1, 600, 3, 80, 3, 80, 3, 1, 1, 1, 1, 0, 0),
    SHAPE_WITH(1, 1, 2, 40, 67, 210, 67, 211, 2, 1, 1, 1, 1, 1),
    SHAPE_WITH(1, 1, 2, 2, 7, 9, 4, 6, 20, 15, 1, 1, 8, 6),
    SHAPE_WITH(1, 1, 1, 2, 3, 30000, 1, 29998, 3, 3, 1, 1, 0, 0),
};

static void check_convolutions(const struct kernels *table)
{
#ifdef EMULATED /* generic C is checked where it runs natively */
    if (strcmp(table->name, "generic") == 0) {
        return;
    }
#else
    (void)table;
#endif
    for (int round = 0; round < 300; round++) {
        struct conv2d c = any_shape();
        check_conv2d(c, any_kind(), algorithms[below(ALGORITHMS)], false);
        check_weights(c, any_kind(), false);
        check_weights(c, any_kind(), true);
        check_input(c, any_kind());
        c.pool = conv2d_pools(&c);
        check_conv2d(c, any_kind(), algorithms[below(ALGORITHMS)], false);
    }
    for (size_t i = 0; i < sizeof large_shapes / sizeof *large_shapes; i++) {
        for (int variant = 0; variant < 2 * ALGORITHMS; variant++) {
            struct conv2d c = large_shapes[i];
            c.relu = below(2) == 0;
            c.compute = variant % 2 == 0 ? COMPUTE_F32 : COMPUTE_F64;
            check_conv2d(c, any_kind(), algorithms[variant / 2], true);
            c.pool = conv2d_pools(&c);
            if (c.pool) check_conv2d(c, any_kind(), algorithms[variant / 2], true);
            c.pool = false;
            if (variant / 2 == DIRECT) {
                check_weights(c, any_kind(), c.compute == COMPUTE_F64);
                check_input(c, any_kind());
            }
        }
    }
    static const struct conv2d many = SHAPE_WITH(150, 1, 2, 3, 9, 10, 7, 8, 3, 3, 1, 1, 0, 0);
    /* 150 images are several blocks of images. */
    check_weights(many, WHOLE, false);
    check_weights(many, NOT_FINITE, false);
    check_weights(many, ANY, true);
    for (size_t i = 0; i < PATHS; i++) {
        /* conv2d_pools is false for narrow outputs and for the pointwise algorithm. */
        const bool never_pools = strncmp(path_names[i], "narrow", 6) == 0 ||
                                 strncmp(path_names[i], "pointwise", 9) == 0,
                   never = strcmp(path_names[i], "winograd3 images") == 0 &&
                           table->layers[COMPUTE_F32].lanes != 8;
        CHECK(never || (path_counts[i][0] > 0 && (never_pools || path_counts[i][1] > 0)),
              "%s: no shape takes code path %s: %zu and %zu", isa, path_names[i], path_counts[i][0],
              path_counts[i][1]);
        path_counts[i][0] = path_counts[i][1] = 0;
    }
}

int main(void)
{
    check_each_table(check_convolutions);
    return finish("layers");
}
