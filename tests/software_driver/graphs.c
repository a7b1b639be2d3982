/* Capture of a stream, and graphs that repeat what was captured. */
#include "driver.h"

enum { MODES = 3, CAPTURE_NONE = 0, CAPTURE_ACTIVE = 1, CAPTURE_INVALIDATED = 2 };

static void copy_queue(struct queue *target, const struct queue *source) {
    for (const struct operation *each = source->first; each; each = each->next) put_at_end(target, *each);
}

bool spoil_captures_of_this_thread(void) {
    bool any = false;
    for (CUstream each = NULL; (each = next_of(STREAM, each));)
        if (each->captured && pthread_equal(each->captured->thread, pthread_self()))
            any = each->captured->invalidated = true;
    return any;
}

API CUresult cuStreamBeginCapture_v2(CUstream stream, int mode) {
    ENTER(enter);
    if (!lives(STREAM, stream)) return leave(CUDA_ERROR_INVALID_HANDLE);
    if (mode < 0 || mode >= MODES) return leave(CUDA_ERROR_INVALID_VALUE);
    if (stream->captured) return leave(CUDA_ERROR_ILLEGAL_STATE);
    stream->captured = make(GRAPH, sizeof *stream->captured);
    stream->captured->thread = pthread_self();
    return leave(CUDA_SUCCESS);
}

API CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
    ENTER(enter);
    *graph = NULL;
    if (!lives(STREAM, stream)) return leave(CUDA_ERROR_INVALID_HANDLE);
    if (!stream->captured) return leave(CUDA_ERROR_ILLEGAL_STATE);
    CUgraph captured = stream->captured;
    bool own = pthread_equal(captured->thread, pthread_self());
    stream->captured = NULL;
    if (own && !captured->invalidated) {
        *graph = captured;
        return leave(CUDA_SUCCESS);
    }
    forget(captured);
    return leave(own ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
}

API CUresult cuStreamIsCapturing(CUstream stream, int *status) {
    ENTER(enter);
    if (!lives(STREAM, stream)) return leave(CUDA_ERROR_INVALID_HANDLE);
    *status = !stream->captured               ? CAPTURE_NONE
              : stream->captured->invalidated ? CAPTURE_INVALIDATED
                                              : CAPTURE_ACTIVE;
    return leave(CUDA_SUCCESS);
}

API CUresult cuGraphInstantiateWithFlags(CUgraphExec *made, CUgraph graph, unsigned long long flags) {
    ENTER(enter);
    if (!lives(GRAPH, graph)) return leave(CUDA_ERROR_INVALID_HANDLE);
    if (flags) return leave(CUDA_ERROR_NOT_SUPPORTED);
    *made = make(GRAPH_EXEC, sizeof **made);
    copy_queue(&(*made)->noted, &graph->noted);
    return leave(CUDA_SUCCESS);
}

API CUresult cuGraphLaunch(CUgraphExec graph, CUstream stream) {
    ENTER(enter);
    if (!lives(GRAPH_EXEC, graph) || !lives(STREAM, stream)) return leave(CUDA_ERROR_INVALID_HANDLE);
    CUresult code = CUDA_SUCCESS;
    for (const struct operation *each = graph->noted.first; each && !code; each = each->next) code = put(stream, *each);
    return leave(code);
}

static CUresult destroy(enum kind kind, void *graph) {
    ENTER(enter);
    if (!lives(kind, graph)) return leave(CUDA_ERROR_INVALID_HANDLE);
    forget(graph);
    return leave(CUDA_SUCCESS);
}

API CUresult cuGraphDestroy(CUgraph graph) { return destroy(GRAPH, graph); }

API CUresult cuGraphExecDestroy(CUgraphExec graph) { return destroy(GRAPH_EXEC, graph); }
