// Start, errors, devices, contexts, and where every function is.
#include "stand_in.h"

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
int forked;
int *attributes;
struct context contexts[16];
static const char **error_names;              // by number
static int initialised, device_count;
static __thread struct context *stack[64];
static __thread int depth;

void leave(struct api **guard) { (void)guard; pthread_mutex_unlock(&lock); }
struct api *enter(struct api *me) { pthread_mutex_lock(&lock); me->calls++; return me; }
static void in_child(void) { forked = initialised, running = 0; pthread_mutex_init(&lock, NULL); }   // CUDA does not survive a fork
struct context *current(void) { return depth ? stack[depth - 1] : NULL; }

// ---- for driver.py

void stand_in_start(int devices, int *values, const char **names, void *describe_, void *run_)
{
    device_count = devices, attributes = values, error_names = names, describe = describe_, run = run_;
    pthread_atfork(NULL, NULL, in_child);
    reserve_addresses();
    for (int i = 0; i < devices; i++) {
        struct context *c = &contexts[i];
        c->device = i, c->legacy = new_stream(), c->legacy->context = c, c->legacy->tail = &c->legacy->head;
    }
}
int stand_in_apis(struct api **first) { *first = __start_apis; return __stop_apis - __start_apis; }

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
int stand_in_version = 13050;                 // of CUDA
API(cuDriverGetVersion, (int *version), *version = stand_in_version)
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
    EACH(stream, s) if (s->context == c && s != c->legacy && !s->per_thread) s->live = 0;
    EACH(event, e) if (e->context == c) e->live = 0;
    EACH(function, f) if (f->context == c) f->live = 0;
    drop_memory(c->device);
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

// ---- the interface: where everything is

static CUresult address_of(const char *name, void **out, int version, int *status)
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
                if (status) *status = 0;
                return OK;
            }
        char *suffix = strrchr(base, '_');
        if (!suffix) break;
        *suffix = 0;
    }
    *out = NULL;
    if (status) *status = 1;
    return status ? OK : NOT_FOUND;
}
PLAIN(cuGetExportTable, (const void **table, const void *id), *table = NULL; return NOT_FOUND)   // NVRTC asks before it first compiles
PLAIN(cuGetProcAddress, (const char *name, void **out, int version, u64 flags), return address_of(name, out, version, NULL))
PLAIN(cuGetProcAddress_v2, (const char *name, void **out, int version, u64 flags, int *state), return address_of(name, out, version, state))
