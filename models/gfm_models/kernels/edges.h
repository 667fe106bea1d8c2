/* The edges of a graph, and work on its nodes by several threads. */

#ifndef EDGES_H
#define EDGES_H

#include "threads.h"

/* How many edges of a receiver share one reading and writing of its sums. */
#define TILE 8

typedef struct {
    int64_t n_senders, n_receivers, n_edges, channels; /* channels: a multiple of LANES */
    const int64_t *order;                              /* see edge_order.c */
} Shape;

typedef struct {
    int64_t n_edges, channels;
    const int64_t *senders, *receivers, *by_sender; /* see edge_order.c */
    const int64_t *first_in, *first_out;
} Edges;

enum { OK, OTHER_GRAPH };

/* Whether the order was made for as many nodes. */
static inline int check_order(const Shape *shape) {
    const int same = shape->order[0] == shape->n_senders && shape->order[1] == shape->n_receivers;
    return same ? OK : OTHER_GRAPH;
}

static inline Edges edges_of(const Shape *shape) {
    const int64_t n_edges = shape->n_edges, *order = shape->order + 2;
    return (Edges){
        .n_edges = n_edges, .channels = shape->channels,
        .senders = order, .receivers = order + n_edges, .by_sender = order + 2 * n_edges,
        .first_in = order + 3 * n_edges, .first_out = order + 3 * n_edges + shape->n_receivers + 1,
    };
}

/* The node at which a share of about `load` edges and nodes ends. */
static inline int64_t node_at(const int64_t *first, int64_t n_nodes, int64_t load) {
    int64_t low = 0, high = n_nodes;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (first[middle] + middle < load) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Nodes in shares of about as many edges, which begin at `first`. */
static inline void share_out(Work work, const void *task, const int64_t *first, int64_t n_nodes, int n_threads) {
    int64_t ends[MAX_THREADS];
    const int64_t load = n_nodes + first[n_nodes];
    const int n = n_shares(n_threads);
    for (int i = 0; i < n; i++) ends[i] = i == n - 1 ? n_nodes : node_at(first, n_nodes, load * (i + 1) / n);
    do_shares(work, task, ends, n);
}

#endif
