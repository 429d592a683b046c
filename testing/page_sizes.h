// Hosts with pages of 4, 16 and 64 KiB, as test parameters: code that depends on the page size of the host takes it as
// an argument. A host can stand for those with larger pages, not for those with smaller ones.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/checked.h"
#include "base/host_page.h"

namespace strato::testing {

inline std::vector<uint64_t> page_sizes() {
  std::vector<uint64_t> sizes;
  for (const uint64_t bytes : {4 * kKiB, 16 * kKiB, 64 * kKiB}) {
    if (bytes >= host_page_size()) sizes.push_back(bytes);
  }
  return sizes;
}

inline std::string page_size_name(const ::testing::TestParamInfo<uint64_t>& page) {
  return std::to_string(page.param / kKiB) + "KiB";
}

}  // namespace strato::testing
