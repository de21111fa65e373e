#ifndef COSSIM_VECTORS_FORMULA_H
#define COSSIM_VECTORS_FORMULA_H

#include <math.h>

/*
 * The one definition of cosine similarity, that of torch.nn.functional.cosine_similarity since
 * 1.13, which clamps each norm separately:
 *
 *     x . y / (max(|x|, eps) * max(|y|, eps))
 *
 * NaN propagates: the comparisons below send NaN to the branch that keeps it.
 */

/*
 * Returns max(|x|, eps) from |x|^2. For a zero row any positive number serves as well as eps, since
 * all its products are 0. A tiny eps is then replaced by 1e-100: neither its inverse nor its
 * product with another such number leaves the range.
 */
static inline double formula_clamped_norm(double square, double eps)
{
    const double norm = sqrt(square),
                 least = square == 0.0 && eps > 0.0 && eps < 1e-100 ? 1e-100 : eps;
    return norm < least ? least : norm;
}

/*
 * Clips a cosine to [-1, 1]. The exact value lies there, so clipping only removes rounding
 * error.
 */
static inline double formula_clip(double cosine)
{
    return cosine > 1.0 ? 1.0 : cosine < -1.0 ? -1.0 : cosine;
}

/*
 * Returns the cosine from x.y, x.x and y.y. If no norm is clamped, one square root serves both:
 * sqrt(xx * yy) rounds less than sqrt(xx) * sqrt(yy). Since sqrt(a * a) == a in IEEE arithmetic,
 * identical rows give exactly 1. The caller ensures that xx * yy neither overflows nor underflows.
 * There are two eps, because each side may have been scaled by a power of two.
 */
static inline double formula_cosine(double xy, double xx, double yy, double x_eps, double y_eps)
{
    double x_norm = sqrt(xx), y_norm = sqrt(yy);
    if (x_norm >= x_eps && y_norm >= y_eps) {
        return formula_clip(xy / sqrt(xx * yy));
    }
    return formula_clip(xy / (formula_clamped_norm(xx, x_eps) * formula_clamped_norm(yy, y_eps)));
}

/*
 * Returns a bound: eps clamps no norm whose square is at least this, however the square root
 * rounds.
 */
static inline double formula_unclamped_square(double eps)
{
    return eps * eps * (1.0 + 0x1p-40) + 0x1p-1000;
}

#endif
