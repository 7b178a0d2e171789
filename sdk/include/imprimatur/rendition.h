/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rendition.h - a document made into what a device accepts.
 *
 * render(document, ticket, accepted formats, limits) -> stream. Stages run in one order: convert, apply
 * the ticket, stamp, final language. A rendition is cached under its document's key and shredded with
 * it.
 *
 * The noun and the shape of the call are fixed here. No module offers service `renditions` in this
 * version: imp_render answers IMP_UNAVAILABLE, and documents are delivered byte by byte as they came.
 */
#ifndef IMPRIMATUR_RENDITION_H
#define IMPRIMATUR_RENDITION_H

#include <imprimatur/base.h>
#include <imprimatur/service.h>
#include <imprimatur/ticket.h>

#define IMP_RENDITIONS_V1                                                                          \
    {                                                                                              \
        "renditions", 1                                                                            \
    }

typedef int32_t imp_rendition_stage;
#define IMP_STAGE_CONVERT ((imp_rendition_stage)0)
#define IMP_STAGE_TICKET ((imp_rendition_stage)1)
#define IMP_STAGE_STAMP ((imp_rendition_stage)2)
#define IMP_STAGE_LANGUAGE ((imp_rendition_stage)3)

typedef struct imp_render_request {
    uint32_t size;
    imp_id job;
    uint32_t document;          /* index within the job */
    imp_ticket ticket;          /* resolved */
    const char *const *formats; /* MIME media types that are accepted, best first */
    uint32_t format_count;
    uint64_t bytes_max; /* of the result */
    int64_t time_max;   /* us of work */
} imp_render_request;

/* A stream of the result; read like a delivery's documents. */
typedef struct imp_rendition imp_rendition;

typedef struct imp_renditions_v1 {
    uint32_t size;
    void (*render)(imp_self *provider, imp_self *caller, const imp_render_request *request,
                   void (*done)(imp_status status, imp_rendition *rendition, const imp_error *error,
                                void *arg),
                   void *arg);
} imp_renditions_v1;

/* `done` is called exactly once on the calling loop. Loop threads. */
static inline void imp_render(imp_self *self, const imp_render_request *request,
                              void (*done)(imp_status status, imp_rendition *rendition,
                                           const imp_error *error, void *arg),
                              void *arg)
{
    imp_service_call call;
    const imp_renditions_v1 *renditions = imp_service_enter(self, "renditions", 1, &call);
    if (renditions == NULL) {
        imp_error error;
        imp_error_set(&error, IMP_UNAVAILABLE, "service renditions is not there");
        done(IMP_UNAVAILABLE, NULL, &error, arg);
        return;
    }
    renditions->render(call.provider, self, request, done, arg);
    imp_service_leave(&call);
}

#endif
