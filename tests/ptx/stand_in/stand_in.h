// A stand-in for libcuda.so.1, for tests without a GPU: device memory is host memory, kernels run in a callback (driver.py).
//
// It is as lazy as a driver may be: work waits in its stream until a call has to wait for it, and a stream then runs no further than
// it must, so whatever is not ordered by an event or a synchronisation is seen to be unordered.  Device addresses are numbers in a
// region that the host may not touch (the bytes lie elsewhere): reading one on the host crashes, as it would with a real device.
// Handles are slots of pools and are never used twice, so that a stale one is an error (but streams, where a test asks for it).  One lock guards everything; it is given up
// while a callback runs, because the callback takes Python's GIL.
//
// This is what its files share:
//     devices.c   start, errors, devices, contexts, and where every function is
//     memory.c    blocks of memory, copies, memsets
//     queue.c     streams, events, the work in them and its order
//     code.c      libraries, functions, launches
//     graphs.c    captures and graphs
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
       INVALID_PTX = 218, UNSUPPORTED_PTX_VERSION = 222, INVALID_HANDLE = 400, ILLEGAL_STATE = 401, NOT_FOUND = 500, NOT_READY = 600,
       ILLEGAL_ADDRESS = 700, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, CAPTURE_MERGE = 902, CAPTURE_UNMATCHED = 903,
       CAPTURE_UNJOINED = 904, CAPTURE_ISOLATION = 905, CAPTURE_IMPLICIT = 906, CAPTURED_EVENT = 907, CAPTURE_WRONG_THREAD = 908 };
enum { GLOBAL, THREAD_LOCAL, RELAXED };       // modes of capture
enum { HOST = 1, DEVICE = 2, MANAGED = 3 };   // kinds of memory; the first two as CU_MEMORYTYPE_*
enum kind { LAUNCH, COPY, SET, CALL, RECORD, WAIT, FREE };
enum { GIVEN, CAPTURED, DONE };               // phases of work, for the log

struct block { u64 address; size_t size; char *host; int device, kind, mine, doomed; };
struct context { int device, retained; CUresult error; struct stream *legacy; };            // error: sticky, as on a device
struct library { int live; char *ptx; };                                                    // ptx: NULL for a cubin
struct function { int live, id, count, shared, limit; struct library *library; struct context *context; char *name; uint32_t *params; };
struct stream { int live, priority, joined, per_thread; unsigned flags; u64 id; struct context *context; struct work *head, **tail; u64 last, done, mark;
                struct graph *capture; };     // mark counts what was captured; joined: another stream waits for the last of it
struct event { int live; unsigned flags; struct context *context; struct stream *stream; u64 seq, mark; double time; struct graph *graph; };
struct graph { int live, capturing, invalid, mode, nodes; pthread_t thread; struct stream *origin; struct work *head, **tail; };
struct work { struct work *next; enum kind kind; u64 seq, to, from, until; size_t size, extra; unsigned value, width, dims[6], shared;
              struct function *function; struct stream *other; struct event *event; void (*call)(void *); char data[]; };
struct entry { int phase, kind, device; unsigned dims[6]; const char *name; u64 stream, size; };   // of the log
struct api { const char *name; void *address; long calls; } __attribute__((aligned(32)));   // so that they lie side by side in a section

// Things that have handles: POOL declares the slots of a type for all files, SLOTS defines them in the one that the type belongs to.
#define POOL(type, room)                                                                                     \
    enum { type##_room = room };                                                                             \
    extern struct type type##_pool[type##_room];                                                             \
    extern int type##_count;                                                                                 \
    struct type *new_##type(void);                                                                           \
    struct type *live_##type(const void *handle);
#define SLOTS(type)                                                                                          \
    struct type type##_pool[type##_room];                                                                    \
    int type##_count;                                                                                        \
    struct type *new_##type(void)                                                                            \
    {                                                                                                        \
        if (type##_count == type##_room) return NULL;                                                        \
        type##_pool[type##_count].live = 1;                                                                  \
        return &type##_pool[type##_count++];                                                                 \
    }                                                                                                        \
    struct type *live_##type(const void *handle)                                                             \
    {                                                                                                        \
        u64 at = (u64)handle - (u64)type##_pool, i = at / sizeof(struct type);                               \
        return i < (u64)type##_count && at % sizeof(struct type) == 0 && type##_pool[i].live ? &type##_pool[i] : NULL; \
    }
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
#define STREAM(handle) struct stream *s; TRY(find_stream(handle, &s))

extern struct api __start_apis[], __stop_apis[];   // the ends of that table

extern int stand_in_version;                  // of CUDA
#pragma GCC visibility push(hidden)           // what follows is known to these files only

POOL(library, 1 << 16)
POOL(function, 1 << 17)
POOL(stream, 1 << 16)
POOL(event, 1 << 20)
POOL(graph, 1 << 16)

// devices.c
extern pthread_mutex_t lock;
extern int forked;                            // this process is a child of the one that was started
extern int *attributes;                       // of every device, by number
extern struct context contexts[16];
struct api *enter(struct api *me);
void leave(struct api **guard);
struct context *current(void);

// memory.c
#define TOTAL ((size_t)80 << 30)              // bytes of a device
void reserve_addresses(void);
struct block *find(u64 address);
struct block *exactly(u64 address, int host);
char *bytes(u64 address, size_t size);
void drop_block(struct block *b);
void drop_doomed(void);
void drop_memory(int device);

// queue.c
extern u64 clock_now;
extern int running;                           // some thread runs work
extern CUresult (*run)(int id, int device, const unsigned *dims, unsigned shared, const char *params);
CUresult find_stream(void *handle, struct stream **out);
CUresult own_stream(void *handle, struct stream **out);
int blocking(struct stream *s);
struct work *new_work(enum kind kind, size_t extra);
CUresult submit(struct stream *s, struct work *w);
CUresult settle(struct context *c, struct stream *s, u64 until);

// code.c
extern CUresult (*describe)(const char *ptx, const char *name, uint32_t *answer, int room);

// graphs.c
CUresult unsafe(void);
CUresult unsafe_beside(void);
CUresult spoil(struct graph *g, CUresult result);
CUresult implicit(struct stream *s, int spoils);

#pragma GCC visibility pop
