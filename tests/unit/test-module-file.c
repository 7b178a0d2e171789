/* SPDX-License-Identifier: Apache-2.0 */
/* What the loader decides without running anything: files, descriptors, marks of starts, time limits. */
#include "build-config.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
/* after the headers above */
#include <cmocka.h>

#include "core/module-file.h"
#include "core/module-image.h"
#include "core/module-mark.h"
#include "core/module-watch.h"
#include "note-file.h"

static char folder[128];
static struct module_settings settings;

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/imprimatur-unit-XXXXXX");
    if (mkdtemp(folder) == NULL || chmod(folder, 0755) != 0)
        return -1;
    /* As in a clone: our own files; as root that is what root has anyway. */
    settings = (struct module_settings){
        .module_dir = folder, .state_dir = folder, .is_developer = geteuid() != 0};
    return 0;
}

static int tear_down(void **state)
{
    char command[160];
    (void)state;
    DIR *listing = opendir(folder);
    struct dirent *item;
    while (listing != NULL && (item = readdir(listing)) != NULL) {
        snprintf(command, sizeof(command), "%s/%.20s", folder, item->d_name);
        unlink(command);
        rmdir(command);
    }
    if (listing != NULL)
        closedir(listing);
    return rmdir(folder);
}

static void write_module(const char *name, const char *text, size_t length, mode_t mode)
{
    struct note_file file;
    char path[160];
    note_file_make_sized(&file, text, length);
    snprintf(path, sizeof(path), "%s/%s.so", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, file.bytes, file.length), file.length);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}
#define WRITE_MODULE(name, text, mode) write_module((name), (text), sizeof(text), (mode))

static void check_open(const char *name, imp_status expected, const char *words)
{
    struct module_file file;
    imp_error error = {.status = IMP_OK};
    imp_status status = module_file_open(&settings, name, &file, &error);
    assert_int_equal(status, expected);
    if (words != NULL)
        assert_non_null(strstr(error.message, words));
    else
        assert_true(file.fd >= 0);
    module_file_close(&file);
    module_file_close(&file);
}

static void only_a_file_of_ours_that_others_can_not_write_is_taken(void **state)
{
    (void)state;
    WRITE_MODULE("lpr", NOTE_FILE_TEXT, 0644);
    check_open("lpr", IMP_OK, NULL);
    WRITE_MODULE("lpr", NOTE_FILE_TEXT, 0664);
    check_open("lpr", IMP_DENIED, "may be written by others (mode 0664)");
    WRITE_MODULE("lpr", NOTE_FILE_TEXT, 0646);
    check_open("lpr", IMP_DENIED, "may be written by others (mode 0646)");
    WRITE_MODULE("lpr", NOTE_FILE_TEXT, 0644);
    assert_int_equal(chmod(folder, 0775), 0);
    check_open("lpr", IMP_DENIED, "may be written by others (mode 0775)");
    assert_int_equal(chmod(folder, 0755), 0);
    check_open("raw", IMP_NOT_FOUND, "there is no file");
    check_open("../lpr", IMP_INVALID, "is no name of a module");
    check_open("", IMP_INVALID, "is no name of a module");
}

static void a_name_or_abi_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    WRITE_MODULE("raw", NOTE_FILE_TEXT, 0644);
    check_open("raw", IMP_INVALID, "is module \"lpr\", not \"raw\"");
    WRITE_MODULE("lpr", "name=lpr\0version=1.0.0\0abi=2.0\0", 0644);
    check_open("lpr", IMP_INVALID, "built for ABI 2.0");
    WRITE_MODULE("lpr", "name=lpr\0version=1.0.0\0abi=1.1\0", 0644);
    check_open("lpr", IMP_INVALID, "built for the newer ABI 1.1");
    assert_int_equal(module_file_check_abi(IMP_ABI_MAJOR, IMP_ABI_MINOR, NULL), IMP_OK);
}

static void developer_is_refused_where_it_would_be_dangerous(void **state)
{
    struct module_settings wish = {.module_dir = "/usr/lib/imprimatur/modules",
                                   .installed_dir = "/usr/lib/imprimatur/modules"};
    imp_error error;
    (void)state;
    assert_int_equal(module_file_check_developer(&wish, &error), IMP_OK);
    wish.is_developer = true;
    assert_int_equal(module_file_check_developer(&wish, &error), IMP_DENIED);
    wish.module_dir = "/usr/lib/imprimatur/modules/mine";
    assert_int_equal(module_file_check_developer(&wish, &error), IMP_DENIED);
    wish.module_dir = "/usr/lib/imprimatur/modules-mine";
    assert_int_equal(module_file_check_developer(&wish, &error),
                     geteuid() == 0 ? IMP_DENIED : IMP_OK);
}

/* ---- descriptor and note ---- */

static imp_status no_start(imp_self *self, const void *conf, void **instance, imp_error *error)
{
    (void)self;
    (void)conf;
    (void)instance;
    (void)error;
    return IMP_OK;
}

static void no_stop(imp_self *self, void *instance)
{
    (void)self;
    (void)instance;
}

static void note_and_descriptor_must_say_the_same(void **state)
{
    static const char text[] = NOTE_FILE_TEXT;
    struct note note;
    imp_error error;
    const imp_module right = {.size = sizeof(right),
                              .abi_major = 1,
                              .abi_minor = 0,
                              .name = "lpr",
                              .version = "1.2.3",
                              .requires = IMP_REQUIRES({"jobs", 1}, {"devices", 2}),
                              .start = no_start,
                              .stop = no_stop};
    const imp_service_need fewer[] = {{"jobs", 1}, {NULL, 0}};
    const imp_service_need more[] = {{"jobs", 1}, {"devices", 2}, {"audit", 1}, {NULL, 0}};
    const imp_service_offer offer[] = {{"lpr", 1, &note}, {NULL, 0, NULL}};
    (void)state;
    memset(&note, 0, sizeof(note));
    assert_int_equal(note_parse_text(text, sizeof(text), &note, NULL), IMP_OK);
    assert_int_equal(module_image_check_descriptor(&right, &note, &error), IMP_OK);

    imp_module wrong = right;
    wrong.name = "raw";
    assert_int_equal(module_image_check_descriptor(&wrong, &note, &error), IMP_INVALID);
    assert_string_equal(error.message, "note and descriptor differ in \"name\"");
    wrong = right;
    wrong.version = "1.2.4";
    assert_int_equal(module_image_check_descriptor(&wrong, &note, &error), IMP_INVALID);
    wrong = right;
    wrong.abi_minor = 1;
    assert_int_equal(module_image_check_descriptor(&wrong, &note, &error), IMP_INVALID);
    wrong = right;
    wrong.requires = fewer;
    assert_int_equal(module_image_check_descriptor(&wrong, &note, &error), IMP_INVALID);
    wrong.requires = more;
    assert_int_equal(module_image_check_descriptor(&wrong, &note, &error), IMP_INVALID);
    wrong.requires = NULL;
    assert_int_equal(module_image_check_descriptor(&wrong, &note, &error), IMP_INVALID);
    assert_string_equal(error.message, "note and descriptor differ in \"requires\"");
    wrong = right;
    wrong.provides = offer;
    assert_int_equal(module_image_check_descriptor(&wrong, &note, &error), IMP_INVALID);
    wrong = right;
    wrong.stop = NULL;
    assert_int_equal(module_image_check_descriptor(&wrong, &note, &error), IMP_INVALID);
    wrong = right;
    wrong.size = 8;
    assert_int_equal(module_image_check_descriptor(&wrong, &note, &error), IMP_INVALID);
}

/* ---- marks ---- */

/* A process that begins a start and ends in `how`. */
enum end { END_CLEAN, END_ABORT, END_HANG, END_KILL };

static void start_and_end(const struct module_file *file, enum end how)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct module_mark mark;
        signal(SIGABRT, SIG_DFL); /* not the test program's or a sanitizer's */
        if (module_mark_begin(folder, file, &mark, NULL) != IMP_OK)
            _exit(9);
        switch (how) {
        case END_CLEAN: module_mark_end(&mark); break;
        case END_ABORT: raise(SIGABRT); break;
        case END_HANG: module_mark_hung(); break;
        case END_KILL: raise(SIGKILL); break;
        }
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 9);
}

static imp_status may_start(const struct module_file *file)
{
    struct module_mark mark;
    imp_status status = module_mark_begin(folder, file, &mark, NULL);
    if (status == IMP_OK)
        module_mark_end(&mark);
    return status;
}

static void forget_marks(void)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/module-starts/lpr", folder);
    unlink(path);
}

static struct module_file marked_file(uint8_t build)
{
    struct module_file file = {.fd = -1, .note.build_id = {build}, .note.build_id_length = 4};
    memcpy(file.note.name, "lpr", sizeof("lpr"));
    return file;
}

static void a_clean_start_and_a_kill_leave_nothing_against_a_module(void **state)
{
    struct module_file file = marked_file(1);
    (void)state;
    start_and_end(&file, END_CLEAN);
    start_and_end(&file, END_KILL);
    start_and_end(&file, END_KILL);
    start_and_end(&file, END_KILL);
    assert_int_equal(may_start(&file), IMP_OK);
}

static void the_second_crash_leaves_it_out_and_another_build_is_tried(void **state)
{
    struct module_file file = marked_file(1), other = marked_file(2);
    (void)state;
    start_and_end(&file, END_ABORT);
    start_and_end(&file, END_KILL); /* does not forgive, does not count */
    start_and_end(&file, END_ABORT);
    assert_int_equal(may_start(&file), IMP_DENIED);
    assert_int_equal(may_start(&file), IMP_DENIED);
    assert_int_equal(may_start(&other), IMP_OK);
}

static void a_hang_leaves_it_out_at_once_until_the_mark_is_removed(void **state)
{
    struct module_file file = marked_file(1);
    (void)state;
    start_and_end(&file, END_HANG);
    assert_int_equal(may_start(&file), IMP_DENIED);
    assert_int_equal(may_start(&file), IMP_DENIED);
    forget_marks();
    assert_int_equal(may_start(&file), IMP_OK);
}

/* ---- time limits ---- */

static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t watch_changed = PTHREAD_COND_INITIALIZER;
static char watch_said[64];

static void on_limit(const char *module, const char *what)
{
    pthread_mutex_lock(&watch_lock);
    snprintf(watch_said, sizeof(watch_said), "%s %s", module, what);
    pthread_cond_signal(&watch_changed);
    pthread_mutex_unlock(&watch_lock);
}

static void a_call_that_takes_too_long_is_named(void **state)
{
    (void)state;
    module_watch_begin("lpr", "start", 1); /* not running yet: nothing */
    assert_int_equal(module_watch_start(NULL), IMP_OK);
    module_watch_set_end_for_test(on_limit);
    module_watch_begin("lpr", "start", 3600 * IMP_SECOND);
    module_watch_end();
    module_watch_begin("raw", "stop", IMP_MILLISECOND);
    pthread_mutex_lock(&watch_lock);
    while (watch_said[0] == '\0')
        pthread_cond_wait(&watch_changed, &watch_lock);
    assert_string_equal(watch_said, "raw stop");
    pthread_mutex_unlock(&watch_lock);
    module_watch_end();
    module_watch_set_end_for_test(NULL);
    module_watch_stop();
}

static void no_address_has_an_epitaph_before_anything_was_unloaded(void **state)
{
    (void)state;
    assert_null(module_epitaph_find((uintptr_t)&folder));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_a_file_of_ours_that_others_can_not_write_is_taken),
        cmocka_unit_test(a_name_or_abi_that_does_not_fit_is_refused),
        cmocka_unit_test(developer_is_refused_where_it_would_be_dangerous),
        cmocka_unit_test(note_and_descriptor_must_say_the_same),
        cmocka_unit_test(a_clean_start_and_a_kill_leave_nothing_against_a_module),
        cmocka_unit_test(the_second_crash_leaves_it_out_and_another_build_is_tried),
        cmocka_unit_test(a_hang_leaves_it_out_at_once_until_the_mark_is_removed),
        cmocka_unit_test(a_call_that_takes_too_long_is_named),
        cmocka_unit_test(no_address_has_an_epitaph_before_anything_was_unloaded),
    };
    return cmocka_run_group_tests_name("module-file", tests, set_up, tear_down);
}
