// Streams, events, the work in them and its order.
#include "stand_in.h"

SLOTS(stream)
SLOTS(event)
u64 clock_now;
int running;
CUresult (*run)(int id, int device, const unsigned *dims, unsigned shared, const char *params);
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static pthread_t runner;                      // the thread that runs work, if `running`
struct entry stand_in_log[1 << 16];           // the last entries
long stand_in_logged;
int stand_in_skip_kernels;
int stand_in_reuse_streams;                   // the next stream gets the handle of the one that was destroyed last
static struct stream *destroyed;
static u64 last_id;

// ---- running what waits in the streams

static void note(int phase, struct stream *s, struct work *w)
{
    struct entry *e = &stand_in_log[stand_in_logged++ % (1 << 16)];
    *e = (struct entry){phase, w->kind, s->context->device, {0}, NULL, (u64)s, w->size};
    if (s == s->context->legacy || s->per_thread) e->stream = s->per_thread ? 2 : 0;
    if (w->function) e->name = w->function->name;
    memcpy(e->dims, w->dims, sizeof e->dims);
}

static CUresult execute(struct stream *s, struct work *w)
{
    char *to, *from;
    struct timespec now;
    note(DONE, s, w);
    switch (w->kind) {
    case LAUNCH:
        if (stand_in_skip_kernels) return OK;
        pthread_mutex_unlock(&lock);
        CUresult result = run(w->function->id, s->context->device, w->dims, w->shared, w->data);
        pthread_mutex_lock(&lock);
        return result;
    case COPY:
        from = w->extra ? w->data : bytes(w->from, w->size);
        to = bytes(w->to, w->size);
        NEED(to && from, ILLEGAL_ADDRESS);
        memmove(to, from, w->size);
        return OK;
    case SET:
        NEED((to = bytes(w->to, w->size)), ILLEGAL_ADDRESS);
        for (size_t i = 0; i < w->size; i += w->width) memcpy(to + i, &w->value, w->width);
        return OK;
    case CALL:
        pthread_mutex_unlock(&lock);
        w->call((void *)w->from);
        pthread_mutex_lock(&lock);
        return OK;
    case RECORD:
        clock_gettime(CLOCK_MONOTONIC, &now);
        w->event->time = now.tv_sec * 1e3 + now.tv_nsec * 1e-6;
        return OK;
    case FREE:
        if (exactly(w->to, 0)) drop_block(exactly(w->to, 0));
        return OK;
    default:
        return OK;
    }
}

static void run_streams(struct context *c, int all, u64 until);

int blocking(struct stream *s) { return s != s->context->legacy && !(s->flags & 1); }

static void run_stream(struct stream *s, u64 until)   // all of it that was given before `until`, and what that waits for
{
    struct work *w;
    while ((w = s->head) && w->seq <= until) {
        if (s == s->context->legacy) run_streams(s->context, 0, w->seq);
        else if (blocking(s)) run_stream(s->context->legacy, w->seq);
        if (w->kind == WAIT) run_stream(w->other, w->until);
        if (!(s->head = w->next)) s->tail = &s->head;
        if (!s->context->error) s->context->error = execute(s, w);   // after a fault nothing runs
        s->done = w->seq;
        free(w);
    }
}

static void run_streams(struct context *c, int all, u64 until)   // the latest first: so a forgotten wait shows most often
{
    for (;;) {
        struct stream *latest = NULL;
        EACH(stream, s) {
            int mine = s->context == c && (all || blocking(s)) && s->head && s->head->seq <= until;
            if (mine && (!latest || s->head->seq > latest->head->seq)) latest = s;
        }
        if (!latest) return;
        run_stream(latest, until);
    }
}

// Waits until a stream (or with NULL all of the context) has done what it was given up to now.  Only one thread runs work at a time.
// A call from inside of a kernel or callback (Python may collect garbage there) does not wait.
CUresult settle(struct context *c, struct stream *s, u64 until)
{
    if (running && pthread_equal(runner, pthread_self())) return OK;
    while (running) pthread_cond_wait(&idle, &lock);
    running = 1, runner = pthread_self();
    s ? run_stream(s, until) : run_streams(c, 1, until);
    drop_doomed();
    running = 0;
    pthread_cond_broadcast(&idle);
    return c->error;
}

// ---- giving work to the streams

static struct stream *own_default(struct context *c)   // this thread's own default stream there: the handle 2, another stream in every thread
{
    static __thread struct stream *mine[16];
    struct stream *s = mine[c->device] ? mine[c->device] : new_stream();
    if (!mine[c->device]) s->context = c, s->per_thread = 1, s->tail = &s->head, s->id = ++last_id, mine[c->device] = s;
    return s;
}

CUresult find_stream(void *handle, struct stream **out)
{
    struct context *c = current();
    if ((u64)handle > 2) return (*out = live_stream(handle)) ? OK : INVALID_HANDLE;
    NEED(c, INVALID_CONTEXT);
    *out = (u64)handle == 2 ? own_default(c) : c->legacy;
    return OK;
}

CUresult own_stream(void *handle, struct stream **out)   // one of the current context
{
    NEED(current(), INVALID_CONTEXT);
    TRY(find_stream(handle, out));
    return (*out)->context == current() ? OK : INVALID_HANDLE;
}

struct work *new_work(enum kind kind, size_t extra)
{
    struct work *w = calloc(1, sizeof *w + extra);
    w->kind = kind, w->extra = extra;
    return w;
}

CUresult submit(struct stream *s, struct work *w)   // takes the work, whatever it answers
{
    CUresult result = s->capture && s->capture->invalid ? CAPTURE_INVALIDATED : s->context->error ? s->context->error : implicit(s, 1);
    if (result) { free(w); return result; }
    note(s->capture ? CAPTURED : GIVEN, s, w);
    if (s->capture) {
        s->capture->nodes++, s->mark++, s->joined = 0;
        *s->capture->tail = w, s->capture->tail = &w->next;
        return OK;
    }
    s->last = w->seq = ++clock_now;
    if (w->kind == RECORD) w->event->stream = s, w->event->seq = w->seq, w->event->graph = NULL;
    *s->tail = w, s->tail = &w->next;
    return OK;
}

// ---- the interface: streams and events

static struct stream *replaced(struct stream *room)   // the destroyed stream moves out of its slot with what it has still to do
{
    struct stream *s = destroyed;
    *room = *s, room->live = 0, destroyed = NULL;
    if (!room->head) room->tail = &room->head;
    EACH(event, e) if (e->stream == s) e->stream = room;
    EACH(stream, other) for (struct work *w = other->head; w; w = w->next) if (w->other == s) w->other = room;
    return s;
}

static CUresult make_stream(void **out, unsigned flags, int priority)
{
    struct context *c = current();
    NEED(c, INVALID_CONTEXT);
    TRY(c->error);
    struct stream *s = new_stream();
    NEED(s, OUT_OF_MEMORY);
    if (stand_in_reuse_streams && destroyed) s = replaced(s);
    *s = (struct stream){.live = 1, .context = c, .flags = flags, .priority = priority, .tail = &s->head, .id = ++last_id};
    *out = s;
    return OK;
}
API(cuStreamCreate, (void **s, unsigned flags), return make_stream(s, flags, 0))
API(cuStreamCreateWithPriority, (void **s, unsigned flags, int priority), return make_stream(s, flags, priority))
API(cuStreamDestroy, (void *handle),          // what was given to it is still done
    struct stream *s = live_stream(handle);
    NEED(s, INVALID_HANDLE);
    NEED(!s->capture, spoil(s->capture, CAPTURE_UNSUPPORTED));
    s->live = 0, destroyed = s)
#define BUSY(s) do { if ((s)->capture) return spoil((s)->capture, CAPTURE_UNSUPPORTED); TRY(unsafe()); TRY(implicit(s, 1)); } while (0)
API(cuStreamSynchronize, (void *handle), STREAM(handle); BUSY(s); return settle(s->context, s, s->last))
API(cuStreamQuery, (void *handle),
    STREAM(handle);
    BUSY(s);
    TRY(s->context->error);
    if (s->done >= s->last) return OK;
    settle(s->context, s, s->head ? s->head->seq : 0);   // one step on, so that a loop which asks again and again comes to an end
    return NOT_READY)
API(cuStreamGetCtx, (void *handle, void **c), STREAM(handle); *c = s->context)
API(cuStreamGetDevice, (void *handle, int *device), STREAM(handle); *device = s->context->device)
API(cuStreamGetFlags, (void *handle, unsigned *flags), STREAM(handle); *flags = s->flags)
API(cuStreamGetPriority, (void *handle, int *priority), STREAM(handle); *priority = s->priority)
API(cuStreamGetId, (void *handle, u64 *id), STREAM(handle); *id = s->id)

static CUresult call_later(void *stream, void *call, void *data)
{
    STREAM(stream);
    struct work *w = new_work(CALL, 0);
    w->call = (void (*)(void *))call, w->from = (u64)data;
    return submit(s, w);
}
struct callback { void (*call)(void *, CUresult, void *); void *stream, *data; };
static void call_back(void *data) { struct callback b = *(struct callback *)data; free(data); b.call(b.stream, OK, b.data); }
API(cuLaunchHostFunc, (void *stream, void *call, void *data), return call_later(stream, call, data))
API(cuStreamAddCallback, (void *stream, void (*call)(void *, CUresult, void *), void *data, unsigned flags),
    STREAM(stream);
    NEED(!s->capture, spoil(s->capture, CAPTURE_UNSUPPORTED));
    struct callback *b = malloc(sizeof *b);
    *b = (struct callback){call, stream, data};
    return call_later(stream, call_back, b))

API(cuEventCreate, (void **out, unsigned flags),
    NEED(current(), INVALID_CONTEXT);
    TRY(unsafe_beside());                     // as strict as a driver may be
    struct event *e = new_event();
    NEED(e, OUT_OF_MEMORY);
    e->context = current(), e->flags = flags;
    *out = e)
#define EVENT(handle) struct event *e = live_event(handle); NEED(e, INVALID_HANDLE)
#define READY(e) (!(e)->stream || (e)->stream->done >= (e)->seq)
API(cuEventDestroy, (void *handle), EVENT(handle); e->live = 0)

static CUresult record(void *handle, void *stream, int external)
{
    EVENT(handle);
    STREAM(stream);
    NEED(e->context == s->context, INVALID_HANDLE);
    if (s->capture && !external) {
        NEED(!s->capture->invalid, CAPTURE_INVALIDATED);
        e->graph = s->capture, e->stream = s, e->mark = s->mark;
        return OK;
    }
    struct work *w = new_work(RECORD, 0);
    w->event = e;
    return submit(s, w);
}
API(cuEventRecord, (void *e, void *stream), return record(e, stream, 0))
API(cuEventRecordWithFlags, (void *e, void *stream, unsigned flags), return record(e, stream, flags & 1))
API(cuStreamWaitEvent, (void *stream, void *handle, unsigned flags),
    EVENT(handle);
    STREAM(stream);
    if (e->graph && !e->graph->capturing) return spoil(s->capture, CAPTURED_EVENT);
    if (e->graph) {                           // forks a stream into the capture, or joins one
        NEED(s != s->context->legacy, spoil(e->graph, CAPTURE_IMPLICIT));
        NEED(!s->capture || s->capture == e->graph, (spoil(s->capture, 0), spoil(e->graph, CAPTURE_MERGE)));
        NEED(!e->graph->invalid, CAPTURE_INVALIDATED);
        s->capture = e->graph, s->mark++, s->joined = 0;
        if (e->stream != s && e->mark == e->stream->mark) e->stream->joined = 1;
        return OK;
    }
    if (!e->stream) return OK;                // never recorded: nothing to wait for
    NEED(!s->capture, spoil(s->capture, CAPTURE_ISOLATION));
    struct work *w = new_work(WAIT, 0);
    w->other = e->stream, w->until = e->seq;
    return submit(s, w))
#define WAITABLE(e) do { if ((e)->graph) return spoil((e)->graph->capturing ? (e)->graph : NULL, CAPTURED_EVENT); TRY(unsafe()); } while (0)
API(cuEventSynchronize, (void *handle), EVENT(handle); WAITABLE(e); return e->stream ? settle(e->stream->context, e->stream, e->seq) : OK)
API(cuEventQuery, (void *handle),
    EVENT(handle);
    WAITABLE(e);
    TRY(e->context->error);
    if (READY(e)) return OK;
    settle(e->context, e->stream, e->stream->head ? e->stream->head->seq : 0);
    return NOT_READY)
API(cuEventElapsedTime, (float *ms, void *first, void *second),
    struct event *a = live_event(first), *b = live_event(second);
    NEED(a && b && a->stream && b->stream && !((a->flags | b->flags) & 2), INVALID_HANDLE);
    NEED(!a->graph && !b->graph, CAPTURED_EVENT);
    NEED(READY(a) && READY(b), NOT_READY);
    *ms = b->time - a->time)
