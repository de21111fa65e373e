/* All pairs of vectors by GEMM: the score of every left row with every right row. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "pairwise/pairwise.h"

enum {
    /* Rows of one side whose norms are held at a time. If both sides are the same rows, all norms
     * are held. */
    NORM_ROWS = 1 << 16,
    NORM_TASK_ROWS = 64, /* rows whose norms one task measures */
    CACHE_LINE = 64,
    /* A result of up to this many scores stays in the L2 cache, so it needs no prefetching. */
    CACHED_SCORES = 1 << 18
};

/*
 * Norms of the left rows that a worker processes. The worker measures them just before it
 * multiplies the rows, so the rows are still in the cache.
 */
struct lazy_norms {
    size_t first;
    struct norms norms;
};

struct pairwise_state {
    struct pair_scores scores;
    struct norms x, y;       /* norms of the rows of all batches of a group */
    struct lazy_norms *lazy; /* one for each worker, in place of x; or NULL */
    int workers;             /* read once: another thread may change the setting */
    bool store_direct;       /* kernels write cosines straight into out; see can_store_direct */
};

static struct norms norms_at(const struct norms *norms, size_t row)
{
    return (struct norms){norms->value + row, norms->exponent + row};
}

static void left_rows(const void *context, const struct gemm_rows *request)
{
    const struct pairwise_state *p = context;
    const int *exponents = NULL;
    if (p->lazy != NULL) {
        struct lazy_norms *lazy = &p->lazy[request->worker];
        /* If the last request was for the same rows (another segment), their norms are known. */
        if (lazy->first != request->first) {
            lazy->first = request->first;
            pair_scores_measure(&p->scores, SIDE_X, request->batch, request->first, request->count,
                                &lazy->norms);
        }
        exponents = lazy->norms.exponent;
    } else if (p->scores.cosine) {
        exponents = p->x.exponent + request->batch * p->scores.left + request->first;
    }
    pair_scores_find_rows(&p->scores, SIDE_X, exponents, request);
}

static void right_rows(const void *context, const struct gemm_rows *request)
{
    const struct pairwise_state *p = context;
    const int *exponents =
        p->scores.cosine ? p->y.exponent + request->batch * p->scores.right + request->first : NULL;
    pair_scores_find_rows(&p->scores, SIDE_Y, exponents, request);
}

struct norm_task {
    const struct pairwise_state *pairwise;
    enum side side;
    size_t rows; /* of all batches of the group together */
    const struct norms *norms;
};

static void measure_norms(void *context, size_t task, size_t worker)
{
    const struct norm_task *m = context;
    const struct pair_scores *s = &m->pairwise->scores;
    const size_t in_batch = m->side == SIDE_X ? s->left : s->right,
                 end = smaller(m->rows, (task + 1) * NORM_TASK_ROWS);
    (void)worker;
    for (size_t first = task * NORM_TASK_ROWS, n; first < end; first += n) {
        n = smaller(end - first, in_batch - first % in_batch);
        const struct norms norms = norms_at(m->norms, first);
        pair_scores_measure(s, m->side, first / in_batch, first % in_batch, n, &norms);
    }
}

static void cosines(const struct pairwise_state *p, const struct gemm_block *b, void *out,
                    ptrdiff_t out_step)
{
    const struct lazy_norms *lazy = p->lazy == NULL ? NULL : &p->lazy[b->worker];
    const struct norms rows = lazy == NULL ? norms_at(&p->x, b->batch * p->scores.left + b->row)
                                           : norms_at(&lazy->norms, b->row - lazy->first);
    const struct norms columns = norms_at(&p->y, b->batch * p->scores.right + b->column);
    pair_scores_cosines(&p->scores, b, &rows, &columns, out, out_step);
}

/* Copies a few scores. This loop is faster than a memcpy of variable length. */
static void copy_scores(char *to, const char *from, size_t bytes)
{
    enum { STEP = 32 };
    if (bytes < STEP) {
        for (size_t i = 0; i < bytes; i += sizeof(float)) {
            memcpy(to + i, from + i, sizeof(float));
        }
        return;
    }
    for (size_t i = 0; i + STEP <= bytes; i += STEP) {
        memcpy(to + i, from + i, STEP);
    }
    memcpy(to + bytes - STEP, from + bytes - STEP, STEP);
}

/*
 * Stores a tile of a symmetric result and its mirror image. A row of scores is `step` elements
 * long. out is the address of row 0, column 0 of the result. In a tile on the diagonal, only scores
 * on and above the diagonal are used, so each element of the result is written once.
 */
static void store_symmetric(const struct pairwise_state *p, const struct gemm_block *b,
                            const char *scores, size_t step, char *out, ptrdiff_t row_step)
{
    const size_t item = compute_size(p->scores.compute);
    transpose_kernel *transpose = kernels_current()->tiles[p->scores.compute].transpose;
    _Alignas(64) double transposed[GEMM_MAX_COLUMNS * GEMM_MAX_ROWS];
    const void *rows[GEMM_MAX_ROWS];
    for (size_t r = 0; r < b->rows; r++) {
        const size_t i = b->row + r, skip = i > b->column ? smaller(i - b->column, b->columns) : 0;
        rows[r] = scores + r * step * item;
        copy_scores(out + (ptrdiff_t)i * row_step + (ptrdiff_t)((b->column + skip) * item),
                    (const char *)rows[r] + skip * item, (b->columns - skip) * item);
    }
    char *mirror = out + (ptrdiff_t)b->column * row_step + (ptrdiff_t)(b->row * item);
    transpose(transposed, GEMM_MAX_ROWS, rows, b->rows, b->columns);
    for (size_t c = 0; c < b->columns; c++) {
        const size_t j = b->column + c, above = j > b->row ? smaller(j - b->row, b->rows) : 0;
        copy_scores(mirror + (ptrdiff_t)c * row_step,
                    (const char *)transposed + c * GEMM_MAX_ROWS * item, above * item);
    }
}

/*
 * Stores n scores of row i from column j on, and their mirror image if the result is symmetric.
 * Scores are elements of `compute`; the result has any layout and dtype.
 */
static void store_row(const struct pairwise_state *p, enum compute_type compute, const void *scores,
                      size_t i, size_t j, size_t n, char *out)
{
    const struct axes *left = &p->scores.plan->left, *right = &p->scores.plan->right;
    const enum dtype dtype = p->scores.call->out_dtype;
    const size_t size = compute_size(compute);
    char *row = out + axes_offsets(left, i).out;
    if (right->count == 1) {
        dtype_store_computed(dtype, row + (ptrdiff_t)j * right->at[0].out, right->at[0].out,
                             compute, scores, n);
    } else {
        for (size_t c = 0; c < n; c++) {
            dtype_store_computed(dtype, row + axes_offsets(right, j + c).out, 0, compute,
                                 (const char *)scores + c * size, 1);
        }
    }
    /* the mirror image, without the diagonal; j >= i */
    if (p->scores.symmetric) {
        const size_t skip = j == i;
        char *mirror = out + axes_offsets(left, j + skip).out + axes_offsets(right, i).out;
        dtype_store_computed(dtype, mirror, left->at[0].out, compute,
                             (const char *)scores + skip * size, n - skip);
    }
}

/* Prefetches for writing the cache lines that begin within `count` rows of `bytes` bytes each. */
static void prefetch_rows(const char *rows, ptrdiff_t step, size_t count, size_t bytes)
{
    for (size_t r = 0; r < count; r++, rows += step) {
        const char *line = rows + (-(uintptr_t)rows & (CACHE_LINE - 1));
        for (; line < rows + bytes; line += CACHE_LINE) {
            __builtin_prefetch(line, 1);
        }
    }
}

/*
 * Prefetches a block of the result. Without it, a store that misses the cache would wait for
 * memory, and soon all later stores would wait for that one.
 */
static void prefetch_block(const void *context, const struct gemm_block *b)
{
    const struct pairwise_state *p = context;
    const struct plan *plan = p->scores.plan;
    const size_t item = compute_size(p->scores.compute);
    const ptrdiff_t row_step = plan->left.at[0].out;
    char *out =
        p->scores.call->out + axes_offsets(&plan->outer, p->scores.first_batch + b->batch).out;
    prefetch_rows(out + (ptrdiff_t)b->row * row_step + (ptrdiff_t)(b->column * item), row_step,
                  b->rows, b->columns * item);
    if (p->scores.symmetric) {
        prefetch_rows(out + (ptrdiff_t)b->column * row_step + (ptrdiff_t)(b->row * item), row_step,
                      b->columns, b->rows * item);
    }
}

/*
 * Recomputes dot products that are not finite, because a partial sum may have left the range of its
 * type. They are recomputed in double, from scaled rows if needed. Returns false if all are finite.
 * Otherwise writes all dot products to buffer.
 */
static bool recompute_non_finite_dots(const struct pair_scores *s, const struct gemm_block *b,
                                      double *buffer)
{
    bool finite = true;
    for (size_t r = 0; r < b->rows; r++) {
        for (size_t c = 0; c < b->columns; c++) {
            finite &= isfinite(b->sums[r * b->step + c]) != 0;
        }
    }
    if (finite) {
        return false;
    }
    for (size_t r = 0; r < b->rows; r++) {
        for (size_t c = 0; c < b->columns; c++) {
            const double sum = b->sums[r * b->step + c];
            buffer[r * b->columns + c] =
                isfinite(sum) ? sum
                              : pair_scores_recompute_dot(s, b->batch, b->row + r, b->column + c);
        }
    }
    return true;
}

static void store_tile(const struct pairwise_state *p, const struct gemm_block *b, double *buffer,
                       char *out)
{
    const struct pair_scores *s = &p->scores;
    const size_t columns = b->columns;
    if (p->store_direct) {
        const ptrdiff_t item = (ptrdiff_t)compute_size(s->compute),
                        row_step = s->plan->left.at[0].out;
        if (s->symmetric) {
            cosines(p, b, buffer, (ptrdiff_t)columns);
            store_symmetric(p, b, (const char *)buffer, columns, out, row_step);
        } else {
            cosines(p, b, out + (ptrdiff_t)b->row * row_step + (ptrdiff_t)b->column * item,
                    row_step / item);
        }
        return;
    }
    const void *scores = b->sums;
    size_t step = b->step;
    if (s->cosine) {
        scores = buffer;
        step = columns;
        cosines(p, b, buffer, (ptrdiff_t)columns);
    } else if (recompute_non_finite_dots(s, b, buffer)) {
        scores = buffer;
        step = columns;
    }
    if (s->call->op == OP_DISTANCE) {
        for (size_t i = 0; i < b->rows * columns; i++) {
            buffer[i] = 1.0 - buffer[i];
        }
    }
    const enum compute_type compute = s->cosine ? s->compute : COMPUTE_F64;
    for (size_t r = 0; r < b->rows; r++) {
        const size_t i = b->row + r, skip = s->symmetric && i > b->column ? i - b->column : 0;
        if (skip < columns) {
            store_row(p, compute, (const char *)scores + (r * step + skip) * compute_size(compute),
                      i, b->column + skip, columns - skip, out);
        }
    }
}

/* The GEMM epilogue: passes a block of cosines to the receiver, or stores its scores in out. */
static void take_block(const void *context, const struct gemm_block *b)
{
    const struct pairwise_state *p = context;
    const struct reduction *call = p->scores.call;
    _Alignas(64) double buffer[GEMM_MAX_ROWS * GEMM_MAX_COLUMNS + GEMM_MAX_COLUMNS];
    if (call->receiver != NULL) {
        cosines(p, b, buffer, GEMM_MAX_COLUMNS);
        call->receiver->take(call->receiver->context, b, buffer, GEMM_MAX_COLUMNS);
    } else {
        store_tile(p, b, buffer,
                   call->out +
                       axes_offsets(&p->scores.plan->outer, p->scores.first_batch + b->batch).out);
    }
}

/*
 * True if kernels can write cosines straight into out. Its elements must be of the compute type,
 * and there must be one left and one right axis. The elements must be contiguous along the right
 * axis, and the stride of the left axis must be a multiple of their size.
 */
static bool can_store_direct(const struct pair_scores *s)
{
    const ptrdiff_t item = (ptrdiff_t)compute_size(s->compute);
    return s->call->receiver == NULL && s->call->op == OP_COSINE &&
           s->call->out_dtype == compute_element(s->compute) && s->plan->right.count == 1 &&
           s->plan->right.at[0].out == item && s->plan->left.count == 1 &&
           s->plan->left.at[0].out % item == 0;
}

static void measure_side(const struct pairwise_state *p, enum side side, size_t rows,
                         const struct norms *norms)
{
    struct norm_task m = {p, side, rows, norms};
    const struct pair_scores *s = &p->scores;
    const int threads = thread_count_for(rows, s->plan->depth, GRAIN_SUMS),
              max_threads = p->workers;
    pool_run(size_parts(rows, NORM_TASK_ROWS), threads < max_threads ? threads : max_threads,
             measure_norms, &m, s->call->token);
}

static int run_group(struct pairwise_state *p, size_t batches)
{
    const struct pair_scores *s = &p->scores;
    if (s->cosine && p->lazy == NULL) {
        measure_side(p, SIDE_X, batches * s->left, &p->x);
    }
    if (s->cosine && !s->symmetric) {
        measure_side(p, SIDE_Y, batches * s->right, &p->y);
    }
    struct gemm gemm = {
        .compute = s->product,
        .batches = batches,
        .left = s->left,
        .right = s->right,
        .depth = s->plan->depth,
        .symmetric = s->symmetric,
        .prefetch_left = p->lazy != NULL && s->call->x_numbers == NULL,
        .left_rows = left_rows,
        .right_rows = right_rows,
        .epilogue = take_block,
        .prefetch = p->store_direct && size_product_or_max(s->left, s->right) > CACHED_SCORES
                        ? prefetch_block
                        : NULL,
        .context = p,
        .workers = p->workers,
        .token = s->call->token,
    };
    return gemm_run(&gemm);
}

/*
 * Runs the two halves of a side one after the other, so that the memory for norms stays bounded.
 * The scores have the same bits, because a score does not depend on other rows.
 */
static int run_halves(const struct reduction *call, bool left_side)
{
    struct plan plan = *call->plan;
    struct reduction half_call = *call;
    struct axis *axis = left_side ? &plan.left.at[0] : &plan.right.at[0];
    const size_t size = axis->size, half = size / 2;
    const ptrdiff_t skip = (ptrdiff_t)half;
    half_call.plan = &plan;
    axis->size = half;
    const int status = pairwise_run(&half_call);
    axis->size = size - half;
    half_call.x.data += skip * axis->x;
    half_call.y.data += skip * axis->y;
    half_call.out += skip * axis->out;
    return status < 0 || cancel_requested(call->token) ? status : pairwise_run(&half_call);
}

enum { LAZY_ROWS = GEMM_CHUNK + COSINE_PADDING };

int pairwise_run(const struct reduction *call)
{
    struct pairwise_state p = {.lazy = NULL,
                               .workers = call->workers > 0 ? call->workers : pool_get_threads()};
    struct pair_scores *s = &p.scores;
    pair_scores_init(s, call);
    p.store_direct = can_store_direct(s);
    const bool lazy = call->receiver != NULL && !s->symmetric && s->plan->depth > 0,
               left_side = s->left >= s->right;
    const size_t longest = left_side ? s->left : s->right;
    if (call->receiver == NULL && !s->symmetric && longest > NORM_ROWS &&
        (left_side ? s->plan->left.count : s->plan->right.count) == 1) {
        return run_halves(call, left_side);
    }
    const size_t batches = axes_size(&s->plan->outer);
    size_t rows = size_sum_or_max(s->left, s->right); /* rows of a batch whose norms are held */
    if (s->symmetric || lazy) {
        rows = s->symmetric ? s->left : s->right;
    }
    const size_t group = rows < NORM_ROWS ? smaller(NORM_ROWS / rows, batches) : 1;
    /* padding, because kernels read past the last norm */
    const size_t norm_count = size_sum_or_max(size_product_or_max(group, rows), COSINE_PADDING);
    const size_t lazy_norms = lazy ? (size_t)p.workers : 0;
    struct arena arena = {.block = NULL};
    struct norms lazy_rows = {NULL, NULL}; /* of all workers */
    if (s->cosine) {
        while (arena_pass(&arena)) {
            p.x.value = arena_take(&arena, norm_count, sizeof *p.x.value);
            p.x.exponent = arena_take(&arena, norm_count, sizeof *p.x.exponent);
            p.lazy = arena_take(&arena, lazy_norms, sizeof *p.lazy);
            lazy_rows.value = arena_take(&arena, lazy_norms, LAZY_ROWS * sizeof(double));
            lazy_rows.exponent = arena_take(&arena, lazy_norms, LAZY_ROWS * sizeof(int));
        }
        if (arena.block == NULL) {
            return -1;
        }
        memset(p.x.value + group * rows, 0, COSINE_PADDING * sizeof *p.x.value);
        memset(lazy_rows.value, 0, lazy_norms * LAZY_ROWS * sizeof(double));
        p.y = s->symmetric || lazy ? p.x : norms_at(&p.x, group * s->left);
        p.lazy = lazy ? p.lazy : NULL;
    }
    for (size_t i = 0; i < lazy_norms; i++) {
        p.lazy[i] = (struct lazy_norms){SIZE_MAX, norms_at(&lazy_rows, i * LAZY_ROWS)};
    }
    int status = 0;
    for (size_t batch = 0; status == 0 && batch < batches && !cancel_requested(call->token);
         batch += group) {
        s->first_batch = batch;
        status = run_group(&p, smaller(batches - batch, group));
    }
    scratch_free(arena.block);
    return status;
}
