/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lpr.h - private to module lpr: the line printer daemon protocol (RFC 1179) as it is really spoken.
 *
 * A connection sends one command. Command 02 (receive a job) goes on with subcommands, each bringing a
 * control file or a data file; every step is answered by one octet, 0 for yes. The octet that completes
 * a job (control file and all data files that it lists are in) is sent after the commit, and it alone
 * promises anything.
 */
#ifndef IMPRIMATUR_MODULES_LPR_H
#define IMPRIMATUR_MODULES_LPR_H

#include <imprimatur/jobs.h>
#include <imprimatur/loop.h>
#include <imprimatur/metrics.h>
#include <imprimatur/stream.h>

#include <pthread.h>

/* Bounds of one connection, beside those that are settings. */
#define LPR_LINE_MAX 1024     /* bytes of a command line with its LF; BSD's lpd takes as much */
#define LPR_QUEUE_MAX 256     /* bytes of a queue name with its NUL */
#define LPR_FILE_NAME_MAX 256 /* bytes of a control or data file's name with its NUL */
#define LPR_SOURCE_MAX 256 /* bytes of a file's own name with its NUL; RFC 1179: 131 characters */
#define LPR_FILES_MAX 104  /* data files of a job: dfA..dfZ and dfa..dfz, twice */
#define LPR_JOBS_PENDING_MAX 8 /* control files of one connection whose data is not all in */
#define LPR_OPERANDS_MAX 64    /* users and job numbers in a status or remove command */
#define LPR_COPIES_MAX IMP_COPIES_MAX

struct lpr_conf {
    const char *queue_default;
    int64_t control_max;
    int64_t idle_timeout, upload_timeout, empty_file_wait;
    int64_t jobs_per_connection;
    bool host_is_proof;
};

/* ---- lpr-looks.c ---- */

/* Looks through queues, on a worker, one at a time for all connections. */
struct lpr_looks {
    imp_self *self;
    pthread_mutex_t lock;
    bool is_taken;          /* one is under way */
    struct lpr_look *first; /* of those that wait */
    uint32_t waiting;
};

struct lpr_look {
    struct lpr_looks *looks;
    void (*run)(void *arg);
    void (*done)(void *arg, bool was_cancelled);
    void *arg;
    imp_loop *loop;
    struct lpr_look *next;
    bool is_forgotten;
};

void lpr_looks_init(struct lpr_looks *looks, imp_self *self);
void lpr_looks_clear(struct lpr_looks *looks);
/* As imp_work, when it is this one's turn; false (and neither is called) when too many wait. `look` is the
 * caller's, and stays up to `done`. Loop threads. */
bool lpr_look_begin(struct lpr_looks *looks, struct lpr_look *look, void (*run)(void *arg),
                    void (*done)(void *arg, bool was_cancelled), void *arg);
/* Nobody reads the answer any more: a look that still waits is not run, `done` is called all the same. On
 * the loop that began it. */
void lpr_look_forget(struct lpr_look *look);

struct lpr {
    imp_self *self;
    struct lpr_looks looks;
    _Atomic(const struct lpr_conf *) conf; /* replaced by reconfigure */
    imp_metric *jobs, *refused, *aborted, *retries, *status_queries, *removed;
};

/* ---- lpr-parse.c: pure, bounded, no state ---- */

#define LPR_PRINT_WAITING 1 /* RFC 1179 section 5 */
#define LPR_RECEIVE_JOB 2
#define LPR_STATUS_SHORT 3
#define LPR_STATUS_LONG 4
#define LPR_REMOVE 5

#define LPR_ABORT_JOB 1 /* RFC 1179 section 6 */
#define LPR_CONTROL_FILE 2
#define LPR_DATA_FILE 3

struct lpr_command {
    uint8_t code;
    char queue[LPR_QUEUE_MAX]; /* clean UTF-8 */
    char agent[IMP_NAME_MAX];  /* LPR_REMOVE: who asks */
    uint32_t operand_count;
    char operands[LPR_OPERANDS_MAX][IMP_NAME_MAX]; /* user names or job numbers */
};

/* How a file's size is to be read. */
#define LPR_SIZE_KNOWN 0
#define LPR_SIZE_UNTIL_CLOSE 1 /* a number that clients give for "unknown" */
#define LPR_SIZE_ZERO 2        /* empty, or unknown: what follows decides */

struct lpr_file {
    uint8_t code; /* LPR_ABORT_JOB, LPR_CONTROL_FILE, LPR_DATA_FILE */
    int size_kind;
    uint64_t size;
    char name[LPR_FILE_NAME_MAX]; /* as sent, cleaned; never used as a path */
    bool has_number;
    uint32_t number; /* the three digits of cfA123host */
};

/* `line` without its LF. IMP_INVALID when it is no command. */
imp_status lpr_command_parse(const uint8_t *line, size_t length, struct lpr_command *command);
/* A subcommand line without its LF. */
imp_status lpr_file_parse(const uint8_t *line, size_t length, struct lpr_file *file);

/* A data file as a control file lists it. */
struct lpr_listed {
    char name[LPR_FILE_NAME_MAX];
    char source[LPR_SOURCE_MAX]; /* N: the file's own name */
    char format;                 /* 'f', 'l', 'o', ... */
    uint32_t copies;             /* how many lines ask for it */
    bool is_here;
};

/* What a control file says; missing lines are "". */
struct lpr_control {
    char host[IMP_NAME_MAX];         /* H */
    char user[IMP_NAME_MAX];         /* P */
    char job_name[IMP_NAME_MAX * 2]; /* J, else T */
    uint32_t file_count, file_room;
    struct lpr_listed *files; /* most control files list one, so room for more is made by need */
};

/* Reads a control file (RFC 1179 section 7). Lines that are not understood are left alone. IMP_INVALID
 * for NUL bytes inside, IMP_LIMIT for too many files or no memory. lpr_control_clear is due in any case. */
imp_status lpr_control_parse(const uint8_t *text, size_t length, struct lpr_control *control);
/* Wipes what was read and frees its list of files. */
void lpr_control_clear(struct lpr_control *control);

/* ---- lpr-session.c ---- */

imp_status lpr_accepted(imp_self *self, void *instance, const char *listener, imp_stream *stream);

/* ---- lpr-status.c ---- */

/* Commands 03 and 04 under way: as a removal, below. */
struct lpr_query;
struct lpr_query *lpr_status(struct lpr *lpr, imp_stream *stream,
                             const struct lpr_command *command);
void lpr_query_forget(struct lpr_query *query);

/* ---- lpr-remove.c ---- */

/* Command 05 under way. It writes its answer and closes the stream; whoever started it calls
 * lpr_removal_forget once, when the stream has closed. NULL when memory is short: then the stream is
 * being closed already. */
struct lpr_removal;
struct lpr_removal *lpr_remove(struct lpr *lpr, imp_stream *stream,
                               const struct lpr_command *command);
void lpr_removal_forget(struct lpr_removal *removal);

/* ---- lpr-text.c ---- */

/* True when an operand is a job number; commands 03 to 05 tell users and numbers apart by that. */
bool lpr_operand_is_number(const char *operand, uint32_t *number);
/* Formats and writes to the stream; cut at 1 KiB. */
void lpr_say(imp_stream *stream, const char *format, ...) IMP_PRINTF(2, 3);

#endif
