#include "simclr/nt_xent.h"

#include <math.h>
#include <string.h>

#include "base/eps.h"
#include "base/pool.h"
#include "base/scratch.h"
#include "vectors/row_sums.h"
#include "pairwise/gemm.h"

/*
 * The loss needs the matrix of exponentials e^((s - 1) / t), (rows, rows), and its gradient needs
 * the product of this matrix with the normalised rows. Both are computed in blocks. A panel is
 * `width` neighbouring rows. A block, (n, width), holds the exponentials of n rows with the rows of
 * a panel. The first product computes the similarities of a block, which then become exponentials.
 * The second product multiplies the blocks of a panel with the normalised rows. Because the matrix
 * is symmetric, a block has the layout of a packed panel of this product and needs no packing.
 *
 * The matrix is symmetric because the shift of 1 is the same for all rows. So each exponential of a
 * stored matrix is computed once and serves two rows. If e^(-2 / t) is below the range of the type,
 * blocks hold the exponents s / t, and each row keeps its own running maximum.
 *
 * There are four passes: prepare_panel, fill_matrix, sum_panel and differentiate. A task is a panel
 * or, in differentiate, a group of panels. It writes only the data of its panels and, in
 * fill_matrix, the blocks mirrored from them. The sum of a row has one order for any number of
 * threads.
 */
enum {
    BLOCK = TILE_DEPTH, /* upper limit of the rows of a block; sums of blocks are added in double */
    /* Panels of a group. The second product processes them together, to read the rows once. */
    GROUP = 4,
    GROUP_BYTES = 1 << 20, /* upper limit of the sums of a group */
    PANELS_PER_THREAD = 8, /* a group is one panel if each thread has fewer panels than this */
    /* fill_matrix mirrors the rows of this many panels at a time. Three panels make whole tiles,
     * except float64 on NEON, where 12 rows are 1.5 tiles. */
    MIRROR_PANELS = 3,
    TRANSPOSE_ROWS = 64, /* rows transposed at a time */
    MAX_ROWS_BITS = 32   /* rows must be below 2^32 */
};

/* e^x is a normal number of the type for x >= -max_exponent. lowest is finite. */
static const double max_exponent[] = {[COMPUTE_F32] = 80.0, [COMPUTE_F64] = 700.0},
                    lowest[] = {[COMPUTE_F32] = -3.4e38, [COMPUTE_F64] = -1.7e308};

struct nt_xent_state {
    const struct nt_xent *call;
    const struct xent_kernels *kernels;
    tile_kernel *tile;
    transpose_kernel *transpose;
    size_t size;             /* bytes of an element */
    size_t tile_rows, width; /* rows of a tile; columns of a tile and of a panel */
    size_t depth, panels;
    bool exponential;     /* blocks hold exponentials, not exponents */
    double factor, shift; /* exponent = similarity * factor + shift */
    char *rows;           /* normalised rows, row_step bytes apart, followed by zero rows */
    size_t row_step;
    char *packed;  /* the normalised rows packed into panels, [panels][depth][width] */
    char *columns; /* the normalised rows transposed, column_step bytes apart; for gradients */
    size_t column_step;
    char *weights;     /* elements: 1 / sum of each row, or -log(sum) */
    double *sums;      /* sum of each row, or log(sum) */
    double *losses;    /* loss of each row */
    double *factors;   /* factor of each row's gradient */
    double *projected; /* 0 if eps clamps the norm of the row, otherwise 1 */
    char *matrix;      /* all blocks, [panels][rows][width]; NULL: each use computes its block */
    size_t group;      /* panels of a group */
    char *scratch;
    size_t worker_scratch; /* bytes of one worker */
};

struct nt_xent_worker {
    double *tile_sums;
    char *block, *weighted;
    double *products;
};

/* Returns the number of elements of the products of one panel. */
static size_t products_of_panel(const struct nt_xent_state *s)
{
    return size_product_or_max(size_parts(s->depth, s->tile_rows), s->tile_rows * s->width);
}

static struct nt_xent_worker take_worker(const struct nt_xent_state *s, struct arena *arena)
{
    const size_t row = s->width * s->size, errors = s->call->compute == COMPUTE_F64 ? 2 : 1,
                 product = size_product_or_max(products_of_panel(s), sizeof(double));
    struct nt_xent_worker w;
    w.tile_sums = arena_take(arena, errors * s->tile_rows * s->width, sizeof(double));
    w.block = arena_take(arena, BLOCK, row);
    w.weighted = arena_take(arena, larger(BLOCK, s->depth), row);
    w.products = arena_take(arena, s->call->gradients[0] != NULL ? errors * s->group : 0, product);
    return w;
}

static struct nt_xent_worker worker_at(const struct nt_xent_state *s, size_t worker)
{
    struct arena arena = {.block = s->scratch + worker * s->worker_scratch};
    return take_worker(s, &arena);
}

static size_t panel_end(const struct nt_xent_state *s, size_t panel)
{
    return smaller((panel + 1) * s->width, s->call->rows);
}

/* Returns p(row): the row that forms a pair with this one. */
static size_t partner(const struct nt_xent *call, size_t row)
{
    const size_t half = call->rows / 2;
    if (call->interleaved) {
        return row ^ 1;
    }
    return row < half ? row + half : row - half;
}

/* True if rows i and j are different rows of the same class. */
static bool is_pair(const struct nt_xent *call, size_t i, size_t j)
{
    return i != j && call->classes[i] == call->classes[j];
}

/* ---- normalised rows ---- */

static const char *view_row(const struct nt_xent_state *s, size_t row)
{
    const size_t half = s->call->rows / 2;
    return (const char *)s->call->views[row >= half] +
           (row >= half ? row - half : row) * s->call->depth * s->size;
}

/* Returns the sum of squares of a row in xx, and x_exponent if the row had to be scaled. */
static struct row_sums square_of(const struct nt_xent_state *s, const char *row)
{
    const enum compute_type compute = s->call->compute;
    const size_t depth = s->call->depth;
    struct row_sums sums = {0};
    if (depth <= ROW_BLOCK) {
        kernels_current()->sums->rows[compute_element(compute)][SUMS_SQUARE](
            &(struct sums_call){.x = row, .rows = 1, .n = depth, .sums = &sums.xx});
    }
    if (depth > ROW_BLOCK || (compute == COMPUTE_F64 && !square_is_safe(sums.xx))) {
        const struct operand operand = {
            .data = row, .dtype = (enum dtype)compute_element(compute), .aligned = true};
        const struct axes reduced = {1, {{depth, (ptrdiff_t)s->size, 0, 0}}};
        sums = row_sums_of(
            &(struct row_pair){&operand, NULL, row, NULL, &reduced, depth, compute, SUMS_SQUARE});
    }
    return sums;
}

/* Writes normalised row i, and the numbers that its gradient needs. */
static void normalise(const struct nt_xent_state *s, size_t i)
{
    char *to = s->rows + i * s->row_step;
    const char *row = view_row(s, i);
    const struct row_sums sums = square_of(s, row);
    const double norm = sqrt(sums.xx);
    const bool clamped = eps_clamps(norm, eps_scaled(s->call->eps, sums.x_exponent));
    const double factor = clamped ? 1.0 / s->call->eps : ldexp(1.0 / norm, -sums.x_exponent);
    s->kernels->scale(to, row, factor, s->call->depth);
    s->factors[i] = factor / ((double)s->call->rows * s->call->temperature);
    s->projected[i] = clamped ? 0.0 : 1.0;
    if (s->call->depth == 0) {
        memset(to, 0, s->size);
    }
}

/* Writes the normalised rows of a panel: rows, packed and, for gradients, columns. */
static void prepare_panel(void *context, size_t panel, size_t worker)
{
    const struct nt_xent_state *s = context;
    const size_t first = panel * s->width, end = panel_end(s, panel), padded = first + s->width;
    const void *rows[GEMM_MAX_COLUMNS];
    (void)worker;
    for (size_t i = first; i < end; i++) {
        normalise(s, i);
    }
    for (size_t i = end; i < padded; i++) {
        s->factors[i] = s->projected[i] = 0.0;
        compute_store(s->call->compute, s->weights, i, 0.0);
    }
    if (end == s->call->rows) {
        memset(s->rows + end * s->row_step, 0,
               (s->panels * s->width + s->tile_rows - end) * s->row_step);
    }
    for (size_t r = 0; r < s->width; r++) {
        rows[r] = s->rows + (first + r) * s->row_step;
    }
    s->transpose(s->packed + first * s->depth * s->size, s->width, rows, s->width, s->depth);
    if (s->call->gradients[0] != NULL) {
        s->transpose(s->columns + first * s->size, s->column_step / s->size, rows, s->width,
                     s->depth);
    }
}

/* ---- blocks ---- */

/* Writes the block (end - first, width) of rows [first, end) and a panel: exponentials or
 * exponents. A row with itself has the exponent -infinity and the exponential 0. */
static void fill_block(const struct nt_xent_state *s, const struct nt_xent_worker *w, size_t panel,
                       size_t first, size_t end, char *block)
{
    const size_t base = panel * s->width;
    const char *packed = s->packed + base * s->depth * s->size;
    const void *rows[GEMM_MAX_COLUMNS];
    for (size_t j = first; j < end; j += s->tile_rows) {
        for (size_t r = 0; r < s->tile_rows; r++) {
            rows[r] = s->rows + (j + r) * s->row_step;
        }
        for (size_t at = 0, n; at < s->depth; at += n) {
            n = smaller(TILE_DEPTH, s->depth - at);
            const unsigned flags =
                (at == 0 ? TILE_FIRST : 0) | (at + n == s->depth ? TILE_LAST : 0);
            s->tile(w->tile_sums, w->tile_sums + s->tile_rows * s->width, rows,
                    packed + at * s->width * s->size, at, n, flags, 0);
        }
        s->kernels->exponents(block + (j - first) * s->width * s->size, w->tile_sums,
                              smaller(s->tile_rows, end - j) * s->width, s->factor, s->shift,
                              s->exponential);
    }
    for (size_t i = larger(first, base); i < smaller(end, panel_end(s, panel)); i++) {
        compute_store(s->call->compute, block, (i - first) * s->width + (i - base),
                      s->exponential ? 0.0 : -INFINITY);
    }
}

static char *matrix_at(const struct nt_xent_state *s, size_t panel, size_t row)
{
    return s->matrix + (panel * s->call->rows + row) * s->width * s->size;
}

/* Returns the block of rows [first, end) and a panel, computed if the matrix is not kept. */
static const char *block_at(const struct nt_xent_state *s, const struct nt_xent_worker *w,
                            size_t panel, size_t first, size_t end)
{
    if (s->matrix != NULL) {
        return matrix_at(s, panel, first);
    }
    fill_block(s, w, panel, first, end, w->block);
    return w->block;
}

/* Computes the blocks of a panel for all rows up to the end of the panel. The matrix is symmetric,
 * so the blocks of rows before the panel are also stored transposed: they are the blocks of this
 * panel's rows with earlier panels. */
static void fill_matrix(void *context, size_t task, size_t worker)
{
    const struct nt_xent_state *s = context;
    const struct nt_xent_worker w = worker_at(s, worker);
    /* Task 0 is the last panel, because it takes the most time. */
    const size_t panel = s->panels - 1 - task, base = panel * s->width,
                 columns = panel_end(s, panel) - base;
    const void *rows[GEMM_MAX_COLUMNS];
    for (size_t first = 0, end; first < base + columns && !cancel_poll(s->call->token, worker);
         first = end) {
        end = smaller(first + MIRROR_PANELS * s->width, base + columns);
        fill_block(s, &w, panel, first, end, matrix_at(s, panel, first));
        for (size_t other = first; other < smaller(end, base); other += s->width) {
            for (size_t r = 0; r < s->width; r++) {
                rows[r] = matrix_at(s, panel, other + r);
            }
            s->transpose(matrix_at(s, other / s->width, base), s->width, rows, s->width, columns);
        }
    }
}

/* ---- sums and the loss ---- */

/* Adds the exponents of the pairs of row base + c with rows [first, end) to sums[c]. */
static void add_class_exponents(const struct nt_xent_state *s, const char *block, size_t base,
                                size_t columns, size_t first, size_t end, double *sums)
{
    for (size_t i = first; i < end; i++) {
        for (size_t c = 0; c < columns; c++) {
            if (is_pair(s->call, i, base + c)) {
                const double element =
                    compute_load(s->call->compute, block, (i - first) * s->width + c);
                sums[c] += s->exponential ? log(element) : element;
            }
        }
    }
}

/* Computes the sums, losses and weights of the rows of a panel. */
static void sum_panel(void *context, size_t panel, size_t worker)
{
    const struct nt_xent_state *s = context;
    const struct nt_xent_worker w = worker_at(s, worker);
    const size_t base = panel * s->width, columns = panel_end(s, panel) - base;
    double sums[GEMM_MAX_COLUMNS] = {0.0}, pairs[GEMM_MAX_COLUMNS] = {0.0};
    _Alignas(64) char maxima[GEMM_MAX_COLUMNS * sizeof(double)];
    for (size_t c = 0; c < s->width; c++) {
        compute_store(s->call->compute, maxima, c, lowest[s->call->compute]);
    }
    for (size_t first = 0, end; first < s->call->rows && !cancel_poll(s->call->token, worker);
         first = end) {
        end = smaller(first + BLOCK, s->call->rows);
        const char *block = block_at(s, &w, panel, first, end);
        if (s->exponential) {
            s->kernels->sums(sums, block, end - first);
        } else {
            s->kernels->log_sums(sums, maxima, block, end - first);
        }
        if (s->call->classes != NULL) {
            add_class_exponents(s, block, base, columns, first, end, pairs);
            continue;
        }
        for (size_t c = 0; c < columns; c++) {
            const size_t other = partner(s->call, base + c);
            if (other >= first && other < end) {
                pairs[c] = compute_load(s->call->compute, block, (other - first) * s->width + c);
            }
        }
    }
    for (size_t c = 0; c < columns && !cancel_requested(s->call->token); c++) {
        const double sum =
            s->exponential ? sums[c] : log(sums[c]) + compute_load(s->call->compute, maxima, c);
        s->sums[base + c] = sum;
        if (s->call->classes != NULL) {
            s->losses[base + c] =
                (s->exponential ? log(sum) : sum) - pairs[c] / s->call->positives[base + c];
        } else {
            s->losses[base + c] = s->exponential ? log(sum / pairs[c]) : sum - pairs[c];
        }
        compute_store(s->call->compute, s->weights, base + c, s->exponential ? 1.0 / sum : -sum);
    }
}

/* ---- the gradient ---- */

/* Returns the weight of a positive pair (i, j) in the gradient. `element` is the pair's element of
 * the matrix. Late in training, both terms are differences of almost equal numbers, so they are
 * computed in double. */
static double pair_weight(const struct nt_xent_state *s, double element, size_t i, size_t j)
{
    const double x = s->sums[i], y = s->sums[j];
    return s->exponential ? (element - x) / x + (element - y) / y
                          : expm1(element - x) + expm1(element - y);
}

/* Returns the weight of two rows (i, j) of the same class. share is 1 / |P(i)|. */
static double class_weight(const struct nt_xent_state *s, double element, double share, size_t i,
                           size_t j)
{
    const double x = s->sums[i], y = s->sums[j];
    return s->exponential ? (element - share * x) / x + (element - share * y) / y
                          : (exp(element - x) - share) + (exp(element - y) - share);
}

static void weigh_classes(const struct nt_xent_state *s, const struct nt_xent_worker *w,
                          const char *block, size_t panel, size_t first, size_t end)
{
    const size_t base = panel * s->width, columns = panel_end(s, panel) - base;
    for (size_t i = first; i < end; i++) {
        const double share = 1.0 / s->call->positives[i];
        for (size_t c = 0; c < columns; c++) {
            if (is_pair(s->call, i, base + c)) {
                const size_t at = (i - first) * s->width + c;
                const double element = compute_load(s->call->compute, block, at);
                compute_store(s->call->compute, w->weighted, at,
                              class_weight(s, element, share, i, base + c));
            }
        }
    }
}

/* Writes w->weighted, (end - first, width): the weights of a block in the second product. */
static void weigh_block(const struct nt_xent_state *s, const struct nt_xent_worker *w, size_t panel,
                        size_t first, size_t end)
{
    const size_t base = panel * s->width;
    const char *block = block_at(s, w, panel, first, end);
    (s->exponential ? s->kernels->weigh : s->kernels->weigh_logs)(
        w->weighted, block, s->weights + first * s->size, s->weights + base * s->size, end - first);
    if (s->call->classes != NULL) {
        weigh_classes(s, w, block, panel, first, end);
        return;
    }
    for (size_t i = base; i < panel_end(s, panel); i++) {
        const size_t other = partner(s->call, i);
        if (other >= first && other < end) {
            const size_t at = (other - first) * s->width + (i - base);
            compute_store(s->call->compute, w->weighted, at,
                          pair_weight(s, compute_load(s->call->compute, block, at), i, other));
        }
    }
}

/* Adds the transpose, (depth, n), of normalised rows [first, first + n) times the weighted block
 * (n, width) to the products (depth, width) of a panel. */
static void add_products(const struct nt_xent_state *s, const struct nt_xent_worker *w,
                         double *products, size_t first, size_t n)
{
    const unsigned flags =
        (first == 0 ? TILE_FIRST : 0) | (first + n == s->call->rows ? TILE_LAST : 0);
    const void *columns[GEMM_MAX_COLUMNS];
    for (size_t k = 0; k < s->depth; k += s->tile_rows) {
        for (size_t r = 0; r < s->tile_rows; r++) {
            columns[r] = s->columns + smaller(k + r, s->depth - 1) * s->column_step;
        }
        double *to = products + k * s->width;
        s->tile(to, to + s->group * products_of_panel(s), columns, w->weighted, first, n, flags, 0);
    }
}

/* Turns the products (depth, width) into the gradients of a panel's rows. */
static void store_gradient(const struct nt_xent_state *s, const struct nt_xent_worker *w,
                           size_t panel, const double *products)
{
    const size_t base = panel * s->width, end = panel_end(s, panel), half = s->call->rows / 2,
                 depth = s->call->depth;
    const void *rows[TRANSPOSE_ROWS];
    s->kernels->project(w->weighted, products, s->packed + base * s->depth * s->size,
                        s->factors + base, s->projected + base, depth);
    for (size_t first = base, stop; first < end; first = stop) {
        stop = first < half ? smaller(half, end) : end;
        char *to = (char *)s->call->gradients[first >= half] +
                   (first >= half ? first - half : first) * depth * s->size;
        for (size_t k = 0, n; k < depth; k += n) {
            n = smaller(TRANSPOSE_ROWS, depth - k);
            for (size_t r = 0; r < n; r++) {
                rows[r] = w->weighted + ((k + r) * s->width + (first - base)) * s->size;
            }
            s->transpose(to + k * s->size, depth, rows, n, stop - first);
        }
    }
}

/* Computes the gradients of the rows of a group of panels. */
static void differentiate(void *context, size_t task, size_t worker)
{
    const struct nt_xent_state *s = context;
    const struct nt_xent_worker w = worker_at(s, worker);
    const size_t first_panel = task * s->group,
                 end_panel = smaller(first_panel + s->group, s->panels);
    for (size_t first = 0, end; first < s->call->rows; first = end) {
        end = smaller(first + BLOCK, s->call->rows);
        for (size_t panel = first_panel; panel < end_panel; panel++) {
            if (cancel_poll(s->call->token, worker)) {
                return;
            }
            weigh_block(s, &w, panel, first, end);
            add_products(s, &w, w.products + (panel - first_panel) * products_of_panel(s), first,
                         end - first);
        }
    }
    for (size_t panel = first_panel; panel < end_panel; panel++) {
        store_gradient(s, &w, panel, w.products + (panel - first_panel) * products_of_panel(s));
    }
}

/* ---- memory, and the four passes ---- */

/* Returns the distance between rows of `bytes` bytes: an odd number of cache lines, so that
 * adjacent rows do not evict each other from the cache. */
static size_t odd_step(size_t bytes)
{
    return scratch_round(bytes) | SCRATCH_ALIGN;
}

/* Allocates the memory of a call for `workers` threads. Returns it, or NULL when it runs out. */
static void *alloc_arrays(struct nt_xent_state *s, size_t workers)
{
    const bool gradients = s->call->gradients[0] != NULL;
    const size_t padded = s->panels * s->width, row = padded * s->size,
                 group = larger(GROUP_BYTES / sizeof(double) / products_of_panel(s), 1);
    struct arena arena = {.block = NULL}, worker = {.block = NULL};
    s->row_step = odd_step(size_product_or_max(s->depth, s->size));
    s->column_step = odd_step(row);
    s->group =
        s->panels < (size_t)pool_get_threads() * PANELS_PER_THREAD ? 1 : smaller(GROUP, group);
    take_worker(s, &worker);
    s->worker_scratch = worker.bytes;
    while (arena_pass(&arena)) {
        s->rows = arena_take(&arena, padded + s->tile_rows, s->row_step);
        s->packed = arena_take(&arena, s->depth, row);
        s->columns = arena_take(&arena, gradients ? s->depth : 0, s->column_step);
        s->weights = arena_take(&arena, padded, s->size);
        s->sums = arena_take(&arena, padded, sizeof *s->sums);
        s->losses = arena_take(&arena, padded, sizeof *s->losses);
        s->factors = arena_take(&arena, padded, sizeof *s->factors);
        s->projected = arena_take(&arena, padded, sizeof *s->projected);
        s->scratch = arena_take(&arena, workers, s->worker_scratch);
        if (gradients && size_product_or_max(row, s->call->rows) <= NT_XENT_MATRIX) {
            s->matrix = arena_take(&arena, s->call->rows, row);
        }
    }
    return arena.block;
}

int nt_xent(const struct nt_xent *call, double *loss)
{
    const struct tile_kernels *tiles = &kernels_current()->tiles[call->compute];
    /* With fewer rows, the number of rows times a small constant cannot overflow. */
    if (call->rows >> MAX_ROWS_BITS != 0) {
        return -1;
    }
    struct nt_xent_state s = {
        .call = call,
        .kernels = &tiles->xent,
        .tile = tiles->tile,
        .transpose = tiles->transpose,
        .size = compute_size(call->compute),
        .tile_rows = tiles->rows,
        .width = tiles->columns,
        .depth = larger(call->depth, 1), /* rows without elements become rows of one zero */
        .exponential = 2.0 / call->temperature <= max_exponent[call->compute],
        .factor = 1.0 / call->temperature,
    };
    s.shift = s.exponential ? -s.factor : 0.0;
    s.panels = size_parts(call->rows, s.width);
    const size_t pairs = size_product_or_max(call->rows, call->rows);
    const int threads =
        (int)smaller((size_t)thread_count_for(pairs, s.depth, GRAIN_GEMM), s.panels);
    void *memory = alloc_arrays(&s, (size_t)threads);
    if (memory == NULL) {
        return -1;
    }
    pool_run(s.panels, threads, prepare_panel, &s, call->token);
    if (s.matrix != NULL) {
        pool_run(s.panels, threads, fill_matrix, &s, call->token);
    }
    pool_run(s.panels, threads, sum_panel, &s, call->token);
    *loss = 0.0;
    for (size_t i = 0; i < call->rows && !cancel_requested(call->token); i++) {
        *loss += s.losses[i] / (double)call->rows;
    }
    if (call->gradients[0] != NULL) {
        pool_run(size_parts(s.panels, s.group), threads, differentiate, &s, call->token);
    }
    scratch_free(memory);
    return 0;
}
