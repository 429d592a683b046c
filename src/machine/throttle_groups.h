#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "config/device_config.h"
#include "devices/io_limiter.h"
#include "event/clock.h"

namespace strato {

IoLimits io_limits(const RateConfig& bytes, const RateConfig& operations);

// The limiters of -object throttle-group by id. A limit is changed at run time by set_limits() of its limiter. Threads:
// any.
class ThrottleGroups {
 public:
  // `clock` outlives the limiters.
  ThrottleGroups(std::span<const ThrottleGroupConfig> wanted, const Clock& clock);

  // Null: there is none of this id.
  std::shared_ptr<IoLimiter> find(std::string_view id) const;

 private:
  std::map<std::string, std::shared_ptr<IoLimiter>, std::less<>> groups_;
};

}  // namespace strato
