/* SPDX-License-Identifier: Apache-2.0 */
/* backup-format.c - writing and reading the frames of a backup file. */
#include "build-config.h"

#include "core/backup-format.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/record.h"

#define BUFFER_SIZE ((size_t)256 * 1024)
#define FRAME_HEAD_SIZE 5u
#define CRC_SIZE 4u

/* ---- CRC-32 (ISO 3309), to say where a file is damaged; the seal says whether ---- */

static uint32_t crc_table[256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void crc_prepare(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) {
            value = (value & 1) != 0 ? 0xedb88320u ^ (value >> 1) : value >> 1;
        }
        crc_table[i] = value;
    }
}

static uint32_t crc_add(uint32_t crc, const void *data, size_t length)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < length; i++) {
        crc = crc_table[(crc ^ bytes[i]) & 0xffu] ^ (crc >> 8);
    }
    return crc;
}

static EVP_MD_CTX *hash_new(void)
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    if (hash != NULL && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(hash);
        hash = NULL;
    }
    return hash;
}

/* The hash so far, without ending it. Zeros (which no file matches) when memory is short. */
static void hash_copy(const EVP_MD_CTX *hash, uint8_t value[BACKUP_HASH_SIZE])
{
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    memset(value, 0, BACKUP_HASH_SIZE);
    if (copy != NULL && EVP_MD_CTX_copy_ex(copy, hash) == 1) {
        (void)EVP_DigestFinal_ex(copy, value, NULL);
    }
    EVP_MD_CTX_free(copy);
}

/* ---- writing ---- */

struct backup_writer {
    int fd;
    EVP_MD_CTX *hash;
    uint64_t bytes;
    size_t used;
    uint8_t buffer[BUFFER_SIZE];
};

imp_status backup_writer_flush(struct backup_writer *writer, imp_error *error)
{
    size_t done = 0;
    while (done < writer->used) {
        ssize_t written = write(writer->fd, writer->buffer + done, writer->used - done);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return imp_error_set(error, errno == ENOSPC ? IMP_NO_SPACE : IMP_IO,
                                 "the backup can't be written: %s", strerror(errno));
        }
        done += (size_t)written;
    }
    writer->used = 0;
    return IMP_OK;
}

static imp_status add(struct backup_writer *writer, const void *data, size_t length,
                      imp_error *error)
{
    const uint8_t *from = data;
    if (EVP_DigestUpdate(writer->hash, data, length) != 1) {
        return imp_error_set(error, IMP_LIMIT, "the backup can't be hashed");
    }
    writer->bytes += length;
    while (length > 0) {
        size_t part = BUFFER_SIZE - writer->used < length ? BUFFER_SIZE - writer->used : length;
        memcpy(writer->buffer + writer->used, from, part);
        writer->used += part;
        from += part;
        length -= part;
        if (writer->used == BUFFER_SIZE) {
            imp_status status = backup_writer_flush(writer, error);
            if (status != IMP_OK) {
                return status;
            }
        }
    }
    return IMP_OK;
}

struct backup_writer *backup_writer_new(int fd)
{
    pthread_once(&crc_once, crc_prepare);
    struct backup_writer *writer = malloc(sizeof *writer);
    if (writer == NULL) {
        return NULL;
    }
    writer->fd = fd;
    writer->bytes = 0;
    writer->used = 0;
    writer->hash = hash_new();
    /* The magic fits the empty buffer, so this can't meet the disk. */
    if (writer->hash == NULL || add(writer, BACKUP_MAGIC, BACKUP_MAGIC_SIZE, NULL) != IMP_OK) {
        backup_writer_free(writer);
        return NULL;
    }
    return writer;
}

imp_status backup_write_frame(struct backup_writer *writer, enum backup_frame type,
                              const imp_bytes *parts, size_t count, imp_error *error)
{
    uint8_t head[FRAME_HEAD_SIZE];
    uint8_t tail[CRC_SIZE];
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        length += parts[i].length;
    }
    if (length > BACKUP_PAYLOAD_MAX) {
        return imp_error_set(error, IMP_LIMIT, "a record is too large for a backup");
    }
    struct record_writer into = record_writer_of(head, sizeof head);
    record_write_u8(&into, (uint8_t)type);
    record_write_u32(&into, (uint32_t)length);
    uint32_t crc = crc_add(UINT32_MAX, head, sizeof head);
    imp_status status = add(writer, head, sizeof head, error);
    for (size_t i = 0; status == IMP_OK && i < count; i++) {
        if (parts[i].length > 0) {
            crc = crc_add(crc, parts[i].data, parts[i].length);
            status = add(writer, parts[i].data, parts[i].length, error);
        }
    }
    into = record_writer_of(tail, sizeof tail);
    record_write_u32(&into, ~crc);
    return status == IMP_OK ? add(writer, tail, sizeof tail, error) : status;
}

void backup_writer_hash(struct backup_writer *writer, uint8_t hash[BACKUP_HASH_SIZE])
{
    hash_copy(writer->hash, hash);
}

uint64_t backup_writer_bytes(const struct backup_writer *writer)
{
    return writer->bytes;
}

void backup_writer_free(struct backup_writer *writer)
{
    if (writer != NULL) {
        EVP_MD_CTX_free(writer->hash);
        free(writer);
    }
}

/* ---- reading ---- */

struct backup_reader {
    int fd; /* -1: memory */
    imp_bytes memory;
    EVP_MD_CTX *hash;
    uint8_t hash_before[BACKUP_HASH_SIZE];
    uint64_t at; /* of the next byte in the file */
    size_t first, used;
    uint8_t buffer[BUFFER_SIZE];
    size_t payload_room;
    uint8_t *payload;
};

/* Up to `length` bytes; fewer only at the end of the file. -1 at an error. */
static ssize_t get(struct backup_reader *reader, void *data, size_t length)
{
    uint8_t *to = data;
    size_t done = 0;
    while (done < length) {
        if (reader->first == reader->used) {
            ssize_t got = 0;
            if (reader->fd >= 0) {
                got = pread(reader->fd, reader->buffer, BUFFER_SIZE, (off_t)reader->at);
                if (got < 0 && errno == EINTR) {
                    continue;
                }
            } else if (reader->at < reader->memory.length) {
                size_t rest = reader->memory.length - (size_t)reader->at;
                got = (ssize_t)(rest < BUFFER_SIZE ? rest : BUFFER_SIZE);
                memcpy(reader->buffer, (const uint8_t *)reader->memory.data + reader->at,
                       (size_t)got);
            }
            if (got < 0) {
                return -1;
            }
            if (got == 0) {
                break;
            }
            reader->first = 0;
            reader->used = (size_t)got;
            reader->at += (uint64_t)got;
        }
        size_t part = reader->used - reader->first;
        part = part < length - done ? part : length - done;
        memcpy(to + done, reader->buffer + reader->first, part);
        reader->first += part;
        done += part;
    }
    return EVP_DigestUpdate(reader->hash, data, done) == 1 ? (ssize_t)done : -1;
}

static imp_status start(struct backup_reader *reader, struct backup_reader **out, imp_error *error)
{
    char magic[BACKUP_MAGIC_SIZE];
    pthread_once(&crc_once, crc_prepare);
    reader->hash = hash_new();
    if (reader->hash == NULL) {
        backup_reader_free(reader);
        return imp_error_set(error, IMP_LIMIT, "no memory to read a backup");
    }
    if (get(reader, magic, sizeof magic) != (ssize_t)sizeof magic ||
        memcmp(magic, BACKUP_MAGIC, sizeof magic) != 0) {
        backup_reader_free(reader);
        return imp_error_set(error, IMP_CORRUPT, "this file is not a backup of this program");
    }
    *out = reader;
    return IMP_OK;
}

imp_status backup_reader_new(int fd, struct backup_reader **out, imp_error *error)
{
    struct backup_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL) {
        return imp_error_set(error, IMP_LIMIT, "no memory to read a backup");
    }
    reader->fd = fd;
    return start(reader, out, error);
}

imp_status backup_reader_of(imp_bytes bytes, struct backup_reader **out, imp_error *error)
{
    struct backup_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL) {
        return imp_error_set(error, IMP_LIMIT, "no memory to read a backup");
    }
    reader->fd = -1;
    reader->memory = bytes;
    return start(reader, out, error);
}

uint64_t backup_reader_bytes(const struct backup_reader *reader)
{
    return reader->at - (reader->used - reader->first);
}

static imp_status damaged(const struct backup_reader *reader, const char *how, imp_error *error)
{
    return imp_error_set(error, IMP_CORRUPT, "the backup is damaged before byte %llu: %s",
                         (unsigned long long)backup_reader_bytes(reader), how);
}

imp_status backup_read_frame(struct backup_reader *reader, enum backup_frame *type,
                             imp_bytes *payload, imp_error *error)
{
    uint8_t head[FRAME_HEAD_SIZE];
    uint8_t tail[CRC_SIZE];
    uint8_t hash_before[BACKUP_HASH_SIZE];
    hash_copy(reader->hash, hash_before);
    ssize_t got = get(reader, head, sizeof head);
    if (got == 0) {
        return IMP_NOT_FOUND;
    }
    if (got != (ssize_t)sizeof head) {
        return got < 0
                   ? imp_error_set(error, IMP_IO, "the backup can't be read: %s", strerror(errno))
                   : damaged(reader, "it ends too early", error);
    }
    struct record_reader from = record_reader_of((imp_bytes){head, sizeof head});
    uint8_t kind = record_read_u8(&from);
    size_t length = record_read_u32(&from);
    if (kind < BACKUP_HEADER || kind > BACKUP_SEAL || length > BACKUP_PAYLOAD_MAX) {
        return damaged(reader, "no frame begins here", error);
    }
    if (reader->payload_room < length || reader->payload == NULL) {
        size_t room = length < 4096 ? 4096 : length;
        free(reader->payload);
        reader->payload = malloc(room);
        reader->payload_room = reader->payload != NULL ? room : 0;
        if (reader->payload == NULL) {
            return imp_error_set(error, IMP_LIMIT, "no memory to read a backup");
        }
    }
    if (get(reader, reader->payload, length) != (ssize_t)length ||
        get(reader, tail, sizeof tail) != (ssize_t)sizeof tail) {
        return damaged(reader, "it ends too early", error);
    }
    uint32_t crc = crc_add(crc_add(UINT32_MAX, head, sizeof head), reader->payload, length);
    from = record_reader_of((imp_bytes){tail, sizeof tail});
    bool is_right = record_read_u32(&from) == (uint32_t)~crc;
#ifdef IMP_FUZZING
    is_right = true; /* or no changed byte would ever get beyond this line */
#endif
    if (!is_right) {
        return damaged(reader, "a checksum is wrong", error);
    }
    memcpy(reader->hash_before, hash_before, sizeof hash_before);
    *type = (enum backup_frame)kind;
    *payload = (imp_bytes){reader->payload, length};
    return IMP_OK;
}

void backup_reader_hash(struct backup_reader *reader, uint8_t hash[BACKUP_HASH_SIZE])
{
    memcpy(hash, reader->hash_before, BACKUP_HASH_SIZE);
}

void backup_reader_free(struct backup_reader *reader)
{
    if (reader != NULL) {
        EVP_MD_CTX_free(reader->hash);
        free(reader->payload);
        free(reader);
    }
}
