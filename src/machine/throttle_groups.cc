#include "machine/throttle_groups.h"

namespace strato {

IoLimits io_limits(const RateConfig& bytes, const RateConfig& operations) {
  IoLimits limits;
  if (bytes.per_second != 0) limits.bytes = bucket_of_rate(bytes.per_second, bytes.max);
  if (operations.per_second != 0) limits.operations = bucket_of_rate(operations.per_second, operations.max);
  return limits;
}

ThrottleGroups::ThrottleGroups(std::span<const ThrottleGroupConfig> wanted, const Clock& clock) {
  for (const ThrottleGroupConfig& group : wanted) {
    groups_.emplace(group.id, std::make_shared<IoLimiter>(io_limits(group.bytes, group.operations), clock));
  }
}

std::shared_ptr<IoLimiter> ThrottleGroups::find(std::string_view id) const {
  const auto found = groups_.find(id);
  return found == groups_.end() ? nullptr : found->second;
}

}  // namespace strato
