#include "simclr/nt_xent.h"

#include <math.h>
#include <string.h>

#include "base/eps.h"
#include "base/pool.h"
#include "base/scratch.h"
#include "vectors/reduce.h"
#include "vectors/row_sums.h"
#include "pairwise/gemm.h"

/*
 * Two matrix products, both made of tiles. The first multiplies rows with a panel of rows; the
 * tiles turn these similarities into a block of exponentials in place. The second multiplies such
 * blocks with the rows. The matrix of exponentials is symmetric, so a panel, which holds columns
 * for the first product, holds the rows that the second one needs, in the same layout.
 *
 * Each exponential is e^((s - 1) / t). The shift is the same for all, so the matrix is symmetric
 * and each exponential is computed once for both of its rows. If e^(-2 / t) leaves the range of the
 * type, blocks hold the exponents s / t instead, and each row keeps its own running maximum.
 *
 * There are four passes over panels. Tasks write disjoint data: that of their own panel and, in
 * fill_matrix, the blocks mirrored from it. The sum of a row has one order, independent of the
 * number of threads.
 */
enum {
    BLOCK = TILE_DEPTH, /* rows of a block; the sums of blocks are added in double */
    /* Panels that the second product processes together, because each pass reads all rows again. */
    GROUP = 4,
    GROUP_BYTES = 1 << 20, /* limit of the sums of a group */
    PANELS_PER_THREAD = 8, /* with fewer panels for each thread, a group is one panel */
    /* Rows computed before they are mirrored, in panel widths: whole tiles of 6, 4 and 8 rows. */
    MIRROR_PANELS = 3,
    TRANSPOSE_ROWS = 64, /* rows transposed at a time */
    MAX_ROWS_BITS = 32   /* limit of the number of bits of `rows` */
};

/* e^x is a normal number of the type for x >= -max_exponent. */
static const double max_exponent_f32 = 80.0, max_exponent_f64 = 700.0;

struct nt_xent_run {
    const struct nt_xent *call;
    const struct xent_kernels *kernels;
    tile_kernel *tile;
    transpose_kernel *transpose;
    size_t size;             /* bytes of an element */
    size_t tile_rows, width; /* rows of a tile; columns of a tile and of a panel */
    size_t depth, panels;
    bool exponential;     /* blocks hold exponentials, not exponents */
    double factor, shift; /* exponent = similarity * factor + shift */
    char *rows;           /* normalised rows, row_step bytes apart, then zero rows */
    size_t row_step;
    char *packed;  /* the normalised rows packed into panels, [panels][depth][width] */
    char *columns; /* the normalised rows transposed, column_step bytes apart; for gradients */
    size_t column_step;
    char *weights;     /* elements: 1 / sum of each row, or -log(sum) */
    double *sums;      /* sum of each row, or log(sum) */
    double *losses;    /* the row's part of the loss */
    double *factors;   /* factor of the row's gradient */
    double *projected; /* 0 if the row's norm is clamped to eps, otherwise 1 */
    char *matrix; /* all blocks, [panels][rows][width]; or NULL: each is computed when it is used */
    size_t group; /* panels that the second product processes together */
    char *scratch;
    size_t worker_scratch;                       /* bytes of one worker */
    size_t tile_sums, block, weighted, products; /* offsets in a worker's scratch memory */
};

struct nt_xent_worker {
    double *tile_sums;
    char *block, *weighted;
    double *products;
};

static struct nt_xent_worker worker_at(const struct nt_xent_run *d, size_t worker)
{
    char *scratch = d->scratch + worker * d->worker_scratch;
    return (struct nt_xent_worker){(double *)(scratch + d->tile_sums), scratch + d->block,
                                   scratch + d->weighted, (double *)(scratch + d->products)};
}

static size_t panel_end(const struct nt_xent_run *d, size_t panel)
{
    return smaller((panel + 1) * d->width, d->call->rows);
}

/* The row that forms a pair with this one. */
static size_t partner(const struct nt_xent *call, size_t row)
{
    const size_t half = call->rows / 2;
    return call->interleaved ? row ^ 1 : row < half ? row + half : row - half;
}

static double element(const struct nt_xent_run *d, const char *elements, size_t i)
{
    return d->size == sizeof(double) ? ((const double *)elements)[i]
                                     : (double)((const float *)elements)[i];
}

static void set_element(const struct nt_xent_run *d, char *elements, size_t i, double value)
{
    if (d->size == sizeof(double)) {
        ((double *)elements)[i] = value;
    } else {
        ((float *)elements)[i] = (float)value;
    }
}

/* ---- normalised rows ---- */

static const char *view_row(const struct nt_xent_run *d, size_t row)
{
    const size_t half = d->call->rows / 2;
    return (const char *)d->call->views[row >= half] +
           (row >= half ? row - half : row) * d->call->depth * d->size;
}

static struct row_sums square_of(const struct nt_xent_run *d, const char *row)
{
    const enum compute_type compute = d->call->compute;
    const size_t depth = d->call->depth;
    struct row_sums sums = {0};
    if (depth <= ROW_BLOCK) {
        kernels_current()->sums->rows[compute_element(compute)][SUMS_SQUARE](
            NULL, &sums.xx, NULL, row, NULL, 1, depth, 0, 0);
    }
    if (depth > ROW_BLOCK || (compute == COMPUTE_F64 && !square_is_safe(sums.xx))) {
        const struct operand operand = {row, (enum dtype)compute_element(compute), false, true};
        const struct axes reduced = {1, {{depth, (ptrdiff_t)d->size, 0, 0}}};
        sums = row_sums_of(
            &(struct row_pair){&operand, NULL, row, NULL, &reduced, depth, compute, SUMS_SQUARE});
    }
    return sums;
}

static void normalise(const struct nt_xent_run *d, size_t i)
{
    char *to = d->rows + i * d->row_step;
    const char *row = view_row(d, i);
    const struct row_sums sums = square_of(d, row);
    const double norm = sqrt(sums.xx);
    const bool clamped = eps_clamps(norm, eps_scaled(d->call->eps, sums.x_exponent));
    const double factor = clamped ? 1.0 / d->call->eps : ldexp(1.0 / norm, -sums.x_exponent);
    d->kernels->scale(to, row, factor, d->call->depth);
    d->factors[i] = factor / ((double)d->call->rows * d->call->temperature);
    d->projected[i] = clamped ? 0.0 : 1.0;
    if (d->call->depth == 0) {
        memset(to, 0, d->size);
    }
}

/* Writes the normalised rows of a panel in all three layouts. */
static void prepare_panel(void *context, size_t panel, size_t worker)
{
    const struct nt_xent_run *d = context;
    const size_t first = panel * d->width, end = panel_end(d, panel), padded = first + d->width;
    const void *rows[GEMM_MAX_COLUMNS];
    (void)worker;
    for (size_t i = first; i < end; i++) {
        normalise(d, i);
    }
    for (size_t i = end; i < padded; i++) {
        d->factors[i] = d->projected[i] = 0.0;
        set_element(d, d->weights, i, 0.0);
    }
    if (end == d->call->rows) {
        memset(d->rows + end * d->row_step, 0,
               (d->panels * d->width + d->tile_rows - end) * d->row_step);
    }
    for (size_t r = 0; r < d->width; r++) {
        rows[r] = d->rows + (first + r) * d->row_step;
    }
    d->transpose(d->packed + first * d->depth * d->size, d->width, rows, d->width, d->depth);
    if (d->call->gradients[0] != NULL) {
        d->transpose(d->columns + first * d->size, d->column_step / d->size, rows, d->width,
                     d->depth);
    }
}

/* ---- blocks ---- */

/* Writes block (end - first, width): the exponentials, or exponents, of the similarities of rows
 * [first, end) with the rows of a panel. The entry of a row with itself is e^-infinity = 0. */
static void fill_block(const struct nt_xent_run *d, const struct nt_xent_worker *w, size_t panel,
                       size_t first, size_t end, char *block)
{
    const size_t base = panel * d->width;
    const char *packed = d->packed + base * d->depth * d->size;
    const void *rows[GEMM_MAX_COLUMNS];
    for (size_t j = first; j < end; j += d->tile_rows) {
        for (size_t r = 0; r < d->tile_rows; r++) {
            rows[r] = d->rows + (j + r) * d->row_step;
        }
        for (size_t at = 0, n; at < d->depth; at += n) {
            n = smaller(TILE_DEPTH, d->depth - at);
            const unsigned flags =
                (at == 0 ? TILE_FIRST : 0) | (at + n == d->depth ? TILE_LAST : 0);
            d->tile(w->tile_sums, w->tile_sums + d->tile_rows * d->width, rows,
                    packed + at * d->width * d->size, at, n, flags);
        }
        d->kernels->exponents(block + (j - first) * d->width * d->size, w->tile_sums,
                              smaller(d->tile_rows, end - j) * d->width, d->factor, d->shift,
                              d->exponential);
    }
    for (size_t i = larger(first, base); i < smaller(end, panel_end(d, panel)); i++) {
        set_element(d, block, (i - first) * d->width + (i - base),
                    d->exponential ? 0.0 : -INFINITY);
    }
}

static char *matrix_at(const struct nt_xent_run *d, size_t panel, size_t row)
{
    return d->matrix + (panel * d->call->rows + row) * d->width * d->size;
}

static const char *block_at(const struct nt_xent_run *d, const struct nt_xent_worker *w,
                            size_t panel, size_t first, size_t end)
{
    if (d->matrix != NULL) {
        return matrix_at(d, panel, first);
    }
    fill_block(d, w, panel, first, end, w->block);
    return w->block;
}

/* Computes a panel's part of the matrix for all rows up to the end of the panel, and mirrors it
 * into the rows of this panel in the parts of the panels before it. */
static void fill_matrix(void *context, size_t task, size_t worker)
{
    const struct nt_xent_run *d = context;
    const struct nt_xent_worker w = worker_at(d, worker);
    const size_t panel = d->panels - 1 - task, base = panel * d->width,
                 columns = panel_end(d, panel) - base;
    /* Task 0 is the last panel, because it takes the most time. */
    const void *rows[GEMM_MAX_COLUMNS];
    for (size_t first = 0, end; first < base + columns && !cancel_poll(d->call->token, worker);
         first = end) {
        end = smaller(first + MIRROR_PANELS * d->width, base + columns);
        fill_block(d, &w, panel, first, end, matrix_at(d, panel, first));
        for (size_t other = first; other < smaller(end, base); other += d->width) {
            for (size_t r = 0; r < d->width; r++) {
                rows[r] = matrix_at(d, panel, other + r);
            }
            d->transpose(matrix_at(d, other / d->width, base), d->width, rows, d->width, columns);
        }
    }
}

/* ---- sums and the loss ---- */

static void sum_panel(void *context, size_t panel, size_t worker)
{
    const struct nt_xent_run *d = context;
    const struct nt_xent_worker w = worker_at(d, worker);
    const size_t base = panel * d->width, columns = panel_end(d, panel) - base;
    double sums[GEMM_MAX_COLUMNS] = {0.0}, pairs[GEMM_MAX_COLUMNS];
    _Alignas(64) char maxima[GEMM_MAX_COLUMNS * sizeof(double)];
    for (size_t c = 0; c < d->width; c++) {
        set_element(d, maxima, c, d->size == sizeof(double) ? -1.7e308 : -3.4e38);
    }
    for (size_t first = 0, end; first < d->call->rows && !cancel_poll(d->call->token, worker);
         first = end) {
        end = smaller(first + BLOCK, d->call->rows);
        const char *block = block_at(d, &w, panel, first, end);
        if (d->exponential) {
            d->kernels->sums(sums, block, end - first);
        } else {
            d->kernels->log_sums(sums, maxima, block, end - first);
        }
        for (size_t c = 0; c < columns; c++) {
            const size_t other = partner(d->call, base + c);
            if (other >= first && other < end) {
                pairs[c] = element(d, block, (other - first) * d->width + c);
            }
        }
    }
    for (size_t c = 0; c < columns && !cancel_requested(d->call->token); c++) {
        const double sum = d->exponential ? sums[c] : log(sums[c]) + element(d, maxima, c);
        d->sums[base + c] = sum;
        d->losses[base + c] = d->exponential ? log(sum / pairs[c]) : sum - pairs[c];
        set_element(d, d->weights, base + c, d->exponential ? 1.0 / sum : -sum);
    }
}

/* ---- the gradient ---- */

/* The weight of a positive pair (i, j) in the gradient. It is computed in double, because late in
 * training it is the difference of two numbers near 1. */
static double pair_weight(const struct nt_xent_run *d, double element, size_t i, size_t j)
{
    const double x = d->sums[i], y = d->sums[j];
    return d->exponential ? (element - x) / x + (element - y) / y
                          : expm1(element - x) + expm1(element - y);
}

/* Writes the weights (end - first, width) of a block for the second product. */
static void weigh_block(const struct nt_xent_run *d, const struct nt_xent_worker *w, size_t panel,
                        size_t first, size_t end)
{
    const size_t base = panel * d->width;
    const char *block = block_at(d, w, panel, first, end);
    (d->exponential ? d->kernels->weigh : d->kernels->weigh_logs)(
        w->weighted, block, d->weights + first * d->size, d->weights + base * d->size, end - first);
    for (size_t i = base; i < panel_end(d, panel); i++) {
        const size_t other = partner(d->call, i);
        if (other >= first && other < end) {
            const size_t at = (other - first) * d->width + (i - base);
            set_element(d, w->weighted, at, pair_weight(d, element(d, block, at), i, other));
        }
    }
}

/* Elements of the products of one panel. */
static size_t products_of_panel(const struct nt_xent_run *d)
{
    return size_product_or_max(size_parts(d->depth, d->tile_rows), d->tile_rows * d->width);
}

/* products (depth, width) += normalised rows [first, first + n), transposed, times the weighted
 * block (n, width). */
static void add_products(const struct nt_xent_run *d, const struct nt_xent_worker *w,
                         double *products, size_t first, size_t n)
{
    const unsigned flags =
        (first == 0 ? TILE_FIRST : 0) | (first + n == d->call->rows ? TILE_LAST : 0);
    const void *columns[GEMM_MAX_COLUMNS];
    for (size_t k = 0; k < d->depth; k += d->tile_rows) {
        for (size_t r = 0; r < d->tile_rows; r++) {
            columns[r] = d->columns + smaller(k + r, d->depth - 1) * d->column_step;
        }
        double *to = products + k * d->width;
        d->tile(to, to + d->group * products_of_panel(d), columns, w->weighted, first, n, flags);
    }
}

/* Turns the products (depth, width) into the gradient of a panel's rows. */
static void store_gradient(const struct nt_xent_run *d, const struct nt_xent_worker *w,
                           size_t panel, const double *products)
{
    const size_t base = panel * d->width, end = panel_end(d, panel), half = d->call->rows / 2,
                 depth = d->call->depth;
    const void *rows[TRANSPOSE_ROWS];
    d->kernels->project(w->weighted, products, d->packed + base * d->depth * d->size,
                        d->factors + base, d->projected + base, depth);
    for (size_t first = base, stop; first < end; first = stop) {
        stop = first < half ? smaller(half, end) : end;
        char *to = (char *)d->call->gradients[first >= half] +
                   (first >= half ? first - half : first) * depth * d->size;
        for (size_t k = 0, n; k < depth; k += n) {
            n = smaller(TRANSPOSE_ROWS, depth - k);
            for (size_t r = 0; r < n; r++) {
                rows[r] = w->weighted + ((k + r) * d->width + (first - base)) * d->size;
            }
            d->transpose(to + k * d->size, depth, rows, n, stop - first);
        }
    }
}

static void differentiate(void *context, size_t task, size_t worker)
{
    const struct nt_xent_run *d = context;
    const struct nt_xent_worker w = worker_at(d, worker);
    const size_t first_panel = task * d->group,
                 end_panel = smaller(first_panel + d->group, d->panels);
    for (size_t first = 0, end; first < d->call->rows; first = end) {
        end = smaller(first + BLOCK, d->call->rows);
        for (size_t panel = first_panel; panel < end_panel; panel++) {
            if (cancel_poll(d->call->token, worker)) {
                return;
            }
            weigh_block(d, &w, panel, first, end);
            add_products(d, &w, w.products + (panel - first_panel) * products_of_panel(d), first,
                         end - first);
        }
    }
    for (size_t panel = first_panel; panel < end_panel; panel++) {
        store_gradient(d, &w, panel, w.products + (panel - first_panel) * products_of_panel(d));
    }
}

/* ---- memory, and the four passes ---- */

/* Reserves `wanted` bytes at the end of a block of *bytes bytes; returns their offset. */
static size_t reserve(size_t *bytes, size_t wanted)
{
    const size_t at = *bytes;
    *bytes = size_sum_or_max(at, scratch_round(wanted));
    return at;
}

/* Bytes from row to row: an odd number of cache lines, so that adjacent rows do not evict each
 * other from the cache. */
static size_t odd_step(size_t bytes)
{
    return scratch_round(bytes) | SCRATCH_ALIGN;
}

static void plan_worker_scratch(struct nt_xent_run *d, bool gradients)
{
    const size_t product = products_of_panel(d), errors = d->call->compute == COMPUTE_F64 ? 2 : 1;
    const size_t most = larger(GROUP_BYTES / sizeof(double) / product, 1), row = d->width * d->size;
    d->group =
        d->panels < (size_t)pool_get_threads() * PANELS_PER_THREAD ? 1 : smaller(GROUP, most);
    d->tile_sums = reserve(&d->worker_scratch, errors * d->tile_rows * d->width * sizeof(double));
    d->block = reserve(&d->worker_scratch, BLOCK * row);
    d->weighted = reserve(&d->worker_scratch, size_product_or_max(larger(BLOCK, d->depth), row));
    d->products =
        reserve(&d->worker_scratch,
                gradients ? size_product_or_max(errors * d->group * sizeof(double), product) : 0);
}

/* Allocates one block of memory for everything and sets the pointers into it. NULL when there is no
 * memory. */
static char *plan_scratch(struct nt_xent_run *d, int threads)
{
    const bool gradients = d->call->gradients[0] != NULL;
    const size_t padded = d->panels * d->width;
    size_t bytes = 0;
    d->row_step = odd_step(size_product_or_max(d->depth, d->size));
    d->column_step = odd_step(padded * d->size);
    plan_worker_scratch(d, gradients);
    const size_t rows = reserve(&bytes, size_product_or_max(padded + d->tile_rows, d->row_step));
    const size_t packed = reserve(&bytes, size_product_or_max(padded * d->size, d->depth));
    const size_t columns =
                     reserve(&bytes, gradients ? size_product_or_max(d->depth, d->column_step) : 0),
                 weights = reserve(&bytes, padded * d->size);
    const size_t numbers = reserve(&bytes, 4 * padded * sizeof(double)),
                 scratch = reserve(&bytes, size_product_or_max((size_t)threads, d->worker_scratch));
    const size_t matrix_bytes = size_product_or_max(padded * d->size, d->call->rows);
    const bool small = matrix_bytes <= NT_XENT_MATRIX;
    const size_t matrix = reserve(&bytes, gradients && small ? matrix_bytes : 0);
    char *memory = scratch_alloc(bytes);
    if (memory == NULL) {
        return NULL;
    }
    d->rows = memory + rows;
    d->packed = memory + packed;
    d->columns = memory + columns;
    d->weights = memory + weights;
    d->sums = (double *)(memory + numbers);
    d->losses = d->sums + padded;
    d->factors = d->losses + padded;
    d->projected = d->factors + padded;
    d->scratch = memory + scratch;
    d->matrix = gradients && small ? memory + matrix : NULL;
    return memory;
}

int nt_xent(const struct nt_xent *call, double *loss)
{
    const struct tile_kernels *tiles = kernels_current()->tiles;
    const bool f64 = call->compute == COMPUTE_F64;
    /* So that the product of rows and a bounded number cannot overflow. */
    if (call->rows >> MAX_ROWS_BITS != 0) {
        return -1;
    }
    struct nt_xent_run d = {
        .call = call,
        .kernels = f64 ? &tiles->xent_f64 : &tiles->xent_f32,
        .tile = f64 ? tiles->tile_f64 : tiles->tile_f32,
        .transpose = f64 ? tiles->transpose_f64 : tiles->transpose_f32,
        .size = compute_size(call->compute),
        .tile_rows = tiles->rows,
        .width = f64 ? tiles->columns_f64 : tiles->columns_f32,
        .depth = larger(call->depth, 1), /* rows without elements count as rows of one zero */
        .exponential = 2.0 / call->temperature <= (f64 ? max_exponent_f64 : max_exponent_f32),
        .factor = 1.0 / call->temperature,
    };
    d.shift = d.exponential ? -d.factor : 0.0;
    d.panels = size_parts(call->rows, d.width);
    int threads =
        thread_count_for(size_product_or_max(call->rows, call->rows), d.depth, GRAIN_GEMM);
    threads = (size_t)threads < d.panels ? threads : (int)d.panels;
    char *memory = plan_scratch(&d, threads);
    if (memory == NULL) {
        return -1;
    }
    pool_run(d.panels, threads, prepare_panel, &d, call->token);
    if (d.matrix != NULL) {
        pool_run(d.panels, threads, fill_matrix, &d, call->token);
    }
    pool_run(d.panels, threads, sum_panel, &d, call->token);
    *loss = 0.0;
    for (size_t i = 0; i < call->rows && !cancel_requested(call->token); i++) {
        *loss += d.losses[i] / (double)call->rows;
    }
    if (call->gradients[0] != NULL) {
        pool_run(size_parts(d.panels, d.group), threads, differentiate, &d, call->token);
    }
    scratch_free(memory);
    return 0;
}
