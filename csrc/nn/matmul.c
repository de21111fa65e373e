/*
 * output (rows, columns) = left (rows, depth) @ right (depth, columns). right is stored row by row,
 * as gradients need it. A sum consists of chains of CHAIN_STEPS terms, which are added in order. So
 * a sum does not depend on the number of rows or columns.
 */
#include <string.h>

#include "nn/layers.h"

enum {
    CHAIN_STEPS = 256, /* terms of one chain */
    /* Vectors of a block of columns: few enough that CHAIN_STEPS rows of the block stay in L2. */
    BLOCK_VECTORS = 32,
    /* The last block can have up to twice that number of vectors. */
    MAX_VECTORS = 2 * BLOCK_VECTORS,
    TASK_ROWS = 24 /* output rows of a task */
};

/* Scratch memory of a worker. data holds the partial sums of a tile. If the rows of right are
 * shorter than a vector, copies of them follow, padded with zeros. */
struct matmul_memory {
    ptrdiff_t offsets[CHAIN_STEPS], dense[MAX_VECTORS], at[MAX_VECTORS];
    char data[];
};

static size_t sums_bytes(enum compute_type compute)
{
    const struct layer_kernels *kernels = &kernels_current()->layers[compute];
    return kernels->rows * MAX_VECTORS * kernels->lanes * compute_size(compute);
}

size_t matmul_scratch(enum compute_type compute)
{
    return scratch_round(sizeof(struct matmul_memory) + sums_bytes(compute) +
                         CHAIN_STEPS * layer_lanes(compute) * compute_size(compute));
}

/* Computes output columns [column, column + columns), which are at most MAX_VECTORS vectors. The
 * last vector ends with the last column, so it can overlap the one before it. */
static void multiply_columns(const struct matmul *p, size_t column, size_t columns,
                             struct matmul_memory *memory)
{
    const struct layer_kernels *kernels = &kernels_current()->layers[p->compute];
    const size_t size = compute_size(p->compute), lanes = kernels->lanes,
                 vectors = size_parts(columns, lanes), dense = vectors * lanes;
    const bool narrow = columns < lanes;
    char *sums = memory->data, *wide = sums + sums_bytes(p->compute);
    const size_t right_step = narrow ? lanes : p->right_step;
    fill_steps(memory->offsets, smaller(p->depth, CHAIN_STEPS), right_step);
    fill_steps(memory->dense, vectors, lanes);
    for (size_t v = 0; v < vectors; v++) {
        memory->at[v] = narrow ? 0 : (ptrdiff_t)smaller(v * lanes, columns - lanes);
    }
    for (size_t r = 0, rows; r < p->rows; r += rows) {
        rows = smaller(p->rows - r, kernels->rows);
        char *out = (char *)p->output + (r * p->output_step + column) * size;
        for (size_t k = 0; k == 0 || k < p->depth; k += CHAIN_STEPS) {
            const bool last = k + CHAIN_STEPS >= p->depth, to_sums = !last || narrow;
            const size_t steps = smaller(p->depth - k, CHAIN_STEPS), widened = narrow ? steps : 0;
            const char *right = (const char *)p->right + (k * p->right_step + column) * size;
            for (size_t i = 0; i < widened; i++) {
                memset(wide + i * lanes * size, 0, lanes * size);
                memcpy(wide + i * lanes * size, right + i * p->right_step * size, columns * size);
            }
            const struct outer o = {
                .left = (const char *)p->left + (r * p->left_step + k * p->left_next) * size,
                .left_row_step = p->left_step,
                .left_depth_step = p->left_next,
                .right = narrow ? wide : right,
                .vector_offsets = memory->at,
                .depth_offsets = memory->offsets,
                .vectors = vectors,
                .depth = steps,
                .partial_sums = k > 0 ? sums : NULL,
                .partial_sums_step = dense,
                .out = to_sums ? sums : out,
                .out_step = to_sums ? dense : p->output_step,
                .out_offsets = to_sums ? memory->dense : memory->at,
            };
            kernels->outer(&o, rows);
        }
        const size_t copied = narrow ? rows : 0;
        for (size_t i = 0; i < copied; i++) {
            memcpy(out + i * p->output_step * size, sums + i * dense * size, columns * size);
        }
    }
}

void matmul_block(const struct matmul *p, void *scratch)
{
    const size_t most = BLOCK_VECTORS * layer_lanes(p->compute);
    for (size_t column = 0, columns; column < p->columns; column += columns) {
        /* The last block takes all remaining columns. It is narrower than a vector only if the
         * whole matrix is. */
        columns = p->columns - column < 2 * most ? p->columns - column : most;
        multiply_columns(p, column, columns, scratch);
    }
}

struct matmul_run {
    const struct matmul *call;
    char *scratch;
};

static void rows_task(void *context, size_t task, size_t worker)
{
    const struct matmul_run *run = context;
    struct matmul part = *run->call;
    const size_t row = task * TASK_ROWS, size = compute_size(part.compute);
    part.rows = smaller(part.rows - row, TASK_ROWS);
    part.left = (const char *)part.left + row * part.left_step * size;
    part.output = (char *)part.output + row * part.output_step * size;
    matmul_block(&part, run->scratch + worker * matmul_scratch(part.compute));
}

int matmul(const struct matmul *p)
{
    const size_t tasks = size_parts(p->rows, TASK_ROWS);
    const int threads =
        layer_threads(size_product_or_max(p->rows, p->columns), larger(p->depth, 1), tasks);
    if (p->rows == 0 || p->columns == 0) { /* an empty array: its other sizes may be huge */
        return 0;
    }
    struct matmul_run run = {p, scratch_alloc((size_t)threads * matmul_scratch(p->compute))};
    if (run.scratch == NULL) {
        return -1;
    }
    pool_run(tasks, threads, rows_task, &run, p->token);
    scratch_free(run.scratch);
    return 0;
}
