/* Faults at the system-call boundary: preloaded into a process, it fails, shortens or kills one chosen call.

   What is disturbed stands in the environment, read at start and again by faults_load():
     FAULT_CALLS    names of calls, each between commas: ",pread,read,"
     FAULT_PATH     only calls on a path that begins with this (of several paths: any of them)
     FAULT_AT       the number of the matching call that is disturbed, from 1; 0: every one
     FAULT_LASTING  if set, every later one too
     FAULT_ACTION   error (with FAULT_ERRNO), short, kill-before, kill-after, full (statvfs: no room),
                    or before the call, to FAULT_TARGET: shrink, grow, change (a byte at FAULT_OFFSET), vanish
                   (a file or a folder; what it was is beside it then, as ".gone")
     FAULT_REPORT   a file to which a line is added for every call disturbed

   A variant of a call (pread64, openat, linkat ...) goes by the plain name of the call.  */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* The names with 64 and without are distinct symbols here: neither may be an alias made by the headers. */
#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

enum action { NONE, ERROR, SHORT, KILL_BEFORE, KILL_AFTER, FULL, SHRINK, GROW, CHANGE, VANISH };

static const char *const ACTIONS[] = {"none", "error", "short", "kill-before", "kill-after", "full",
                                      "shrink", "grow", "change", "vanish"};

static char calls[512], prefix[PATH_MAX], target[PATH_MAX], report[PATH_MAX];
static long at, offset, seen;
static int number, lasting;
static enum action wanted;

static void copy_setting(char *to, size_t size, const char *name) {
    const char *value = getenv(name);
    snprintf(to, size, "%s", value ? value : "");
}

static long number_setting(const char *name) {
    const char *value = getenv(name);
    return value ? atol(value) : 0;
}

__attribute__((constructor)) void faults_load(void) {
    copy_setting(calls, sizeof calls, "FAULT_CALLS");
    copy_setting(prefix, sizeof prefix, "FAULT_PATH");
    copy_setting(target, sizeof target, "FAULT_TARGET");
    copy_setting(report, sizeof report, "FAULT_REPORT");
    at = number_setting("FAULT_AT");
    offset = number_setting("FAULT_OFFSET");
    number = (int)number_setting("FAULT_ERRNO");
    lasting = getenv("FAULT_LASTING") != NULL;
    seen = 0;
    wanted = NONE;
    const char *action = getenv("FAULT_ACTION");
    for (int i = 0; action && i < (int)(sizeof ACTIONS / sizeof *ACTIONS); i++)
        if (!strcmp(action, ACTIONS[i])) wanted = (enum action)i;
}

/* The number of matching calls since faults_load(), disturbed or not. */
long faults_seen(void) {
    return __atomic_load_n(&seen, __ATOMIC_SEQ_CST);
}

static int path_matches(int folder, const char *path) {
    char full[2 * PATH_MAX], link[64];
    if (path && *path == '/') return !strncmp(path, prefix, strlen(prefix));
    snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, full, (size_t)PATH_MAX - 1);
    if (length < 0) return 0;
    snprintf(full + length, sizeof full - (size_t)length, "%s%s", path && *path ? "/" : "", path ? path : "");
    return !strncmp(full, prefix, strlen(prefix));
}

static void note(const char *call) {
    char line[128];
    int size = snprintf(line, sizeof line, "%s %ld\n", call, seen);
    long fd = syscall(SYS_openat, AT_FDCWD, report, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return;
    if (syscall(SYS_write, fd, line, size) != size) abort();
    syscall(SYS_close, fd);
}

static void alter(enum action action) {
    if (action == VANISH) {
        char gone[PATH_MAX + 8];
        snprintf(gone, sizeof gone, "%s.gone", target);
        syscall(SYS_renameat2, AT_FDCWD, target, AT_FDCWD, gone, 0);
        return;
    }
    long fd = syscall(SYS_openat, AT_FDCWD, target, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) return;
    long size = syscall(SYS_lseek, fd, 0, SEEK_END);
    char byte = 0;
    if (action == SHRINK) syscall(SYS_ftruncate, fd, size / 2);
    if (action == GROW) syscall(SYS_pwrite64, fd, "more", 4, size);
    if (action == CHANGE && syscall(SYS_pread64, fd, &byte, 1, offset) == 1) {
        byte ^= 1;
        syscall(SYS_pwrite64, fd, &byte, 1, offset);
    }
    syscall(SYS_close, fd);
}

/* Return what is to be done to this call; what happens before it has then happened. */
static enum action disturb(const char *call, int folder, const char *path, int folder2, const char *path2) {
    char name[64];
    if (wanted == NONE) return NONE;
    snprintf(name, sizeof name, ",%s,", call);
    if (!strstr(calls, name)) return NONE;
    int saved = errno;
    int fits = path_matches(folder, path) || (path2 && path_matches(folder2, path2));
    errno = saved;
    if (!fits) return NONE;
    long count = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
    if (at && count != at && !(lasting && count > at)) return NONE;
    note(call);
    if (wanted == KILL_BEFORE) kill(getpid(), SIGKILL);
    if (wanted >= SHRINK) alter(wanted);
    if (wanted == ERROR) errno = number;
    else errno = saved;
    return wanted;
}

static void after(enum action action) {
    if (action == KILL_AFTER) kill(getpid(), SIGKILL);
}

#define ON_FD(call, fd) disturb(call, fd, NULL, 0, NULL)
#define LESS(action, count) ((action) == SHORT && (count) > 1 ? ((count) + 1) / 2 : (count))

#define TRANSFER(name, call, buffer) \
    ssize_t name(int fd, buffer data, size_t count) { \
        REAL(ssize_t, #name, int, buffer, size_t); \
        enum action action = ON_FD(call, fd); \
        if (action == ERROR) return -1; \
        ssize_t done = real(fd, data, LESS(action, count)); \
        after(action); \
        return done; \
    }
TRANSFER(read, "read", void *)
TRANSFER(write, "write", const void *)

#define TRANSFER_AT(name, call, buffer) \
    ssize_t name(int fd, buffer data, size_t count, off_t start) { \
        REAL(ssize_t, #name, int, buffer, size_t, off_t); \
        enum action action = ON_FD(call, fd); \
        if (action == ERROR) return -1; \
        ssize_t done = real(fd, data, LESS(action, count), start); \
        after(action); \
        return done; \
    }
TRANSFER_AT(pread, "pread", void *)
TRANSFER_AT(pread64, "pread", void *)
TRANSFER_AT(pwrite, "pwrite", const void *)
TRANSFER_AT(pwrite64, "pwrite", const void *)

/* A short transfer of several buffers is one of (half of) the first. */
static ssize_t vector(ssize_t (*real)(int, const struct iovec *, int, off_t), const char *call, int fd,
                      const struct iovec *parts, int count, off_t start) {
    enum action action = ON_FD(call, fd);
    if (action == ERROR) return -1;
    struct iovec first = count > 0 ? parts[0] : (struct iovec){0};
    first.iov_len = LESS(action, first.iov_len);
    ssize_t done = action == SHORT && count > 0 ? real(fd, &first, 1, start) : real(fd, parts, count, start);
    after(action);
    return done;
}

#define VECTOR(name, call) \
    ssize_t name(int fd, const struct iovec *parts, int count, off_t start) { \
        REAL(ssize_t, #name, int, const struct iovec *, int, off_t); \
        return vector(real, call, fd, parts, count, start); \
    }
VECTOR(preadv, "preadv")
VECTOR(preadv64, "preadv")
VECTOR(pwritev, "pwritev")
VECTOR(pwritev64, "pwritev")

/* The same with flags, which are 0 wherever this program makes the call. */
#define VECTOR_WITH_FLAGS(name, call, plain) \
    ssize_t name(int fd, const struct iovec *parts, int count, off_t start, int flags) { \
        REAL(ssize_t, plain, int, const struct iovec *, int, off_t); \
        (void)flags; \
        return vector(real, call, fd, parts, count, start); \
    }
VECTOR_WITH_FLAGS(preadv2, "preadv", "preadv")
VECTOR_WITH_FLAGS(preadv64v2, "preadv", "preadv64")
VECTOR_WITH_FLAGS(pwritev2, "pwritev", "pwritev")
VECTOR_WITH_FLAGS(pwritev64v2, "pwritev", "pwritev64")

#define READ_OR_WRITE(name, call) \
    ssize_t name(int fd, const struct iovec *parts, int count) { \
        REAL(ssize_t, #name, int, const struct iovec *, int); \
        enum action action = ON_FD(call, fd); \
        if (action == ERROR) return -1; \
        ssize_t done = real(fd, parts, action == SHORT && count > 1 ? 1 : count); \
        after(action); \
        return done; \
    }
READ_OR_WRITE(readv, "readv")
READ_OR_WRITE(writev, "writev")

ssize_t copy_file_range(int from, off_t *start, int to, off_t *place, size_t count, unsigned flags) {
    REAL(ssize_t, "copy_file_range", int, off_t *, int, off_t *, size_t, unsigned);
    enum action action = disturb("copy_file_range", from, NULL, to, "");
    if (action == ERROR) return -1;
    ssize_t done = real(from, start, to, place, LESS(action, count), flags);
    after(action);
    return done;
}

#define SEND(name) \
    ssize_t name(int to, int from, off_t *start, size_t count) { \
        REAL(ssize_t, #name, int, int, off_t *, size_t); \
        enum action action = disturb("sendfile", from, NULL, to, ""); \
        if (action == ERROR) return -1; \
        ssize_t done = real(to, from, start, LESS(action, count)); \
        after(action); \
        return done; \
    }
SEND(sendfile)
SEND(sendfile64)

#define PLAIN(type, name, call, folder, path, folder2, path2, parameters, types, arguments) \
    type name parameters { \
        static type (*real) types; \
        if (!real) real = (type (*) types)dlsym(RTLD_NEXT, #name); \
        enum action action = disturb(call, folder, path, folder2, path2); \
        if (action == ERROR) return -1; \
        type done = real arguments; \
        after(action); \
        return done; \
    }
#define BY_FD(name, call, parameters, types, arguments) \
    PLAIN(int, name, call, fd, NULL, 0, NULL, parameters, types, arguments)
#define BY_PATH(name, call, parameters, types, arguments) \
    PLAIN(int, name, call, AT_FDCWD, path, 0, NULL, parameters, types, arguments)
#define BY_PATH_AT(name, call, parameters, types, arguments) \
    PLAIN(int, name, call, folder, path, 0, NULL, parameters, types, arguments)

BY_FD(fsync, "fsync", (int fd), (int), (fd))
BY_FD(fdatasync, "fsync", (int fd), (int), (fd))
BY_FD(ftruncate, "ftruncate", (int fd, off_t size), (int, off_t), (fd, size))
BY_FD(ftruncate64, "ftruncate", (int fd, off_t size), (int, off_t), (fd, size))
BY_FD(fallocate, "fallocate", (int fd, int mode, off_t start, off_t size), (int, int, off_t, off_t),
      (fd, mode, start, size))
BY_FD(fallocate64, "fallocate", (int fd, int mode, off_t start, off_t size), (int, int, off_t, off_t),
      (fd, mode, start, size))
BY_FD(flock, "flock", (int fd, int how), (int, int), (fd, how))
BY_FD(fstat, "fstat", (int fd, struct stat *found), (int, struct stat *), (fd, found))
BY_FD(fstat64, "fstat", (int fd, struct stat64 *found), (int, struct stat64 *), (fd, found))

BY_PATH(stat, "stat", (const char *path, struct stat *found), (const char *, struct stat *), (path, found))
BY_PATH(stat64, "stat", (const char *path, struct stat64 *found), (const char *, struct stat64 *), (path, found))
BY_PATH(lstat, "stat", (const char *path, struct stat *found), (const char *, struct stat *), (path, found))
BY_PATH(lstat64, "stat", (const char *path, struct stat64 *found), (const char *, struct stat64 *), (path, found))
BY_PATH_AT(fstatat, "stat", (int folder, const char *path, struct stat *found, int flags),
           (int, const char *, struct stat *, int), (folder, path, found, flags))
BY_PATH_AT(fstatat64, "stat", (int folder, const char *path, struct stat64 *found, int flags),
           (int, const char *, struct stat64 *, int), (folder, path, found, flags))
BY_PATH(mkdir, "mkdir", (const char *path, mode_t mode), (const char *, mode_t), (path, mode))
BY_PATH_AT(mkdirat, "mkdir", (int folder, const char *path, mode_t mode), (int, const char *, mode_t),
           (folder, path, mode))
BY_PATH(rmdir, "rmdir", (const char *path), (const char *), (path))
BY_PATH(unlink, "unlink", (const char *path), (const char *), (path))
BY_PATH_AT(unlinkat, flags & AT_REMOVEDIR ? "rmdir" : "unlink", (int folder, const char *path, int flags), (int, const char *, int),
           (folder, path, flags))

#define MOVE(name, call) \
    PLAIN(int, name, call, AT_FDCWD, path, AT_FDCWD, other, (const char *path, const char *other), \
          (const char *, const char *), (path, other))
MOVE(rename, "rename")
MOVE(link, "link")
PLAIN(int, renameat, "rename", folder, path, folder2, other,
      (int folder, const char *path, int folder2, const char *other), (int, const char *, int, const char *),
      (folder, path, folder2, other))
PLAIN(int, renameat2, "renameat2", folder, path, folder2, other,
      (int folder, const char *path, int folder2, const char *other, unsigned flags),
      (int, const char *, int, const char *, unsigned), (folder, path, folder2, other, flags))
PLAIN(int, linkat, "link", folder, path, folder2, other,
      (int folder, const char *path, int folder2, const char *other, int flags),
      (int, const char *, int, const char *, int), (folder, path, folder2, other, flags))

/* posix_fallocate returns its error. */
#define RESERVE(name) \
    int name(int fd, off_t start, off_t size) { \
        REAL(int, #name, int, off_t, off_t); \
        enum action action = ON_FD("fallocate", fd); \
        if (action == ERROR) return number; \
        int done = real(fd, start, size); \
        after(action); \
        return done; \
    }
RESERVE(posix_fallocate)
RESERVE(posix_fallocate64)

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, #name, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        enum action action = disturb("open", AT_FDCWD, path, 0, NULL); \
        if (action == ERROR) return -1; \
        int done = real(path, flags, mode); \
        after(action); \
        return done; \
    }
OPEN(open)
OPEN(open64)

#define OPEN_AT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(int, #name, int, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        enum action action = disturb("open", folder, path, 0, NULL); \
        if (action == ERROR) return -1; \
        int done = real(folder, path, flags, mode); \
        after(action); \
        return done; \
    }
OPEN_AT(openat)
OPEN_AT(openat64)

DIR *opendir(const char *path) {
    REAL(DIR *, "opendir", const char *);
    enum action action = disturb("opendir", AT_FDCWD, path, 0, NULL);
    if (action == ERROR) return NULL;
    DIR *done = real(path);
    after(action);
    return done;
}

DIR *fdopendir(int fd) {
    REAL(DIR *, "fdopendir", int);
    enum action action = ON_FD("opendir", fd);
    if (action == ERROR) return NULL;
    DIR *done = real(fd);
    after(action);
    return done;
}

#define LIST(name, entry) \
    struct entry *name(DIR *folder) { \
        REAL(struct entry *, #name, DIR *); \
        enum action action = ON_FD("readdir", dirfd(folder)); \
        if (action == ERROR) return NULL; \
        struct entry *done = real(folder); \
        after(action); \
        return done; \
    }
LIST(readdir, dirent)
LIST(readdir64, dirent64)

#define ROOM(name, kind) \
    int name(const char *path, struct kind *found) { \
        REAL(int, #name, const char *, struct kind *); \
        enum action action = disturb("statvfs", AT_FDCWD, path, 0, NULL); \
        if (action == ERROR) return -1; \
        int done = real(path, found); \
        if (action == FULL) found->f_bavail = found->f_bfree = 0; \
        after(action); \
        return done; \
    }
ROOM(statvfs, statvfs)
ROOM(statvfs64, statvfs64)
