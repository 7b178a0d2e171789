/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job-check.c - reads every job of a state folder that no server runs on, document and all.
 *
 *     job-check STATE MASTER-KEY            lists all jobs
 *     job-check STATE MASTER-KEY --keys     tells of keys, named on standard input, what is left
 *
 * A line a job: "job NUMBER SITUATION BYTES DIGEST KEYS TITLE". DIGEST is the SHA-256 of all documents
 * in order, "none" when they have been given up, or what is wrong with them. KEYS are the slots that
 * the documents hang on, POOL:SLOT:GENERATION with commas between them, "-" for none.
 *
 * A line a key: "key POOL:SLOT:GENERATION destroyed | readable | damaged".
 */
#include "build-config.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/keys.h"
#include "core/loop.h"
#include "core/self.h"
#include "core/store.h"
#include "modules/jobs/jobs-module.h"
#include "modules/jobs/jobs-record.h"
#include "modules/jobs/jobs-states.h"
#include "modules/jobs/spool-private.h"

#define READ_SIZE 65536u
#define READ_DEADLINE (30 * IMP_SECOND)
#define KEY_TEXT_MAX 80u
#define KEYS_TEXT_MAX 4096u
#define DIGEST_TEXT_SIZE (2 * EVP_MAX_MD_SIZE + 1)

struct check {
    imp_self *self;
    struct store *store;
    struct spool *spool;
    imp_table *jobs, *personal;
};

struct row { /* a job, copied out of the transaction */
    uint8_t *bytes;
    size_t length;
};

static void fail(const char *what, const imp_error *error)
{
    fprintf(stderr, "job-check: %s: %s\n", what, error->message);
    exit(1);
}

/* ---- opening ---- */

static void check_open(struct check *check, const char *state, const char *master_path)
{
    static const struct spool_settings settings = {.inline_max = 32768,
                                                   .spool_buffers = 32 << 20,
                                                   .spool_files_ahead = 1,
                                                   .spool_file_extent = 128 << 10,
                                                   .spool_slot_step = 1024,
                                                   .key_pool = ""};
    uint8_t master[KEYS_MASTER_SIZE];
    imp_error error = {0};
    if (keys_master_load_or_make(master_path, false, master, &error) != IMP_OK)
        fail("master key", &error);
    struct store_options options = {
        .state_dir = state, .master = master, .mode = STORE_INLINE, .must_exist = true};
    if (loop_setup_for_test(&error) != IMP_OK)
        fail("loop", &error);
    check->self = self_new_for_test("jobs");
    if (store_open(&options, &check->store, &error) != IMP_OK)
        fail("store", &error);
    imp_wipe(master, sizeof master);
    store_set_current(check->store);
    if (store_table_declare(check->store, check->self, "jobs", jobs_table_specs, NULL, &error) !=
        IMP_OK)
        fail("tables", &error);
    if (spool_open(check->self, &settings, &check->spool, &error) != IMP_OK)
        fail("spool", &error);
    check->jobs = imp_table_open(check->self, "job");
    check->personal = imp_table_open(check->self, "personal");
}

/* ---- documents ---- */

static void on_readable(void *arg)
{
    *(bool *)arg = true;
}

/* Adds a whole document to the digest; the status that ended it. */
static imp_status digest_document(struct check *check, const struct spool_document *document,
                                  EVP_MD_CTX *digest)
{
    static uint8_t buffer[READ_SIZE];
    struct spool_reader *reader = NULL;
    imp_error error;
    bool is_readable = false;
    size_t length = 1;
    imp_status status =
        spool_reader_open(check->spool, document, on_readable, &is_readable, &reader, &error);
    int64_t deadline = imp_ticks() + READ_DEADLINE;
    while (status == IMP_OK && length > 0) {
        is_readable = false;
        status = spool_reader_read(reader, buffer, sizeof buffer, &length, &error);
        if (status == IMP_OK) {
            EVP_DigestUpdate(digest, buffer, length);
            continue;
        }
        if (status != IMP_BUSY)
            break;
        while (!is_readable && imp_ticks() < deadline)
            loop_run_once(imp_loop_control(), true);
        length = 1;
        status = is_readable ? IMP_OK : IMP_TIMEOUT;
    }
    spool_reader_close(reader);
    return status;
}

static void key_add(char keys[KEYS_TEXT_MAX], const struct spool_key *key)
{
    size_t used = strlen(keys);
    if (used + KEY_TEXT_MAX < KEYS_TEXT_MAX)
        snprintf(keys + used, KEYS_TEXT_MAX - used, "%s%" PRIu64 ":%" PRIu32 ":%" PRIu64,
                 used > 0 ? "," : "", key->pool, key->slot, key->generation);
}

static void digest_job(struct check *check, const Job *job, char text[DIGEST_TEXT_SIZE],
                       char keys[KEYS_TEXT_MAX])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t sum[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    imp_status status = IMP_OK;
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    EVP_DigestInit_ex(digest, EVP_sha256(), NULL);
    for (size_t i = 0; i < job->n_documents && status == IMP_OK; i++) {
        struct spool_document document;
        status = spool_document_unpack(
            (imp_bytes){job->documents[i]->reference.data, job->documents[i]->reference.len},
            &document);
        if (status == IMP_OK) {
            key_add(keys, &document.key);
            status = digest_document(check, &document, digest);
        }
    }
    EVP_DigestFinal_ex(digest, sum, &length);
    EVP_MD_CTX_free(digest);
    if (status != IMP_OK) {
        snprintf(text, DIGEST_TEXT_SIZE, "%s", imp_status_name(status));
        return;
    }
    for (unsigned i = 0; i < length; i++) {
        text[2 * (size_t)i] = digits[sum[i] >> 4];
        text[2 * (size_t)i + 1] = digits[sum[i] & 15];
    }
    text[2 * (size_t)length] = '\0';
}

/* ---- jobs ---- */

/* The title, as it was sent; "-" when there is none any more. Spaces and line ends become '_'. */
static void title_of(struct check *check, imp_tx *tx, const Job *job, char *title, size_t size)
{
    uint8_t row[JOBS_SEQUENCE_SIZE];
    struct spool_key key;
    imp_bytes sealed;
    size_t length = 0;
    jobs_put_u64(row, job->sequence);
    snprintf(title, size, "-");
    if (job->text.len == 0 ||
        spool_key_unpack((imp_bytes){job->text.data, job->text.len}, &key) != IMP_OK ||
        imp_tx_get(tx, check->personal, (imp_bytes){row, sizeof row}, &sealed) != IMP_OK ||
        sealed.length < SPOOL_STRINGS_OVERHEAD)
        return;
    uint8_t *plain = malloc(sealed.length);
    if (plain != NULL &&
        spool_strings_open(check->spool, &key, sealed, plain, &length, NULL) == IMP_OK) {
        Personal *personal = imp_message_decode(NULL, PERSONAL_TYPE, (imp_bytes){plain, length});
        if (personal != NULL && personal->job_name[0] != '\0')
            snprintf(title, size, "%s", personal->job_name);
        imp_message_free(personal);
    }
    free(plain);
    for (char *at = title; *at != '\0'; at++)
        if (*at <= ' ')
            *at = '_';
}

static void show_job(struct check *check, imp_tx *tx, imp_bytes value)
{
    char digest[DIGEST_TEXT_SIZE] = "none";
    char keys[KEYS_TEXT_MAX] = "";
    char title[1024];
    Job *job = imp_message_decode(NULL, JOB_TYPE, value);
    if (job == NULL) {
        printf("job 0 damaged 0 damaged - -\n");
        return;
    }
    if (job->has_documents)
        digest_job(check, job, digest, keys);
    title_of(check, tx, job, title, sizeof title);
    printf("job %" PRIu64 " %s %" PRIu64 " %s %s %s\n", job->sequence,
           job_situation_name(job->situation), job->bytes, digest, keys[0] != '\0' ? keys : "-",
           title);
    imp_message_free(job);
}

static void list_jobs(struct check *check)
{
    imp_tx *tx = NULL;
    imp_cursor *cursor = NULL;
    imp_bytes key, value;
    imp_error error = {0};
    if (imp_store_read_begin(check->self, &tx, &error) != IMP_OK)
        fail("reading", &error);
    imp_status status = imp_cursor_open(tx, check->jobs, (imp_bytes){NULL, 0}, &cursor);
    while (status == IMP_OK && (status = imp_cursor_next(cursor, &key, &value)) == IMP_OK)
        show_job(check, tx, value);
    if (status != IMP_NOT_FOUND) {
        imp_error_set(&error, status, "the walk ended with %s", imp_status_name(status));
        fail("jobs", &error);
    }
    imp_cursor_close(cursor);
    imp_store_read_end(tx);
}

/* ---- keys ---- */

/* Reads a number and the byte that ends it. */
static bool number_read(const char **text, char end, uint64_t max, uint64_t *number)
{
    char *rest;
    errno = 0;
    *number = strtoull(*text, &rest, 10);
    if (rest == *text || errno != 0 || *number > max || *rest != end)
        return false;
    *text = rest + 1;
    return true;
}

static void list_keys(struct check *check)
{
    char line[KEY_TEXT_MAX];
    while (fgets(line, sizeof line, stdin) != NULL) {
        const char *text = line;
        uint64_t pool, number, generation;
        struct key_slot slot;
        imp_error error;
        if (!number_read(&text, ':', UINT64_MAX, &pool) ||
            !number_read(&text, ':', UINT32_MAX, &number) ||
            !number_read(&text, '\n', UINT64_MAX, &generation)) {
            fprintf(stderr, "job-check: no key: %s", line);
            exit(2);
        }
        imp_status status = key_pool_get(&check->spool->keys, (uint32_t)number, &slot, &error);
        const char *state = status != IMP_OK                    ? "damaged"
                            : pool != check->spool->keys.number ? "destroyed"
                            : slot.generation == generation     ? "readable"
                                                                : "destroyed";
        printf("key %" PRIu64 ":%" PRIu64 ":%" PRIu64 " %s\n", pool, number, generation, state);
    }
}

int main(int count, char **words)
{
    struct check check = {0};
    bool wants_keys = count == 4 && strcmp(words[3], "--keys") == 0;
    if (count != 3 && !wants_keys) {
        fprintf(stderr, "usage: job-check STATE MASTER-KEY [--keys]\n");
        return 2;
    }
    check_open(&check, words[1], words[2]);
    if (wants_keys)
        list_keys(&check);
    else
        list_jobs(&check);
    /* What the spool still prepares ends with the process; nothing was promised for it. */
    return fflush(stdout) == 0 ? 0 : 1;
}
