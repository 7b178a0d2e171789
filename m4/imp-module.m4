# SPDX-License-Identifier: Apache-2.0
# imp-module.m4 - one line in configure.ac for each module.

# IMP_MODULE_ARG(NAME, SUMMARY, LIBRARIES)
# ----------------------------------------
# Gives --enable-NAME / --disable-NAME. Default: built when its folder modules/NAME is there and
# each of LIBRARIES (blank-separated; X stands for the shell variable have_X, "yes" or "no") was
# found. Asked for by name and not possible is an error. Sets the Automake conditional MODULE_NAME
# (upper case, '-' becomes '_') and adds a line to the summary.
AC_DEFUN([IMP_MODULE_ARG], [
  m4_pushdef([imp_var], m4_translit([$1], [-], [_]))dnl
  AC_ARG_ENABLE([$1],
    [AS_HELP_STRING([--disable-$1], [leave out module $1: $2])],
    [imp_wanted=$enableval], [imp_wanted=auto])
  imp_missing=
  for imp_library in $3; do
    eval "imp_found=\$have_$imp_library"
    AS_IF([test "x$imp_found" != xyes], [imp_missing="$imp_missing $imp_library"])
  done
  AS_IF([test ! -f "$srcdir/modules/$1/module.am"], [imp_reason="not in this source tree"],
        [test -n "$imp_missing"], [imp_reason="missing:$imp_missing"],
        [imp_reason=])
  AS_CASE([$imp_wanted],
    [no], [imp_built=no; imp_reason="disabled by --disable-$1"],
    [yes], [AS_IF([test -n "$imp_reason"],
                  [AC_MSG_ERROR([module $1 cannot be built: $imp_reason])])
            imp_built=yes],
    [auto], [AS_IF([test -n "$imp_reason"], [imp_built=no], [imp_built=yes])],
    [AC_MSG_ERROR([--enable-$1 takes yes or no, not "$imp_wanted"])])
  AM_CONDITIONAL([MODULE_]m4_toupper(imp_var), [test "x$imp_built" = xyes])
  AS_IF([test "x$imp_built" = xyes], [imp_state="built    "], [imp_state="not built"])
  IMP_SUMMARY_ADD([m4_format([  %-18s], [$1])$imp_state  $2${imp_reason:+ ($imp_reason)}])
  m4_popdef([imp_var])dnl
])

# IMP_SUMMARY_ADD(LINE)
# ---------------------
AC_DEFUN([IMP_SUMMARY_ADD], [
  imp_summary="$imp_summary
$1"])
