#pragma once

#include "search/block.h"
#include "search/head.h"

/*
 * Searches the corpus rows of a block from `first` on. The prefilter compares SQ8 codes if
 * use_codes is set, else float32 rows. Returns 0, or -1 when memory runs out.
 */
int prefilter(const struct search *search, const struct search_block *block, size_t first);

/* ---- the state of a prefilter, which prefilter.c, compare.c and rescore.c share ---- */

enum {
    /* corpus rows that stay in the cache while all queries are compared with them */
    CHUNK = 256,
    FIRST_CHUNK = 16,
    SMALL_CHUNK = 32, /* rows of a chunk, for few queries and rows that are their own codes */
    COARSE_CHUNK = COARSE_STEP,     /* rows of a chunk that is read as float32 */
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
    MAX_TASK_PAUSE = 64,   /* largest number of tasks before the prefilter is tried again */
    /*
     * If more than one pair in this many passes the heads, comparing single pairs afterwards takes
     * longer than comparing the codes of all pairs of the chunk. The comparison of heads then
     * pauses.
     */
    MIN_HEAD_GAIN = 12, /* if the codes of pairs that pass the heads are compared */
    HEAD_PAUSE = 32,    /* length of the first pause, in chunks; each failed attempt doubles it */
    MIN_HEAD_GAIN_NO_CODES = 64, /* if pairs that pass the heads are scored exactly */
    /* The same for the upper halves of codes. */
    MIN_HALF_GAIN = 2,
    HALF_PAUSE = 4,
    /*
     * If more than one pair in this many passes the codes and there are at most COARSE_QUERIES
     * queries, the comparison of codes pauses. The queries are then compared with the rows
     * themselves, because reading all rows in order is faster than reading many single rows.
     */
    MIN_CODE_GAIN = 8,
    CODE_TRIAL = 4096, /* rows before the first decision */
    /* length of the first pause, in chunks of COARSE_CHUNK rows; each failed attempt doubles it */
    CODE_PAUSE = 256,
    /* With more queries, pairs that pass the codes are not compared as floats: if codes rule out
     * little, a GEMM is cheaper. */
    MAX_COARSE_AFTER_CODES = 64
};

/* The last row that a query was scored with, and the score of this pair. The next row has the same
 * score if it has the same elements. */
struct scored {
    const char *row; /* NULL: none yet */
    double score;
};

/* Says whether a row has the same bytes as the row before it in memory. */
enum row_repeats { REPEATS_UNKNOWN, REPEATS, DIFFERS };

/* How a chunk is compared with the queries. Pairs that pass HEADS or HALVES are compared by CODES.
 */
enum comparison_kind { FLOATS, CODES, HEADS, HALVES };

/* A comparison that does not pay is left out for `left` steps and then tried again. Each failed
 * attempt doubles the length of the pause, which is 0 after a success. */
struct pause {
    size_t left, length;
};

/* The state and buffers of one worker. */
struct prefilter_worker {
    _Alignas(SCRATCH_ALIGN) const struct prefilter *prefilter;
    size_t number; /* of the worker */
    /* The task begins with corpus row task_first. The chunk is corpus rows [first, first + rows).
     */
    size_t task_first, first, rows;
    /* Row r of the chunk is row numbers[r] of the corpus, or `at` + r if numbers is NULL. */
    size_t at;
    const size_t *numbers;
    enum comparison_kind kind;
    /* pairs of the current task that the prefilter has not ruled out and whose rescoring takes time
     */
    size_t survivors;
    struct pause task_pause; /* in tasks, which go to GEMM */
    bool any_zero;           /* true if the chunk has rows that `zero` marks */
    /* true if REPEATS marks rows of the chunk; only set for more than SQ8_QUERIES queries */
    bool any_repeat;
    void *row, *query; /* buffers for one corpus row and one query, converted for the product */
    uint8_t *codes;    /* [CHUNK][depth], if the search makes them */
    int exponent;      /* float32 rows are first scaled by 2^-exponent */
    struct row_bounds bounds; /* of the codes, in bounds_of_codes */
    struct row_bounds head_bounds;
    /* pairs of the chunk that the heads or halves have not ruled out */
    size_t first_survivors;
    /* pairs compared since the last decision on codes; pairs that passed */
    size_t code_pairs, code_passed;
    struct pause code_pause;             /* in chunks, which are then compared as floats */
    struct pause head_pause, half_pause; /* in chunks */
    struct scored *last;                 /* [queries] */
    /*
     * Survivors of a chunk. They wait here while their rows are fetched from memory, and are then
     * rescored.
     */
    size_t queued;
    struct {
        uint16_t row; /* relative to the chunk */
        uint16_t query;
    } rescore_queue[QUEUE_SIZE];
    /* norms of the chunk's rows; a norm is measured when its row is first rescored */
    double norm_values[CHUNK];
    int norm_exponents[CHUNK];
    uint8_t measured[CHUNK]; /* 1 if the norm of the row is measured */
    uint8_t repeats[CHUNK];  /* enum row_repeats */
    uint8_t zero[CHUNK];     /* 1 if all elements of the row are 0 */
    uint8_t keep[CHUNK];
    uint32_t keep_panel[CHUNK];
    float row_thresholds[CHUNK]; /* of the rows as queries, in a mirrored search; else infinity */
    float bounds_of_codes[4][CHUNK], bounds_of_heads[4][CHUNK];
    struct code_scale scales[CHUNK];
    int32_t code_dots[SQ8_QUERIES * CHUNK];
    float dots[COARSE_QUERIES * COARSE_STEP];
    float norms[COARSE_CHUNK], divisors[COARSE_CHUNK]; /* |x| and max(|x|, eps) of float32 rows */
};

struct prefilter {
    const struct search *search;
    struct search_block block; /* all corpus rows, one block of queries */
    struct block_scores block_scores;
    const struct pair_scores *scores; /* those of block_scores */
    size_t depth;                     /* of a row */
    struct float_rows float_rows;
    size_t code_chunk;   /* rows of a chunk of codes */
    bool rows_are_codes; /* 8-bit integers, in place */
    bool signed_codes;   /* rows_are_codes, as int8_t */
    /*
     * Queries are compared row by row, not in panels. A panel computes panel_lanes queries, even if
     * there are fewer. Halves are read once for a panel, and once for SQ8_QUERIES queries row by
     * row.
     */
    bool by_rows;
    bool has_halves;     /* the codes of rows are in halves, in the corpus */
    float longest_codes; /* an upper bound of the norm of a row's codes, before they are scaled */
    bool coarse_after_codes; /* pairs that their codes do not rule out are compared as floats */
    /* upper bound of the errors of a coarse score and of the exact score, added */
    float coarse_error;
    bool use_codes; /* true: compares SQ8 codes; false: compares rows that are read as float32 */
    struct norms query_norms;
    double *threshold_factors;  /* [queries], see normalize_query */
    struct coded_queries coded; /* with use_codes */
    /* compares heads first; only pairs that pass them are compared by codes or scored exactly */
    bool use_heads;
    bool use_halves;            /* compares upper halves of codes first, then lower halves */
    struct coded_queries heads; /* with use_heads */
    float *head;                /* buffer for the head of a query */
    /* queries scaled to norm 1: [queries][depth], or a buffer for one if none is kept */
    float *unit_queries;
    size_t task_rows, task_first;
    size_t worker_count;
    struct prefilter_worker *workers;
    _Atomic int status;
};

/* Returns the threshold of the scores of a query. */
static inline double exact_threshold(const struct prefilter_worker *w, size_t query)
{
    const struct search *s = w->prefilter->search;
    return threshold_at(s->result_handler, w->number,
                        query_number(s, w->prefilter->block.query + query));
}

/* Returns the threshold of a query that is scaled to norm 1. It is lowered by more than underflow
 * can change a score, because the bounds only cover relative errors. */
float unit_threshold(const struct prefilter_worker *w, size_t query);

/*
 * The threshold of row r of the chunk as a query, for scores with queries of norm 1. A query of
 * another norm is scaled by max(|query|, eps) / |query| >= 1, so this threshold is low enough for
 * it.
 */
float row_threshold(const struct prefilter_worker *w, size_t r);

/* A pair is ruled out if it is below the thresholds of both: of its query, and of row r of the
 * chunk. */
static inline float pair_threshold(const struct prefilter_worker *w, size_t r, size_t query)
{
    const float threshold = unit_threshold(w, query); /* may be NaN */
    return w->row_thresholds[r] < threshold ? w->row_thresholds[r] : threshold;
}

/*
 * Computes the coarse dot products of `rows` rows, from row `first` of the corpus on, with `count`
 * queries, their norms |x|, and the divisors of their scores, max(|x|, eps). The divisor is NaN if
 * a row must not be ruled out. The results are in w->dots, w->norms and w->divisors.
 */
void coarse_rows(struct prefilter_worker *w, size_t first, size_t rows, const float *const *vectors,
                 size_t count);

/* True if the score of a row and a query is certainly below this threshold of unit_threshold(). The
 * arguments are results of coarse_rows(). */
static inline bool is_below(const struct prefilter *p, float dot, float norm, float divisor,
                            float threshold)
{
    return dot + p->coarse_error * norm < threshold * divisor; /* false if one is NaN */
}

/* Counts one step of a pause, if there is one. */
static inline void pause_step(struct pause *pause)
{
    pause->left -= pause->left > 0;
}

/* Begins a pause of `first` to `most` steps unless the comparison pays. */
static inline void pause_unless(bool pays, struct pause *pause, size_t first, size_t most)
{
    pause->length = pays ? 0 : smaller(larger(2 * pause->length, first), most);
    pause->left = pause->length;
}

void rescore_queue_flush(struct prefilter_worker *w);

/* Returns true if a GEMM would have been faster for the pairs checked so far: those of the rows of
 * the task before the chunk, and those of the chunk with the queries before `query`. */
bool gemm_is_cheaper(const struct prefilter_worker *w, size_t query);

/*
 * Compare the chunk with all queries: prefilter_rows as floats, prefilter_codes by codes or heads.
 * The functions return how many queries they compared: fewer than all if a GEMM is cheaper for the
 * other queries.
 */
size_t prefilter_rows(struct prefilter_worker *w);
size_t prefilter_codes(struct prefilter_worker *w);

/* Queues a pair of a row of the chunk and a query, unless a triangle excludes it. */
void queue_survivor(struct prefilter_worker *w, size_t r, size_t query);
