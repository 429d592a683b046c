#include "machine/throttle_groups.h"

#include <fmt/format.h>

namespace strato {
namespace {

IoLimits io_limits(const IoRates& rates) {
  const auto& [bytes, operations] = rates;
  IoLimits limits;
  if (bytes.per_second != 0) limits.bytes = bucket_of_rate(bytes.per_second, bytes.max);
  if (operations.per_second != 0) limits.operations = bucket_of_rate(operations.per_second, operations.max);
  return limits;
}

}  // namespace

Throttle::Throttle(const IoRates& rates, const Clock& clock)
    : rates_(rates), limiter_(std::make_shared<IoLimiter>(io_limits(rates), clock)) {}

void Throttle::set_rates(const IoRates& rates) {
  rates_ = rates;
  limiter_->set_limits(io_limits(rates));
}

ThrottleGroups::ThrottleGroups(std::span<const ThrottleGroupConfig> wanted, const Clock& clock) {
  for (const ThrottleGroupConfig& group : wanted) {
    groups_.emplace(group.id, std::make_shared<Throttle>(group.rates, clock));
  }
}

std::shared_ptr<Throttle> ThrottleGroups::find(std::string_view id) const {
  const auto found = groups_.find(id);
  return found == groups_.end() ? nullptr : found->second;
}

Result<Throttle*> ThrottleGroups::group(std::string_view id) const {
  const auto found = groups_.find(id);
  if (found == groups_.end()) {
    return std::unexpected(Error::not_found(fmt::format("there is no throttle-group '{}'", id)));
  }
  return found->second.get();
}

Result<IoRates> ThrottleGroups::rates(std::string_view id) const {
  const Throttle* found = STRATO_TRY(group(id));
  return found->rates();
}

Result<> ThrottleGroups::set_rates(std::string_view id, const IoRates& rates) {
  Throttle* found = STRATO_TRY(group(id));
  found->set_rates(rates);
  return {};
}

}  // namespace strato
