/* A libnvidia-ml.so.1 without a GPU: answers from the lines `key=value` of the file that NVML_STUB names.
 *
 * Keys are `driver`, `cuda`, `hang`, and `<index>.<field>` of each device; `<index>.parent` makes a device a MIG
 * instance. A field that is absent is NOT_SUPPORTED. Built with -DOLD_DRIVER it lacks the newer functions. Lines
 * `held PID UUID BYTES` of a file beside it, `.held`, are what processes have of a device's free memory while they
 * live; the last one of a process counts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int Return;
enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, TIMEOUT = 10, LOST = 15 };
enum { MAX_LINES = 2048, MAX_DEVICES = 64, RECOVERY_FIELD = 230 };

typedef struct { int index; } *Device;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } Process;
typedef struct { unsigned field, scope; long long time, latency; unsigned type; Return result; union { unsigned u; double d; long long l; } value; } Field;
typedef struct { Device device; unsigned long long type, data; unsigned gi, ci; } Event;
typedef struct { unsigned gpu, memory; } Utilization;

typedef struct { int count; char lines[MAX_LINES][256]; } Table;
static Table *table; /* swapped whole at each init, for threads that are still reading the old one */
static struct { int index; } devices[MAX_DEVICES];

static const char *get(const char *key) {
    size_t length = strlen(key);
    const Table *now = table;
    for (int i = 0; now && i < now->count; i++)
        if (!strncmp(now->lines[i], key, length) && now->lines[i][length] == '=') return now->lines[i] + length + 1;
    return NULL;
}

static const char *field(Device device, const char *name) {
    char key[64];
    snprintf(key, sizeof key, "%d.%s", device->index, name);
    return get(key);
}

static Return text(Device device, const char *name, char *out, unsigned size) {
    if (field(device, "lost") && strcmp(name, "uuid")) return LOST;
    const char *value = field(device, name);
    if (!value) return NOT_SUPPORTED;
    snprintf(out, size, "%s", value);
    return OK;
}

static Return number(Device device, const char *name, unsigned long long *out) {
    if (field(device, "lost")) return LOST;
    const char *value = field(device, name);
    if (!value) return NOT_SUPPORTED;
    *out = strtoull(value, NULL, 10);
    return OK;
}

static Return small(Device device, const char *name, unsigned *out) {
    unsigned long long value = 0;
    Return result = number(device, name, &value);
    if (result == OK) *out = (unsigned)value;
    return result;
}

static void read_lines(Table *into, const char *path) {
    FILE *file = fopen(path, "r");
    while (file && into->count < MAX_LINES && fgets(into->lines[into->count], sizeof into->lines[0], file)) {
        char *line = into->lines[into->count++];
        line[strcspn(line, "\n")] = 0;
    }
    if (file) fclose(file);
}

static int lives(int pid) {
    char path[64], state = 'Z';
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (file && fscanf(file, "%*d (%*[^)]) %c", &state) != 1) state = 'Z';
    if (file) fclose(file);
    return state != 'Z' && state != 'X';
}

static unsigned long long held(Device device) {
    unsigned long long sum = 0, bytes;
    int seen[MAX_LINES], count = 0, pid;
    char whose[96];
    const char *uuid = field(device, "uuid");
    const Table *now = table;
    for (int i = now->count - 1; uuid && i >= 0; i--) {
        if (sscanf(now->lines[i], "held %d %95s %llu", &pid, whose, &bytes) != 3 || strcmp(whose, uuid)) continue;
        int known = 0;
        for (int j = 0; j < count; j++) known |= seen[j] == pid;
        if (!known && lives(pid)) sum += bytes;
        seen[count++] = pid;
    }
    return sum;
}

static Return left(Device device, unsigned long long *out) {
    Return result = number(device, "free", out);
    if (result == OK) *out -= held(device) < *out ? held(device) : *out;
    return result;
}

Return nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    const char *path = getenv("NVML_STUB");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return 9; /* DRIVER_NOT_LOADED */
    fclose(file);
    Table *read = calloc(1, sizeof *read);
    char beside[512];
    snprintf(beside, sizeof beside, "%s.held", path);
    read_lines(read, path);
    read_lines(read, beside);
    for (int i = 0; i < MAX_DEVICES; i++) devices[i].index = i;
    table = read;
    if (get("hang")) sleep(600);
    return OK;
}
Return nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
Return nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(Return code) { return code == LOST ? "GPU is lost" : code == 9 ? "Driver Not Loaded" : "stub error"; }

Return nvmlSystemGetDriverVersion(char *out, unsigned size) {
    const char *value = get("driver");
    if (!value) return NOT_SUPPORTED;
    snprintf(out, size, "%s", value);
    return OK;
}
Return nvmlSystemGetCudaDriverVersion_v2(int *out) {
    const char *value = get("cuda");
    if (!value) return NOT_SUPPORTED;
    *out = atoi(value);
    return OK;
}

static int is_physical(int index) {
    char key[64];
    snprintf(key, sizeof key, "%d.uuid", index);
    if (!get(key)) return 0;
    snprintf(key, sizeof key, "%d.parent", index);
    return !get(key);
}
Return nvmlDeviceGetCount_v2(unsigned *out) {
    *out = 0;
    for (int i = 0; i < MAX_DEVICES; i++) *out += is_physical(i);
    return OK;
}
Return nvmlDeviceGetHandleByIndex_v2(unsigned wanted, Device *out) {
    for (int i = 0; i < MAX_DEVICES; i++)
        if (is_physical(i) && wanted-- == 0) {
            *out = (Device)&devices[i];
            return OK;
        }
    return NOT_FOUND;
}

Return nvmlDeviceGetUUID(Device d, char *out, unsigned size) { return text(d, "uuid", out, size); }
Return nvmlDeviceGetName(Device d, char *out, unsigned size) { return text(d, "name", out, size); }
Return nvmlDeviceGetCudaComputeCapability(Device d, int *major, int *minor) {
    char value[16];
    Return result = text(d, "capability", value, sizeof value);
    if (result == OK) sscanf(value, "%d.%d", major, minor);
    return result;
}
Return nvmlDeviceGetMemoryInfo(Device d, Memory *out) {
    Return result = number(d, "total", &out->total);
    return result == OK ? left(d, &out->free) : result;
}
Return nvmlDeviceGetPciInfo_v3(Device d, Pci *out) {
    memset(out, 0, sizeof *out);
    return text(d, "bus", out->bus_id, sizeof out->bus_id);
}
Return nvmlDeviceGetComputeMode(Device d, unsigned *out) { return small(d, "mode", out); }
Return nvmlDeviceGetMigMode(Device d, unsigned *current, unsigned *pending) {
    Return result = small(d, "mig", current);
    *pending = *current;
    return result;
}
Return nvmlDeviceGetMaxMigDeviceCount(Device d, unsigned *out) { (void)d; *out = 7; return OK; }
Return nvmlDeviceGetMigDeviceHandleByIndex(Device d, unsigned wanted, Device *out) {
    for (int i = 0; i < MAX_DEVICES; i++) {
        const char *parent = field((Device)&devices[i], "parent");
        if (parent && atoi(parent) == d->index && wanted-- == 0) {
            *out = (Device)&devices[i];
            return OK;
        }
    }
    return NOT_FOUND;
}
Return nvmlDeviceGetEccMode(Device d, unsigned *current, unsigned *pending) {
    Return result = small(d, "ecc", current);
    *pending = *current;
    return result;
}
Return nvmlDeviceGetTotalEccErrors(Device d, int type, int counter, unsigned long long *out) {
    (void)type, (void)counter;
    return number(d, "ecc_uncorrected", out);
}
Return nvmlDeviceGetRemappedRows(Device d, unsigned *a, unsigned *b, unsigned *pending, unsigned *failure) {
    *a = *b = 0;
    Return result = small(d, "rows_pending", pending);
    return result == OK ? small(d, "rows_failure", failure) : result;
}
Return nvmlDeviceGetRetiredPagesPendingStatus(Device d, unsigned *out) { return small(d, "pages_pending", out); }
Return nvmlDeviceGetP2PStatus(Device a, Device b, int index, unsigned *out) {
    char key[32];
    (void)index;
    snprintf(key, sizeof key, "link%d", b->index);
    if (field(a, "lost")) return LOST;
    *out = field(a, key) ? 0 : 6; /* P2P_STATUS_OK, or NOT_SUPPORTED */
    return OK;
}
static Return processes(Device d, const char *name, unsigned *size, Process *out) {
    unsigned long long pid = 0, used = 0;
    if (number(d, name, &pid) != OK) {
        *size = 0;
        return field(d, "no_processes") ? NOT_SUPPORTED : OK;
    }
    if (!out || *size < 1) {
        *size = 1;
        return INSUFFICIENT_SIZE;
    }
    number(d, "used", &used);
    *size = 1;
    out[0] = (Process){(unsigned)pid, used, 0, 0};
    return OK;
}
Return nvmlDeviceGetComputeRunningProcesses_v3(Device d, unsigned *size, Process *out) { return processes(d, "pid", size, out); }
Return nvmlDeviceGetMPSComputeRunningProcesses_v3(Device d, unsigned *size, Process *out) { return processes(d, "mps_pid", size, out); }
Return nvmlDeviceGetUtilizationRates(Device d, Utilization *out) { out->memory = 0; return small(d, "busy", &out->gpu); }
Return nvmlDeviceGetTemperature(Device d, int sensor, unsigned *out) { (void)sensor; return small(d, "temperature", out); }
Return nvmlDeviceGetPowerUsage(Device d, unsigned *out) { return small(d, "power", out); }

Return nvmlEventSetCreate(void **out) { *out = devices; return OK; }
Return nvmlEventSetFree(void *set) { (void)set; return OK; }
Return nvmlDeviceRegisterEvents(Device d, unsigned long long types, void *set) { (void)d, (void)types, (void)set; return OK; }
Return nvmlEventSetWait_v2(void *set, Event *out, unsigned timeout_ms) {
    static unsigned long long told[MAX_DEVICES];
    (void)set;
    for (int i = 0; i < MAX_DEVICES; i++) {
        unsigned long long xid = 0, before = told[i];
        if (!is_physical(i)) continue;
        told[i] = number((Device)&devices[i], "xid", &xid) == OK ? xid : 0;
        if (told[i] && told[i] != before) {
            *out = (Event){(Device)&devices[i], 8, xid, 0, 0};
            return OK;
        }
    }
    usleep(timeout_ms * 1000);
    return TIMEOUT;
}

#ifndef OLD_DRIVER
Return nvmlDeviceGetMemoryInfo_v2(Device d, MemoryV2 *out) {
    Return result = number(d, "total", &out->total);
    if (result != OK) return result;
    number(d, "reserved", &out->reserved);
    return left(d, &out->free);
}
Return nvmlDeviceGetNumaNodeId(Device d, unsigned *out) { return small(d, "numa", out); }
Return nvmlDeviceGetFieldValues(Device d, int size, Field *values) {
    for (int i = 0; i < size; i++) {
        values[i].result = values[i].field == RECOVERY_FIELD ? small(d, "recovery", &values[i].value.u) : NOT_SUPPORTED;
    }
    return OK;
}
#endif
