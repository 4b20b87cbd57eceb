/* The clock that Python's own code reads, set back or forth by as many seconds as a file says, of all processes that
   load this before other libraries (LD_PRELOAD). XLATRAIN_FAULTS_CLOCK: the file, of one int64. What other libraries
   read stays as it is, since the kernel, for which they wait by that clock, is told nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const volatile long long none = 0, *seconds = &none;
static int (*real)(clockid_t, struct timespec *);

static void __attribute__((constructor)) begin(void)
{
    const char *path = getenv("XLATRAIN_FAULTS_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *found = mmap(NULL, sizeof *seconds, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED)
        seconds = found;
    close(file);
}

static int asked_by_python(void *caller)
{
    Dl_info info;
    if (!dladdr(caller, &info) || !info.dli_fname)
        return 0;
    const char *slash = strrchr(info.dli_fname, '/'), *name = slash ? slash + 1 : info.dli_fname;
    return !strncmp(name, "python", 6) || !strncmp(name, "libpython", 9);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (result == 0 && clock == CLOCK_REALTIME && *seconds && asked_by_python(__builtin_return_address(0)))
        time->tv_sec += *seconds;
    return result;
}
