/* Stands in for libnvidia-ml.so.1 where there is no GPU: NVML's own calling interface, its answers read at each call
   from the file that NVML_STUB names. A line is DEVICE.KEY=NUMBER, or =TEXT; what isn't in it is not supported. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, TIMEOUT = 10, LOST = 15 };
enum { DEVICES = 4, EVENT_SET = 1 };

typedef struct { int number; } device_t;
static device_t devices[DEVICES] = {{0}, {1}, {2}, {3}};
static int registered[DEVICES], delivered[DEVICES];
static int event_set = EVENT_SET;

static int text(int device, const char *key, char *value, size_t size) {
    const char *path = getenv("NVML_STUB");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256], wanted[64];
    int found = NOT_SUPPORTED;
    snprintf(wanted, sizeof wanted, "%d.%s=", device, key);
    while (file && found != SUCCESS && fgets(line, sizeof line, file)) {
        if (strncmp(line, wanted, strlen(wanted)) == 0) {
            line[strcspn(line, "\n")] = 0;
            snprintf(value, size, "%s", line + strlen(wanted));
            found = SUCCESS;
        }
    }
    if (file) fclose(file);
    return found;
}

static int number(device_t *device, const char *key, unsigned long long *value) {
    char found[128];
    if (text(device->number, "lost", found, sizeof found) == SUCCESS) return LOST;
    int code = text(device->number, key, found, sizeof found);
    if (code == SUCCESS) *value = strtoull(found, NULL, 10);
    return code;
}

static int small(device_t *device, const char *key, unsigned *value) {
    unsigned long long wide = 0;
    int code = number(device, key, &wide);
    *value = (unsigned)wide;
    return code;
}

int nvmlInitWithFlags(unsigned flags) { return getenv("NVML_STUB") ? SUCCESS : DRIVER_NOT_LOADED; }
const char *nvmlErrorString(int code) { return code == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "an error"; }

int nvmlDeviceGetHandleByUUID(const char *uuid, device_t **handle) {
    char known[128];
    for (int i = 0; i < DEVICES; i++) {
        if (text(i, "uuid", known, sizeof known) == SUCCESS && strcmp(known, uuid) == 0) {
            *handle = &devices[i];
            return text(i, "lost", known, sizeof known) == SUCCESS ? LOST : SUCCESS;
        }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetName(device_t *d, char *name, unsigned size) { return text(d->number, "name", name, size); }
int nvmlDeviceGetUUID(device_t *d, char *uuid, unsigned size) { return text(d->number, "uuid", uuid, size); }

typedef struct { unsigned gpu, memory; } rates_t;
int nvmlDeviceGetUtilizationRates(device_t *d, rates_t *rates) {
    rates->memory = 0;
    return small(d, "utilisation", &rates->gpu);
}

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_t;
int nvmlDeviceGetMemoryInfo_v2(device_t *d, memory_t *m) {
    int code = number(d, "memory_used", &m->used);
    if (number(d, "memory_total", &m->total) != SUCCESS) m->total = 1ULL << 40;
    m->free = m->total - m->used;
    return code;
}

int nvmlDeviceGetPowerUsage(device_t *d, unsigned *milliwatts) { return small(d, "power", milliwatts); }
int nvmlDeviceGetTemperature(device_t *d, int sensor, unsigned *celsius) { return small(d, "temperature", celsius); }
int nvmlDeviceGetClockInfo(device_t *d, int kind, unsigned *mhz) { return small(d, kind == 1 ? "sm_clock" : "memory_clock", mhz); }
int nvmlDeviceGetCurrentClocksThrottleReasons(device_t *d, unsigned long long *bits) { return number(d, "throttle", bits); }
int nvmlDeviceGetTotalEnergyConsumption(device_t *d, unsigned long long *millijoules) { return number(d, "energy", millijoules); }
int nvmlDeviceGetRetiredPagesPendingStatus(device_t *d, unsigned *pending) { return small(d, "retirement_pending", pending); }

int nvmlDeviceGetTotalEccErrors(device_t *d, int kind, int counter, unsigned long long *count) {
    return counter == 0 ? number(d, kind == 1 ? "ecc_uncorrected" : "ecc_corrected", count) : NOT_SUPPORTED;
}

int nvmlDeviceGetRemappedRows(device_t *d, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    int first = small(d, "remap_pending", pending), second = small(d, "remap_failed", failed);
    *corrected = *uncorrected = 0;
    return first == SUCCESS || second == SUCCESS ? SUCCESS : NOT_SUPPORTED;
}

typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } process_t;

static int process(device_t *d, const char *key, const char *memory, unsigned *count, process_t *found) {
    unsigned long long pid, used;
    int code = number(d, key, &pid);
    if (code == NOT_SUPPORTED) { *count = 0; return SUCCESS; }
    if (code != SUCCESS) return code;
    if (number(d, memory, &used) != SUCCESS) used = ~0ULL;
    if (*count < 1) { *count = 1; return INSUFFICIENT_SIZE; }
    found[0] = (process_t){(unsigned)pid, used, 0, 0};
    *count = 1;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device_t *d, unsigned *count, process_t *found) {
    return process(d, "process", "process_memory", count, found);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(device_t *d, unsigned *count, process_t *found) {
    return process(d, "desktop", "desktop_memory", count, found);
}

/* XID errors: of xids=N each is told once, as number xid */
int nvmlDeviceGetSupportedEventTypes(device_t *d, unsigned long long *types) { return number(d, "events", types); }
int nvmlEventSetCreate(int **set) { *set = &event_set; memset(registered, 0, sizeof registered); memset(delivered, 0, sizeof delivered); return SUCCESS; }
int nvmlDeviceRegisterEvents(device_t *d, unsigned long long types, int *set) { registered[d->number] = types == 8; return SUCCESS; }

typedef struct { device_t *device; unsigned long long type, data; unsigned instance, compute; } event_t;
int nvmlEventSetWait_v2(int *set, event_t *event, unsigned wait) {
    for (int i = 0; i < DEVICES; i++) {
        unsigned long long count = 0, xid = 0;
        if (!registered[i] || number(&devices[i], "xids", &count) != SUCCESS || delivered[i] >= (int)count) continue;
        number(&devices[i], "xid", &xid);
        delivered[i]++;
        event->device = &devices[i];
        event->type = 8;
        event->data = xid;
        return SUCCESS;
    }
    return TIMEOUT;
}
