/* Widening of 16-bit floats, VF_LANES at a time. */

#define WIDEN(name, load)                                          \
    static void widen_##name(float *out, const void *in, size_t n) \
    {                                                              \
        const uint16_t *from = in;                                 \
        size_t i = 0;                                              \
        for (; n - i >= VF_LANES; i += VF_LANES) {                 \
            vf_store(out + i, load(from + i));                     \
        }                                                          \
        if (i < n) {                                               \
            uint16_t padded[VF_LANES] = {0};                       \
            float wide[VF_LANES];                                  \
            memcpy(padded, from + i, (n - i) * sizeof *from);      \
            vf_store(wide, load(padded));                          \
            memcpy(out + i, wide, (n - i) * sizeof *out);          \
        }                                                          \
    }
WIDEN(f16, vf_load_f16)
WIDEN(bf16, vf_load_bf16)
#undef WIDEN
