/* The edge operation with radial weights from a table, for inference: value and first derivatives.

   As in edge_operation.c, but R[e, p, c] is a function of the length of the edge: a spline of degree DEGREE with
   equally long intervals from 0 on,

   R(x / scale) = Σ_{j = 0 … DEGREE} B_j(x - k) table[k + j, p, c],   k = floor(x).

   Radial weights are never written to memory, and their derivative is that of the spline itself. */

#include "edges.h"
#include "vectors.h"

#define DEGREE 5
#define N_ROWS (DEGREE + 1)

#include "paths.h"

typedef struct {
    const real *rows; /* [n_intervals + DEGREE, N_PATHS, channels] */
    int64_t n_intervals;
    double scale; /* intervals per Å */
} Table;

typedef struct {
    Edges edges;
    Table table;
    const double *lengths;
    const real *harmonics, *features, *cotangent;
    real *value, *to_harmonics, *to_features;
    double *to_lengths;
} Task;

/* What an edge takes of the table: rows from `first` on, their weights, and the derivatives of these by the length. */
typedef struct {
    const real *first;
    real weights[N_ROWS], slopes[N_ROWS];
} Reading;

/* Uniform B-splines on the interval 0 <= t < 1: de Boor's recursion, and B' as a difference of one degree less. */
INLINE Reading read_table(const Table *table, double length, int64_t channels) {
    const double x = length * table->scale;
    const double last = (double)(table->n_intervals - 1);
    const int64_t k = x >= 0 ? (int64_t)(x < last ? x : last) : 0; /* 0 for NaN, too */
    const real t = (real)(x - (double)k);
    Reading reading = {.first = table->rows + k * N_PATHS * channels};
    real b[N_ROWS + 1] = {1};
    for (int degree = 1; degree <= DEGREE; degree++) {
        if (degree == DEGREE)
            for (int j = 0; j < N_ROWS; j++)
                reading.slopes[j] = (real)table->scale * ((j > 0 ? b[j - 1] : 0) - b[j]);
        for (int j = degree; j >= 0; j--)
            b[j] = ((j > 0 ? (t + (real)(degree - j)) * b[j - 1] : 0) + ((real)(j + 1) - t) * b[j]) / (real)degree;
    }
    for (int j = 0; j < N_ROWS; j++) reading.weights[j] = b[j];
    return reading;
}

INLINE vec spline(const real *rows, const real *weights, int64_t channels) {
    vec sum = weights[0] * load(rows);
    for (int j = 1; j < N_ROWS; j++) sum += weights[j] * load(rows + j * N_PATHS * channels);
    return sum;
}

#define RADIAL(path) spline(reading->first + c + (path) * channels, reading->weights, channels)
#define RADIAL_SLOPE(path) spline(reading->first + c + (path) * channels, reading->slopes, channels)

#include "tabulated_blocks.h"

INLINE void value_channels(
    const Task *task, real couplings[TILE][N_COUPLINGS], const Reading *readings, int64_t edge, int n, real *value,
    int64_t c
) {
    const int64_t channels = task->edges.channels;
    vec a[N_OUT];
    for (int m = 0; m < N_OUT; m++) a[m] = load(value + m * channels + c);
    for (int i = 0; i < n; i++) {
        const real *h = ROW(task->features, task->edges.senders[edge + i], N_IN * channels) + c;
        tabulated_value_block(couplings[i], &readings[i], h, a, c, channels);
    }
    for (int m = 0; m < N_OUT; m++) store(value + m * channels + c, a[m]);
}

static void value_nodes(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    const Edges *edges = &task->edges;
    const int64_t channels = edges->channels;
    real couplings[TILE][N_COUPLINGS];
    Reading readings[TILE];
    for (int64_t node = begin; node < end; node++) {
        real *value = ROW(task->value, node, N_OUT * channels);
        memset(value, 0, N_OUT * channels * sizeof(real));
        for (int64_t edge = edges->first_in[node]; edge < edges->first_in[node + 1]; edge += TILE) {
            const int n = (int)MIN(TILE, edges->first_in[node + 1] - edge);
            for (int i = 0; i < n; i++) {
                couple(ROW(task->harmonics, edge + i, N_HARMONICS), couplings[i]);
                readings[i] = read_table(&task->table, task->lengths[edge + i], channels);
            }
            for (int64_t c = 0; c < channels; c += LANES)
                value_channels(task, couplings, readings, edge, n, value, c);
        }
    }
}

static void gradient_nodes(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    const Edges *edges = &task->edges;
    const int64_t channels = edges->channels;
    real couplings[N_COUPLINGS];
    vec sums[N_COUPLINGS];
    for (int64_t node = begin; node < end; node++) {
        const real *h = ROW(task->features, node, N_IN * channels);
        real *to_h = ROW(task->to_features, node, N_IN * channels);
        memset(to_h, 0, N_IN * channels * sizeof(real));
        for (int64_t place = edges->first_out[node]; place < edges->first_out[node + 1]; place++) {
            const int64_t edge = edges->by_sender[place];
            const real *g = ROW(task->cotangent, edges->receivers[edge], N_OUT * channels);
            const Reading reading = read_table(&task->table, task->lengths[edge], channels);
            vec slope = {0};
            couple(ROW(task->harmonics, edge, N_HARMONICS), couplings);
            memset(sums, 0, sizeof sums);
            for (int64_t c = 0; c < channels; c += LANES)
                tabulated_gradient_block(couplings, &reading, h + c, g + c, &slope, sums, to_h + c, c, channels);
            couple_adjoint(sums, ROW(task->to_harmonics, edge, N_HARMONICS));
            task->to_lengths[edge] = sum_lanes(slope);
        }
    }
}

int edge_lanes(void) { return LANES; }

int tabulated_value(
    const Shape *shape, const Table *table, const double *lengths, const real *harmonics, const real *features,
    real *value, int n_threads
) {
    if (check_order(shape)) return OTHER_GRAPH;
    const Task task = {
        .edges = edges_of(shape), .table = *table, .lengths = lengths, .harmonics = harmonics, .features = features,
        .value = value,
    };
    share_out(value_nodes, &task, task.edges.first_in, shape->n_receivers, n_threads);
    return OK;
}

int tabulated_gradient(
    const Shape *shape, const Table *table, const double *lengths, const real *harmonics, const real *features,
    const real *cotangent, double *to_lengths, real *to_harmonics, real *to_features, int n_threads
) {
    if (check_order(shape)) return OTHER_GRAPH;
    const Task task = {
        .edges = edges_of(shape), .table = *table, .lengths = lengths, .harmonics = harmonics, .features = features,
        .cotangent = cotangent, .to_lengths = to_lengths, .to_harmonics = to_harmonics, .to_features = to_features,
    };
    share_out(gradient_nodes, &task, task.edges.first_out, shape->n_senders, n_threads);
    return OK;
}
