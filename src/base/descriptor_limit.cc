#include "base/descriptor_limit.h"

#include <sys/resource.h>

#include <algorithm>

namespace strato {

void allow_descriptors(uint64_t more) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur += std::min<rlim_t>(more, limit.rlim_max - limit.rlim_cur);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace strato
