/* The rows and columns drivers: sums for every output, then torch's formula, in blocks that stay in
 * the cache. */
#include "vectors/reduce.h"

#include <math.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "vectors/formula.h"
#include "vectors/row_sums.h"

enum {
    OUTPUTS = 512, /* outputs whose sums are held at a time */
    WIDE_OUTPUTS =
        4096, /* the same down columns, if there are so many: memory is best read in long runs */
    GATHERED = 4096, /* elements of converted rows held at a time, a side */
    POLL_STEPS =
        256, /* runs of columns or of a row's elements from one look at the watch to the next */
    POLL_EMPTY = 4096 /* the same in outputs of no elements */
};

struct reduce_driver {
    const struct reduction *call;
    const struct plan *plan;
    enum compute_type compute;
    enum sums kind;
    bool in_place; /* kernels read the operands where they are */
    struct axis
        inner; /* the outer axis closest in memory: outputs along it are calculated together */
    struct axes rest; /* the other outer axes */
    size_t outputs;   /* outputs of inner that are held at a time, at the most */
    double *scratch;  /* room for what is held of them, for each worker; NULL: the stack will do */
    size_t block;     /* outputs of inner that one task takes */
    size_t blocks;    /* tasks along inner */
};

/* What is held of an output, in doubles: the six sums that columns_kernel wants, a result,
 * converted steps of both columns. */
enum { HELD = 6 + 1 + 2 * COLUMN_STEPS };

/* Outputs first .. first+n-1 along inner, from these addresses on. */
struct output_range {
    const char *x, *y;
    char *out;
    size_t n;
};

static struct row_pair pair_at(const struct reduce_driver *d, const struct output_range *s,
                               size_t i)
{
    struct row_pair pair = {&d->call->x,
                            &d->call->y,
                            s->x + (ptrdiff_t)i * d->inner.x,
                            s->y + (ptrdiff_t)i * d->inner.y,
                            &d->plan->reduced,
                            d->plan->depth,
                            d->compute,
                            d->kind};
    return pair;
}

/* Rows converted a batch at a time; one that is too long goes through row_sums block by block. */
static void sum_rows_gathered(const struct reduce_driver *d, const struct output_range *s,
                              double *xy, double *xx, double *yy)
{
    _Alignas(64) double x[GATHERED], y[GATHERED];
    const size_t depth = d->plan->depth, size = compute_size(d->compute);
    rows_kernel *kernel = kernels_current()->sums->rows[compute_element(d->compute)][d->kind];
    if (depth > GATHERED) {
        for (size_t i = 0; i < s->n; i++) {
            struct row_pair pair = pair_at(d, s, i);
            struct row_sums sums = row_sums_plain(&pair);
            xy[i] = sums.xy;
            xx[i] = sums.xx;
            yy[i] = sums.yy;
        }
        return;
    }
    for (size_t i = 0, rows; i < s->n; i += rows) {
        rows = s->n - i < GATHERED / depth ? s->n - i : GATHERED / depth;
        for (size_t r = 0; r < rows; r++) {
            struct row_pair pair = pair_at(d, s, i + r);
            gather_row(pair.x_operand, pair.x, pair.reduced, SIDE_X, 0, depth, d->compute,
                       (char *)x + r * depth * size);
            if (d->kind != SUMS_SQUARE) {
                gather_row(pair.y_operand, pair.y, pair.reduced, SIDE_Y, 0, depth, d->compute,
                           (char *)y + r * depth * size);
            }
        }
        kernel(xy + i, xx + i, yy + i, x, y, rows, depth, (ptrdiff_t)(depth * size),
               (ptrdiff_t)(depth * size));
    }
}

/* `steps` neighbouring steps of the innermost reduced axis, n columns each, handed to the kernel in
 * place or converted. */
static void sum_some_columns(const struct reduce_driver *d, const struct output_range *s,
                             struct offsets at, size_t steps, double *sums, double *converted)
{
    const struct axis *reduced = &d->plan->reduced.at[d->plan->reduced.count - 1];
    const char *x = s->x + at.x, *y = s->y + at.y;
    if (d->in_place) {
        kernels_current()->sums->columns[d->call->x.dtype][d->kind](sums, s->n, x, y, steps,
                                                                    reduced->x, reduced->y);
        return;
    }
    double *x_block = converted, *y_block = converted + COLUMN_STEPS * s->n;
    const size_t row = s->n * compute_size(d->compute);
    for (size_t i = 0; i < steps; i++) {
        operand_load(&d->call->x, x + (ptrdiff_t)i * reduced->x, d->inner.x, s->n, d->compute,
                     (char *)x_block + i * row);
        if (d->kind != SUMS_SQUARE) {
            operand_load(&d->call->y, y + (ptrdiff_t)i * reduced->y, d->inner.y, s->n, d->compute,
                         (char *)y_block + i * row);
        }
    }
    kernels_current()->sums->columns[compute_element(d->compute)][d->kind](
        sums, s->n, x_block, y_block, steps, (ptrdiff_t)row, (ptrdiff_t)row);
}

static void sum_columns(const struct reduce_driver *d, const struct output_range *s, double *sums,
                        double *converted)
{
    const size_t n = s->n, run = d->plan->reduced.at[d->plan->reduced.count - 1].size;
    for (size_t i = 0; i < 6 * n; i++) {
        sums[i] = 0.0;
    }
    for (size_t k = 0, steps, count = 1;
         k < d->plan->depth && !(count % POLL_STEPS == 0 && cancel_poll_here());
         k += steps, count++) {
        size_t left = run - k % run;
        steps = left < COLUMN_STEPS ? left : COLUMN_STEPS;
        sum_some_columns(d, s, axes_offsets(&d->plan->reduced, k), steps, sums, converted);
    }
    for (size_t i = 0; d->compute == COMPUTE_F64 && i < 3 * n; i++) {
        double total = sums[i] + sums[i + 3 * n];
        sums[i] = isnan(total) ? sums[i] : total;
    }
}

/* One output from sums that may be those of scaled rows. */
static double finish_one(const struct reduce_driver *d, const struct row_sums *sums)
{
    const double eps = d->call->eps;
    double cosine;
    switch (d->call->op) {
    case OP_DOT:
        return ldexp(sums->xy, sums->x_exponent + sums->y_exponent);
    case OP_NORM:
        return ldexp(sqrt(sums->xx), sums->x_exponent);
    default:
        cosine = formula_cosine(sums->xy, sums->xx, sums->yy, ldexp(eps, -sums->x_exponent),
                                ldexp(eps, -sums->y_exponent));
        return d->call->op == OP_DISTANCE ? 1.0 - cosine : cosine;
    }
}

/* Cosines into results: those of clamped rows again, unless there are none (`all`); distances, if
 * they are wanted. */
static void finish_cosines(enum op op, double eps, size_t n, const double *xy, const double *xx,
                           const double *yy, double *results, bool all)
{
    const double floor = formula_unclamped_square(eps);
    for (size_t i = 0; !all && i < n; i++) {
        if (!(xx[i] >= floor && yy[i] >= floor)) {
            results[i] = formula_cosine(xy[i], xx[i], yy[i], eps, eps);
        }
    }
    for (size_t i = 0; op == OP_DISTANCE && i < n; i++) {
        results[i] = 1.0 - results[i];
    }
}

/* results[0..n-1] from the plain sums. */
static void finish_plain(enum op op, double eps, size_t n, const double *xy, const double *xx,
                         const double *yy, double *results)
{
    switch (op) {
    case OP_DOT:
        for (size_t i = 0; i < n; i++) {
            results[i] = xy[i];
        }
        break;
    case OP_NORM:
        for (size_t i = 0; i < n; i++) {
            results[i] = sqrt(xx[i]);
        }
        break;
    default: {
        bool all = true;
        if (n == 1) { /* vectors would take longer to fill */
            results[0] = formula_cosine(xy[0], xx[0], yy[0], eps, eps);
        } else {
            all = kernels_current()->sums->cosine_sums(results, xy, xx, yy, n,
                                                       formula_unclamped_square(eps));
        }
        finish_cosines(op, eps, n, xy, xx, yy, results, all);
        break;
    }
    }
}

static bool plain_is_safe(enum compute_type compute, enum sums kind, double xy, double xx,
                          double yy)
{
    if (compute == COMPUTE_F32) {
        return true;
    }
    if (kind == SUMS_DOT) {
        return isfinite(xy);
    }
    return square_is_safe(xx) && (kind == SUMS_SQUARE || square_is_safe(yy));
}

/* One row of OP_NORMALIZE: (x 2^-exponent) / divisor. */
static void normalize_run(const struct reduce_driver *d, const char *x, ptrdiff_t x_stride,
                          char *out, ptrdiff_t out_stride, size_t n, const double *divisors,
                          size_t divisor_step, const int *exponents)
{
    double block[OUTPUTS];
    for (size_t i = 0, count; i < n;
         i += count, x += (ptrdiff_t)count * x_stride, out += (ptrdiff_t)count * out_stride) {
        if (i > 0 && i % (POLL_STEPS * OUTPUTS) == 0 && cancel_poll_here()) {
            return;
        }
        count = n - i < OUTPUTS ? n - i : OUTPUTS;
        operand_load(&d->call->x, x, x_stride, count, COMPUTE_F64, block);
        for (size_t j = 0; j < count; j++) {
            const size_t which = (i + j) * divisor_step;
            if (exponents[which] != 0) {
                block[j] = ldexp(block[j], -exponents[which]);
            }
            block[j] /= divisors[which];
        }
        dtype_store(d->call->out_dtype, out, out_stride, block, count);
    }
}

static enum sums sums_for(enum op op)
{
    return op_has_one_operand(op) ? SUMS_SQUARE : op == OP_DOT ? SUMS_DOT : SUMS_ALL;
}

/* The plain sums of contiguous rows where they lie, and what is made of them; without a second pass
 * where it is cosines. */
static void rows_in_place(enum op op, double eps, enum dtype dtype, enum dtype out_dtype,
                          const struct output_range *s, ptrdiff_t x_step, ptrdiff_t y_step,
                          size_t depth, double *xy, double *xx, double *yy, double *results)
{
    const struct sums_kernels *kernels = kernels_current()->sums;
    const bool half = dtype == DTYPE_F16 || dtype == DTYPE_BF16,
               enough = !half || (op == OP_COSINE && out_dtype == dtype);
    if ((s->n > 1 || half) && enough && (op == OP_COSINE || op == OP_DISTANCE)) {
        const bool all = kernels->cosine_rows[dtype](results, xy, xx, yy, s->x, s->y, s->n, depth,
                                                     x_step, y_step, formula_unclamped_square(eps));
        finish_cosines(op, eps, s->n, xy, xx, yy, results, all);
        return;
    }
    kernels->rows[dtype][sums_for(op)](xy, xx, yy, s->x, s->y, s->n, depth, x_step, y_step);
    if (op != OP_NORMALIZE) {
        finish_plain(op, eps, s->n, xy, xx, yy, results);
    }
}

static void normalize_range(const struct reduce_driver *d, const struct output_range *s,
                            const double *xx, double *divisors, int *exponents)
{
    const struct axes *reduced = &d->plan->reduced;
    const bool columns = d->plan->driver == PLAN_COLUMNS;
    const struct axis single = {1, 0, 0, 0};
    const struct axis *run = reduced->count > 0 ? &reduced->at[reduced->count - 1] : &single;
    for (size_t i = 0; i < s->n; i++) {
        struct row_sums sums = {0.0, xx[i], 0.0, 0, 0};
        if (!plain_is_safe(d->compute, d->kind, 0.0, xx[i], 0.0)) {
            struct row_pair pair = pair_at(d, s, i);
            sums = row_sums_scaled(&pair);
        }
        const double eps = ldexp(d->call->eps, -sums.x_exponent);
        const bool lost =
            isinf(eps) && isfinite(d->call->eps); /* next to so small a row eps leaves the range: no
                                                     need to scale then */
        divisors[i] = lost ? d->call->eps : formula_clamped_norm(sums.xx, eps);
        exponents[i] = lost ? 0 : sums.x_exponent;
    }
    for (size_t k = 0, count = 1;
         k < d->plan->depth && !(count % POLL_STEPS == 0 && cancel_poll_here());
         k += columns ? 1 : run->size, count++) {
        struct offsets at = axes_offsets(reduced, k);
        if (columns) {
            normalize_run(d, s->x + at.x, d->inner.x, s->out + at.out, d->inner.out, s->n, divisors,
                          1, exponents);
            continue;
        }
        for (size_t i = 0; i < s->n; i++) {
            normalize_run(d, s->x + at.x + (ptrdiff_t)i * d->inner.x, run->x,
                          s->out + at.out + (ptrdiff_t)i * d->inner.out, run->out, run->size,
                          divisors + i, 0, exponents + i);
        }
    }
}

static void run_range(const struct reduce_driver *d, const struct output_range *s, double *sums)
{
    double *xy = sums, *xx = xy + s->n, *yy = xx + s->n, *results = sums + 6 * s->n,
           *converted = results + s->n;
    if (d->plan->driver == PLAN_COLUMNS) {
        sum_columns(d, s, sums, converted);
    } else if (d->in_place) {
        rows_in_place(d->call->op, d->call->eps, d->call->x.dtype, d->call->out_dtype, s,
                      d->inner.x, d->inner.y, d->plan->depth, xy, xx, yy, results);
    } else {
        sum_rows_gathered(d, s, xy, xx, yy);
    }
    if (d->call->op == OP_NORMALIZE) {
        normalize_range(d, s, xx, results, (int *)converted);
        return;
    }
    if (d->plan->driver == PLAN_COLUMNS || !d->in_place) {
        finish_plain(d->call->op, d->call->eps, s->n, xy, xx, yy, results);
    }
    for (size_t i = 0; d->compute == COMPUTE_F64 && i < s->n; i++) {
        if (!plain_is_safe(d->compute, d->kind, xy[i], xx[i], yy[i])) {
            struct row_pair pair = pair_at(d, s, i);
            struct row_sums scaled = row_sums_scaled(&pair);
            results[i] = finish_one(d, &scaled);
        }
    }
    dtype_store(d->call->out_dtype, s->out, d->inner.out, results, s->n);
}

bool reduce_few_rows(enum op op, double eps, enum dtype dtype, const void *x, const void *y,
                     size_t rows, size_t depth, double *results)
{
    const struct output_range stretch = {x, y, NULL, rows};
    const ptrdiff_t step = (ptrdiff_t)(depth * dtype_size(dtype));
    double xy[FEW_ROWS], xx[FEW_ROWS], yy[FEW_ROWS];
    if (depth == 0) {
        return false;
    }
    rows_in_place(op, eps, dtype, dtype, &stretch, step, step, depth, xy, xx, yy, results);
    for (size_t i = 0; dtype == DTYPE_F64 && i < rows; i++) {
        if (!plain_is_safe(COMPUTE_F64, sums_for(op), xy[i], xx[i], yy[i])) {
            return false;
        }
    }
    return true;
}

/* Task: `block` outputs along inner at one place of the rest. */
static void run_task(void *context, size_t task, size_t worker)
{
    const struct reduce_driver *d = context;
    struct offsets at = axes_offsets(&d->rest, task / d->blocks);
    size_t first = task % d->blocks * d->block,
           end = first + d->block < d->inner.size ? first + d->block : d->inner.size;
    _Alignas(64) double on_stack[HELD * OUTPUTS];
    double *sums = d->scratch == NULL ? on_stack : d->scratch + worker * HELD * d->outputs;
    for (size_t n; first < end; first += n) {
        n = end - first < d->outputs ? end - first : d->outputs;
        ptrdiff_t i = (ptrdiff_t)first;
        struct output_range stretch = {d->call->x.data + at.x + i * d->inner.x,
                                       d->call->y.data + at.y + i * d->inner.y,
                                       d->call->out + at.out + i * d->inner.out, n};
        run_range(d, &stretch, sums);
    }
}

/* A sum of no terms is 0 whatever eps is, as in torch. */
static void fill_empty(const struct reduction *call)
{
    const double value = call->op == OP_DISTANCE ? 1.0 : 0.0;
    const struct plan *plan = call->plan;
    const size_t left = axes_size(&plan->left),
                 right = axes_size(&plan->right); /* 1 but for tiles */
    for (size_t i = 0; i < plan->outputs && !(i % POLL_EMPTY == 0 && cancel_poll(call->token, 0));
         i++) {
        const ptrdiff_t at = axes_offsets(&plan->outer, i / right / left).out +
                             axes_offsets(&plan->left, i / right % left).out +
                             axes_offsets(&plan->right, i % right).out;
        dtype_store(call->out_dtype, call->out + at, 0, &value, 1);
    }
}

/*
 * Sets how many outputs are held at a time and how many a task takes: tasks small enough to share
 * out evenly, large enough that a task's own cost does not show. Returns the number of threads.
 */
static int share_out(struct reduce_driver *d)
{
    const bool columns = d->plan->driver == PLAN_COLUMNS;
    const int threads = thread_count_for(d->plan->outputs, d->plan->depth, GRAIN_SUMS);
    size_t most = OUTPUTS;
    if (columns) { /* long runs, but something for every thread */
        const size_t share = threads > 1 && d->rest.count == 0
                                 ? d->inner.size / (2 * (size_t)threads) + 1
                                 : WIDE_OUTPUTS;
        most = share < OUTPUTS ? OUTPUTS : share < WIDE_OUTPUTS ? share : WIDE_OUTPUTS;
    }
    const size_t least = columns ? most : 1, per_task = GRAIN_SUMS / 4 / d->plan->depth + 1;
    d->outputs = d->inner.size < most ? d->inner.size : most;
    d->block = threads == 1 && d->call->token == NULL ? d->inner.size
               : per_task < least                     ? least
                                                      : per_task;
    d->block = d->block < d->inner.size ? d->block : d->inner.size;
    d->blocks = size_parts(d->inner.size, d->block);
    const size_t tasks = d->blocks * axes_size(&d->rest);
    return (size_t)threads < tasks ? threads : (int)tasks;
}

int reduce(const struct reduction *call)
{
    const struct plan *plan = call->plan;
    if (plan->outputs == 0 || (plan->depth == 0 && call->op == OP_NORMALIZE)) {
        return 0;
    }
    if (plan->depth == 0) {
        fill_empty(call);
        return 0;
    }
    const bool two = !op_has_one_operand(call->op);
    struct reduce_driver d = {.call = call, .plan = plan, .inner = {1, 0, 0, 0}, .rest.count = 0};
    d.kind = sums_for(call->op);
    d.compute = dtype_compute_type(call->x.dtype) == COMPUTE_F64 ||
                        (two && dtype_compute_type(call->y.dtype) == COMPUTE_F64)
                    ? COMPUTE_F64
                    : COMPUTE_F32;
    d.in_place = operand_in_place(&call->x) &&
                 (!two || (operand_in_place(&call->y) && call->y.dtype == call->x.dtype));
    if (plan->outer.count > 0) {
        d.inner = plan->outer.at[plan->outer.count - 1];
        d.rest.count = plan->outer.count - 1;
        for (int i = 0; i < d.rest.count; i++) {
            d.rest.at[i] = plan->outer.at[i];
        }
    }
    const ptrdiff_t x_item = (ptrdiff_t)dtype_size(call->x.dtype);
    const struct axis *along = plan->driver == PLAN_COLUMNS ? &d.inner
                               : plan->reduced.count == 1   ? &plan->reduced.at[0]
                                                            : NULL;
    const bool contiguous = along != NULL && along->x == x_item && (!two || along->y == x_item);
    d.in_place = d.in_place && (contiguous || (plan->driver == PLAN_ROWS && plan->depth == 1));

    const int threads = share_out(&d);
    if (d.outputs > OUTPUTS &&
        (d.scratch = scratch_alloc((size_t)threads * HELD * d.outputs * sizeof(double))) == NULL) {
        return -1;
    }
    pool_run(d.blocks * axes_size(&d.rest), threads, run_task, &d, call->token);
    scratch_free(d.scratch);
    return 0;
}
