#include "core/tiles.h"

#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "core/reduce.h"
#include "kernels/kernels.h"

enum {
    LEFT_ROWS = 192,           /* rows of a block, a side: their panels of one TILE_DEPTH share the L2 cache */
    RIGHT_ROWS = 256,
    PANEL_BYTES = 3 << 20,     /* both panels of a worker, at the most: longer rows are cut into segments of depth */
};

struct driver {
    const struct tiles *call;
    size_t tile_rows, tile_columns;
    tile_kernel *tile;
    transpose_kernel *transpose;
    size_t size;                      /* bytes of an element */
    size_t tile_sums;                 /* doubles that the kernel wants for a tile */
    size_t left_block, right_block;   /* rows of a block, whole tiles */
    size_t left_blocks, right_blocks; /* blocks of a batch */
    size_t segment;                   /* depth that is packed at a time: all of it, or some TILE_DEPTHs */
    bool one_block;                   /* depth <= TILE_DEPTH: sums need not wait for the next block of depth */
    char *scratch;
    size_t scratch_of_worker, right_panel, sums, rows; /* bytes a worker has, and where its parts begin */
};

/* What a worker keeps between tasks: the left panel it packed last. Lies at the start of its scratch. */
struct worker_state {
    bool packed;
    size_t batch, left_block;
};

struct block {
    size_t batch;
    size_t left, left_count, right, right_count; /* first row and number of rows, each side */
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t round_up(size_t n, size_t step)
{
    return (n + step - 1) / step * step;
}

typedef const void *row_source(const void *context, size_t batch, size_t row, size_t k, size_t n, void *buffer);

/*
 * Panels of `width` rows, one after another, each in blocks of TILE_DEPTH steps; a step is the `width` rows' elements.
 * Element (row, k) of panel p is at p * width * depth + (k * width + row).
 */
static void pack_side(const struct driver *d, row_source *source, size_t batch, size_t first, size_t count, size_t width, size_t k,
                      size_t depth, char *rows, char *panel)
{
    const void *in_place[TILES_MAX];
    for (size_t p = 0; p < count; p += width, panel += width * depth * d->size) {
        const size_t some = smaller(width, count - p);
        for (size_t at = 0, n; at < depth; at += n) {
            n = smaller(TILE_DEPTH, depth - at);
            for (size_t r = 0; r < some; r++) {
                in_place[r] = source(d->call->context, batch, first + p + r, k + at, n, rows + r * TILE_DEPTH * d->size);
            }
            if (some < width) { /* rows that are not there count as zeros */
                memset(panel + at * width * d->size, 0, width * n * d->size);
            }
            d->transpose(panel + at * width * d->size, width, in_place, some, n);
        }
    }
}

/* All tiles of the block over TILE_DEPTH blocks of the segment at k; left and right are its packed panels. */
static void multiply(const struct driver *d, const struct block *block, const char *left, const char *right, size_t k, size_t depth, double *sums)
{
    const size_t right_tiles = (block->right_count + d->tile_columns - 1) / d->tile_columns;
    for (size_t at = 0, n; at < depth; at += n) {
        n = smaller(TILE_DEPTH, depth - at);
        const bool last = k + at + n == d->call->depth;
        const unsigned flags = (k + at == 0 ? TILE_FIRST : 0) | (last ? TILE_LAST : 0);
        for (size_t column = 0; column < block->right_count; column += d->tile_columns) {
            const char *b = right + (column * depth + at * d->tile_columns) * d->size;
            const size_t columns = smaller(d->tile_columns, block->right_count - column), end = block->right + column + columns;
            for (size_t row = 0; row < block->left_count; row += d->tile_rows) {
                if (d->call->symmetric && end <= block->left + row) {
                    break; /* below the diagonal, as are all that follow */
                }
                const char *a = left + (row * depth + at * d->tile_rows) * d->size;
                double *to = d->one_block ? sums : sums + (row / d->tile_rows * right_tiles + column / d->tile_columns) * d->tile_sums;
                d->tile(to, a, b, n, flags);
                if (last) {
                    const size_t rows = smaller(d->tile_rows, block->left_count - row);
                    d->call->finish(d->call->context, block->batch, block->left + row, rows, block->right + column, columns, to, d->tile_columns);
                }
            }
        }
    }
}

static void run_block(void *context, size_t task, size_t worker)
{
    const struct driver *d = context;
    const struct tiles *call = d->call;
    const size_t blocks = d->left_blocks * d->right_blocks, in_batch = task % blocks, left_block = in_batch / d->right_blocks;
    struct block block = {.batch = task / blocks, .left = left_block * d->left_block, .right = in_batch % d->right_blocks * d->right_block};
    block.left_count = smaller(d->left_block, call->left - block.left);
    block.right_count = smaller(d->right_block, call->right - block.right);
    if (call->symmetric && block.right + block.right_count <= block.left) {
        return;
    }
    char *scratch = d->scratch + worker * d->scratch_of_worker;
    struct worker_state *state = (struct worker_state *)scratch;
    char *left = scratch + SCRATCH_ALIGN, *right = scratch + d->right_panel, *rows = scratch + d->rows;
    for (size_t k = 0, depth; k < call->depth; k += depth) {
        depth = smaller(d->segment, call->depth - k);
        const bool whole = depth == call->depth;
        if (!(whole && state->packed && state->batch == block.batch && state->left_block == left_block)) {
            pack_side(d, call->left_row, block.batch, block.left, block.left_count, d->tile_rows, k, depth, rows, left);
            *state = (struct worker_state){whole, block.batch, left_block};
        }
        pack_side(d, call->right_row, block.batch, block.right, block.right_count, d->tile_columns, k, depth, rows, right);
        multiply(d, &block, left, right, k, depth, (double *)(scratch + d->sums));
    }
}

/* Rows of no elements: every sum is 0. */
static void finish_empty(const struct tiles *call)
{
    static const double zeros[TILES_MAX];
    for (size_t batch = 0; batch < call->batches; batch++) {
        for (size_t i = 0; i < call->left; i++) {
            for (size_t j = call->symmetric ? i : 0, n; j < call->right; j += n) {
                n = smaller(TILES_MAX, call->right - j);
                call->finish(call->context, batch, i, 1, j, n, zeros, n);
            }
        }
    }
}

static void lay_out(struct driver *d)
{
    const struct tiles *call = d->call;
    d->left_block = smaller(LEFT_ROWS / d->tile_rows * d->tile_rows, round_up(call->left, d->tile_rows));
    d->right_block = smaller(RIGHT_ROWS / d->tile_columns * d->tile_columns, round_up(call->right, d->tile_columns));
    d->left_blocks = (call->left + d->left_block - 1) / d->left_block;
    d->right_blocks = (call->right + d->right_block - 1) / d->right_block;
    const size_t step = (d->left_block + d->right_block) * d->size; /* bytes of one k of both panels */
    d->segment = smaller(call->depth, PANEL_BYTES / step / TILE_DEPTH * TILE_DEPTH);
    d->one_block = call->depth <= TILE_DEPTH;
    const size_t tiles = d->one_block ? 1 : d->left_block / d->tile_rows * (d->right_block / d->tile_columns);
    d->right_panel = SCRATCH_ALIGN + scratch_round(d->left_block * d->segment * d->size);
    d->sums = d->right_panel + scratch_round(d->right_block * d->segment * d->size);
    d->rows = d->sums + scratch_round(tiles * d->tile_sums * sizeof(double));
    d->scratch_of_worker = d->rows + scratch_round(TILES_MAX * TILE_DEPTH * d->size);
}

int tiles_run(const struct tiles *call)
{
    if (call->batches == 0 || call->left == 0 || call->right == 0) {
        return 0;
    }
    if (call->depth == 0) {
        finish_empty(call);
        return 0;
    }
    const struct kernels *kernels = kernels_current();
    const bool f64 = call->work == WORK_F64;
    struct driver d = {
        .call = call,
        .tile_rows = kernels->tile_rows,
        .tile_columns = f64 ? kernels->tile_columns_f64 : kernels->tile_columns_f32,
        .tile = f64 ? kernels->tile_f64 : kernels->tile_f32,
        .transpose = f64 ? kernels->transpose_f64 : kernels->transpose_f32,
        .size = work_size(call->work),
    };
    d.tile_sums = (f64 ? 2 : 1) * d.tile_rows * d.tile_columns;
    lay_out(&d);
    const size_t tasks = call->batches * d.left_blocks * d.right_blocks;
    size_t outputs;
    int threads = size_mul(call->left * call->right, call->batches, &outputs) ? threads_for(outputs, call->depth) : pool_get_threads();
    threads = (size_t)threads < tasks ? threads : (int)tasks;
    size_t bytes;
    if (!size_mul((size_t)threads, d.scratch_of_worker, &bytes) || (d.scratch = scratch_alloc(bytes)) == NULL) {
        return -1;
    }
    for (int i = 0; i < threads; i++) {
        ((struct worker_state *)(d.scratch + (size_t)i * d.scratch_of_worker))->packed = false;
    }
    pool_run(tasks, threads, run_block, &d);
    scratch_free(d.scratch);
    return 0;
}
