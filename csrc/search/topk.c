/* Top-k: the k best candidates of each query. */
#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "base/scratch.h"
#include "results/ranking.h"
#include "search/block.h"
#include "search/search.h"
#include "search/topk.h"

enum {
    /* queries share locks: one for each query would take more memory and gain no time */
    LOCKS = 256,
    /*
     * Up to this k, the entries of a query are sorted in the result, and a better one is inserted.
     * For larger k, up to twice k candidates of a query are collected. Then the k best of them are
     * selected, which raises the threshold. So the time of a candidate does not depend on k.
     */
    MAX_SORTED = 64,
    /* Queries are searched in blocks, whose collected candidates take about this much memory. */
    COLLECTED_BYTES = 32 << 20,
    /* The first WARM_ROWS + WARM_TIMES_K * k corpus rows are scored without the prefilter. After
     * them, at most one row in thirty reaches the threshold of a query, so the prefilter saves
     * time. */
    WARM_ROWS = 1024,
    WARM_TIMES_K = 32,
    /* For large k, the prefilter runs only if the corpus has at least this many times k rows for
     * each query, or for each of MANY_QUERIES queries if there are more. */
    MIN_ROWS_PER_RESULT = 8,
    MANY_QUERIES = 32
};

/* The threshold that the lower bounds give a query; -infinity if it has none. */
static double floor_of(const struct topk *t, size_t query)
{
    const struct waiting *w = t->waiting;
    const size_t row = w == NULL ? SIZE_MAX : query - w->search->first_query;
    return w == NULL || row >= w->search->corpus_rows.size ? -INFINITY : waiting_threshold(w, row);
}

/* True if candidates are collected. They belong to one block of queries, so a pair of two queries
 * is scored twice, once for each query. */
static bool is_collecting(const struct topk *t)
{
    return t->k > MAX_SORTED;
}

static inline void set_threshold(struct topk *t, enum compute_type compute, size_t worker,
                                 size_t query, double threshold)
{
    struct result_handler *handler = &t->result_handler;
    compute_store(compute, handler->thresholds, worker * handler->thresholds_step + query,
                  threshold);
}

/* The number after a threshold, or infinity if no score is above it. Compilers vectorize it. */
static inline float after_float(float threshold)
{
    int32_t bits;
    memcpy(&bits, &threshold, sizeof bits);
    bits = threshold == 0.0f ? 1 : threshold > 0.0f ? bits + 1 : bits - 1;
    memcpy(&threshold, &bits, sizeof bits);
    return threshold > 1.0f ? INFINITY : threshold;
}

static inline double after_double(double threshold)
{
    int64_t bits;
    memcpy(&bits, &threshold, sizeof bits);
    bits = threshold == 0.0 ? 1 : threshold > 0.0 ? bits + 1 : bits - 1;
    memcpy(&threshold, &bits, sizeof bits);
    return threshold > 1.0 ? INFINITY : threshold;
}

/*
 * Raises a query's threshold for a worker that adds `candidate`. score and index belong to the k-th
 * best entry; index is -1 if there are fewer than k entries. If the worker's later candidates have
 * higher indices, a candidate with the same score would come after this entry, so the threshold is
 * the next larger number. After a score of 1 the threshold is infinity, because no score is above
 * 1. So even a bound above 1 is below the threshold.
 */
static inline __attribute__((always_inline)) void
raise_threshold(struct topk *t, enum compute_type compute, size_t worker, size_t query,
                double score, int64_t index, size_t candidate)
{
    const bool ties_follow = t->rising && index <= (int64_t)candidate;
    double threshold = score;
    if (index < 0 || isnan(score)) { /* every number is better than NaN */
        threshold = -INFINITY;
    } else if (ties_follow) {
        threshold =
            compute == COMPUTE_F64 ? after_double(score) : (double)after_float((float)score);
    }
    const double floor = floor_of(t, query);
    const bool is_exact = threshold >= floor && threshold != -INFINITY;
    set_threshold(t, compute, worker, query, is_exact ? threshold : floor);
    if (t->last != NULL) {
        t->last[worker * t->result_handler.thresholds_step + query] = is_exact ? index : INT64_MAX;
    }
}

/* See struct result_handler. */
static void thresholds_from(const struct result_handler *handler, size_t worker, size_t query,
                            size_t count, size_t candidate, void *to)
{
    const struct topk *t = (const struct topk *)handler;
    const size_t at = worker * handler->thresholds_step + query;
    const int64_t *last = t->last + at, first = (int64_t)candidate;
    if (handler->compute == COMPUTE_F64) {
        const double *thresholds = (const double *)handler->thresholds + at;
        for (size_t i = 0; i < count; i++) {
            ((double *)to)[i] = last[i] <= first ? after_double(thresholds[i]) : thresholds[i];
        }
        return;
    }
    const float *thresholds = (const float *)handler->thresholds + at;
    for (size_t i = 0; i < count; i++) {
        ((float *)to)[i] = last[i] <= first ? after_float(thresholds[i]) : thresholds[i];
    }
}

/* Allocates t->last, by which a search that is not rising rules out ties. Returns -1 when memory
 * runs out. */
static int keep_last(struct topk *t)
{
    const size_t count =
        size_product_or_max((size_t)t->result_handler.workers, t->result_handler.thresholds_step);
    if (t->rising || is_collecting(t) || t->last != NULL) {
        return 0;
    }
    t->last = scratch_alloc(size_product_or_max(count, sizeof *t->last));
    for (size_t i = 0; t->last != NULL && i < count; i++) {
        t->last[i] = INT64_MAX;
    }
    t->result_handler.thresholds_from = t->last == NULL ? NULL : thresholds_from;
    return t->last == NULL ? -1 : 0;
}

static pthread_mutex_t *lock_query(struct topk *t, size_t query)
{
    pthread_mutex_t *lock = t->shared ? t->locks + query % LOCKS : NULL;
    if (lock != NULL) {
        pthread_mutex_lock(lock);
    }
    return lock;
}

static void unlock_query(pthread_mutex_t *lock)
{
    if (lock != NULL) {
        pthread_mutex_unlock(lock);
    }
}

/* ---- sorted entries ---- */

/* Drops the last of a query's sorted entries and inserts a better one in order. */
static inline __attribute__((always_inline)) void
insert(const struct topk *t, enum compute_type compute, size_t query, double value, int64_t index)
{
    const size_t last = t->k - 1, size = compute_size(compute);
    char *values = (char *)t->values + query * t->k * size;
    int64_t *indices = t->indices + query * t->k;
    size_t at = 0;
    if (compute == COMPUTE_F64) {
        for (size_t n = 0; n < last; n++) {
            at += ((const double *)(void *)values)[n] > value;
        }
    } else {
        const float narrow = (float)value;
        unsigned higher = 0; /* as wide as a float, so that the loop vectorizes */
        for (size_t n = 0; n < last; n++) {
            higher += ((const float *)(void *)values)[n] > narrow;
        }
        at = higher;
    }
    while (at < last && !is_better(value, index, compute_load(compute, values, at), indices[at])) {
        at++; /* equal scores are in order of their index; NaN comes after all numbers */
    }
    memmove(values + (at + 1) * size, values + at * size, (last - at) * size);
    memmove(indices + at + 1, indices + at, (last - at) * sizeof *indices);
    compute_store(compute, values, at, value);
    indices[at] = index;
}

static inline __attribute__((always_inline)) void add_as(struct topk *t, enum compute_type compute,
                                                         size_t worker, size_t query,
                                                         size_t candidate, double score)
{
    const size_t last = query * t->k + t->k - 1;
    if (is_better(score, (int64_t)candidate, compute_load(compute, t->values, last),
                  t->indices[last])) {
        insert(t, compute, query, score, (int64_t)candidate);
    }
    raise_threshold(t, compute, worker, query, compute_load(compute, t->values, last),
                    t->indices[last], candidate);
}

static void add_sorted(struct result_handler *handler, size_t worker, size_t query,
                       size_t candidate, double score)
{
    struct topk *t = (struct topk *)handler;
    pthread_mutex_t *lock = lock_query(t, query);
    if (handler->compute == COMPUTE_F64) {
        add_as(t, COMPUTE_F64, worker, query, candidate, score);
    } else {
        add_as(t, COMPUTE_F32, worker, query, candidate, score);
    }
    unlock_query(lock);
}

/* ---- collected candidates ---- */

static struct candidates *candidates_of(const struct topk *t, size_t query)
{
    return t->candidates + query - t->first;
}

/* Makes room for n candidates: if there is none, drops all but the k best. */
static void make_room(const struct topk *t, struct candidates *c, size_t n)
{
    if (c->count + n > t->capacity) {
        candidates_select(c, t->result_handler.compute, t->k);
    }
}

static void add_collected(struct result_handler *handler, size_t worker, size_t query,
                          size_t candidate, double score)
{
    struct topk *t = (struct topk *)handler;
    struct candidates *c = candidates_of(t, query);
    pthread_mutex_t *lock = lock_query(t, query);
    if (!c->has_last || is_better(score, (int64_t)candidate, c->last_score, c->last_number)) {
        make_room(t, c, 1);
        compute_store(handler->compute, c->scores, c->count, score);
        c->numbers[c->count++] = (int64_t)candidate;
    }
    if (c->has_last) {
        raise_threshold(t, handler->compute, worker, query, c->last_score, c->last_number,
                        candidate);
    }
    unlock_query(lock);
}

/* Drops a number from the candidates at positions from `from` on. */
static void drop_number(struct candidates *c, enum compute_type compute, size_t from,
                        int64_t number)
{
    size_t kept = from;
    for (size_t i = from; i < c->count; i++) {
        compute_store(compute, c->scores, kept, compute_load(compute, c->scores, i));
        c->numbers[kept] = c->numbers[i];
        kept += c->numbers[i] != number;
    }
    c->count = kept;
}

/* Prefetches for writing the memory of the next few candidates. */
static void prefetch_room(const struct candidates *c, size_t size)
{
    enum { CACHE_LINE = 64, NUMBERS = CACHE_LINE / sizeof *c->numbers };
    __builtin_prefetch((const char *)c->scores + c->count * size + CACHE_LINE, 1);
    __builtin_prefetch(c->numbers + c->count + NUMBERS, 1);
    __builtin_prefetch(c->numbers + c->count + 2 * NUMBERS, 1);
}

/* Adds the scores of a tile, except those below the thresholds. */
static void add_tile(struct result_handler *handler, size_t worker, const struct score_tile *tile)
{
    struct topk *t = (struct topk *)handler;
    const enum compute_type compute = handler->compute;
    const size_t size = compute_size(compute);
    const struct tile_kernels *kernels = &kernels_current()->tiles[compute];
    /* (columns, GEMM_MAX_ROWS): the scores of each query side by side */
    _Alignas(64) double columns[GEMM_MAX_COLUMNS * GEMM_MAX_ROWS];
    int64_t numbers[GEMM_MAX_ROWS]; /* of the candidates */
    const void *rows[GEMM_MAX_ROWS];
    for (size_t r = 0; r < tile->rows; r++) {
        rows[r] = (const char *)tile->scores + r * tile->step * size;
        numbers[r] = (int64_t)(tile->numbers == NULL ? tile->candidate + r
                                                     : tile->first_candidate + tile->numbers[r]);
    }
    for (size_t column = 0; column < tile->columns; column++) {
        prefetch_room(candidates_of(t, tile->query + column), size);
    }
    kernels->transpose(columns, GEMM_MAX_ROWS, rows, tile->rows, tile->columns);
    for (size_t column = 0; column < tile->columns; column++) {
        const size_t query = tile->query + column;
        struct candidates *c = candidates_of(t, query);
        pthread_mutex_t *lock = lock_query(t, query);
        make_room(t, c, tile->rows);
        if (c->has_last) {
            raise_threshold(t, compute, worker, query, c->last_score, c->last_number,
                            tile->candidate);
        }
        const size_t first = c->count;
        c->count +=
            kernels->keep_at_least((char *)c->scores + first * size, c->numbers + first,
                                   (const char *)columns + column * GEMM_MAX_ROWS * size, numbers,
                                   tile->rows, threshold_at(handler, worker, query));
        if (tile->without_self && numbers[0] <= (int64_t)query &&
            (int64_t)query <= numbers[tile->rows - 1]) {
            drop_number(c, compute, first, (int64_t)query);
        }
        unlock_query(lock);
    }
}

/* Loads the result of an earlier search as the first candidates of a query. */
static void load_query(const struct topk *t, size_t query)
{
    struct candidates *c = candidates_of(t, query);
    const enum compute_type compute = t->result_handler.compute;
    const size_t at = query * t->k, slot = query - t->first, room = t->capacity + SELECT_PADDING;
    *c = (struct candidates){.scores = (char *)t->scores + slot * room * compute_size(compute),
                             .numbers = t->numbers + slot * room};
    for (; c->count < t->k && t->indices[at + c->count] >= 0; c->count++) {
        compute_store(compute, c->scores, c->count,
                      compute_load(compute, t->values, at + c->count));
        c->numbers[c->count] = t->indices[at + c->count];
    }
    if (c->count == t->k) {
        c->has_last = true;
        c->last_score = compute_load(compute, t->values, at + t->k - 1);
        c->last_number = t->indices[at + t->k - 1];
    }
}

/* Runs a task: stores the k best candidates of one query, sorted. */
static void store_query(void *context, size_t task, size_t worker)
{
    const struct topk *t = context;
    const enum compute_type compute = t->result_handler.compute;
    const size_t at = (t->first + task) * t->k;
    struct candidates *c = t->candidates + task;
    (void)worker;
    if (c->count > t->k) {
        candidates_select(c, compute, t->k);
    }
    candidates_store(c, compute, (char *)t->values + at * compute_size(compute), t->indices + at);
}

/* Runs the search for a block of queries and collects their candidates. */
static int search_collecting(struct topk *t, const struct search *s)
{
    const size_t queries = s->query_rows.size;
    t->first = s->first_query;
    for (size_t i = 0; i < queries; i++) {
        load_query(t, t->first + i);
    }
    const int status = search(s);
    if (status == 0) {
        pool_run(queries, thread_count_for(queries, t->k, GRAIN_SUMS), store_query, t, s->token);
    }
    return status;
}

/* Returns the number of queries of a block. */
static size_t queries_of_block(const struct topk *t, const struct search *s)
{
    const size_t candidate = compute_size(t->result_handler.compute) + sizeof *t->numbers,
                 queries = s->query_rows.size, step = GEMM_MAX_COLUMNS,
                 most = COLLECTED_BYTES / candidate / t->capacity,
                 whole = most < step ? larger(most, 1) : most / step * step,
                 even = size_parts(queries, size_parts(queries, whole));
    return smaller(whole, size_parts(even, step) * step);
}

/* Searches the corpus for each block of queries. */
static RUNS_ONCE int search_blocks(struct topk *t, const struct search *search)
{
    if (search->query_rows.size == 0) {
        return 0;
    }
    if (t->k > CANDIDATES_MAX) {
        return -1;
    }
    struct arena arena = {.block = NULL};
    const size_t queries = search->query_rows.size,
                 most = smaller(queries_of_block(t, search), queries),
                 room = size_product_or_max(most, size_sum_or_max(t->capacity, SELECT_PADDING));
    while (arena_pass(&arena)) {
        t->candidates = arena_take(&arena, most, sizeof *t->candidates);
        t->scores = arena_take(&arena, room, compute_size(t->result_handler.compute));
        t->numbers = arena_take(&arena, room, sizeof *t->numbers);
    }
    if (arena.block == NULL) {
        return -1;
    }
    int status = 0;
    for (size_t at = 0, n; at < queries && status == 0 && !cancel_requested(search->token);
         at += n) {
        n = smaller(most, queries - at);
        const struct search s = search_with_queries(search, at, n);
        status = search_collecting(t, &s);
    }
    scratch_free(arena.block);
    return status;
}

/* Sets all workers' thresholds to those of the results. */
static RUNS_ONCE void set_thresholds(struct topk *t)
{
    const size_t step = t->result_handler.thresholds_step, queries = step - SELECT_PADDING;
    const enum compute_type compute = t->result_handler.compute;
    for (size_t worker = 0; worker < (size_t)t->result_handler.workers; worker++) {
        for (size_t query = 0; query < queries; query++) {
            const size_t last = query * t->k + t->k - 1;
            raise_threshold(t, compute, worker, query, compute_load(compute, t->values, last),
                            t->indices[last], 0);
        }
        for (size_t query = queries; query < step; query++) {
            set_threshold(t, compute, worker, query, INFINITY);
        }
    }
}

/* ---- rows with themselves ---- */

static bool defers_scores(const struct search *s)
{
    return s->mirrored && search_is_within(s) && !s->corpus.packed_bits && search_has_prefilter(s);
}

/* Adds a pair to those that wait for their exact scores. If there is no room for it, drops the
 * pairs below the threshold; if few were dropped, scores all that are left. */
static void wait_with(struct topk *t, size_t worker, size_t query, struct waiting_pair pair,
                      float low)
{
    const struct waiting *w = t->waiting;
    const size_t row = query - w->search->first_query;
    struct waiting_query *q = waiting_query_at(w, row);
    struct waiting_pair full[MAX_WAITING];
    size_t count = 0;
    pthread_mutex_t *lock = lock_query(t, query);
    waiting_add_low(w, row, low);
    const double threshold = waiting_threshold(w, row);
    if (threshold_at(&t->result_handler, worker, query) < threshold) {
        set_threshold(t, t->result_handler.compute, worker, query, threshold);
        t->last[worker * t->result_handler.thresholds_step + query] = INT64_MAX;
    }
    if (waiting_add(w, row, pair)) {
        waiting_drop(w, row, threshold_at(&t->result_handler, worker, query));
        if ((size_t)q->count + WAITING / 2 > w->room) { /* scored after the lock is released */
            count = q->count;
            memcpy(full, waiting_pairs_at(w, row), count * sizeof *full);
            q->count = 0;
            atomic_store_explicit(&q->is_exact, true, memory_order_relaxed);
        }
    }
    unlock_query(lock);
    waiting_score(w, row, full, count, worker);
}

/* True if a candidate with this upper bound of its score can be a result of a query. */
static bool can_be_result(const struct topk *t, size_t worker, size_t query, size_t candidate,
                          float high)
{
    const struct result_handler *handler = &t->result_handler;
    const double threshold = threshold_at(handler, worker, query);
    const int64_t last = t->last[worker * handler->thresholds_step + query];
    return high >= (threshold >= 1.0 && last <= (int64_t)candidate ? INFINITY : threshold);
}

/* See struct result_handler. */
static bool add_bounds(struct result_handler *handler, size_t worker, size_t i, size_t j, float low,
                       float high)
{
    struct topk *t = (struct topk *)handler;
    const struct waiting *w = t->waiting;
    const size_t first = w->search->first_query;
    const bool of_i = can_be_result(t, worker, i, j, high),
               of_j = can_be_result(t, worker, j, i, high);
    if ((of_i && waiting_is_exact(w, i - first)) || (of_j && waiting_is_exact(w, j - first))) {
        return false;
    }
    if (of_i) {
        wait_with(t, worker, i, (struct waiting_pair){high, (uint32_t)(j - first)}, low);
    }
    if (of_j) {
        wait_with(t, worker, j, (struct waiting_pair){high, (uint32_t)(i - first)}, low);
    }
    return true;
}

/* See struct result_handler. */
static void prefetch_bounds(const struct result_handler *handler, size_t query)
{
    const struct waiting *w = ((const struct topk *)handler)->waiting;
    __builtin_prefetch(waiting_query_at(w, query - w->search->first_query), 1);
}

/* Runs a task: scores the pairs of one query that can be results. */
static void score_query(void *context, size_t row, size_t worker)
{
    struct topk *t = context;
    const struct waiting *w = t->waiting;
    waiting_drop(w, row, threshold_at(&t->result_handler, worker, w->search->first_query + row));
    waiting_score(w, row, waiting_pairs_at(w, row), waiting_query_at(w, row)->count, worker);
}

/* True if k of the first rows score 1 with every row after them. Then no later row is a result. */
static bool is_complete(const struct topk *t, const struct search *s, size_t first)
{
    const int64_t end = (int64_t)(s->first_candidate + first);
    bool complete = true;
    for (size_t row = first; complete && row < s->corpus_rows.size; row++) {
        const size_t last = (s->first_query + row + 1) * t->k - 1;
        complete = compute_load(t->result_handler.compute, t->values, last) >= 1.0 &&
                   t->indices[last] < end;
    }
    return complete;
}

/* Scores the pairs of centers and of groups, and lets the search leave them out. Returns 1 if the
 * search is complete, as it is if all rows are equal, and -1 when memory runs out. */
static int search_groups(struct topk *t, struct search *s, struct groups *g)
{
    const size_t rows = s->corpus_rows.size, centers = g->centers;
    int status = 0;
    /* First a few centers, which are all of the results if all rows are equal. Then the others. */
    for (size_t from = 0, to = smaller(g->first, 2 * t->k);
         status == 0 && from < centers && !cancel_requested(s->token); from = to, to = centers) {
        status = score_centers(g, from, to);
        if (status == 0 && from == 0 && is_complete(t, s, to)) {
            progress_add(s->token,
                         pairs_with_groups(rows, centers) - pairs_of_rows(to) - to * (rows - to));
            status = 1;
        }
    }
    if (status == 0 && !cancel_requested(s->token)) {
        set_thresholds(t);
        status = score_groups(g, t->indices + s->first_query * t->k, t->k);
    }
    s->groups = g->of_row;
    s->scored_rows = g->first;
    return status;
}

/* Searches with bounds in place of scores, then scores the pairs that wait. Without memory for
 * pairs, scores all at once. */
static int search_waiting(struct topk *t, struct search *s)
{
    const size_t rows = s->corpus_rows.size, first = s->first_query * t->k;
    const int workers = t->result_handler.workers;
    struct waiting waiting;
    void *memory = waiting_init(&waiting, s, t->k, (size_t)workers);
    if (memory == NULL) {
        return search(s);
    }
    for (size_t i = 0; i < rows * t->k; i++) { /* the results so far */
        const double value = compute_load(t->result_handler.compute, t->values, first + i);
        if (t->indices[first + i] >= 0 && !isnan(value)) {
            waiting_add_low(&waiting, i / t->k, float_at_most(value));
        }
    }
    t->waiting = &waiting;
    t->result_handler.add_bounds = add_bounds;
    t->result_handler.prefetch_bounds = prefetch_bounds;
    set_thresholds(t);
    const int status = search(s);
    if (status == 0 && !cancel_requested(s->token)) {
        const int threads = thread_count_for(rows, t->k * s->depth.size, GRAIN_SUMS);
        set_thresholds(t);
        pool_run(rows, threads < workers ? threads : workers, score_query, t, s->token);
    }
    t->waiting = NULL;
    t->result_handler.add_bounds = NULL;
    t->result_handler.prefetch_bounds = NULL;
    scratch_free(memory);
    return status;
}

/* Finds the k best of rows among themselves. */
static int search_within(struct topk *t, struct search *s)
{
    struct groups groups;
    int status = groups_init(&groups, s);
    status = status == 0 ? search_groups(t, s, &groups) : status;
    if (status == 0 && !cancel_requested(s->token)) {
        status = search_waiting(t, s);
    }
    scratch_free(groups.memory);
    s->groups = NULL;
    return status < 0 ? -1 : 0;
}

/* ---- the search ---- */

int topk_init(struct topk *t, enum compute_type compute, size_t queries, size_t k, void *values,
              int64_t *indices)
{
    const int threads = pool_get_threads();
    const size_t workers = (size_t)threads, step = size_sum_or_max(queries, SELECT_PADDING);
    *t =
        (struct topk){.result_handler = {.compute = compute,
                                         .workers = threads,
                                         .thresholds_step = step,
                                         .thresholds_mask = SIZE_MAX,
                                         .add_result = k <= MAX_SORTED ? add_sorted : add_collected,
                                         .add_tile = k <= MAX_SORTED ? NULL : add_tile},
                      .k = k,
                      .values = values,
                      .indices = indices,
                      .capacity = size_sum_or_max(k, larger(k, GEMM_MAX_ROWS)),
                      .shared = workers > 1};
    t->result_handler.thresholds = scratch_alloc(
        size_product_or_max(size_product_or_max(workers, step), compute_size(compute)));
    t->locks = scratch_alloc(LOCKS * sizeof(pthread_mutex_t));
    if (t->result_handler.thresholds == NULL || t->locks == NULL) {
        topk_free(t);
        return -1;
    }
    for (size_t i = 0; i < LOCKS; i++) {
        pthread_mutex_init(t->locks + i, NULL);
    }
    set_thresholds(t);
    return 0;
}

void topk_free(struct topk *t)
{
    scratch_free(t->result_handler.thresholds);
    scratch_free(t->locks);
    scratch_free(t->last);
}

static struct search with_sides_swapped(const struct search *s)
{
    struct search swapped = *s;
    swapped.corpus = s->queries;
    swapped.queries = s->corpus;
    swapped.corpus_rows = (struct axis){s->query_rows.size, s->query_rows.y, 0, 0};
    swapped.query_rows = (struct axis){s->corpus_rows.size, 0, s->corpus_rows.x, 0};
    swapped.depth = (struct axis){s->depth.size, s->depth.y, s->depth.x, 0};
    swapped.first_candidate = s->first_query;
    swapped.first_query = s->first_candidate;
    return swapped;
}

/* Returns the search with all that top-k adds to it. */
static RUNS_ONCE struct search search_of_topk(const struct topk *t,
                                              const struct search *search_of_block)
{
    struct search s = *search_of_block;
    const size_t least = size_product_or_max(MIN_ROWS_PER_RESULT, t->k);
    s.warm_up_rows = size_sum_or_max(WARM_ROWS, size_product_or_max(WARM_TIMES_K, t->k));
    /* A filter restricts candidates but not queries, so a pair of two queries is scored twice, too.
     */
    const bool ordered = is_collecting(t) || s.filter != NULL;
    s.mirrored = s.self && !ordered;
    if (s.mirrored) { /* thresholds rise faster, because a pair is a candidate of both rows */
        s.warm_up_rows /= 2;
    }
    /*
     * If the rows of a block are also its queries, each pair can be scored once, for both of its
     * rows. Candidates then do not come in ascending order. Only the block of the first rows can
     * have this property. So that saves little time if there are more queries than first rows, or
     * if most rows are not queries.
     */
    s.ordered_pairs = ordered || (!s.self && (s.corpus_rows.size != s.query_rows.size ||
                                              s.query_rows.size > s.warm_up_rows));
    s.without_prefilter =
        is_collecting(t) &&
        s.corpus_rows.size / smaller(larger(s.query_rows.size, 1), MANY_QUERIES) < least;
    return s;
}

static int run(struct topk *t, const struct search *s)
{
    return is_collecting(t) ? search_blocks(t, s) : search(s);
}

RUNS_ONCE int topk_search(struct topk *t, const struct search *search_of_block)
{
    struct search s = search_of_topk(t, search_of_block);
    s.result_handler = &t->result_handler;
    t->rising = s.ordered_pairs || (!s.mirrored && s.corpus.data != s.queries.data);
    if (keep_last(t) < 0) {
        return -1;
    }
    const int status = defers_scores(&s) ? search_within(t, &s) : run(t, &s);
    if (status < 0 || !s.self || s.mirrored || search_is_within(&s)) {
        return status < 0 ? -1 : 0;
    }
    s = with_sides_swapped(&s);
    return run(t, &s);
}

size_t topk_pairs(const struct topk *t, const struct search *search_of_block)
{
    const struct search s = search_of_topk(t, search_of_block);
    const bool twice = s.self && !s.mirrored && !search_is_within(&s);
    return defers_scores(&s) ? pairs_with_groups(s.corpus_rows.size, center_count(&s))
                             : size_product_or_max(twice ? 2 : 1, search_pairs(&s));
}
