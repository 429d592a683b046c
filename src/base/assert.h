// STRATO_ASSERT: our own mistakes, on in every build. Never for anything that a guest, a file or a peer can cause.
#pragma once

namespace strato {

[[noreturn]] void assert_failed(const char* condition, const char* file, int line);

#define STRATO_ASSERT(condition)                                    \
  do {                                                              \
    if (!(condition)) [[unlikely]]                                  \
      ::strato::assert_failed(#condition, __FILE_NAME__, __LINE__); \
  } while (false)

}  // namespace strato
