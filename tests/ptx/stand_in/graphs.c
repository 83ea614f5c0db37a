// Captures and graphs.
#include "stand_in.h"

SLOTS(graph)
static __thread int thread_mode;              // of capture, see cuThreadExchangeStreamCaptureMode

static CUresult forbidden(int by_others)      // by_others: during captures of other threads only
{
    CUresult result = OK;
    EACH(graph, g) {
        int mine = pthread_equal(g->thread, pthread_self());
        if ((mine && by_others) || !g->capturing || thread_mode == RELAXED || !(mine ? g->mode != RELAXED : g->mode == GLOBAL && thread_mode == GLOBAL)) continue;
        g->invalid = 1, result = CAPTURE_UNSUPPORTED;
    }
    return result;
}

CUresult unsafe(void) { return forbidden(0); }   // calls that are not allowed during a capture, and which spoil it
CUresult unsafe_beside(void) { return forbidden(1); }

CUresult spoil(struct graph *g, CUresult result) { if (g) g->invalid = 1; return result; }

CUresult implicit(struct stream *s, int spoils)   // the legacy stream would have to wait for a stream that is being captured
{
    CUresult result = OK;
    if (s != s->context->legacy) return OK;
    EACH(stream, other)
        if (other->context == s->context && other->capture && blocking(other)) {
            result = CAPTURE_IMPLICIT;
            if (spoils) other->capture->invalid = 1;
        }
    return result;
}

// ---- the interface: captures and graphs

API(cuThreadExchangeStreamCaptureMode, (int *mode), int old = thread_mode; thread_mode = *mode, *mode = old)
API(cuStreamBeginCapture, (void *stream, int mode),
    STREAM(stream);
    NEED(s != s->context->legacy, CAPTURE_UNSUPPORTED);
    NEED(!s->capture, ILLEGAL_STATE);
    NEED(mode >= GLOBAL && mode <= RELAXED, INVALID_VALUE);
    struct graph *g = new_graph();
    NEED(g, OUT_OF_MEMORY);
    g->capturing = 1, g->mode = mode, g->thread = pthread_self(), g->origin = s, g->tail = &g->head;
    s->capture = g)
API(cuStreamEndCapture, (void *stream, void **out),
    STREAM(stream);
    struct graph *g = s->capture;
    int unjoined = 0;
    *out = NULL;
    NEED(g, ILLEGAL_STATE);
    NEED(g->mode == RELAXED || pthread_equal(g->thread, pthread_self()), spoil(g, CAPTURE_WRONG_THREAD));
    NEED(g->origin == s, spoil(g, CAPTURE_UNMATCHED));
    EACH(stream, other)
        if (other->capture == g) other->capture = NULL, unjoined |= other != s && !other->joined;
    g->capturing = 0;
    NEED(!g->invalid, CAPTURE_INVALIDATED);
    NEED(!unjoined, CAPTURE_UNJOINED);
    *out = g)

static int status(struct stream *s) { return !s->capture ? 0 : s->capture->invalid ? 2 : 1; }

static CUresult info(void *stream, int *state, u64 *id, void **graph, void **nodes, void **edges, size_t *count)
{
    STREAM(stream);
    TRY(implicit(s, 0));
    *state = status(s);
    if (*state != 1) return OK;
    if (id) *id = 1 + (s->capture - graph_pool);
    if (graph) *graph = s->capture;
    if (nodes) *nodes = NULL;
    if (edges) *edges = NULL;
    if (count) *count = 0;
    return OK;
}
API(cuStreamIsCapturing, (void *stream, int *state), STREAM(stream); TRY(implicit(s, 0)); *state = status(s))
PLAIN(cuStreamGetCaptureInfo_v2, (void *stream, int *state, u64 *id, void **graph, void **nodes, size_t *count),
    return info(stream, state, id, graph, nodes, NULL, count))
PLAIN(cuStreamGetCaptureInfo_v3, (void *stream, int *state, u64 *id, void **graph, void **nodes, void **edges, size_t *count),
    return info(stream, state, id, graph, nodes, edges, count))

static struct work *duplicate(struct work *w)
{
    struct work *twin = new_work(w->kind, w->extra);
    memcpy(twin, w, sizeof *w + w->extra);
    twin->next = NULL;
    return twin;
}

static CUresult instantiate(void **out, void *handle)   // a copy: the graph may be destroyed
{
    struct graph *g = live_graph(handle), *x = new_graph();
    NEED(g && !g->capturing, INVALID_VALUE);
    x->tail = &x->head;
    for (struct work *w = g->head; w; w = w->next) *x->tail = duplicate(w), x->tail = &(*x->tail)->next;
    *out = x;
    return OK;
}

static CUresult discard(void *handle)
{
    struct graph *g = live_graph(handle);
    NEED(g && !g->capturing, INVALID_VALUE);
    for (struct work *w = g->head, *next; w; w = next) next = w->next, free(w);
    g->head = NULL, g->live = 0;
    return OK;
}
API(cuGraphInstantiate, (void **out, void *graph, u64 flags), return instantiate(out, graph))
API(cuGraphInstantiateWithFlags, (void **out, void *graph, u64 flags), return instantiate(out, graph))
API(cuGraphInstantiateWithParams, (void **out, void *graph, void *params),
    memset((char *)params + 24, 0, 4);        // .result_out = CUDA_GRAPH_INSTANTIATE_SUCCESS
    return instantiate(out, graph))
API(cuGraphGetNodes, (void *graph, void **nodes, size_t *count),
    struct graph *g = live_graph(graph);
    NEED(g && !nodes, INVALID_VALUE);
    *count = g->nodes)
API(cuGraphUpload, (void *exec, void *stream), return live_graph(exec) ? OK : INVALID_VALUE)
API(cuGraphLaunch, (void *exec, void *stream),
    STREAM(stream);
    struct graph *g = live_graph(exec);
    NEED(g, INVALID_VALUE);
    for (struct work *w = g->head; w; w = w->next) TRY(submit(s, duplicate(w))))
// what cuda-core hangs on graphs to keep it alive; here it stays alive for ever
API(cuUserObjectCreate, (void **out, void *object, void *destroy, unsigned count, unsigned flags), *out = object)
API(cuUserObjectRelease, (void *object, unsigned count), )
API(cuGraphRetainUserObject, (void *graph, void *object, unsigned count, unsigned flags), )
API(cuGraphReleaseUserObject, (void *graph, void *object, unsigned count), )
API(cuGraphExecDestroy, (void *exec), return discard(exec))
API(cuGraphDestroy, (void *graph), return discard(graph))
