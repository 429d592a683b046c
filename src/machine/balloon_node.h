// The balloon of a machine, as QMP sees it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "devices/virtio_balloon.h"
#include "event/event_loop.h"
#include "machine/change_report.h"
#include "qmp/machine_control.h"

namespace strato {

// Threads: control loop, but for report_actual(). Outlives the device.
class BalloonNode {
 public:
  // `on_change` is called with what the guest has: see ChangeReport for how often.
  BalloonNode(EventLoop& loop, std::function<void(uint64_t)> on_change)
      : loop_(loop), on_change_(std::move(on_change)) {}

  void attach(std::string id, virtio::Balloon& device);
  // The guest has more or less than before. Any thread.
  void report_actual() { report_->changed(); }

  std::optional<uint64_t> actual() const;
  Result<> set_target(uint64_t bytes);
  Result<GuestStats> stats(std::string_view id) const;
  Result<uint32_t> interval_s(std::string_view id) const;
  Result<> set_interval(std::string_view id, uint32_t seconds);

 private:
  Result<virtio::Balloon*> find(std::string_view id) const;

  EventLoop& loop_;
  std::function<void(uint64_t)> on_change_;
  std::string id_;
  virtio::Balloon* device_ = nullptr;
  std::optional<ChangeReport> report_;  // with the device
};

}  // namespace strato
