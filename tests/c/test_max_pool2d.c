/* Checks pooling, ReLU and their gradients (csrc/nn) against naive references. All arrays are
 * guarded blocks. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "nn/loops.h"
#include "guarded.h"
#include "layer_tables.h"

static size_t first_inside(size_t place, size_t padding, size_t dilation)
{
    while (place < padding) {
        place += dilation;
    }
    return place - padding;
}

static void check_max_pool2d(void)
{
    static const double values[] = {0, 1, 1, 2, -1, -0.5, -INFINITY, INFINITY, NAN};
    const int f64 = below(2) == 0;
    struct max_pool2d p = {.compute = f64 ? COMPUTE_F64 : COMPUTE_F32, .planes = below(4)};
    const bool squares = below(3) == 0;
    const bool plain = below(2) == 0; /* dilation 1: the kernel takes maxima of pairs */
    const size_t most = plain && below(3) == 0 ? 20 : 4;
    p.kernel =
        squares ? (struct extent2){2, 2} : (struct extent2){from_to(1, most), from_to(1, most)};
    p.stride = squares ? p.kernel : (struct extent2){from_to(1, 4), from_to(1, 4)};
    p.dilation =
        squares || plain ? (struct extent2){1, 1} : (struct extent2){from_to(1, 3), from_to(1, 3)};
    p.in = (struct extent2){from_to(1, most + 5), from_to(1, below(5) == 0 ? 150 : most + 5)};
    const bool whole_rows = plain && below(4) == 0; /* the pixels of a window are adjacent */
    p.kernel.w = whole_rows && !squares ? p.in.w : p.kernel.w;
    p.padding.h = squares || whole_rows ? 0 : below(((p.kernel.h - 1) * p.dilation.h + 1) / 2 + 1);
    p.padding.w = squares || whole_rows ? 0 : below(((p.kernel.w - 1) * p.dilation.w + 1) / 2 + 1);
    const size_t more = below(2); /* ceil_mode */
    p.out.h = outputs_of(p.in.h, p.padding.h, p.padding.h + more * (p.stride.h - 1), p.kernel.h,
                         p.stride.h, p.dilation.h);
    p.out.w = outputs_of(p.in.w, p.padding.w, p.padding.w + more * (p.stride.w - 1), p.kernel.w,
                         p.stride.w, p.dilation.w);
    p.out.h -= p.out.h > 0 && (p.out.h - 1) * p.stride.h >= p.in.h + p.padding.h;
    p.out.w -= p.out.w > 0 && (p.out.w - 1) * p.stride.w >= p.in.w + p.padding.w;
    const size_t in = p.in.h * p.in.w, out = p.out.h * p.out.w, kinds = from_to(6, 9);
    void *input = guarded_alloc(p.planes * in * size_of(f64));
    for (size_t i = 0; i < p.planes * in; i++) {
        put(f64, input, i, values[below(kinds)]);
    }
    p.input = input;
    p.output = guarded_alloc(p.planes * out * size_of(f64));
    p.indices = below(4) > 0 ? guarded_alloc(p.planes * out * sizeof *p.indices) : NULL;
    max_pool2d(&p);
    for (size_t i = 0; i < p.planes * out; i++) {
        const size_t plane = i / out, y = i % out / p.out.w, x = i % p.out.w;
        double most = -INFINITY;
        size_t where = SIZE_MAX;
        for (size_t k = 0; k < p.kernel.h * p.kernel.w; k++) {
            const size_t row = y * p.stride.h + k / p.kernel.w * p.dilation.h - p.padding.h,
                         column = x * p.stride.w + k % p.kernel.w * p.dilation.w - p.padding.w;
            if (row < p.in.h && column < p.in.w) {
                const double value = get(f64, input, plane * in + row * p.in.w + column);
                if (where == SIZE_MAX || value > most || isnan(value)) {
                    most = value;
                    where = row * p.in.w + column;
                }
            }
        }
        CHECK(same(get(f64, p.output, i), most), "%s max_pool2d: %zu: %g, not %g", isa, i,
              get(f64, p.output, i), most);
        /* With dilation, a window can hold only padding. Its index is the one that torch gives,
         * which may lie outside of the image. */
        if (where == SIZE_MAX) {
            const size_t row = first_inside(y * p.stride.h, p.padding.h, p.dilation.h),
                         column = first_inside(x * p.stride.w, p.padding.w, p.dilation.w);
            CHECK(p.indices == NULL || p.indices[i] == (int64_t)(row * p.in.w + column),
                  "%s max_pool2d: %zu lies at %lld", isa, i, (long long)p.indices[i]);
            if (p.indices != NULL) {
                p.indices[i] = 0;
            }
        } else {
            CHECK(p.indices == NULL || p.indices[i] == (int64_t)where,
                  "%s max_pool2d: %zu lies at %lld, not %zu", isa, i, (long long)p.indices[i],
                  where);
        }
    }
    if (p.indices != NULL) {
        const void *gradient = numbers(f64, p.planes * out, 8);
        void *back = guarded_alloc(p.planes * in * size_of(f64));
        max_pool2d_scatter(p.compute, p.planes, in, out, p.indices, gradient, back);
        for (size_t i = 0; i < p.planes * in; i++) {
            double sum = 0;
            for (size_t k = 0; k < out; k++) {
                sum += p.indices[i / in * out + k] == (int64_t)(i % in)
                           ? get(f64, gradient, i / in * out + k)
                           : 0;
            }
            CHECK(get(f64, back, i) == sum, "%s max_pool2d_scatter: %zu: %g, not %g", isa, i,
                  get(f64, back, i), sum);
        }
    }
    guarded_release("max_pool2d");
}

static void check_relu(size_t n)
{
    static const double values[] = {0, -0.0, 1, -1, 1e-40, -1e-40, INFINITY, -INFINITY, NAN};
    for (int f64 = 0; f64 < 2; f64++) {
        const enum compute_type compute = f64 ? COMPUTE_F64 : COMPUTE_F32;
        void *input = guarded_alloc(n * size_of(f64)), *output = guarded_alloc(n * size_of(f64)),
             *back = guarded_alloc(n * size_of(f64));
        const void *gradient = numbers(f64, n, 0);
        for (size_t i = 0; i < n; i++) {
            put(f64, input, i, values[below(9)]);
        }
        layer_loops[compute].relu(n, input, output);
        layer_loops[compute].relu_gradient(n, input, gradient, back);
        for (size_t i = 0; i < n; i++) {
            const double x = get(f64, input, i);
            CHECK(same(get(f64, output, i), relu_of(x)) &&
                      get(f64, back, i) == (x <= 0 ? 0 : get(f64, gradient, i)),
                  "relu of %g", x);
        }
        guarded_release("relu");
    }
}

static void check_table(const struct kernels *table)
{
    (void)table;
    for (int round = 0; round < 1500; round++) {
        check_max_pool2d();
    }
    for (size_t n = 0; n < 70; n++) {
        check_relu(n);
    }
}

int main(void)
{
    check_each_table(check_table);
    return finish("max_pool2d");
}
