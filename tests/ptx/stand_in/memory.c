// Blocks of memory, copies, memsets.
#include "stand_in.h"

static const u64 FIRST_ADDRESS = 0x100000000000, ADDRESSES = 1ull << 40;
static struct block *blocks;                  // by address
static int block_count, block_room;
static size_t used[16];                       // bytes, by device
static u64 next_address;
int stand_in_fail_allocations;

// ---- blocks

void reserve_addresses(void)                  // from now on they are not the host's
{
    next_address = FIRST_ADDRESS;
    // NOREPLACE: where something lies there already, the addresses are only not protected
    mmap((void *)FIRST_ADDRESS, ADDRESSES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
}

static int place(u64 address)                 // how many blocks begin at or before the address
{
    int low = 0, high = block_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (blocks[middle].address <= address) low = middle + 1; else high = middle;
    }
    return low;
}

struct block *find(u64 address)
{
    int i = place(address) - 1;
    return i >= 0 && address - blocks[i].address < blocks[i].size ? &blocks[i] : NULL;
}

static int of_device(u64 address) { return address - FIRST_ADDRESS < ADDRESSES; }

char *bytes(u64 address, size_t size)         // where they lie on the host; NULL if they are not all in one block
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

void drop_block(struct block *b)
{
    if (b->kind != HOST) used[b->device] -= b->size;
    if (b->mine) free(b->host);
    memmove(b, b + 1, sizeof *b * (blocks + --block_count - b));
}

struct block *exactly(u64 address, int host)  // the block that begins there, of host memory or not
{
    struct block *b = find(address);
    return b && b->address == address && (b->kind == HOST) == host && !b->doomed ? b : NULL;
}

void drop_doomed(void)                        // what was freed while work ran
{
    for (int i = block_count; i--;) if (blocks[i].doomed) drop_block(&blocks[i]);
}

void drop_memory(int device)                  // of a device; pinned memory is the host's
{
    for (int i = block_count; i--;) if (blocks[i].device == device && blocks[i].kind != HOST) drop_block(&blocks[i]);
}

// ---- copies and memsets

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

// ---- for driver.py

long stand_in_find(u64 address, u64 *base, char **host, int *device, int *kind)   // the size of the block that holds the address, or -1
{
    pthread_mutex_lock(&lock);
    struct block *b = find(address);
    long size = b ? (long)b->size : -1;
    if (b) *base = b->address, *host = b->host, *device = b->device, *kind = b->kind;
    pthread_mutex_unlock(&lock);
    return size;
}

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
