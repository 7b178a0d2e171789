/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim-log.h - what the preloaded shim and the fault tests share: one file, mapped by all processes.
 *
 * The first page is struct shim_control; behind it records follow each other without gaps, each a
 * struct shim_record, its path (without NUL) and its data, padded to 8 bytes. Everything is little
 * endian. faultkit/shim.py reads and writes the same.
 *
 * Environment: IMPRIMATUR_SHIM_FILE names the file, IMPRIMATUR_SHIM_ROOT the folder below which calls count,
 * IMPRIMATUR_SHIM_RECORD=1 asks for records, IMPRIMATUR_SHIM_NO_SYNC=1 leaves all syncing out.
 */
#ifndef FAULTS_SHIM_LOG_H
#define FAULTS_SHIM_LOG_H

#include <stdatomic.h>
#include <stdint.h>

#define SHIM_CONTROL_SIZE 4096u
#define SHIM_FILE_SIZE (UINT64_C(16) << 30) /* sparse */

enum shim_kind {
    SHIM_WRITE = 1,    /* offset, length; data, none when all of it is zero */
    SHIM_TRUNCATE = 2, /* offset: the new size */
    SHIM_ALLOCATE = 3, /* offset, length: the file is at least so long */
    SHIM_SYNC = 4,     /* of a file or a folder */
    SHIM_SYNC_ALL = 5, /* of the file system */
    SHIM_CREATE = 6,
    SHIM_MKDIR = 7,
    SHIM_RENAME = 8, /* path: from; data: to */
    SHIM_UNLINK = 9, /* files and folders */
    SHIM_SAY = 10,   /* few bytes to a TCP peer: inode is its port */
};

#define SHIM_DURABLE 1u /* the write is synced by itself (O_DSYNC) */

/* Calls that can be made to fail; a mask. */
#define SHIM_FAIL_WRITE 1u
#define SHIM_FAIL_SYNC 2u
#define SHIM_FAIL_OPEN 4u
#define SHIM_FAIL_RENAME 8u
#define SHIM_FAIL_SPACE 16u /* ftruncate, fallocate */
#define SHIM_ERRNO_SHORT 0  /* not an error: half of the bytes are written */

struct shim_control {
    _Atomic uint64_t sequence; /* begins and ends of calls, in their order */
    _Atomic uint64_t used;     /* bytes of records */
    _Atomic int64_t countdown; /* 1: the next call of these kinds fails; 0: none does */
    _Atomic uint32_t kinds;
    _Atomic int32_t error; /* errno, or SHIM_ERRNO_SHORT */
    _Atomic uint64_t hits;
};

struct shim_record {
    uint32_t length; /* of the whole, padding included */
    uint16_t kind;
    uint16_t flags;
    uint64_t begin, end; /* sequence numbers */
    uint64_t inode;
    uint64_t offset, size;
    uint32_t path_length, data_length;
};

#endif
