/* The edges of a graph, and work on its nodes by several threads. */

#ifndef EDGES_H
#define EDGES_H

#include <pthread.h>
#include <stdint.h>

#define ROW(array, index, n) ((array) + (index) * (int64_t)(n))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

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

#define MAX_THREADS 256
typedef void (*Work)(const void *, int64_t begin, int64_t end);

typedef struct {
    Work work;
    const void *task;
    int64_t begin, end;
} Share;

static inline void *do_share(void *argument) {
    const Share *share = argument;
    share->work(share->task, share->begin, share->end);
    return 0;
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

/* Nodes in shares of about as many edges, which begin at `first`; this thread takes the first share, and whichever
   finds no thread. */
static inline void share_out(Work work, const void *task, const int64_t *first, int64_t n_nodes, int n_threads) {
    pthread_t threads[MAX_THREADS];
    Share shares[MAX_THREADS];
    int started[MAX_THREADS];
    const int64_t load = n_nodes + first[n_nodes];
    const int n = n_threads < 1 ? 1 : MIN(n_threads, MAX_THREADS);
    for (int i = 0; i < n; i++) {
        const int64_t begin = node_at(first, n_nodes, load * i / n);
        const int64_t end = i == n - 1 ? n_nodes : node_at(first, n_nodes, load * (i + 1) / n);
        shares[i] = (Share){work, task, begin, end};
        started[i] = i > 0 && begin < end && !pthread_create(&threads[i], 0, do_share, &shares[i]);
    }
    for (int i = 0; i < n; i++)
        if (!started[i]) do_share(&shares[i]);
    for (int i = 0; i < n; i++)
        if (started[i]) pthread_join(threads[i], 0);
}

#endif
