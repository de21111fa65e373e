/* ColBERT's MaxSim: keeps the largest cosines of blocks of scores, which are never stored. */
#include "pairwise/maxsim.h"

#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "pairwise/near_rows.h"
#include "pairwise/pairwise.h"

enum {
    QUERY_BLOCK = 1024, /* query rows that share one pass over the documents */
    /* A task has this many document rows, but fewer if its maxima would exceed TASK_MAXIMA. */
    TASK_ROWS = 4096,
    MIN_TASK_ROWS = 240,
    TASK_MAXIMA = 1 << 18
};

/*
 * Work is cut into tasks of task_rows rows, wherever documents begin. A document that lies within
 * one task gets its score there. Other documents leave the maxima of their part of the task in
 * `edges`: first those of the document that began in an earlier task, then those of the document
 * that ends in a later one. They get their scores after all tasks.
 */
struct maxsim_state {
    const struct maxsim *call;
    enum compute_type compute;
    size_t size;               /* bytes of a score */
    size_t rows;               /* document rows */
    size_t first, count, step; /* the block of query rows; elements of a row of maxima */
    size_t task_rows;
    char *edges;  /* (tasks, 2, step) */
    char *maxima; /* (workers, maxima_rows, step) */
    size_t maxima_rows;
    size_t *numbers;          /* (workers, NEAR_ROWS): rows that rough cosines do not rule out */
    struct reduction product; /* all document rows with the block of query rows */
    struct plan plan;
    struct near_rows near;
    _Atomic bool no_memory;
};

/* Documents whose rows a worker multiplies. maxima is (documents, step). */
struct product_rows {
    const struct maxsim_state *state;
    size_t row;            /* the first row */
    const size_t *numbers; /* row r of the product is row + numbers[r]; NULL: row + r */
    size_t document;       /* the first document */
    char *maxima;
    size_t current; /* the document of the block that came last */
};

/* Returns the document of a row. */
static size_t document_of(const struct maxsim *m, size_t row)
{
    size_t low = 0, high = m->documents;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if ((size_t)m->offsets[middle] <= row) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static size_t document_begin(const struct maxsim *m, size_t document)
{
    return (size_t)m->offsets[document];
}

static bool is_chosen(const struct maxsim *m, size_t document)
{
    return m->mask == NULL || m->mask[document] != 0;
}

static size_t row_of(const struct product_rows *run, size_t r)
{
    return run->row + (run->numbers == NULL ? r : run->numbers[r]);
}

/* Receives a block of scores: rows are document rows, columns are query rows. */
static void take_scores(const void *context, const struct gemm_block *b, const void *scores,
                        size_t step)
{
    struct product_rows *run = (struct product_rows *)context;
    const struct maxsim_state *s = run->state;
    const struct maxsim *m = s->call;
    maxima_kernel *maxima = kernels_current()->tiles[s->compute].maxima;
    size_t document = run->current;
    for (size_t r = 0, begin; r < b->rows;) {
        const size_t row = row_of(run, b->row + r);
        if (document_begin(m, document) > row || document_begin(m, document + 1) <= row) {
            document = document_of(m, row);
        }
        begin = r++;
        while (r < b->rows && row_of(run, b->row + r) < document_begin(m, document + 1)) {
            r++;
        }
        maxima(run->maxima + ((document - run->document) * s->step + b->column) * s->size,
               (const char *)scores + begin * step * s->size, step, r - begin, b->columns);
    }
    run->current = document;
}

static void set_lowest(const struct maxsim_state *s, void *maxima, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        compute_store(s->compute, maxima, i, -INFINITY);
    }
}

/* Adds the maxima of the block of query rows to the score of a document. */
static void add_to_score(const struct maxsim_state *s, size_t document, const void *maxima)
{
    double sum = s->first == 0 ? compute_load(s->compute, maxima, 0) : s->call->scores[document];
    for (size_t i = s->first == 0; i < s->count; i++) {
        sum += compute_load(s->compute, maxima, i);
    }
    s->call->scores[document] = sum;
}

/* Plans the product of all document rows with the block of query rows. */
static void plan_product(struct maxsim_state *s)
{
    const struct maxsim *m = s->call;
    struct axis query_rows = m->query_rows;
    query_rows.size = s->count;
    plan_pairs(&s->plan, &m->rows, &query_rows, &m->depth);
    s->product = (struct reduction){.op = OP_COSINE,
                                    .eps = m->eps,
                                    .x = m->x,
                                    .y = m->y,
                                    .out_dtype = s->compute == COMPUTE_F32 ? DTYPE_F32 : DTYPE_F64,
                                    .plan = &s->plan,
                                    .distinct = true,
                                    .x_step = m->rows.x,
                                    .workers = 1};
    s->product.y.data += (ptrdiff_t)s->first * m->query_rows.y;
}

/* Computes the maxima of rows [first, end), which belong to documents from `document` on. Returns
 * 0, or -1 when memory runs out. */
static int multiply(const struct maxsim_state *s, size_t worker, size_t document, size_t documents,
                    size_t first, size_t end, char *maxima)
{
    size_t *const numbers = s->near.scratch == NULL ? NULL : s->numbers + worker * NEAR_ROWS;
    struct product_rows run = {s, first, numbers, document, maxima, document};
    const struct score_receiver receiver = {take_scores, &run};
    struct plan plan = s->plan;
    struct reduction call = s->product;
    int status = 0;
    call.plan = &plan;
    call.receiver = &receiver;
    call.x.data += (ptrdiff_t)first * s->call->rows.x;
    call.x_numbers = numbers;
    set_lowest(s, maxima, documents * s->step);
    for (size_t row = first, next; row < end && status == 0; row = next) {
        next = numbers == NULL ? end : smaller(end, row + NEAR_ROWS);
        plan.left.at[0].size = numbers == NULL
                                   ? end - row
                                   : near_rows_find(&s->near, worker, document_of(s->call, row),
                                                    row, next, first, numbers);
        status = cancel_poll_here() ? 0 : pairwise_run(&call);
    }
    return status;
}

/* A document can extend over several tasks. Returns where a task leaves its maxima of such a
 * document: edge 0 is for the document that began in an earlier task, edge 1 for the one that ends
 * in a later task. */
static char *edge_at(const struct maxsim_state *s, size_t task, size_t edge)
{
    return s->edges + (task * 2 + edge) * s->step * s->size;
}

/* Handles the rows of a task from the first one of `document` to row `end`, which belong to
 * consecutive chosen documents. There may be none. Returns 0, or -1 when memory runs out. */
static int run_documents(const struct maxsim_state *s, size_t task, size_t worker, size_t document,
                         size_t end)
{
    const struct maxsim *m = s->call;
    const size_t task_begin = task * s->task_rows,
                 task_end = smaller(s->rows, task_begin + s->task_rows),
                 first = larger(task_begin, document_begin(m, document));
    char *maxima = s->maxima + worker * s->maxima_rows * s->step * s->size;
    if (first >= end) {
        return 0;
    }
    const size_t documents = document_of(m, end - 1) - document + 1;
    if (multiply(s, worker, document, documents, first, end, maxima) < 0) {
        return -1;
    }
    for (size_t d = document; d < document + documents; d++, maxima += s->step * s->size) {
        if (document_begin(m, d) < task_begin) {
            memcpy(edge_at(s, task, 0), maxima, s->step * s->size);
        } else if (document_begin(m, d + 1) > task_end) {
            memcpy(edge_at(s, task, 1), maxima, s->step * s->size);
        } else {
            add_to_score(s, d, maxima);
        }
    }
    return 0;
}

static void run_task(void *context, size_t task, size_t worker)
{
    struct maxsim_state *s = context;
    const struct maxsim *m = s->call;
    const size_t first = task * s->task_rows, end = smaller(s->rows, first + s->task_rows);
    size_t document = document_of(m, first), begin = document, ended = 0;
    int status = 0;
    for (; status == 0 && document < m->documents && document_begin(m, document) < end;
         document++) {
        ended += document_begin(m, document + 1) <= end;
        if (!is_chosen(m, document)) {
            status = run_documents(s, task, worker, begin, document_begin(m, document));
            begin = document + 1;
        }
    }
    if (status < 0 || run_documents(s, task, worker, begin, end) < 0) {
        atomic_store(&s->no_memory, true);
    } else if (s->first + s->count == m->query_rows.size) {
        progress_add(m->token, ended);
    }
}

/* Scores the documents that lie in several tasks. */
static void join_edges(const struct maxsim_state *s, size_t tasks)
{
    const struct maxsim *m = s->call;
    maxima_kernel *maxima = kernels_current()->tiles[s->compute].maxima;
    for (size_t task = 0; task + 1 < tasks; task++) {
        const size_t end = (task + 1) * s->task_rows, document = document_of(m, end - 1),
                     document_end = document_begin(m, document + 1);
        if (document_end <= end || document_begin(m, document) < task * s->task_rows ||
            !is_chosen(m, document)) {
            continue;
        }
        for (size_t t = task + 1; t < tasks && t * s->task_rows < document_end; t++) {
            maxima(edge_at(s, task, 1), edge_at(s, t, 0), s->step, 1, s->count);
        }
        add_to_score(s, document, edge_at(s, task, 1));
    }
}

int maxsim_run(const struct maxsim *m)
{
    struct maxsim_state s = {.call = m, .rows = m->rows.size};
    const bool narrow = dtype_compute_type(m->x.dtype) == COMPUTE_F32 &&
                        dtype_compute_type(m->y.dtype) == COMPUTE_F32;
    const size_t queries = m->query_rows.size, block = smaller(queries, QUERY_BLOCK);
    s.compute = narrow ? COMPUTE_F32 : COMPUTE_F64;
    s.size = compute_size(s.compute);
    s.step = size_parts(block, GEMM_MAX_COLUMNS) * GEMM_MAX_COLUMNS;
    s.task_rows = smaller(TASK_ROWS, larger(MIN_TASK_ROWS, TASK_MAXIMA / larger(s.step, 1)));
    s.maxima_rows = smaller(s.task_rows, m->documents);
    const size_t tasks = size_parts(s.rows, s.task_rows);
    const int workers =
        thread_count_for(size_product_or_max(s.rows, queries), m->depth.size, GRAIN_GEMM);
    struct arena arena = {.block = NULL};
    while (arena_pass(&arena)) {
        s.edges = arena_take(&arena, size_product_or_max(tasks, 2), s.step * s.size);
        s.maxima = arena_take(&arena, size_product_or_max((size_t)workers, s.maxima_rows),
                              s.step * s.size);
        s.numbers = arena_take(&arena, (size_t)workers * NEAR_ROWS, sizeof *s.numbers);
    }
    if (arena.block == NULL) {
        return -1;
    }
    for (s.first = 0; s.first < queries && !cancel_requested(m->token); s.first += s.count) {
        s.count = smaller(block, queries - s.first);
        plan_product(&s);
        if (near_rows_begin(&s.near, &s.product, m->offsets, m->documents, workers) < 0) {
            scratch_free(arena.block);
            return -1;
        }
        pool_run(tasks, workers, run_task, &s, m->token);
        near_rows_end(&s.near);
        if (!cancel_requested(m->token) && !atomic_load(&s.no_memory)) {
            join_edges(&s, tasks);
        }
    }
    scratch_free(arena.block);
    return atomic_load(&s.no_memory) ? -1 : 0;
}
