// A network without privileges on the host: passt, in a process of its own that we start and end. Its frames come and
// go by a StreamNet.
// Threads: control loop. Between threads goes only what StreamNet takes there.
// Limits:  start() waits until passt has answered, kStartLimitMs at most. What it says goes to the log.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "event/event_loop.h"
#include "net/stream_net.h"

namespace strato {

class Passt {
 public:
  static constexpr int kStartLimitMs = 60'000;

  struct Args {
    std::string name;               // for messages
    std::string program = "passt";  // looked for in PATH
    std::vector<std::string> arguments{};
    std::array<uint8_t, 4> gateway{};       // an address that it answers for
    std::function<void()> on_disconnect{};  // it has ended by itself; on the loop
  };
  static Result<std::unique_ptr<Passt>> start(EventLoop& loop, Args args);
  // Ends the process. Nothing is attached to net() any more.
  ~Passt();
  Passt(const Passt&) = delete;
  Passt& operator=(const Passt&) = delete;

  // Its link is down for good once the process has ended.
  StreamNet& net() { return *net_; }
  pid_t pid() const { return pid_; }  // 0: it has ended

 private:
  explicit Passt(Args args) : args_(std::move(args)) {}
  Result<> spawn(int socket);
  Result<> wait_for_answer(int socket);
  Error ended_at_start();
  Result<> watch(EventLoop& loop);
  void read_messages();
  std::string reap();

  const Args args_;
  pid_t pid_ = 0;
  UniqueFd process_;   // readable when it has ended
  UniqueFd messages_;  // what it writes to its stderr
  std::string line_;   // the beginning of one
  std::string last_line_;
  std::unique_ptr<StreamNet> net_;
  Watch process_watch_;
  Watch message_watch_;
};

}  // namespace strato
