/* Copyright (c) 2026 The gpufleet.ollama developers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * libnvidia-ml.so.1 of a machine that a JSON file describes (README.md). Symbols, struct layouts and error codes are
 * those of NVML as nvidia-ml-py 13 declares them. What a description leaves out is answered with NOT_SUPPORTED, as
 * the real library does for a GPU that lacks a feature. */
#include "json.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define NOT_AVAILABLE 0xFFFFFFFFFFFFFFFFULL
#define NO_INSTANCE 0xFFFFFFFFU

typedef int nvmlReturn_t;
typedef unsigned long long bytes_t;

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9, ARGUMENT_VERSION_MISMATCH = 25, UNKNOWN_ERROR = 999
};

static const struct { nvmlReturn_t code; const char *name, *text; } ERRORS[] = {
    {0, "SUCCESS", "Success"},
    {1, "UNINITIALIZED", "Uninitialized"},
    {2, "INVALID_ARGUMENT", "Invalid Argument"},
    {3, "NOT_SUPPORTED", "Not Supported"},
    {4, "NO_PERMISSION", "Insufficient Permissions"},
    {5, "ALREADY_INITIALIZED", "Already Initialized"},
    {6, "NOT_FOUND", "Not Found"},
    {7, "INSUFFICIENT_SIZE", "Insufficient Size"},
    {8, "INSUFFICIENT_POWER", "Insufficient External Power"},
    {9, "DRIVER_NOT_LOADED", "Driver Not Loaded"},
    {10, "TIMEOUT", "Timeout"},
    {11, "IRQ_ISSUE", "Interrupt Request Issue"},
    {12, "LIBRARY_NOT_FOUND", "NVML Shared Library Not Found"},
    {13, "FUNCTION_NOT_FOUND", "Function Not Found"},
    {14, "CORRUPTED_INFOROM", "Corrupted infoROM"},
    {15, "GPU_IS_LOST", "GPU is lost"},
    {16, "RESET_REQUIRED", "GPU requires restart"},
    {17, "OPERATING_SYSTEM", "The operating system has blocked the request."},
    {18, "LIB_RM_VERSION_MISMATCH", "Driver/library version mismatch"},
    {19, "IN_USE", "In use by another client"},
    {20, "MEMORY", "Insufficient Memory"},
    {21, "NO_DATA", "No data"},
    {22, "VGPU_ECC_NOT_SUPPORTED", "vGPU ECC is not supported"},
    {23, "INSUFFICIENT_RESOURCES", "Insufficient resources"},
    {25, "ARGUMENT_VERSION_MISMATCH", "Argument version mismatch"},
    {28, "GPU_NOT_FOUND", "GPU not found"},
    {999, "UNKNOWN", "Unknown Error"},
};
enum { ERROR_COUNT = sizeof ERRORS / sizeof *ERRORS };

typedef struct handle {
    struct json *node;
    struct handle *parent; /* of a MIG instance: its GPU */
    unsigned index;
} *nvmlDevice_t;

typedef struct { char busIdLegacy[16]; unsigned domain, bus, device, pciDeviceId, pciSubSystemId; char busId[32]; }
    nvmlPciInfo_t;
typedef struct { bytes_t total, free, used; } nvmlMemory_t;
typedef struct { unsigned version; bytes_t total, reserved, free, used; } nvmlMemory_v2_t;
typedef struct { unsigned pid; bytes_t usedGpuMemory; } nvmlProcessInfo_v1_t;
typedef struct { unsigned pid; bytes_t usedGpuMemory; unsigned gpuInstanceId, computeInstanceId; } nvmlProcessInfo_t;
typedef struct { nvmlProcessInfo_t info; bytes_t usedGpuCcProtectedMemory; } nvmlProcessDetail_v1_t;
typedef struct { unsigned version, mode, numProcArrayEntries; nvmlProcessDetail_v1_t *procArray; }
    nvmlProcessDetailList_t;
typedef struct { unsigned multiprocessorCount, sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount,
    sharedJpegCount, sharedOfaCount, gpuInstanceSliceCount, computeInstanceSliceCount; bytes_t memorySizeMB; }
    nvmlDeviceAttributes_t;
typedef struct { unsigned gpu, memory; } nvmlUtilization_t;
typedef struct { unsigned version, sensorType; int temperature; } nvmlTemperature_v1_t;
typedef struct { unsigned fieldId, scopeId; long long timestamp, latencyUsec; unsigned valueType; nvmlReturn_t nvmlReturn;
    bytes_t value; } nvmlFieldValue_t;

_Static_assert(sizeof(nvmlPciInfo_t) == 68, "nvmlPciInfo_t");
_Static_assert(sizeof(nvmlMemory_v2_t) == 40, "nvmlMemory_v2_t");
_Static_assert(sizeof(nvmlProcessInfo_t) == 24, "nvmlProcessInfo_t");
_Static_assert(sizeof(nvmlProcessDetail_v1_t) == 32, "nvmlProcessDetail_v1_t");
_Static_assert(sizeof(nvmlDeviceAttributes_t) == 40, "nvmlDeviceAttributes_t");
_Static_assert(sizeof(nvmlFieldValue_t) == 40, "nvmlFieldValue_t");
enum { MEMORY_V2 = 0x02000028, PROCESS_DETAIL_LIST_V1 = 0x01000018, TEMPERATURE_V1 = 0x0100000C };

static struct {
    unsigned users; /* nvmlInit calls that no nvmlShutdown has answered */
    struct json *machine;
    struct handle *handles; /* GPUs first, then the MIG instances of all of them */
    unsigned gpus, count;
} library;

/* ---- the description ------------------------------------------------------------------------------------------ */

static const char *environment(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static void forget(void) {
    json_free(library.machine);
    free(library.handles);
    memset(&library, 0, sizeof library);
}

static nvmlReturn_t describe(void) {
    char error[256] = "";
    const char *path = environment("SIMULATED_NVML", "/etc/simulated-nvml.json");
    if (access(path, R_OK) != 0) return DRIVER_NOT_LOADED;
    library.machine = json_read(path, error, sizeof error);
    if (!library.machine) {
        fprintf(stderr, "simulated NVML: %s\n", error);
        return UNKNOWN_ERROR;
    }
    struct json *devices = json_at(library.machine, "devices");
    library.gpus = library.count = json_count(devices);
    for (unsigned i = 0; i < library.gpus; i++)
        library.count += json_count(json_at(json_item(devices, i), "mig.instances"));
    library.handles = calloc(library.count + 1, sizeof *library.handles);
    if (!library.handles) return UNKNOWN_ERROR;
    struct handle *next_instance = library.handles + library.gpus;
    for (unsigned i = 0; i < library.gpus; i++) {
        struct handle *gpu = library.handles + i;
        *gpu = (struct handle){json_item(devices, i), NULL, i};
        struct json *instances = json_at(gpu->node, "mig.instances");
        for (unsigned k = 0; k < json_count(instances); k++)
            *next_instance++ = (struct handle){json_item(instances, k), gpu, k};
    }
    return SUCCESS;
}

/* ---- faults --------------------------------------------------------------------------------------------------- */

static nvmlReturn_t code_of(const struct json *result) {
    if (result && result->kind == JSON_NUMBER) return (nvmlReturn_t)result->number;
    for (unsigned i = 0; result && result->kind == JSON_STRING && i < ERROR_COUNT; i++)
        if (strcmp(result->text, ERRORS[i].name) == 0) return ERRORS[i].code;
    return result ? UNKNOWN_ERROR : SUCCESS;
}

static void delay(double seconds) {
    struct timespec wait = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&wait, NULL);
}

/* A fault is a result, or an object of result, delay_seconds, after_calls and abort. */
static nvmlReturn_t strike(struct json *fault) {
    if (!fault || fault->kind != JSON_OBJECT) return code_of(fault);
    struct json *after = json_at(fault, "after_calls"), *seconds = json_at(fault, "delay_seconds");
    if (after && fault->hits++ < after->number) return SUCCESS;
    if (seconds) delay(seconds->real);
    if (json_at(fault, "abort")) abort();
    return code_of(json_at(fault, "result"));
}

/* The fault of a function: under its own name, its name without _v2 and the like, or "*". */
static nvmlReturn_t fault_of(struct json *faults, const char *function) {
    char plain[80];
    snprintf(plain, sizeof plain, "%s", function);
    size_t length = strlen(plain);
    if (length > 3 && plain[length - 3] == '_' && plain[length - 2] == 'v') plain[length - 3] = 0;
    const char *names[] = {function, plain, "*"};
    for (unsigned i = 0; faults && i < 3; i++) {
        struct json *fault = json_at(faults, names[i]);
        if (fault) return strike(fault);
    }
    return SUCCESS;
}

static nvmlReturn_t enter(const char *function) {
    return library.users ? fault_of(json_at(library.machine, "faults"), function) : UNINITIALIZED;
}

static nvmlReturn_t enter_device(const char *function, nvmlDevice_t device) {
    nvmlReturn_t result = enter(function);
    if (result) return result;
    if (device < library.handles || device >= library.handles + library.count) return INVALID_ARGUMENT;
    if (device->parent && (result = fault_of(json_at(device->parent->node, "faults"), function))) return result;
    return fault_of(json_at(device->node, "faults"), function);
}

/* ---- simple answers ------------------------------------------------------------------------------------------- */

static nvmlReturn_t give_text(const char *text, char *out, unsigned size) {
    if (!text) return NOT_SUPPORTED;
    if (!out) return INVALID_ARGUMENT;
    if (strlen(text) + 1 > size) return INSUFFICIENT_SIZE;
    memcpy(out, text, strlen(text) + 1);
    return SUCCESS;
}

static const char *text_at(const struct json *node, const char *path) {
    struct json *found = json_at(node, path);
    return found && found->kind == JSON_STRING ? found->text : NULL;
}

static bytes_t number_at(const struct json *node, const char *path, bytes_t otherwise) {
    struct json *found = json_at(node, path);
    return found && (found->kind == JSON_NUMBER || found->kind == JSON_BOOL) ? found->number : otherwise;
}

static nvmlReturn_t give_number(const struct json *node, const char *path, unsigned *out) {
    struct json *found = json_at(node, path);
    if (!out) return INVALID_ARGUMENT;
    if (!found || found->kind == JSON_NULL) return NOT_SUPPORTED;
    *out = (unsigned)found->number;
    return SUCCESS;
}

#define SYSTEM_TEXT(symbol, path)                                                      \
    EXPORT nvmlReturn_t symbol(char *out, unsigned size) {                             \
        nvmlReturn_t result = enter(#symbol);                                          \
        return result ? result : give_text(text_at(library.machine, path), out, size); \
    }
SYSTEM_TEXT(nvmlSystemGetDriverVersion, "driver_version")
SYSTEM_TEXT(nvmlSystemGetNVMLVersion, "nvml_version")

#define SYSTEM_NUMBER(symbol, path)                                                          \
    EXPORT nvmlReturn_t symbol(int *out) {                                                   \
        nvmlReturn_t result = enter(#symbol);                                                \
        return result ? result : give_number(library.machine, path, (unsigned *)(void *)out); \
    }
SYSTEM_NUMBER(nvmlSystemGetCudaDriverVersion, "cuda_driver_version")
SYSTEM_NUMBER(nvmlSystemGetCudaDriverVersion_v2, "cuda_driver_version")

#define DEVICE_TEXT(symbol, path)                                                   \
    EXPORT nvmlReturn_t symbol(nvmlDevice_t device, char *out, unsigned size) {     \
        nvmlReturn_t result = enter_device(#symbol, device);                        \
        return result ? result : give_text(text_at(device->node, path), out, size); \
    }
DEVICE_TEXT(nvmlDeviceGetUUID, "uuid")
DEVICE_TEXT(nvmlDeviceGetSerial, "serial")
DEVICE_TEXT(nvmlDeviceGetVbiosVersion, "vbios_version")

#define DEVICE_NUMBER(symbol, path)                                          \
    EXPORT nvmlReturn_t symbol(nvmlDevice_t device, unsigned *out) {         \
        nvmlReturn_t result = enter_device(#symbol, device);                 \
        return result ? result : give_number(device->node, path, out);       \
    }
DEVICE_NUMBER(nvmlDeviceGetArchitecture, "architecture")
DEVICE_NUMBER(nvmlDeviceGetBrand, "brand")
DEVICE_NUMBER(nvmlDeviceGetComputeMode, "compute_mode")
DEVICE_NUMBER(nvmlDeviceGetComputeInstanceId, "compute_instance_id")
DEVICE_NUMBER(nvmlDeviceGetDisplayActive, "display.active")
DEVICE_NUMBER(nvmlDeviceGetDisplayMode, "display.connected")
DEVICE_NUMBER(nvmlDeviceGetEnforcedPowerLimit, "power.limit_milliwatts")
DEVICE_NUMBER(nvmlDeviceGetFanSpeed, "fan_percent")
DEVICE_NUMBER(nvmlDeviceGetGpuInstanceId, "gpu_instance_id")
DEVICE_NUMBER(nvmlDeviceGetMaxMigDeviceCount, "mig.maximum")
DEVICE_NUMBER(nvmlDeviceGetMinorNumber, "minor_number")
DEVICE_NUMBER(nvmlDeviceGetNumGpuCores, "cuda_cores")
DEVICE_NUMBER(nvmlDeviceGetPerformanceState, "performance_state")
DEVICE_NUMBER(nvmlDeviceGetPersistenceMode, "persistence_mode")
DEVICE_NUMBER(nvmlDeviceGetPowerManagementLimit, "power.limit_milliwatts")
DEVICE_NUMBER(nvmlDeviceGetPowerUsage, "power.usage_milliwatts")
DEVICE_NUMBER(nvmlDeviceGetRetiredPagesPendingStatus, "retired_pages.pending")

#define DEVICE_TWO_NUMBERS(symbol, first, second)                                                \
    EXPORT nvmlReturn_t symbol(nvmlDevice_t device, unsigned *one, unsigned *two) {              \
        nvmlReturn_t result = enter_device(#symbol, device);                                     \
        if (!result) result = give_number(device->node, first, one);                             \
        return result ? result : give_number(device->node, second, two);                         \
    }
DEVICE_TWO_NUMBERS(nvmlDeviceGetEccMode, "ecc.enabled", "ecc.pending")
DEVICE_TWO_NUMBERS(nvmlDeviceGetMigMode, "mig.enabled", "mig.pending")
DEVICE_TWO_NUMBERS(nvmlDeviceGetDecoderUtilization, "utilization.decoder", "utilization.sampling_period_microseconds")
DEVICE_TWO_NUMBERS(nvmlDeviceGetEncoderUtilization, "utilization.encoder", "utilization.sampling_period_microseconds")

/* Clocks of kind graphics, SM, memory and video, in MHz. */
#define DEVICE_CLOCK(symbol, group)                                                            \
    EXPORT nvmlReturn_t symbol(nvmlDevice_t device, unsigned kind, unsigned *out) {            \
        static const char *paths[] = {group ".graphics", group ".sm", group ".memory", group ".video"}; \
        nvmlReturn_t result = enter_device(#symbol, device);                                   \
        if (result) return result;                                                             \
        return kind < 4 ? give_number(device->node, paths[kind], out) : INVALID_ARGUMENT;      \
    }
DEVICE_CLOCK(nvmlDeviceGetClockInfo, "clocks_mhz")
DEVICE_CLOCK(nvmlDeviceGetMaxClockInfo, "maximum_clocks_mhz")

/* What Linux or every described GPU lacks; the last two arguments are there for those that have them. */
#define ABSENT(symbol)                                                                     \
    EXPORT nvmlReturn_t symbol(nvmlDevice_t device, unsigned *one, unsigned *two) {        \
        nvmlReturn_t result = enter_device(#symbol, device);                               \
        (void)one;                                                                         \
        (void)two;                                                                         \
        return result ? result : NOT_SUPPORTED;                                            \
    }
ABSENT(nvmlDeviceGetConfComputeMemSizeInfo)
ABSENT(nvmlDeviceGetDriverModel)
ABSENT(nvmlDeviceGetDriverModel_v2)
ABSENT(nvmlDeviceGetGpuOperationMode)
ABSENT(nvmlDeviceGetPcieThroughput)

/* ---- library and system --------------------------------------------------------------------------------------- */

static nvmlReturn_t begin(void) {
    nvmlReturn_t result = library.users ? SUCCESS : describe();
    if (!result) result = fault_of(json_at(library.machine, "faults"), "nvmlInit");
    if (result) {
        if (!library.users) forget();
        return result;
    }
    library.users++;
    return SUCCESS;
}

EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned flags) { (void)flags; return begin(); }
EXPORT nvmlReturn_t nvmlInit_v2(void) { return begin(); }
EXPORT nvmlReturn_t nvmlInit(void) { return begin(); }

EXPORT nvmlReturn_t nvmlShutdown(void) {
    if (!library.users) return UNINITIALIZED;
    if (--library.users == 0) forget();
    return SUCCESS;
}

EXPORT const char *nvmlErrorString(nvmlReturn_t code) {
    for (unsigned i = 0; i < ERROR_COUNT; i++)
        if (ERRORS[i].code == code) return ERRORS[i].text;
    return "Unknown Error";
}

/* ---- finding devices ------------------------------------------------------------------------------------------ */

#define DEVICE_COUNT(symbol)                                   \
    EXPORT nvmlReturn_t symbol(unsigned *out) {                \
        nvmlReturn_t result = enter(#symbol);                  \
        if (!result) *out = library.gpus;                      \
        return result;                                         \
    }
DEVICE_COUNT(nvmlDeviceGetCount)
DEVICE_COUNT(nvmlDeviceGetCount_v2)

static nvmlReturn_t give_handle(const char *function, nvmlDevice_t found, nvmlDevice_t *out) {
    nvmlReturn_t result = enter_device(function, found);
    if (!result) *out = found;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *out) {
    if (!library.users) return UNINITIALIZED;
    return index < library.gpus ? give_handle(__func__, library.handles + index, out) : INVALID_ARGUMENT;
}
EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *out) {
    return nvmlDeviceGetHandleByIndex_v2(index, out);
}

static nvmlReturn_t find(const char *function, const char *path, const char *wanted, unsigned last, nvmlDevice_t *out) {
    if (!library.users) return UNINITIALIZED;
    for (unsigned i = 0; wanted && i < last; i++) {
        const char *text = text_at(library.handles[i].node, path);
        if (text && strcmp(text, wanted) == 0) return give_handle(function, library.handles + i, out);
    }
    return NOT_FOUND;
}
EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *out) {
    return find(__func__, "uuid", uuid, library.count, out);
}
EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *out) {
    return find(__func__, "pci.bus_id", bus_id, library.gpus, out);
}
EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus_id, nvmlDevice_t *out) {
    return nvmlDeviceGetHandleByPciBusId_v2(bus_id, out);
}

EXPORT nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *out) {
    nvmlReturn_t result = enter_device(__func__, device);
    if (!result) *out = device->index;
    return result;
}

/* ---- MIG ------------------------------------------------------------------------------------------------------ */

static nvmlDevice_t instance(nvmlDevice_t gpu, unsigned index) {
    for (unsigned i = library.gpus; i < library.count; i++)
        if (library.handles[i].parent == gpu && library.handles[i].index == index) return library.handles + i;
    return NULL;
}

EXPORT nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *out) {
    nvmlReturn_t result = enter_device(__func__, device);
    if (result) return result;
    *out = instance(device, index);
    return *out ? SUCCESS : NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t device, nvmlDevice_t *out) {
    nvmlReturn_t result = enter_device(__func__, device);
    if (result) return result;
    *out = device->parent;
    return *out ? SUCCESS : INVALID_ARGUMENT;
}

EXPORT nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *out) {
    nvmlReturn_t result = enter_device(__func__, device);
    if (!result) *out = device->parent != NULL;
    return result;
}

#define ATTRIBUTES(symbol)                                                                              \
    EXPORT nvmlReturn_t symbol(nvmlDevice_t device, nvmlDeviceAttributes_t *out) {                      \
        nvmlReturn_t result = enter_device(#symbol, device);                                            \
        if (result) return result;                                                                      \
        if (!device->parent) return NOT_SUPPORTED;                                                      \
        memset(out, 0, sizeof *out);                                                                    \
        out->multiprocessorCount = (unsigned)number_at(device->node, "multiprocessors", 0);             \
        out->gpuInstanceSliceCount = (unsigned)number_at(device->node, "gpu_instance_slices", 0);       \
        out->computeInstanceSliceCount = (unsigned)number_at(device->node, "compute_instance_slices", 0); \
        out->memorySizeMB = number_at(device->node, "memory.total_bytes", 0) >> 20;                     \
        return SUCCESS;                                                                                 \
    }
ATTRIBUTES(nvmlDeviceGetAttributes)
ATTRIBUTES(nvmlDeviceGetAttributes_v2)

/* ---- properties ----------------------------------------------------------------------------------------------- */

EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *out, unsigned size) {
    char name[128];
    nvmlReturn_t result = enter_device(__func__, device);
    if (result) return result;
    if (!device->parent) return give_text(text_at(device->node, "name"), out, size);
    snprintf(name, sizeof name, "%s MIG %s", text_at(device->parent->node, "name"), text_at(device->node, "profile"));
    return give_text(name, out, size);
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *out) {
    nvmlReturn_t result = enter_device(__func__, device);
    if (result) return result;
    struct json *gpu = (device->parent ? device->parent : device)->node;
    const char *bus_id = text_at(gpu, "pci.bus_id");
    if (!bus_id) return NOT_SUPPORTED;
    memset(out, 0, sizeof *out);
    snprintf(out->busId, sizeof out->busId, "%s", bus_id);
    snprintf(out->busIdLegacy, sizeof out->busIdLegacy, "%s", strlen(bus_id) > 4 ? bus_id + 4 : bus_id);
    if (sscanf(bus_id, "%x:%x:%x", &out->domain, &out->bus, &out->device) != 3) return UNKNOWN_ERROR;
    out->pciDeviceId = (unsigned)number_at(gpu, "pci.device_id", 0) << 16 | 0x10DE;
    out->pciSubSystemId = (unsigned)number_at(gpu, "pci.subsystem_id", 0) << 16 | 0x10DE;
    return SUCCESS;
}
EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *out) {
    return nvmlDeviceGetPciInfo_v3(device, out);
}
EXPORT nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *out) {
    return nvmlDeviceGetPciInfo_v3(device, out);
}

EXPORT nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    nvmlReturn_t result = enter_device(__func__, device);
    if (result) return result;
    const char *text = text_at((device->parent ? device->parent : device)->node, "compute_capability");
    return text && sscanf(text, "%d.%d", major, minor) == 2 ? SUCCESS : NOT_SUPPORTED;
}

EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *out) {
    nvmlReturn_t result = enter_device(__func__, device);
    if (!result) result = give_number(device->node, "utilization.gpu", &out->gpu);
    return result ? result : give_number(device->node, "utilization.memory", &out->memory);
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor, unsigned *out) {
    nvmlReturn_t result = enter_device(__func__, device);
    if (result) return result;
    return sensor == 0 ? give_number(device->node, "temperature_celsius", out) : INVALID_ARGUMENT;
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_v1_t *out) {
    nvmlReturn_t result = enter_device(__func__, device);
    if (result) return result;
    if (out->version != TEMPERATURE_V1) return ARGUMENT_VERSION_MISMATCH;
    return give_number(device->node, "temperature_celsius", (unsigned *)(void *)&out->temperature);
}

EXPORT nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values) {
    nvmlReturn_t result = enter_device(__func__, device);
    for (int i = 0; !result && i < count; i++) values[i].nvmlReturn = NOT_SUPPORTED;
    return result;
}

/* ---- errors of memory ----------------------------------------------------------------------------------------- */

/* kind: 0 corrected, 1 uncorrected; counter: 0 since the driver was loaded, 1 for the life of the card. */
EXPORT nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned kind, unsigned counter, bytes_t *out) {
    static const char *paths[2][2] = {{"ecc.corrected_volatile", "ecc.corrected_aggregate"},
                                      {"ecc.uncorrected_volatile", "ecc.uncorrected_aggregate"}};
    nvmlReturn_t result = enter_device(__func__, device);
    if (result) return result;
    if (kind > 1 || counter > 1) return INVALID_ARGUMENT;
    if (!number_at(device->node, "ecc.enabled", 0)) return NOT_SUPPORTED;
    *out = number_at(device->node, paths[kind][counter], 0);
    return SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, unsigned cause, unsigned *count, bytes_t *out) {
    nvmlReturn_t result = enter_device(__func__, device);
    if (result) return result;
    if (!json_at(device->node, "retired_pages")) return NOT_SUPPORTED;
    struct json *pages = json_at(device->node, cause ? "retired_pages.double_bit" : "retired_pages.single_bit");
    unsigned room = *count;
    *count = json_count(pages);
    if (room < *count) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; out && i < *count; i++) out[i] = json_item(pages, i)->number;
    return SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned *corrected, unsigned *uncorrected,
                                              unsigned *pending, unsigned *failed) {
    nvmlReturn_t result = enter_device(__func__, device);
    if (!result) result = give_number(device->node, "remapped_rows.corrected", corrected);
    if (!result) result = give_number(device->node, "remapped_rows.uncorrected", uncorrected);
    if (!result) result = give_number(device->node, "remapped_rows.pending", pending);
    return result ? result : give_number(device->node, "remapped_rows.failed", failed);
}

/* ---- processes ------------------------------------------------------------------------------------------------ */

enum { COMPUTE = 1, GRAPHICS = 2 };

struct list {
    nvmlProcessInfo_t *items;
    unsigned count, room;
};

static void add(struct list *list, const struct handle *device, bytes_t pid, bytes_t used) {
    if (list->count == list->room) {
        unsigned room = list->room ? list->room * 2 : 64;
        nvmlProcessInfo_t *larger = realloc(list->items, room * sizeof *larger);
        if (!larger) return;
        list->items = larger;
        list->room = room;
    }
    unsigned gpu_instance = NO_INSTANCE, compute_instance = NO_INSTANCE;
    if (device->parent) {
        gpu_instance = (unsigned)number_at(device->node, "gpu_instance_id", 0);
        compute_instance = (unsigned)number_at(device->node, "compute_instance_id", 0);
    }
    list->items[list->count++] = (nvmlProcessInfo_t){(unsigned)pid, used, gpu_instance, compute_instance};
}

static void add_described(struct list *list, const struct handle *device, int kind) {
    struct json *processes = json_at(device->node, "processes");
    for (struct json *process = processes ? processes->first : NULL; process; process = process->next) {
        const char *type = text_at(process, "type");
        int graphics = type && strcmp(type, "graphics") == 0;
        if (kind & (graphics ? GRAPHICS : COMPUTE))
            add(list, device, number_at(process, "pid", 0), number_at(process, "used_bytes", NOT_AVAILABLE));
    }
}

/* Lines `<GPU index>[:<MIG index>] <bytes>` that a living process has written about itself. */
static void add_announced(struct list *list, const struct handle *device) {
    const char *folder = environment("SIMULATED_NVML_PROCESSES", "/run/simulated-nvml");
    DIR *directory = opendir(folder);
    struct dirent *entry;
    char path[4096], line[128], place[32], wanted[32];
    if (device->parent)
        snprintf(wanted, sizeof wanted, "%u:%u", device->parent->index, device->index);
    else
        snprintf(wanted, sizeof wanted, "%u", device->index);
    while (directory && (entry = readdir(directory))) {
        int pid = 0;
        char rest;
        if (sscanf(entry->d_name, "%d%c", &pid, &rest) != 1 || pid <= 0) continue;
        if (kill(pid, 0) != 0 && errno != EPERM) continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        FILE *file = fopen(path, "r");
        bytes_t used;
        while (file && fgets(line, sizeof line, file))
            if (sscanf(line, "%31s %llu", place, &used) == 2 && strcmp(place, wanted) == 0)
                add(list, device, (bytes_t)pid, used);
        if (file) fclose(file);
    }
    if (directory) closedir(directory);
}

/* A GPU lists the processes of its MIG instances too. */
static struct list processes(const struct handle *device, int kind) {
    struct list list = {NULL, 0, 0};
    add_described(&list, device, kind);
    if (kind & COMPUTE) add_announced(&list, device);
    for (unsigned i = library.gpus; i < library.count; i++) {
        if (library.handles[i].parent != device) continue;
        add_described(&list, library.handles + i, kind);
        if (kind & COMPUTE) add_announced(&list, library.handles + i);
    }
    return list;
}

static nvmlReturn_t give_processes(const char *function, nvmlDevice_t device, int kind, unsigned *count, void *out,
                                   size_t item_size) {
    nvmlReturn_t result = enter_device(function, device);
    if (result) return result;
    if (!count) return INVALID_ARGUMENT;
    struct list list = processes(device, kind);
    if (*count < list.count) result = INSUFFICIENT_SIZE;
    *count = list.count;
    for (unsigned i = 0; !result && i < list.count; i++) memcpy((char *)out + i * item_size, list.items + i, item_size);
    free(list.items);
    return result;
}

#define PROCESSES(symbol, kind, type)                                                    \
    EXPORT nvmlReturn_t symbol(nvmlDevice_t device, unsigned *count, type *out) {        \
        return give_processes(#symbol, device, kind, count, out, sizeof *out);           \
    }
PROCESSES(nvmlDeviceGetComputeRunningProcesses, COMPUTE, nvmlProcessInfo_v1_t)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, COMPUTE, nvmlProcessInfo_t)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, COMPUTE, nvmlProcessInfo_t)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, GRAPHICS, nvmlProcessInfo_v1_t)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, GRAPHICS, nvmlProcessInfo_t)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, GRAPHICS, nvmlProcessInfo_t)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, 0, nvmlProcessInfo_t)

EXPORT nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device, nvmlProcessDetailList_t *out) {
    nvmlReturn_t result = enter_device(__func__, device);
    if (result) return result;
    if (out->version != PROCESS_DETAIL_LIST_V1) return ARGUMENT_VERSION_MISMATCH;
    struct list list = processes(device, out->mode == 0 ? COMPUTE : out->mode == 1 ? GRAPHICS : COMPUTE | GRAPHICS);
    if (out->numProcArrayEntries < list.count) result = INSUFFICIENT_SIZE;
    out->numProcArrayEntries = list.count;
    for (unsigned i = 0; !result && i < list.count; i++)
        out->procArray[i] = (nvmlProcessDetail_v1_t){list.items[i], 0};
    free(list.items);
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, void *samples, unsigned *count, bytes_t since) {
    (void)samples;
    (void)since;
    nvmlReturn_t result = enter_device(__func__, device);
    if (!result) *count = 0;
    return result ? result : NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlSystemGetProcessName(unsigned pid, char *out, unsigned size) {
    char link[64], name[1024];
    nvmlReturn_t result = enter(__func__);
    if (result) return result;
    for (unsigned i = 0; i < library.count; i++) {
        struct json *list = json_at(library.handles[i].node, "processes");
        for (struct json *process = list ? list->first : NULL; process; process = process->next)
            if (number_at(process, "pid", 0) == pid && text_at(process, "name"))
                return give_text(text_at(process, "name"), out, size);
    }
    snprintf(link, sizeof link, "/proc/%u/exe", pid);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 0) return NOT_FOUND;
    name[length] = 0;
    return give_text(name, out, size);
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

/* What is held without a process that could be named, what the processes hold, and what the MIG instances hold. */
static bytes_t used_bytes(const struct handle *device) {
    bytes_t used = number_at(device->node, "memory.used_bytes", 0);
    for (unsigned i = library.gpus; i < library.count; i++)
        if (library.handles[i].parent == device) used += number_at(library.handles[i].node, "memory.used_bytes", 0);
    struct list list = processes(device, COMPUTE | GRAPHICS);
    for (unsigned i = 0; i < list.count; i++)
        if (list.items[i].usedGpuMemory != NOT_AVAILABLE) used += list.items[i].usedGpuMemory;
    free(list.items);
    return used;
}

static nvmlReturn_t measure(const char *function, nvmlDevice_t device, nvmlMemory_v2_t *out) {
    nvmlReturn_t result = enter_device(function, device);
    if (result) return result;
    if (!json_at(device->node, "memory")) return NOT_SUPPORTED;
    out->total = number_at(device->node, "memory.total_bytes", 0);
    out->reserved = number_at(device->node, "memory.reserved_bytes", 0);
    bytes_t room = out->total > out->reserved ? out->total - out->reserved : 0;
    out->used = used_bytes(device);
    if (out->used > room) out->used = room;
    out->free = room - out->used;
    return SUCCESS;
}

/* The first version knows no reserved memory and counts it as used. */
EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *out) {
    nvmlMemory_v2_t memory = {0, 0, 0, 0, 0};
    nvmlReturn_t result = measure(__func__, device, &memory);
    if (!result) *out = (nvmlMemory_t){memory.total, memory.free, memory.used + memory.reserved};
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *out) {
    if (out->version != MEMORY_V2) return ARGUMENT_VERSION_MISMATCH;
    return measure(__func__, device, out);
}

EXPORT nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlMemory_t *out) {
    nvmlReturn_t result = enter_device(__func__, device);
    if (result) return result;
    if (!json_at(device->node, "bar1_total_bytes")) return NOT_SUPPORTED;
    out->total = out->free = number_at(device->node, "bar1_total_bytes", 0);
    out->used = 0;
    return SUCCESS;
}
