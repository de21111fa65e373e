/* Checks linear layers and matmul (csrc/nn) against naive references in double, over many shapes.
 * All arrays are guarded blocks. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "guarded.h"
#include "layer_tables.h"
#include "layer_cases.h"
#include "nn/layers.h"

/* ---- linear layers and matmul ---- */

static void check_linear(int f64, size_t rows, size_t in, size_t out, enum kind kind)
{
    struct linear l = {.compute = f64 ? COMPUTE_F64 : COMPUTE_F32,
                       .rows = rows,
                       .in_features = in,
                       .out_features = out,
                       .relu = below(2) == 0};
    l.input = of_kind(f64, rows * in, kind, true);
    l.weight = of_kind(f64, out * in, kind, false);
    l.bias = below(2) == 0 ? of_kind(f64, out, kind, false) : NULL;
    l.output = guarded_alloc(rows * out * size_of(f64));
    CHECK(linear(&l) == 0, "no memory");
    for (size_t i = 0; i < rows * out; i++) {
        const size_t r = i / out, f = i % out;
        double sum = l.bias == NULL ? 0 : get(f64, l.bias, f), most = fabs(sum);
        for (size_t k = 0; k < in; k++) {
            const double term = get(f64, l.input, r * in + k) * get(f64, l.weight, f * in + k);
            sum += term;
            most += fabs(term);
        }
        CHECK(agrees(f64, kind, get(f64, l.output, i), l.relu ? relu_of(sum) : sum, in, most, 1),
              "%s linear f%d (%zu, %zu) to %zu, kind %d: %zu, %zu: %g, not %g", isa, f64 ? 64 : 32,
              rows, in, out, kind, r, f, get(f64, l.output, i), sum);
    }
    if (rows > 1) { /* a call with one row alone gives the same bits */
        struct linear one = l;
        const size_t r = below(rows);
        one.rows = 1;
        one.input = (const char *)l.input + r * in * size_of(f64);
        one.output = guarded_alloc(out * size_of(f64));
        CHECK(linear(&one) == 0 &&
                  memcmp(one.output, (const char *)l.output + r * out * size_of(f64),
                         out * size_of(f64)) == 0,
              "%s linear (%zu, %zu) to %zu: row %zu alone", isa, rows, in, out, r);
    }
    if (rows > 0) { /* linear_rows, run on all rows but the first, gives the same bits */
        ptrdiff_t *at = guarded_alloc(linear_vectors(&l) * sizeof *at);
        for (size_t v = 0; v < linear_vectors(&l); v++) {
            at[v] = (ptrdiff_t)(v * kernels_current()->layers[f64].lanes);
        }
        struct linear again = l;
        again.output = guarded_alloc(rows * out * size_of(f64));
        linear_rows(&again, at, 1, rows - 1);
        CHECK(memcmp((char *)again.output + out * size_of(f64),
                     (char *)l.output + out * size_of(f64), (rows - 1) * out * size_of(f64)) == 0,
              "%s linear (%zu, %zu) to %zu: rows alone", isa, rows, in, out);
    }
    guarded_release("linear");
}

static void check_matmul(int f64, size_t rows, size_t columns, size_t depth, enum kind kind)
{
    const bool swapped_sides = below(2) == 0;
    const size_t size = size_of(f64);
    struct matmul p = {.compute = f64 ? COMPUTE_F64 : COMPUTE_F32,
                       .rows = rows,
                       .columns = columns,
                       .depth = depth};
    p.left_step = swapped_sides ? 1 : depth + below(3);
    p.left_next = swapped_sides ? rows + below(3) : 1;
    p.right_step = columns + below(3);
    p.output_step = columns + below(3);
    const size_t outputs = rows == 0 || columns == 0 ? 0 : (rows - 1) * p.output_step + columns;
    p.left = of_kind(
        f64, rows == 0 || depth == 0 ? 0 : (rows - 1) * p.left_step + (depth - 1) * p.left_next + 1,
        kind, false);
    p.right = of_kind(f64, columns == 0 || depth == 0 ? 0 : (depth - 1) * p.right_step + columns,
                      kind, true);
    p.output = guarded_alloc(outputs * size);
    CHECK(matmul(&p) == 0, "no memory");
    for (size_t i = 0; i < outputs; i++) {
        const size_t r = i / p.output_step, c = i % p.output_step;
        double sum = 0, most = 0;
        for (size_t k = 0; c < columns && k < depth; k++) {
            const double term = get(f64, p.left, r * p.left_step + k * p.left_next) *
                                get(f64, p.right, k * p.right_step + c);
            sum += term;
            most += fabs(term);
        }
        sum = c < columns ? sum : NAN; /* elements between the rows keep their NaN */
        CHECK(agrees(f64, kind, get(f64, p.output, i), sum, depth, most, 1),
              "%s matmul f%d %zu x %zu x %zu, kind %d: %zu, %zu: %g, not %g", isa, f64 ? 64 : 32,
              rows, columns, depth, kind, r, c, get(f64, p.output, i), sum);
    }
    if (outputs > 0) { /* a call with one sum alone gives the same bits */
        const size_t r = below(rows), c = below(columns);
        struct matmul one = p;
        one.rows = one.columns = 1;
        one.left = (const char *)p.left + r * p.left_step * size;
        one.right = (const char *)p.right + c * size;
        one.output = guarded_alloc(size);
        CHECK(matmul(&one) == 0 &&
                  memcmp(one.output, (const char *)p.output + (r * p.output_step + c) * size,
                         size) == 0,
              "%s matmul %zu x %zu x %zu: one sum alone", isa, rows, columns, depth);
    }
    guarded_release("matmul");
}

static void check_linear_and_matmul(const struct kernels *table)
{
    (void)table;
    static const size_t edges[] = {0, 1, 2, 15, 16, 17, 255, 256, 257},
                        depths[] = {0, 1, 2, 255, 256, 257, 600};
    for (int f64 = 0; f64 < 2; f64++) {
        for (int round = 0; round < 300; round++) {
            check_linear(f64, below(12), below(70), from_to(1, 20), any_kind());
            check_matmul(f64, below(20), below(below(4) == 0 ? 80 : 24), below(20), any_kind());
        }
        /* More rows and features than one block holds. */
        check_linear(f64, 150, 33, 70, ANY);
        check_linear(f64, 65, 0, 65, ANY);
        check_linear(f64, 0, 5, 65, ANY);
        for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
            for (size_t k = 0; k < sizeof depths / sizeof *depths; k++) {
                check_matmul(f64, from_to(1, 9), edges[i], depths[k], any_kind());
            }
        }
        /* For some vector lengths, these columns are two blocks. */
        for (size_t columns = 505; columns < 540; columns += 6) {
            check_matmul(f64, 7, columns, 5, any_kind());
        }
        check_matmul(f64, 50, 9, 5, WHOLE); /* enough rows for several tasks */
    }
}

int main(void)
{
    check_each_table(check_linear_and_matmul);
    return finish("linear");
}
