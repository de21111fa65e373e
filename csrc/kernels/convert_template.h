/* Conversions from 16-bit floats to float and back, VF_LANES at a time. */

#define WIDEN(name, load) \
    static void widen_##name(float *out, const void *in, size_t n) \
    { \
        const uint16_t *from = in; \
        size_t i = 0; \
        for (; n - i >= VF_LANES; i += VF_LANES) { \
            vf_store(out + i, load(from + i)); \
        } \
        if (i < n) { \
            uint16_t padded[VF_LANES] = {0}; \
            float wide[VF_LANES]; \
            memcpy(padded, from + i, (n - i) * sizeof *from); \
            vf_store(wide, load(padded)); \
            memcpy(out + i, wide, (n - i) * sizeof *out); \
        } \
    }
WIDEN(f16, vf_load_f16)
WIDEN(bf16, vf_load_bf16)
#undef WIDEN

/* round_to_odd_kernel of kernels.h. The loop has no branches, so compilers vectorize it. */
static bool round_to_odd(float *out, const double *in, size_t n)
{
    int subnormal = 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = f32_rounded_to_odd(in[i]);
        subnormal |= (fabs(in[i]) < 0x1p-126) & (in[i] != 0.0);
    }
    return subnormal != 0;
}

#define NARROW(name, store) \
    static void narrow_##name(void *out, const float *in, size_t n) \
    { \
        uint16_t *to = out; \
        size_t i = 0; \
        for (; n - i >= VF_LANES; i += VF_LANES) { \
            store(to + i, vf_load(in + i)); \
        } \
        if (i < n) { \
            float padded[VF_LANES] = {0}; \
            uint16_t halves[VF_LANES]; \
            memcpy(padded, in + i, (n - i) * sizeof *in); \
            store(halves, vf_load(padded)); \
            memcpy(to + i, halves, (n - i) * sizeof *to); \
        } \
    }
NARROW(f16, vf_store_f16)
NARROW(bf16, vf_store_bf16)
#undef NARROW
