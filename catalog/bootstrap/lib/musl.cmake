# Looks for libraries, headers and packages in /sysroot only, and for programs
# on the host. Not a cross build: what is compiled runs here.
set(CMAKE_C_COMPILER /opt/minimill/bin/gcc)
set(CMAKE_CXX_COMPILER /opt/minimill/bin/g++)
set(CMAKE_FIND_ROOT_PATH /sysroot)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
