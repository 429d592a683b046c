// stratovirt: the virtual machine monitor.
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string_view>
#include <vector>

#include "apps/stratovirt/daemon.h"
#include "apps/stratovirt/signals.h"
#include "base/log.h"
#include "config/command_line.h"
#include "event/event_loop.h"
#include "machine/machine.h"
#include "qmp/server.h"

namespace strato {
namespace {

constexpr int kQmpFlushMs = 500;  // for clients that are slow to take the last events

// A standard fd that our parent closed would be given to the next file that we open, and get our messages.
void open_missing_standard_fds() {
  int fd = 0;
  do {
    fd = ::open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) ::close(fd);
}

int complain(const Error& error) {
  std::fprintf(stderr, "stratovirt: %s\n", error.text().c_str());
  return 1;
}

Result<> set_up_log(const VmConfig& config) {
  if (const char* level = ::getenv("STRATOVIRT_LOG_LEVEL"); level != nullptr && *level != '\0') {
    const Result<LogLevel> parsed = parse_log_level(level);
    if (!parsed) return std::unexpected(Error(parsed.error()).context("STRATOVIRT_LOG_LEVEL"));
    set_log_level(*parsed);
  }
  if (!config.log_file.empty()) STRATO_TRY(open_log_file(config.log_file));
  return {};
}

// Lives until the VM has ended. `daemon` is told as soon as callers may connect.
Result<int> run_vm(const VmConfig& config, BootTimeline& timeline, Daemon& daemon) {
  if (!config.boot_timeline.empty()) STRATO_TRY(timeline.write_to(config.boot_timeline));
  const MonotonicClock clock;
  std::unique_ptr<EventLoop> loop = STRATO_TRY(EventLoop::create("control", clock));
  std::unique_ptr<Machine> machine = STRATO_TRY(create_machine(config, *loop, timeline));
  Signals signals = STRATO_TRY(Signals::watch(*loop, [&machine](int) { machine->end(ShutdownCause::HostSignal); }));

  std::vector<std::unique_ptr<qmp::Server>> qmp_servers;
  for (const QmpConfig& qmp : config.qmp) {
    qmp_servers.push_back(nullptr);
    qmp_servers.back() = STRATO_TRY(qmp::Server::listen(*loop, *machine, qmp.socket));
    machine->add_observer(*qmp_servers.back());
  }
  timeline.publish();
  STRATO_TRY(daemon.ready());
  STRATO_TRY(machine->start());
  loop->run();
  for (const std::unique_ptr<qmp::Server>& server : qmp_servers) server->flush(kQmpFlushMs);
  return machine->exit_code();
}

int run(const VmConfig& config, BootTimeline& timeline) {
  if (const Result<> log_set_up = set_up_log(config); !log_set_up) return complain(log_set_up.error());
  // Before KVM, rings and threads exist: none of them survives a fork.
  Result<Daemon> daemon = Daemon::create(config.daemonize, config.pidfile);
  if (!daemon) return complain(daemon.error());
  if (daemon->is_launcher()) return daemon->wait_until_ready();

  const Result<int> code = run_vm(config, timeline, *daemon);
  if (!code) {
    daemon->failed(code.error());
    return 1;
  }
  return *code;
}

}  // namespace
}  // namespace strato

int main(int argc, char** argv) {
  strato::BootTimeline timeline;
  // One heap for all threads: they hardly allocate, and each heap of its own would cost start-up time and memory.
  ::mallopt(M_ARENA_MAX, 1);
  strato::open_missing_standard_fds();
  const std::vector<std::string_view> arguments(argv + 1, argv + argc);
  const strato::Result<strato::ParsedCommandLine> parsed = strato::parse_command_line(arguments);
  if (!parsed) return strato::complain(parsed.error());
  timeline.mark("parsed");
  if (std::holds_alternative<strato::ShowHelp>(*parsed)) {
    std::fputs(strato::help_text().c_str(), stdout);
    return 0;
  }
  if (std::holds_alternative<strato::ShowVersion>(*parsed)) {
    std::fputs(strato::version_text().c_str(), stdout);
    return 0;
  }
  return strato::run(std::get<strato::VmConfig>(*parsed), timeline);
}
