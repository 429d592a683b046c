#include "qmp/server.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"
#include "qmp/commands.h"
#include "qmp/framer.h"
#include "qmp/json.h"

namespace strato::qmp {
namespace {

uint64_t realtime_us() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

}  // namespace

class Server::Client {
 public:
  Client(Server& server, UniqueFd fd) : server_(server), fd_(std::move(fd)) {}

  Result<> start() {
    watch_ = STRATO_TRY(server_.loop_.watch(fd_.get(), EPOLLIN, [this](uint32_t events) { on_ready(events); }));
    send(greeting());
    return {};
  }

  void send(std::string_view line) {
    unsent_.append(line);
    unsent_.append("\r\n");
    write_out();
  }

  void flush(int timeout_ms) {
    while (!unsent_.empty() && !broken_) {
      pollfd waiting{.fd = fd_.get(), .events = POLLOUT, .revents = 0};
      if (::poll(&waiting, 1, timeout_ms) <= 0) return;
      write_out();
    }
  }

 private:
  void on_ready(uint32_t events) {
    if ((events & EPOLLOUT) != 0) write_out();
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) read_in();
    serve();
    if (broken_) server_.remove(*this);  // destroys us; the loop keeps the running callback
  }

  void read_in() {
    char buffer[4096];
    while (true) {
      const ssize_t n = ::read(fd_.get(), buffer, sizeof(buffer));
      if (n > 0) {
        framer_.feed({buffer, static_cast<size_t>(n)});
        if (static_cast<size_t>(n) == sizeof(buffer)) continue;
        return;
      }
      if (n < 0 && errno == EINTR) continue;
      if (n == 0 || errno != EAGAIN) broken_ = true;
      return;
    }
  }

  // One request at a time: the next one starts when the answer to the last is out.
  void serve() {
    while (!busy_ && !broken_) {
      std::optional<std::string> request = framer_.next();
      if (!request) break;
      busy_ = true;
      execute(server_.machine_, *request,
              [this, &loop = server_.loop_, token = alive_.token()](const std::string& answer) {
                if (!token.alive()) return;  // the client left meanwhile
                STRATO_ASSERT(loop.in_loop_thread());
                busy_ = false;
                send(answer);
                // Not from inside the command that answers: its machine may be in the middle of something.
                loop.post(token, [this] { serve(); });
              });
    }
    if (framer_.overflowed() && !broken_) {
      send(fmt::format(R"({{"error":{{"class":"GenericError","desc":"request longer than {} bytes"}}}})",
                       Framer::kMaxRequestBytes));
      broken_ = true;
    }
  }

  void write_out() {
    while (!unsent_.empty()) {
      const ssize_t n = ::send(fd_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        if (errno != EAGAIN || unsent_.size() > kMaxUnsentBytes) cut_off();
        break;
      }
      unsent_.erase(0, static_cast<size_t>(n));
    }
    watch_.set_events(unsent_.empty() || broken_ ? EPOLLIN : EPOLLIN | EPOLLOUT);
  }

  // Ends the connection; the loop then sees it readable and removes it.
  void cut_off() {
    broken_ = true;
    unsent_.clear();
    ::shutdown(fd_.get(), SHUT_RDWR);
  }

  Server& server_;
  UniqueFd fd_;
  Watch watch_;
  Framer framer_;
  std::string unsent_;
  bool busy_ = false;
  bool broken_ = false;
  Lifetime alive_;
};

Result<std::unique_ptr<Server>> Server::listen(EventLoop& loop, MachineControl& machine, const SocketConfig& socket) {
  Result<ListeningSocket> listener =
      ListeningSocket::open({.path = socket.path, .host = socket.host, .port = socket.port});
  if (!listener) return std::unexpected(std::move(listener).error().context("-qmp"));
  auto server = std::unique_ptr<Server>(new Server(loop, machine, *std::move(listener)));
  Server* raw = server.get();
  server->listener_watch_ =
      STRATO_TRY(loop.watch(raw->listener_.fd(), EPOLLIN, [raw](uint32_t) { raw->accept_client(); }));
  return server;
}

Server::Server(EventLoop& loop, MachineControl& machine, ListeningSocket listener)
    : loop_(loop), machine_(machine), listener_(std::move(listener)) {}

Server::~Server() = default;

void Server::accept_client() {
  UniqueFd fd = listener_.accept();
  if (!fd.valid()) return;
  if (clients_.size() >= kMaxClients) {
    log(LogLevel::Warn, "QMP: a client more than {} was refused", kMaxClients);
    return;
  }
  auto client = std::make_unique<Client>(*this, std::move(fd));
  if (const Result<> started = client->start(); !started) {
    log(LogLevel::Warn, "QMP: client refused: {}", started.error().text());
    return;
  }
  clients_.push_back(std::move(client));
}

void Server::remove(const Client& client) {
  clients_.remove_if([&client](const std::unique_ptr<Client>& other) { return other.get() == &client; });
}

void Server::on_reset(ShutdownCause cause) {
  send_event("RESET", fmt::format(R"({{"guest":{},"reason":"{}"}})", caused_by_guest(cause), to_string(cause)));
}

void Server::on_shutdown(ShutdownCause cause) {
  send_event("SHUTDOWN", fmt::format(R"({{"guest":{},"reason":"{}"}})", caused_by_guest(cause), to_string(cause)));
}

void Server::on_block_error(const BlockError& error) {
  send_event("BLOCK_IO_ERROR",
             fmt::format(R"({{"device":{},"operation":"{}","action":"stop","nospace":{},"reason":{}}})",
                         quote_json(error.device), error.read ? "read" : "write", error.os_errno == ENOSPC,
                         quote_json(std::strerror(error.os_errno))));
}

void Server::on_net_disconnect(std::string_view netdev) {
  send_event("NETDEV_STREAM_DISCONNECTED", fmt::format(R"({{"netdev-id":{}}})", quote_json(netdev)));
}

void Server::on_balloon_change(uint64_t actual_bytes) {
  send_event("BALLOON_CHANGE", fmt::format(R"({{"actual":{}}})", actual_bytes));
}

void Server::on_memory_device_change(std::string_view id, uint64_t plugged_bytes) {
  send_event("MEMORY_DEVICE_SIZE_CHANGE",
             fmt::format(R"({{"id":{},"size":{},"qom-path":{}}})", quote_json(id), plugged_bytes,
                         quote_json(fmt::format("/machine/peripheral/{}", id))));
}

void Server::send_event(std::string_view name, std::string_view data) {
  const std::string text = event_text(name, data, realtime_us());
  for (const std::unique_ptr<Client>& client : clients_) client->send(text);
}

void Server::flush(int timeout_ms) {
  for (const std::unique_ptr<Client>& client : clients_) client->flush(timeout_ms);
}

}  // namespace strato::qmp
