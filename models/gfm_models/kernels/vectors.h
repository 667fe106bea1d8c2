/* As many channels as one register holds. REAL is given to the compiler: float or double. */

#ifndef VECTORS_H
#define VECTORS_H

#include <string.h>

typedef REAL real;

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#define LANES (VECTOR_BYTES / (int)sizeof(real))

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const real *from) {
    vec x;
    memcpy(&x, from, sizeof x);
    return x;
}

INLINE void store(real *to, vec x) { memcpy(to, &x, sizeof x); }

INLINE void add(real *to, vec x) { store(to, load(to) + x); }

/* By halves: one after the other, the additions would wait for each other. */
#define HALVE(bytes)                                                                                             \
    typedef real vec_##bytes __attribute__((vector_size(bytes)));                                                \
    INLINE vec_##bytes halve_to_##bytes(const void *x) {                                                         \
        vec_##bytes low, high;                                                                                   \
        memcpy(&low, x, bytes);                                                                                  \
        memcpy(&high, (const char *)x + bytes, bytes);                                                           \
        return low + high;                                                                                       \
    }
HALVE(32)
HALVE(16)

INLINE real sum_lanes(vec x) {
#if VECTOR_BYTES == 64
    const vec_32 half = halve_to_32(&x);
    const vec_16 few = halve_to_16(&half);
#elif VECTOR_BYTES == 32
    const vec_16 few = halve_to_16(&x);
#else
    const vec few = x;
#endif
    real sum = few[0];
    for (int i = 1; i < 16 / (int)sizeof(real); i++) sum += few[i];
    return sum;
}

#endif
