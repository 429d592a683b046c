#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace strato {

// -daemonize: the VM goes on in a child of its own session, and the launching process ends when the VM is ready, or
// with the child's error. Without -daemonize all of this does nothing.
class Daemon {
 public:
  // Forks when asked. An existing pidfile is an error; it is made here, mode 0600, so that it cannot fail later.
  static Result<Daemon> create(bool daemonize, const std::string& pidfile);
  Daemon(Daemon&&) = default;
  Daemon& operator=(Daemon&&) = delete;
  // In the VM's process: removes the pidfile.
  ~Daemon();

  // In the launching process: 0 once the VM is ready; else the child's message goes to stderr and 1 comes back.
  bool is_launcher() const { return is_launcher_; }
  int wait_until_ready();

  // In the VM's process: stdio goes to /dev/null, the pidfile gets our pid, the launcher ends.
  Result<> ready();
  // Tells the launcher (or stderr) why there will be no VM.
  void failed(const Error& error);

 private:
  Daemon() = default;
  bool is_launcher_ = false;
  UniqueFd pipe_;  // launcher: read end; VM: write end
  UniqueFd pidfile_;
  std::string pidfile_path_;
};

}  // namespace strato
