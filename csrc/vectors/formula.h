#pragma once

#include <math.h>

#include "base/eps.h"
#include "vectors/row_sums.h"

/*
 * The one definition of cosine similarity. It is the formula of
 * torch.nn.functional.cosine_similarity since torch 1.13, which clamps each norm separately:
 *
 *     x . y / (max(|x|, eps) * max(|y|, eps))
 *
 * A NaN in either row makes the result NaN.
 */

/*
 * Returns max(|x|, eps) for the given |x|^2. One case differs: for a zero row, an eps between 0 and
 * 1e-100 is replaced by 1e-100. The results are the same, because all products of a zero row are 0.
 * With a smaller eps, 1 / eps or the product of two norms could leave the range of double.
 */
static inline double formula_clamped_norm(double square, double eps)
{
    const bool tiny = square == 0.0 && eps > 0.0 && eps < 1e-100;
    return eps_clamp(sqrt(square), tiny ? 1e-100 : eps);
}

/* Clips a cosine to [-1, 1]. The exact value is in that range; only rounding errors leave it. */
static inline double formula_clip(double cosine)
{
    const double capped = cosine > 1.0 ? 1.0 : cosine;
    return capped < -1.0 ? -1.0 : capped;
}

/*
 * Returns the divisor of a cosine, from x.x and y.y. x_eps and y_eps differ only if the rows are
 * scaled by different powers of two. The caller ensures that xx * yy neither overflows nor
 * underflows.
 *
 * If eps clamps no norm, the divisor is sqrt(xx * yy), which rounds less than sqrt(xx) * sqrt(yy).
 * Since sqrt(a * a) == a in IEEE arithmetic, identical rows give exactly 1.
 */
static inline double formula_divisor(double xx, double yy, double x_eps, double y_eps)
{
    if (!eps_clamps(sqrt(xx), x_eps) && !eps_clamps(sqrt(yy), y_eps)) {
        return sqrt(xx * yy);
    }
    return formula_clamped_norm(xx, x_eps) * formula_clamped_norm(yy, y_eps);
}

/* Returns the cosine from x.y, x.x and y.y. The other arguments are those of formula_divisor. */
static inline double formula_cosine(double xy, double xx, double yy, double x_eps, double y_eps)
{
    return formula_clip(xy / formula_divisor(xx, yy, x_eps, y_eps));
}

/* Returns the cosine of a pair of rows from its sums, which may be those of scaled rows. */
static inline double formula_cosine_of(const struct row_sums *sums, double eps)
{
    return formula_cosine(sums->xy, sums->xx, sums->yy, eps_scaled(eps, sums->x_exponent),
                          eps_scaled(eps, sums->y_exponent));
}
