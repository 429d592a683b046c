#include "machine/chardevs.h"

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <utility>

#include "chardev/file_chardev.h"
#include "chardev/pty_chardev.h"
#include "chardev/socket_chardev.h"
#include "chardev/stdio_chardev.h"

namespace strato {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;

Result<std::unique_ptr<Chardev>> open_backend(EventLoop& loop, const ChardevConfig& chardev,
                                              const std::function<void()>& on_quit) {
  switch (chardev.kind) {
    case ChardevKind::Null:
      return make_null_chardev();
    case ChardevKind::Stdio:
      return StdioChardev::open(loop, {.on_quit = on_quit});
    case ChardevKind::Pty:
      return open_pty_chardev(loop);
    case ChardevKind::File:
      return open_file_chardev(loop, chardev.path);
    case ChardevKind::RedirectToLog:
      return make_log_chardev(chardev.id);
    case ChardevKind::Socket:
      return SocketChardev::open(
          loop, {.address = {.path = chardev.socket.path, .host = chardev.socket.host, .port = chardev.socket.port},
                 .server = chardev.socket.server,
                 .wait = chardev.socket.server && !chardev.socket.nowait,
                 .retry_ns = chardev.socket.reconnect_s * kNsPerSecond});
  }
  std::unreachable();
}

// Who else has the chardev; empty: nobody.
std::string other_user(const VmConfig& config, const std::string& id, const std::string& device_id) {
  if (config.serial == id) return "-serial";
  for (const QmpConfig& qmp : config.qmp) {
    if (qmp.chardev == id) return "-mon";
  }
  for (const ObjectOptions& device : config.devices) {
    if (device.value_of("id") == device_id) break;
    if (device.value_of("chardev") == id) return fmt::format("-device {}", device.value_of("id"));
  }
  return {};
}

}  // namespace

Result<const ChardevConfig*> find_own_chardev(const VmConfig& config, const std::string& id,
                                              const std::string& device_id) {
  const ChardevConfig* chardev = find_chardev(config, id);
  if (chardev == nullptr) {
    return std::unexpected(Error::invalid(fmt::format(
        "chardev={0}: no -chardev has id={0}: add one, for example -chardev socket,id={0},path=/run/{0},server,nowait",
        id)));
  }
  const std::string user = other_user(config, id, device_id);
  if (user.empty()) return chardev;
  return std::unexpected(
      Error::invalid(fmt::format("chardev={}: {} uses it already: give each its own -chardev", id, user)));
}

Result<Chardev*> Chardevs::open(const std::string& id) {
  if (const auto found = opened_.find(id); found != opened_.end()) return found->second.get();
  const ChardevConfig* chardev = find_chardev(config_, id);
  if (chardev == nullptr) return std::unexpected(Error::invalid(fmt::format("no -chardev has id={}", id)));
  Result<std::unique_ptr<Chardev>> backend = open_backend(loop_, *chardev, on_quit_);
  if (!backend) return std::unexpected(std::move(backend).error().context(fmt::format("chardev {}", id)));
  // Nobody can guess the terminal's name. QEMU's callers look for this line; ours is on stderr as everything of ours.
  if (chardev->kind == ChardevKind::Pty) {
    const std::string address = (*backend)->address();
    std::fprintf(stderr, "char device redirected to %s (label %s)\n", address.substr(address.find(':') + 1).c_str(),
                 id.c_str());
  }
  return opened_.emplace(id, *std::move(backend)).first->second.get();
}

}  // namespace strato
