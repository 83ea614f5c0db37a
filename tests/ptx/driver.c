// A stand-in for libcuda.so.1, for tests without a GPU: device memory is host memory, kernels run in a callback (driver.py).
//
// It is as lazy as a driver may be: work waits in its stream until a call has to wait for it, and a stream then runs no further than
// it must, so whatever is not ordered by an event or a synchronisation is seen to be unordered.  Device addresses are numbers in a
// region that the host may not touch (the bytes lie elsewhere): reading one on the host crashes, as it would with a real device.
// Handles are slots of pools and are never used twice, so that a stale one is an error.  One lock guards everything; it is given up
// while a callback runs, because the callback takes Python's GIL.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

typedef int CUresult;
typedef uint64_t u64;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201,
       INVALID_PTX = 218, INVALID_HANDLE = 400, ILLEGAL_STATE = 401, NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700,
       NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, CAPTURE_MERGE = 902, CAPTURE_UNMATCHED = 903,
       CAPTURE_UNJOINED = 904, CAPTURE_ISOLATION = 905, CAPTURE_IMPLICIT = 906, CAPTURED_EVENT = 907, CAPTURE_WRONG_THREAD = 908 };
enum { GLOBAL, THREAD_LOCAL, RELAXED };       // modes of capture
enum { HOST = 1, DEVICE = 2, MANAGED = 3 };   // kinds of memory; the first two as CU_MEMORYTYPE_*
enum kind { LAUNCH, COPY, SET, CALL, RECORD, WAIT, FREE };
enum { GIVEN, CAPTURED, DONE };               // phases of work, for the log

struct block { u64 address; size_t size; char *host; int device, kind, mine, doomed; };
struct context { int device, retained; CUresult error; struct stream *legacy, *thread; };   // error: sticky, as on a device
struct library { int live; char *ptx; };                                                    // ptx: NULL for a cubin
struct function { int live, id, count, shared, limit; struct library *library; struct context *context; char *name; uint32_t *params; };
struct stream { int live, priority, joined; unsigned flags; struct context *context; struct work *head, **tail; u64 last, done, mark;
                struct graph *capture; };     // mark counts what was captured; joined: another stream waits for the last of it
struct event { int live; unsigned flags; struct context *context; struct stream *stream; u64 seq, mark; double time; struct graph *graph; };
struct graph { int live, capturing, invalid, mode, nodes; pthread_t thread; struct stream *origin; struct work *head, **tail; };
struct work { struct work *next; enum kind kind; u64 seq, to, from, until; size_t size, extra; unsigned value, width, dims[6], shared;
              struct function *function; struct stream *other; struct event *event; void (*call)(void *); char data[]; };
struct entry { int phase, kind, device; unsigned dims[6]; const char *name; u64 stream, size; };   // of the log
struct api { const char *name; void *address; long calls; } __attribute__((aligned(32)));   // so that they lie side by side in a section

#define POOL(type, room)                                                                                     \
    static struct type type##_pool[room];                                                                    \
    static int type##_count;                                                                                 \
    static struct type *new_##type(void)                                                                     \
    {                                                                                                        \
        if (type##_count == room) return NULL;                                                               \
        type##_pool[type##_count].live = 1;                                                                  \
        return &type##_pool[type##_count++];                                                                 \
    }                                                                                                        \
    static struct type *live_##type(const void *handle)                                                      \
    {                                                                                                        \
        u64 at = (u64)handle - (u64)type##_pool, i = at / sizeof(struct type);                               \
        return i < (u64)type##_count && at % sizeof(struct type) == 0 && type##_pool[i].live ? &type##_pool[i] : NULL; \
    }
POOL(library, 1 << 16)
POOL(function, 1 << 17)
POOL(stream, 1 << 16)
POOL(event, 1 << 20)
POOL(graph, 1 << 16)
#define EACH(type, it) for (struct type *it = type##_pool; it < type##_pool + type##_count; it++)

// Every function of the driver is written API(name, (parameters), statements): counted, locked, listed in a table, and exported under all
// the names it may be asked for.  Where the versions of a name differ in their parameters it is PLAIN, once for each.
#define PLAIN(name, parameters, ...)                                                                         \
    CUresult name parameters;                                                                                \
    static struct api api_##name __attribute__((used, section("apis"))) = {#name, (void *)name, 0};          \
    CUresult name parameters                                                                                 \
    {                                                                                                        \
        if (forked && strncmp(#name, "cuGetError", 10)) return NOT_INITIALIZED;                              \
        struct api *guard __attribute__((cleanup(leave), unused)) = enter(&api_##name);                      \
        __VA_ARGS__;                                                                                         \
        return OK;                                                                                           \
    }
#define ALIAS(name, suffix, parameters) CUresult name##suffix parameters __attribute__((alias(#name)));
#define API(name, parameters, ...)                                                                           \
    CUresult name parameters;                                                                                \
    ALIAS(name, _v2, parameters) ALIAS(name, _v3, parameters) ALIAS(name, _ptsz, parameters)                 \
    PLAIN(name, parameters, __VA_ARGS__)
#define TRY(call) do { CUresult result_ = (call); if (result_) return result_; } while (0)
#define NEED(condition, error) do { if (!(condition)) return error; } while (0)

extern struct api __start_apis[], __stop_apis[];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static pthread_t runner;
static int running, initialised, forked, device_count, block_count, block_room;
static int *attributes;                       // of every device, by number
static const char **error_names;              // by number
static struct context contexts[16];
static struct block *blocks;                  // by address
static size_t used[16];
static u64 clock_now, next_address;
static const u64 FIRST_ADDRESS = 0x100000000000, ADDRESSES = 1ull << 40;
static const size_t TOTAL = 80ull << 30;
static __thread struct context *stack[64];
static __thread int depth, thread_mode;
static CUresult (*describe)(const char *ptx, const char *name, uint32_t *answer, int room);
static CUresult (*run)(int id, int device, const unsigned *dims, unsigned shared, const char *params);
struct entry stand_in_log[1 << 16];           // the last entries
long stand_in_logged;
int stand_in_fail_allocations, stand_in_skip_kernels;

static void leave(struct api **guard) { (void)guard; pthread_mutex_unlock(&lock); }
static struct api *enter(struct api *me) { pthread_mutex_lock(&lock); me->calls++; return me; }
static void in_child(void) { forked = initialised, running = 0; pthread_mutex_init(&lock, NULL); }   // CUDA does not survive a fork
static struct context *current(void) { return depth ? stack[depth - 1] : NULL; }

// ---- memory

static int place(u64 address)                 // how many blocks begin at or before the address
{
    int low = 0, high = block_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (blocks[middle].address <= address) low = middle + 1; else high = middle;
    }
    return low;
}

static struct block *find(u64 address)
{
    int i = place(address) - 1;
    return i >= 0 && address - blocks[i].address < blocks[i].size ? &blocks[i] : NULL;
}

static int of_device(u64 address) { return address - FIRST_ADDRESS < ADDRESSES; }

static char *bytes(u64 address, size_t size)  // where they lie on the host; NULL if they are not all in one block
{
    struct block *b = find(address);
    if (!b) return of_device(address) ? NULL : (char *)address;
    return size <= b->size - (address - b->address) ? b->host + (address - b->address) : NULL;
}

static CUresult add_block(int kind, char *host, size_t size, u64 *address)
{
    struct context *c = current();
    NEED(c, INVALID_CONTEXT);
    NEED(size && address, INVALID_VALUE);
    TRY(c->error);
    if (stand_in_fail_allocations > 0 && !host) { stand_in_fail_allocations--; return OUT_OF_MEMORY; }
    if (block_count == block_room && !(blocks = realloc(blocks, sizeof *blocks * (block_room += 4096)))) return OUT_OF_MEMORY;
    struct block b = {0, size, host, c->device, kind, !host, 0};
    NEED(kind == HOST || size <= TOTAL - used[c->device], OUT_OF_MEMORY);
    if (!host) {
        NEED((b.host = aligned_alloc(256, (size + 255) / 256 * 256)), OUT_OF_MEMORY);
        memset(b.host, 0xCD, size);
    }
    b.address = kind == DEVICE ? next_address : (u64)b.host;
    if (kind == DEVICE) next_address += (size + 255) / 256 * 256 + 4096 + 256;   // with a guard behind it
    if (kind != HOST) used[c->device] += size;
    int i = place(b.address);
    memmove(blocks + i + 1, blocks + i, sizeof *blocks * (block_count++ - i));
    blocks[i] = b;
    *address = b.address;
    return OK;
}

static void drop_block(struct block *b)
{
    if (b->kind != HOST) used[b->device] -= b->size;
    if (b->mine) free(b->host);
    memmove(b, b + 1, sizeof *b * (blocks + --block_count - b));
}

static struct block *exactly(u64 address, int host)   // the block that begins there, of host memory or not
{
    struct block *b = find(address);
    return b && b->address == address && (b->kind == HOST) == host && !b->doomed ? b : NULL;
}

// ---- running what waits in the streams

static void note(int phase, struct stream *s, struct work *w)
{
    struct entry *e = &stand_in_log[stand_in_logged++ % (1 << 16)];
    *e = (struct entry){phase, w->kind, s->context->device, {0}, NULL, (u64)s, w->size};
    if (s == s->context->legacy || s == s->context->thread) e->stream = s == s->context->legacy ? 0 : 2;
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

static int blocking(struct stream *s) { return s != s->context->legacy && !(s->flags & 1); }

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
static CUresult settle(struct context *c, struct stream *s, u64 until)
{
    if (running && pthread_equal(runner, pthread_self())) return OK;
    while (running) pthread_cond_wait(&idle, &lock);
    running = 1, runner = pthread_self();
    s ? run_stream(s, until) : run_streams(c, 1, until);
    for (int i = block_count; i--;) if (blocks[i].doomed) drop_block(&blocks[i]);
    running = 0;
    pthread_cond_broadcast(&idle);
    return c->error;
}

// ---- giving work to the streams

static CUresult find_stream(void *handle, struct stream **out)
{
    struct context *c = current();
    if ((u64)handle > 2) return (*out = live_stream(handle)) ? OK : INVALID_HANDLE;
    NEED(c, INVALID_CONTEXT);
    *out = (u64)handle == 2 ? c->thread : c->legacy;
    return OK;
}

static CUresult own_stream(void *handle, struct stream **out)   // one of the current context
{
    NEED(current(), INVALID_CONTEXT);
    TRY(find_stream(handle, out));
    return (*out)->context == current() ? OK : INVALID_HANDLE;
}

static CUresult unsafe(void)                  // calls that are not allowed during a capture, and which spoil it
{
    CUresult result = OK;
    EACH(graph, g) {
        int mine = pthread_equal(g->thread, pthread_self());
        if (!g->capturing || thread_mode == RELAXED || !(mine ? g->mode != RELAXED : g->mode == GLOBAL && thread_mode == GLOBAL)) continue;
        g->invalid = 1, result = CAPTURE_UNSUPPORTED;
    }
    return result;
}

static CUresult spoil(struct graph *g, CUresult result) { if (g) g->invalid = 1; return result; }

static CUresult implicit(struct stream *s, int spoils)   // the legacy stream would have to wait for a stream that is being captured
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

static struct work *new_work(enum kind kind, size_t extra)
{
    struct work *w = calloc(1, sizeof *w + extra);
    w->kind = kind, w->extra = extra;
    return w;
}

static CUresult submit(struct stream *s, struct work *w)   // takes the work, whatever it answers
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

static CUresult copy(u64 to, int to_device, u64 from, int from_device, size_t size, void *stream, int wait)
{
    struct stream *s;
    TRY(find_stream(stream, &s));
    if (wait) TRY(unsafe());
    if (!size) return OK;
    struct block *a = find(to), *b = find(from);
    NEED(bytes(to, size) && bytes(from, size) && (a || !to_device) && (b || !from_device), INVALID_VALUE);
    int stage = !b && !wait && !s->capture;   // pageable memory is read at once; a captured copy reads it at each replay
    struct work *w = new_work(COPY, stage ? size : 0);
    w->to = to, w->from = from, w->size = size;
    if (stage) memcpy(w->data, (char *)from, size);
    TRY(submit(s, w));
    return wait || (!a && !s->capture) ? settle(s->context, s, s->last) : OK;   // into pageable memory: the call returns when it is done
}

static CUresult set(u64 to, unsigned value, unsigned width, size_t count, void *stream)
{
    struct stream *s;
    TRY(find_stream(stream, &s));
    NEED(find(to) && bytes(to, width * count) && to % width == 0, INVALID_VALUE);
    struct work *w = new_work(SET, 0);
    w->to = to, w->size = width * count, w->width = width, w->value = value;
    return submit(s, w);
}

static CUresult launch(void *handle, const unsigned *dims, unsigned shared, void *stream, void **params, void **extra)
{
    struct function *f = live_function(handle);
    struct stream *s;
    NEED(current(), INVALID_CONTEXT);
    NEED(f && (!f->context || f->context == current()), INVALID_HANDLE);
    TRY(own_stream(stream, &s));
    NEED(!extra && (params || !f->count) && (int)shared <= f->limit, INVALID_VALUE);
    NEED((u64)dims[3] * dims[4] * dims[5] <= 1024 && dims[5] <= 64, INVALID_VALUE);
    for (int i = 0; i < 6; i++) NEED(dims[i] && (i == 0 || dims[i] <= 65535) && dims[i] <= 0x7fffffff, INVALID_VALUE);
    size_t size = f->count ? f->params[2 * f->count - 2] + f->params[2 * f->count - 1] : 0;
    struct work *w = new_work(LAUNCH, size);
    for (int i = 0; i < f->count; i++) memcpy(w->data + f->params[2 * i], params[i], f->params[2 * i + 1]);
    memcpy(w->dims, dims, sizeof w->dims);
    w->function = f, w->shared = shared;
    return submit(s, w);
}

// ---- for driver.py

void stand_in_start(int devices, int *values, const char **names, void *describe_, void *run_)
{
    device_count = devices, attributes = values, error_names = names, describe = describe_, run = run_, next_address = FIRST_ADDRESS;
    pthread_atfork(NULL, NULL, in_child);
    // NOREPLACE: where something lies there already, the addresses are only not protected
    mmap((void *)FIRST_ADDRESS, ADDRESSES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    for (int i = 0; i < devices; i++) {
        struct context *c = &contexts[i];
        c->device = i, c->legacy = new_stream(), c->thread = new_stream();
        c->legacy->context = c->thread->context = c;
        c->legacy->tail = &c->legacy->head, c->thread->tail = &c->thread->head;
    }
}
int stand_in_apis(struct api **first) { *first = __start_apis; return __stop_apis - __start_apis; }

long stand_in_find(u64 address, u64 *base, char **host, int *device, int *kind)   // the size of the block that holds the address, or -1
{
    pthread_mutex_lock(&lock);
    struct block *b = find(address);
    long size = b ? (long)b->size : -1;
    if (b) *base = b->address, *host = b->host, *device = b->device, *kind = b->kind;
    pthread_mutex_unlock(&lock);
    return size;
}

void stand_in_drain(void)                     // runs all that waits anywhere
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < device_count; i++) settle(&contexts[i], NULL, clock_now);
    pthread_mutex_unlock(&lock);
}

void stand_in_forgive(void)                   // ends captures and errors
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < device_count; i++) contexts[i].error = OK;
    EACH(graph, g) g->capturing = 0;
    EACH(stream, s) s->capture = NULL;
    pthread_mutex_unlock(&lock);
}

// ---- the interface: start, devices, contexts

API(cuInit, (unsigned flags), NEED(device_count, 100); initialised = 1; return flags ? INVALID_VALUE : OK)  // 100: NO_DEVICE
API(cuDriverGetVersion, (int *version), *version = 13050)
API(cuProfilerStart, (void), )
API(cuProfilerStop, (void), )
API(cuGetErrorName, (int code, const char **name), return (*name = (unsigned)code < 1000 ? error_names[code] : NULL) ? OK : INVALID_VALUE)
API(cuGetErrorString, (int code, const char **name), return (*name = (unsigned)code < 1000 ? error_names[code] : NULL) ? OK : INVALID_VALUE)

#define THE_DEVICE(i) NEED(initialised, NOT_INITIALIZED); NEED((unsigned)(i) < (unsigned)device_count, INVALID_DEVICE)
API(cuDeviceGetCount, (int *count), NEED(initialised, NOT_INITIALIZED); *count = device_count)
API(cuDeviceGet, (int *device, int i), THE_DEVICE(i); *device = i)
API(cuDeviceGetName, (char *name, int room, int i), THE_DEVICE(i); snprintf(name, room, "stand-in %d", i))
API(cuDeviceTotalMem, (size_t *size, int i), THE_DEVICE(i); *size = TOTAL)
API(cuDeviceGetUuid, (char *uuid, int i), THE_DEVICE(i); memset(uuid, i + 1, 16))
API(cuDeviceGetPCIBusId, (char *id, int room, int i), THE_DEVICE(i); snprintf(id, room, "0000:%02x:00.0", i + 1))
API(cuDeviceCanAccessPeer, (int *can, int i, int j), THE_DEVICE(i); THE_DEVICE(j); *can = 0)
API(cuDeviceGetAttribute, (int *value, unsigned number, int i),
    THE_DEVICE(i);
    NEED(number < 256, INVALID_VALUE);
    *value = attributes[number])
API(cuDeviceComputeCapability, (int *major, int *minor, int i), THE_DEVICE(i); *major = attributes[75], *minor = attributes[76])

static struct context *the_context(void *handle)
{
    for (int i = 0; i < device_count; i++) if (handle == &contexts[i]) return &contexts[i];
    return NULL;
}

static void reset(struct context *c)          // a context that nobody retains any more is gone, with all that was made in it
{
    settle(c, NULL, clock_now);
    c->retained = 0, c->error = OK;
    EACH(stream, s) if (s->context == c && s != c->legacy && s != c->thread) s->live = 0;
    EACH(event, e) if (e->context == c) e->live = 0;
    EACH(function, f) if (f->context == c) f->live = 0;
    for (int i = block_count; i--;) if (blocks[i].device == c->device && blocks[i].kind != HOST) drop_block(&blocks[i]);
}
API(cuDevicePrimaryCtxRetain, (void **c, int i), THE_DEVICE(i); contexts[i].retained++; *c = &contexts[i])
API(cuDevicePrimaryCtxRelease, (int i),
    THE_DEVICE(i);
    NEED(contexts[i].retained, INVALID_CONTEXT);
    if (!--contexts[i].retained) reset(&contexts[i]))
API(cuDevicePrimaryCtxReset, (int i), THE_DEVICE(i); reset(&contexts[i]))
API(cuDevicePrimaryCtxSetFlags, (int i, unsigned flags), THE_DEVICE(i))
API(cuDevicePrimaryCtxGetState, (int i, unsigned *flags, int *active), THE_DEVICE(i); *flags = 0, *active = contexts[i].retained > 0)

API(cuCtxGetCurrent, (void **c), *c = current())
API(cuCtxSetCurrent, (void *c),
    NEED(!c || (the_context(c) && the_context(c)->retained), INVALID_CONTEXT);
    if (depth) depth--;
    if (c) stack[depth++] = c)
API(cuCtxPushCurrent, (void *c), NEED(the_context(c) && the_context(c)->retained && depth < 64, INVALID_CONTEXT); stack[depth++] = c)
API(cuCtxPopCurrent, (void **c), NEED(depth, INVALID_CONTEXT); depth--; if (c) *c = stack[depth])
API(cuCtxSynchronize, (void), NEED(current(), INVALID_CONTEXT); TRY(unsafe()); return settle(current(), NULL, clock_now))
PLAIN(cuCtxGetDevice, (int *device), NEED(current(), INVALID_CONTEXT); *device = current()->device)
PLAIN(cuCtxGetDevice_v2, (int *device, void *c),
    struct context *of = c ? the_context(c) : current();
    NEED(of, INVALID_CONTEXT);
    *device = of->device)
API(cuCtxGetFlags, (unsigned *flags), *flags = 0)
API(cuCtxGetLimit, (size_t *value, int limit), *value = 0)
API(cuCtxSetLimit, (int limit, size_t value), )
API(cuCtxGetApiVersion, (void *c, unsigned *version), *version = 13050)
API(cuCtxGetStreamPriorityRange, (int *least, int *greatest), *least = 0; *greatest = -5)
API(cuCtxGetId, (void *c, u64 *id), NEED(c || current(), INVALID_CONTEXT); *id = 1 + (c ? (struct context *)c : current())->device)

// ---- the interface: memory

#define ALLOCATE(kind, size, address) TRY(unsafe()); return add_block(kind, NULL, size, address)
API(cuMemAlloc, (u64 *address, size_t size), ALLOCATE(DEVICE, size, address))
API(cuMemAllocManaged, (u64 *address, size_t size, unsigned flags), ALLOCATE(MANAGED, size, address))
API(cuMemAllocHost, (u64 *address, size_t size), ALLOCATE(HOST, size, address))
API(cuMemHostAlloc, (u64 *address, size_t size, unsigned flags), ALLOCATE(HOST, size, address))
API(cuMemHostRegister, (u64 address, size_t size, unsigned flags),
    NEED(!find(address), INVALID_VALUE);
    return add_block(HOST, (char *)address, size, &address))
API(cuMemHostGetDevicePointer, (u64 *address, u64 host, unsigned flags), NEED(find(host), INVALID_VALUE); *address = host)
API(cuMemHostGetFlags, (unsigned *flags, u64 host), NEED(find(host), INVALID_VALUE); *flags = 3)

static CUresult free_now(u64 address, int host)
{
    TRY(unsafe());
    NEED(exactly(address, host), INVALID_VALUE);
    CUresult result = settle(&contexts[exactly(address, host)->device], NULL, clock_now);
    struct block *b = exactly(address, host);
    if (running) b->doomed = 1; else if (b) drop_block(b);
    return result;
}
API(cuMemFree, (u64 address), return address ? free_now(address, 0) : OK)
API(cuMemFreeHost, (u64 address), return free_now(address, 1))
API(cuMemHostUnregister, (u64 address), return free_now(address, 1))
API(cuMemAllocAsync, (u64 *address, size_t size, void *stream),   // there at once, as with the real one only its use is ordered
    struct stream *s;
    TRY(own_stream(stream, &s));
    NEED(!s->capture, spoil(s->capture, CAPTURE_UNSUPPORTED));
    return add_block(DEVICE, NULL, size, address))
API(cuMemFreeAsync, (u64 address, void *stream),
    struct stream *s;
    TRY(find_stream(stream, &s));
    NEED(!s->capture, spoil(s->capture, CAPTURE_UNSUPPORTED));
    NEED(exactly(address, 0), INVALID_VALUE);
    struct work *w = new_work(FREE, 0);
    w->to = address;
    return submit(s, w))
API(cuMemGetInfo, (size_t *unused, size_t *total),
    NEED(current(), INVALID_CONTEXT);
    *unused = TOTAL - used[current()->device], *total = TOTAL)
API(cuMemGetAddressRange, (u64 *base, size_t *size, u64 address),
    struct block *b = find(address);
    NEED(b, NOT_FOUND);
    if (base) *base = b->address;
    if (size) *size = b->size)

static CUresult attribute(void *out, unsigned number, u64 address)   // of memory that is not the device's: zeros and an error
{
    static const char widths[] = {0, 8, 4, 8, 8, 0, 0, 8, 4, 4, 0, 8, 8, 1};
    struct block none = {0, 0, NULL, -2, 0, 0, 0}, *found = find(address), *b = found ? found : &none;   // -2: CU_DEVICE_INVALID
    u64 context = found ? (u64)&contexts[b->device] : 0, type = b->kind == HOST ? HOST : found ? DEVICE : 0;
    u64 host = b->kind == DEVICE ? 0 : address;
    u64 values[] = {0, context, type, address, host, 0, 0, b->address, b->kind == MANAGED, b->device, 0, b->address, b->size, 1};
    NEED(number < sizeof widths && widths[number], NOT_SUPPORTED);
    memcpy(out, &values[number], widths[number]);
    return found && (number != 4 || host) ? OK : INVALID_VALUE;
}
API(cuPointerGetAttribute, (void *out, unsigned number, u64 address), return attribute(out, number, address))
API(cuPointerGetAttributes, (unsigned count, unsigned *numbers, void **out, u64 address),
    for (unsigned i = 0; i < count; i++) NEED(attribute(out[i], numbers[i], address) != NOT_SUPPORTED, NOT_SUPPORTED))

API(cuMemcpy, (u64 to, u64 from, size_t size), return copy(to, 0, from, 0, size, NULL, 1))
API(cuMemcpyHtoD, (u64 to, u64 from, size_t size), return copy(to, 1, from, 0, size, NULL, 1))
API(cuMemcpyDtoH, (u64 to, u64 from, size_t size), return copy(to, 0, from, 1, size, NULL, 1))
API(cuMemcpyDtoD, (u64 to, u64 from, size_t size), TRY(unsafe()); return copy(to, 1, from, 1, size, NULL, 0))   // does not wait
API(cuMemcpyAsync, (u64 to, u64 from, size_t size, void *stream), return copy(to, 0, from, 0, size, stream, 0))
API(cuMemcpyHtoDAsync, (u64 to, u64 from, size_t size, void *stream), return copy(to, 1, from, 0, size, stream, 0))
API(cuMemcpyDtoHAsync, (u64 to, u64 from, size_t size, void *stream), return copy(to, 0, from, 1, size, stream, 0))
API(cuMemcpyDtoDAsync, (u64 to, u64 from, size_t size, void *stream), return copy(to, 1, from, 1, size, stream, 0))
API(cuMemsetD8, (u64 to, unsigned char value, size_t count), TRY(unsafe()); return set(to, value, 1, count, NULL))   // nor do these
API(cuMemsetD16, (u64 to, unsigned short value, size_t count), TRY(unsafe()); return set(to, value, 2, count, NULL))
API(cuMemsetD32, (u64 to, unsigned value, size_t count), TRY(unsafe()); return set(to, value, 4, count, NULL))
API(cuMemsetD8Async, (u64 to, unsigned char value, size_t count, void *stream), return set(to, value, 1, count, stream))
API(cuMemsetD16Async, (u64 to, unsigned short value, size_t count, void *stream), return set(to, value, 2, count, stream))
API(cuMemsetD32Async, (u64 to, unsigned value, size_t count, void *stream), return set(to, value, 4, count, stream))

// ---- the interface: streams and events

static CUresult make_stream(void **out, unsigned flags, int priority)
{
    struct context *c = current();
    NEED(c, INVALID_CONTEXT);
    TRY(c->error);
    struct stream *s = new_stream();
    NEED(s, OUT_OF_MEMORY);
    s->context = c, s->flags = flags, s->priority = priority, s->tail = &s->head;
    *out = s;
    return OK;
}
API(cuStreamCreate, (void **s, unsigned flags), return make_stream(s, flags, 0))
API(cuStreamCreateWithPriority, (void **s, unsigned flags, int priority), return make_stream(s, flags, priority))
API(cuStreamDestroy, (void *handle),          // what was given to it is still done
    struct stream *s = live_stream(handle);
    NEED(s, INVALID_HANDLE);
    NEED(!s->capture, spoil(s->capture, CAPTURE_UNSUPPORTED));
    s->live = 0)
#define STREAM(handle) struct stream *s; TRY(find_stream(handle, &s))
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
API(cuStreamGetId, (void *handle, u64 *id), STREAM(handle); *id = 1 + (s - stream_pool))

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

// ---- the interface: code and launches

static CUresult load(void **out, const char *image)
{
    TRY(unsafe());
    NEED(image, INVALID_VALUE);
    int text = !strncmp(image, "//", 2) || !strncmp(image, ".version", 8);
    NEED(text || !memcmp(image, "\177ELF", 4) || !memcmp(image, "\x50\xed\x55\xba", 4), INVALID_IMAGE);
    const char *target = text ? strstr(image, ".target sm_") : NULL;
    NEED(!target || atoi(target + 11) <= 10 * attributes[75] + attributes[76], INVALID_PTX);
    struct library *l = new_library();
    NEED(l, OUT_OF_MEMORY);
    l->ptx = text ? strdup(image) : NULL;
    *out = l;
    return OK;
}

static CUresult unload(void *handle)
{
    struct library *l = live_library(handle);
    NEED(l, INVALID_HANDLE);
    EACH(function, f) if (f->library == l) f->live = 0;
    free(l->ptx);
    l->live = 0, l->ptx = NULL;
    return OK;
}

static CUresult get(void **out, void *handle, const char *name, struct context *c)   // c: NULL for a kernel, which serves all contexts
{
    struct library *l = live_library(handle);
    uint32_t answer[2048];                    // id, static shared memory, number of parameters, their offsets and sizes
    NEED(l, INVALID_HANDLE);
    EACH(function, f) if (f->live && f->library == l && f->context == c && !strcmp(f->name, name)) { *out = f; return OK; }
    char *ptx = l->ptx ? strdup(l->ptx) : NULL;
    pthread_mutex_unlock(&lock);
    CUresult result = describe(ptx, name, answer, 2048);
    pthread_mutex_lock(&lock);
    free(ptx);
    TRY(result);
    struct function *f = new_function();
    NEED(f, OUT_OF_MEMORY);
    size_t size = answer[2] * 2 * sizeof *answer;
    f->id = answer[0], f->shared = answer[1], f->limit = 49152 - f->shared, f->count = answer[2], f->library = l, f->context = c;
    f->name = strdup(name), f->params = malloc(size);
    memcpy(f->params, answer + 3, size);
    *out = f;
    return OK;
}
API(cuModuleLoadData, (void **out, const char *image), NEED(current(), INVALID_CONTEXT); return load(out, image))
API(cuModuleLoadDataEx, (void **out, const char *image, unsigned count, void *options, void *values),
    NEED(current(), INVALID_CONTEXT);
    return load(out, image))
API(cuLibraryLoadData, (void **out, const char *image, void *jit, void *jit_values, unsigned jits, void *options, void *values, unsigned n),
    return load(out, image))
API(cuModuleUnload, (void *module), return unload(module))
API(cuLibraryUnload, (void *library), return unload(library))
API(cuModuleGetFunction, (void **out, void *module, const char *name),
    NEED(current(), INVALID_CONTEXT);
    return get(out, module, name, current()))
API(cuLibraryGetKernel, (void **out, void *library, const char *name), return get(out, library, name, NULL))
API(cuLibraryGetModule, (void **out, void *library), NEED(live_library(library), INVALID_HANDLE); *out = library)
API(cuModuleGetGlobal, (u64 *address, size_t *size, void *module, const char *name), return NOT_FOUND)
API(cuLibraryGetGlobal, (u64 *address, size_t *size, void *library, const char *name), return NOT_FOUND)

#define FUNCTION(handle) struct function *f = live_function(handle); NEED(f, INVALID_HANDLE)
API(cuKernelGetFunction, (void **out, void *handle),
    FUNCTION(handle);
    NEED(current(), INVALID_CONTEXT);
    return get(out, f->library, f->name, current()))
API(cuKernelGetLibrary, (void **out, void *handle), FUNCTION(handle); *out = f->library)
API(cuFuncGetModule, (void **out, void *handle), FUNCTION(handle); *out = f->library)
API(cuKernelGetName, (const char **name, void *handle), FUNCTION(handle); *name = f->name)
API(cuFuncGetName, (const char **name, void *handle), FUNCTION(handle); *name = f->name)
API(cuFuncLoad, (void *handle), FUNCTION(handle))
API(cuFuncSetCacheConfig, (void *handle, int config), FUNCTION(handle))
API(cuKernelSetCacheConfig, (void *handle, int config, int device), FUNCTION(handle))

enum { REGISTERS = 32 };                      // of a thread: unknown here, what the kernels of this project need

static CUresult get_attribute(int *value, int number, void *handle)
{
    FUNCTION(handle);
    int arch = 10 * attributes[75] + attributes[76], values[] = {1024, f->shared, 0, 0, REGISTERS, arch, arch, 0, f->limit, -1};
    NEED(number >= 0 && number < 16, INVALID_VALUE);
    *value = number < 10 ? values[number] : 0;
    return OK;
}

static CUresult set_attribute(void *handle, int number, int value)
{
    FUNCTION(handle);
    NEED(number >= 8 && number < 16 && (number != 8 || (value >= 0 && value <= attributes[97] - f->shared)), INVALID_VALUE);
    if (number == 8) f->limit = value;
    return OK;
}

static CUresult parameter(void *handle, size_t i, size_t *offset, size_t *size)
{
    FUNCTION(handle);
    NEED(i < (size_t)f->count, INVALID_VALUE);
    *offset = f->params[2 * i];
    if (size) *size = f->params[2 * i + 1];
    return OK;
}

static CUresult occupancy(int *blocks_, void *handle, int threads, size_t shared)
{
    FUNCTION(handle);
    NEED(threads > 0 && shared <= (size_t)f->limit, INVALID_VALUE);
    int warps = (threads + 31) / 32, by_shared = attributes[81] / (1024 + f->shared + (int)shared), most = attributes[39] / 32 / warps;
    if (most > 65536 / (REGISTERS * 32 * warps)) most = 65536 / (REGISTERS * 32 * warps);
    if (most > attributes[106]) most = attributes[106];
    *blocks_ = threads > 1024 ? 0 : most < by_shared ? most : by_shared;
    return OK;
}
API(cuFuncGetAttribute, (int *value, int number, void *f), return get_attribute(value, number, f))
API(cuKernelGetAttribute, (int *value, int number, void *f, int device), return get_attribute(value, number, f))
API(cuFuncSetAttribute, (void *f, int number, int value), return set_attribute(f, number, value))
API(cuKernelSetAttribute, (int number, int value, void *f, int device), return set_attribute(f, number, value))
API(cuFuncGetParamInfo, (void *f, size_t i, size_t *offset, size_t *size), return parameter(f, i, offset, size))
API(cuKernelGetParamInfo, (void *f, size_t i, size_t *offset, size_t *size), return parameter(f, i, offset, size))
API(cuOccupancyMaxActiveBlocksPerMultiprocessor, (int *n, void *f, int threads, size_t shared), return occupancy(n, f, threads, shared))
API(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, (int *n, void *f, int threads, size_t shared, unsigned flags),
    return occupancy(n, f, threads, shared))
API(cuOccupancyMaxPotentialBlockSize, (int *grid, int *threads, void *f, void *by_size, size_t shared, int limit),
    TRY(occupancy(grid, f, *threads = limit && limit < 1024 ? limit : 1024, shared));
    *grid *= attributes[16])
API(cuLaunchKernel, (void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *stream,
        void **params, void **extra),
    return launch(f, (unsigned[]){gx, gy, gz, bx, by, bz}, shared, stream, params, extra))
API(cuLaunchCooperativeKernel, (void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
        void *stream, void **params),
    return launch(f, (unsigned[]){gx, gy, gz, bx, by, bz}, shared, stream, params, NULL))
struct config { unsigned dims[6], shared; void *stream; struct { int id; char value[68]; } *attributes; unsigned count; };
API(cuLaunchKernelEx, (const struct config *c, void *f, void **params, void **extra),
    for (unsigned i = 0; i < c->count; i++) NEED(c->attributes[i].id == 0 || c->attributes[i].id == 2, NOT_SUPPORTED);   // 2: cooperative
    return launch(f, c->dims, c->shared, c->stream, params, extra))

// ---- the interface: captured graphs

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

// ---- the interface: where everything is

static CUresult address_of(const char *name, void **out, int version, int *status_)
{
    char base[96];
    if (!strcmp(name, "cuGetProcAddress") && version >= 12000) name = "cuGetProcAddress_v2";   // names whose parameters have changed
    if (!strcmp(name, "cuCtxGetDevice") && version >= 13000) name = "cuCtxGetDevice_v2";
    if (!strcmp(name, "cuStreamGetCaptureInfo")) name = version >= 12030 ? "cuStreamGetCaptureInfo_v3" : "cuStreamGetCaptureInfo_v2";
    snprintf(base, sizeof base, "%s", name);
    for (;;) {
        for (struct api *a = __start_apis; a < __stop_apis; a++)
            if (!strcmp(a->name, base)) {
                *out = a->address;
                if (status_) *status_ = 0;
                return OK;
            }
        char *suffix = strrchr(base, '_');
        if (!suffix) break;
        *suffix = 0;
    }
    *out = NULL;
    if (status_) *status_ = 1;
    return status_ ? OK : NOT_FOUND;
}
PLAIN(cuGetProcAddress, (const char *name, void **out, int version, u64 flags), return address_of(name, out, version, NULL))
PLAIN(cuGetProcAddress_v2, (const char *name, void **out, int version, u64 flags, int *state), return address_of(name, out, version, state))
