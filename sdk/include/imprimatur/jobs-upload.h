/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-upload.h - a connection that brings jobs: what lies between a stream and its intakes.
 *
 * Every intake protocol whose documents come straight over a stream (lpr, raw; ftp and smtp likewise)
 * has the same four things to get right, and has them from here:
 *   - a spool that can't take more pauses the stream, and `go_on` is called when it can again;
 *   - a commit under way outlives the connection that asked for it;
 *   - the session goes when both are over, and with it the pin that kept its code mapped;
 *   - an acknowledgement is noted as given only when the system has taken it.
 *
 * An imp_upload is a member of the module's session. It knows its stream and how far it is; the intakes
 * are the module's own, because a protocol may have several open at one time. One of them is written
 * to, and one is committed, at a time. All calls are made on the stream's loop. The functions are part
 * of the module: nothing of the struct crosses a border.
 */
#ifndef IMPRIMATUR_JOBS_UPLOAD_H
#define IMPRIMATUR_JOBS_UPLOAD_H

#include <imprimatur/jobs.h>
#include <imprimatur/service.h>
#include <imprimatur/stream.h>

typedef struct imp_upload {
    imp_self *self;
    imp_stream *stream; /* NULL once it has closed */
    bool is_paused;     /* the spool can't take more: write nothing before `go_on` */
    bool is_committing;
    void (*go_on)(void *arg); /* may be NULL until something is written */
    void (*over)(void *arg);
    void (*done)(imp_status status, const imp_job_result *result, const imp_error *error,
                 void *arg); /* of the commit under way */
    void *arg;
} imp_upload;

/* Begins with a stream that was just accepted, and pins the module for as long as the upload lives.
 * `go_on(arg)` is called when the spool has room again and the stream was resumed. `over(arg)` is the
 * last call: the stream has closed and no commit is under way; it frees the session, the upload with
 * it. What imp_stream_set_events needs is the caller's business. */
static inline void imp_upload_start(imp_upload *upload, imp_self *self, imp_stream *stream,
                                    void (*go_on)(void *arg), void (*over)(void *arg), void *arg)
{
    *upload =
        (imp_upload){.self = self, .stream = stream, .go_on = go_on, .over = over, .arg = arg};
    imp_pin(self, "connection");
}

/* Internal: the end, once nothing refers to the session any more. */
static inline void imp_upload_leave_(imp_upload *upload)
{
    imp_self *self = upload->self;
    upload->over(upload->arg);
    imp_unpin(self, "connection");
}

/* To be called from the stream's `closed`, as its last deed: the session may be gone afterwards. What
 * the session holds open (intakes that are not being committed, timers) is ended before it. */
static inline void imp_upload_closed(imp_upload *upload)
{
    upload->stream = NULL;
    if (!upload->is_committing)
        imp_upload_leave_(upload);
}

/* Internal: imp_intake_options.ready. */
static inline void imp_upload_ready_(void *arg)
{
    imp_upload *upload = arg;
    if (!upload->is_paused || upload->stream == NULL)
        return;
    upload->is_paused = false;
    imp_stream_resume(upload->stream);
    upload->go_on(upload->arg);
}

/* Opens an intake for this connection: imp_intake_begin with the peer's address. `protocol` names the
 * module ("lpr"); `expected_size` as there, -1 for unknown. The intake is the caller's, to be committed
 * by imp_upload_commit or ended by imp_intake_abandon. */
static inline imp_status imp_upload_begin(imp_upload *upload, const char *queue,
                                          const char *protocol, int64_t expected_size,
                                          imp_intake **intake, imp_error *error)
{
    imp_intake_options options = {.size = sizeof options,
                                  .queue = queue,
                                  .protocol = protocol,
                                  .address = imp_stream_peer(upload->stream)->address,
                                  .expected_size = expected_size,
                                  .ready = imp_upload_ready_,
                                  .arg = upload};
    return imp_intake_begin(upload->self, &options, intake, error);
}

/* Writes to the intake's open document. IMP_OK: all was taken; look at `is_paused` before the next
 * write. Anything else: the intake has failed, abandon it. */
static inline imp_status imp_upload_write(imp_upload *upload, imp_intake *intake, const void *data,
                                          size_t length, imp_error *error)
{
    imp_status status = imp_intake_write(intake, data, length, error);
    if (status != IMP_BUSY)
        return status;
    upload->is_paused = true;
    imp_stream_pause(upload->stream);
    return IMP_OK;
}

/* Ends the intake's open document. Its last bytes may have filled the spool's buffers; what was to be
 * awaited goes with the document and `ready` may never come, so the stream is read on. `go_on` is not
 * called: the caller goes on anyway. */
static inline imp_status imp_upload_document_end(imp_upload *upload, imp_intake *intake,
                                                 imp_error *error)
{
    if (upload->is_paused) {
        upload->is_paused = false;
        imp_stream_resume(upload->stream);
    }
    return imp_intake_document_end(intake, error);
}

/* Internal: the end of imp_intake_commit. */
static inline void imp_upload_done_(imp_status status, const imp_job_result *result,
                                    const imp_error *error, void *arg)
{
    imp_upload *upload = arg;
    upload->is_committing = false;
    upload->done(status, result, error, upload->arg);
    if (upload->stream == NULL)
        imp_upload_leave_(upload);
}

/* Commits the intake, which is gone after this call; `attributes` are copied. `done` is called exactly
 * once, from the loop, even when the stream has closed meanwhile: then `stream` is NULL, and `over`
 * follows. Not while another commit is under way. */
static inline void imp_upload_commit(imp_upload *upload, imp_intake *intake,
                                     const imp_job_attributes *attributes,
                                     void (*done)(imp_status status, const imp_job_result *result,
                                                  const imp_error *error, void *arg))
{
    upload->is_committing = true;
    upload->done = done;
    imp_intake_commit(intake, attributes, imp_upload_done_, upload);
}

/* Says that a job is durable. When the system takes the acknowledgement at once, that is noted, and a
 * later submission that looks the same is a new job; else the client may not have got it, and its
 * retry within the window is the same job. */
static inline void imp_upload_acknowledge(imp_upload *upload, const imp_job_result *result,
                                          const void *acknowledgement, size_t length)
{
    if (imp_stream_write(upload->stream, acknowledgement, length) == IMP_OK &&
        imp_stream_output_pending(upload->stream) == 0)
        imp_job_acknowledged(upload->self, &result->id);
}

#endif
