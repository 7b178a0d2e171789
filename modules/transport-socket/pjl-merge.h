/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pjl-merge.h - what a document's head becomes on its way to the device.
 *
 * A pure function: from the first bytes of a document and the places of the PJL lines in them it makes
 * a list of pieces, to be sent one behind another in place of the head. A PJL header that is there is
 * merged into, never put into another one; a document without one gets one only when its page
 * description language is known, so that it can be entered by name. What is not asked for stays
 * as it is, byte by byte.
 *
 * Syntax: Hewlett-Packard, Printer Job Language Technical Reference Manual, chapters 2 to 4.
 */
#ifndef PJL_MERGE_H
#define PJL_MERGE_H

#include <imprimatur/jobs.h>

/* Of a user's or job's name; the manual's bound for JOBNAME. */
#define PJL_NAME_MAX 80u
/* All lines that are put in, together. */
#define PJL_TEXT_MAX 512u
/* A piece before and behind each span, and what is put in. */
#define PJL_PIECES_MAX (2u * IMP_DOCUMENT_SPANS_MAX + 4u)

typedef int32_t pjl_sides;
#define PJL_SIDES_AS_SENT ((pjl_sides)0)
#define PJL_SIDES_ONE ((pjl_sides)1)
#define PJL_SIDES_LONG_EDGE ((pjl_sides)2)
#define PJL_SIDES_SHORT_EDGE ((pjl_sides)3)

struct pjl_wanted {
    bool speaks_pjl;     /* the device does: lines may be put in */
    bool drops_hold;     /* lines that keep the job in the device, and driver PINs */
    uint32_t copies;     /* 0: as the document says; else what it says is dropped */
    bool copies_are_qty; /* QTY (collated sets) rather than COPIES where the document has neither */
    pjl_sides sides;     /* needs speaks_pjl */
    bool replaces_names; /* the document's names are dropped; needs speaks_pjl */
    const char *user_name; /* UTF-8, what is said instead; "" or NULL: nothing */
    const char *job_name;
};

struct pjl_merge {
    imp_bytes pieces[PJL_PIECES_MAX]; /* into the head, or into `text` */
    uint32_t count;
    char text[PJL_TEXT_MAX];
    size_t text_length;
    bool has_copies;     /* the device is told the number of copies */
    bool needs_exit;     /* PJL_EXIT goes behind the document, because it got a header of its own */
    bool has_lost_sides; /* sides were wanted and could not be said */
    bool is_changed;     /* the pieces are not just the head */
};

/* Universal exit language: ends the document's language and what PJL has set for it. */
#define PJL_EXIT "\033%-12345X"

/* Fills `merge`. `head` is the document's first bytes, `found` what was read in them; `merge` and `head`
 * must stay until the pieces are used. Any thread. */
void pjl_merge(imp_bytes head, const imp_document_head *found, const struct pjl_wanted *wanted,
               struct pjl_merge *merge);

/* Writes a UTF-8 name as bytes that may stand between PJL's quotes: printable ASCII and Latin-1, '?'
 * for all else, ' for the quote. At most PJL_NAME_MAX. Returns the length. Any thread. */
size_t pjl_quote(char target[PJL_NAME_MAX], const char *name);

#endif
