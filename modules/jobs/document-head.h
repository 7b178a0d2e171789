/* SPDX-License-Identifier: Apache-2.0 */
/*
 * document-head.h - what a document's first bytes say of it: PJL header and PostScript comments.
 *
 * The only parsing of documents inside the server, so it is small, reads nothing beyond `head`, keeps
 * no state and allocates nothing. Everything it reads is hostile; what does not fit is left out, never
 * refused. PJL: HP "Printer Job Language Technical Reference Manual" (chapter 2, syntax; chapter 4 ff.,
 * commands). PostScript: Adobe 5001, "Document Structuring Conventions" 3.0.
 */
#ifndef JOBS_DOCUMENT_HEAD_H
#define JOBS_DOCUMENT_HEAD_H

#include <imprimatur/jobs.h>

/* Fills *result from at most IMP_DOCUMENT_HEAD_MAX bytes. Any thread. */
void document_head_read(imp_bytes head, imp_document_head *result);

#endif
