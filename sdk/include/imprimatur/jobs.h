/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs.h - service `jobs`: queues, jobs, documents and deliveries.
 *
 * Three parties use it:
 *   - intake modules (lpr, raw, ...) bring jobs in: imp_intake_begin, _document, _write,
 *     _document_end, _commit. A job exists when the commit's `done` said IMP_OK, and not before: then
 *     record, documents and audit event are on disk in one atomic commit;
 *   - people and devices view, cancel and release jobs: imp_job_list, imp_job_cancel,
 *     imp_job_release;
 *   - transports put documents on devices: they offer a service `transport.SCHEME`
 *     (imp_transport_v1) and see deliveries, never jobs.
 *
 * States are IPP's (RFC 8011 section 5.3.7), reasons are IPP keywords (section 5.3.8).
 */
#ifndef IMPRIMATUR_JOBS_H
#define IMPRIMATUR_JOBS_H

#include <imprimatur/accounts.h>
#include <imprimatur/base.h>
#include <imprimatur/hook.h>
#include <imprimatur/loop.h>
#include <imprimatur/service.h>
#include <imprimatur/store.h>
#include <imprimatur/ticket.h>

#define IMP_JOBS_V1                                                                                \
    {                                                                                              \
        "jobs", 1                                                                                  \
    }

/* ---- queues ---- */

typedef int32_t imp_queue_release;
#define IMP_QUEUE_HOLD ((imp_queue_release)0)   /* until its owner releases it */
#define IMP_QUEUE_DIRECT ((imp_queue_release)1) /* to its device at once */

typedef int32_t imp_queue_private;
#define IMP_PRIVATE_OFF ((imp_queue_private)0)
#define IMP_PRIVATE_SENT ((imp_queue_private)1) /* shred when the transport took the last byte */
#define IMP_PRIVATE_CONFIRMED ((imp_queue_private)2) /* shred when the delivery is confirmed */

#define IMP_QUEUE_OWNER_FROM_PJL 0x1u /* @PJL SET USERNAME / JOBNAME name owner and title */
#define IMP_QUEUE_STRIP_PJL_HOLD 0x2u /* drop PJL HOLD and driver PINs at release */

typedef struct imp_queue {
    uint32_t size;
    imp_id id;
    char name[IMP_NAME_MAX];
    imp_queue_release release;
    imp_queue_private private_mode;
    uint32_t flags; /* IMP_QUEUE_* */
    bool is_accepting;
    imp_id device;        /* direct: where to */
    int64_t hold_expiry;  /* us a held job is kept */
    int64_t keep_after;   /* us a delivered document is kept; 0 = deleted at once */
    uint64_t jobs_queued; /* jobs not in a final state */
} imp_queue;

/* ---- intake ---- */

typedef struct imp_intake_options {
    uint32_t size;
    const char *queue;     /* name; IMP_NOT_FOUND when there is none */
    const char *protocol;  /* "lpr", "raw": for records and metrics */
    const char *address;   /* the client's numeric address */
    int64_t expected_size; /* bytes announced; -1 unknown: asked at the door whether they fit */
    /* Called on the intake's loop when writing may go on after IMP_BUSY. */
    void (*ready)(void *arg);
    void *arg;
} imp_intake_options;

typedef struct imp_document_options {
    uint32_t size;
    const char *name;      /* document-name, personal; may be NULL */
    const char *format;    /* declared MIME media type, or NULL */
    int64_t expected_size; /* -1 unknown */
} imp_document_options;

/* What the client said of the job; strings are UTF-8 by imp_text_clean and copied. */
typedef struct imp_job_attributes {
    uint32_t size;
    const char *user_name; /* job-originating-user-name as submitted; NULL: unknown */
    const char *job_name;  /* NULL: the first document's name */
    const char *host_name; /* as the client calls itself; never an identity */
    uint32_t lpd_number;   /* 0..999 from the control file's name; with has_lpd_number */
    bool has_lpd_number;
    bool
        is_quarantined; /* nobody can be named its owner: kept, to be claimed by an administrator */
    imp_ticket ticket;
    /* Names one submission: a retry with the same bytes, documents and digest is the same job after a
     * crash that ate the acknowledgement, and without one where the acknowledgement could not be handed
     * to the client (imp_job_acknowledged did not come in time): it will send again. Empty: no such
     * check. */
    imp_bytes submission;
} imp_job_attributes;

typedef struct imp_job_result {
    uint32_t size;
    imp_id id;
    uint32_t job_id; /* IPP's 31-bit job-id */
    bool is_retry;   /* the submission was already here */
} imp_job_result;

/* An open intake; it carries its generation of `jobs`, and all calls on it go there. */
typedef struct imp_intake imp_intake;

struct imp_intake_ops {
    uint32_t size;
    imp_status (*document)(imp_intake *intake, const imp_document_options *options,
                           imp_error *error);
    imp_status (*write)(imp_intake *intake, const void *data, size_t length, imp_error *error);
    imp_status (*document_end)(imp_intake *intake, imp_error *error);
    void (*commit)(imp_intake *intake, const imp_job_attributes *attributes,
                   void (*done)(imp_status status, const imp_job_result *result,
                                const imp_error *error, void *arg),
                   void *arg);
    void (*abandon)(imp_intake *intake);
};

struct imp_intake { /* what lies behind belongs to `jobs` */
    const struct imp_intake_ops *ops;
};

/* ---- views ---- */

/* Who looks; decides with hook `job.view` what is shown. */
typedef struct imp_viewer {
    uint32_t size;
    imp_id principal;      /* authenticated; zero: nobody */
    bool is_administrator; /* control socket: sees ids and states of all */
    const char
        *user_name;      /* claimed, not proved; with `address` it is a proof where host_is_proof */
    const char *address; /* numeric address of the one who asks */
    bool host_is_proof;  /* user name plus submitting host prove ownership */
} imp_viewer;

/* RFC 8011 section 5.3.7 */
typedef int32_t imp_job_state;
#define IMP_JOB_PENDING ((imp_job_state)3)
#define IMP_JOB_PENDING_HELD ((imp_job_state)4)
#define IMP_JOB_PROCESSING ((imp_job_state)5)
#define IMP_JOB_PROCESSING_STOPPED ((imp_job_state)6)
#define IMP_JOB_CANCELED ((imp_job_state)7)
#define IMP_JOB_ABORTED ((imp_job_state)8)
#define IMP_JOB_COMPLETED ((imp_job_state)9)

typedef struct imp_job_view {
    uint32_t size;
    imp_id id;
    uint32_t job_id;
    uint32_t lpd_number;
    imp_job_state state;
    const char *reasons; /* IPP keywords separated by commas; constant */
    const char *queue;   /* name */
    uint32_t position;   /* among the queue's active jobs, from 1; 0 for final states */
    bool is_owner;       /* the viewer has proved to be the owner */
    bool is_delivery_uncertain;
    const char *owner;    /* "" unless the viewer may see it */
    const char *job_name; /* "" unless the viewer may see it */
    imp_id owner_id;      /* zero when unknown or not to be seen */
    uint64_t document_bytes;
    uint32_t document_count;
    int64_t received, expires; /* imp_now(); expires 0 = never */
    const char *last_device;   /* name of the device of its last delivery, "" when none */
    uint64_t sequence;         /* the order in which jobs came; for imp_job_filter's `after` */
} imp_job_view;

typedef struct imp_job_filter {
    uint32_t size;
    const char *queue;  /* NULL: all queues */
    bool include_final; /* completed, canceled, aborted too */
    bool only_mine;     /* only what the viewer owns */
    uint32_t limit;     /* 0 = 1,000 */
    uint64_t after;     /* only jobs that came after the one of this sequence; 0: from the first */
} imp_job_filter;

/* Argument of hook `job.view`: a hook may only take away. */
typedef struct imp_job_view_argument {
    uint32_t size;
    const imp_viewer *viewer;
    imp_id owner_id;
    bool is_owner;
    bool show_owner, show_name; /* what will be shown */
} imp_job_view_argument;

/* Argument of hook `job.received` (asked before the commit; a refusal refuses the job). */
typedef struct imp_job_received_argument {
    uint32_t size;
    imp_id job;
    const imp_queue *queue;
    imp_id owner_id;
    uint64_t document_bytes;
    const char *protocol;
    const char *address;
} imp_job_received_argument;

/* ---- hook `job.release` ---- */

/* What a hook wants to know of the person before the job goes out. */
typedef struct imp_release_question {
    uint32_t size;
    const char
        *id; /* "MODULE.WORD", [a-z0-9.-] and at most 63 octets: names it in answers and audit */
    const char *text;           /* the sentence that the person reads, UTF-8 */
    const char *const *choices; /* words that answer it, each as `id` is */
    uint32_t choice_count;      /* 1..IMP_RELEASE_CHOICES_MAX */
} imp_release_question;

#define IMP_RELEASE_CHOICES_MAX 16u
#define IMP_RELEASE_ANSWERS_MAX 16u
#define IMP_RELEASE_WORD_MAX 63u

/* What the person said to a question. */
typedef struct imp_release_answer {
    const char *question; /* its id */
    const char *choice;
} imp_release_answer;

typedef struct imp_job_release_argument imp_job_release_argument;

struct imp_release_ops { /* called through the functions below */
    uint32_t size;
    imp_hook_answer (*ask)(imp_job_release_argument *argument, const imp_release_question *question,
                           uint32_t *choice, imp_error *error);
    imp_status (*change)(imp_job_release_argument *argument, imp_ticket_layer layer,
                         const char *name, const char *value, imp_error *error);
};

/* Argument of hook `job.release`, asked before the claim. A hook allows (IMP_HOOK_CONTINUE), denies
 * (IMP_HOOK_REFUSE with the reason), asks the person (imp_release_ask) or changes the ticket
 * (imp_release_change). All hooks are asked anew at each release of the job, also when the person answers
 * a question; what they changed before is forgotten then. */
struct imp_job_release_argument {
    uint32_t size;
    imp_id job;
    imp_id device;
    const imp_session *session;   /* NULL: a direct queue; nobody is there to be asked */
    uint32_t device_capabilities; /* IMP_DEVICE_* */
    imp_queue_release queue_release;
    imp_id queue;
    imp_id owner_id; /* zero: unknown */
    uint64_t document_bytes;
    uint32_t document_count;
    imp_ticket
        ticket; /* as the delivery would have it: one value a name, earlier hooks' changes in it */
    const struct imp_release_ops *ops;
};

/* Asks the person, who answers by releasing once more with a choice: `imprimctl job release ... --answer
 * ID=CHOICE`. IMP_HOOK_CONTINUE: *choice is the index of what was answered, go on. Anything else: the
 * hook's answer, to be returned at once (or handed to imp_hook_resume); the person reads the question. At
 * a direct queue that refuses the job. Several hooks may ask, one question at a time and together at most
 * IMP_RELEASE_ANSWERS_MAX: each release brings the answers to all of them. On the loop of the hook's run. */
static inline imp_hook_answer imp_release_ask(imp_job_release_argument *argument,
                                              const imp_release_question *question,
                                              uint32_t *choice, imp_error *error)
{
    return argument->ops->ask(argument, question, choice, error);
}

/* Changes one value of this delivery's ticket; the job's own stays. `layer` is IMP_TICKET_RULE (what a rule
 * of the house says) or IMP_TICKET_RELEASER (what the person chose, which wins); within a layer the last
 * change wins. `name` is an IPP attribute name, `value` UTF-8 of 1 to 255 octets without control
 * characters; both are copied. IMP_INVALID for what is not, IMP_LIMIT beyond IMP_TICKET_VALUES_MAX changes.
 * On the loop of the hook's run. */
static inline imp_status imp_release_change(imp_job_release_argument *argument,
                                            imp_ticket_layer layer, const char *name,
                                            const char *value, imp_error *error)
{
    return argument->ops->change(argument, layer, name, value, error);
}

/* ---- release ---- */

typedef struct imp_release_request {
    uint32_t size;
    imp_id job;
    imp_id device;
    imp_id session;    /* who releases; must be valid and own the job or be its delegate */
    imp_ticket change; /* layer releaser; may be empty */
    const imp_release_answer *answers; /* to questions of an earlier try */
    uint32_t answer_count;
    /* A hook asks something, which the answers do not say: called before `done`, with its `arg`, on the
     * same loop. Strings are valid during the call. May be NULL: the error of `done` holds it as text. */
    void (*asked)(const imp_release_question *question, void *arg);
} imp_release_request;

/* ---- deliveries, for transports ---- */

typedef struct imp_delivery imp_delivery;

typedef struct imp_delivery_info {
    uint32_t size;
    imp_id id;
    imp_id job;
    imp_id device;
    const char *device_name;
    uint32_t device_capabilities; /* IMP_DEVICE_* */
    const char *uri;              /* "socket://192.0.2.7:9100" */
    uint32_t queue_flags;         /* IMP_QUEUE_* */
    imp_ticket ticket;            /* resolved layers */
    uint32_t document_count;
    uint64_t document_bytes; /* of all documents together */
    const char *user_name;   /* personal; send only as identity_to_device allows */
    const char *job_name;
    imp_id owner_id;
} imp_delivery_info;

typedef int32_t imp_delivery_outcome;
/* the device itself said that it is done */
#define IMP_DELIVERY_CONFIRMED ((imp_delivery_outcome)0)
/* all bytes were taken; this transport can have no evidence, or none came in time */
#define IMP_DELIVERY_UNCONFIRMED ((imp_delivery_outcome)1)
/* nothing was sent: the job may be tried again (device busy, refused, not reached) */
#define IMP_DELIVERY_NOT_STARTED ((imp_delivery_outcome)2)
/* failed after the first byte: a person decides */
#define IMP_DELIVERY_UNCERTAIN ((imp_delivery_outcome)3)
/* canceled at the device: final */
#define IMP_DELIVERY_CANCELED ((imp_delivery_outcome)4)

struct imp_delivery_ops {
    uint32_t size;
    const imp_delivery_info *(*info)(imp_delivery *delivery);
    imp_status (*read)(imp_delivery *delivery, uint32_t document, void *buffer, size_t size,
                       size_t *length, imp_error *error);
    void (*first_byte)(imp_delivery *delivery);
    void (*progress)(imp_delivery *delivery, uint64_t bytes_sent);
    void (*trouble)(imp_delivery *delivery, const char *reason);
    void (*finish)(imp_delivery *delivery, imp_delivery_outcome outcome, const imp_error *error);
    void (*sent)(imp_delivery *delivery);
};

struct imp_delivery { /* what lies behind belongs to `jobs` */
    const struct imp_delivery_ops *ops;
    /* Set by the transport in deliver(); called on the delivery's loop. */
    void (*readable)(imp_delivery *delivery, void *arg); /* after read answered IMP_BUSY */
    void (*cancel)(imp_delivery *delivery, void *arg);   /* give up; finish is due within 10 s */
    void *arg;
};

/* Service `transport.SCHEME`, version 1, offered by transports and called by jobs. */
typedef struct imp_transport_v1 {
    uint32_t size;
    /* Takes a delivery whose claim is committed, on the loop it stays on; finish is due exactly once
     * for every delivery that was taken (IMP_OK). */
    imp_status (*deliver)(imp_self *provider, imp_delivery *delivery, imp_error *error);
} imp_transport_v1;

/* ---- what a document says of itself ---- */

typedef struct imp_document_span { /* bytes of the document's head */
    uint32_t offset, length;
    int32_t kind; /* IMP_SPAN_* */
} imp_document_span;
#define IMP_SPAN_PJL_HEADER                                                                        \
    1                       /* from the UEL to the end of the line before ENTER LANGUAGE or data */
#define IMP_SPAN_PJL_HOLD 2 /* a line that makes the device keep the job: HOLD, driver PIN, ... */
#define IMP_SPAN_PJL_USERNAME 3
#define IMP_SPAN_PJL_JOBNAME 4
#define IMP_SPAN_PJL_COPIES 5 /* SET COPIES or QTY */
#define IMP_SPAN_PJL_DUPLEX 6
#define IMP_SPAN_PJL_BINDING 7
#define IMP_SPAN_PJL_ENTER 8    /* the ENTER LANGUAGE line */
#define IMP_SPAN_PJL_JOB_NAME 9 /* NAME="..." within a JOB line: that part alone may be taken out */

#define IMP_DOCUMENT_SPANS_MAX 64
#define IMP_DOCUMENT_HEAD_MAX ((size_t)32 * 1024) /* bytes of a document that are looked at */

typedef struct imp_document_head {
    uint32_t size;
    char format[64];     /* detected MIME media type, "application/octet-stream" when unknown */
    bool has_pjl;        /* starts with UEL and @PJL */
    char user_name[256]; /* PJL USERNAME, or %%For: of PostScript; clean UTF-8; "" when none */
    char job_name[256];  /* PJL JOBNAME or JOB NAME, or %%Title: */
    uint32_t copies;     /* PJL COPIES x QTY as the device would apply it; 0 when not said */
    bool asks_hold;      /* HOLD, driver PIN or stored job */
    uint32_t span_count;
    imp_document_span spans[IMP_DOCUMENT_SPANS_MAX];
} imp_document_head;

/* ---- the service table ---- */

typedef struct imp_jobs_v1 {
    uint32_t size;
    imp_status (*queue_find)(imp_self *provider, const char *name, imp_queue *queue);
    imp_status (*intake_begin)(imp_self *provider, imp_self *caller,
                               const imp_intake_options *options, imp_intake **intake,
                               imp_error *error);
    void (*acknowledged)(imp_self *provider, const imp_id *job);
    imp_status (*job_list)(imp_self *provider, imp_self *caller, const imp_viewer *viewer,
                           const imp_job_filter *filter,
                           bool (*visit)(const imp_job_view *view, void *arg), void *arg,
                           imp_error *error);
    imp_status (*job_find)(imp_self *provider, const char *text, imp_id *job);
    void (*job_cancel)(imp_self *provider, imp_self *caller, const imp_id *job,
                       const imp_viewer *viewer,
                       void (*done)(imp_status status, const imp_error *error, void *arg),
                       void *arg);
    void (*job_release)(imp_self *provider, imp_self *caller, const imp_release_request *request,
                        void (*done)(imp_status status, const imp_id *delivery,
                                     const imp_error *error, void *arg),
                        void *arg);
    imp_status (*document_head)(imp_self *provider, imp_bytes head, imp_document_head *result);
} imp_jobs_v1;

#define IMP_JOBS_CALL_(self, result, unavailable, expression)                                      \
    do {                                                                                           \
        imp_service_call call_;                                                                    \
        const imp_jobs_v1 *jobs = imp_service_enter(self, "jobs", 1, &call_);                      \
        if (jobs == NULL) {                                                                        \
            (result) = (unavailable);                                                              \
        } else {                                                                                   \
            (result) = jobs->expression;                                                           \
            imp_service_leave(&call_);                                                             \
        }                                                                                          \
    } while (0)

/* A queue by name (case-insensitive, a leading "printers/" is ignored). Any thread but the writer. */
static inline imp_status imp_queue_find(imp_self *self, const char *name, imp_queue *queue)
{
    imp_status status;
    IMP_JOBS_CALL_(self, status, IMP_UNAVAILABLE, queue_find(call_.provider, name, queue));
    return status;
}

/* Opens an intake on the current loop. Asks at the door: does the queue exist and accept, is there
 * space, is a bound met? So a refusal comes before the client sends the document. An intake ends with
 * imp_intake_commit or imp_intake_abandon. Loop threads. */
static inline imp_status imp_intake_begin(imp_self *self, const imp_intake_options *options,
                                          imp_intake **intake, imp_error *error)
{
    imp_status status;
    IMP_JOBS_CALL_(self, status, imp_error_set(error, IMP_UNAVAILABLE, "service jobs is not there"),
                   intake_begin(call_.provider, self, options, intake, error));
    return status;
}

/* Opens the next document of the intake. On its loop, like all calls on an intake. */
static inline imp_status imp_intake_document(imp_intake *intake,
                                             const imp_document_options *options, imp_error *error)
{
    return intake->ops->document(intake, options, error);
}

/* Takes bytes of the open document. IMP_OK and IMP_BUSY: all were taken; after IMP_BUSY write no more
 * before `ready`. Anything else (IMP_NO_SPACE, IMP_LIMIT, IMP_IO): the intake has failed, abandon it. */
static inline imp_status imp_intake_write(imp_intake *intake, const void *data, size_t length,
                                          imp_error *error)
{
    return intake->ops->write(intake, data, length, error);
}

/* Ends the open document. */
static inline imp_status imp_intake_document_end(imp_intake *intake, imp_error *error)
{
    return intake->ops->document_end(intake, error);
}

/* Makes the job of all documents ended so far. `done` is called exactly once on the intake's loop;
 * with IMP_OK everything is durable. The intake is gone after this call. */
static inline void imp_intake_commit(imp_intake *intake, const imp_job_attributes *attributes,
                                     void (*done)(imp_status status, const imp_job_result *result,
                                                  const imp_error *error, void *arg),
                                     void *arg)
{
    intake->ops->commit(intake, attributes, done, arg);
}

/* Drops everything; nothing stays behind. The intake is gone after this call; `ready` is not called
 * any more. */
static inline void imp_intake_abandon(imp_intake *intake)
{
    intake->ops->abandon(intake);
}

/* Says that the acknowledgement of this job was handed to the system, so that a later submission that
 * looks the same is a new job. Loop threads. */
static inline void imp_job_acknowledged(imp_self *self, const imp_id *job)
{
    imp_service_call call;
    const imp_jobs_v1 *jobs = imp_service_enter(self, "jobs", 1, &call);
    if (jobs == NULL)
        return;
    jobs->acknowledged(call.provider, job);
    imp_service_leave(&call);
}

/* Visits jobs in the order of their sequence until `visit` answers false or the filter's limit is met:
 * then go on `after` the last one seen. What a view shows is decided by the viewer and hook `job.view`;
 * strings are valid during the visit. A queue may hold hundreds of thousands of jobs, and the work grows
 * with those that are looked at: from a loop, call it in imp_work(). A long listing reads several
 * transactions, so a job that ends meanwhile may be missing; none comes twice. Any thread but the
 * writer. */
static inline imp_status imp_job_list(imp_self *self, const imp_viewer *viewer,
                                      const imp_job_filter *filter,
                                      bool (*visit)(const imp_job_view *view, void *arg), void *arg,
                                      imp_error *error)
{
    imp_status status;
    IMP_JOBS_CALL_(self, status, imp_error_set(error, IMP_UNAVAILABLE, "service jobs is not there"),
                   job_list(call_.provider, self, viewer, filter, visit, arg, error));
    return status;
}

/* A job by what people write: its 32 digits or its IPP job-id. Any thread but the writer. */
static inline imp_status imp_job_find(imp_self *self, const char *text, imp_id *job)
{
    imp_status status;
    IMP_JOBS_CALL_(self, status, IMP_UNAVAILABLE, job_find(call_.provider, text, job));
    return status;
}

/* Cancels a job that the viewer owns (or any, as administrator); its documents are shredded. `done` is
 * called once on the calling loop, when it is durable. IMP_DENIED without proof of ownership, IMP_BUSY
 * while it is being delivered and its transport can't stop. Loop threads. */
static inline void imp_job_cancel(imp_self *self, const imp_id *job, const imp_viewer *viewer,
                                  void (*done)(imp_status status, const imp_error *error,
                                               void *arg),
                                  void *arg)
{
    imp_service_call call;
    const imp_jobs_v1 *jobs = imp_service_enter(self, "jobs", 1, &call);
    if (jobs == NULL) {
        imp_error error;
        imp_error_set(&error, IMP_UNAVAILABLE, "service jobs is not there");
        done(IMP_UNAVAILABLE, &error, arg);
        return;
    }
    jobs->job_cancel(call.provider, self, job, viewer, done, arg);
    imp_service_leave(&call);
}

/* Releases a held job at a device: asks hook `job.release`, claims the job (a second release is
 * refused with IMP_BUSY: "already printing at ..."), and hands the delivery to the device's transport.
 * When a hook asks a question, `asked` is called and `done` says IMP_DENIED: release again, with the
 * person's choice among the answers. `done` is called once on the calling loop when the claim is durable
 * or was refused. Everything in the request is copied. Loop threads. */
static inline void imp_job_release(imp_self *self, const imp_release_request *request,
                                   void (*done)(imp_status status, const imp_id *delivery,
                                                const imp_error *error, void *arg),
                                   void *arg)
{
    imp_service_call call;
    const imp_jobs_v1 *jobs = imp_service_enter(self, "jobs", 1, &call);
    if (jobs == NULL) {
        imp_error error;
        imp_error_set(&error, IMP_UNAVAILABLE, "service jobs is not there");
        done(IMP_UNAVAILABLE, NULL, &error, arg);
        return;
    }
    jobs->job_release(call.provider, self, request, done, arg);
    imp_service_leave(&call);
}

/* Reads PJL and PostScript header comments in a document's first bytes (bounded, never beyond `head`).
 * Any thread. */
static inline imp_status imp_document_head_read(imp_self *self, imp_bytes head,
                                                imp_document_head *result)
{
    imp_status status;
    IMP_JOBS_CALL_(self, status, IMP_UNAVAILABLE, document_head(call_.provider, head, result));
    return status;
}

/* ---- calls of a transport on its delivery, all on the delivery's loop ----
 *
 * Each of them is a sign of life. A transport gives one within jobs' setting `lease`, whatever it waits
 * for, unless it has said that the device is in trouble: a delivery without a sign is told to stop
 * (`cancel`), and taken away when it does not. While a device takes what was handed on before, and there is
 * nothing new to say, imp_delivery_progress with the same number is that sign. */

static inline const imp_delivery_info *imp_delivery_get(imp_delivery *delivery)
{
    return delivery->ops->info(delivery);
}

/* The next bytes of a document (0..document_count-1, in order). *length 0 with IMP_OK: its end; a
 * further read of it, or one of another document, starts at that document's first byte (copies).
 * IMP_BUSY: none yet, `readable` follows. IMP_CORRUPT: the document does not open; finish then. */
static inline imp_status imp_delivery_read(imp_delivery *delivery, uint32_t document, void *buffer,
                                           size_t size, size_t *length, imp_error *error)
{
    return delivery->ops->read(delivery, document, buffer, size, length, error);
}

/* To be called before the first byte of a job is handed to the system: from here on the delivery is
 * never tried again by itself. */
static inline void imp_delivery_first_byte(imp_delivery *delivery)
{
    delivery->ops->first_byte(delivery);
}

/* Bytes handed to the device so far, as often as the transport likes: cheap. */
static inline void imp_delivery_progress(imp_delivery *delivery, uint64_t bytes_sent)
{
    delivery->ops->progress(delivery, bytes_sent);
}

/* The device took the last byte and evidence is awaited, at most `evidence_timeout`; a private queue
 * that shreds when sent does so now. Only for transports that can have evidence: the others finish with
 * IMP_DELIVERY_UNCONFIRMED at once. */
static inline void imp_delivery_sent(imp_delivery *delivery)
{
    delivery->ops->sent(delivery);
}

/* The device is in trouble or fine again: an IPP printer-state-reasons keyword, NULL = fine. */
static inline void imp_delivery_trouble(imp_delivery *delivery, const char *reason)
{
    delivery->ops->trouble(delivery, reason);
}

/* Ends the delivery, exactly once; it is gone after this call. `error` gives the reason of an outcome
 * that is none of confirmed and unconfirmed. */
static inline void imp_delivery_finish(imp_delivery *delivery, imp_delivery_outcome outcome,
                                       const imp_error *error)
{
    delivery->ops->finish(delivery, outcome, error);
}

#endif
