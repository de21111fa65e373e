#ifndef COSSIM_CORE_LOOK_H
#define COSSIM_CORE_LOOK_H

/* What the files of search share: search.c scores by tiles and puts all together, look.c rules out, encode.c makes codes. */
#include "core/scores.h"
#include "core/search.h"

/* Some corpus rows with some queries. `only`: the worker on whose behalf it is, or any. */
struct part {
    const struct search *search;
    size_t row, rows, query, queries;
    bool symmetric; /* the very same rows */
    bool triangle;  /* of both sides' numbers only pairs with the candidate's below the query's */
    size_t only;
};

enum { ANY_WORKER = -1 };

/* All pairs of a part, by tiles. 0, or -1 when there is no memory. */
int search_tiles(struct part *part, struct watch *watch);

/* All rows of a part from `first` on, with a first look by codes or else by rows of floats. 0, or -1 when there is no memory. */
int look(const struct search *search, const struct part *part, size_t first, bool by_codes);

/* The plan of a part, and the call that gives its scores. */
void part_plan(const struct part *part, struct plan *plan);
struct reduction part_call(const struct part *part, const struct plan *plan);

/* Codes of rows first .. first+rows-1, wherever and whatever they are. buffer: room for a row of doubles and one of floats. */
void encode_rows(const struct scores *scores, size_t first, size_t rows, uint8_t *codes, struct code_scale *scales, void *buffer);

/* The same of a query that is a vector of norm 1, or not finite. factors: `bytes` of them, padding included. */
struct code_query encode_query(const float *direction, bool finite, size_t depth, void *factors, size_t bytes);

static inline double limit_at(const struct finder *f, size_t worker, size_t query)
{
    const size_t at = worker * f->limits_step + (query & f->limits_mask);
    return f->work == WORK_F64 ? ((const double *)f->limits)[at] : (double)((const float *)f->limits)[at];
}

static inline void offer_score(const struct search *s, size_t worker, size_t query, size_t candidate, double score)
{
    if (!(score < limit_at(s->finder, worker, query))) {
        s->finder->offer(s->finder, worker, query, candidate, score);
    }
}

#endif
