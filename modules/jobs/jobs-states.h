/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-states.h - the life of a job as one table: situations x events.
 *
 * A situation is what a job is in; each is shown to the world as an IPP job-state (RFC 8011 section
 * 5.3.7) with job-state-reasons (section 5.3.8). An event that a situation does not know is refused,
 * and nothing changes a situation but job_situation_next(). The numbers stand in records: they are
 * never reused, new ones are added at the end.
 */
#ifndef JOBS_STATES_H
#define JOBS_STATES_H

#include <imprimatur/jobs.h>

enum job_situation {
    JOB_RECEIVING = 0,  /* its documents are coming in */
    JOB_INCOMPLETE = 1, /* created, no document yet */
    JOB_HELD = 2,       /* its owner will release it */
    JOB_HELD_PASSWORD = 3,
    JOB_HELD_ACCOUNT = 4,
    JOB_REVIEW = 5,    /* quarantined: nobody can be named its owner */
    JOB_UNCERTAIN = 6, /* a delivery's end is not known; a person decides */
    JOB_QUEUED = 7,    /* in a device's line, no byte sent */
    JOB_CONVERTING = 8,
    JOB_SENDING = 9,
    JOB_PRINTING = 10, /* all bytes taken, evidence awaited */
    JOB_STOPPED = 11,  /* the device is in trouble */
    JOB_CONFIRMED = 12,
    JOB_CONFIRMED_WARNINGS = 13,
    JOB_CONFIRMED_ERRORS = 14,
    JOB_UNCONFIRMED = 15, /* taken by the device, no evidence */
    JOB_EXPIRED = 16,
    JOB_CANCELED_USER = 17,
    JOB_CANCELED_OPERATOR = 18,
    JOB_CANCELED_DEVICE = 19,
    JOB_DOCUMENT_LOST = 20,
    JOB_ABORTED = 21,          /* a direct queue gave up */
    JOB_STOPPED_PRINTING = 22, /* in trouble after all bytes were taken */
    JOB_SITUATION_COUNT
};

enum job_event {
    JOB_COMMIT_HOLD,
    JOB_COMMIT_DIRECT,
    JOB_COMMIT_REVIEW,
    JOB_CLAIMED, /* an administrator named the owner of a quarantined job */
    JOB_RELEASE, /* claimed for a device, waits in its line */
    JOB_START,   /* its delivery begins */
    JOB_SENT,    /* the transport took the last byte */
    JOB_TROUBLE,
    JOB_TROUBLE_OVER,
    JOB_EVIDENCE, /* the device said that it is done */
    JOB_EVIDENCE_WARNINGS,
    JOB_EVIDENCE_ERRORS,
    JOB_NO_EVIDENCE,    /* none possible, or none in time */
    JOB_RETURN,         /* the delivery failed before byte 1: back to its owner */
    JOB_RETURN_DOUBTED, /* the same for one that was uncertain before: it still is */
    JOB_RETRY,          /* the same on a direct queue: back into the line */
    JOB_GIVE_UP,        /* a direct queue's last try failed */
    JOB_DOUBT,          /* failed after byte 1, or the server crashed meanwhile */
    JOB_CANCEL_USER,
    JOB_CANCEL_OPERATOR,
    JOB_CANCEL_DEVICE,
    JOB_EXPIRE,
    JOB_LOSE_DOCUMENT, /* a restore brought the record without its documents */
    JOB_EVENT_COUNT
};

/* The situation after `event`; IMP_INVALID when this event can't happen in this situation (then *next
 * is left alone). Any thread. */
imp_status job_situation_next(uint32_t situation, enum job_event event, uint32_t *next);

/* IPP state and reasons; a number that this version does not know is shown as held for review. */
imp_job_state job_situation_state(uint32_t situation);
const char *job_situation_reasons(uint32_t situation);
/* Completed, canceled or aborted: nothing follows. */
bool job_situation_is_final(uint32_t situation);
/* A delivery holds the job (in a line, sending, awaiting evidence, in trouble). */
bool job_situation_is_claimed(uint32_t situation);
/* A person may release it. */
bool job_situation_is_releasable(uint32_t situation);
/* "held", "delivery-uncertain": a word for logs, audit and CLI. */
const char *job_situation_name(uint32_t situation);
const char *job_event_name(enum job_event event);

#endif
