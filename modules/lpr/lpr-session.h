/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lpr-session.h - one connection, shared by its machine (lpr-session.c: lines, states, octets) and what
 * becomes of its files (lpr-files.c: door, data, control files, commit).
 */
#ifndef IMPRIMATUR_MODULES_LPR_SESSION_H
#define IMPRIMATUR_MODULES_LPR_SESSION_H

#include "lpr-jobs.h"

#include <imprimatur/jobs-upload.h>

#define LPR_ANSWER_YES 0
#define LPR_ANSWER_NO 1    /* RFC 1179 section 3: any other octet than zero refuses */
#define LPR_ANSWER_RETRY 2 /* what BSD's lpd says for "no room now" */

enum lpr_state {
    LPR_STATE_COMMAND,     /* the connection's first line */
    LPR_STATE_SUBCOMMAND,  /* after command 02 */
    LPR_STATE_CONTROL,     /* bytes of a control file */
    LPR_STATE_DATA,        /* bytes of a data file of known size */
    LPR_STATE_DATA_EMPTY,  /* a data file of size 0: empty or unknown? */
    LPR_STATE_DATA_STREAM, /* bytes of a data file up to the end of the connection */
    LPR_STATE_FILE_END,    /* the NUL behind a file */
    LPR_STATE_COMMITTING,  /* waits for the commit */
    LPR_STATE_ANSWERED,    /* nothing more is read */
};

struct lpr_session {
    struct lpr *lpr;
    imp_upload upload;
    enum lpr_state state;
    char queue[LPR_QUEUE_MAX];
    int64_t jobs_left;
    struct lpr_jobs jobs;
    struct lpr_file file;   /* the one that is coming */
    struct lpr_job *target; /* whose data file is coming */
    uint64_t file_left;
    uint8_t *control_text; /* the control file that is coming */
    size_t control_length;
    bool has_ended; /* the peer has sent all it will */
    imp_timer *empty_timer;
    struct lpr_removal *removal;
    struct lpr_query *query;
};

/* ---- lpr-session.c ---- */

/* Goes on with what is in the input. */
void lpr_session_process(struct lpr_session *session);
/* Sends the octet. */
void lpr_session_answer(struct lpr_session *session, uint8_t octet);
/* Says no, drops everything, and lets the connection go once the octet is out. `error` may be NULL for
 * what is no LPD. */
void lpr_session_refuse(struct lpr_session *session, uint8_t octet, const char *reason,
                        const imp_error *error);
/* The octet that refuses with this status. */
uint8_t lpr_session_octet(imp_status status);

/* ---- lpr-files.c ---- */

/* Asks, at subcommand 02, where a client still listens, whether the queue can be printed to. False:
 * refused. */
bool lpr_files_open_door(struct lpr_session *session, const char *queue);
/* A data file was announced; false with `error` when it can't be taken. */
bool lpr_files_data_begin(struct lpr_session *session, imp_error *error);
/* Hands bytes to the spool; false: refused. */
bool lpr_files_data_write(struct lpr_session *session, const void *data, size_t length);
/* A data file is in. Answers it, or leaves that to the commit that it completes. */
void lpr_files_data_end(struct lpr_session *session);
/* The same for a control file. */
bool lpr_files_control_begin(struct lpr_session *session, imp_error *error);
void lpr_files_control_end(struct lpr_session *session);
/* Frees what came of a control file. */
void lpr_files_control_drop(struct lpr_session *session);

#endif
