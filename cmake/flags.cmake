# Compiler and linker flags, one place. Programs and libraries link `strato_flags`.
add_library(strato_flags INTERFACE)
target_include_directories(strato_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_options(strato_flags INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wnon-virtual-dtor -Wimplicit-fallthrough -Wundef -Wvla -Wcast-align
  -fno-exceptions -fno-strict-aliasing -fvisibility=hidden)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(strato_flags INTERFACE -Wthread-safety -Wno-gnu-statement-expression)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 takes the empty side of std::optional and std::expected for a read; clang's analysis and the sanitizers watch instead.
  target_compile_options(strato_flags INTERFACE -Wno-maybe-uninitialized)
endif()
target_compile_definitions(strato_flags INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64 FMT_STATIC_THOUSANDS_SEPARATOR=',')

if(STRATO_HARDENED)
  target_compile_options(strato_flags INTERFACE
    -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -D_GLIBCXX_ASSERTIONS
    -fstack-protector-strong -fstack-clash-protection -ftrivial-auto-var-init=zero
    -ffunction-sections -fdata-sections)
  if(STRATO_ARCH STREQUAL "x86_64")
    target_compile_options(strato_flags INTERFACE -fcf-protection=full)
  elseif(STRATO_ARCH STREQUAL "aarch64")
    target_compile_options(strato_flags INTERFACE -mbranch-protection=standard)
  endif()
  target_link_options(strato_flags INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--gc-sections)
else()
  target_compile_definitions(strato_flags INTERFACE _GLIBCXX_ASSERTIONS)
endif()
if(STRATO_STATIC)
  target_compile_options(strato_flags INTERFACE -fPIE)
  target_link_options(strato_flags INTERFACE -static-pie)
  if(STRATO_ARCH STREQUAL "x86_64")
    # Relative relocations packed: they are a tenth of the pages that a start has to read. (Debian 12's ld can do so for x86 only.)
    target_link_options(strato_flags INTERFACE -Wl,-z,pack-relative-relocs)
  endif()
endif()
if(STRATO_SANITIZE)
  target_compile_options(strato_flags INTERFACE -fsanitize=${STRATO_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(strato_flags INTERFACE -fsanitize=${STRATO_SANITIZE})
endif()
