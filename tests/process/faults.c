/* Lets writes or flushes of chosen files fail, and sets the wall clock. Preloaded into the gateway, whose SQLite and whose
 * standard library call these through the C library.
 *
 * While the file named by FAULT_CONTROL exists, it says what fails: "OPERATION ERRNO SUFFIX [once]", such as
 * "write 28 -wal". OPERATION is `write` or `flush`; SUFFIX is how the path of the file ends; with `once` the first failure
 * removes the control file.
 *
 * The file named by FAULT_CLOCK holds a 64-bit integer: the seconds by which the wall clock is ahead. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static const char *control;
static ssize_t (*next_write)(int, const void *, size_t);
static ssize_t (*next_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*next_pwrite64)(int, const void *, size_t, off64_t);
static int (*next_fsync)(int);
static int (*next_fdatasync)(int);
static int (*next_clock_gettime)(clockid_t, struct timespec *);
/* Mapped, since the clock is read far more often than files are written. */
static volatile const int64_t *ahead;

__attribute__((constructor)) static void begin(void) {
    control = getenv("FAULT_CONTROL");
    next_write = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    next_pwrite = (ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    next_pwrite64 = (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    next_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    next_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    next_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *clock = getenv("FAULT_CLOCK");
    int opened = clock ? open(clock, O_RDONLY | O_CLOEXEC) : -1;
    if (opened < 0) return;
    void *mapped = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, opened, 0);
    close(opened);
    if (mapped != MAP_FAILED) ahead = mapped;
}

/* The error that this operation on this file fails with, or 0. */
static int fault(int file, const char *operation) {
    char text[128], wanted[16], suffix[64], once[16] = "", link[64], path[4096];
    int number = 0;
    int opened = control ? open(control, O_RDONLY | O_CLOEXEC) : -1;
    if (opened < 0) return 0;
    ssize_t length = read(opened, text, sizeof text - 1);
    close(opened);
    if (length <= 0) return 0;
    text[length] = 0;
    if (sscanf(text, "%15s %d %63s %15s", wanted, &number, suffix, once) < 3 || strcmp(wanted, operation)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    size_t end = strlen(suffix);
    if ((size_t)length < end || strcmp(path + length - end, suffix)) return 0;
    if (!strcmp(once, "once")) unlink(control);
    return number;
}

#define FAIL_OR(operation, call)               \
    do {                                       \
        int number = fault(file, operation);   \
        if (number) {                          \
            errno = number;                    \
            return -1;                         \
        }                                      \
        return call;                           \
    } while (0)

ssize_t write(int file, const void *bytes, size_t count) { FAIL_OR("write", next_write(file, bytes, count)); }

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
    FAIL_OR("write", next_pwrite(file, bytes, count, at));
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
    FAIL_OR("write", next_pwrite64(file, bytes, count, at));
}

int fsync(int file) { FAIL_OR("flush", next_fsync(file)); }

int fdatasync(int file) { FAIL_OR("flush", next_fdatasync(file)); }

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!next_clock_gettime) begin();
    int done = next_clock_gettime(clock, time);
    if (!done && ahead && clock == CLOCK_REALTIME) time->tv_sec += *ahead;
    return done;
}
