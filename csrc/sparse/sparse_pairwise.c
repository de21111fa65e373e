/* All scores of sparse rows, as a dense matrix. */
#include "sparse/sparse_pairwise.h"

#include <string.h>

#include "base/cancel.h"
#include "base/pool.h"
#include "base/stream.h"

enum {
    TASK_ROWS = 64, /* rows of x; a cache line of the mirrored half holds 8 or 16 of them */
    /* Columns of one call of the cosine kernel, which numbers columns with 8 bits. */
    KERNEL_COLUMNS = 256,
    MIRRORED = 32,         /* rows of the mirrored half that are written at a time */
    STREAMED = 16 << 20,   /* bytes of a result that is written past the caches */
    TOUCHED_PART = 1 << 21 /* bytes of that result that a task touches: a huge page */
};

struct pairwise_worker {
    struct accumulator sums;
    char *scores; /* (KERNEL_COLUMNS) of the compute type */
};

struct pairwise_job {
    const struct sparse_pairwise *call;
    struct postings postings;
    struct pairwise_worker *workers;
    bool streams;    /* the result is contiguous and large */
    bool symmetric;  /* the lower half is a copy of the upper one */
    size_t *unusual; /* (unusual_count): rows of y without a usual norm, ascending */
    size_t unusual_count;
};

/* True if a sum of 0 gives a score of 0 with every other usual norm. Zero and NaN are not usual,
 * and the product of two usual norms, or of their inverses, is in the range of double. */
static bool is_usual(double norm)
{
    return fabs(norm) > 0x1p-400 && fabs(norm) < 0x1p400;
}

/* Computes the scores of row i of x with n rows of y from their sums. */
static void score_columns(const struct sparse_pairwise *call, size_t i, size_t first, size_t n,
                          const double *sums, void *scores)
{
    uint32_t found[KERNEL_COLUMNS / COSINE_STEP + 1];
    const enum compute_type compute = call->x->compute;
    const struct cosine_tile tile = {
        sums, 0, call->x->norms + i, call->y->norms + first, 1, n, sparse_recompute_above(compute)};
    const size_t count = kernels_current()->tiles[compute].cosine(&tile, scores, 0, found);
    for (size_t f = 0; f < count; f++) {
        for (uint32_t bits = found[f] & 0xff; bits != 0; bits &= bits - 1) {
            const size_t c = (found[f] >> 8 & 0xff) + (size_t)__builtin_ctz(bits);
            compute_store(compute, scores, c,
                          sparse_cosine(call->x, i, call->y, first + c, sums[c]));
        }
    }
}

/* Writes the same scores past the caches. `to` is on a cache line, and n scores are whole lines. A
 * line with scores to recompute is written twice, because reading it back takes longer. */
static void stream_columns(const struct sparse_pairwise *call, size_t i, size_t first, size_t n,
                           const double *sums, char *to)
{
    uint32_t found[KERNEL_COLUMNS / COSINE_STEP + 2];
    const enum compute_type compute = call->x->compute;
    const size_t size = compute_size(compute),
                 count = kernels_current()->tiles[compute].stream_cosines(
                     to, sums, call->x->norms[i], call->y->norms + first, n,
                     sparse_recompute_above(compute), found);
    for (size_t f = 0; f < count; f++) {
        _Alignas(STREAM_LINE) char line[STREAM_LINE];
        const size_t c = found[f];
        score_columns(call, i, first + c, STREAM_LINE / size, sums + c, line);
        stream_line(to + c * size, line);
    }
}

/* True if the scores of a row of the result are contiguous and of the compute type. */
static bool scores_in_place(const struct sparse_pairwise *call)
{
    const enum compute_type compute = call->x->compute;
    return call->column_stride == (ptrdiff_t)compute_size(compute) &&
           (compute == COMPUTE_F32 || call->out_dtype == DTYPE_F64);
}

/* Writes the scores of row i of x with the rows of a block of y, from row `from` on, and sets their
 * sums to 0. */
static void store_row(const struct pairwise_job *job, struct pairwise_worker *w, size_t i,
                      const struct postings_block *block, size_t from)
{
    const struct sparse_pairwise *call = job->call;
    const enum compute_type compute = call->x->compute;
    const size_t size = compute_size(compute), whole = STREAM_LINE / size;
    char *row = call->out + (ptrdiff_t)i * call->row_stride;
    const bool in_place = scores_in_place(call);
    for (size_t r = from, n; r < block->rows; r += n) {
        const double *sums = w->sums.sums + r;
        char *to = row + (ptrdiff_t)(block->first + r) * call->column_stride;
        const size_t left = block->rows - r, past = (uintptr_t)to % STREAM_LINE / size;
        if (job->streams && past == 0 && left >= whole) {
            n = smaller(left / whole * whole, KERNEL_COLUMNS);
            stream_columns(call, i, block->first + r, n, sums, to);
            continue;
        }
        n = smaller(left, (job->streams ? whole : KERNEL_COLUMNS) - past); /* up to a line */
        score_columns(call, i, block->first + r, n, sums, in_place ? to : w->scores);
        if (!in_place) {
            dtype_store_computed(call->out_dtype, to, call->column_stride, compute, w->scores, n);
        }
    }
    accumulator_reset(&w->sums, block);
}

/* Writes the same scores from the rows of the block that row i touched. All others are 0. */
static void store_touched(const struct pairwise_job *job, struct pairwise_worker *w, size_t i,
                          const struct postings_block *block, size_t from)
{
    const struct sparse_pairwise *call = job->call;
    const enum compute_type compute = call->x->compute;
    const size_t size = compute_size(compute), end = block->first + block->rows;
    char *row = call->out + (ptrdiff_t)i * call->row_stride;
    memset(row + (block->first + from) * size, 0, (block->rows - from) * size);
    for (size_t n = 0; n < job->unusual_count; n++) {
        const size_t j = job->unusual[n];
        if (j >= block->first + from && j < end) {
            compute_store(compute, row, j, sparse_score(call->x, i, call->y, j, 0.0));
        }
    }
    for (size_t n = 0; n < w->sums.count; n++) {
        const size_t touched = w->sums.touched[n], j = block->first + touched;
        const double xy = accumulator_take(&w->sums, touched);
        compute_store(compute, row, j, sparse_score(call->x, i, call->y, j, xy));
    }
    accumulator_forget(&w->sums);
}

/* Copies a tile of scores to its mirror image with the transpose kernel: rows [first, first + n) of
 * x with rows [column, column + MIRRORED) of y. All these rows of y come after those of x. */
static void mirror_tile(const struct pairwise_job *job, size_t first, size_t n, size_t column)
{
    const struct sparse_pairwise *call = job->call;
    const enum compute_type compute = call->x->compute;
    const size_t size = compute_size(compute);
    _Alignas(64) double transposed[MIRRORED * TASK_ROWS];
    const void *rows[TASK_ROWS];
    for (size_t r = 0; r < n; r++) {
        rows[r] = call->out + (ptrdiff_t)(first + r) * call->row_stride + column * size;
    }
    kernels_current()->tiles[compute].transpose(transposed, TASK_ROWS, rows, n, MIRRORED);
    for (size_t c = 0; c < MIRRORED; c++) {
        memcpy(call->out + (ptrdiff_t)(column + c) * call->row_stride + first * size,
               (const char *)transposed + c * TASK_ROWS * size, n * size);
    }
}

/* mirror_tile for any rows, and for rows [column, last) of y. Copies score by score. */
static void mirror_scores(const struct sparse_pairwise *call, size_t first, size_t end,
                          size_t column, size_t last)
{
    for (size_t j = column; j < last && !cancel_poll_here(); j++) {
        for (size_t i = first; i < smaller(end, j); i++) {
            memcpy(call->out + (ptrdiff_t)j * call->row_stride + (ptrdiff_t)i * call->column_stride,
                   call->out + (ptrdiff_t)i * call->row_stride + (ptrdiff_t)j * call->column_stride,
                   dtype_size(call->out_dtype));
        }
    }
}

/* Copies the scores of rows [first, end) of x with the rows of a block to their mirror images. The
 * first call can wait for the system to clear all pages of the result, so it polls. */
static void mirror_block(const struct pairwise_job *job, size_t first, size_t end,
                         const struct postings_block *block)
{
    const struct sparse_pairwise *call = job->call;
    const size_t begin = larger(first + 1, block->first), block_end = block->first + block->rows;
    size_t j = scores_in_place(call) ? smaller(larger(begin, end), block_end) : block_end;
    mirror_scores(call, first, end, begin, j);
    for (; j + MIRRORED <= block_end && !cancel_poll_here(); j += MIRRORED) {
        mirror_tile(job, first, end - first, j);
    }
    mirror_scores(call, first, end, j, block_end);
}

/* Runs a task: up to TASK_ROWS rows of x with one block of y. */
static void score_rows(void *context, size_t task, size_t worker)
{
    const struct pairwise_job *job = context;
    const struct sparse_pairwise *call = job->call;
    struct pairwise_worker *w = &job->workers[worker];
    const struct postings_block *block = &job->postings.blocks[task % job->postings.block_count];
    const size_t first = task / job->postings.block_count * TASK_ROWS,
                 end = smaller(first + TASK_ROWS, call->x->count),
                 block_end = block->first + block->rows;
    for (size_t i = first; i < end && !cancel_poll_here(); i++) {
        const size_t from = job->symmetric && i > block->first ? i - block->first : 0;
        if (from < block->rows) {
            accumulate(&w->sums, block, call->x, i, from);
            if (w->sums.listed && is_usual(call->x->norms[i])) {
                store_touched(job, w, i, block, from);
            } else {
                store_row(job, w, i, block, from);
            }
            progress_add(call->token, block->rows - from);
        }
    }
    if (job->symmetric && first < block_end) {
        mirror_block(job, first, end, block);
    }
    stream_finish();
}

static size_t result_bytes(const struct sparse_pairwise *call)
{
    const size_t scores = size_product_or_max(call->x->count, call->y->count);
    return size_product_or_max(scores, compute_size(call->x->compute));
}

static void touch_part(void *context, size_t task, size_t worker)
{
    const struct pairwise_job *job = context;
    const size_t first = task * TOUCHED_PART, bytes = result_bytes(job->call);
    (void)worker;
    stream_touch(job->call->out + first, smaller(bytes - first, TOUCHED_PART));
}

static int run(struct pairwise_job *job)
{
    const struct sparse_pairwise *call = job->call;
    const size_t scores = size_product_or_max(call->x->count, call->y->count),
                 products = sparse_products(call->x, call->y);
    const int threads = thread_count_for(size_sum_or_max(products, scores), 1, GRAIN_SUMS);
    struct arena arena = {.block = NULL};
    /* Most scores are 0: rows of the result are cleared, then the others stored. */
    const bool lists_rows = scores_in_place(call) && products < scores / LISTED_SHARE;
    /* Mirroring a score takes about as long as adding one product. */
    job->symmetric = call->x == call->y && products >= scores;
    const size_t bytes = result_bytes(call), size = compute_size(call->x->compute);
    job->streams = scores_in_place(call) && !lists_rows && !job->symmetric && bytes >= STREAMED &&
                   call->row_stride == (ptrdiff_t)(call->y->count * size) &&
                   (uintptr_t)call->out % size == 0;
    job->unusual_count = 0;
    while (arena_pass(&arena)) {
        job->unusual = arena_take(&arena, call->y->count, sizeof *job->unusual);
        job->workers = arena_take(&arena, (size_t)threads, sizeof *job->workers);
        for (size_t w = 0; w < (size_t)threads; w++) {
            struct pairwise_worker worker;
            accumulator_allocate(&worker.sums, &job->postings, lists_rows, &arena);
            worker.scores = arena_take(&arena, KERNEL_COLUMNS, sizeof(double));
            if (arena.block != NULL) {
                accumulator_clear(&worker.sums);
                job->workers[w] = worker;
            }
        }
        for (size_t j = 0; arena.block != NULL && j < call->y->count; j++) {
            job->unusual[job->unusual_count] = j;
            job->unusual_count += !is_usual(call->y->norms[j]);
        }
    }
    if (arena.block != NULL && job->streams) {
        pool_run(size_parts(bytes, TOUCHED_PART), threads, touch_part, job, call->token);
    }
    const size_t tasks = size_parts(call->x->count, TASK_ROWS) * job->postings.block_count;
    return pool_run_in_arena(&arena, tasks, threads, score_rows, job, call->token);
}

int sparse_pairwise(const struct sparse_pairwise *call)
{
    struct pairwise_job job = {.call = call};
    int status = postings_init(&job.postings, call->y, NULL, call->token);
    if (status == 0 && !cancel_requested(call->token)) {
        status = run(&job);
    }
    postings_free(&job.postings);
    return status;
}
