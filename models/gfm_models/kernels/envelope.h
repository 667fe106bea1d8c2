/* The polynomial with which everything ends at a cutoff. */

#ifndef ENVELOPE_H
#define ENVELOPE_H

#define ENVELOPE_EXPONENT 6

/* As `cutoff_envelope` in layers/radial.py, and its derivative by the length. */
static inline void envelope_of(double length, double cutoff, double *value, double *slope) {
    const double p = ENVELOPE_EXPONENT, x = length < cutoff ? length / cutoff : 1;
    const double x2 = x * x, x5 = x2 * x2 * x;
    *value = 1 + x5 * x * (-(p + 1) * (p + 2) / 2 + x * (p * (p + 2) - x * p * (p + 1) / 2));
    *slope = -p * (p + 1) * (p + 2) / 2 / cutoff * x5 * (1 - x) * (1 - x);
}

#endif
