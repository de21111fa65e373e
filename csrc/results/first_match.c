/* The lowest candidate of each query that reaches a threshold. */
#include "results/first_match.h"

#include <math.h>

#include "base/scratch.h"

static void add_result(struct result_handler *handler, size_t worker, size_t query,
                       size_t candidate, double score)
{
    struct first_match *f = (struct first_match *)handler;
    (void)worker;
    if (isnan(score)) {
        return;
    }
    pthread_mutex_lock(&f->lock);
    int64_t *match = f->matches + query;
    if (*match < 0 || *match > (int64_t)candidate) {
        *match = (int64_t)candidate;
    }
    pthread_mutex_unlock(&f->lock);
}

int first_match_init(struct first_match *f, enum compute_type compute, double threshold,
                     int64_t *matches)
{
    *f = (struct first_match){
        .result_handler = handler_of_threshold(compute, threshold, add_result), .matches = matches};
    if (f->result_handler.thresholds == NULL) {
        return -1;
    }
    pthread_mutex_init(&f->lock, NULL);
    return 0;
}

void first_match_free(struct first_match *f)
{
    scratch_free(f->result_handler.thresholds);
    pthread_mutex_destroy(&f->lock);
}
