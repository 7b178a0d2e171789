/* SPDX-License-Identifier: Apache-2.0 */
#include "modules/jobs/document-head.h"

#include <string.h>
#include <strings.h>

#define UEL "\033%-12345X" /* universal exit language */
#define UEL_LENGTH (sizeof UEL - 1)
/* Blanks, line ends, NULs and an end-of-file mark that drivers send in front of the first command. */
#define LEADING_MAX 64u
/* A line that is longer is not a command of PJL or a header comment of PostScript (both say 255). */
#define HEAD_LINE_MAX 4096u

struct text {
    const char *start, *end;
};

struct reader {
    const char *base; /* offset 0 of the document */
    struct text rest;
    imp_document_head *head;
    uint64_t copies, quantity; /* 0: not said */
    struct text account;       /* HP's JobAcct1, the user when nothing better is there */
};

/* ---- pieces of text ---- */

static bool text_is(struct text text, const char *word)
{
    size_t length = strlen(word);
    return (size_t)(text.end - text.start) == length && strncasecmp(text.start, word, length) == 0;
}

static bool text_starts(struct text text, const char *prefix)
{
    size_t length = strlen(prefix);
    return (size_t)(text.end - text.start) >= length && memcmp(text.start, prefix, length) == 0;
}

static bool text_starts_nocase(struct text text, const char *prefix)
{
    size_t length = strlen(prefix);
    return (size_t)(text.end - text.start) >= length &&
           strncasecmp(text.start, prefix, length) == 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static void text_skip_blanks(struct text *text)
{
    while (text->start < text->end && is_blank(*text->start))
        text->start++;
}

static void text_trim(struct text *text)
{
    text_skip_blanks(text);
    while (text->end > text->start && is_blank(text->end[-1]))
        text->end--;
}

/* Up to the line's end, which is LF, CR LF or (PostScript of old Macs) CR alone; *line has no line
 * end. False when no whole line is left, so a line cut by the head's end is never believed. */
static bool take_line(struct text *rest, bool allows_cr, struct text *line)
{
    const char *at = rest->start;
    while (at < rest->end && *at != '\n' && !(allows_cr && *at == '\r')) {
        if ((size_t)(at - rest->start) > HEAD_LINE_MAX)
            return false;
        at++;
    }
    if (at == rest->end)
        return false;
    line->start = rest->start;
    line->end = at;
    if (*at == '\r' && at + 1 < rest->end && at[1] == '\n')
        at++;
    rest->start = at + 1;
    if (line->end > line->start && line->end[-1] == '\r')
        line->end--;
    return true;
}

static void text_copy(char *target, size_t size, struct text text)
{
    imp_text_clean(target, size, text.start, (size_t)(text.end - text.start));
}

/* A decimal number; false for anything else, signs and fractions included. */
static bool text_number(struct text text, uint64_t *number)
{
    uint64_t value = 0;
    if (text.start == text.end || text.end - text.start > 9)
        return false;
    for (const char *at = text.start; at < text.end; at++) {
        if (*at < '0' || *at > '9')
            return false;
        value = value * 10 + (uint64_t)(*at - '0');
    }
    *number = value;
    return true;
}

/* ---- PJL ---- */

static void add_span(struct reader *reader, int32_t kind, const char *start, const char *end)
{
    imp_document_head *head = reader->head;
    if (head->span_count == IMP_DOCUMENT_SPANS_MAX)
        return;
    head->spans[head->span_count++] = (imp_document_span){
        .offset = (uint32_t)(start - reader->base),
        .length = (uint32_t)(end - start),
        .kind = kind,
    };
}

enum pjl_value { PJL_ANY, PJL_NOT_OFF };

/* Variables that make a device keep the job in a box of its own or ask for the driver's PIN. */
static const struct {
    const char *name;
    enum pjl_value value;
} hold_variables[] = {
    {"HOLD", PJL_NOT_OFF},                                       /* HP: ON, PROOF, STORE, PRINT */
    {"HOLDKEY", PJL_ANY},                                        /* HP: the PIN */
    {"HOLDTYPE", PJL_ANY},                                       /* HP: PRIVATE, PUBLIC */
    {"JOBSTORAGE", PJL_NOT_OFF},                                 /* Epson */
    {"JOBPASSWORD", PJL_ANY},                                    /* Ricoh locked print */
    {"JOBFILING", PJL_NOT_OFF},                                  /* Sharp */
    {"SECUREJOB", PJL_NOT_OFF},                                  /* Brother */
    {"SECUREDATA", PJL_ANY},                                     /* Brother: user, title and PIN */
    {"KRETENTION", PJL_NOT_OFF},                                 /* Kyocera */
    {"KJOBPASSWORD", PJL_ANY},    {"KMJOBTYPE", PJL_NOT_OFF},    /* Konica Minolta */
    {"SECUREPRINT", PJL_NOT_OFF}, {"PRIVATEPRINT", PJL_NOT_OFF}, /* Toshiba, OKI */
    {"JOBTYPE", PJL_NOT_OFF},                                    /* OKI */
};

static bool asks_hold(struct text name, struct text value)
{
    for (size_t i = 0; i < sizeof hold_variables / sizeof *hold_variables; i++) {
        if (!text_is(name, hold_variables[i].name))
            continue;
        return hold_variables[i].value == PJL_ANY ||
               !(text_is(value, "OFF") || text_is(value, "NONE") || text_is(value, "NORMAL"));
    }
    return false;
}

/* NAME [ blanks = blanks VALUE ]; a value in double quotes may hold anything but a double quote. */
static bool take_assignment(struct text *text, struct text *name, struct text *value)
{
    text_skip_blanks(text);
    name->start = text->start;
    while (text->start < text->end && !is_blank(*text->start) && *text->start != '=')
        text->start++;
    name->end = text->start;
    value->start = value->end = text->start;
    struct text look = *text;
    text_skip_blanks(&look);
    if (look.start < look.end && *look.start == '=') {
        look.start++;
        text_skip_blanks(&look);
        if (look.start < look.end && *look.start == '"') {
            look.start++;
            const char *quote = memchr(look.start, '"', (size_t)(look.end - look.start));
            value->start = look.start;
            value->end = quote == NULL ? look.end : quote;
            text->start = quote == NULL ? look.end : quote + 1;
        } else {
            value->start = look.start;
            while (look.start < look.end && !is_blank(*look.start))
                look.start++;
            value->end = look.start;
            text->start = look.start;
        }
    }
    return name->end > name->start;
}

/* PJL SET: one variable a line; the span is the line with its line end. */
static void read_set(struct reader *reader, struct text rest, const char *start, const char *next)
{
    imp_document_head *head = reader->head;
    struct text name, value;
    uint64_t number;
    /* "SET LPARM : PCL PITCH = 10" belongs to a language: nothing for us. */
    if (text_starts_nocase(rest, "LPARM") || text_starts_nocase(rest, "IPARM"))
        return;
    if (!take_assignment(&rest, &name, &value))
        return;
    if (text_is(name, "USERNAME") || text_is(name, "USERID")) {
        if (text_is(name, "USERNAME") || head->user_name[0] == '\0')
            text_copy(head->user_name, sizeof head->user_name, value);
        add_span(reader, IMP_SPAN_PJL_USERNAME, start, next);
    } else if (text_is(name, "JOBNAME")) {
        text_copy(head->job_name, sizeof head->job_name, value);
        add_span(reader, IMP_SPAN_PJL_JOBNAME, start, next);
    } else if (text_is(name, "JOBATTR")) {
        static const char account[] = "JobAcct1=";
        if (text_starts_nocase(value, account)) {
            reader->account = value;
            reader->account.start += sizeof account - 1;
            add_span(reader, IMP_SPAN_PJL_USERNAME, start, next);
        }
    } else if (text_is(name, "COPIES") && text_number(value, &number)) {
        reader->copies = number;
        add_span(reader, IMP_SPAN_PJL_COPIES, start, next);
    } else if (text_is(name, "QTY") && text_number(value, &number)) {
        reader->quantity = number;
        add_span(reader, IMP_SPAN_PJL_COPIES, start, next);
    } else if (text_is(name, "DUPLEX")) {
        add_span(reader, IMP_SPAN_PJL_DUPLEX, start, next);
    } else if (text_is(name, "BINDING")) {
        add_span(reader, IMP_SPAN_PJL_BINDING, start, next);
    } else if (asks_hold(name, value)) {
        head->asks_hold = true;
        add_span(reader, IMP_SPAN_PJL_HOLD, start, next);
    }
}

/* PJL JOB [NAME = "..."] [START = n] ...: only its name can be taken out, the line must stay. */
static void read_job(struct reader *reader, struct text rest)
{
    struct text name, value;
    for (;;) {
        const char *start = rest.start;
        if (!take_assignment(&rest, &name, &value))
            return;
        if (text_is(name, "NAME")) {
            if (reader->head->job_name[0] == '\0')
                text_copy(reader->head->job_name, sizeof reader->head->job_name, value);
            add_span(reader, IMP_SPAN_PJL_JOB_NAME, start, rest.start);
        }
    }
}

static const struct {
    const char *language, *format;
} languages[] = {
    {"PCL", "application/vnd.hp-PCL"},         {"PCLXL", "application/vnd.hp-PCLXL"},
    {"POSTSCRIPT", "application/postscript"},  {"PS", "application/postscript"},
    {"POSTSCRIPT3", "application/postscript"}, {"PDF", "application/pdf"},
    {"HPGL2", "application/vnd.hp-HPGL"},      {"URF", "image/urf"},
    {"PWGRASTER", "image/pwg-raster"},         {"XPS", "application/vnd.ms-xpsdocument"},
};

static void set_format(imp_document_head *head, const char *format)
{
    imp_text_clean(head->format, sizeof head->format, format, strlen(format));
}

/* Reads lines that begin with @PJL up to ENTER LANGUAGE, the data, or what is no whole line. */
static void read_pjl(struct reader *reader)
{
    static const char prefix[] = "@PJL";
    const char *header_start = reader->rest.start;
    const char *header_end = header_start;

    for (;;) {
        struct text line, look = reader->rest;
        while (text_starts(look, UEL))
            look.start += UEL_LENGTH;
        struct text after_uel = look;
        if (!take_line(&look, false, &line))
            break;
        struct text trimmed = line;
        text_trim(&trimmed);
        if (trimmed.start == trimmed.end && after_uel.start[0] != '\f') {
            reader->rest = look; /* an empty line between commands */
            continue;
        }
        if (!text_starts_nocase(line, prefix))
            break;
        struct text words = {line.start + sizeof prefix - 1, line.end}, command, value;
        if (words.start < words.end && !is_blank(*words.start))
            break; /* "@PJLX" */
        reader->head->has_pjl = true;
        struct text arguments = words;
        if (take_assignment(&arguments, &command, &value) && text_is(command, "ENTER")) {
            struct text name, language;
            if (take_assignment(&arguments, &name, &language) && text_is(name, "LANGUAGE")) {
                for (size_t i = 0; i < sizeof languages / sizeof *languages; i++) {
                    if (text_is(language, languages[i].language))
                        set_format(reader->head, languages[i].format);
                }
            }
            add_span(reader, IMP_SPAN_PJL_ENTER, after_uel.start, look.start);
            reader->rest = look;
            break;
        }
        if (text_is(command, "SET") || text_is(command, "DEFAULT")) {
            text_skip_blanks(&arguments);
            if (text_is(command, "SET"))
                read_set(reader, arguments, after_uel.start, look.start);
        } else if (text_is(command, "JOB")) {
            read_job(reader, arguments);
        }
        reader->rest = look;
        header_end = look.start;
    }
    if (!reader->head->has_pjl)
        return;
    if (header_end > header_start)
        add_span(reader, IMP_SPAN_PJL_HEADER, header_start, header_end);
    /* The device prints QTY collated sets of COPIES each; a bound of ours keeps hostile values small. */
    uint64_t copies = reader->copies, quantity = reader->quantity;
    if (copies != 0 || quantity != 0) {
        uint64_t total = (copies == 0 ? 1 : copies) * (quantity == 0 ? 1 : quantity);
        reader->head->copies = (uint32_t)(total > IMP_COPIES_MAX ? IMP_COPIES_MAX : total);
    }
    if (reader->head->user_name[0] == '\0' && reader->account.start != NULL)
        text_copy(reader->head->user_name, sizeof reader->head->user_name, reader->account);
}

/* ---- PostScript ---- */

static int octal(char c)
{
    return c >= '0' && c <= '7' ? c - '0' : -1;
}

/* A DSC text: a line, or a string in parentheses with PostScript's escapes. "(atend)" says nothing. */
static void read_dsc_text(struct text text, char *target, size_t size)
{
    char plain[256];
    size_t length = 0;
    text_trim(&text);
    if (text.start == text.end || text_is(text, "(atend)"))
        return;
    if (*text.start != '(') {
        text_copy(target, size, text);
        return;
    }
    uint32_t depth = 0;
    for (const char *at = text.start; at < text.end && length < sizeof plain; at++) {
        char c = *at;
        if (c == '(' && depth++ == 0)
            continue;
        if (c == ')' && --depth == 0)
            break;
        if (c == '\\' && at + 1 < text.end) {
            c = *++at;
            if (octal(c) >= 0) {
                int value = octal(c);
                for (int digits = 1; digits < 3 && at + 1 < text.end && octal(at[1]) >= 0; digits++)
                    value = value * 8 + octal(*++at);
                c = (char)(value & 0xff);
            } else if (c == 'n' || c == 'r' || c == 't' || c == 'b' || c == 'f') {
                c = ' ';
            }
        }
        plain[length++] = c;
    }
    imp_text_clean(target, size, plain, length);
}

static void read_postscript(struct reader *reader)
{
    struct text line;
    imp_document_head *head = reader->head;
    while (take_line(&reader->rest, true, &line)) {
        if (!text_starts(line, "%") || text_starts(line, "%%EndComments"))
            return;
        static const char user[] = "%%For:", title[] = "%%Title:";
        if (text_starts(line, user) && head->user_name[0] == '\0') {
            line.start += sizeof user - 1;
            read_dsc_text(line, head->user_name, sizeof head->user_name);
        } else if (text_starts(line, title) && head->job_name[0] == '\0') {
            line.start += sizeof title - 1;
            read_dsc_text(line, head->job_name, sizeof head->job_name);
        }
    }
}

/* ---- formats ---- */

static const struct {
    const char *magic;
    size_t length;
    const char *format;
} magics[] = {
    {"%PDF-", 5, "application/pdf"},
    {"%!", 2, "application/postscript"},
    {") HP-PCL XL;", 12, "application/vnd.hp-PCLXL"},
    {"( HP-PCL XL;", 12, "application/vnd.hp-PCLXL"},
    {"\033E", 2, "application/vnd.hp-PCL"},
    {"\033*", 2, "application/vnd.hp-PCL"},
    {"\033&", 2, "application/vnd.hp-PCL"},
    {"UNIRAST", 8, "image/urf"}, /* with its NUL */
    {"RaS2", 4, "image/pwg-raster"},
    {"\xff\xd8\xff", 3, "image/jpeg"},
    {"\x89PNG\r\n\x1a\n", 8, "image/png"},
    {"II*\0", 4, "image/tiff"},
    {"MM\0*", 4, "image/tiff"},
};

static void detect(struct reader *reader)
{
    size_t length = (size_t)(reader->rest.end - reader->rest.start);
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++) {
        if (length >= magics[i].length &&
            memcmp(reader->rest.start, magics[i].magic, magics[i].length) == 0) {
            set_format(reader->head, magics[i].format);
            return;
        }
    }
}

static void skip_leading(struct text *rest)
{
    for (uint32_t i = 0; i < LEADING_MAX && rest->start < rest->end; i++) {
        char c = *rest->start;
        if (c != ' ' && c != '\t' && c != '\r' && c != '\n' && c != '\0' && c != '\004')
            return;
        rest->start++;
    }
}

void document_head_read(imp_bytes bytes, imp_document_head *result)
{
    size_t length = bytes.length > IMP_DOCUMENT_HEAD_MAX ? IMP_DOCUMENT_HEAD_MAX : bytes.length;
    uint32_t size = result->size;
    memset(result, 0, sizeof *result);
    result->size = size == 0 ? (uint32_t)sizeof *result : size;
    if (length != 0) {
        struct reader reader = {
            .base = bytes.data,
            .rest = {bytes.data, (const char *)bytes.data + length},
            .head = result,
        };
        skip_leading(&reader.rest);
        if (text_starts(reader.rest, UEL) || text_starts_nocase(reader.rest, "@PJL"))
            read_pjl(&reader);
        while (text_starts(reader.rest, UEL))
            reader.rest.start += UEL_LENGTH;
        skip_leading(&reader.rest);
        if (result->format[0] == '\0')
            detect(&reader);
        if (text_starts(reader.rest, "%!"))
            read_postscript(&reader);
    }
    if (result->format[0] == '\0')
        set_format(result, "application/octet-stream");
}
