/* An edge by its vector: length, unit vector, envelope, harmonics, and the derivatives of these; all in double. */

#ifndef DIRECTION_H
#define DIRECTION_H

#include <math.h>

#include "envelope.h"

typedef struct {
    double x, y, z; /* unit vector */
    double length;  /* Å */
    double envelope, envelope_slope;
    double harmonics[N_HARMONICS];
} Direction;

/* Constants are rounded from the square roots that harmonics.py writes. */
#define SQRT_3 1.7320508075688772
#define SQRT_5 2.23606797749979
#define SQRT_7 2.6457513110645907
#define SQRT_15 3.872983346207417
#define SQRT_105 10.246950765959598
#define SQRT_35_8 2.091650066335189
#define SQRT_21_8 1.6201851746019651

/* As `spherical_harmonics` in harmonics.py. */
INLINE void harmonics_of(double x, double y, double z, double *out) {
    out[0] = 1;
#if N_HARMONICS > 1
    out[1] = SQRT_3 * x;
    out[2] = SQRT_3 * y;
    out[3] = SQRT_3 * z;
#endif
#if N_HARMONICS > 4
    out[4] = SQRT_15 * x * z;
    out[5] = SQRT_15 * x * y;
    out[6] = SQRT_5 / 2 * (3 * y * y - 1);
    out[7] = SQRT_15 * y * z;
    out[8] = SQRT_15 / 2 * (z * z - x * x);
#endif
#if N_HARMONICS > 9
    out[9] = SQRT_35_8 * x * (3 * z * z - x * x);
    out[10] = SQRT_105 * x * y * z;
    out[11] = SQRT_21_8 * x * (5 * y * y - 1);
    out[12] = SQRT_7 / 2 * y * (5 * y * y - 3);
    out[13] = SQRT_21_8 * z * (5 * y * y - 1);
    out[14] = SQRT_105 / 2 * y * (z * z - x * x);
    out[15] = SQRT_35_8 * z * (z * z - 3 * x * x);
#endif
}

/* The gradient of Σ g · harmonics by x, y and z, as if these were independent. */
INLINE void harmonics_adjoint(double x, double y, double z, const double *g, double *to) {
    to[0] = to[1] = to[2] = 0;
#if N_HARMONICS > 1
    to[0] += SQRT_3 * g[1];
    to[1] += SQRT_3 * g[2];
    to[2] += SQRT_3 * g[3];
#endif
#if N_HARMONICS > 4
    to[0] += SQRT_15 * (z * g[4] + y * g[5] - x * g[8]);
    to[1] += SQRT_15 * (x * g[5] + z * g[7]) + 3 * SQRT_5 * y * g[6];
    to[2] += SQRT_15 * (x * g[4] + y * g[7] + z * g[8]);
#endif
#if N_HARMONICS > 9
    to[0] += SQRT_35_8 * (3 * (z * z - x * x) * g[9] - 6 * x * z * g[15]) + SQRT_105 * y * (z * g[10] - x * g[14])
           + SQRT_21_8 * (5 * y * y - 1) * g[11];
    to[1] += SQRT_105 * (x * z * g[10] + (z * z - x * x) / 2 * g[14]) + SQRT_21_8 * 10 * y * (x * g[11] + z * g[13])
           + SQRT_7 / 2 * (15 * y * y - 3) * g[12];
    to[2] += SQRT_35_8 * (6 * x * z * g[9] + 3 * (z * z - x * x) * g[15]) + SQRT_105 * y * (x * g[10] + z * g[14])
           + SQRT_21_8 * (5 * y * y - 1) * g[13];
#endif
}

INLINE Direction direction_of(const double *vector, double cutoff) {
    Direction d;
    d.length = sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2]);
    const double inverse = 1 / d.length;
    d.x = vector[0] * inverse;
    d.y = vector[1] * inverse;
    d.z = vector[2] * inverse;
    envelope_of(d.length, cutoff, &d.envelope, &d.envelope_slope);
    harmonics_of(d.x, d.y, d.z, d.harmonics);
    return d;
}

/* Add to the gradient by the vector, from those by its length (at fixed envelope · harmonics) and by envelope ·
   harmonics. */
INLINE void direction_adjoint(const Direction *d, double to_length, const real *to_harmonics, double *to_vector) {
    double g[N_HARMONICS], to_unit[3], along = to_length;
    for (int m = 0; m < N_HARMONICS; m++) {
        along += d->envelope_slope * d->harmonics[m] * to_harmonics[m];
        g[m] = d->envelope / d->length * to_harmonics[m];
    }
    harmonics_adjoint(d->x, d->y, d->z, g, to_unit);
    along -= d->x * to_unit[0] + d->y * to_unit[1] + d->z * to_unit[2];
    to_vector[0] += to_unit[0] + along * d->x;
    to_vector[1] += to_unit[1] + along * d->y;
    to_vector[2] += to_unit[2] + along * d->z;
}

#endif
