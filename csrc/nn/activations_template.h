/*
 * The loops of activations.c, for one compute type. Parameters, undefined at the end:
 *
 *   ELEMENT        C type of an element
 *   NAME(loop)     name of the loop's function for this type
 */
static void NAME(leaky_relu)(size_t n, double slope_double, const void *input, const void *gradient,
                             void *output)
{
    const ELEMENT *restrict x = input, *restrict dy = gradient == NULL ? input : gradient;
    const ELEMENT slope = (ELEMENT)slope_double;
    ELEMENT *restrict out = output;
    for (size_t i = 0; i < n; i++) { /* a factor, not a branch, so that compilers vectorize it */
        const ELEMENT factor = x[i] > 0 ? 1 : slope;
        out[i] = dy[i] * factor;
    }
}

static void NAME(gelu)(size_t n, double slope, const void *input, const void *gradient,
                       void *output)
{
    const ELEMENT *restrict x = input, *restrict dy = gradient;
    ELEMENT *restrict out = output;
    (void)slope;
    for (size_t i = 0; i < n; i++) {
        out[i] = (ELEMENT)(dy == NULL ? gelu(x[i]) : (double)dy[i] * gelu_derivative(x[i]));
    }
}

static void NAME(gelu_tanh)(size_t n, double slope, const void *input, const void *gradient,
                            void *output)
{
    const ELEMENT *restrict x = input, *restrict dy = gradient;
    ELEMENT *restrict out = output;
    (void)slope;
    for (size_t i = 0; i < n; i++) {
        out[i] =
            (ELEMENT)(dy == NULL ? gelu_tanh(x[i]) : (double)dy[i] * gelu_tanh_derivative(x[i]));
    }
}

#undef ELEMENT
#undef NAME
