#include "devices/vsock_listener.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>
#include <vector>

#include "base/log.h"

namespace strato::virtio {

std::optional<uint32_t> parse_vsock_connect(std::string_view line) {
  constexpr std::string_view kVerb = "CONNECT ";
  if (!line.starts_with(kVerb)) return std::nullopt;
  line.remove_prefix(kVerb.size());
  uint32_t port = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), port);
  if (error != std::errc() || end != line.data() + line.size()) return std::nullopt;
  return port;
}

VsockListener::VsockListener(std::string name, EventLoop& loop, const ListeningSocket& listening, OnConnect on_connect)
    : name_(std::move(name)), loop_(loop), listening_(listening), on_connect_(std::move(on_connect)) {
  Result<Watch> watch = loop_.watch(listening_.fd(), EPOLLIN | EPOLLET, [this](uint32_t) {
    waiting_ = true;
    accept_waiting();
  });
  if (watch) {
    watch_ = *std::move(watch);
  } else {
    log_guest(LogLevel::Error, "{}: host programs cannot connect: {}", name_, watch.error().text());
  }
}

void VsockListener::set_running(bool running) {
  if (std::exchange(running_, running) == running || !running) return;
  std::vector<uint64_t> numbers;
  for (const auto& [number, greeter] : greeters_) numbers.push_back(number);
  for (const uint64_t number : numbers) listen_to(number);
  accept_waiting();
}

void VsockListener::accept_waiting() {
  while (running_ && waiting_) {
    UniqueFd socket = listening_.accept();
    if (socket.valid()) {
      add(std::move(socket));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    waiting_ = errno != EAGAIN;
    if (waiting_) log_guest(LogLevel::Warn, "{}: a host program has to wait: {}", name_, std::strerror(errno));
    return;
  }
}

void VsockListener::add(UniqueFd socket) {
  if (greeters_.size() == kMaxGreeters) {
    log_guest(LogLevel::Warn, "{}: {} host programs have not said which port they want: the first is turned away",
              name_, kMaxGreeters);
    greeters_.erase(greeters_.begin());
  }
  const uint64_t number = next_greeter_++;
  Greeter& greeter = greeters_[number];
  greeter.socket = std::move(socket);
  Result<Watch> watch = loop_.watch(greeter.socket.get(), EPOLLIN | EPOLLRDHUP | EPOLLET,
                                    [this, number](uint32_t) { listen_to(number); });
  if (!watch) {
    log_guest(LogLevel::Warn, "{}: a host program is turned away: {}", name_, watch.error().text());
    greeters_.erase(number);
    return;
  }
  greeter.watch = *std::move(watch);
  listen_to(number);
}

void VsockListener::listen_to(uint64_t number) {
  const auto found = greeters_.find(number);
  if (!running_ || found == greeters_.end()) return;
  Greeter& greeter = found->second;
  const Line line = read_line(greeter);
  if (line == Line::Unfinished) return;
  std::optional<uint32_t> port;
  if (line == Line::Finished) port = parse_vsock_connect(std::string_view(greeter.line.data(), greeter.bytes));
  UniqueFd socket;
  if (port) {
    greeter.watch.reset();
    socket = std::move(greeter.socket);
  } else if (line == Line::Finished || greeter.bytes != 0) {
    log_guest(LogLevel::Warn, "{}: a host program is turned away: it did not say CONNECT and a port", name_);
  }
  greeters_.erase(found);
  if (port) on_connect_(std::move(socket), *port);
}

// Takes nothing that stands behind the line.
VsockListener::Line VsockListener::read_line(Greeter& greeter) {
  for (;;) {
    char* const to = greeter.line.data() + greeter.bytes;
    const size_t room = kMaxLine - greeter.bytes;
    if (room == 0) return Line::Bad;
    const ssize_t there = ::recv(greeter.socket.get(), to, room, MSG_PEEK | MSG_DONTWAIT);
    if (there < 0 && errno == EINTR) continue;
    if (there < 0 && errno == EAGAIN) return Line::Unfinished;
    if (there <= 0) return Line::Bad;
    const char* const newline = std::find(to, to + there, '\n');
    const bool finished = newline != to + there;
    const auto taken = static_cast<size_t>(newline - to);
    if (::recv(greeter.socket.get(), to, taken + (finished ? 1 : 0), MSG_DONTWAIT) < 0) return Line::Bad;
    greeter.bytes += taken;
    if (finished) return Line::Finished;
  }
}

}  // namespace strato::virtio
