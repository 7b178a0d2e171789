/* SPDX-License-Identifier: Apache-2.0 */
/* The table of states; every row is read by a test. */
#include "modules/jobs/jobs-states.h"

struct situation_row {
    const char *name;
    imp_job_state state;
    const char *reasons;
    bool is_claimed, is_releasable;
};

static const struct situation_row situations[JOB_SITUATION_COUNT] = {
    [JOB_RECEIVING] = {"receiving", IMP_JOB_PENDING, "job-incoming", false, false},
    [JOB_INCOMPLETE] = {"incomplete", IMP_JOB_PENDING, "job-data-insufficient", false, false},
    [JOB_HELD] = {"held", IMP_JOB_PENDING_HELD, "job-held-for-release", false, true},
    [JOB_HELD_PASSWORD] = {"password-wait", IMP_JOB_PENDING_HELD, "job-password-wait", false, true},
    [JOB_HELD_ACCOUNT] = {"account-needed", IMP_JOB_PENDING_HELD, "account-info-needed", false,
                          true},
    [JOB_REVIEW] = {"quarantined", IMP_JOB_PENDING_HELD, "job-held-for-review", false, false},
    [JOB_UNCERTAIN] = {"delivery-uncertain", IMP_JOB_PENDING_HELD, "job-held-for-review", false,
                       true},
    [JOB_QUEUED] = {"queued", IMP_JOB_PENDING, "none", true, false},
    [JOB_CONVERTING] = {"converting", IMP_JOB_PROCESSING, "job-transforming", true, false},
    [JOB_SENDING] = {"sending", IMP_JOB_PROCESSING, "job-outgoing", true, false},
    [JOB_PRINTING] = {"printing", IMP_JOB_PROCESSING, "job-printing", true, false},
    [JOB_STOPPED] = {"stopped", IMP_JOB_PROCESSING_STOPPED, "printer-stopped", true, false},
    [JOB_STOPPED_PRINTING] = {"stopped-printing", IMP_JOB_PROCESSING_STOPPED, "printer-stopped",
                              true, false},
    [JOB_CONFIRMED] = {"confirmed", IMP_JOB_COMPLETED, "job-completed-successfully", false, false},
    [JOB_CONFIRMED_WARNINGS] = {"confirmed-with-warnings", IMP_JOB_COMPLETED,
                                "job-completed-with-warnings", false, false},
    [JOB_CONFIRMED_ERRORS] = {"confirmed-with-errors", IMP_JOB_COMPLETED,
                              "job-completed-with-errors", false, false},
    [JOB_UNCONFIRMED] = {"unconfirmed", IMP_JOB_COMPLETED, "queued-in-device", false, false},
    [JOB_EXPIRED] = {"expired", IMP_JOB_ABORTED, "job-canceled-after-timeout", false, false},
    [JOB_CANCELED_USER] = {"canceled-by-user", IMP_JOB_CANCELED, "job-canceled-by-user", false,
                           false},
    [JOB_CANCELED_OPERATOR] = {"canceled-by-operator", IMP_JOB_CANCELED, "job-canceled-by-operator",
                               false, false},
    [JOB_CANCELED_DEVICE] = {"canceled-at-device", IMP_JOB_CANCELED, "job-canceled-at-device",
                             false, false},
    [JOB_DOCUMENT_LOST] = {"document-lost", IMP_JOB_ABORTED, "document-access-error", false, false},
    [JOB_ABORTED] = {"aborted", IMP_JOB_ABORTED, "aborted-by-system", false, false},
};

/* Where an event leads; 0, what a row leaves out, is "can't happen here". */
#define TO(situation) ((uint8_t)((situation) + 1))
_Static_assert(JOB_SITUATION_COUNT < UINT8_MAX, "a situation must fit into the table's bytes");

/* Rows that several situations share. */
#define ENDS_UNSENT                                                                                \
    [JOB_CANCEL_USER] = TO(JOB_CANCELED_USER), [JOB_CANCEL_OPERATOR] = TO(JOB_CANCELED_OPERATOR),  \
    [JOB_EXPIRE] = TO(JOB_EXPIRED), [JOB_LOSE_DOCUMENT] = TO(JOB_DOCUMENT_LOST)
#define INCOMING                                                                                   \
    [JOB_COMMIT_HOLD] = TO(JOB_HELD), [JOB_COMMIT_DIRECT] = TO(JOB_QUEUED),                        \
    [JOB_COMMIT_REVIEW] = TO(JOB_REVIEW), ENDS_UNSENT
#define HELD [JOB_RELEASE] = TO(JOB_QUEUED), ENDS_UNSENT
/* Before the first byte a job can go back, to its owner or into the line. */
#define GOES_BACK                                                                                  \
    [JOB_RETURN] = TO(JOB_HELD), [JOB_RETURN_DOUBTED] = TO(JOB_UNCERTAIN),                         \
    [JOB_RETRY] = TO(JOB_QUEUED), [JOB_GIVE_UP] = TO(JOB_ABORTED)
#define ENDS_SENT                                                                                  \
    [JOB_DOUBT] = TO(JOB_UNCERTAIN), [JOB_CANCEL_USER] = TO(JOB_CANCELED_USER),                    \
    [JOB_CANCEL_OPERATOR] = TO(JOB_CANCELED_OPERATOR),                                             \
    [JOB_CANCEL_DEVICE] = TO(JOB_CANCELED_DEVICE)
#define EVIDENCE                                                                                   \
    [JOB_EVIDENCE] = TO(JOB_CONFIRMED), [JOB_EVIDENCE_WARNINGS] = TO(JOB_CONFIRMED_WARNINGS),      \
    [JOB_EVIDENCE_ERRORS] = TO(JOB_CONFIRMED_ERRORS), [JOB_NO_EVIDENCE] = TO(JOB_UNCONFIRMED)

/* Final situations have no row: nothing follows them. */
static const uint8_t transitions[JOB_SITUATION_COUNT][JOB_EVENT_COUNT] = {
    [JOB_RECEIVING] = {INCOMING},
    [JOB_INCOMPLETE] = {INCOMING},
    [JOB_HELD] = {HELD},
    [JOB_HELD_PASSWORD] = {HELD},
    [JOB_HELD_ACCOUNT] = {HELD},
    [JOB_REVIEW] = {[JOB_CLAIMED] = TO(JOB_HELD), ENDS_UNSENT},
    [JOB_UNCERTAIN] = {HELD},
    [JOB_QUEUED] = {[JOB_START] = TO(JOB_SENDING), GOES_BACK, ENDS_UNSENT},
    [JOB_CONVERTING] = {[JOB_START] = TO(JOB_SENDING),
                        [JOB_TROUBLE] = TO(JOB_STOPPED),
                        GOES_BACK,
                        ENDS_SENT,
                        [JOB_LOSE_DOCUMENT] = TO(JOB_DOCUMENT_LOST)},
    [JOB_SENDING] = {[JOB_SENT] = TO(JOB_PRINTING),
                     [JOB_TROUBLE] = TO(JOB_STOPPED),
                     EVIDENCE,
                     GOES_BACK,
                     ENDS_SENT,
                     [JOB_LOSE_DOCUMENT] = TO(JOB_DOCUMENT_LOST)},
    [JOB_STOPPED] = {[JOB_SENT] = TO(JOB_PRINTING),
                     [JOB_TROUBLE] = TO(JOB_STOPPED),
                     [JOB_TROUBLE_OVER] = TO(JOB_SENDING),
                     EVIDENCE,
                     GOES_BACK,
                     ENDS_SENT,
                     [JOB_LOSE_DOCUMENT] = TO(JOB_DOCUMENT_LOST)},
    /* All bytes are there: nothing is ever sent again by itself. */
    [JOB_PRINTING] = {[JOB_TROUBLE] = TO(JOB_STOPPED_PRINTING), EVIDENCE, ENDS_SENT},
    [JOB_STOPPED_PRINTING] = {[JOB_TROUBLE] = TO(JOB_STOPPED_PRINTING),
                              [JOB_TROUBLE_OVER] = TO(JOB_PRINTING),
                              EVIDENCE,
                              ENDS_SENT},
};

static const char *const event_names[JOB_EVENT_COUNT] = {
    [JOB_COMMIT_HOLD] = "commit-hold",
    [JOB_COMMIT_DIRECT] = "commit-direct",
    [JOB_COMMIT_REVIEW] = "commit-review",
    [JOB_CLAIMED] = "claimed",
    [JOB_RELEASE] = "release",
    [JOB_START] = "start",
    [JOB_SENT] = "sent",
    [JOB_TROUBLE] = "trouble",
    [JOB_TROUBLE_OVER] = "trouble-over",
    [JOB_EVIDENCE] = "evidence",
    [JOB_EVIDENCE_WARNINGS] = "evidence-warnings",
    [JOB_EVIDENCE_ERRORS] = "evidence-errors",
    [JOB_NO_EVIDENCE] = "no-evidence",
    [JOB_RETURN] = "return",
    [JOB_RETURN_DOUBTED] = "return-doubted",
    [JOB_RETRY] = "retry",
    [JOB_GIVE_UP] = "give-up",
    [JOB_DOUBT] = "doubt",
    [JOB_CANCEL_USER] = "cancel-user",
    [JOB_CANCEL_OPERATOR] = "cancel-operator",
    [JOB_CANCEL_DEVICE] = "cancel-device",
    [JOB_EXPIRE] = "expire",
    [JOB_LOSE_DOCUMENT] = "lose-document",
};

/* A record of a newer version may hold a situation that this one does not know. */
static const struct situation_row *situation_row(uint32_t situation)
{
    return &situations[situation < JOB_SITUATION_COUNT ? situation : JOB_REVIEW];
}

imp_status job_situation_next(uint32_t situation, enum job_event event, uint32_t *next)
{
    if (situation >= JOB_SITUATION_COUNT || (uint32_t)event >= JOB_EVENT_COUNT)
        return IMP_INVALID;
    uint8_t target = transitions[situation][event];
    if (target == 0)
        return IMP_INVALID;
    *next = target - 1u;
    return IMP_OK;
}

imp_job_state job_situation_state(uint32_t situation)
{
    return situation_row(situation)->state;
}

const char *job_situation_reasons(uint32_t situation)
{
    return situation_row(situation)->reasons;
}

bool job_situation_is_final(uint32_t situation)
{
    return situation_row(situation)->state >= IMP_JOB_CANCELED;
}

bool job_situation_is_claimed(uint32_t situation)
{
    return situation_row(situation)->is_claimed;
}

bool job_situation_is_releasable(uint32_t situation)
{
    return situation_row(situation)->is_releasable;
}

const char *job_situation_name(uint32_t situation)
{
    return situation_row(situation)->name;
}

const char *job_event_name(enum job_event event)
{
    return (uint32_t)event < JOB_EVENT_COUNT ? event_names[event] : "unknown";
}
