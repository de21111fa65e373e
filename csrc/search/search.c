/* Search as a whole, and its scores by tiles. */
#include "base/scratch.h"
#include "search/prefilter.h"
#include "search/search.h"

enum {
    QUERIES_AT_ONCE = 4096, /* queries that pass over the corpus together */
    FEW_QUERIES = 16,       /* fewer need no limits beforehand: a tile would cost more */
    SHALLOW = 16            /* rows of fewer elements have scores about as cheap as a first look */
};

static bool rows_are_floats(const struct search *s)
{
    return s->corpus.dtype == DTYPE_F32 && operand_in_place(&s->corpus) &&
           (s->depth.x == sizeof(float) || s->depth.size == 1);
}

static int search_queries(const struct search *s, struct search_block *part, bool prefilter_pays)
{
    const bool few = part->queries <= COARSE_QUERIES && s->codes == NULL && rows_are_floats(s);
    const size_t rows = part->rows, warm = part->queries < FEW_QUERIES ? 0 : smaller(s->warm, rows);
    part->rows = prefilter_pays ? warm : rows;
    const int status = part->rows == 0 ? 0 : score_block(part, s->token);
    const size_t first = part->rows;
    part->rows = rows;
    return status < 0 || first == rows || cancel_requested(s->token)
               ? status
               : prefilter(s, part, first, !few);
}

int search(const struct search *s)
{
    struct search_block part = {.search = s,
                                .rows = s->corpus_rows.size,
                                .queries = s->query_rows.size,
                                .only = (size_t)ANY_WORKER};
    struct plan plan;
    struct pair_scores scores;
    if (part.rows == 0 || part.queries == 0) {
        return 0;
    }
    block_plan(&part, &plan);
    const struct reduction call = block_call(&part, &plan);
    pair_scores_init(&scores, &call);
    const size_t queries = s->query_rows.size;
    const bool prefilter_pays =
        s->depth.size >= SHALLOW && s->depth.size <= CODES_DEPTH && !s->mirrored;
    if (scores.symmetric && s->self && !prefilter_pays) {
        return score_block(&part, s->token);
    }
    part.triangle = scores.symmetric && s->self;
    for (part.query = 0; part.query < queries && !cancel_requested(s->token);
         part.query += QUERIES_AT_ONCE) {
        part.queries = smaller(QUERIES_AT_ONCE, queries - part.query);
        part.rows = part.triangle ? part.query + part.queries : s->corpus_rows.size;
        const int status = search_queries(s, &part, prefilter_pays);
        if (status < 0) {
            return status;
        }
    }
    return 0;
}
