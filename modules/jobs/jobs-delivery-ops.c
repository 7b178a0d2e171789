/* SPDX-License-Identifier: Apache-2.0 */
/* What transports call on their delivery. All on the delivery's loop. */
#include "modules/jobs/jobs-delivery-private.h"

static struct delivery *delivery_of(imp_delivery *base)
{
    struct delivery *delivery = (struct delivery *)base;
    delivery->last_sign = imp_ticks();
    return delivery;
}

static const imp_delivery_info *delivery_info(imp_delivery *base)
{
    return &delivery_of(base)->info;
}

static void document_is_readable(void *arg)
{
    struct delivery *delivery = arg;
    if (!delivery->is_finished && delivery->base.readable != NULL)
        delivery->base.readable(&delivery->base, delivery->base.arg);
}

/* No later try can help a document whose key was destroyed, nor one that does not open. A key of another
 * pool may come back with its medium; what a restore has really lost is ended by jobs-restore.c. */
static imp_status read_failed(struct delivery *delivery, uint32_t document, imp_status status)
{
    if (status == IMP_NOT_FOUND &&
        spool_has_key(delivery->jobs->spool, &delivery->documents[document].key))
        delivery->is_document_lost = true;
    if (status == IMP_CORRUPT)
        delivery->is_document_corrupt = true;
    return status;
}

static imp_status delivery_read(imp_delivery *base, uint32_t document, void *buffer, size_t size,
                                size_t *length, imp_error *error)
{
    struct delivery *delivery = delivery_of(base);
    *length = 0;
    if (delivery->is_lost)
        return imp_error_set(error, IMP_UNAVAILABLE,
                             "the delivery was taken back: its lease is over");
    if (delivery->is_finished || document >= delivery->info.document_count)
        return imp_error_set(error, IMP_INVALID, "there is no document %u", document);
    if (delivery->reader == NULL || delivery->reading != document) {
        spool_reader_close(delivery->reader);
        delivery->reader = NULL;
        imp_status status =
            spool_reader_open(delivery->jobs->spool, &delivery->documents[document],
                              document_is_readable, delivery, &delivery->reader, error);
        if (status != IMP_OK)
            return read_failed(delivery, document, status);
        delivery->reading = document;
    }
    imp_status status = spool_reader_read(delivery->reader, buffer, size, length, error);
    if (status != IMP_OK)
        return read_failed(delivery, document, status);
    if (*length == 0 && size != 0)
        delivery->reading = UINT32_MAX; /* a further read begins anew: copies */
    return status;
}

static void delivery_first_byte(imp_delivery *base)
{
    struct delivery *delivery = delivery_of(base);
    if (delivery->has_first_byte || delivery->is_finished)
        return;
    delivery->has_first_byte = true;
    imp_sent_add(delivery->word, 1);
}

static void delivery_progress(imp_delivery *base, uint64_t bytes_sent)
{
    struct delivery *delivery = delivery_of(base);
    if (bytes_sent <= delivery->bytes_sent || delivery->is_finished)
        return;
    delivery_first_byte(base); /* at most once, even for a transport that forgot to say so */
    imp_sent_add(delivery->word, bytes_sent - delivery->bytes_sent);
    delivery->bytes_sent = bytes_sent;
}

static void delivery_trouble(imp_delivery *base, const char *reason)
{
    struct delivery *delivery = delivery_of(base);
    bool is_in_trouble = reason != NULL;
    if (delivery->is_finished || is_in_trouble == delivery->is_in_trouble)
        return;
    delivery->is_in_trouble = is_in_trouble;
    delivery_commit_event(delivery, is_in_trouble ? JOB_TROUBLE : JOB_TROUBLE_OVER);
}

static void evidence_is_late(void *arg)
{
    struct delivery *delivery = arg;
    delivery->evidence_timer = NULL;
    delivery_stop_soon(delivery); /* it ends as unconfirmed, because all bytes were taken */
}

static void delivery_sent(imp_delivery *base)
{
    struct delivery *delivery = delivery_of(base);
    if (delivery->is_finished || delivery->is_sent)
        return;
    delivery_first_byte(base);
    delivery->is_sent = true;
    delivery->evidence_timer = imp_timer_start(
        delivery->jobs->self, atomic_load(&delivery->jobs->settings.evidence_timeout), false,
        evidence_is_late, delivery);
    delivery_commit_event(delivery, JOB_SENT);
}

static void delivery_finish(imp_delivery *base, imp_delivery_outcome outcome,
                            const imp_error *error)
{
    struct delivery *delivery = delivery_of(base);
    if (delivery->is_lost) {
        delivery_give_back(delivery);
        return;
    }
    if (delivery->is_finished)
        return;
    delivery->outcome = outcome;
    if (error != NULL)
        delivery->error = *error;
    delivery_commit_end(delivery);
}

const struct imp_delivery_ops delivery_operations = {
    .size = sizeof delivery_operations,
    .info = delivery_info,
    .read = delivery_read,
    .first_byte = delivery_first_byte,
    .progress = delivery_progress,
    .trouble = delivery_trouble,
    .finish = delivery_finish,
    .sent = delivery_sent,
};
