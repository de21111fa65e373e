/*
 * Range search. Each worker collects the pairs that reach the threshold, in its own blocks. The
 * rows i are divided into groups, and a block holds pairs of one group. range_store sorts the pairs
 * group by group, and frees the blocks of each group at once. So blocks and result together take
 * hardly more memory than the result.
 */
#include <string.h>

#include "base/scratch.h"
#include "results/range.h"

enum {
    BLOCK_PAIRS = 1 << 12,
    MAX_GROUPS = 64,      /* this bounds a worker's unfinished blocks to 4 MB */
    SORTED_IN_PLACE = 24, /* pairs of one i that are not sorted by marking columns */
    MIN_SHARE_OF_GAP = 9, /* a sort begins with gaps of about a ninth to a third of the pairs */
    /* The pairs of one i are sorted by marking columns if they cover at least 1 / MARKED_SHARE of
     * all columns. */
    MARKED_SHARE = 4096,
    MANY_PAIRS = 1 << 16,        /* 1 MB of blocks */
    MAX_MARKED_COLUMNS = 1 << 20 /* this bounds the memory for marks and scores to 8 MB */
};

/* Up to BLOCK_PAIRS pairs (i, j) and their scores. i and j hold the lower 32 bits. i_base and
 * j_base hold the upper bits, which are the same for all pairs of the block. */
struct pair_block {
    struct pair_block *next;
    size_t count;
    uint64_t i_base, j_base;
    uint32_t i[BLOCK_PAIRS], j[BLOCK_PAIRS];
    char values[]; /* BLOCK_PAIRS scores of the compute type */
};

/* The blocks of one worker. */
struct pair_lists {
    /* the list of blocks of each group, newest block first */
    _Alignas(SCRATCH_ALIGN) struct pair_block *groups[MAX_GROUPS];
};

static size_t block_size(enum compute_type compute)
{
    return sizeof(struct pair_block) + BLOCK_PAIRS * compute_size(compute);
}

/* True if a block has room for a pair. */
static bool has_room(const struct pair_block *block, uint64_t i, uint64_t j)
{
    return block != NULL && block->count < BLOCK_PAIRS && (i ^ block->i_base) >> 32 == 0 &&
           (j ^ block->j_base) >> 32 == 0;
}

static void add_result(struct result_handler *handler, size_t worker, size_t query,
                       size_t candidate, double score)
{
    struct range_result *r = (struct range_result *)handler;
    if (!(score == score) || atomic_load_explicit(&r->no_memory, memory_order_relaxed) ||
        atomic_fetch_add_explicit(&r->count, 1, memory_order_relaxed) >= r->max_pairs) {
        return; /* NaN counts as below every threshold */
    }
    const uint64_t i = r->swapped_sides ? candidate : query,
                   j = r->swapped_sides ? query : candidate, upper = (uint64_t)UINT32_MAX << 32;
    struct pair_block **list = &r->lists[worker].groups[i >> r->group_shift], *block = *list;
    if (!has_room(block, i, j)) {
        struct pair_block *fresh = scratch_alloc(block_size(handler->compute));
        if (fresh == NULL) {
            atomic_store(&r->no_memory, true);
            return;
        }
        fresh->next = block;
        fresh->count = 0;
        fresh->i_base = i & upper;
        fresh->j_base = j & upper;
        block = *list = fresh;
    }
    block->i[block->count] = (uint32_t)i;
    block->j[block->count] = (uint32_t)j;
    compute_store(handler->compute, block->values, block->count++, score);
}

int range_init(struct range_result *r, enum compute_type compute, double threshold, size_t rows,
               size_t columns)
{
    *r = (struct range_result){.result_handler =
                                   handler_of_threshold(compute, threshold, add_result),
                               .rows = rows,
                               .columns = columns,
                               .max_pairs = SIZE_MAX};
    r->workers = (size_t)r->result_handler.workers;
    while (rows > 0 && (rows - 1) >> r->group_shift >= MAX_GROUPS) {
        r->group_shift++;
    }
    r->lists = scratch_alloc(r->workers * sizeof *r->lists);
    if (r->lists == NULL) {
        r->workers = 0;
    } else {
        memset(r->lists, 0, r->workers * sizeof *r->lists);
    }
    if (r->result_handler.thresholds == NULL || r->lists == NULL) {
        range_free(r);
        return -1;
    }
    return 0;
}

/* Frees the first block of a list. If there are many pairs, the result needs memory, so the block's
 * pages go back to the system at once. With few pairs, that system call would take most of the
 * time. */
static void drop_block(const struct range_result *r, struct pair_block **list)
{
    struct pair_block *block = *list;
    *list = block->next;
    if (atomic_load(&r->count) >= MANY_PAIRS) {
        scratch_give_back(block, block_size(r->result_handler.compute));
    }
    scratch_free(block);
}

void range_free(struct range_result *r)
{
    for (size_t i = 0; i < r->workers * MAX_GROUPS; i++) {
        struct pair_block **list = &r->lists[i / MAX_GROUPS].groups[i % MAX_GROUPS];
        while (*list != NULL) {
            drop_block(r, list);
        }
    }
    scratch_free(r->lists);
    scratch_free(r->result_handler.thresholds);
    r->lists = NULL;
    r->result_handler.thresholds = NULL;
    r->workers = 0;
}

/* Turns counts into start positions, for a sorted list of numbers below `size`. On entry,
 * counts[n + 1] says how often the number n occurs. On return, counts[n] is the position of the
 * first n. */
static void counts_to_starts(size_t *counts, size_t size)
{
    for (size_t n = 1; n <= size; n++) {
        counts[n] += counts[n - 1];
    }
}

/* The pairs of one row i: numbers j and their scores. */
struct row_pairs {
    enum compute_type compute;
    size_t count;
    int64_t *j;
    void *values;
};

struct row_pair {
    int64_t j;
    double value;
};

static struct row_pair pair_at(const struct row_pairs *p, size_t at)
{
    return (struct row_pair){p->j[at], compute_load(p->compute, p->values, at)};
}

static void put_pair(const struct row_pairs *p, size_t at, struct row_pair pair)
{
    p->j[at] = pair.j;
    compute_store(p->compute, p->values, at, pair.value);
}

/* Shell sort, with Knuth's gaps. A few pairs are sorted by insertion. */
static void sort_in_place(const struct row_pairs *p)
{
    size_t gap = 1;
    while (gap < p->count / MIN_SHARE_OF_GAP) {
        gap = 3 * gap + 1;
    }
    for (; gap > 0; gap /= 3) {
        for (size_t n = gap; n < p->count; n++) {
            const struct row_pair pair = pair_at(p, n);
            size_t at = n;
            for (; at >= gap && p->j[at - gap] > pair.j; at -= gap) {
                put_pair(p, at, pair_at(p, at - gap));
            }
            put_pair(p, at, pair);
        }
    }
}

/* Sorts by writing each score to the place of its column. marks has one bit for each column; all
 * bits are 0 on entry and on return. scores has room for one score for each column. */
static void sort_by_marks(const struct row_pairs *p, size_t columns, uint64_t *marks, void *scores)
{
    size_t at = 0;
    for (size_t n = 0; n < p->count; n++) {
        const size_t j = (size_t)p->j[n];
        marks[j / 64] |= (uint64_t)1 << j % 64;
        compute_store(p->compute, scores, j, compute_load(p->compute, p->values, n));
    }
    for (size_t word = 0; word < size_parts(columns, 64); word++) {
        for (uint64_t bits = marks[word]; bits != 0; bits &= bits - 1) {
            const size_t j = word * 64 + (size_t)__builtin_ctzll(bits);
            const struct row_pair pair = {(int64_t)j, compute_load(p->compute, scores, j)};
            put_pair(p, at++, pair);
        }
        marks[word] = 0;
    }
}

/* A group of rows whose pairs are stored: rows [first, first + rows). */
struct stored_group {
    size_t group, first, rows;
    size_t *starts; /* [rows + 1] */
};

/* Counts the pairs of each i of a group in starts[i - first + 1]. */
static void count_pairs(const struct range_result *r, const struct stored_group *g,
                        struct cancel_token *token)
{
    for (size_t w = 0; w < r->workers; w++) {
        for (const struct pair_block *block = r->lists[w].groups[g->group];
             block != NULL && !cancel_poll(token, 0); block = block->next) {
            for (size_t n = 0; n < block->count; n++) {
                g->starts[(block->i_base | block->i[n]) - g->first + 1]++;
            }
        }
    }
}

/* Moves all pairs of a group to the arrays, in order of i, and frees their blocks. On entry,
 * starts[i - first] is the position of the first pair of row i; on return, it is the position after
 * the last one. */
static void move_pairs(struct range_result *r, const struct stored_group *g,
                       const struct pair_arrays *to, struct cancel_token *token)
{
    const enum compute_type compute = r->result_handler.compute;
    size_t *ends = g->starts;
    for (size_t w = 0; w < r->workers; w++) {
        struct pair_block **list = &r->lists[w].groups[g->group];
        while (*list != NULL && !cancel_poll(token, 0)) {
            const struct pair_block *block = *list;
            for (size_t n = 0; n < block->count; n++) {
                const uint64_t row = block->i_base | block->i[n];
                const size_t at = ends[row - g->first]++;
                to->i[at] = (int64_t)row;
                to->j[at] = (int64_t)(block->j_base | block->j[n]);
                compute_store(compute, to->values, at, compute_load(compute, block->values, n));
            }
            drop_block(r, list);
        }
    }
}

int range_store(struct range_result *r, const struct pair_arrays *to, struct cancel_token *token)
{
    const enum compute_type compute = r->result_handler.compute;
    const size_t columns = r->columns, marked = columns <= MAX_MARKED_COLUMNS ? columns : 0,
                 words = size_parts(marked, 64), score = compute_size(compute),
                 group_rows = smaller(r->rows, (size_t)1 << r->group_shift);
    size_t *starts =
        scratch_alloc(size_product_or_max(size_sum_or_max(group_rows, 1), sizeof *starts));
    uint64_t *marks = scratch_alloc(words * sizeof *marks);
    void *scores = scratch_alloc(marked * score);
    const bool has_memory = starts != NULL && marks != NULL && scores != NULL;
    size_t done = 0; /* pairs */
    if (has_memory) {
        memset(marks, 0, words * sizeof *marks);
    }
    for (size_t first = 0; has_memory && first < r->rows && !cancel_poll(token, 0);
         first += group_rows) {
        const struct stored_group g = {first >> r->group_shift, first,
                                       smaller(group_rows, r->rows - first), starts};
        memset(starts, 0, (g.rows + 1) * sizeof *starts);
        starts[0] = done;
        count_pairs(r, &g, token);
        counts_to_starts(starts, g.rows);
        move_pairs(r, &g, to, token);
        for (size_t row = 0; row < g.rows && !cancel_poll(token, 0); row++) {
            const struct row_pairs p = {compute, starts[row] - done, to->j + done,
                                        (char *)to->values + done * score};
            if (p.count <= SORTED_IN_PLACE || p.count < columns / MARKED_SHARE || marked == 0) {
                sort_in_place(&p);
            } else {
                sort_by_marks(&p, columns, marks, scores);
            }
            done = starts[row];
        }
    }
    scratch_free(starts);
    scratch_free(marks);
    scratch_free(scores);
    return has_memory ? 0 : -1;
}
