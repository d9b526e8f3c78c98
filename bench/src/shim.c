/* Delays and counts flushes. Preloaded into the gateway, whose SQLite calls these two through the C library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic unsigned long *count;
static unsigned delay_us;
static int (*next_fsync)(int);
static int (*next_fdatasync)(int);

__attribute__((constructor)) static void begin(void) {
    const char *delay = getenv("BENCH_FLUSH_DELAY_US");
    const char *counted = getenv("BENCH_FLUSH_COUNT");
    delay_us = delay ? (unsigned)atoi(delay) : 0;
    next_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    next_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    int file = counted ? open(counted, O_RDWR) : -1;
    if (file >= 0) {
        void *mapped = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED) count = mapped;
        close(file);
    }
}

static void flushed(void) {
    if (count) atomic_fetch_add(count, 1);
    if (delay_us) usleep(delay_us);
}

int fsync(int file) {
    flushed();
    return next_fsync(file);
}

int fdatasync(int file) {
    flushed();
    return next_fdatasync(file);
}
