/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup-format.h - the frames of a backup file.
 *
 *     magic      16 bytes "IMPRIMATUR-BACK1"
 *     frame      type (1), length of the payload (4), payload, CRC-32 of all of these (4)
 *
 *     1 header   format (4), store id (16), sequence (8), time made (8), store format (4)
 *     2 key      name (2 + n), value (the rest): a record of the key table
 *     3 table    name (2 + n), schema (4), flags (4), last number given out (8)
 *     4 record   key (2 + n), value as stored (the rest), of the table before it
 *     5 end of a table   records in it (8)
 *     6 totals   tables (8), records (8)
 *     7 seal     HMAC-SHA256 over SHA-256 of all bytes before this frame; the last frame
 *
 * Integers are big-endian. The key of the seal is HKDF(store root key, "imprimatur backup"). Order:
 * header, keys, tables each with records and end, totals, seal, end of file.
 */
#ifndef CORE_BACKUP_FORMAT_H
#define CORE_BACKUP_FORMAT_H

#include <imprimatur/store.h>

#define BACKUP_FORMAT 1u
#define BACKUP_MAGIC "IMPRIMATUR-BACK1"
#define BACKUP_MAGIC_SIZE 16u
#define BACKUP_HASH_SIZE 32u
/* A record: its key, the largest value sealed, and their lengths. */
#define BACKUP_PAYLOAD_MAX (IMP_KEY_MAX + IMP_VALUE_MAX + 64u)

enum backup_frame {
    BACKUP_HEADER = 1,
    BACKUP_KEY = 2,
    BACKUP_TABLE = 3,
    BACKUP_RECORD = 4,
    BACKUP_TABLE_END = 5,
    BACKUP_TOTALS = 6,
    BACKUP_SEAL = 7
};

struct backup_writer;
struct backup_reader;

/* Starts at the descriptor's place with the magic. NULL when memory is short. */
struct backup_writer *backup_writer_new(int fd);
/* One frame whose payload is the parts one behind another. */
imp_status backup_write_frame(struct backup_writer *writer, enum backup_frame type,
                              const imp_bytes *parts, size_t count, imp_error *error)
    IMP_MUST_CHECK;
/* SHA-256 of everything written so far. */
void backup_writer_hash(struct backup_writer *writer, uint8_t hash[BACKUP_HASH_SIZE]);
/* Writes what is buffered. */
imp_status backup_writer_flush(struct backup_writer *writer, imp_error *error) IMP_MUST_CHECK;
uint64_t backup_writer_bytes(const struct backup_writer *writer);
void backup_writer_free(struct backup_writer *writer);

/* Reads from the descriptor's start (pread). IMP_CORRUPT when it is no backup. */
imp_status backup_reader_new(int fd, struct backup_reader **reader, imp_error *error)
    IMP_MUST_CHECK;
/* From memory instead (fuzzing). */
imp_status backup_reader_of(imp_bytes bytes, struct backup_reader **reader, imp_error *error)
    IMP_MUST_CHECK;
/* The next frame; the payload stays valid until the next call. IMP_NOT_FOUND at a clean end of file,
 * IMP_CORRUPT for anything that does not fit. */
imp_status backup_read_frame(struct backup_reader *reader, enum backup_frame *type,
                             imp_bytes *payload, imp_error *error) IMP_MUST_CHECK;
/* SHA-256 of everything before the frame that was read last. */
void backup_reader_hash(struct backup_reader *reader, uint8_t hash[BACKUP_HASH_SIZE]);
uint64_t backup_reader_bytes(const struct backup_reader *reader);
void backup_reader_free(struct backup_reader *reader);

#endif
