// Libraries, functions, launches.
#include "stand_in.h"

SLOTS(library)
SLOTS(function)
CUresult (*describe)(const char *ptx, const char *name, uint32_t *answer, int room);

// ---- libraries and functions

static CUresult load(void **out, const char *image)
{
    TRY(unsafe());
    NEED(image, INVALID_VALUE);
    int text = !strncmp(image, "//", 2) || !strncmp(image, ".version", 8);
    NEED(text || !memcmp(image, "\177ELF", 4) || !memcmp(image, "\x50\xed\x55\xba", 4), INVALID_IMAGE);
    const char *target = text ? strstr(image, ".target sm_") : NULL;
    const char *made = text ? strstr(image, ".version ") : NULL;
    int major = 0, minor = 0;
    if (made) sscanf(made, ".version %d.%d", &major, &minor);
    NEED(1000 * (major + 4) + 10 * minor <= stand_in_version, UNSUPPORTED_PTX_VERSION);   // PTX 9.2 came with CUDA 13.2, PTX 8.5 with 12.5
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

static CUresult occupancy(int *blocks, void *handle, int threads, size_t shared)
{
    FUNCTION(handle);
    NEED(threads > 0 && shared <= (size_t)f->limit, INVALID_VALUE);
    int warps = (threads + 31) / 32, by_shared = attributes[81] / (1024 + f->shared + (int)shared), most = attributes[39] / 32 / warps;
    if (most > 65536 / (REGISTERS * 32 * warps)) most = 65536 / (REGISTERS * 32 * warps);
    if (most > attributes[106]) most = attributes[106];
    *blocks = threads > 1024 ? 0 : most < by_shared ? most : by_shared;
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

// ---- launches

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
