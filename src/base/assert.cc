#include "base/assert.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace strato {

void assert_failed(const char* condition, const char* file, int line) {
  char text[256];
  const int len = ::snprintf(text, sizeof(text), "stratovirt: bug: %s does not hold, %s:%d\n", condition, file, line);
  if (len > 0) {
    const size_t size = static_cast<size_t>(len) < sizeof(text) ? static_cast<size_t>(len) : sizeof(text) - 1;
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text, size);
  }
  ::abort();
}

}  // namespace strato
