/* A spline with many columns, read at many points, and the gradients of what was read.

   F(B, W, G) = Σ_{points e} Σ_{j = 0 … DEGREE} Σ_c B[e, j] W[k_e + j, c] G[e, c]

   is linear in each of its three arguments: B the splines that are not zero on the interval k_e of point e (see
   spline_basis.c), W the coefficients and G a cotangent. The functions at the end of this file are

   spline_value        Σ B W, the gradient of F by G;
   spline_to_weights   the gradient by B;
   spline_to_rows      the gradient by W.

   The last is a sum over points. It works off one interval after the other, whose sums stay in registers, and threads
   share the columns, not the points, so that a result does not depend on the number of threads. */

#include "basis.h"
#include "threads.h"
#include "vectors.h"

/* Columns of LANES that to_rows works on at once: their sums stay in registers. */
#define TILE_OF_COLUMNS (VECTOR_BYTES == 32 ? 2 : 4)
#define AHEAD 4

/* Sums that a loop is to keep in registers: compilers leave them in memory where they do not unroll it. */
#define UNROLL _Pragma("GCC unroll 8")

enum { OK, OTHER_POINTS };

typedef struct {
    int64_t n_points, n_intervals, columns; /* columns: a multiple of LANES */
    const int64_t *places;                  /* see spline_basis.c */
} Reading;

typedef struct {
    Reading reading;
    const double *weights; /* B [n_points, N_ROWS] */
    const real *rows;      /* W [n_intervals + DEGREE, columns] */
    const real *cotangent; /* G [n_points, columns] */
    real *value, *to_rows;
    double *to_weights;
} Task;

INLINE const int64_t *intervals_of(const Reading *reading) { return reading->places; }
INLINE const int64_t *points_of(const Reading *reading) { return reading->places + reading->n_points; }
INLINE const int64_t *first_of(const Reading *reading) { return reading->places + 2 * reading->n_points; }

static int check_places(const Reading *reading) {
    return first_of(reading)[reading->n_intervals] == reading->n_points ? OK : OTHER_POINTS;
}

static void value_points(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    const int64_t columns = task->reading.columns;
    for (int64_t point = begin; point < end; point++) {
        const real *rows = ROW(task->rows, intervals_of(&task->reading)[point], columns);
        const double *b = ROW(task->weights, point, N_ROWS);
        real *value = ROW(task->value, point, columns);
        for (int64_t c = 0; c < columns; c += LANES) {
            vec sum = (real)b[0] * load(rows + c);
            UNROLL for (int j = 1; j < N_ROWS; j++) sum += (real)b[j] * load(rows + j * columns + c);
            store(value + c, sum);
        }
    }
}

static void weights_points(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    const int64_t columns = task->reading.columns;
    for (int64_t point = begin; point < end; point++) {
        const real *rows = ROW(task->rows, intervals_of(&task->reading)[point], columns);
        const real *g = ROW(task->cotangent, point, columns);
        double *to_weights = ROW(task->to_weights, point, N_ROWS);
        vec sums[N_ROWS] = {{0}};
        for (int64_t c = 0; c < columns; c += LANES) {
            const vec column = load(g + c);
            UNROLL for (int j = 0; j < N_ROWS; j++) sums[j] += column * load(rows + j * columns + c);
        }
        UNROLL for (int j = 0; j < N_ROWS; j++) to_weights[j] = (double)sum_lanes(sums[j]);
    }
}

/* n columns of LANES from column c on, for all points of interval k. */
INLINE void rows_tile(const Task *task, int64_t k, int64_t c, const int n) {
    const Reading *reading = &task->reading;
    const int64_t columns = reading->columns, *points = points_of(reading), *first = first_of(reading);
    vec sums[N_ROWS][TILE_OF_COLUMNS] = {{{0}}};
    for (int64_t place = first[k]; place < first[k + 1]; place++) {
        const int64_t point = points[place];
        const int64_t ahead = points[MIN(place + AHEAD, first[k + 1] - 1)];
        const double *b = ROW(task->weights, point, N_ROWS);
        const real *g = ROW(task->cotangent, point, columns) + c;
        UNROLL for (int i = 0; i < n; i++) {
            const vec column = load(g + i * LANES);
            __builtin_prefetch(ROW(task->cotangent, ahead, columns) + c + i * LANES);
            UNROLL for (int j = 0; j < N_ROWS; j++) sums[j][i] += (real)b[j] * column;
        }
    }
    UNROLL for (int j = 0; j < N_ROWS; j++)
        UNROLL for (int i = 0; i < n; i++) add(ROW(task->to_rows, k + j, columns) + c + i * LANES, sums[j][i]);
}

static void rows_columns(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    for (int64_t k = 0; k < task->reading.n_intervals; k++) {
        int64_t column = begin;
        for (; column + TILE_OF_COLUMNS <= end; column += TILE_OF_COLUMNS)
            rows_tile(task, k, column * LANES, TILE_OF_COLUMNS);
        for (; column < end; column++) rows_tile(task, k, column * LANES, 1);
    }
}

/* ---- what is called from outside ---- */

int spline_lanes(void) { return LANES; }

int spline_value(const Reading *reading, const double *weights, const real *rows, real *value, int n_threads) {
    if (check_places(reading)) return OTHER_POINTS;
    const Task task = {.reading = *reading, .weights = weights, .rows = rows, .value = value};
    share_equally(value_points, &task, reading->n_points, n_threads);
    return OK;
}

int spline_to_weights(
    const Reading *reading, const real *rows, const real *cotangent, double *to_weights, int n_threads
) {
    if (check_places(reading)) return OTHER_POINTS;
    const Task task = {.reading = *reading, .rows = rows, .cotangent = cotangent, .to_weights = to_weights};
    share_equally(weights_points, &task, reading->n_points, n_threads);
    return OK;
}

/* Adds to `to_rows`. */
int spline_to_rows(
    const Reading *reading, const double *weights, const real *cotangent, real *to_rows, int n_threads
) {
    if (check_places(reading)) return OTHER_POINTS;
    const Task task = {.reading = *reading, .weights = weights, .cotangent = cotangent, .to_rows = to_rows};
    share_equally(rows_columns, &task, reading->columns / LANES, n_threads);
    return OK;
}
