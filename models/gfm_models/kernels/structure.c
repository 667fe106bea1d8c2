/* What inference does with a structure besides the network, all in double: edge vectors, the screened nuclear
   repulsion of zbl.py with its gradient, and what the gradient by the edge vectors means for atoms and cells. */

#include <math.h>
#include <string.h>

#include "edges.h"
#include "envelope.h"

enum { NO_GRAPH = 4, NO_ELEMENT };

typedef struct {
    int64_t n_graphs;
    const int64_t *graph_index; /* [n_nodes] */
} Batch;

static int check_batch(const Shape *shape, const Batch *batch) {
    if (check_order(shape)) return OTHER_GRAPH;
    for (int64_t node = 0; node < shape->n_receivers; node++)
        if (batch->graph_index[node] < 0 || batch->graph_index[node] >= batch->n_graphs) return NO_GRAPH;
    return OK;
}

/* positions[receiver] - positions[sender] + shift · cell */
int edge_vectors(
    const Shape *shape, const Batch *batch, const double *positions, const double *cells, const int64_t *shifts,
    double *vectors
) {
    const int status = check_batch(shape, batch);
    if (status) return status;
    const Edges edges = edges_of(shape);
    for (int64_t edge = 0; edge < edges.n_edges; edge++) {
        const double *to = positions + 3 * edges.receivers[edge], *from = positions + 3 * edges.senders[edge];
        const double *cell = cells + 9 * batch->graph_index[edges.receivers[edge]];
        const double a = (double)shifts[3 * edge], b = (double)shifts[3 * edge + 1], c = (double)shifts[3 * edge + 2];
        for (int i = 0; i < 3; i++)
            vectors[3 * edge + i] = to[i] - from[i] + (a * cell[i] + b * cell[3 + i] + c * cell[6 + i]);
    }
    return OK;
}

/* ---- repulsion ---- */

#define N_SCREENING 4

/* Numbers of zbl.py, which hands them over. */
typedef struct {
    double cutoff, coulomb, screening_length, screening_power;
    double amplitudes[N_SCREENING], exponents[N_SCREENING];
    int64_t n_elements;
    const double *radii; /* [n_elements], by atomic number */
} Repulsion;

typedef struct {
    Edges edges;
    Repulsion repulsion;
    const int64_t *atomic_numbers;
    const double *vectors;
    double *energies, *to_vectors;
} Task;

/* Half the energy of a pair, and its derivative by the distance; `reach` is where it ends. */
static double half_pair(const Repulsion *r, double z1, double z2, double distance, double reach, double *slope) {
    const double screening = r->screening_length / (pow(z1, r->screening_power) + pow(z2, r->screening_power));
    double phi = 0, phi_slope = 0;
    for (int k = 0; k < N_SCREENING; k++) {
        const double term = r->amplitudes[k] * exp(-r->exponents[k] * distance / screening);
        phi += term;
        phi_slope -= r->exponents[k] / screening * term;
    }
    double envelope, envelope_slope;
    envelope_of(distance, reach, &envelope, &envelope_slope);
    const double coulomb = r->coulomb * z1 * z2 / distance / 2;
    *slope = coulomb * (phi_slope * envelope + phi * envelope_slope - phi * envelope / distance);
    return coulomb * phi * envelope;
}

static void repel_nodes(const void *argument, int64_t begin, int64_t end) {
    const Task *task = argument;
    const Edges *edges = &task->edges;
    for (int64_t node = begin; node < end; node++) {
        const int64_t own = task->atomic_numbers[node];
        double energy = 0;
        for (int64_t edge = edges->first_in[node]; edge < edges->first_in[node + 1]; edge++) {
            const int64_t other = task->atomic_numbers[edges->senders[edge]];
            const double *d = task->vectors + 3 * edge, square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
            const double *radii = task->repulsion.radii, sum = radii[own] + radii[other];
            const double reach = MIN(sum, task->repulsion.cutoff);
            if (square >= reach * reach) continue;
            double slope;
            energy += half_pair(&task->repulsion, (double)own, (double)other, sqrt(square), reach, &slope);
            for (int i = 0; i < 3; i++) task->to_vectors[3 * edge + i] += slope * d[i] / sqrt(square);
        }
        task->energies[node] = energy;
    }
}

/* Sets `energies`, adds to `to_vectors`. */
int repulsion(
    const Shape *shape, const Repulsion *numbers, const int64_t *atomic_numbers, const double *vectors,
    double *energies, double *to_vectors, int n_threads
) {
    if (check_order(shape)) return OTHER_GRAPH;
    for (int64_t node = 0; node < shape->n_receivers; node++)
        if (atomic_numbers[node] < 0 || atomic_numbers[node] >= numbers->n_elements) return NO_ELEMENT;
    const Task task = {
        .edges = edges_of(shape), .repulsion = *numbers, .atomic_numbers = atomic_numbers, .vectors = vectors,
        .energies = energies, .to_vectors = to_vectors
    };
    share_out(repel_nodes, &task, task.edges.first_in, shape->n_receivers, n_threads);
    return OK;
}

/* ---- forces and virial ---- */

/* Sets `forces` [n_nodes, 3] to what `gradient` by the edge vectors leaves at the nodes, and `virials`
   [n_graphs, 3, 3] to the symmetric part of Σ vector ⊗ gradient. */
int forces_and_virials(
    const Shape *shape, const Batch *batch, const double *vectors, const double *gradient, double *forces,
    double *virials
) {
    const int status = check_batch(shape, batch);
    if (status) return status;
    const Edges edges = edges_of(shape);
    memset(forces, 0, 3 * shape->n_receivers * sizeof *forces);
    memset(virials, 0, 9 * batch->n_graphs * sizeof *virials);
    for (int64_t node = 0; node < shape->n_receivers; node++) {
        double v[9] = {0}, *force = forces + 3 * node, *virial = virials + 9 * batch->graph_index[node];
        for (int64_t edge = edges.first_in[node]; edge < edges.first_in[node + 1]; edge++) {
            const double *d = vectors + 3 * edge, *g = gradient + 3 * edge;
            double *sender = forces + 3 * edges.senders[edge];
            for (int i = 0; i < 3; i++) {
                force[i] -= g[i];
                sender[i] += g[i];
                for (int j = 0; j < 3; j++) v[3 * i + j] += (d[i] * g[j] + d[j] * g[i]) / 2;
            }
        }
        for (int i = 0; i < 9; i++) virial[i] += v[i];
    }
    return OK;
}
