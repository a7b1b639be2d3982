/* Memory of the device and page-locked memory of the host. */
#define _GNU_SOURCE
#include "driver.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ADDRESSES ((size_t)64 << 30)
#define POISON 0xDB /* lies in new memory: who reads before anything was written sees it */
enum { ALIGNMENT = 512, PAGE = 4096, HOST_ALLOC_FLAGS = 7, REGISTER_FLAGS = 7, MEMORY_TYPE = 2, TYPE_HOST = 1, TYPE_DEVICE = 2 };

static size_t round_up(size_t size, size_t to) { return (size + to - 1) / to * to; }

struct memory *find_memory(enum kind kind, uint64_t first, size_t size_bytes) {
    for (struct memory *each = NULL; (each = next_of(kind, each));)
        if (each->first <= first && first + size_bytes <= each->first + each->size_bytes) return each;
    return NULL;
}

bool is_locked(const void *host, size_t size_bytes) {
    uint64_t first = (uintptr_t)host;
    return find_memory(PINNED_MEMORY, first, size_bytes) || find_memory(REGISTERED_MEMORY, first, size_bytes);
}

static bool touches_locked(uint64_t first, size_t size_bytes) {
    for (enum kind kind = PINNED_MEMORY; kind <= REGISTERED_MEMORY; kind++)
        for (struct memory *each = NULL; (each = next_of(kind, each));)
            if (first < each->first + each->size_bytes && each->first < first + size_bytes) return true;
    return false;
}

static struct memory *note(enum kind kind, uint64_t first, size_t size_bytes, void *bytes) {
    struct memory *memory = make(kind, sizeof *memory);
    memory->first = first;
    memory->size_bytes = size_bytes;
    memory->bytes = bytes;
    return memory;
}

static void *map(size_t size_bytes) {
    void *bytes = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return bytes == MAP_FAILED ? NULL : bytes;
}

/* Addresses of the device are pages that nobody may touch, and none is given twice. */
static CUdeviceptr next_address(size_t size_bytes) {
    static uint64_t next, end;
    if (!next) {
        void *pages = mmap(NULL, ADDRESSES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (pages == MAP_FAILED) return 0;
        next = (uintptr_t)pages;
        end = next + ADDRESSES;
    }
    uint64_t address = next, after = address + round_up(size_bytes, ALIGNMENT) + ALIGNMENT;
    if (after > end) return 0;
    next = after;
    return address;
}

API CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size_bytes) {
    ENTER(enter_outside_capture);
    if (!size_bytes) return leave(CUDA_ERROR_INVALID_VALUE);
    size_t taken = size_bytes;
    for (struct memory *each = NULL; (each = next_of(DEVICE_MEMORY, each));) taken += each->size_bytes;
    if (taken > DEVICE_BYTES) return leave(CUDA_ERROR_OUT_OF_MEMORY);
    void *bytes = map(size_bytes);
    *address = next_address(size_bytes);
    if (!bytes || !*address) return leave(CUDA_ERROR_OUT_OF_MEMORY);
    memset(bytes, POISON, size_bytes);
    note(DEVICE_MEMORY, *address, size_bytes, bytes);
    return leave(CUDA_SUCCESS);
}

API CUresult cuMemFree_v2(CUdeviceptr address) {
    ENTER(enter_outside_capture);
    struct memory *memory = find_memory(DEVICE_MEMORY, address, 1);
    if (!memory || memory->first != address) return leave(CUDA_ERROR_INVALID_VALUE);
    wait_until_idle();
    munmap(memory->bytes, memory->size_bytes);
    forget(memory);
    return leave(what_broke());
}

API CUresult cuMemHostAlloc(void **host, size_t size_bytes, unsigned flags) {
    ENTER(enter_outside_capture);
    if (!size_bytes || flags > HOST_ALLOC_FLAGS) return leave(CUDA_ERROR_INVALID_VALUE);
    *host = map(round_up(size_bytes, PAGE));
    if (!*host) return leave(CUDA_ERROR_OUT_OF_MEMORY);
    memset(*host, POISON, size_bytes);
    note(PINNED_MEMORY, (uintptr_t)*host, size_bytes, *host);
    return leave(CUDA_SUCCESS);
}

/* Its pages stay, and nobody may touch them: reading what was freed ends the process here, not now and then. */
static void take_pages_away(struct memory *memory) {
    mprotect(memory->bytes, round_up(memory->size_bytes, PAGE), PROT_NONE);
    madvise(memory->bytes, round_up(memory->size_bytes, PAGE), MADV_DONTNEED);
}

API CUresult cuMemFreeHost(void *host) {
    ENTER(enter_outside_capture);
    struct memory *memory = find_memory(PINNED_MEMORY, (uintptr_t)host, 1);
    if (!memory || memory->bytes != host) return leave(CUDA_ERROR_INVALID_VALUE);
    wait_until_idle();
    take_pages_away(memory);
    forget(memory);
    return leave(what_broke());
}

API CUresult cuMemHostRegister_v2(void *host, size_t size_bytes, unsigned flags) {
    ENTER(enter_outside_capture);
    if (!host || !size_bytes || flags & ~15u) return leave(CUDA_ERROR_INVALID_VALUE);
    if (flags > REGISTER_FLAGS) return leave(CUDA_ERROR_NOT_SUPPORTED); /* read-only: see the device's attributes */
    if (touches_locked((uintptr_t)host, size_bytes)) return leave(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    note(REGISTERED_MEMORY, (uintptr_t)host, size_bytes, host);
    return leave(CUDA_SUCCESS);
}

/* It waits for nothing: a copy that is under way then finds its memory unlocked, and the context breaks. */
API CUresult cuMemHostUnregister(void *host) {
    ENTER(enter_outside_capture);
    struct memory *memory = find_memory(REGISTERED_MEMORY, (uintptr_t)host, 1);
    if (!memory || memory->bytes != host) return leave(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    forget(memory);
    return leave(CUDA_SUCCESS);
}

API CUresult cuPointerGetAttribute(void *value, int attribute, CUdeviceptr pointer) {
    ENTER(enter);
    if (attribute != MEMORY_TYPE) return leave(CUDA_ERROR_NOT_SUPPORTED);
    bool on_device = find_memory(DEVICE_MEMORY, pointer, 1);
    if (!on_device && !is_locked((void *)(uintptr_t)pointer, 1)) return leave(CUDA_ERROR_INVALID_VALUE);
    *(unsigned *)value = on_device ? TYPE_DEVICE : TYPE_HOST;
    return leave(CUDA_SUCCESS);
}

/* Where the bytes of the device's memory are, for a host function that stands for a kernel; NULL where there is none. */
API void *software_memory(CUdeviceptr address, size_t size_bytes) {
    take_lock();
    struct memory *memory = find_memory(DEVICE_MEMORY, address, size_bytes);
    void *bytes = memory ? memory->bytes + (address - memory->first) : NULL;
    give_lock();
    return bytes;
}

CUresult copy_now(const struct operation *copy) {
    struct memory *memory = find_memory(DEVICE_MEMORY, copy->device, copy->size_bytes);
    if (!memory || !is_locked(copy->host, copy->size_bytes)) return CUDA_ERROR_ILLEGAL_ADDRESS;
    unsigned char *there = memory->bytes + (copy->device - memory->first);
    if (copy->what == COPY_UP)
        memcpy(there, copy->host, copy->size_bytes);
    else
        memcpy(copy->host, there, copy->size_bytes);
    return CUDA_SUCCESS;
}

/* A real driver copies pageable memory too, slowly and while the host waits; the line must never ask for that. */
static CUresult put_copy(enum what what, CUdeviceptr device, void *host, size_t size_bytes, CUstream stream) {
    ENTER(enter);
    if (!find_memory(DEVICE_MEMORY, device, size_bytes) || !is_locked(host, size_bytes))
        return leave(CUDA_ERROR_INVALID_VALUE);
    return leave(put(stream, (struct operation){.what = what, .device = device, .host = host, .size_bytes = size_bytes}));
}

API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr target, const void *source, size_t size_bytes, CUstream stream) {
    return put_copy(COPY_UP, target, (void *)(uintptr_t)source, size_bytes, stream);
}

API CUresult cuMemcpyDtoHAsync_v2(void *target, CUdeviceptr source, size_t size_bytes, CUstream stream) {
    return put_copy(COPY_DOWN, source, target, size_bytes, stream);
}

void free_all_memory(void) {
    for (struct memory *each; (each = next_of(DEVICE_MEMORY, NULL)); forget(each)) munmap(each->bytes, each->size_bytes);
    for (struct memory *each; (each = next_of(PINNED_MEMORY, NULL)); forget(each)) take_pages_away(each);
    for (struct memory *each; (each = next_of(REGISTERED_MEMORY, NULL));) forget(each);
}
