// The QMP server: listens, frames, answers, sends events.
// Threads: all on the control loop. A client that does not read is cut off when kMaxUnsentBytes wait for it; nothing
// ever blocks.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "base/socket_address.h"
#include "config/vm_config.h"
#include "event/event_loop.h"
#include "qmp/machine_control.h"

namespace strato::qmp {

class Server : public MachineObserver {
 public:
  static constexpr size_t kMaxClients = 16;
  static constexpr size_t kMaxUnsentBytes = 1024 * 1024;

  // Listens on `socket` (a stale unix socket is replaced, mode 0600; removed again by the destructor). Clients get
  // their greeting at once.
  static Result<std::unique_ptr<Server>> listen(EventLoop& loop, MachineControl& machine, const SocketConfig& socket);
  ~Server() override;

  void on_stop() override { send_event("STOP", ""); }
  void on_resume() override { send_event("RESUME", ""); }
  void on_reset(ShutdownCause cause) override;
  void on_shutdown(ShutdownCause cause) override;
  void on_block_error(const BlockError& error) override;
  void on_net_disconnect(std::string_view netdev) override;
  void on_balloon_change(uint64_t actual_bytes) override;
  void on_memory_device_change(std::string_view id, uint64_t plugged_bytes) override;

  // Sends what is queued, waiting at most `timeout_ms` for slow clients: the last call before the process ends.
  void flush(int timeout_ms);

 private:
  class Client;

  Server(EventLoop& loop, MachineControl& machine, ListeningSocket listener);
  void accept_client();
  void send_event(std::string_view name, std::string_view data);
  void remove(const Client& client);

  EventLoop& loop_;
  MachineControl& machine_;
  ListeningSocket listener_;
  Watch listener_watch_;
  std::list<std::unique_ptr<Client>> clients_;
  Lifetime alive_;
};

}  // namespace strato::qmp
