/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h - verbs of imprimctl that a module offers.
 *
 * imprimctl is thin: it sends the words of its command line, and the server finds the verb, checks
 * arguments by the verb's row, and answers rows of named fields that are printed as a table or as
 * JSON. Requests come only from root and the group `imprimatur` (peer credentials).
 *
 *     static const imp_verb_spec verbs[] = {
 *         {.size = sizeof(imp_verb_spec), .words = "job release", .arguments = "JOB",
 *          .options = "device=DEVICE card user=USER", .help = "release a held job at a device",
 *          .run = verb_release}, ...};
 */
#ifndef IMPRIMATUR_CONTROL_H
#define IMPRIMATUR_CONTROL_H

#include <imprimatur/base.h>

typedef struct imp_request imp_request; /* one call of a verb, until imp_request_finish */

typedef struct imp_verb_spec {
    uint32_t size;
    const char *words;     /* "job release" */
    const char *arguments; /* positional: "JOB [FILE]"; brackets = optional; a last "NAME..." takes
                            * all that remain; "" for none */
    const char *options; /* "device=DEVICE card user=USER": with = takes a value, without is a flag.
                            * "<FILE" or ">FILE" as an argument is opened by imprimctl (reading,
                            * creating) and comes as a descriptor */
    const char *help;    /* one sentence */
    /* Runs on the control loop; may finish at once or later. */
    void (*run)(imp_self *self, void *instance, imp_request *request);
} imp_verb_spec;

/* Registers a verb; strings are copied. IMP_EXISTS when the words are taken. Control thread (in
 * start). */
IMP_PUBLIC imp_status imp_verb_add(imp_self *self, const imp_verb_spec *spec, imp_error *error);

typedef void (*imp_fields_fill)(imp_self *self, void *instance, imp_request *request);
/* Adds to the answer of one of the core's own verbs that show one object: `words` is "status" or
 * "key status". `fill` is called on the control loop, at each such request, when the core's fields are in
 * the row; it adds its own by imp_field_..., and neither begins a row nor finishes. Fields are named as
 * if there were one list for all modules ("spool_warning"). It ends with the generation. IMP_NOT_FOUND for
 * other words. Control thread (in start). */
IMP_PUBLIC imp_status imp_fields_add(imp_self *self, const char *words, imp_fields_fill fill,
                                     imp_error *error);

/* The value of a positional argument or an option by its name ("JOB", "device"); a flag gives "".
 * NULL when it was not given. `index` for repeated or trailing ones, 0 = first. Valid until finish. */
IMP_PUBLIC const char *imp_request_value(imp_request *request, const char *name, uint32_t index);
/* The descriptor of a "<FILE" or ">FILE" argument, owned by the request; -1 when not given. */
IMP_PUBLIC int imp_request_file(imp_request *request, const char *name);
/* Who asks: the peer's uid, for the audit. */
IMP_PUBLIC uint32_t imp_request_uid(imp_request *request);

/* Asks the person (or standard input) for secrets, one a line, in the order of `names` ("card pin"):
 * `answered` is called later on the control loop with the values, which are wiped after it returns;
 * when the person is gone the request just ends and `answered` gets values NULL: finish it then. */
IMP_PUBLIC void imp_request_ask(imp_request *request, const char *names,
                                void (*answered)(imp_request *request, const char *const *values,
                                                 uint32_t count, void *arg),
                                void *arg);

/* Building the answer. Rows in order, fields in order; a verb that shows one object adds one row with
 * imp_row_begin(request, true): it is printed as a list of names and values. Strings are copied and
 * cleaned; they must be UTF-8. */
IMP_PUBLIC void imp_row_begin(imp_request *request, bool is_single);
/* A field of the row that was begun last; NULL gives JSON null. */
IMP_PUBLIC void imp_field_text(imp_request *request, const char *name, const char *value);
/* The same, formatted as by printf. */
IMP_PUBLIC void imp_field_printf(imp_request *request, const char *name, const char *format, ...)
    IMP_PRINTF(3, 4);
/* A JSON number. */
IMP_PUBLIC void imp_field_integer(imp_request *request, const char *name, int64_t value);
/* JSON true or false. */
IMP_PUBLIC void imp_field_bool(imp_request *request, const char *name, bool value);
/* 32 lower-case hexadecimal digits. */
IMP_PUBLIC void imp_field_id(imp_request *request, const char *name, imp_id id);
/* RFC 3339 in UTC; 0 is printed as "-" (JSON null). */
IMP_PUBLIC void imp_field_time(imp_request *request, const char *name, int64_t time_us);
/* A sentence for standard output, before or instead of rows ("released JOB at DEVICE"). */
IMP_PUBLIC void imp_request_say(imp_request *request, const char *format, ...) IMP_PRINTF(2, 3);
/* Sends what was built so far and goes on (long listings, progress). Control loop. */
IMP_PUBLIC void imp_request_flush(imp_request *request);

/* Ends the request: IMP_OK (exit status 0), or a refusal whose message goes to standard error (exit
 * status 1; IMP_INVALID in arguments is 2). Exactly once; any loop or worker thread, but no other
 * thread may use the request at that time. */
IMP_PUBLIC void imp_request_finish(imp_request *request, imp_status status, const imp_error *error);

#endif
