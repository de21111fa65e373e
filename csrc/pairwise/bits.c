/* Hamming distances of rows of packed bits, block by block, and their scores as a matrix. */
#include "pairwise/bits.h"

#include <string.h>

#include "base/cpu.h"
#include "base/pool.h"
#include "base/scratch.h"
#include "pairwise/gemm.h"

enum {
    /* Size of the rows of x in a block. They stay in the cache. A block has at least MIN_ROWS. */
    CACHED_BYTES = 1 << 15,
    MIN_ROWS = 16,
    TASK_BYTES = 1 << 21, /* bytes that one task compares: about 0.1 ms */
    /* Comparing this many bytes takes as long as one multiplication of a GEMM. */
    BYTES_PER_MULTIPLICATION = 4,
    /* A block is fetched from memory PIECE_ROWS rows at a time, into the L2 cache. Intel's
     * processors fetch ahead within a page of 4 KB, so several pages arrive faster than one: there,
     * a piece has the same number of rows from each of INTEL_STREAMS parts of the block. Other
     * processors read one stream fastest (AMD: 1.1 ms in place of 1.7). */
    INTEL_STREAMS = 8,
    PIECE_ROWS = 16,
    PIECE_BYTES = 512, /* longer rows are fetched in order, or too many lines would be pending */
    CACHE_LINE = 64
};

/* ---- scores ---- */

struct bit_formula bit_formula_make(size_t bytes, double eps)
{
    const double elements = 8.0 * (double)bytes;
    return (struct bit_formula){elements, formula_divisor(elements, elements, eps, eps)};
}

int32_t bit_distance_at_most(const struct bit_formula *f, double threshold)
{
    /* `real` solves score(distance) = threshold in real numbers. Rounding can make it wrong by a
     * few bits; the loops below correct these. */
    const double real = (f->elements - threshold * f->divisor) / 2.0;
    /* For a threshold of 0 and an infinite divisor, `real` is NaN. All scores are 0 then, so the
     * largest distance is the answer. */
    int32_t distance = (int32_t)f->elements;
    if (real < f->elements) {
        distance = real < 0.0 ? -1 : (int32_t)real;
    }
    while (distance < (int32_t)f->elements && bit_score(f, distance + 1) >= threshold) {
        distance++;
    }
    while (distance >= 0 && bit_score(f, distance) < threshold) {
        distance--;
    }
    return distance;
}

/* ---- distances ---- */

struct bit_state {
    const struct bit_blocks *blocks;
    size_t block_rows;              /* rows of x in a block */
    size_t task_rows, task_columns; /* rows of x and of y in a task */
    size_t tasks_along_y;
    char *copies; /* buffers of the workers for rows whose bytes are not contiguous; or NULL */
    size_t copies_per_worker;
};

static bool is_contiguous(const struct bit_rows *rows, size_t bytes)
{
    return rows->byte_step == 1 || bytes == 1;
}

static const char *bit_row(const struct bit_rows *rows, size_t row)
{
    const size_t number = rows->numbers == NULL ? row : rows->numbers[row];
    return rows->data + (ptrdiff_t)number * rows->row_step;
}

/* Returns the address of row `first`, followed by the other rows of [first, first + count), *step
 * bytes apart. Copies the rows to buffer if their bytes are not contiguous, or if their numbers are
 * not consecutive. */
static const char *find_rows(const struct bit_rows *rows, size_t first, size_t count, size_t bytes,
                             char *buffer, ptrdiff_t *step)
{
    if (is_contiguous(rows, bytes) &&
        (rows->numbers == NULL ||
         rows->numbers[first + count - 1] - rows->numbers[first] == count - 1)) {
        *step = rows->row_step;
        return bit_row(rows, first);
    }
    *step = (ptrdiff_t)bytes;
    for (size_t r = 0; r < count; r++) {
        const char *from = bit_row(rows, first + r);
        for (size_t k = 0; k < bytes; k++) {
            buffer[r * bytes + k] = from[(ptrdiff_t)k * rows->byte_step];
        }
    }
    return buffer;
}

/* Fetches the next PIECE_ROWS rows of a block of `rows` rows into the cache: the same number from
 * each of its parts. r rows were fetched before. */
static void fetch_piece(const char *x, ptrdiff_t x_step, size_t rows, size_t r, size_t bytes)
{
    const size_t streams = cpu_features() & CPU_INTEL ? INTEL_STREAMS : 1;
    const size_t part = rows / streams, first = r / streams,
                 end = smaller(first + PIECE_ROWS / streams, part);
    for (size_t s = 0; s < streams; s++) {
        const char *row = x + (ptrdiff_t)(s * part + first) * x_step;
        for (size_t i = first; i < end; i++, row += x_step) {
            for (size_t k = 0; k < bytes; k += CACHE_LINE) {
                __builtin_prefetch(row + k, 0, 2);
            }
        }
    }
}

/* Computes the distances of a block of rows that comes from memory, and fetches the next block.
 * Rows that do not end with a cache line are not compared in pieces: the kernel would copy the last
 * row of each piece. */
static void compare_and_fetch(int32_t *distances, const char *x, ptrdiff_t x_step, size_t rows,
                              const char *y, size_t bytes)
{
    const bool in_pieces = bytes % CACHE_LINE == 0 && bytes <= PIECE_BYTES;
    for (size_t r = 0, count; r < rows; r += count) {
        count = in_pieces ? smaller(PIECE_ROWS, rows - r) : rows;
        if (in_pieces) {
            fetch_piece(x + (ptrdiff_t)rows * x_step, x_step, rows, r, bytes);
        }
        kernels_current()->bits->hamming(distances + r, x + (ptrdiff_t)r * x_step, x_step, count, y,
                                         bytes);
    }
}

/* Compares rows [row, row + rows) of x with rows [column, end) of y. */
static void compare(const struct bit_state *s, size_t worker, size_t row, size_t rows,
                    size_t column, size_t end)
{
    const struct bit_blocks *b = s->blocks;
    hamming_kernel *hamming = kernels_current()->bits->hamming;
    int32_t distances[BIT_BLOCK_COLUMNS * BIT_BLOCK_ROWS];
    char *x_copies = NULL, *y_copies = NULL;
    ptrdiff_t x_step, y_step;
    if (s->copies != NULL) {
        x_copies = s->copies + worker * s->copies_per_worker;
        y_copies = x_copies + s->block_rows * b->bytes;
    }
    const char *x = find_rows(&b->x, row, rows, b->bytes, x_copies, &x_step);
    bool in_cache = x == x_copies;
    for (size_t count; column < end && !cancel_poll_here(); column += count) {
        count = smaller(BIT_BLOCK_COLUMNS, end - column);
        const char *y = find_rows(&b->y, column, count, b->bytes, y_copies, &y_step);
        if (!in_cache) {
            compare_and_fetch(distances, x, x_step, rows, y, b->bytes);
        }
        for (size_t c = !in_cache; c < count; c++) {
            hamming(distances + c * BIT_BLOCK_ROWS, x, x_step, rows, y + (ptrdiff_t)c * y_step,
                    b->bytes);
        }
        in_cache = true;
        b->take(b->context, &(struct bit_block){worker, row, rows, column, count, distances});
    }
}

static void compare_task(void *context, size_t task, size_t worker)
{
    const struct bit_state *s = context;
    const struct bit_blocks *b = s->blocks;
    const size_t first = task / s->tasks_along_y * s->task_rows,
                 column = task % s->tasks_along_y * s->task_columns,
                 last = smaller(b->x.rows, first + s->task_rows),
                 end = smaller(b->y.rows, column + s->task_columns);
    for (size_t row = first, rows; row < last; row += rows) {
        rows = smaller(s->block_rows, last - row);
        const size_t begin = b->triangle ? larger(row, column) : column;
        if (begin < end) {
            compare(s, worker, row, rows, begin, end);
            progress_add(b->token, gemm_pairs(b->triangle, row, rows, column, end - column));
        }
    }
}

/* Divides the pairs into tasks of about TASK_BYTES. A task compares one block of x with as many
 * rows of y as that allows. If y has fewer rows, it compares several blocks of x with all of
 * them. */
static void plan_tasks(struct bit_state *s)
{
    const struct bit_blocks *b = s->blocks;
    s->block_rows = smaller(larger(CACHED_BYTES / b->bytes, MIN_ROWS), BIT_BLOCK_ROWS);
    const size_t columns = larger(TASK_BYTES / (s->block_rows * b->bytes), 1);
    s->task_columns =
        smaller(size_parts(columns, BIT_BLOCK_COLUMNS) * BIT_BLOCK_COLUMNS, b->y.rows);
    s->task_rows = larger(columns / s->task_columns, 1) * s->block_rows;
    s->tasks_along_y = size_parts(b->y.rows, s->task_columns);
}

int bit_blocks_run(const struct bit_blocks *b)
{
    struct bit_state s = {.blocks = b};
    if (b->x.rows == 0 || b->y.rows == 0) {
        return 0;
    }
    plan_tasks(&s);
    const size_t tasks = size_product_or_max(size_parts(b->x.rows, s.task_rows), s.tasks_along_y);
    const int threads =
        thread_count_for(size_product_or_max(b->x.rows, b->y.rows),
                         size_parts(b->bytes, BYTES_PER_MULTIPLICATION), GRAIN_GEMM);
    const int workers = threads < b->workers ? threads : b->workers;
    if (!is_contiguous(&b->x, b->bytes) || !is_contiguous(&b->y, b->bytes) ||
        b->x.numbers != NULL || b->y.numbers != NULL) {
        s.copies_per_worker = scratch_round((s.block_rows + BIT_BLOCK_COLUMNS) * b->bytes);
        s.copies = scratch_alloc(size_product_or_max((size_t)workers, s.copies_per_worker));
        if (s.copies == NULL) {
            return -1;
        }
    }
    pool_run(tasks, workers, compare_task, &s, b->token);
    scratch_free(s.copies);
    return 0;
}

/* ---- the matrix ---- */

struct bit_matrix {
    const struct reduction *call;
    struct bit_formula formula;
    bool symmetric;
};

/* Stores the scores of a block. Rows of x are right rows of the result, because they are the longer
 * side of a block and the elements of the result are contiguous along them. */
static void store_block(void *context, const struct bit_block *b)
{
    const struct bit_matrix *m = context;
    const struct reduction *call = m->call;
    const struct axis *left = &call->plan->left.at[0], *right = &call->plan->right.at[0];
    double scores[BIT_BLOCK_COLUMNS * BIT_BLOCK_ROWS], mirrored[BIT_BLOCK_COLUMNS];
    for (size_t c = 0; c < b->columns; c++) {
        double *row = scores + c * BIT_BLOCK_ROWS;
        for (size_t r = 0; r < b->rows; r++) {
            row[r] = bit_score(&m->formula, b->distances[c * BIT_BLOCK_ROWS + r]);
        }
        dtype_store(call->out_dtype,
                    call->out + (ptrdiff_t)(b->column + c) * left->out +
                        (ptrdiff_t)b->row * right->out,
                    right->out, row, b->rows);
    }
    for (size_t r = 0; m->symmetric && r < b->rows; r++) {
        for (size_t c = 0; c < b->columns; c++) {
            mirrored[c] = scores[c * BIT_BLOCK_ROWS + r];
        }
        dtype_store(call->out_dtype,
                    call->out + (ptrdiff_t)(b->row + r) * left->out +
                        (ptrdiff_t)b->column * right->out,
                    right->out, mirrored, b->columns);
    }
}

int bit_pairs(const struct reduction *call)
{
    const struct axis *left = &call->plan->left.at[0], *right = &call->plan->right.at[0],
                      *depth = &call->plan->reduced.at[0];
    struct bit_matrix matrix = {
        .call = call,
        .formula = bit_formula_make(depth->size, call->eps),
        .symmetric = call->x.data == call->y.data && left->size == right->size &&
                     left->x == right->y && depth->x == depth->y,
    };
    const struct bit_blocks blocks = {
        .x = {call->y.data, right->y, depth->y, right->size, NULL},
        .y = {call->x.data, left->x, depth->x, left->size, NULL},
        .bytes = depth->size,
        .triangle = matrix.symmetric,
        .take = store_block,
        .context = &matrix,
        .workers = pool_get_threads(),
        .token = call->token,
    };
    return bit_blocks_run(&blocks);
}
