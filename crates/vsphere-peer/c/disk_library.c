// A library that stands in for VMware's VDDK in tests: it serves the bytes of plain files, checks what it is told, and
// writes down how it was called. The plugin that loads it is the real one.
//
// Its script is the file `script` in the library directory, one order per line, read anew at every connection:
//   password TEXT        what a login has to bring
//   thumbprint TEXT      what a login has to expect of the server
//   disk PATH<tab>FILE   the file behind a path of a datastore
//   fail STEP TEXT       STEP is init, connect, open or read, which ends with this message
//   hang read            reads never end
//   hang connect         a login does not end before this order is taken back
//   slow close           a disk takes a second to close
//   no allocation        holes are not told
// Every call is appended to the file `calls` there.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK 0
#define ASYNC 25000
#define UNKNOWN 1
#define REFUSED 16000
#define SECTOR 512

typedef uint64_t Error;
typedef void LogFunction(const char *format, va_list arguments);
typedef void Completion(void *data, Error result);

// What the plugin fills in to log in; the layout is that of the library that this one stands in for.
struct connect_params {
    char *vm;
    char *server;
    char *thumbprint;
    long reserved1;
    int credential_kind;
    union {
        struct { char *user, *password; } account;
        struct { char *cookie, *user, *key; } session;
    } credential;
    uint32_t port, nfc_port;
    char *reserved2;
    char reserved3[8];
    void *reserved4;
    struct { char *id, *store, *snapshot; } object;
    int object_kind;
};

struct geometry { uint32_t cylinders, heads, sectors; };

struct info {
    struct geometry bios, physical;
    uint64_t capacity;
    int adapter, links;
    char *parent, *uuid;
    uint32_t logical_sector, physical_sector;
};

struct block { uint64_t offset, length; };
struct block_list { uint32_t count; struct block blocks[1]; };

struct disk { int file; };

static char directory[4096];
static char message[1024];

static void record(const char *format, ...) {
    char path[4200], line[2048];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length < 0 || length > (int)sizeof line - 2) return;
    line[length] = '\n';
    snprintf(path, sizeof path, "%s/calls", directory);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0) return;
    if (write(file, line, length + 1) < 0) perror("calls");
    close(file);
}

// The rest of the first line of the script that begins with `order`.
static int ordered(const char *order, char *value, size_t size) {
    char path[4200], line[4096];
    snprintf(path, sizeof path, "%s/script", directory);
    FILE *script = fopen(path, "r");
    int found = 0;
    while (script && !found && fgets(line, sizeof line, script)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, order, strlen(order)) == 0) {
            snprintf(value, size, "%s", line + strlen(order));
            found = 1;
        }
    }
    if (script) fclose(script);
    return found;
}

static Error failed(const char *step) {
    char order[64];
    snprintf(order, sizeof order, "fail %s ", step);
    return ordered(order, message, sizeof message) ? REFUSED : OK;
}

static Error refused(const char *text) {
    snprintf(message, sizeof message, "%s", text);
    return REFUSED;
}

static const char *shown(const char *text) { return text ? text : "-"; }

Error VixDiskLib_InitEx(uint32_t major, uint32_t minor, LogFunction *log, LogFunction *warn, LogFunction *panic, const char *library, const char *config) {
    (void)log, (void)warn, (void)panic, (void)config;
    snprintf(directory, sizeof directory, "%s", library);
    record("init %u.%u", major, minor);
    return failed("init");
}

void VixDiskLib_Exit(void) { record("exit"); }

char *VixDiskLib_GetErrorText(Error error, const char *locale) {
    (void)error, (void)locale;
    return strdup(message);
}

void VixDiskLib_FreeErrorText(char *text) { free(text); }
struct connect_params *VixDiskLib_AllocateConnectParams(void) { return calloc(1, sizeof(struct connect_params)); }
void VixDiskLib_FreeConnectParams(struct connect_params *params) { free(params); }

Error VixDiskLib_ConnectEx(const struct connect_params *params, char read_only, const char *snapshot, const char *transports, void **connection) {
    char wanted[1024];
    // The password is compared and never written down.
    record("connect server=%s port=%u user=%s vm=%s thumbprint=%s snapshot=%s transports=%s read_only=%d", shown(params->server), params->port, shown(params->credential.account.user), shown(params->vm), shown(params->thumbprint), shown(snapshot), shown(transports), read_only);
    while (ordered("hang connect", wanted, sizeof wanted)) usleep(20000);
    if (failed("connect")) return REFUSED;
    if (ordered("thumbprint ", wanted, sizeof wanted) && strcmp(wanted, shown(params->thumbprint)) != 0) {
        // Nothing more is said of a wrong one.
        refused("Unknown error");
        return UNKNOWN;
    }
    if (ordered("password ", wanted, sizeof wanted) && strcmp(wanted, shown(params->credential.account.password)) != 0) return refused("Insufficient permissions in the host operating system");
    *connection = strdup("connection");
    return OK;
}

Error VixDiskLib_Disconnect(void *connection) {
    record("disconnect");
    free(connection);
    return OK;
}

Error VixDiskLib_Open(void *connection, const char *path, uint32_t flags, void **handle) {
    (void)connection;
    char order[2048], file[4096];
    record("open %s flags=%u", path, flags);
    if (failed("open")) return REFUSED;
    snprintf(order, sizeof order, "disk %s\t", path);
    if (!ordered(order, file, sizeof file)) return refused("The file specified is not a virtual disk");
    struct disk *disk = calloc(1, sizeof *disk);
    disk->file = open(file, O_RDONLY);
    if (disk->file < 0) {
        free(disk);
        return refused("A file was not found");
    }
    *handle = disk;
    return OK;
}

Error VixDiskLib_Close(void *handle) {
    struct disk *disk = handle;
    char how[8];
    record("close");
    if (ordered("slow close", how, sizeof how)) usleep(1000000);
    close(disk->file);
    free(disk);
    return OK;
}

const char *VixDiskLib_GetTransportMode(void *handle) { (void)handle; return "nbdssl"; }
const char *VixDiskLib_ListTransportModes(void) { return "file:nbdssl:nbd"; }

Error VixDiskLib_GetInfo(void *handle, struct info **answer) {
    struct disk *disk = handle;
    struct stat about;
    if (fstat(disk->file, &about) != 0) return refused("A file access error occurred");
    struct info *info = calloc(1, sizeof *info);
    info->capacity = (uint64_t)about.st_size / SECTOR;
    info->links = 1;
    info->logical_sector = info->physical_sector = SECTOR;
    *answer = info;
    return OK;
}

void VixDiskLib_FreeInfo(struct info *info) { free(info); }

Error VixDiskLib_Read(void *handle, uint64_t sector, uint64_t count, unsigned char *buffer) {
    struct disk *disk = handle;
    size_t length = count * SECTOR, done = 0;
    if (failed("read")) return REFUSED;
    while (done < length) {
        ssize_t got = pread(disk->file, buffer + done, length - done, (off_t)(sector * SECTOR + done));
        if (got <= 0) return refused("A file access error occurred");
        done += (size_t)got;
    }
    return OK;
}

Error VixDiskLib_ReadAsync(void *handle, uint64_t sector, uint64_t count, unsigned char *buffer, Completion *completion, void *data) {
    char how[64];
    record("read %llu+%llu", (unsigned long long)sector, (unsigned long long)count);
    if (ordered("hang read", how, sizeof how)) return ASYNC;
    completion(data, VixDiskLib_Read(handle, sector, count, buffer));
    return ASYNC;
}

Error VixDiskLib_Wait(void *handle) { (void)handle; return OK; }

// Nothing is ever written, whatever is asked.
Error VixDiskLib_Write(void *handle, uint64_t sector, uint64_t count, const unsigned char *buffer) {
    (void)handle, (void)sector, (void)count, (void)buffer;
    return refused("The disk is read-only");
}
Error VixDiskLib_WriteAsync(void *handle, uint64_t sector, uint64_t count, const unsigned char *buffer, Completion *completion, void *data) {
    (void)completion, (void)data;
    return VixDiskLib_Write(handle, sector, count, buffer);
}
Error VixDiskLib_Flush(void *handle) { (void)handle; return OK; }
Error VixDiskLib_Create(void *connection, const char *path, const void *params, void *progress, void *data) {
    (void)connection, (void)path, (void)params, (void)progress, (void)data;
    return refused("Nothing is made here");
}

// The chunks that hold data, as the file system under the file knows them.
Error VixDiskLib_QueryAllocatedBlocks(void *handle, uint64_t start, uint64_t count, uint64_t chunk, struct block_list **answer) {
    struct disk *disk = handle;
    char how[64];
    record("allocated %llu+%llu", (unsigned long long)start, (unsigned long long)count);
    if (ordered("no allocation", how, sizeof how)) return refused("The operation is not supported");
    struct stat about;
    if (fstat(disk->file, &about) != 0) return refused("A file access error occurred");
    if ((start + count) * SECTOR > (uint64_t)about.st_size) return refused("One of the parameters was invalid");
    size_t most = (size_t)(count / chunk) + 1;
    struct block_list *list = calloc(1, sizeof *list + most * sizeof(struct block));
    for (uint64_t at = start; at < start + count; at += chunk) {
        off_t data = lseek(disk->file, (off_t)(at * SECTOR), SEEK_DATA);
        if (data < 0 || (uint64_t)data >= (at + chunk) * SECTOR) continue;
        list->blocks[list->count++] = (struct block){at, chunk};
    }
    *answer = list;
    return OK;
}

Error VixDiskLib_FreeBlockList(struct block_list *list) { free(list); return OK; }
