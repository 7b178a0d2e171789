# SPDX-License-Identifier: Apache-2.0
# imp-library.m4 - finds a library with pkg-config and says in have_NAME what came of it.

# IMP_LIBRARY(NAME, PKG-CONFIG-SPEC, DEBIAN-PACKAGE, [CORE])
# ----------------------------------------------------------
# Sets NAME_CFLAGS, NAME_LIBS (upper case) and have_NAME. With CORE it has to be there; the error
# names the Debian package.
AC_DEFUN([IMP_LIBRARY], [
  PKG_CHECK_MODULES(m4_toupper([$1]), [$2], [have_$1=yes], [have_$1=no
    m4_ifval([$4], [AC_MSG_ERROR([$2 not found; on Debian: apt-get install $3])])])
])
