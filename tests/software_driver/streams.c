/* Streams, each a thread, and events. */
#define _GNU_SOURCE
#include "driver.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { LATE_US = 300, NON_BLOCKING = 1, DISABLE_TIMING = 2, EVENT_FLAGS = 7 };

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

void put_at_end(struct queue *queue, struct operation operation) {
    struct operation *own = malloc(sizeof *own);
    if (!own) abort();
    *own = operation;
    own->next = NULL;
    *(queue->first ? &queue->last->next : &queue->first) = own;
    queue->last = own;
}

CUresult put(CUstream stream, struct operation operation) {
    if (!lives(STREAM, stream)) return CUDA_ERROR_INVALID_HANDLE;
    if (!stream->captured) {
        put_at_end(&stream->queue, operation);
        tell_progress();
        return CUDA_SUCCESS;
    }
    if (operation.what == RECORD || operation.what == AWAIT) {
        stream->captured->invalidated = true;
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    put_at_end(&stream->captured->noted, operation);
    return CUDA_SUCCESS;
}

/* The lock is free while the device is late, and while a function of the host runs. */
static void run_late(const struct operation *operation) {
    bool broken = what_broke();
    give_lock();
    usleep(LATE_US);
    if (operation->what == CALL && !broken) operation->call(operation->given);
    take_lock();
    if (operation->what == CALL || what_broke()) return;
    CUresult code = copy_now(operation);
    if (code) break_context(code);
}

static void run(const struct operation *operation) {
    CUevent event = operation->event;
    switch (operation->what) {
        case AWAIT:
            while (event->reached < operation->number) wait_for_progress();
            return;
        case RECORD:
            event->reached = operation->number;
            event->reached_ms = now_ms();
            return;
        default:
            run_late(operation);
    }
}

/* What runs stays the first of the queue until it is done. */
static void *work(void *given) {
    CUstream stream = given;
    take_lock();
    for (;;) {
        struct operation *first = stream->queue.first;
        if (first) {
            run(first);
            stream->queue.first = first->next;
            free(first);
            tell_progress();
        } else if (stream->closing) {
            break;
        } else {
            wait_for_progress();
        }
    }
    give_lock();
    return NULL;
}

static void empty(CUstream stream) {
    while (stream->queue.first) wait_for_progress();
}

void wait_until_idle(void) {
    for (CUstream each = NULL; (each = next_of(STREAM, each));) empty(each);
}

static void close_stream(CUstream stream) {
    stream->closing = true;
    forget(stream);
    tell_progress();
}

void close_all_streams(void) {
    wait_until_idle();
    for (CUstream each; (each = next_of(STREAM, NULL));) close_stream(each);
}

API CUresult cuStreamCreate(CUstream *made, unsigned flags) {
    ENTER(enter);
    if (flags > NON_BLOCKING) return leave(CUDA_ERROR_INVALID_VALUE);
    CUstream stream = make(STREAM, sizeof *stream);
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, stream)) {
        forget(stream);
        return leave(CUDA_ERROR_OUT_OF_MEMORY);
    }
    pthread_detach(thread);
    *made = stream;
    return leave(CUDA_SUCCESS);
}

/* What lies in it still runs. */
API CUresult cuStreamDestroy_v2(CUstream stream) {
    ENTER(enter);
    if (!lives(STREAM, stream)) return leave(CUDA_ERROR_INVALID_HANDLE);
    close_stream(stream);
    return leave(CUDA_SUCCESS);
}

API CUresult cuStreamSynchronize(CUstream stream) {
    ENTER(enter);
    if (!lives(STREAM, stream)) return leave(CUDA_ERROR_INVALID_HANDLE);
    if (stream->captured) {
        stream->captured->invalidated = true;
        return leave(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    empty(stream);
    return leave(what_broke());
}

API CUresult cuLaunchHostFunc(CUstream stream, CUhostFn call, void *given) {
    ENTER(enter);
    if (!call) return leave(CUDA_ERROR_INVALID_VALUE);
    return leave(put(stream, (struct operation){.what = CALL, .call = call, .given = given}));
}

API CUresult cuEventCreate(CUevent *made, unsigned flags) {
    ENTER(enter);
    if (flags > EVENT_FLAGS) return leave(CUDA_ERROR_INVALID_VALUE);
    CUevent event = make(EVENT, sizeof *event);
    event->timed = !(flags & DISABLE_TIMING);
    *made = event;
    return leave(CUDA_SUCCESS);
}

API CUresult cuEventDestroy_v2(CUevent event) {
    ENTER(enter);
    if (!lives(EVENT, event)) return leave(CUDA_ERROR_INVALID_HANDLE);
    forget(event);
    return leave(CUDA_SUCCESS);
}

API CUresult cuEventRecord(CUevent event, CUstream stream) {
    ENTER(enter);
    if (!lives(EVENT, event)) return leave(CUDA_ERROR_INVALID_HANDLE);
    CUresult code = put(stream, (struct operation){.what = RECORD, .event = event, .number = event->recorded + 1});
    if (!code) event->recorded++;
    return leave(code);
}

API CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
    ENTER(enter);
    if (flags) return leave(CUDA_ERROR_INVALID_VALUE);
    if (!lives(EVENT, event)) return leave(CUDA_ERROR_INVALID_HANDLE);
    return leave(put(stream, (struct operation){.what = AWAIT, .event = event, .number = event->recorded}));
}

API CUresult cuEventSynchronize(CUevent event) {
    ENTER(enter);
    if (!lives(EVENT, event)) return leave(CUDA_ERROR_INVALID_HANDLE);
    for (uint64_t number = event->recorded; event->reached < number;) wait_for_progress();
    return leave(what_broke());
}

API CUresult cuEventQuery(CUevent event) {
    ENTER(enter);
    if (!lives(EVENT, event)) return leave(CUDA_ERROR_INVALID_HANDLE);
    return leave(event->reached < event->recorded ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS);
}

API CUresult cuEventElapsedTime_v2(float *elapsed_ms, CUevent first, CUevent second) {
    ENTER(enter);
    CUevent both[] = {first, second};
    for (int index = 0; index < 2; index++)
        if (!lives(EVENT, both[index]) || !both[index]->timed || !both[index]->recorded)
            return leave(CUDA_ERROR_INVALID_HANDLE);
    for (int index = 0; index < 2; index++)
        if (both[index]->reached < both[index]->recorded) return leave(CUDA_ERROR_NOT_READY);
    *elapsed_ms = (float)(second->reached_ms - first->reached_ms);
    return leave(CUDA_SUCCESS);
}
