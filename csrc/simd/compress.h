/* Compression of vectors for instruction sets without instructions for it. */
static inline size_t vf_compress(float *to, int64_t *to_numbers, const float *from,
                                 const int64_t *numbers, unsigned lanes)
{
    size_t count = 0;
    for (size_t i = 0; i < VF_LANES; i++) { /* no branch that the processor could mispredict */
        to[count] = from[i];
        to_numbers[count] = numbers[i];
        count += lanes >> i & 1;
    }
    return count;
}

static inline size_t vd_compress(double *to, int64_t *to_numbers, const double *from,
                                 const int64_t *numbers, unsigned lanes)
{
    size_t count = 0;
    for (size_t i = 0; i < VD_LANES; i++) {
        to[count] = from[i];
        to_numbers[count] = numbers[i];
        count += lanes >> i & 1;
    }
    return count;
}
