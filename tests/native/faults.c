/* A library to preload: the k-th system call that changes a file fails, or ends the
 * process. Counts write, pwrite, fsync and rename of this process once it is armed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static long left = -1; /* calls that may still succeed; -1: not armed */
static int kills = 0;
static long came = 0;

void faults_arm(long k, int kill_instead) { left = k; kills = kill_instead; came = 0; }
long faults_disarm(void) { left = -1; return came; }

static int strikes(void) {
  if (left < 0) return 0;
  if (left-- > 0) return 0;
  left = -1;
  came = 1;
  if (kills) _exit(9);
  errno = ENOSPC;
  return 1;
}

/* A full disk does not refuse what is written over bytes that a file has already. */
static int is_over_old(int fd, size_t n, off_t at) {
  struct stat file;
  return !kills && !fstat(fd, &file) && at + (off_t)n <= file.st_size;
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__) = 0; \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void* data, size_t n) {
  REAL(ssize_t, write, int, const void*, size_t);
  return fd > 2 && strikes() ? -1 : real(fd, data, n);
}
ssize_t pwrite(int fd, const void* data, size_t n, off_t at) {
  REAL(ssize_t, pwrite, int, const void*, size_t, off_t);
  return !is_over_old(fd, n, at) && strikes() ? -1 : real(fd, data, n, at);
}
ssize_t pwrite64(int fd, const void* data, size_t n, off64_t at) {
  REAL(ssize_t, pwrite64, int, const void*, size_t, off64_t);
  return !is_over_old(fd, n, at) && strikes() ? -1 : real(fd, data, n, at);
}
ssize_t writev(int fd, const struct iovec* parts, int n) {
  REAL(ssize_t, writev, int, const struct iovec*, int);
  return fd > 2 && strikes() ? -1 : real(fd, parts, n);
}
int fsync(int fd) {
  REAL(int, fsync, int);
  return strikes() ? -1 : real(fd);
}
int fdatasync(int fd) {
  REAL(int, fdatasync, int);
  return strikes() ? -1 : real(fd);
}
int ftruncate64(int fd, off64_t n) {
  REAL(int, ftruncate64, int, off64_t);
  return strikes() ? -1 : real(fd, n);
}
int rename(const char* from, const char* to) {
  REAL(int, rename, const char*, const char*);
  return strikes() ? -1 : real(from, to);
}
int renameat2(int a, const char* from, int b, const char* to, unsigned flags) {
  REAL(int, renameat2, int, const char*, int, const char*, unsigned);
  return strikes() ? -1 : real(a, from, b, to, flags);
}
