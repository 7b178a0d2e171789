/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs-record.h - the module's records (<imprimatur/message.h> reads and writes them), and small
 * conversions.
 */
#ifndef JOBS_RECORD_H
#define JOBS_RECORD_H

#include <imprimatur/message.h>
#include <imprimatur/store.h>
#include <imprimatur/ticket.h>

#include "modules/jobs/jobs.pb-c.h"

#define JOBS_SCHEMA 1u

typedef Imprimatur__Jobs__Queue Queue;
typedef Imprimatur__Jobs__Counter Counter;
typedef Imprimatur__Jobs__TicketValue TicketValue;
typedef Imprimatur__Jobs__Document Document;
typedef Imprimatur__Jobs__Job Job;
typedef Imprimatur__Jobs__Personal Personal;
typedef Imprimatur__Jobs__Delivery Delivery;
typedef Imprimatur__Jobs__Submission Submission;
typedef Imprimatur__Jobs__Clock Clock;
typedef Imprimatur__Jobs__Origin Origin;

#define QUEUE_INIT IMPRIMATUR__JOBS__QUEUE__INIT
#define COUNTER_INIT IMPRIMATUR__JOBS__COUNTER__INIT
#define TICKET_VALUE_INIT IMPRIMATUR__JOBS__TICKET_VALUE__INIT
#define DOCUMENT_INIT IMPRIMATUR__JOBS__DOCUMENT__INIT
#define JOB_INIT IMPRIMATUR__JOBS__JOB__INIT
#define PERSONAL_INIT IMPRIMATUR__JOBS__PERSONAL__INIT
#define DELIVERY_INIT IMPRIMATUR__JOBS__DELIVERY__INIT
#define SUBMISSION_INIT IMPRIMATUR__JOBS__SUBMISSION__INIT
#define CLOCK_INIT IMPRIMATUR__JOBS__CLOCK__INIT
#define ORIGIN_INIT IMPRIMATUR__JOBS__ORIGIN__INIT

#define QUEUE_TYPE (&imprimatur__jobs__queue__descriptor)
#define COUNTER_TYPE (&imprimatur__jobs__counter__descriptor)
#define JOB_TYPE (&imprimatur__jobs__job__descriptor)
#define PERSONAL_TYPE (&imprimatur__jobs__personal__descriptor)
#define DELIVERY_TYPE (&imprimatur__jobs__delivery__descriptor)
#define SUBMISSION_TYPE (&imprimatur__jobs__submission__descriptor)
#define CLOCK_TYPE (&imprimatur__jobs__clock__descriptor)
#define ORIGIN_TYPE (&imprimatur__jobs__origin__descriptor)

/* Encodes into the heap; NULL when memory is short. */
uint8_t *record_encode(const void *message, size_t *length);

/* A bytes field that borrows. */
static inline ProtobufCBinaryData record_bytes(const void *data, size_t length)
{
    return (ProtobufCBinaryData){.len = length, .data = (uint8_t *)(uintptr_t)data};
}
bool record_id_is(ProtobufCBinaryData field, imp_id id);
/* Whether a repeated bytes field holds this id. */
bool record_ids_have(const ProtobufCBinaryData *fields, size_t count, imp_id id);

/* Makes ticket rows that borrow the ticket's strings: `rows` and `pointers` have room for its values.
 * Returns their number. */
size_t record_ticket(const imp_ticket *ticket, TicketValue *rows, TicketValue **pointers,
                     size_t room);
/* The values of several layers, flat, borrowing the records' strings. Returns the new count. */
uint32_t record_ticket_add(TicketValue *const *rows, size_t count, imp_ticket_value *values,
                           uint32_t have, uint32_t room);
/* Leaves one value a name: the one that wins. Returns the new count. */
uint32_t ticket_resolve(imp_ticket_value *values, uint32_t count);

#endif
