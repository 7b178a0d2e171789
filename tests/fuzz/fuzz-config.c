/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-config.c - a module's file: its group, its listeners and a row of every type. */
#include <stdlib.h>
#include <string.h>

#include "core/config-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* libconfig 1.5's lexer loses strings in front of a syntax error. A config_destroy that we forget is
 * still found: what it frees comes from the parser. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:strbuf_append\nleak:libconfig_yylex\n";
}

struct rule {
    const char *host;
    int64_t weight;
};

struct conf {
    bool is_on;
    int64_t count, bytes, wait, kind;
    const char *text;
    imp_string_list words;
    imp_secret secret;
    imp_group_list rules;
};

static const imp_option rule_rows[] = {
    IMP_OPT_STRING(struct rule, host, "", IMP_LIVE, "host"),
    IMP_OPT_INTEGER(struct rule, weight, "1", "0", "10", IMP_LIVE, "weight"),
    IMP_OPT_END,
};

static const imp_option rows[] = {
    IMP_OPT_BOOL(struct conf, is_on, "true", IMP_LIVE, "flag"),
    IMP_OPT_INTEGER(struct conf, count, "7", "0", "100", IMP_LIVE, "count"),
    IMP_OPT_SIZE(struct conf, bytes, "32KiB", "1B", "1GiB", 0, "size"),
    IMP_OPT_DURATION(struct conf, wait, "60s", "1ms", "30d", IMP_LIVE, "time"),
    IMP_OPT_ENUM(struct conf, kind, "hold|direct", "hold", IMP_LIVE, "kind"),
    IMP_OPT_STRING(struct conf, text, "abc", IMP_ETC_ONLY, "text"),
    IMP_OPT_STRINGS(struct conf, words, IMP_LIVE, "words"),
    IMP_OPT_SECRET(struct conf, secret, 0, "secret"),
    IMP_OPT_GROUPS(struct conf, rules, struct rule, rule_rows, IMP_LIVE, "rules"),
    IMP_OPT_END,
};

/* What was read obeys the rows. */
static void check_block(const struct config_block *block)
{
    const struct conf *conf = config_block_data(block);
    const char *changed;
    if (conf->count < 0 || conf->count > 100 || conf->bytes < 1 || conf->bytes > (1 << 30))
        abort();
    if (conf->wait < IMP_MILLISECOND || conf->kind < 0 || conf->kind > 1)
        abort();
    if (conf->text == NULL || !imp_utf8_is_valid(conf->text, strlen(conf->text)))
        abort();
    for (uint32_t i = 0; i < conf->words.count; i++)
        if (conf->words.items[i] == NULL)
            abort();
    const struct rule *rules = conf->rules.items;
    for (uint32_t i = 0; i < conf->rules.count; i++)
        if (rules[i].host == NULL || rules[i].weight < 0 || rules[i].weight > 10)
            abort();
    for (uint32_t i = 0; i < config_block_entry_count(block); i++)
        if (config_block_entry(block, i)->path == NULL)
            abort();
    if (config_block_compare(block, block, &changed) != CONFIG_SAME)
        abort();
}

static void read_group(const config_setting_t *group)
{
    static struct config_listener listeners[CONFIG_LISTENERS_MAX];
    imp_error error;
    uint32_t count = 0;
    struct arena arena = {0};
    struct config_block *block = NULL;
    if (config_listen_parse(group, "lpr", "lpr.conf", &arena, listeners, &count, &error) ==
        IMP_OK) {
        const struct config_rows_source source = {
            .rows = rows,
            .conf_size = sizeof(struct conf),
            .scope = "lpr",
            .label = "lpr.conf",
            .group = group,
            .listeners = listeners,
            .listener_count = count,
        };
        if (config_rows_read(&source, &block, &error) == IMP_OK)
            check_block(block);
    }
    config_block_free(block);
    arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    config_t parsed;
    config_setting_t *group = NULL;
    imp_error error;
    char *text = malloc(size + 1);
    if (text == NULL)
        abort();
    if (size > 0)
        memcpy(text, data, size);
    text[size] = 0;
    /* Other files are none of this target's business. */
    if (strstr(text, "@include") == NULL &&
        config_file_parse(text, "lpr.conf", &parsed, &error) == IMP_OK) {
        if (config_file_group(&parsed, "lpr", "lpr.conf", &group, &error) == IMP_OK)
            read_group(group);
        config_destroy(&parsed);
    }
    free(text);
    return 0;
}
