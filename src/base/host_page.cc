#include "base/host_page.h"

#include <unistd.h>

namespace strato {

uint64_t host_page_size() {
  static const auto kBytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return kBytes;
}

}  // namespace strato
