/* A CUDA driver in software, for tests: the functions that the line calls, with the driver's own names and error codes.
 *
 * It has one device with one context, the primary one. Each stream is a thread, and whatever lies in it runs a little
 * later, so that who does not wait reads too early. An address of the device is no address of the host: touching it ends
 * the process. Whatever was freed or destroyed keeps its handle, which is never given again and is refused from then on.
 *
 * What it leaves out, and refuses: the default stream, events inside of a capture, contexts beside the primary one, and
 * kernels; in their place stand host functions (cuLaunchHostFunc), which find the device's memory by software_memory.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define API __attribute__((visibility("default")))
#define DEVICE_BYTES ((size_t)8 << 30)

typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct context *CUcontext;
typedef struct stream *CUstream;
typedef struct event *CUevent;
typedef struct graph *CUgraph;
typedef struct graph *CUgraphExec;
typedef void (*CUhostFn)(void *);

typedef enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_INVALID_HANDLE = 400,
    CUDA_ERROR_ILLEGAL_STATE = 401,
    CUDA_ERROR_NOT_FOUND = 500,
    CUDA_ERROR_NOT_READY = 600,
    CUDA_ERROR_ILLEGAL_ADDRESS = 700,
    CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
    CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED = 712,
    CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED = 713,
    CUDA_ERROR_NOT_SUPPORTED = 801,
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
    CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD = 908,
} CUresult;

/* What a handle may stand for. */
enum kind { DEVICE_MEMORY, PINNED_MEMORY, REGISTERED_MEMORY, STREAM, EVENT, GRAPH, GRAPH_EXEC };

/* The beginning of everything that was made; the list holds what still lives. */
struct made {
    enum kind kind;
    struct made *next;
};

struct memory {
    struct made made;
    uint64_t first; /* an address of the device for DEVICE_MEMORY, else of the host */
    size_t size_bytes;
    unsigned char *bytes; /* where the bytes are */
};

struct event {
    struct made made;
    bool timed;
    uint64_t recorded; /* how often cuEventRecord was called */
    uint64_t reached;  /* which of these the device has reached */
    double reached_ms;
};

enum what { COPY_UP, COPY_DOWN, RECORD, AWAIT, CALL };

struct operation {
    struct operation *next;
    enum what what;
    CUdeviceptr device;
    unsigned char *host;
    size_t size_bytes;
    CUevent event;
    uint64_t number; /* of the event's records: the one to reach or to wait for */
    CUhostFn call;
    void *given;
};

struct queue {
    struct operation *first, *last;
};

struct graph {
    struct made made;
    struct queue noted;
    pthread_t thread; /* that began the capture */
    bool invalidated;
};

struct stream {
    struct made made;
    struct queue queue;
    CUgraph captured; /* NULL while nothing is captured */
    bool closing;
};

/* Contexts (device.c). */

/* Take the lock for a call that needs the context; whoever is refused does not hold it. */
CUresult enter(void);
/* The same for a call that a thread may not make while it captures: it spoils the capture. */
CUresult enter_outside_capture(void);
/* Give the lock back, and the code as it was. */
CUresult leave(CUresult code);
/* Every call is refused with this from now on, until the context is gone. */
void break_context(CUresult code);
CUresult what_broke(void);

#define ENTER(how)                      \
    do {                                \
        CUresult refused = how();       \
        if (refused) return refused;    \
    } while (0)

/* The lock, and what lives (objects.c); all but the first need the lock. */

void take_lock(void);
void give_lock(void);
void wait_for_progress(void);
void tell_progress(void);
void *make(enum kind kind, size_t size_bytes);
bool lives(enum kind kind, const void *handle);
void *next_of(enum kind kind, const void *last); /* the first one if `last` is NULL */
void forget(void *handle);

/* Memory (memory.c). */

struct memory *find_memory(enum kind kind, uint64_t first, size_t size_bytes); /* that holds all of it, or NULL */
bool is_locked(const void *host, size_t size_bytes);
CUresult copy_now(const struct operation *copy);
void free_all_memory(void);

/* Streams (streams.c). */

CUresult put(CUstream stream, struct operation operation); /* into the stream, or into what it captures */
void put_at_end(struct queue *queue, struct operation operation);
void wait_until_idle(void);
void close_all_streams(void);

/* Captures (graphs.c). */

bool spoil_captures_of_this_thread(void); /* whether there were any */
