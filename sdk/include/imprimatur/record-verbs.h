/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record-verbs.h - the verbs that administer a table of records: NOUN add, list, show, set, remove.
 *
 * A module says once what its records are (imp_record_kind) and embeds imp_record_change as the first
 * member of what it remembers of a change on its way:
 *
 *     struct change { imp_record_change base; bool has_colour; char colour[16]; };
 *
 *     static void verb_set(imp_self *self, void *instance, imp_request *request)
 *     {
 *         struct change *change = (struct change *)imp_record_change_begin(
 *             self, request, &thing_kind, "set", sizeof *change);
 *         if (change == NULL)
 *             return;                                        (the request was refused)
 *         ... read the options into it, imp_record_change_end() on a wrong one ...
 *         imp_record_change_write(&change->base);            (calls thing_kind.change_tx)
 *     }
 *
 * From begin to end everything runs on the control loop, but for change_tx (the writer) and what the
 * module itself gives to a worker. Listing runs on workers, a page a transaction, so that neither the
 * control loop nor a reader is held up by 100,000 records.
 */
#ifndef IMPRIMATUR_RECORD_VERBS_H
#define IMPRIMATUR_RECORD_VERBS_H

#include <imprimatur/audit.h>
#include <imprimatur/base.h>
#include <imprimatur/control.h>
#include <imprimatur/store.h>
#include <stdio.h>

typedef struct imp_record_change imp_record_change;

/* What the records are. Constant; lives as long as the generation. */
typedef struct imp_record_kind {
    uint32_t size;
    const char *noun; /* "device": first word of the verbs, object kind in the audit, and the name
                           * of the field that shows an id */
    const char *argument; /* the argument that names a record: "DEVICE" */
    /* What a record may be called, and the sentence that a wrong name is refused with. NULL: by
     * imp_name_is_valid. */
    bool (*name_is_valid)(const char *name);
    const char *name_rule;
    /* The records by id (16 bytes). Any thread. */
    imp_table *(*table)(void *instance);
    /* The record that `name` (a name or an id) means; IMP_NOT_FOUND for none. Reading or writing. */
    imp_status (*find_tx)(void *instance, imp_tx *tx, const char *name, imp_id *id);
    /* The commit of a change: reads the record change->id (for "add" there is none yet), changes it,
     * writes it with its index rows and appends the event (imp_record_change_audit_tx). A closure as
     * for imp_store_write: it may run again. */
    imp_status (*change_tx)(void *instance, imp_tx *tx, imp_record_change *change,
                            imp_error *error);
    /* Adds one row, by imp_row_begin(request, is_single) and imp_field_*; `value` is the record as it
     * is stored. IMP_CORRUPT, before imp_row_begin, when it does not decode. A worker (list) or the
     * control loop (show), in a read transaction. */
    imp_status (*row)(void *instance, imp_tx *tx, imp_request *request, imp_bytes value,
                      bool is_single);
} imp_record_kind;

/* A change on its way; what the verb's own struct begins with. */
struct imp_record_change {
    uint32_t size; /* of this part, as the module knows it: the core fills no more */
    size_t whole;  /* size of the module's struct */
    const imp_record_kind *kind;
    imp_self *self;
    imp_request *request;
    const char *action; /* "add", "set", "remove" or the module's own word */
    bool is_add, is_remove;
    uint32_t uid; /* who asks */
    imp_id id;    /* of a new record; of any other from change_tx on */
    char name[IMP_NAME_MAX];
};

/* Registers `count` verbs, and the counter of records that could not be listed
 * (records_unreadable_total{kind="NOUN"}). The first failure ends it; IMP_INVALID for a kind that is smaller
 * than its first version. Control thread (in start). */
IMP_PUBLIC imp_status imp_record_verbs_add(imp_self *self, const imp_record_kind *kind,
                                           const imp_verb_spec *verbs, size_t count,
                                           imp_error *error);

/* What imp_record_change_begin calls; `base_size` is the module's sizeof(imp_record_change). */
IMP_PUBLIC imp_record_change *imp_record_change_make(imp_self *self, imp_request *request,
                                                     const imp_record_kind *kind,
                                                     const char *action, size_t base_size,
                                                     size_t whole);
/* Makes a change of `whole` zeroed bytes that begin with an imp_record_change, and fills that: the name
 * is the argument `kind->argument`, checked. `action` is a constant string. NULL when the request was
 * refused, and is over. Control loop. */
static inline imp_record_change *imp_record_change_begin(imp_self *self, imp_request *request,
                                                         const imp_record_kind *kind,
                                                         const char *action, size_t whole)
{
    return imp_record_change_make(self, request, kind, action, sizeof(imp_record_change), whole);
}
/* Runs kind->change_tx in the writer (waiting for room in its queue), then ends the change; "add"
 * answers with the new record's id and name. A name that means no record is refused. Control loop. */
IMP_PUBLIC void imp_record_change_write(imp_record_change *change);
/* Finishes the request, wipes the whole struct and frees it. Control loop. */
IMP_PUBLIC void imp_record_change_end(imp_record_change *change, imp_status status,
                                      const imp_error *error);

/* Appends the audit event NOUN.ACTION of a change. `detail` as in imp_audit_event; may be NULL. Inside
 * change_tx. */
static inline imp_status imp_record_change_audit_tx(imp_record_change *change, imp_tx *tx,
                                                    const char *detail, imp_error *error)
{
    char action[64];
    snprintf(action, sizeof action, "%s.%s", change->kind->noun, change->action);
    imp_audit_event event = {.size = sizeof event,
                             .action = action,
                             .actor_uid = change->uid,
                             .has_actor_uid = true,
                             .place_kind = "control",
                             .object_kind = change->kind->noun,
                             .object = change->id,
                             .result = IMP_OK,
                             .detail = detail};
    return imp_audit_append_tx(change->self, tx, &event, error);
}

/* Options of a list verb, for its imp_verb_spec. */
#define IMP_RECORD_LIST_OPTIONS "limit=N after=ID"
/* Most records in one listing, and what it shows when --limit is not given. */
#define IMP_RECORD_LIST_MAX 100000

/* `NOUN show`: the record that the argument names. Finishes the request. Control loop. */
IMP_PUBLIC void imp_record_show(imp_self *self, imp_request *request, const imp_record_kind *kind);
/* `NOUN list`: --limit records in the order of their ids, from behind --after on; whether there are more
 * is said. One that does not read is left out, counted, logged (record.unreadable), and said at the end.
 * Finishes the request, later. Control loop. */
IMP_PUBLIC void imp_record_list(imp_self *self, imp_request *request, const imp_record_kind *kind);

/* Reads an option that is yes or no. *is_given tells whether it was there, and only then *value is set.
 * IMP_INVALID with a sentence for anything else. Control loop. */
IMP_PUBLIC imp_status imp_request_switch(imp_request *request, const char *name, bool *is_given,
                                         bool *value, imp_error *error);
/* Reads an option that is a whole number from `minimum` to `maximum`; *value stays as it is when it was
 * not given. IMP_INVALID with a sentence for anything else. Control loop. */
IMP_PUBLIC imp_status imp_request_number(imp_request *request, const char *name, int64_t minimum,
                                         int64_t maximum, int64_t *value, imp_error *error);

#endif
