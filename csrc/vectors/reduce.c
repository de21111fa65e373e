/*
 * The drivers for rows and for columns. They compute the sums of a block of outputs, which stay in
 * the cache, and then the results from the sums.
 */
#include "vectors/reduce.h"

#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "vectors/formula.h"
#include "vectors/row_sums.h"

enum {
    BLOCK_OUTPUTS = 512, /* outputs whose sums are held at a time */
    /* The upper limit for PLAN_COLUMNS. Memory is read fastest in long contiguous pieces. */
    WIDE_OUTPUTS = 4096,
    GATHERED_ELEMENTS = 4096, /* converted elements held at a time, for each operand */
    POLL_STEPS = 256,         /* steps of a loop between two polls of the cancellation token */
    POLL_EMPTY_OUTPUTS = 4096 /* outputs between two polls in fill_empty */
};

struct reduce_state {
    const struct reduction *call;
    const struct plan *plan;
    enum compute_type compute;
    enum sums kind;
    bool in_place; /* kernels read the operands in place */
    /* the outer axis with the smallest strides: outputs along it are computed together */
    struct axis inner;
    size_t block_outputs; /* upper limit of the outputs along inner that are held at a time */
    double *scratch;      /* buffers of all workers; NULL: the stack is large enough */
    size_t task_outputs;  /* outputs along inner in one task */
    size_t inner_tasks;   /* tasks along inner */
    size_t tasks;         /* all tasks */
};

/*
 * Doubles held for each output: the six sums of columns_kernel, the result, and COLUMN_STEPS
 * converted elements of each operand.
 */
enum { DOUBLES_PER_OUTPUT = 6 + 1 + 2 * COLUMN_STEPS };

/* n consecutive outputs along inner, and the addresses of the first. */
struct output_range {
    const char *x, *y;
    char *out;
    size_t n;
};

static struct row_pair pair_at(const struct reduce_state *s, const struct output_range *range,
                               size_t i)
{
    const ptrdiff_t x = (ptrdiff_t)i * s->inner.x, y = (ptrdiff_t)i * s->inner.y;
    return (struct row_pair){&s->call->x,       &s->call->y,    range->x + x, range->y + y,
                             &s->plan->reduced, s->plan->depth, s->compute,   s->kind};
}

/* The sums of a range of n outputs have the shape (6, n), in the order of columns_kernel. For rows
 * the shape is (3, n). */

/* Converts as many rows as the buffers hold, sums them, and continues with the next ones. Rows that
 * are too long for the buffers go through row_sums_plain, which converts them block by block. */
static void sum_rows_gathered(const struct reduce_state *s, const struct output_range *range,
                              double *sums)
{
    _Alignas(64) double x[GATHERED_ELEMENTS], y[GATHERED_ELEMENTS];
    const size_t depth = s->plan->depth, step = depth * compute_size(s->compute), n = range->n;
    if (depth > GATHERED_ELEMENTS) {
        for (size_t i = 0; i < n; i++) {
            struct row_pair pair = pair_at(s, range, i);
            struct row_sums row = row_sums_plain(&pair);
            sums[i] = row.xy;
            sums[n + i] = row.xx;
            sums[2 * n + i] = row.yy;
        }
        return;
    }
    for (size_t i = 0, rows; i < n; i += rows) {
        rows = smaller(n - i, GATHERED_ELEMENTS / depth);
        for (size_t r = 0; r < rows; r++) {
            struct row_pair pair = pair_at(s, range, i + r);
            gather_pair(&pair, 0, depth, (char *)x + r * step, (char *)y + r * step);
        }
        kernels_current()->sums->rows[compute_element(s->compute)][s->kind](
            &(struct sums_call){x, y, (ptrdiff_t)step, (ptrdiff_t)step, rows, depth, sums + i, n});
    }
}

/*
 * Adds `steps` consecutive elements of each column to the sums of that column. The elements lie
 * along the innermost reduced axis; `at` is the offset of the first. Elements that kernels cannot
 * read in place are converted first.
 */
static void sum_some_columns(const struct reduce_state *s, const struct output_range *range,
                             struct offsets at, size_t steps, double *sums, double *converted)
{
    const struct axis *reduced = &s->plan->reduced.at[s->plan->reduced.count - 1];
    const size_t n = range->n, step = n * compute_size(s->compute);
    const char *x = range->x + at.x, *y = range->y + at.y;
    struct sums_call call = {x, y, reduced->x, reduced->y, steps, n, sums, n};
    enum dtype element = s->call->x.dtype;
    if (!s->in_place) {
        char *x_block = (char *)converted, *y_block = (char *)(converted + COLUMN_STEPS * n);
        for (size_t i = 0; i < steps; i++, x += reduced->x, y += reduced->y) {
            operand_load(&s->call->x, x, s->inner.x, n, s->compute, x_block + i * step);
            if (s->kind != SUMS_SQUARE) {
                operand_load(&s->call->y, y, s->inner.y, n, s->compute, y_block + i * step);
            }
        }
        call.x = x_block;
        call.y = y_block;
        call.x_step = call.y_step = (ptrdiff_t)step;
        element = compute_element(s->compute);
    }
    kernels_current()->sums->columns[element][s->kind](&call);
}

static void sum_columns(const struct reduce_state *s, const struct output_range *range,
                        double *sums, double *converted)
{
    const size_t n = range->n, inner_size = s->plan->reduced.at[s->plan->reduced.count - 1].size;
    memset(sums, 0, 6 * n * sizeof *sums);
    for (size_t k = 0, steps, count = 1; k < s->plan->depth; k += steps, count++) {
        steps = smaller(inner_size - k % inner_size, COLUMN_STEPS);
        sum_some_columns(s, range, axes_offsets(&s->plan->reduced, k), steps, sums, converted);
        if (count % POLL_STEPS == 0 && cancel_poll_here()) {
            return;
        }
    }
    if (s->compute == COMPUTE_F64) {
        for (size_t i = 0; i < 3 * n; i++) { /* adds the rounding errors */
            const double total = sums[i] + sums[i + 3 * n];
            sums[i] = isnan(total) ? sums[i] : total;
        }
    }
}

/* Computes one output from its sums, which may be those of scaled rows. */
static double finish_one(const struct reduce_state *s, const struct row_sums *sums)
{
    double cosine;
    switch (s->call->op) {
    case OP_DOT:
        return ldexp(sums->xy, sums->x_exponent + sums->y_exponent);
    case OP_NORM:
        return ldexp(sqrt(sums->xx), sums->x_exponent);
    default:
        cosine = formula_cosine_of(sums, s->call->eps);
        return s->call->op == OP_DISTANCE ? 1.0 - cosine : cosine;
    }
}

/* Completes n results, which hold cosines. If `complete` is false, recomputes the cosines of rows
 * whose norms eps may clamp. For OP_DISTANCE, turns the cosines into distances. */
static void finish_cosines(enum op op, double eps, size_t n, const double *sums, double *results,
                           bool complete)
{
    const double *xy = sums, *xx = xy + n, *yy = xx + n;
    const double unclamped_square = eps_unclamped_square(eps, EPS_ERROR_OF_DOUBLES);
    if (!complete) {
        for (size_t i = 0; i < n; i++) {
            if (!(xx[i] >= unclamped_square && yy[i] >= unclamped_square)) {
                results[i] = formula_cosine(xy[i], xx[i], yy[i], eps, eps);
            }
        }
    }
    if (op == OP_DISTANCE) {
        for (size_t i = 0; i < n; i++) {
            results[i] = 1.0 - results[i];
        }
    }
}

/* Computes results[0 .. n-1] from plain sums. */
static void finish_plain(enum op op, double eps, size_t n, const double *sums, double *results)
{
    const double *xy = sums, *xx = xy + n, *yy = xx + n;
    if (op == OP_DOT) {
        memcpy(results, xy, n * sizeof *results);
    } else if (op == OP_NORM) {
        for (size_t i = 0; i < n; i++) {
            results[i] = sqrt(xx[i]);
        }
    } else if (n == 1) { /* a kernel would compute a whole vector, which takes longer */
        results[0] = formula_cosine(xy[0], xx[0], yy[0], eps, eps);
        finish_cosines(op, eps, n, sums, results, true);
    } else {
        const bool complete = kernels_current()->sums->cosine_sums(
            results, xy, xx, yy, n, eps_unclamped_square(eps, EPS_ERROR_OF_DOUBLES));
        finish_cosines(op, eps, n, sums, results, complete);
    }
}

/*
 * Normalizes n elements along an axis: out = x * 2^-exponent / divisor. If step is 1, each element
 * has its own divisor and exponent. If it is 0, all elements share the first ones. exponents is
 * NULL if all are 0.
 */
static void normalize_elements(const struct reduce_state *s, const struct axis *along,
                               const char *x, char *out, size_t n, const double *divisors,
                               const int *exponents, size_t step)
{
    const struct operand *from = &s->call->x;
    const enum dtype to = s->call->out_dtype;
    const struct elementwise_kernels *kernels = kernels_current()->elementwise;
    const ptrdiff_t size = (ptrdiff_t)dtype_size(to);
    const bool in_place = (to == DTYPE_F32 || to == DTYPE_F64) && from->dtype == to &&
                          operand_in_place(from) && exponents == NULL && along->x == size &&
                          along->out == size;
    double block[BLOCK_OUTPUTS];
    for (size_t i = 0, count; i < n; i += count) {
        if (i > 0 && i % (POLL_STEPS * BLOCK_OUTPUTS) == 0 && cancel_poll_here()) {
            return;
        }
        count = smaller(n - i, BLOCK_OUTPUTS);
        const double *block_divisors = divisors + i * step;
        const char *block_x = x + (ptrdiff_t)i * along->x;
        char *block_out = out + (ptrdiff_t)i * along->out;
        if (in_place) {
            kernels[dtype_compute_type(to)].divide(count, block_x, block_divisors, step, block_out);
            continue;
        }
        operand_load(from, block_x, along->x, count, COMPUTE_F64, block);
        for (size_t j = 0; exponents != NULL && j < count; j++) {
            block[j] = ldexp(block[j], -exponents[(i + j) * step]);
        }
        kernels[COMPUTE_F64].divide(count, block, block_divisors, step, block);
        dtype_store(to, block_out, along->out, block, count);
    }
}

static enum sums sums_of_op(enum op op)
{
    if (op_has_one_operand(op)) {
        return SUMS_SQUARE;
    }
    return op == OP_DOT ? SUMS_DOT : SUMS_ALL;
}

/*
 * Sums contiguous rows in place and computes their results, except those of OP_NORMALIZE. The sums
 * are (3, rows).
 */
static void rows_in_place(enum op op, double eps, enum dtype dtype, enum dtype out_dtype,
                          const struct sums_call *call, double *results)
{
    const struct sums_kernels *kernels = kernels_current()->sums;
    const bool half = dtype == DTYPE_F16 || dtype == DTYPE_BF16,
               precise_enough = !half || (op == OP_COSINE && out_dtype == dtype);
    if ((call->rows > 1 || half) && precise_enough && (op == OP_COSINE || op == OP_DISTANCE)) {
        const bool complete = kernels->cosine_rows[dtype](
            call, results, eps_unclamped_square(eps, EPS_ERROR_OF_DOUBLES));
        finish_cosines(op, eps, call->rows, call->sums, results, complete);
        return;
    }
    kernels->rows[dtype][sums_of_op(op)](call);
    if (op != OP_NORMALIZE) {
        finish_plain(op, eps, call->rows, call->sums, results);
    }
}

/* Normalizes a range of rows or columns. xx holds their sums of squares. */
static void normalize_range(const struct reduce_state *s, const struct output_range *range,
                            const double *xx, double *divisors, int *exponents)
{
    const struct axes *reduced = &s->plan->reduced;
    const bool columns = s->plan->driver == PLAN_COLUMNS;
    const struct axis single = {1, 0, 0, 0};
    const struct axis *inner = reduced->count > 0 ? &reduced->at[reduced->count - 1] : &single;
    const size_t step = columns ? 1 : inner->size, rows = columns ? 0 : range->n;
    bool scaled = false;
    for (size_t i = 0; i < range->n; i++) {
        struct row_sums sums = {0.0, xx[i], 0.0, 0, 0};
        if (!sums_are_safe(s->compute, s->kind, 0.0, xx[i], 0.0)) {
            struct row_pair pair = pair_at(s, range, i);
            sums = row_sums_scaled(&pair);
        }
        const double eps = eps_scaled(s->call->eps, sums.x_exponent);
        /* For a tiny row the scaled eps may overflow. The row is then divided by eps unscaled. */
        const bool eps_overflows = isinf(eps) && isfinite(s->call->eps);
        divisors[i] = eps_overflows ? s->call->eps : formula_clamped_norm(sums.xx, eps);
        exponents[i] = eps_overflows ? 0 : sums.x_exponent;
        scaled |= exponents[i] != 0;
    }
    for (size_t k = 0, count = 1; k < s->plan->depth; k += step, count++) {
        const struct offsets at = axes_offsets(reduced, k);
        const char *x = range->x + at.x;
        char *out = range->out + at.out;
        if (columns) {
            normalize_elements(s, &s->inner, x, out, range->n, divisors, scaled ? exponents : NULL,
                               1);
        }
        for (size_t i = 0; i < rows; i++, x += s->inner.x, out += s->inner.out) {
            normalize_elements(s, inner, x, out, step, divisors + i,
                               exponents[i] != 0 ? exponents + i : NULL, 0);
        }
        if (count % POLL_STEPS == 0 && cancel_poll_here()) {
            return;
        }
    }
}

static void run_range(const struct reduce_state *s, const struct output_range *range, double *sums)
{
    const struct reduction *call = s->call;
    const size_t n = range->n;
    const bool columns = s->plan->driver == PLAN_COLUMNS;
    double *results = sums + 6 * n, *converted = results + n;
    if (columns) {
        sum_columns(s, range, sums, converted);
    } else if (s->in_place) {
        const struct sums_call rows = {range->x, range->y,       s->inner.x, s->inner.y,
                                       n,        s->plan->depth, sums,       n};
        rows_in_place(call->op, call->eps, call->x.dtype, call->out_dtype, &rows, results);
    } else {
        sum_rows_gathered(s, range, sums);
    }
    if (call->op == OP_NORMALIZE) {
        normalize_range(s, range, sums + n, results, (int *)converted);
        return;
    }
    if (columns || !s->in_place) {
        finish_plain(call->op, call->eps, n, sums, results);
    }
    if (s->compute == COMPUTE_F64) {
        for (size_t i = 0; i < n; i++) {
            if (!sums_are_safe(s->compute, s->kind, sums[i], sums[n + i], sums[2 * n + i])) {
                struct row_pair pair = pair_at(s, range, i);
                struct row_sums scaled = row_sums_scaled(&pair);
                results[i] = finish_one(s, &scaled);
            }
        }
    }
    dtype_store(call->out_dtype, range->out, s->inner.out, results, n);
}

bool reduce_few_rows(enum op op, double eps, enum dtype dtype, const void *x, const void *y,
                     size_t rows, size_t depth, double *results)
{
    const ptrdiff_t step = (ptrdiff_t)(depth * dtype_size(dtype));
    double sums[3 * FEW_ROWS];
    const struct sums_call call = {x, y, step, step, rows, depth, sums, rows};
    if (depth == 0) {
        return false;
    }
    rows_in_place(op, eps, dtype, dtype, &call, results);
    if (dtype == DTYPE_F32) {
        return true;
    }
    for (size_t i = 0; i < rows; i++) {
        if (!sums_are_safe(COMPUTE_F64, sums_of_op(op), sums[i], sums[rows + i],
                           sums[2 * rows + i])) {
            return false;
        }
    }
    return true;
}

/* Computes one task: task_outputs outputs along inner, at one index of the other outer axes. */
static void run_outputs(void *context, size_t task, size_t worker)
{
    const struct reduce_state *s = context;
    const size_t begin = task / s->inner_tasks * s->inner.size;
    size_t first = task % s->inner_tasks * s->task_outputs,
           end = smaller(first + s->task_outputs, s->inner.size);
    _Alignas(64) double on_stack[DOUBLES_PER_OUTPUT * BLOCK_OUTPUTS];
    double *sums =
        s->scratch == NULL ? on_stack : s->scratch + worker * DOUBLES_PER_OUTPUT * s->block_outputs;
    for (size_t n; first < end; first += n) {
        n = smaller(end - first, s->block_outputs);
        const struct offsets at = axes_offsets(&s->plan->outer, begin + first);
        const struct output_range range = {s->call->x.data + at.x, s->call->y.data + at.y,
                                           s->call->out + at.out, n};
        run_range(s, &range, sums);
    }
}

/* Fills the outputs of vectors without elements. Their cosine is 0 for any eps, as in torch. */
static void fill_empty(const struct reduction *call)
{
    const double value = call->op == OP_DISTANCE ? 1.0 : 0.0;
    const struct plan *plan = call->plan;
    const size_t left = axes_size(&plan->left),
                 right = axes_size(&plan->right); /* 1 unless the plan is PLAN_GEMM */
    for (size_t i = 0; i < plan->outputs; i++) {
        if (i % POLL_EMPTY_OUTPUTS == 0 && cancel_poll(call->token, 0)) {
            return;
        }
        const ptrdiff_t at = axes_offsets(&plan->outer, i / right / left).out +
                             axes_offsets(&plan->left, i / right % left).out +
                             axes_offsets(&plan->right, i % right).out;
        dtype_store(call->out_dtype, call->out + at, 0, &value, 1);
    }
}

/*
 * Sets how many outputs are held at a time and how many a task computes. Tasks are small, so that
 * all threads finish at about the same time, but they take far longer than starting a task. Returns
 * the number of threads.
 */
static int plan_tasks(struct reduce_state *s)
{
    const bool columns = s->plan->driver == PLAN_COLUMNS;
    const int threads = thread_count_for(s->plan->outputs, s->plan->depth, GRAIN_SUMS);
    size_t max_outputs = BLOCK_OUTPUTS;
    if (columns) { /* wide blocks, but at least two tasks for each thread */
        const bool share = threads > 1 && s->plan->outer.count <= 1;
        max_outputs = share ? s->inner.size / (2 * (size_t)threads) + 1 : WIDE_OUTPUTS;
        max_outputs = smaller(larger(max_outputs, BLOCK_OUTPUTS), WIDE_OUTPUTS);
    }
    const size_t min_task = columns ? max_outputs : 1,
                 per_task = GRAIN_SUMS / 4 / s->plan->depth + 1;
    const bool one_task = threads == 1 && s->call->token == NULL;
    s->block_outputs = smaller(s->inner.size, max_outputs);
    s->task_outputs = one_task ? s->inner.size : smaller(larger(per_task, min_task), s->inner.size);
    s->inner_tasks = size_parts(s->inner.size, s->task_outputs);
    s->tasks = s->inner_tasks * (s->plan->outputs / s->inner.size);
    return (int)smaller((size_t)threads, s->tasks);
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
    struct reduce_state s = {.call = call, .plan = plan, .inner = {1, 0, 0, 0}};
    s.kind = sums_of_op(call->op);
    s.compute = dtypes_compute_type(call->x.dtype, two ? call->y.dtype : call->x.dtype);
    s.in_place = operand_in_place(&call->x) &&
                 (!two || (operand_in_place(&call->y) && call->y.dtype == call->x.dtype));
    if (plan->outer.count > 0) {
        s.inner = plan->outer.at[plan->outer.count - 1];
    }
    const ptrdiff_t x_item = (ptrdiff_t)dtype_size(call->x.dtype);
    const struct axis *along = NULL; /* the axis along which kernels read */
    if (plan->driver == PLAN_COLUMNS) {
        along = &s.inner;
    } else if (plan->reduced.count == 1) {
        along = &plan->reduced.at[0];
    }
    const bool contiguous = along != NULL && along->x == x_item && (!two || along->y == x_item);
    s.in_place = s.in_place && (contiguous || (plan->driver == PLAN_ROWS && plan->depth == 1));

    const int threads = plan_tasks(&s);
    if (s.block_outputs > BLOCK_OUTPUTS &&
        (s.scratch = scratch_alloc((size_t)threads * DOUBLES_PER_OUTPUT * s.block_outputs *
                                   sizeof(double))) == NULL) {
        return -1;
    }
    pool_run(s.tasks, threads, run_outputs, &s, call->token);
    scratch_free(s.scratch);
    return 0;
}
