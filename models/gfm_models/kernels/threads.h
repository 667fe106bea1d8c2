/* Work on many nodes by several threads. */

#ifndef THREADS_H
#define THREADS_H

#include <pthread.h>
#include <stdint.h>

#define ROW(array, index, n) ((array) + (index) * (int64_t)(n))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

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

/* Share i of n ends at ends[i]; this thread takes the first, and whichever finds no thread. */
static inline void do_shares(Work work, const void *task, const int64_t *ends, int n) {
    pthread_t threads[MAX_THREADS];
    Share shares[MAX_THREADS];
    int started[MAX_THREADS];
    for (int i = 0; i < n; i++) {
        const int64_t begin = i == 0 ? 0 : ends[i - 1];
        shares[i] = (Share){work, task, begin, ends[i]};
        started[i] = i > 0 && begin < ends[i] && !pthread_create(&threads[i], 0, do_share, &shares[i]);
    }
    for (int i = 0; i < n; i++)
        if (!started[i]) do_share(&shares[i]);
    for (int i = 0; i < n; i++)
        if (started[i]) pthread_join(threads[i], 0);
}

static inline int n_shares(int n_threads) { return n_threads < 1 ? 1 : MIN(n_threads, MAX_THREADS); }

/* Nodes that are all the same work. */
static inline void share_equally(Work work, const void *task, int64_t n_nodes, int n_threads) {
    int64_t ends[MAX_THREADS];
    const int n = n_shares(n_threads);
    for (int i = 0; i < n; i++) ends[i] = n_nodes * (i + 1) / n;
    do_shares(work, task, ends, n);
}

#endif
