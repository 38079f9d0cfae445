/*
 * What Rust's standard library, made for glibc, calls by a name that musl's static library lacks.
 * A name that is missing here fails the link; docs/decisions/0010 says how to judge a new one.
 */
#include <stddef.h>
#include <stdint.h>

/*
 * musl has had 64-bit offsets always, so it has one name where glibc has two. Types are those of
 * the psABIs that Kiln is built for, where off_t has 64 bits.
 */
int open(const char *, int, ...);
int openat(int, const char *, int, ...);
int64_t lseek(int, int64_t, int);
int64_t pread(int, void *, size_t, int64_t);
int64_t pwrite(int, const void *, size_t, int64_t);
int ftruncate(int, int64_t);
void *mmap(void *, size_t, int, int, int, int64_t);
int fstat(int, void *);
long sendfile(int, int, int64_t *, size_t);
int stat(const char *, void *);
int lstat(const char *, void *);
int fstatat(int, const char *, void *, int);
void *readdir(void *);
_Noreturn void abort(void);

int open64(const char *path, int flags, unsigned mode) { return open(path, flags, mode); }
int openat64(int dir, const char *path, int flags, unsigned mode) { return openat(dir, path, flags, mode); }
int64_t lseek64(int fd, int64_t offset, int whence) { return lseek(fd, offset, whence); }
int64_t pread64(int fd, void *to, size_t len, int64_t offset) { return pread(fd, to, len, offset); }
int64_t pwrite64(int fd, const void *from, size_t len, int64_t offset) { return pwrite(fd, from, len, offset); }
int ftruncate64(int fd, int64_t len) { return ftruncate(fd, len); }
void *mmap64(void *at, size_t len, int prot, int flags, int fd, int64_t offset) { return mmap(at, len, prot, flags, fd, offset); }
int fstat64(int fd, void *to) { return fstat(fd, to); }
int stat64(const char *path, void *to) { return stat(path, to); }
int lstat64(const char *path, void *to) { return lstat(path, to); }
int fstatat64(int dir, const char *path, void *to, int flags) { return fstatat(dir, path, to, flags); }
long sendfile64(int to, int from, int64_t *at, size_t len) { return sendfile(to, from, at, len); }
void *readdir64(void *folder) { return readdir(folder); }

/*
 * The unwinder of the Itanium C++ ABI, for programs that abort where others unwind: a backtrace is
 * empty (5 is _URC_END_OF_STACK), and nothing else is ever called.
 */
int _Unwind_Backtrace(void *visit, void *argument) { (void)visit; (void)argument; return 5; }

#define NEVER(name) _Noreturn void name(void) { abort(); }
NEVER(_Unwind_DeleteException)
NEVER(_Unwind_FindEnclosingFunction)
NEVER(_Unwind_GetCFA)
NEVER(_Unwind_GetDataRelBase)
NEVER(_Unwind_GetIP)
NEVER(_Unwind_GetIPInfo)
NEVER(_Unwind_GetLanguageSpecificData)
NEVER(_Unwind_GetRegionStart)
NEVER(_Unwind_GetTextRelBase)
NEVER(_Unwind_RaiseException)
NEVER(_Unwind_Resume)
NEVER(_Unwind_SetGR)
NEVER(_Unwind_SetIP)

/*
 * Copies up to 64 bytes without a loop, where musl's start a `rep movsq` on x86_64; starting with
 * ten thousand files copies little else. All is loaded before anything is stored, and longer
 * copies begin at the end where that is needed, so one function serves for both names.
 */
typedef unsigned char block __attribute__((vector_size(16)));

#define LOAD(type, from) ({ type value; __builtin_memcpy(&value, from, sizeof value); value; })
#define STORE(type, to, value) ({ type stored = value; __builtin_memcpy(to, &stored, sizeof stored); })
#define ENDS(type) do { type first = LOAD(type, s), last = LOAD(type, s + len - sizeof(type)); \
	STORE(type, d, first); STORE(type, d + len - sizeof(type), last); return to; } while (0)

void *memmove(void *to, const void *from, size_t len)
{
	unsigned char *d = to;
	const unsigned char *s = from;
	if (len < 2) {
		if (len) *d = *s;
		return to;
	}
	if (len <= 4) ENDS(uint16_t);
	if (len <= 8) ENDS(uint32_t);
	if (len <= 16) ENDS(uint64_t);
	if (len <= 32) ENDS(block);
	if (len <= 64) {
		block a = LOAD(block, s), b = LOAD(block, s + 16);
		block c = LOAD(block, s + len - 32), e = LOAD(block, s + len - 16);
		STORE(block, d, a), STORE(block, d + 16, b);
		STORE(block, d + len - 32, c), STORE(block, d + len - 16, e);
		return to;
	}
	if ((uintptr_t)d - (uintptr_t)s >= len) {
		/* Forward; the last block is loaded first, since it may be written over. */
		block last = LOAD(block, s + len - 16);
		size_t at = 0;
		for (; at + 64 <= len; at += 64) {
			block a = LOAD(block, s + at), b = LOAD(block, s + at + 16);
			block c = LOAD(block, s + at + 32), e = LOAD(block, s + at + 48);
			STORE(block, d + at, a), STORE(block, d + at + 16, b);
			STORE(block, d + at + 32, c), STORE(block, d + at + 48, e);
		}
		for (; at + 16 <= len; at += 16) STORE(block, d + at, LOAD(block, s + at));
		STORE(block, d + len - 16, last);
	} else {
		block first = LOAD(block, s);
		size_t at = len;
		for (; at >= 16; at -= 16) STORE(block, d + at - 16, LOAD(block, s + at - 16));
		STORE(block, d, first);
	}
	return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t len) { return memmove(to, from, len); }
