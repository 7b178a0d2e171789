/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base.h - what every other header stands on: status, error, identifiers, time, randomness.
 *
 * Conventions of the whole SDK:
 *   - a function that can fail returns imp_status and fills the caller's imp_error with a sentence
 *     for the person who will read it; `error` may always be NULL;
 *   - lengths are bytes, times are microseconds, unless the name carries another unit;
 *   - structs that cross the border between core and module start with `size` (sizeof at build
 *     time) and only ever grow at the end; the caller sets it, in structs that are filled for it too
 *     (imp_queue queue = {.size = sizeof queue}), and no more than that is written;
 *   - "any thread" means: loop threads, workers, the writer and the control thread.
 */
#ifndef IMPRIMATUR_BASE_H
#define IMPRIMATUR_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#error "the SDK is C17; C++ static data and unwinding do not survive unloading"
#endif

/* Functions of libimprimatur that modules may call. */
#define IMP_PUBLIC __attribute__((visibility("default")))
#define IMP_PRINTF(format_index, first_argument)                                                   \
    __attribute__((format(printf, format_index, first_argument)))
#define IMP_NONNULL(...) __attribute__((nonnull(__VA_ARGS__)))
#define IMP_MUST_CHECK __attribute__((warn_unused_result))
#define IMP_UNUSED __attribute__((unused))

/* The closed set of outcomes; fixed integers, because enums do not cross the border by value. */
typedef int32_t imp_status;
#define IMP_OK ((imp_status)0)
#define IMP_INVALID ((imp_status)1)      /* the caller's input is wrong */
#define IMP_NOT_FOUND ((imp_status)2)    /* no such object */
#define IMP_DENIED ((imp_status)3)       /* the principal may not */
#define IMP_EXISTS ((imp_status)4)       /* there already */
#define IMP_BUSY ((imp_status)5)         /* not now; try again when told */
#define IMP_LIMIT ((imp_status)6)        /* a configured bound was met */
#define IMP_NO_SPACE ((imp_status)7)     /* disk or quota full */
#define IMP_IO ((imp_status)8)           /* the system refused */
#define IMP_CORRUPT ((imp_status)9)      /* stored or received bytes fail their check */
#define IMP_UNSUPPORTED ((imp_status)10) /* a feature that is not there */
#define IMP_TIMEOUT ((imp_status)11)     /* a deadline passed */
#define IMP_UNAVAILABLE ((imp_status)12) /* the service is not loaded, or is going away */

#define IMP_ERROR_MESSAGE_MAX 248

typedef struct imp_error {
    imp_status status;
    char message[IMP_ERROR_MESSAGE_MAX]; /* one line, no trailing newline, UTF-8 */
} imp_error;

/* Fills `error` (may be NULL) and returns `status`, so that `return imp_error_set(...)` reads well.
 * Control characters in the formatted text are replaced by '?'. Any thread. */
IMP_PUBLIC imp_status imp_error_set(imp_error *error, imp_status status, const char *format, ...)
    IMP_PRINTF(3, 4);

/* "ok", "invalid", "not-found", ...: a constant string, for logs and JSON. Any thread. */
IMP_PUBLIC const char *imp_status_name(imp_status status);

/* A borrowed range of bytes. */
typedef struct imp_bytes {
    const void *data;
    size_t length;
} imp_bytes;

/* 128 random bits: jobs, deliveries, documents, devices, principals, usages. */
typedef struct imp_id {
    uint8_t bytes[16];
} imp_id;

#define IMP_ID_TEXT_SIZE 33 /* 32 lower-case hexadecimal digits and a NUL */

/* A new random id. Any thread; never fails (a failing random source ends the process). */
IMP_PUBLIC imp_id imp_id_new(void);
/* Writes the 32 digits into `text` and returns it. Any thread. */
IMP_PUBLIC char *imp_id_format(imp_id id, char text[IMP_ID_TEXT_SIZE]);
/* IMP_INVALID unless `text` is exactly 32 hexadecimal digits. Any thread. */
IMP_PUBLIC imp_status imp_id_parse(const char *text, imp_id *id);
/* True for the id of 16 zero bytes, which stands for "none". Any thread. */
IMP_PUBLIC bool imp_id_is_zero(imp_id id);
/* True for the same 16 bytes. Any thread. */
IMP_PUBLIC bool imp_id_equal(imp_id a, imp_id b);

/* Wall clock, microseconds since 1970-01-01 UTC. For expiry, retention and records. Tests replace
 * it. Any thread. */
IMP_PUBLIC int64_t imp_now(void);
/* Monotonic clock, microseconds from an arbitrary start. For deadlines. Tests replace it. Any
 * thread. */
IMP_PUBLIC int64_t imp_ticks(void);

#define IMP_MILLISECOND INT64_C(1000)
#define IMP_SECOND INT64_C(1000000)

/* Cryptographically strong random bytes; tests may seed it. Never fails. Any thread. */
IMP_PUBLIC void imp_random(void *buffer, size_t length);
/* Overwrites memory that held a secret; not removed by the optimizer. Any thread. */
IMP_PUBLIC void imp_wipe(void *buffer, size_t length);
/* Compares without telling by its duration where the difference is. Any thread. */
IMP_PUBLIC bool imp_equal_constant_time(const void *a, const void *b, size_t length);

/* True when `text` of `length` bytes is well-formed UTF-8 without NUL (RFC 3629). Any thread. */
IMP_PUBLIC bool imp_utf8_is_valid(const char *text, size_t length);
/* Copies at most `size - 1` bytes of `source` into `target` as clean UTF-8: bytes that are not
 * UTF-8 make the whole input be read as Windows-1252, control characters become '?', and the cut
 * never splits a character. Returns the length written. Any thread. */
IMP_PUBLIC size_t imp_text_clean(char *target, size_t size, const void *source, size_t length);

#define IMP_NAME_MAX 128 /* bytes of a user, queue or device name with its NUL */

/* True for 1 to IMP_NAME_MAX - 1 bytes of UTF-8 without control characters and without blanks at the
 * ends: what a user, queue or device may be called. NULL is not. Any thread. */
IMP_PUBLIC bool imp_name_is_valid(const char *name);
/* Writes `source` with upper case made lower case (Latin, Greek, Cyrillic) into `target`: the form in
 * which names are compared and hashed. Cut at `size - 1` without splitting a character. Returns the
 * length written. Any thread. */
IMP_PUBLIC size_t imp_name_fold(char *target, size_t size, const char *source);

/* A module's generation as the core knows it; what a module registers belongs to it. */
typedef struct imp_self imp_self;

/* The instance pointer that the module's start() gave. Any thread. */
IMP_PUBLIC void *imp_self_instance(const imp_self *self);
/* The module's name ("lpr"), valid as long as the generation. Any thread. */
IMP_PUBLIC const char *imp_self_name(const imp_self *self);
/* The number of this generation, unique for the life of the server process. Any thread. */
IMP_PUBLIC uint32_t imp_self_generation(const imp_self *self);

#endif
