/* Blocked matrix multiplication: cuts a product into blocks, packs them and uses all threads. */
#include "pairwise/gemm.h"

#include <stdint.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "vectors/reduce.h"
#include "kernels/kernels.h"

/*
 * A task packs a block of right rows once and multiplies its left rows with it chunk by chunk. Left
 * rows are read in place: the kernel broadcasts their elements one by one, so packing them would
 * gain nothing.
 */
enum {
    RIGHT_ROWS = 512,      /* rows of a right block */
    LONG_RIGHT_ROWS = 128, /* rows of a right block, if the rows are long */
    /*
     * Upper limit of a packed block. If the rows are too long for it, the depth is cut into
     * segments.
     */
    PANEL_BYTES = 4 << 20,
    /* Size of the left rows of a chunk, which stay in the L2 cache while all panels are multiplied
     * with them. */
    CHUNK_BYTES = 256 << 10,
    LEFT_BYTES = 2 << 20,   /* upper limit of the left rows of one tile */
    COLLIDING_BYTES = 2048, /* half the size of one way of the L1 cache, on current processors */
    /* With at least this many right rows, it is faster to copy colliding left rows than to read
     * them in place. */
    COPY_RIGHT_ROWS = 64,
    /* Upper limit of the sums of a task whose depth is cut into segments. The task keeps all its
     * sums until the last segment. */
    SEGMENTED_TASK_BYTES = 2 << 20,
    /*
     * Workers poll the cancellation token before each chunk. If a chunk has this many elements or
     * more, they also poll before they multiply it with the next panel.
     */
    POLL_PANEL = 4096,
    TASKS_PER_THREAD = 4
};

struct gemm_state {
    const struct gemm *call;
    size_t tile_rows, tile_columns;
    size_t tile_depth; /* elements of a row that one kernel call sums, at most */
    tile_kernel *tile;
    transpose_kernel *transpose;      /* packs panels of floats */
    const struct byte_kernels *bytes; /* packs 8-bit integers; NULL for floats */
    size_t row_size;                  /* bytes of an element of a row */
    size_t size;          /* bytes of an element in a panel, and in a left row that kernels read */
    size_t depth_step;    /* the depth of a panel is rounded up to a multiple of this */
    size_t error_offset;  /* distance, in doubles, from a sum to its rounding error */
    size_t epilogue_rows; /* left rows that the epilogue takes at a time: whole tiles */
    size_t right_block;   /* rows of a right block: whole tiles */
    size_t right_blocks;  /* right blocks of a batch */
    size_t left_task;     /* left rows of a task: whole chunks */
    size_t left_tasks;    /* tasks of a right block */
    size_t chunk;         /* left rows of a chunk: whole tiles */
    size_t segment;       /* depth packed at a time: the whole, or a multiple of tile_depth */
    char *scratch;
    size_t scratch_of_worker; /* bytes */
    /* bytes from one copied row to the next: left rows, right rows, and left rows of 8-bit integers
     * before they are widened */
    size_t left_stride, right_stride, left_bytes_stride;
};

/* The right block that a worker packed last. It lies at the start of the worker's memory. */
struct packed_block {
    bool packed;
    size_t batch, right_block;
};

struct gemm_task {
    size_t batch;
    /* left rows [left, left_end), right rows [right, right + right_count) */
    size_t left, left_end, right, right_count;
    size_t worker;
    /* memory of the worker */
    struct packed_block *last;
    char *panel;
    double *sums; /* and their rounding errors, error_offset doubles later */
    char *right_rows, *left_rows, *left_bytes; /* rows that are copied */
    const void **left_pointers;                /* of a chunk */
};

/* Rounds n up to a multiple of step. Sizes of arrays are far enough below SIZE_MAX for this. */
static size_t round_up(size_t n, size_t step)
{
    return size_parts(n, step) * step;
}

static size_t panel_bytes(const struct gemm_state *g, size_t depth)
{
    return g->tile_columns * round_up(depth, g->depth_step) * g->size;
}

/*
 * Packs elements [k, k + depth) of the right rows into panels of tile_columns rows each, one panel
 * after another. A panel of floats is (depth, tile_columns).
 */
static void pack(const struct gemm_state *g, const struct gemm_task *t, size_t k, size_t depth)
{
    const void *rows[GEMM_MAX_COLUMNS];
    const size_t width = g->tile_columns;
    char *panel = t->panel;
    for (size_t p = 0; p < t->right_count; p += width, panel += panel_bytes(g, depth)) {
        const size_t count = smaller(width, t->right_count - p);
        if (count < width && g->bytes == NULL) { /* missing rows are zeros */
            memset(panel, 0, panel_bytes(g, depth));
        }
        for (size_t at = 0, n; at < depth; at += n) {
            n = smaller(g->tile_depth, depth - at);
            g->call->right_rows(g->call->context,
                                &(struct gemm_rows){t->batch, t->right + p, count, k + at, n,
                                                    t->worker, t->right_rows, g->right_stride,
                                                    rows});
            if (g->bytes != NULL) {
                g->bytes->pack(panel + at * width * g->size, rows, count, n);
            } else {
                g->transpose(panel + at * width * g->size, width, rows, count, n);
            }
        }
    }
}

/*
 * True if the rows are a multiple of COLLIDING_BYTES apart. Such rows share sets of the L1 cache.
 * If there are more rows than the cache has ways, they evict each other.
 */
static bool rows_collide(const void *const *rows, size_t count)
{
    return count > 1 && ((uintptr_t)rows[1] - (uintptr_t)rows[0]) % COLLIDING_BYTES == 0;
}

/*
 * Sets the left pointers to elements [k, k + depth) of rows [first, first + count). A last tile of
 * fewer rows repeats its last row.
 */
static void find_left_rows(const struct gemm_state *g, const struct gemm_task *t, size_t first,
                           size_t count, size_t k, size_t depth)
{
    const void **pointers = t->left_pointers;
    const bool widen = g->bytes != NULL;
    g->call->left_rows(g->call->context,
                       &(struct gemm_rows){t->batch, first, count, k, depth, t->worker,
                                           widen ? t->left_bytes : t->left_rows,
                                           widen ? g->left_bytes_stride : g->left_stride,
                                           pointers});
    const bool copy = !widen && t->right_count >= COPY_RIGHT_ROWS && rows_collide(pointers, count);
    for (size_t r = 0; r < count && (widen || copy); r++) {
        char *to = t->left_rows + r * g->left_stride;
        if (widen) {
            g->bytes->widen(to, pointers[r], depth);
        } else if (pointers[r] != to) { /* a converted row is there already */
            memcpy(to, pointers[r], depth * g->size);
        }
        pointers[r] = to;
    }
    for (size_t r = count; r < round_up(count, g->tile_rows); r++) {
        pointers[r] = pointers[count - 1];
    }
}

/* Returns the bytes from a left row of a chunk to that row of the next chunk, or 0 if the next one
 * is not to be prefetched. */
static size_t bytes_to_next_chunk(const struct gemm_state *g, const struct gemm_task *t,
                                  size_t count)
{
    if (!g->call->prefetch_left || g->bytes != NULL || count < 2 ||
        t->left_pointers[0] == t->left_rows) {
        return 0;
    }
    return count * ((uintptr_t)t->left_pointers[1] - (uintptr_t)t->left_pointers[0]);
}

/*
 * Multiplies left rows [first, first + count) with one panel, over the segment of depth at k. The
 * epilogue takes several tiles at a time. They are few enough that their sums are still in the
 * cache, and enough to fill whole cache lines of the result.
 */
static void multiply_panel(const struct gemm_state *g, const struct gemm_task *t, size_t first,
                           size_t count, size_t column, size_t k, size_t depth, double *sums)
{
    const char *panel = t->panel + column / g->tile_columns * panel_bytes(g, depth);
    const size_t width = g->tile_columns, columns = smaller(width, t->right_count - column),
                 end = t->right + column + columns;
    /* If the depth is one block, each tile is complete before the next one begins. Only the tiles
     * of one epilogue block then need a buffer. */
    const bool one_block = g->call->depth <= g->tile_depth;
    /* Only the first panel prefetches the rows of the next chunk: once is enough. */
    const size_t ahead = column == 0 ? bytes_to_next_chunk(g, t, count) : 0;
    if (g->call->symmetric) {
        /* sums below the diagonal are not needed */
        count = end <= first ? 0 : smaller(count, round_up(end - first, g->tile_rows));
    }
    for (size_t at = 0, n; at < depth; at += n) {
        n = smaller(g->tile_depth, depth - at);
        const bool last = k + at + n == g->call->depth;
        const unsigned flags = (k + at == 0 ? TILE_FIRST : 0) | (last ? TILE_LAST : 0);
        for (size_t row = 0, done = 0; row < count; row += g->tile_rows) {
            double *to = sums + (one_block ? row - done : row) * width;
            const size_t next = smaller(row + g->tile_rows, count);
            if (last && g->call->prefetch != NULL) {
                g->call->prefetch(g->call->context,
                                  &(struct gemm_block){t->batch, first + row, next - row,
                                                       t->right + column, columns, t->worker, NULL,
                                                       0});
            }
            g->tile(to, to + g->error_offset, t->left_pointers + row, panel + at * width * g->size,
                    at, n, flags, ahead);
            if (last && (next - done >= g->epilogue_rows || next == count)) {
                g->call->epilogue(g->call->context,
                                  &(struct gemm_block){t->batch, first + done, next - done,
                                                       t->right + column, columns, t->worker,
                                                       sums + (one_block ? 0 : done * width),
                                                       width});
                done = next;
            }
        }
    }
}

size_t gemm_pairs(bool triangle, size_t row, size_t rows, size_t column, size_t columns)
{
    size_t pairs = rows * columns;
    for (size_t i = larger(row, column); triangle && i < row + rows; i++) {
        pairs -= smaller(i - column, columns);
    }
    return pairs;
}

static void take_memory(const struct gemm_state *g, struct gemm_task *t, struct arena *arena)
{
    const size_t errors = g->call->compute == COMPUTE_F64 ? 2 : 1;
    t->last = arena_take(arena, 1, sizeof *t->last);
    t->panel = arena_take(arena, g->right_block / g->tile_columns, panel_bytes(g, g->segment));
    t->sums = arena_take(arena, errors * g->error_offset, sizeof *t->sums);
    t->right_rows = arena_take(arena, g->tile_columns, g->right_stride);
    t->left_pointers = arena_take(arena, g->chunk, sizeof *t->left_pointers);
    t->left_rows = arena_take(arena, g->chunk, g->left_stride);
    t->left_bytes = arena_take(arena, g->bytes == NULL ? 0 : g->chunk, g->left_bytes_stride);
}

static void run_chunks(const struct gemm_state *g, const struct gemm_task *t, size_t k,
                       size_t depth)
{
    double *sums = t->sums;
    const bool whole = depth == g->call->depth;
    for (size_t first = t->left, count; first < t->left_end; first += count) {
        count = smaller(g->chunk, t->left_end - first);
        find_left_rows(g, t, first, count, k, depth);
        for (size_t column = 0; column < t->right_count; column += g->tile_columns) {
            if ((column == 0 || count * depth >= POLL_PANEL) && cancel_poll_here()) {
                return;
            }
            multiply_panel(g, t, first, count, column, k, depth, sums);
            sums += whole ? 0 : round_up(count, g->tile_rows) * g->tile_columns;
        }
        if (k + depth == g->call->depth) {
            progress_add(g->call->token,
                         gemm_pairs(g->call->symmetric, first, count, t->right, t->right_count));
        }
    }
}

static void run_blocks(void *context, size_t index, size_t worker)
{
    const struct gemm_state *g = context;
    const struct gemm *call = g->call;
    const size_t in_batch = index % (g->right_blocks * g->left_tasks);
    /* The last blocks come first, because in a symmetric product they are the largest. */
    const size_t block = g->right_blocks - 1 - in_batch / g->left_tasks;
    struct gemm_task t = {.batch = index / (g->right_blocks * g->left_tasks),
                          .right = block * g->right_block,
                          .left = in_batch % g->left_tasks * g->left_task};
    t.right_count = smaller(g->right_block, call->right - t.right);
    t.left_end =
        smaller(t.left + g->left_task, call->symmetric ? t.right + t.right_count : call->left);
    if (t.left >= t.left_end) {
        return;
    }
    t.worker = worker;
    struct arena memory = {.block = g->scratch + worker * g->scratch_of_worker};
    take_memory(g, &t, &memory);
    struct packed_block *last = t.last;
    for (size_t k = 0, depth; k < call->depth && !cancel_poll_here(); k += depth) {
        depth = smaller(g->segment, call->depth - k);
        const bool whole = depth == call->depth;
        if (!(whole && last->packed && last->batch == t.batch && last->right_block == block)) {
            pack(g, &t, k, depth);
            *last = (struct packed_block){whole, t.batch, block};
        }
        run_chunks(g, &t, k, depth);
    }
}

/* Passes zeros to the epilogue. All sums of rows without elements are 0. */
static void epilogue_of_zeros(const struct gemm *call)
{
    static const double zeros[GEMM_MAX_COLUMNS + COSINE_PADDING];
    for (size_t batch = 0; batch < call->batches && !cancel_requested(call->token); batch++) {
        for (size_t i = 0; i < call->left && !cancel_requested(call->token); i++) {
            for (size_t j = call->symmetric ? i : 0, n;
                 j < call->right && !cancel_poll(call->token, 0); j += n) {
                n = smaller(GEMM_MAX_COLUMNS, call->right - j);
                call->epilogue(call->context, &(struct gemm_block){batch, i, 1, j, n, 0, zeros, n});
            }
        }
    }
}

/*
 * Sizes the blocks and a worker's scratch. The scratch is bounded by constants, because long rows
 * are cut into segments and right rows into blocks.
 */
static void plan_scratch(struct gemm_state *g, int threads)
{
    const struct gemm *call = g->call;
    const size_t right_rows =
        smaller(RIGHT_ROWS, larger(LONG_RIGHT_ROWS, PANEL_BYTES / g->size / call->depth));
    g->right_block = smaller(right_rows / g->tile_columns * g->tile_columns,
                             round_up(call->right, g->tile_columns));
    g->right_blocks = size_parts(call->right, g->right_block);
    const size_t max_segment =
        smaller(PANEL_BYTES / (g->right_block * g->size), LEFT_BYTES / (g->tile_rows * g->size));
    g->segment =
        call->depth <= max_segment ? call->depth : max_segment / g->tile_depth * g->tile_depth;
    const bool whole = g->segment == call->depth;
    g->epilogue_rows = GEMM_MAX_ROWS / g->tile_rows * g->tile_rows;
    g->chunk = smaller(GEMM_CHUNK, larger(CHUNK_BYTES / (g->segment * g->size), 1));
    g->chunk = g->chunk < g->epilogue_rows ? larger(g->chunk / g->tile_rows, 1) * g->tile_rows
                                           : g->chunk / g->epilogue_rows * g->epilogue_rows;
    g->chunk = smaller(g->chunk, round_up(call->left, g->tile_rows));
    const size_t per_sum = (call->compute == COMPUTE_F64 ? 2 : 1) * sizeof(double),
                 max_left_task = SEGMENTED_TASK_BYTES / (per_sum * g->right_block);
    const size_t tasks = (size_t)threads * TASKS_PER_THREAD,
                 blocks = size_product_or_max(call->batches, g->right_blocks);
    /* tasks that share one right block */
    const size_t shares = threads == 1 || blocks >= tasks ? 1 : tasks / blocks;
    g->left_task = round_up(size_parts(call->left, shares), g->chunk);
    g->left_task = whole ? g->left_task
                         : smaller(g->left_task, larger(max_left_task / g->chunk, 1) * g->chunk);
    g->left_tasks = size_parts(call->left, g->left_task);

    g->error_offset =
        (whole ? g->chunk : g->left_task * (g->right_block / g->tile_columns)) * g->tile_columns;
    g->right_stride = smaller(g->tile_depth, call->depth) * g->row_size;
    g->left_bytes_stride = g->segment * g->row_size;
    /* An odd number of cache lines, so that copied rows do not collide. */
    g->left_stride = scratch_round(g->segment * g->size) | SCRATCH_ALIGN;
    struct arena memory = {.block = NULL};
    struct gemm_task task;
    take_memory(g, &task, &memory);
    g->scratch_of_worker = memory.bytes;
}

static int workers_for(const struct gemm *call)
{
    const size_t sums =
        size_product_or_max(size_product_or_max(call->left, call->right), call->batches);
    const int workers =
        thread_count_for(call->symmetric ? sums / 2 : sums, call->depth, GRAIN_GEMM);
    return call->workers > 0 && workers > call->workers ? call->workers : workers;
}

static void choose_kernels(struct gemm_state *g)
{
    const enum compute_type type = g->call->compute;
    g->row_size = compute_size(type);
    if (type < COMPUTE_TYPES) {
        const struct tile_kernels *kernels = &kernels_current()->tiles[type];
        g->tile_rows = kernels->rows;
        g->tile_columns = kernels->columns;
        g->tile_depth = TILE_DEPTH;
        g->tile = kernels->tile;
        g->transpose = kernels->transpose;
        g->size = g->row_size;
        g->depth_step = 1;
    } else {
        g->bytes = &kernels_current()->bytes[type - COMPUTE_TYPES];
        g->tile_rows = g->bytes->rows;
        g->tile_columns = g->bytes->columns;
        g->tile_depth = BYTE_DEPTH;
        g->tile = g->bytes->tile;
        g->size = g->bytes->element_size;
        g->depth_step = BYTE_GROUP;
    }
}

int gemm_run(const struct gemm *call)
{
    if (call->batches == 0 || call->left == 0 || call->right == 0) {
        return 0;
    }
    if (call->depth == 0) {
        epilogue_of_zeros(call);
        return 0;
    }
    struct gemm_state g = {.call = call};
    choose_kernels(&g);
    int threads = workers_for(call);
    plan_scratch(&g, threads);
    size_t tasks;
    if (!size_mul(call->batches, g.right_blocks, &tasks) ||
        !size_mul(tasks, g.left_tasks, &tasks)) {
        return -1; /* more tasks than a size_t can count */
    }
    threads = (size_t)threads < tasks ? threads : (int)tasks;
    g.scratch = scratch_alloc(size_product_or_max((size_t)threads, g.scratch_of_worker));
    if (g.scratch == NULL) {
        return -1;
    }
    for (int i = 0; i < threads; i++) {
        ((struct packed_block *)(g.scratch + (size_t)i * g.scratch_of_worker))->packed = false;
    }
    pool_run(tasks, threads, run_blocks, &g, call->token);
    scratch_free(g.scratch);
    return 0;
}
