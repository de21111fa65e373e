/* Sums in double that keep the rounding error of each addition (Knuth's TwoSum; exact for any two finite doubles). */

struct exact {
    vd sum, error;
};

INLINE void exact_add(struct exact *s, vd term)
{
    vd sum = vd_add(s->sum, term);
    vd part = vd_sub(sum, s->sum);
    vd lost = vd_add(vd_sub(s->sum, vd_sub(sum, part)), vd_sub(term, part));
    s->error = vd_add(s->error, lost);
    s->sum = sum;
}

/* The lanes of a sum, and its errors, as one double. An overflowed sum is given as it is: its errors are NaN. */
INLINE double exact_total(struct exact s)
{
    double sums[VD_LANES], errors[VD_LANES], total, error = 0.0;
    vd_store(sums, s.sum);
    vd_store(errors, s.error);
    total = sums[0];
    for (int i = 1; i < VD_LANES; i++) {
        double sum = total + sums[i], part = sum - total;
        error += (total - (sum - part)) + (sums[i] - part);
        total = sum;
    }
    for (int i = 0; i < VD_LANES; i++) {
        error += errors[i];
    }
    return total + error == total + error ? total + error : total;
}

/* The lanes of a plain sum, halves first, as a vector unit folds them. */
INLINE double plain_total(vd s)
{
    double lanes[VD_LANES];
    vd_store(lanes, s);
    for (int width = VD_LANES / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; i++) {
            lanes[i] += lanes[i + width];
        }
    }
    return lanes[0];
}
