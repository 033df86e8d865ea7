/* A stand-in for NVIDIA's libnvidia-ml: the functions and struct layouts that pynvml calls, fed from a text file.
 *
 * The file named by FAKE_NVML_STATE is read again on every call, so a test changes a reading by rewriting it:
 *   init_error CODE | memory_error CODE | processes_error CODE | memory_v2 0|1
 *   card PCI_ID UUID TOTAL USED RESERVED          (one line a card, in the order of PCI ids)
 *   process CARD_INDEX PID BYTES                  (BYTES -1: the driver does not tell, as under WDDM)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { char pci[32], uuid[96]; unsigned long long total, used, reserved; } Card;
typedef struct { int card; unsigned pid; long long bytes; } Process;
typedef struct {
    int init_error, memory_error, processes_error, memory_v2, cards, processes;
    Card card[8];
    Process process[16];
} State;

typedef struct { unsigned long long total, free, used; } MemoryV1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } ProcessInfo;
typedef struct { char bus_id_legacy[16]; unsigned domain, bus, device, pci_device, pci_subsystem; char bus_id[32]; } PciInfo;

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, FUNCTION_NOT_FOUND = 13 };

static int sessions = 0;

static State read_state(void) {
    State s = {.memory_v2 = 1};
    char line[256];
    FILE *file = fopen(getenv("FAKE_NVML_STATE"), "r");
    while (file && fgets(line, sizeof line, file)) {
        Card c;
        Process p;
        sscanf(line, "init_error %d", &s.init_error);
        sscanf(line, "memory_error %d", &s.memory_error);
        sscanf(line, "processes_error %d", &s.processes_error);
        sscanf(line, "memory_v2 %d", &s.memory_v2);
        if (sscanf(line, "card %31s %95s %llu %llu %llu", c.pci, c.uuid, &c.total, &c.used, &c.reserved) == 5) s.card[s.cards++] = c;
        if (sscanf(line, "process %d %u %lld", &p.card, &p.pid, &p.bytes) == 3) s.process[s.processes++] = p;
    }
    if (file) fclose(file);
    return s;
}

/* A handle is the card's index plus one, so that NULL stays invalid. */
static int index_of(void *handle) { return (int)(size_t)handle - 1; }
static void *handle_of(int index) { return (void *)(size_t)(index + 1); }

int nvmlInitWithFlags(unsigned flags) {
    int error = read_state().init_error;
    sessions += error == OK;
    return error;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return sessions > 0 ? (sessions--, OK) : UNINITIALIZED; }
int fake_open_sessions(void) { return sessions; }

const char *nvmlErrorString(int code) {
    static char text[32];
    snprintf(text, sizeof text, "fake error %d", code);
    return text;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    if (!sessions) return UNINITIALIZED;
    *count = (unsigned)read_state().cards;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (!sessions) return UNINITIALIZED;
    if ((int)index >= read_state().cards) return INVALID_ARGUMENT;
    *handle = handle_of((int)index);
    return OK;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **handle) {
    State s = read_state();
    if (!sessions) return UNINITIALIZED;
    for (int i = 0; i < s.cards; i++)
        if (strcmp(s.card[i].pci, pci) == 0) return *handle = handle_of(i), OK;
    return NOT_FOUND;
}

int nvmlDeviceGetName(void *handle, char *name, unsigned length) {
    snprintf(name, length, "Fake RTX %d", index_of(handle));
    return OK;
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned length) {
    snprintf(uuid, length, "%s", read_state().card[index_of(handle)].uuid);
    return OK;
}

int nvmlDeviceGetPciInfo_v3(void *handle, PciInfo *info) {
    memset(info, 0, sizeof *info);
    snprintf(info->bus_id, sizeof info->bus_id, "%s", read_state().card[index_of(handle)].pci);
    return OK;
}

int nvmlDeviceGetMemoryInfo(void *handle, MemoryV1 *memory) {
    State s = read_state();
    Card c = s.card[index_of(handle)];
    if (s.memory_error) return s.memory_error;
    *memory = (MemoryV1){c.total, c.total - c.used - c.reserved, c.used + c.reserved};
    return OK;
}

int nvmlDeviceGetMemoryInfo_v2(void *handle, MemoryV2 *memory) {
    State s = read_state();
    Card c = s.card[index_of(handle)];
    if (!s.memory_v2) return FUNCTION_NOT_FOUND;
    if (s.memory_error) return s.memory_error;
    if (memory->version != (sizeof *memory | 2u << 24)) return INVALID_ARGUMENT;
    *memory = (MemoryV2){memory->version, c.total, c.reserved, c.total - c.used - c.reserved, c.used};
    return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, ProcessInfo *list) {
    State s = read_state();
    unsigned found = 0, room = *count;
    if (s.processes_error) return s.processes_error;
    for (int i = 0; i < s.processes; i++) {
        if (s.process[i].card != index_of(handle)) continue;
        if (list && found < room)
            list[found] = (ProcessInfo){s.process[i].pid, (unsigned long long)s.process[i].bytes, 0, 0};
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : OK;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, ProcessInfo *list) {
    (void)handle, (void)list;
    *count = 0;
    return OK;
}
