/* Time predictions of an exported network and of ONNX Runtime's C API for the same network; see exported.py.

   exported COUNT TURNS [LIBRARY MODEL OUTPUT SIZE...]   (the name of the output, and the sizes of the input)

   The first number of each sample depends on the last result. Prints a line of each side's y after CHECKED calls, then a
   line of nanoseconds a call for each turn. */

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "network.h"

enum { CHECKED = 50, SIZES = 4 };

/* The wheel of ONNX Runtime has no header. These are numbers of functions in its table OrtApi, to which functions are
   only added at the end. Each returns NULL, or what went wrong. */
enum {
    GET_MESSAGE = 2, CREATE_ENVIRONMENT = 3, CREATE_SESSION = 7, RUN = 9, CREATE_OPTIONS = 10, SET_MODE = 13,
    SET_OPTIMIZATION = 23, SET_THREADS = 24, CREATE_TENSOR = 49, CREATE_MEMORY = 69
};
enum { API_VERSION = 1, WARNINGS = 2, SEQUENTIAL = 0, ALL = 99, FLOAT = 1, ARENA = 1, DEFAULT = 0 };
typedef struct { void *const *(*table)(uint32_t version); const char *(*version)(void); } Base;
typedef void *(*Run)(void *session, const void *options, const char *const *inputs, void *const *values, size_t count,
                     const char *const *outputs, size_t output_count, void **results);

static float x[NETWORK_INPUTS], y[NETWORK_OUTPUTS];
static void *workspace, *const *api, *session, *input, *result;
static const char *output;

static void check(void *status) {
    if (status == NULL) return;
    fprintf(stderr, "ONNX Runtime: %s\n", ((const char *(*)(void *))api[GET_MESSAGE])(status));
    exit(1);
}

static void ours(long count) {
    for (long i = 0; i < count; i++) {
        if (network_predict(x, y, workspace)) exit(2);
        x[0] += 1e-6f * y[0];
    }
}

static void theirs(long count) {
    const char *names[] = {"x"};
    Run run = (Run)api[RUN];
    for (long i = 0; i < count; i++) {
        check(run(session, NULL, names, &input, 1, &output, 1, &result));
        x[0] += 1e-6f * y[0];
    }
}

/* Open a session of one thread; its tensors are x and y. */
static void open_session(const char *library, const char *model, int rank, char **sizes) {
    void *opened = dlopen(library, RTLD_NOW), *environment, *options, *memory;
    if (opened == NULL) { fprintf(stderr, "%s\n", dlerror()); exit(1); }
    Base *(*base)(void) = (Base *(*)(void))dlsym(opened, "OrtGetApiBase");
    api = base()->table(API_VERSION);
    int64_t shape[SIZES] = {1}, outputs[] = {1, NETWORK_OUTPUTS};
    for (int k = 0; k < rank; k++) shape[k + 1] = atoi(sizes[k]);
    check(((void *(*)(int, const char *, void **))api[CREATE_ENVIRONMENT])(WARNINGS, "exported", &environment));
    check(((void *(*)(void **))api[CREATE_OPTIONS])(&options));
    check(((void *(*)(void *, int))api[SET_THREADS])(options, 1));
    check(((void *(*)(void *, int))api[SET_MODE])(options, SEQUENTIAL));
    check(((void *(*)(void *, int))api[SET_OPTIMIZATION])(options, ALL));
    check(((void *(*)(void *, const char *, void *, void **))api[CREATE_SESSION])(environment, model, options, &session));
    check(((void *(*)(int, int, void **))api[CREATE_MEMORY])(ARENA, DEFAULT, &memory));
    void *(*tensor)(void *, void *, size_t, int64_t *, size_t, int, void **) =
        (void *(*)(void *, void *, size_t, int64_t *, size_t, int, void **))api[CREATE_TENSOR];
    check(tensor(memory, x, sizeof x, shape, rank + 1, FLOAT, &input));
    check(tensor(memory, y, sizeof y, outputs, 2, FLOAT, &result));
}

static void start(void) {
    for (int i = 0; i < NETWORK_INPUTS; i++) x[i] = (float)((i * 37) % 101) / 101 - 0.5f;
    for (int i = 0; i < NETWORK_OUTPUTS; i++) y[i] = 0;
}

static double timed(void (*side)(long), long count) {
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    side(count);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    return ((double)(ended.tv_sec - began.tv_sec) * 1e9 + (double)(ended.tv_nsec - began.tv_nsec)) / (double)count;
}

int main(int argc, char **argv) {
    long count = atol(argv[1]), turns = atol(argv[2]);
    void (*sides[])(long) = {ours, theirs};
    int used = argc > 5 ? 2 : 1;
    workspace = malloc(NETWORK_WORKSPACE);
    if (used == 2) {
        output = argv[5];
        open_session(argv[3], argv[4], argc - 6, argv + 6);
    }
    for (int side = 0; side < used; side++) {
        start();
        sides[side](CHECKED);
        for (int i = 0; i < NETWORK_OUTPUTS; i++) printf("%.9g ", y[i]);
        printf("\n");
    }
    for (long turn = 0; turn < turns; turn++) {
        for (int side = 0; side < used; side++) {
            start();
            sides[side](count / 10 + 1); /* warm */
            printf("%.4f ", timed(sides[side], count));
        }
        printf("\n");
    }
    return 0;
}
