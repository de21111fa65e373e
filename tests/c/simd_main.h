/*
 * The program of a test of one instruction set. SIMD_NAME is its name. Include this file after
 * simd_check.h and simd/end.h. SIMD_FEATURES are the features that the processor must have, or are
 * not defined where the test is compiled for another architecture.
 */
int main(void)
{
#ifdef SIMD_FEATURES
    if ((cpu_features() & (SIMD_FEATURES)) == (SIMD_FEATURES)) {
        check_vector_abstraction();
        return finish("simd_" SIMD_NAME);
    }
    printf("skip simd_" SIMD_NAME ": this processor does not have it\n");
#else
    printf("skip simd_" SIMD_NAME ": compiled for another architecture\n");
#endif
    return 0;
}
