/* Copyright (c) 2026 The gpufleet.ollama developers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Lets the unmodified libggml-cuda.so run where no GPU is: what it imports of CUDA's runtime, of CUDA's driver and of
 * cuBLAS. Memory is given out as reserved address space and kept in an account per device, to the byte and until it is
 * used up. Everything else succeeds without doing anything. One library under three names, see Makefile; layouts and
 * codes are those of CUDA 13's headers (PyPI: nvidia-cuda-runtime 13.0). The environment is in README.md. */
#define _GNU_SOURCE
#include "account.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101 };
enum { DEVICE_TO_HOST = 2, BY_ADDRESS = 4 };
enum { MOST_DEVICES = 16 };
/* A mapping of CUDA's virtual memory is a multiple of this on every card that has it. */
static const size_t GRANULARITY = 2 << 20;

struct device {
    struct account account;
    int major, minor, multiprocessors, has_context;
};

static struct {
    struct device devices[MOST_DEVICES];
    int count, has_virtual_memory, has_peers, is_unlimited;
    uint64_t context_bytes;
    const char *announced_in;
} machine;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t described = PTHREAD_ONCE_INIT;
static __thread int current, last_error;

static const char *environment(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static uint64_t mib(double size) { return (uint64_t)(size * 1048576.0); }

/* TOTAL[/FREE][@MAJOR.MINOR][xMULTIPROCESSORS],... with sizes in MiB. */
static void describe(void) {
    const char *at = environment("SIMULATED_CUDA", "24576");
    machine.has_virtual_memory = atoi(environment("SIMULATED_CUDA_VMM", "1"));
    machine.has_peers = atoi(environment("SIMULATED_CUDA_PEERS", "1"));
    machine.is_unlimited = atoi(environment("SIMULATED_CUDA_UNLIMITED", "0"));
    machine.context_bytes = mib(atof(environment("SIMULATED_CUDA_CONTEXT_MIB", "0")));
    machine.announced_in = environment("SIMULATED_NVML_PROCESSES", NULL);
    while (at && *at && strcmp(at, "none") && machine.count < MOST_DEVICES) {
        struct device *device = &machine.devices[machine.count++];
        char *end;
        device->account.total_bytes = device->account.free_bytes = mib(strtod(at, &end));
        if (*end == '/') device->account.free_bytes = mib(strtod(end + 1, &end));
        device->major = 8, device->minor = 6, device->multiprocessors = 82;
        if (*end == '@') device->major = (int)strtol(end + 1, &end, 10), device->minor = 0;
        if (*end == '.') device->minor = (int)strtol(end + 1, &end, 10);
        if (*end == 'x') device->multiprocessors = (int)strtol(end + 1, &end, 10);
        at = *end == ',' ? end + 1 : NULL;
    }
}

static struct device *find(int number) {
    pthread_once(&described, describe);
    return number >= 0 && number < machine.count ? &machine.devices[number] : NULL;
}

static int answer(int code) {
    if (code) last_error = code;
    return code;
}

/* --- The account --- */

static uint64_t taken(const struct device *device) {
    const struct account *account = &device->account;
    uint64_t bytes = device->has_context ? machine.context_bytes : 0;
    for (int kind = 0; kind < ON_HOST; kind++) bytes += account->held_bytes[kind];
    return bytes;
}

/* Tell the simulated NVML what this process holds, a line for each device, as its README says. */
static void announce(void) {
    char path[4096];
    if (!machine.announced_in) return;
    snprintf(path, sizeof path, "%s/%d", machine.announced_in, (int)getpid());
    FILE *file = fopen(path, "w");
    if (!file) return;
    for (int i = 0; i < machine.count; i++)
        if (taken(&machine.devices[i])) fprintf(file, "%d %llu\n", i, (unsigned long long)taken(&machine.devices[i]));
    fclose(file);
}

static int charge(struct device *device, enum place place, uint64_t bytes) {
    struct account *account = &device->account;
    device->has_context = 1;
    if (place != ON_HOST && !machine.is_unlimited && taken(device) + bytes > account->free_bytes) return OUT_OF_MEMORY;
    account->held_bytes[place] += bytes;
    uint64_t on_device = 0;
    for (int kind = 0; kind < ON_HOST; kind++) on_device += account->held_bytes[kind];
    if (on_device > account->peak_bytes) account->peak_bytes = on_device;
    announce();
    return SUCCESS;
}

EXPORT int simulated_cuda_account(int number, struct account *out) {
    struct device *device = find(number);
    if (!device) return INVALID_DEVICE;
    pthread_mutex_lock(&lock);
    *out = device->account;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

EXPORT void simulated_cuda_reset_peaks(void) {
    pthread_mutex_lock(&lock);
    for (int i = 0; i < machine.count; i++) {
        struct account *account = &machine.devices[i].account;
        account->peak_bytes = account->launches = account->peer_bytes = 0;
        for (int kind = 0; kind < ON_HOST; kind++) account->peak_bytes += account->held_bytes[kind];
    }
    pthread_mutex_unlock(&lock);
}

/* --- Tables that grow --- */

struct table {
    void *entries;
    size_t count, room;
};

static void *append(struct table *table, size_t entry_size) {
    if (table->count == table->room) {
        table->room = table->room ? 2 * table->room : 256;
        table->entries = realloc(table->entries, table->room * entry_size);
        if (!table->entries) abort();
    }
    return (char *)table->entries + entry_size * table->count++;
}

/* --- Memory of the runtime --- */

struct block {
    char *start;
    size_t size;
    struct device *device;
    enum place place;
};

static struct table blocks;

static int allocate(void **out, size_t size, enum place place) {
    struct device *device = find(current);
    if (!out || !device) return answer(device ? INVALID_VALUE : NO_DEVICE);
    *out = NULL;
    if (!size) return SUCCESS;
    pthread_mutex_lock(&lock);
    int code = charge(device, place, size);
    if (!code) {
        /* The CPU writes into what lies on the host, and must not touch what lies on a device. */
        int access = place == ON_HOST || place == MANAGED ? PROT_READ | PROT_WRITE : PROT_NONE;
        *out = mmap(NULL, size, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (*out == MAP_FAILED) abort();
        *(struct block *)append(&blocks, sizeof(struct block)) = (struct block){*out, size, device, place};
    }
    pthread_mutex_unlock(&lock);
    return answer(code);
}

static int release(void *start) {
    int code = start ? INVALID_VALUE : SUCCESS;
    pthread_mutex_lock(&lock);
    struct block *all = blocks.entries;
    for (size_t i = 0; i < blocks.count; i++) {
        if (all[i].start != start) continue;
        all[i].device->account.held_bytes[all[i].place] -= all[i].size;
        munmap(start, all[i].size);
        all[i] = all[--blocks.count];
        announce();
        code = SUCCESS;
        break;
    }
    pthread_mutex_unlock(&lock);
    return answer(code);
}

static int is_on_device(const void *address) {
    int found = 0;
    pthread_mutex_lock(&lock);
    const struct block *all = blocks.entries;
    for (size_t i = 0; i < blocks.count && !found; i++)
        found = all[i].place != ON_HOST && (const char *)address >= all[i].start
                && (const char *)address < all[i].start + all[i].size;
    pthread_mutex_unlock(&lock);
    return found;
}

EXPORT int cudaMalloc(void **out, size_t size) { return allocate(out, size, ALLOCATED); }
EXPORT int cudaMallocManaged(void **out, size_t size, unsigned flags) { return (void)flags, allocate(out, size, MANAGED); }
EXPORT int cudaMallocHost(void **out, size_t size) { return allocate(out, size, ON_HOST); }
EXPORT int cudaHostAlloc(void **out, size_t size, unsigned flags) { return (void)flags, allocate(out, size, ON_HOST); }
EXPORT int cudaFree(void *start) { return release(start); }
EXPORT int cudaFreeHost(void *start) { return release(start); }
EXPORT int cudaHostRegister(void) { return SUCCESS; }
EXPORT int cudaHostUnregister(void) { return SUCCESS; }
EXPORT int cudaHostGetDevicePointer(void **out, void *host) { return *out = host, SUCCESS; }

EXPORT int cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    struct device *device = find(current);
    if (!device) return answer(NO_DEVICE);
    pthread_mutex_lock(&lock);
    device->has_context = 1;
    announce();
    uint64_t bytes = taken(device);
    *total_bytes = device->account.total_bytes;
    *free_bytes = bytes < device->account.free_bytes ? device->account.free_bytes - bytes : 0;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

/* What the host reads back is zero: the engine looks at the experts that a router chose, and at logits. */
EXPORT int cudaMemcpyAsync(void *to, const void *from, size_t size, int direction) {
    if (direction == DEVICE_TO_HOST || (direction == BY_ADDRESS && !is_on_device(to) && is_on_device(from)))
        memset(to, 0, size);
    return SUCCESS;
}

EXPORT int cudaMemcpy2DAsync(
    void *to, size_t pitch, const void *from, size_t from_pitch, size_t width, size_t height, int direction) {
    (void)from, (void)from_pitch;
    for (size_t row = 0; row < height && direction == DEVICE_TO_HOST; row++) memset((char *)to + row * pitch, 0, width);
    return SUCCESS;
}

EXPORT int cudaMemcpyPeerAsync(void *to, int number, const void *from, int from_number, size_t size) {
    struct device *device = find(number);
    (void)to, (void)from, (void)from_number;
    if (!device) return answer(INVALID_DEVICE);
    __atomic_add_fetch(&device->account.peer_bytes, size, __ATOMIC_RELAXED);
    return SUCCESS;
}

EXPORT int cudaMemcpy3DPeerAsync(void) { return SUCCESS; }
EXPORT int cudaMemset(void) { return SUCCESS; }
EXPORT int cudaMemsetAsync(void) { return SUCCESS; }

/* --- Devices --- */

EXPORT int cudaGetDeviceCount(int *count) {
    find(0);
    *count = machine.count;
    return answer(machine.count ? SUCCESS : NO_DEVICE);
}

EXPORT int cudaGetDevice(int *number) { return *number = current, SUCCESS; }

EXPORT int cudaSetDevice(int number) {
    if (!find(number)) return answer(INVALID_DEVICE);
    current = number;
    return SUCCESS;
}

EXPORT int cudaSetDeviceFlags(void) { return SUCCESS; }
EXPORT int cudaDeviceSynchronize(void) { return SUCCESS; }
EXPORT int cudaDeviceEnablePeerAccess(void) { return SUCCESS; }
EXPORT int cudaDeviceDisablePeerAccess(void) { return SUCCESS; }

EXPORT int cudaDeviceCanAccessPeer(int *can, int one, int other) {
    find(0);
    return *can = one != other && machine.has_peers, SUCCESS;
}

EXPORT int cudaDeviceGetPCIBusId(char *text, int size, int number) {
    return snprintf(text, (size_t)size, "0000:%02X:00.0", number + 1), SUCCESS;
}

EXPORT int cudaDeviceGetAttribute(int *value, int attribute) {
    enum { HOST_POINTERS_OF_REGISTERED_MEMORY = 91, COOPERATIVE_LAUNCH = 95 };
    *value = attribute == HOST_POINTERS_OF_REGISTERED_MEMORY || attribute == COOPERATIVE_LAUNCH;
    return SUCCESS;
}

/* Table "Technical Specifications per Compute Capability" of the CUDA programming guide; kernels are chosen by them. */
static size_t shared_per_multiprocessor(const struct device *device) {
    int capability = device->major * 10 + device->minor;
    if (capability == 75) return 64 << 10;
    if (capability == 80 || capability == 87) return 164 << 10;
    if (capability >= 90 && capability < 120) return 228 << 10;
    return capability < 80 ? 96 << 10 : 100 << 10;
}

static size_t shared_per_block(const struct device *device) {
    int capability = device->major * 10 + device->minor;
    if (capability < 70) return 48 << 10;
    return shared_per_multiprocessor(device) - (capability < 80 ? 0 : 1 << 10);
}

static int threads_per_multiprocessor(const struct device *device) {
    int capability = device->major * 10 + device->minor;
    if (capability == 75) return 1024;
    return (device->major == 8 && capability != 80) || device->major == 12 ? 1536 : 2048;
}

EXPORT int cudaGetDeviceProperties(void *out, int number) {
    enum { PROPERTIES_BYTES = 1008 }; /* struct cudaDeviceProp, its fields by their offsets */
    const struct device *device = find(number);
    if (!device) return answer(INVALID_DEVICE);
    char *at = memset(out, 0, PROPERTIES_BYTES);
#define FIELD(offset, type, value) (*(type *)(at + (offset)) = (type)(value))
    snprintf(at, 256, "Simulated CUDA %d.%d", device->major, device->minor);
    FIELD(256, int, number + 1);                      /* uuid */
    FIELD(288, size_t, device->account.total_bytes);  /* totalGlobalMem */
    FIELD(296, size_t, 48 << 10);                     /* sharedMemPerBlock */
    FIELD(304, int, 65536);                           /* regsPerBlock */
    FIELD(308, int, 32);                              /* warpSize */
    FIELD(320, int, 1024);                            /* maxThreadsPerBlock */
    FIELD(324, int, 1024);                            /* maxThreadsDim */
    FIELD(328, int, 1024);
    FIELD(332, int, 64);
    FIELD(336, int, 2147483647);                      /* maxGridSize */
    FIELD(340, int, 65535);
    FIELD(344, int, 65535);
    FIELD(352, size_t, 64 << 10);                     /* totalConstMem */
    FIELD(360, int, device->major);
    FIELD(364, int, device->minor);
    FIELD(384, int, device->multiprocessors);
    FIELD(392, int, 1);                               /* canMapHostMemory */
    FIELD(560, int, 1);                               /* concurrentKernels */
    FIELD(568, int, number + 1);                      /* pciBusID */
    FIELD(588, int, 1);                               /* unifiedAddressing */
    FIELD(604, int, threads_per_multiprocessor(device));
    FIELD(624, size_t, shared_per_multiprocessor(device));
    FIELD(632, int, 65536);                           /* regsPerMultiprocessor */
    FIELD(636, int, 1);                               /* managedMemory */
    FIELD(668, int, 1);                               /* cooperativeLaunch */
    FIELD(672, size_t, shared_per_block(device));     /* sharedMemPerBlockOptin */
    return SUCCESS;
}

/* --- Errors --- */

EXPORT int cudaGetLastError(void) {
    int code = last_error;
    last_error = SUCCESS;
    return code;
}

EXPORT int cudaPeekAtLastError(void) { return last_error; }

EXPORT const char *cudaGetErrorString(int code) {
    if (code == SUCCESS) return "no error";
    if (code == OUT_OF_MEMORY) return "out of memory";
    return code == NO_DEVICE ? "no CUDA-capable device is detected" : "an error of the simulated CUDA machine";
}

/* --- Streams, events and graphs: handles of which only a stream remembers something --- */

struct stream { long is_captured; };

static struct stream *created(void *stream) { return (uintptr_t)stream > 2 ? stream : NULL; /* below: the default ones */ }

static int hand_out(void **handle) { return *handle = calloc(1, sizeof(struct stream)), *handle ? SUCCESS : OUT_OF_MEMORY; }
static int take_back(void *handle) { return free(handle), SUCCESS; }

EXPORT int cudaStreamCreateWithFlags(void **stream) { return hand_out(stream); }
EXPORT int cudaStreamDestroy(void *stream) { return take_back(created(stream)); }
EXPORT int cudaStreamSynchronize(void) { return SUCCESS; }
EXPORT int cudaStreamWaitEvent(void) { return SUCCESS; }

EXPORT int cudaStreamBeginCapture(void *stream) {
    if (created(stream)) created(stream)->is_captured = 1;
    return SUCCESS;
}

EXPORT int cudaStreamEndCapture(void *stream, void **graph) {
    if (created(stream)) created(stream)->is_captured = 0;
    return hand_out(graph);
}

EXPORT int cudaStreamIsCapturing(void *stream, int *status) {
    return *status = created(stream) && created(stream)->is_captured, SUCCESS;
}

EXPORT int cudaEventCreateWithFlags(void **event) { return hand_out(event); }
EXPORT int cudaEventDestroy(void *event) { return take_back(event); }
EXPORT int cudaEventRecord(void) { return SUCCESS; }
EXPORT int cudaEventSynchronize(void) { return SUCCESS; }
EXPORT int cudaGraphInstantiate(void **executable) { return hand_out(executable); }
EXPORT int cudaGraphExecUpdate(void) { return SUCCESS; }
EXPORT int cudaGraphLaunch(void) { return SUCCESS; }
EXPORT int cudaGraphDestroy(void *graph) { return take_back(graph); }
EXPORT int cudaGraphExecDestroy(void *executable) { return take_back(executable); }

/* --- Kernels: counted, never run --- */

static int launch(void) {
    struct device *device = find(current);
    if (device) __atomic_add_fetch(&device->account.launches, 1, __ATOMIC_RELAXED);
    return SUCCESS;
}

EXPORT void **__cudaRegisterFatBinary(void) {
    static void *binary;
    return &binary;
}

EXPORT void __cudaRegisterFatBinaryEnd(void) {}
EXPORT void __cudaUnregisterFatBinary(void) {}
EXPORT void __cudaRegisterVar(void) {}
EXPORT void __cudaRegisterFunction(void) {}
EXPORT int __cudaGetKernel(void **kernel, const void *function) { return *kernel = (void *)(uintptr_t)function, SUCCESS; }
EXPORT unsigned __cudaPushCallConfiguration(void) { return 0; }
EXPORT int __cudaPopCallConfiguration(void) { return SUCCESS; }
EXPORT int __cudaLaunchKernel(void) { return launch(); }
EXPORT int cudaLaunchKernel(void) { return launch(); }
EXPORT int cudaLaunchKernelExC(void) { return launch(); }
EXPORT int cudaLaunchCooperativeKernel(void) { return launch(); }
EXPORT int cudaFuncSetAttribute(void) { return SUCCESS; }

EXPORT int cudaFuncGetAttributes(void *out) {
    enum { ATTRIBUTES_BYTES = 144 }; /* struct cudaFuncAttributes */
    const struct device *device = find(current);
    if (!device) return answer(NO_DEVICE);
    char *at = memset(out, 0, ATTRIBUTES_BYTES);
    FIELD(24, int, 1024);                                    /* maxThreadsPerBlock */
    FIELD(28, int, 128);                                     /* numRegs */
    FIELD(32, int, device->major * 10 + device->minor);      /* ptxVersion */
    FIELD(36, int, device->major * 10 + device->minor);      /* binaryVersion */
    FIELD(44, int, 48 << 10);                                /* maxDynamicSharedSizeBytes */
    return SUCCESS;
}

/* A kernel's registers are not known. Flash attention's run-time pool takes from 8 to 14 MiB of what they may be. */
EXPORT int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks_resident) {
    return *blocks_resident = 2, SUCCESS;
}

/* --- Virtual memory of the driver, of which the pool of temporaries is made --- */

struct physical {
    size_t size;
    struct device *device;
};

struct mapping {
    uint64_t start;
    struct physical physical;
};

static struct table mappings;

EXPORT int cuInit(void) { return SUCCESS; }
EXPORT int cuDriverGetVersion(int *version) { return *version = atoi(environment("SIMULATED_CUDA_DRIVER", "13000")), SUCCESS; }
EXPORT int cuDeviceGet(int *device, int number) { return *device = number, SUCCESS; }
EXPORT int cuGetErrorString(int code, const char **text) { return *text = cudaGetErrorString(code), SUCCESS; }

EXPORT int cuDeviceGetAttribute(int *value, int attribute) {
    enum { VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED = 102 };
    find(0);
    return *value = attribute == VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED && machine.has_virtual_memory, SUCCESS;
}

EXPORT int cuMemGetAllocationGranularity(size_t *size) { return *size = GRANULARITY, SUCCESS; }

EXPORT int cuMemAddressReserve(uint64_t *start, size_t size) {
    void *reserved = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *start = (uint64_t)(uintptr_t)reserved;
    return reserved == MAP_FAILED ? OUT_OF_MEMORY : SUCCESS;
}

EXPORT int cuMemAddressFree(uint64_t start, size_t size) { return munmap((void *)(uintptr_t)start, size), SUCCESS; }

/* CUmemAllocationProp begins with type, requested handle types, location type and location id. */
EXPORT int cuMemCreate(uint64_t *handle, size_t size, const int *properties) {
    struct device *device = find(properties[3]);
    struct physical *physical = malloc(sizeof *physical);
    if (!device || !physical) return free(physical), INVALID_VALUE;
    *physical = (struct physical){size, device};
    *handle = (uint64_t)(uintptr_t)physical;
    pthread_mutex_lock(&lock);
    int code = charge(device, MAPPED, size);
    pthread_mutex_unlock(&lock);
    return code;
}

/* The pool releases a handle as soon as it is mapped; the memory is given back when the mapping ends. */
EXPORT int cuMemMap(uint64_t start, size_t size, size_t offset, uint64_t handle) {
    (void)size, (void)offset;
    pthread_mutex_lock(&lock);
    struct mapping *mapping = append(&mappings, sizeof *mapping);
    *mapping = (struct mapping){start, *(struct physical *)(uintptr_t)handle};
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

EXPORT int cuMemRelease(uint64_t handle) { return take_back((void *)(uintptr_t)handle); }

EXPORT int cuMemUnmap(uint64_t start, size_t size) {
    pthread_mutex_lock(&lock);
    struct mapping *all = mappings.entries;
    for (size_t i = 0; i < mappings.count;) {
        const struct physical *physical = &all[i].physical;
        if (all[i].start < start || all[i].start + physical->size > start + size) {
            i++;
            continue;
        }
        physical->device->account.held_bytes[MAPPED] -= physical->size;
        all[i] = all[--mappings.count];
    }
    announce();
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

EXPORT int cuMemSetAccess(void) { return SUCCESS; }

/* --- cuBLAS: a real one holds memory of its own for each handle, unless the engine gives it some --- */

EXPORT int cublasCreate_v2(void **handle) {
    struct device *device = find(current);
    if (device) device->account.cublas_handles++;
    return hand_out(handle);
}

EXPORT int cublasDestroy_v2(void *handle) { return take_back(handle); }
EXPORT int cublasSetWorkspace_v2(void) { return SUCCESS; }
EXPORT int cublasSetStream_v2(void) { return SUCCESS; }
EXPORT int cublasSetMathMode(void) { return SUCCESS; }
EXPORT int cublasGemmEx(void) { return launch(); }
EXPORT int cublasGemmBatchedEx(void) { return launch(); }
EXPORT int cublasGemmStridedBatchedEx(void) { return launch(); }
EXPORT int cublasSgemm_v2(void) { return launch(); }
EXPORT int cublasSgemmBatched(void) { return launch(); }
EXPORT int cublasSgemmStridedBatched(void) { return launch(); }
EXPORT int cublasStrsmBatched(void) { return launch(); }
EXPORT const char *cublasGetStatusString(int code) { return code ? "an error of the simulated cuBLAS" : "success"; }
