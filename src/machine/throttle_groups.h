#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "config/device_config.h"
#include "devices/io_limiter.h"
#include "event/clock.h"

namespace strato {

// A limiter with its rates as users see and change them. Threads: control loop; the limiter any.
class Throttle {
 public:
  // `clock` outlives the limiter.
  Throttle(const IoRates& rates, const Clock& clock);

  const std::shared_ptr<IoLimiter>& limiter() const { return limiter_; }
  const IoRates& rates() const { return rates_; }
  // From now on. They have passed check_rates().
  void set_rates(const IoRates& rates);

 private:
  IoRates rates_;
  const std::shared_ptr<IoLimiter> limiter_;
};

// Those of -object throttle-group by id. Threads: control loop.
class ThrottleGroups {
 public:
  // `clock` outlives the limiters.
  ThrottleGroups(std::span<const ThrottleGroupConfig> wanted, const Clock& clock);

  // Null: there is none of this id.
  std::shared_ptr<Throttle> find(std::string_view id) const;

  Result<IoRates> rates(std::string_view id) const;
  Result<> set_rates(std::string_view id, const IoRates& rates);

 private:
  Result<Throttle*> group(std::string_view id) const;

  std::map<std::string, std::shared_ptr<Throttle>, std::less<>> groups_;
};

}  // namespace strato
