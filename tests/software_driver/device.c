/* The device, its primary context, errors, and the table of functions. */
#define _GNU_SOURCE
#include "driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define CUDA_VERSION 13000
#define CAPABILITY_MAJOR 8
#define CAPABILITY_MINOR 9
enum { MAJOR = 75, MINOR = 76, READ_ONLY_REGISTER = 113, DEPTH = 1024 };

static struct context {
    bool initialised;
    unsigned retained;
    CUresult broken;
} primary;
static _Thread_local CUcontext stack[DEPTH];
static _Thread_local int depth;

void break_context(CUresult code) { primary.broken = code; }

CUresult what_broke(void) { return primary.broken; }

CUresult leave(CUresult code) {
    give_lock();
    return code;
}

static CUresult enter_without_context(void) {
    take_lock();
    return primary.initialised ? CUDA_SUCCESS : leave(CUDA_ERROR_NOT_INITIALIZED);
}

CUresult enter(void) {
    ENTER(enter_without_context);
    if (!depth || !stack[depth - 1]) return leave(CUDA_ERROR_INVALID_CONTEXT);
    if (!primary.retained) return leave(CUDA_ERROR_CONTEXT_IS_DESTROYED);
    return primary.broken ? leave(primary.broken) : CUDA_SUCCESS;
}

CUresult enter_outside_capture(void) {
    ENTER(enter);
    return spoil_captures_of_this_thread() ? leave(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED) : CUDA_SUCCESS;
}

API CUresult cuInit(unsigned flags) {
    take_lock();
    if (flags) return leave(CUDA_ERROR_INVALID_VALUE);
    primary.initialised = true;
    return leave(CUDA_SUCCESS);
}

API CUresult cuDriverGetVersion(int *version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

API CUresult cuDeviceGetCount(int *count) {
    ENTER(enter_without_context);
    *count = 1;
    return leave(CUDA_SUCCESS);
}

API CUresult cuDeviceGet(CUdevice *device, int number) {
    ENTER(enter_without_context);
    *device = 0;
    return leave(number ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS);
}

API CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
    ENTER(enter_without_context);
    snprintf(name, (size_t)size, DEVICE_NAME);
    return leave(device ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS);
}

API CUresult cuDeviceTotalMem_v2(size_t *size_bytes, CUdevice device) {
    ENTER(enter_without_context);
    *size_bytes = DEVICE_BYTES;
    return leave(device ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS);
}

API CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
    ENTER(enter_without_context);
    if (device) return leave(CUDA_ERROR_INVALID_DEVICE);
    switch (attribute) {
        case MAJOR: *value = CAPABILITY_MAJOR; break;
        case MINOR: *value = CAPABILITY_MINOR; break;
        case READ_ONLY_REGISTER: *value = 0; break;
        default: return leave(CUDA_ERROR_INVALID_VALUE);
    }
    return leave(CUDA_SUCCESS);
}

API CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
    ENTER(enter_without_context);
    *major = CAPABILITY_MAJOR;
    *minor = CAPABILITY_MINOR;
    return leave(device ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS);
}

API CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
    ENTER(enter);
    *free_bytes = *total_bytes = DEVICE_BYTES;
    for (struct memory *each = NULL; (each = next_of(DEVICE_MEMORY, each));) *free_bytes -= each->size_bytes;
    return leave(CUDA_SUCCESS);
}

API CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    ENTER(enter_without_context);
    if (device) return leave(CUDA_ERROR_INVALID_DEVICE);
    primary.retained++;
    *context = &primary;
    return leave(CUDA_SUCCESS);
}

API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    ENTER(enter_without_context);
    if (device) return leave(CUDA_ERROR_INVALID_DEVICE);
    if (!primary.retained) return leave(CUDA_ERROR_INVALID_CONTEXT);
    if (--primary.retained == 0) {
        close_all_streams();
        free_all_memory();
        for (enum kind kind = STREAM; kind <= GRAPH_EXEC; kind++)
            for (void *each; (each = next_of(kind, NULL));) forget(each);
        primary.broken = CUDA_SUCCESS;
    }
    return leave(CUDA_SUCCESS);
}

API CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    ENTER(enter_without_context);
    *flags = 0;
    *active = primary.retained > 0;
    return leave(device ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS);
}

API CUresult cuCtxPushCurrent_v2(CUcontext context) {
    ENTER(enter_without_context);
    if (context != &primary || !primary.retained || depth == DEPTH) return leave(CUDA_ERROR_INVALID_CONTEXT);
    stack[depth++] = context;
    return leave(CUDA_SUCCESS);
}

API CUresult cuCtxPopCurrent_v2(CUcontext *context) {
    ENTER(enter_without_context);
    if (!depth) return leave(CUDA_ERROR_INVALID_CONTEXT);
    *context = stack[--depth];
    return leave(CUDA_SUCCESS);
}

/* It takes the place of the top of the stack; NULL takes the top away. */
API CUresult cuCtxSetCurrent(CUcontext context) {
    ENTER(enter_without_context);
    if (context && (context != &primary || !primary.retained)) return leave(CUDA_ERROR_INVALID_CONTEXT);
    if (depth) depth--;
    if (context) stack[depth++] = context;
    return leave(CUDA_SUCCESS);
}

API CUresult cuCtxGetCurrent(CUcontext *context) {
    ENTER(enter_without_context);
    *context = depth ? stack[depth - 1] : NULL;
    return leave(CUDA_SUCCESS);
}

API CUresult cuCtxGetDevice(CUdevice *device) {
    ENTER(enter);
    *device = 0;
    return leave(CUDA_SUCCESS);
}

API CUresult cuCtxSynchronize(void) {
    ENTER(enter_outside_capture);
    wait_until_idle();
    return leave(what_broke());
}

static const struct {
    CUresult code;
    const char *name, *text;
} errors[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE", "not allowed in the current state"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "symbol not found"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "illegal memory access"},
    {CUDA_ERROR_CONTEXT_IS_DESTROYED, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
     "part of the memory is locked already"},
    {CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", "memory is not registered"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted while a stream is captured"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "capture was spoilt"},
    {CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
     "capture was begun by another thread"},
};

static CUresult look_up(CUresult code, const char **name, const char **text) {
    for (size_t index = 0; index < sizeof errors / sizeof *errors; index++) {
        if (errors[index].code != code) continue;
        if (name) *name = errors[index].name;
        if (text) *text = errors[index].text;
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_VALUE;
}

API CUresult cuGetErrorName(CUresult code, const char **name) { return look_up(code, name, NULL); }

API CUresult cuGetErrorString(CUresult code, const char **text) { return look_up(code, NULL, text); }

/* A function has one version here, the newest that is called; a name is asked for without it. */
API CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *found) {
    static const char *const suffixes[] = {"_v2", ""};
    char full[128];
    (void)version, (void)flags;
    *function = NULL;
    for (size_t index = 0; !*function && index < 2; index++) {
        Dl_info here;
        snprintf(full, sizeof full, "%s%s", name, suffixes[index]);
        if (dladdr((void *)(uintptr_t)cuInit, &here)) {
            void *self = dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD);
            *function = self ? dlsym(self, full) : NULL;
            if (self) dlclose(self);
        }
    }
    if (found) *found = *function ? 0 : 1;
    return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
