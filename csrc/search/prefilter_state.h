#ifndef COSSIM_SEARCH_PREFILTER_STATE_H
#define COSSIM_SEARCH_PREFILTER_STATE_H

#include "search/block.h"
#include "search/head.h"

/* The state of a prefilter, which prefilter.c and rescore.c share. */

enum {
    /* corpus rows that stay in the cache while all queries are compared with them */
    CHUNK = 256,
    FIRST_CHUNK = 16,
    SMALL_CHUNK = 32,               /* the same for few queries and rows that are their own codes */
    COARSE_CHUNK = COARSE_STEP,     /* the same for rows that are read as float32 */
    TASK_ROWS = 4096,               /* maximum number of corpus rows of a task */
    TASK_MULTIPLICATIONS = 1 << 28, /* multiplications of one task: about 5 ms */
    QUEUE_SIZE = 64,
    NORM_BATCH = 64, /* queries whose norms are measured at a time */
    /* With at least this many queries, a worker polls its cancellation token after each chunk. */
    MIN_POLL_QUERIES = 64,
    SURVIVORS_FREE = 1 << 12, /* a task with at most this many survivors never switches to GEMM */
    /* A single-pair score takes as long as this many scores of a GEMM. */
    RESCORE_COST = 16,
    MIN_GEMM_QUERIES = 32, /* a GEMM of fewer queries takes as long as a GEMM of this many */
    BACKOFF_MAX = 64,      /* tasks */
    /*
     * If one pair in this many passes the heads, comparing single pairs afterwards costs more than
     * comparing the codes of all pairs of the chunk. The heads are then left out for some chunks.
     */
    MIN_HEAD_GAIN = 12,          /* if codes are compared afterwards */
    HEAD_PAUSE = 32,             /* chunks; each failed attempt doubles them */
    MIN_HEAD_GAIN_NO_CODES = 64, /* if exact scores are computed afterwards */
    /*
     * If more than one pair in this many passes the codes, up to COARSE_QUERIES queries are
     * compared with the rows themselves for a while: reading these one after another is then
     * faster.
     */
    MIN_CODE_GAIN = 8,
    CODE_TRIAL = 4096, /* rows */
    CODE_PAUSE = 256,  /* chunks of COARSE_CHUNK rows; each failed attempt doubles them */
    /* With more queries, pairs that pass the codes are not compared as floats: if codes rule out
     * little, a GEMM is cheaper. */
    MAX_COARSE_AFTER_CODES = 64
};

/*
 * The last row that a query was scored with, and their score. The next row has the same score if it
 * has the same elements.
 */
struct scored {
    const char *row; /* NULL: none yet */
    double score;
};

/* Whether the bytes of a row are those of the row before it in memory. */
enum row_repeats { REPEATS_UNKNOWN, REPEATS, DIFFERS };

/* The state and buffers of one worker. */
struct prefilter_worker {
    /* pairs of the current task that the prefilter has not ruled out and that cost time */
    size_t survivors;
    /*
     * backoff_left is the number of tasks that go to GEMM before the prefilter is tried again. Each
     * failed attempt sets it to `backoff`, which grows from one failure to the next and is 0 after
     * a success.
     */
    size_t backoff_left, backoff;
    /* norms of a chunk's rows; a norm is measured when its row is first rescored */
    struct norms row_norms;
    uint8_t *measured; /* [CHUNK]: 1 if the norm of the row is measured */
    uint8_t *repeats;  /* [CHUNK]: enum row_repeats */
    uint8_t *zero;     /* [CHUNK]: 1 if all elements of the row are 0 */
    bool any_zero;     /* of the chunk */
    bool any_repeat;   /* of the chunk, with more than SQ8_QUERIES queries */
    void *row, *query; /* buffers for one corpus row and one query, converted for the product */
    uint8_t *codes;
    struct code_scale *scales;
    int32_t *code_dots;            /* [SQ8_QUERIES][CHUNK] */
    float *dots;                   /* [COARSE_QUERIES][COARSE_STEP] */
    float *norms, *divisors;       /* [COARSE_CHUNK], |x| and max(|x|, eps) of float32 rows */
    int exponent;                  /* such rows are first scaled by 2^-exponent */
    uint8_t *keep;                 /* [CHUNK] */
    uint32_t *keep_panel;          /* [CHUNK] */
    struct row_bounds bounds;      /* [CHUNK], of the codes */
    struct row_bounds head_bounds; /* [CHUNK] */
    /* pairs of the chunk that the heads have not ruled out */
    size_t head_survivors;
    size_t code_pairs, code_passed; /* pairs since the last decision on codes; those that passed */
    size_t code_pause;              /* chunks of float32 rows until codes are compared again */
    size_t code_backoff;            /* length of the current pause; 0 while codes pay */
    size_t head_pause;              /* chunks until the heads are compared again */
    size_t head_backoff;            /* length of the current pause; 0 while heads pay */
    struct scored *last;            /* [queries] */
    /*
     * Survivors of a chunk. They wait here while their rows are fetched from memory, and are then
     * rescored.
     */
    size_t queued;
    struct {
        uint16_t row; /* relative to the chunk */
        uint16_t query;
    } rescore_queue[QUEUE_SIZE];
};

struct prefilter {
    const struct search *search;
    struct search_block block; /* all corpus rows, one block of queries */
    struct plan plan;
    struct reduction call;
    struct pair_scores scores;
    struct float_rows float_rows;
    size_t code_chunk;       /* rows of a chunk of codes */
    bool rows_are_codes;     /* 8-bit integers, in place */
    bool coarse_after_codes; /* pairs that their codes do not rule out are compared as floats */
    float coarse_error;      /* largest error of a coarse score, those of the exact one included */
    bool use_codes; /* true: compares SQ8 codes; false: compares rows that are read as float32 */
    struct norms query_norms;
    double *threshold_factors;  /* [queries], see normalize_query */
    struct coded_queries coded; /* with use_codes */
    bool use_heads;             /* codes, or exact scores, only for pairs that pass the heads */
    struct coded_queries heads; /* with use_heads */
    float *head;                /* buffer for the head of a query */
    /* queries scaled to norm 1: [queries][depth], or a buffer for one if none is kept */
    float *unit_queries;
    size_t task_rows, task_first;
    char *scratch;
    size_t scratch_per_worker;
    size_t workers;
    _Atomic int status;
};

/* The threshold of the scores of a query. */
static inline double exact_threshold(const struct prefilter *p, size_t worker, size_t query)
{
    const struct search *s = p->search;
    return threshold_at(s->result_handler, worker, query_number(s, p->block.query + query));
}

/*
 * The threshold of a query that is scaled to norm 1. It is lowered by more than a score can change
 * where it underflows: the bounds only cover relative errors.
 */
float unit_threshold(const struct prefilter *p, size_t worker, size_t query);

/*
 * Computes the coarse dot products of a chunk's rows with `count` queries, their norms |x|, and the
 * divisors of their scores, max(|x|, eps). The divisor is NaN if a row must not be ruled out. The
 * results are in w->dots, w->norms and w->divisors.
 */
void coarse_rows(const struct prefilter *p, struct prefilter_worker *w, size_t first,
                 size_t count_of_rows, const float *const *vectors, size_t count);

/* True if the score of a row and a query is certainly below this threshold of unit_threshold(). The
 * arguments are results of coarse_rows(). */
static inline bool is_below(const struct prefilter *p, float dot, float norm, float divisor,
                            float threshold)
{
    return dot + p->coarse_error * norm < threshold * divisor; /* false if one is NaN */
}

void rescore_queue_flush(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                         size_t first);

/* Returns true if a GEMM would have been faster for the pairs checked so far. */
bool gemm_is_cheaper(const struct prefilter *p, const struct prefilter_worker *w,
                     size_t pairs_checked);

/*
 * Compare rows [first, first + rows) with all queries: prefilter_rows as floats, prefilter_codes by
 * their codes or heads. rows_done counts the rows of the task that come before the chunk. They
 * return how many queries they compared: fewer than all if a GEMM is cheaper for the rest.
 */
size_t prefilter_rows(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                      size_t first, size_t rows, size_t rows_done);
size_t prefilter_codes(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                       size_t first, size_t rows, size_t rows_done);

/*
 * The code of 0 in the rows, with the offset that the kernels add to their elements:
 * scale * (code + offset - zero) is close to x / max(|x|, eps).
 */
int code_zero(const struct prefilter *p);

/* Queues a pair of a row of the chunk and a query, unless a triangle excludes it. */
void queue_survivor(const struct prefilter *p, struct prefilter_worker *w, size_t worker,
                    size_t first, size_t r, size_t query);

#endif
