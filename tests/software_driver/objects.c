/* The lock, and what was made and still lives. A handle is never given twice, so its memory is never given back: tests are short. */
#include "driver.h"

#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t progress = PTHREAD_COND_INITIALIZER;
static struct made *all;

void take_lock(void) { pthread_mutex_lock(&lock); }

void give_lock(void) { pthread_mutex_unlock(&lock); }

void wait_for_progress(void) { pthread_cond_wait(&progress, &lock); }

void tell_progress(void) { pthread_cond_broadcast(&progress); }

void *make(enum kind kind, size_t size_bytes) {
    struct made *made = calloc(1, size_bytes);
    if (!made) abort();
    made->kind = kind;
    made->next = all;
    all = made;
    return made;
}

bool lives(enum kind kind, const void *handle) {
    for (const struct made *each = all; each; each = each->next)
        if (each == handle) return each->kind == kind;
    return false;
}

void *next_of(enum kind kind, const void *last) {
    struct made *each = last ? ((const struct made *)last)->next : all;
    while (each && each->kind != kind) each = each->next;
    return each;
}

void forget(void *handle) {
    for (struct made **link = &all; *link; link = &(*link)->next)
        if (*link == handle) {
            *link = (*link)->next;
            return;
        }
}
