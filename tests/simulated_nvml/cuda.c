/* Copyright (c) 2026 The gpufleet.ollama developers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * libcuda.so.1 of the machine that libnvidia-ml.so.1 beside it describes: as much of CUDA's driver API as a process
 * needs to hold memory, which it announces to the simulated NVML. A program is tried with it before a real card is
 * at hand. Signatures and codes are those of cuda.h. */
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

typedef int CUresult;
typedef int CUdevice;
typedef void *CUcontext;
typedef unsigned long long CUdeviceptr;

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_CONTEXT = 201 };

/* A context of the stand-in server has this size too; memory is given out in pages. */
static const unsigned long long CONTEXT_BYTES = 457ULL << 20, PAGE_BYTES = 2ULL << 20;

static struct {
    struct json *machine;
    char place[32]; /* what the simulated NVML calls the device */
    unsigned long long held, room;
} process;

static const char *environment(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static int is_named(const struct json *node, const char *wanted) {
    struct json *uuid = json_at(node, "uuid");
    return uuid && uuid->text && strcmp(uuid->text, wanted) == 0;
}

static unsigned long long room_of(const struct json *node) {
    struct json *total = json_at(node, "memory.total_bytes");
    return total ? total->number : ~0ULL;
}

/* The device that CUDA_VISIBLE_DEVICES names by its UUID. */
static int find(void) {
    const char *wanted = environment("CUDA_VISIBLE_DEVICES", "");
    struct json *devices = json_at(process.machine, "devices");
    for (unsigned i = 0; i < json_count(devices); i++) {
        struct json *gpu = json_item(devices, i), *instances = json_at(gpu, "mig.instances");
        snprintf(process.place, sizeof process.place, "%u", i);
        process.room = room_of(gpu);
        if (is_named(gpu, wanted)) return 1;
        for (unsigned k = 0; k < json_count(instances); k++) {
            snprintf(process.place, sizeof process.place, "%u:%u", i, k);
            process.room = room_of(json_item(instances, k));
            if (is_named(json_item(instances, k), wanted)) return 1;
        }
    }
    return 0;
}

static CUresult hold(unsigned long long bytes) {
    char path[4096];
    if (process.held + bytes > process.room) return OUT_OF_MEMORY;
    process.held += bytes;
    snprintf(path, sizeof path, "%s/%d", environment("SIMULATED_NVML_PROCESSES", "/run/simulated-nvml"), (int)getpid());
    FILE *file = fopen(path, "w");
    if (!file) return NOT_INITIALIZED;
    fprintf(file, "%s %llu\n", process.place, process.held);
    fclose(file);
    return SUCCESS;
}

EXPORT CUresult cuInit(unsigned flags) {
    char error[256];
    if (flags) return INVALID_VALUE;
    process.machine = json_read(environment("SIMULATED_NVML", "/etc/simulated-nvml.json"), error, sizeof error);
    return process.machine && find() ? SUCCESS : NO_DEVICE;
}

EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    if (!process.machine) return NOT_INITIALIZED;
    *device = 0;
    return ordinal == 0 ? SUCCESS : INVALID_VALUE;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    (void)device;
    *context = &process;
    return process.machine ? hold(CONTEXT_BYTES) : NOT_INITIALIZED;
}

EXPORT CUresult cuCtxSetCurrent(CUcontext context) { return context == &process ? SUCCESS : INVALID_CONTEXT; }

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes) {
    if (!process.held) return INVALID_CONTEXT;
    *pointer = process.held;
    return bytes ? hold((bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES) : INVALID_VALUE;
}

EXPORT CUresult cuGetErrorName(CUresult code, const char **name) {
    *name = code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : code == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR";
    return SUCCESS;
}
