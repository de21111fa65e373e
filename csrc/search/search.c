/* Splits a search into blocks of queries and chooses how each block is scored. */
#include <string.h>

#include "base/scratch.h"
#include "search/block.h"
#include "search/head.h"
#include "search/prefilter.h"
#include "search/search.h"

enum {
    PIECE_ROWS = 1 << 19,
    /* If each query has its own pass over the rows, a pair takes this many times as long as if many
     * queries share a pass: with codes, and without. */
    SINGLE_COST_CODES = 16,
    SINGLE_COST = 40,
    QUERY_BLOCK = 4096, /* queries that share one pass over the corpus */
    /* The same in a mirrored search: few, so that their vectors, which are read for each pair that
     * passes the codes, stay in the cache. */
    MIRRORED_BLOCK = 1024,
    /* The prefilter runs only on at least this many times the warm-up rows. On fewer rows,
     * thresholds stay low for most of the search. */
    MIN_MIRRORED_ROWS = 16,
    /*
     * With fewer queries, no rows are scored first: a tile would cost more than the higher
     * thresholds save.
     */
    MIN_WARM_UP_QUERIES = 16,
    /* For shorter rows, exact scores take about as little time as the prefilter. */
    MIN_PREFILTER_DEPTH = 16,
    MAX_FLOAT_DEPTH = 1 << 16 /* this bounds the buffers for rows that are read as float32 */
};

/* Runs the search for one block of queries. Scores the first rows exactly, which raises the
 * thresholds, and prefilters the other rows. Without prefilter_pays, scores all rows exactly. */
static int search_queries(const struct search *s, struct search_block *block, bool prefilter_pays)
{
    const size_t rows = block->rows;
    size_t warm_up_rows = block->queries < MIN_WARM_UP_QUERIES ? 0 : smaller(s->warm_up_rows, rows);
    if (s->groups != NULL) {
        const size_t scored = smaller(s->scored_rows, rows);
        return scored == rows ? 0 : prefilter(s, block, scored);
    }
    if (s->mirrored && block->triangle) { /* pairs of the block's own rows are scored once */
        warm_up_rows = block->query == 0 ? rows : smaller(warm_up_rows, block->query);
    }
    block->rows = prefilter_pays ? warm_up_rows : rows;
    const int status = block->rows == 0 ? 0 : score_block(block, s->token);
    const size_t first = block->rows;
    block->rows = rows;
    return status < 0 || first == rows || cancel_requested(s->token) ? status
                                                                     : prefilter(s, block, first);
}

bool search_has_prefilter(const struct search *s)
{
    const size_t queries = s->query_rows.size,
                 max_depth = queries <= COARSE_QUERIES ? MAX_FLOAT_DEPTH : SQ8_MAX_DEPTH;
    return s->depth.size >= MIN_PREFILTER_DEPTH && s->depth.size <= max_depth &&
           !s->without_prefilter &&
           (!s->mirrored ||
            smaller(s->corpus_rows.size, queries) / MIN_MIRRORED_ROWS >= s->warm_up_rows);
}

/* Runs the search on the rows of both sides that the filter leaves. */
static int search_rows(const struct search *s)
{
    struct search_block block = {.search = s,
                                 .rows = s->corpus_rows.size,
                                 .queries = s->query_rows.size,
                                 .owner = ANY_WORKER};
    struct block_scores scores;
    if (block.rows == 0 || block.queries == 0) {
        return 0;
    }
    if (s->corpus.packed_bits) {
        return search_bits(s);
    }
    block_scores_init(&scores, &block);
    const size_t queries = s->query_rows.size;
    const bool prefilter_pays = search_has_prefilter(s);
    size_t block_queries = QUERY_BLOCK;
    if (s->mirrored && prefilter_pays) { /* similar blocks of whole panels */
        const size_t even = size_parts(queries, size_parts(queries, MIRRORED_BLOCK));
        block_queries = size_parts(even, SQ8_PANEL) * SQ8_PANEL;
    }
    const bool within = scores.scores.symmetric && s->self;
    if (within && !prefilter_pays) {
        return score_block(&block, s->token);
    }
    block.triangle = within;
    for (block.query = 0; block.query < queries && !cancel_requested(s->token);
         block.query += block_queries) {
        block.queries = smaller(block_queries, queries - block.query);
        block.rows = block.triangle ? block.query + block.queries : s->corpus_rows.size;
        const int status = search_queries(s, &block, prefilter_pays);
        if (status < 0) {
            return status;
        }
    }
    return 0;
}

size_t search_pairs(const struct search *s)
{
    const size_t rows = s->corpus_rows.size;
    return search_is_within(s) && !s->ordered_pairs ? pairs_of_rows(rows)
                                                    : size_product_or_max(rows, s->query_rows.size);
}

/* ---- filters ---- */

/* The codes and heads of some of the corpus rows. */
struct parts {
    struct sq8_codes codes;
    struct row_heads heads;
};

/* Returns a copy of a search that has only the corpus rows [first, first + n). *parts receives
 * their codes and heads. */
static struct search with_rows(const struct search *s, size_t first, size_t n, struct parts *parts)
{
    struct search part = *s;
    part.corpus.data += (ptrdiff_t)first * s->corpus_rows.x;
    part.corpus_rows.size = n;
    part.first_candidate += first;
    if (s->codes != NULL) {
        parts->codes = *s->codes;
        if (s->codes->upper != NULL) {
            parts->codes.upper += first * HALF_BYTES(s->depth.size);
            parts->codes.lower += first * HALF_BYTES(s->depth.size);
        }
        parts->codes.scales += first;
        part.codes = &parts->codes;
    }
    if (s->heads != NULL) {
        parts->heads = *s->heads;
        parts->heads.codes += first * s->heads->rotation.size;
        parts->heads.scales += first;
        part.heads = &parts->heads;
    }
    return part;
}

/* Searches the candidates that `rows` marks; NULL means all of them. If filter->both is set, `rows`
 * restricts the queries too. If the filter is swapped, `rows` restricts the queries instead. */
static int search_marked(const struct search *s, const uint64_t *rows)
{
    const struct filter *f = s->filter;
    const bool of_corpus = rows != NULL && (f->both || !f->swapped),
               of_queries = rows != NULL && (f->both || f->swapped),
               same = of_corpus && of_queries && search_is_within(s);
    const size_t corpus = s->corpus_rows.size, queries = s->query_rows.size,
                 count = of_corpus ? bitmap_count(rows, s->first_candidate, corpus) : corpus,
                 query_count = of_queries ? bitmap_count(rows, s->first_query, queries) : queries;
    struct search left = *s;
    struct arena arena = {.block = NULL};
    size_t *numbers = NULL, *query_numbers = NULL;
    while (arena_pass(&arena)) {
        numbers = arena_take(&arena, count < corpus ? count : 0, sizeof *numbers);
        query_numbers = arena_take(&arena, query_count < queries && !same ? query_count : 0,
                                   sizeof *query_numbers);
    }
    if (arena.block == NULL) {
        return -1;
    }
    if (count < corpus) {
        left.row_numbers = numbers;
        left.corpus_rows.size = bitmap_numbers(rows, s->first_candidate, corpus, numbers, count);
    }
    if (same) {
        left.query_numbers = left.row_numbers;
        left.query_rows.size = left.corpus_rows.size;
    } else if (query_count < queries) {
        left.query_numbers = query_numbers;
        left.query_rows.size =
            bitmap_numbers(rows, s->first_query, queries, query_numbers, query_count);
    }
    left.ordered_pairs = s->ordered_pairs || of_corpus != of_queries;
    const int status = search_rows(&left);
    progress_add(s->token, search_pairs(s) - search_pairs(&left));
    scratch_free(arena.block);
    return status;
}

/* Runs search_marked on PIECE_ROWS corpus rows at a time, which bounds the memory for row numbers.
 * A search within one array is one piece. */
static RUNS_ONCE int search_pieces(const struct search *s, const uint64_t *rows)
{
    const size_t corpus = s->corpus_rows.size,
                 step = search_is_within(s) ? larger(corpus, 1) : PIECE_ROWS;
    size_t warm_up_rows = s->warm_up_rows;
    int status = 0;
    for (size_t first = 0; first < corpus && status == 0 && !cancel_requested(s->token);
         first += step) {
        struct parts parts;
        struct search part = with_rows(s, first, smaller(step, corpus - first), &parts);
        part.warm_up_rows = warm_up_rows;
        status = search_marked(&part, rows);
        warm_up_rows = 0; /* the thresholds are high by now */
    }
    return status;
}

/* A bitmap of all rows that are a candidate of any query of a block. */
struct marks {
    uint64_t *words;
    size_t total; /* number of candidates, added up over the queries */
};

/* Adds the candidates of a query that are corpus rows of the search to marks. */
static void mark_candidates(const struct search *s, size_t query, struct marks *marks)
{
    const struct filter *f = s->filter;
    const uint64_t *pairs = f->pairs + (s->first_query + query) * f->words;
    const size_t first = s->first_candidate, end = first + s->corpus_rows.size;
    for (size_t word = first / 64; word * 64 < end; word++) {
        marks->words[word] |= pairs[word] & (f->rows == NULL ? UINT64_MAX : f->rows[word]);
    }
    marks->total += bitmap_count(pairs, first, end - first);
}

/* Searches the candidates that the filter gives each query. The queries share one pass over all
 * rows that are a candidate of any query. If that takes longer, each query has its own pass. */
static RUNS_ONCE int search_pairs_marked(const struct search *search_of_all)
{
    /* In this filter, `rows` marks candidates but not queries. */
    struct filter of_pairs = *search_of_all->filter;
    of_pairs.both = false;
    struct search of_queries = *search_of_all;
    of_queries.filter = &of_pairs;
    const struct search *s = &of_queries;
    const struct filter *f = s->filter;
    const size_t queries = s->query_rows.size, words = f->words;
    struct marks marks = {scratch_alloc(size_product_or_max(words, sizeof(uint64_t))), 0};
    int status = marks.words == NULL ? -1 : 0;
    for (size_t first = 0, n; first < queries && status == 0 && !cancel_requested(s->token);
         first += n) {
        n = smaller(QUERY_BLOCK, queries - first);
        memset(marks.words, 0, words * sizeof(uint64_t));
        marks.total = 0;
        for (size_t query = first; query < first + n; query++) {
            mark_candidates(s, query, &marks);
        }
        const size_t any = bitmap_count(marks.words, s->first_candidate, s->corpus_rows.size);
        struct search part = search_with_queries(s, first, n);
        const size_t cost = smaller(s->codes == NULL ? SINGLE_COST : SINGLE_COST_CODES, n);
        if (n == 1 || size_product_or_max(marks.total, cost) > any * n) {
            status = search_pieces(&part, marks.words);
            continue;
        }
        for (size_t q = 0; q < n && status == 0 && !cancel_requested(s->token); q++) {
            memset(marks.words, 0, words * sizeof(uint64_t));
            mark_candidates(&part, q, &marks);
            const struct search single = search_with_queries(&part, q, 1);
            status = search_pieces(&single, marks.words);
        }
    }
    scratch_free(marks.words);
    return status;
}

int search(const struct search *s)
{
    const struct filter *f = s->filter;
    if (f == NULL) {
        return search_rows(s);
    }
    const bool only_rows =
        f->pairs == NULL || f->swapped || search_is_within(s) || (f->both && f->rows != NULL);
    return only_rows ? search_pieces(s, f->rows) : search_pairs_marked(s);
}
