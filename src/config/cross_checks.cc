#include <fmt/format.h>

#include <algorithm>

#include "config/device_tables.h"
#include "config/options.h"

namespace strato {
namespace {

// `option` is the one to blame in the message.
Result<> check_unique_ids(std::string_view option, const std::vector<ObjectOptions>& objects, bool required) {
  for (size_t i = 0; i < objects.size(); ++i) {
    const std::string_view id = objects[i].value_of("id");
    if (id.empty() && !required && objects[i].find("id") == nullptr) continue;
    if (id.empty() || id.size() > kMaxIdLength) {
      return std::unexpected(Error::invalid(
          fmt::format("{}: '{}': needs an id= of 1 to {} bytes", option, objects[i].text, kMaxIdLength)));
    }
    for (size_t before = 0; before < i; ++before) {
      if (objects[before].value_of("id") != id) continue;
      return std::unexpected(Error::invalid(
          fmt::format("{}: '{}': the id '{}' is taken by '{}'", option, objects[i].text, id, objects[before].text)));
    }
  }
  return {};
}

Result<> check_iothreads(const std::vector<ObjectOptions>& objects) {
  size_t count = 0;
  for (const ObjectOptions& object : objects) {
    if (object.type != IothreadConfig::kType || ++count <= kMaxIothreads) continue;
    return std::unexpected(
        Error::invalid(fmt::format("-object: '{}': there can be at most {} iothreads", object.text, kMaxIothreads)));
  }
  return {};
}

Result<> check_chardevs(const VmConfig& config) {
  const ChardevConfig* stdio = nullptr;
  for (const ChardevConfig& chardev : config.chardevs) {
    if (find_chardev(config, chardev.id) != &chardev) {
      return std::unexpected(Error::invalid(fmt::format("-chardev: id={}: is used twice", chardev.id)));
    }
    if (chardev.kind != ChardevKind::Stdio) continue;
    if (config.daemonize) {
      return std::unexpected(
          Error::invalid(fmt::format("-daemonize: chardev '{}' is on stdio: use pty, socket or file", chardev.id)));
    }
    if (stdio != nullptr) {
      return std::unexpected(
          Error::invalid(fmt::format("-chardev: stdio has two users: '{}' and '{}'", stdio->id, chardev.id)));
    }
    stdio = &chardev;
  }
  if (config.serial && find_chardev(config, *config.serial) == nullptr) {
    return std::unexpected(Error::invalid(fmt::format("-serial: chardev:{0}: no -chardev has id={0}", *config.serial)));
  }
  return {};
}

Result<> add_monitor(VmConfig& config, QmpConfig monitor) {
  const ChardevConfig* chardev = find_chardev(config, monitor.chardev);
  if (chardev == nullptr) {
    return std::unexpected(Error::invalid(fmt::format("-mon: chardev={0}: no -chardev has id={0}", monitor.chardev)));
  }
  if (chardev->kind != ChardevKind::Socket || !chardev->socket.server || !chardev->socket.nowait) {
    return std::unexpected(
        Error::invalid(fmt::format("-mon: chardev={}: must be a socket with server,nowait", monitor.chardev)));
  }
  const bool taken =
      config.serial == monitor.chardev ||
      std::ranges::any_of(config.qmp, [&monitor](const QmpConfig& q) { return q.chardev == monitor.chardev; });
  if (taken) {
    return std::unexpected(Error::invalid(fmt::format("-mon: chardev={}: already has a user", monitor.chardev)));
  }
  monitor.socket = chardev->socket;
  config.qmp.push_back(std::move(monitor));
  return {};
}

Result<> check_boot(const VmConfig& config) {
  if (config.incoming || !config.kernel.empty()) return {};
  if (config.machine.type == MachineType::Microvm) {
    return std::unexpected(Error::invalid("-kernel: is required for -machine microvm without -incoming"));
  }
  if (!config.initrd.empty()) return std::unexpected(Error::invalid("-initrd: needs -kernel"));
  if (!config.append.empty()) return std::unexpected(Error::invalid("-append: needs -kernel"));
  return {};
}

}  // namespace

Result<> check_and_complete(Draft& draft) {
  VmConfig& config = draft.config;
  STRATO_TRY(check_chardevs(config));
  for (QmpConfig& monitor : draft.monitors) {
    STRATO_TRY(add_monitor(config, std::move(monitor)));
  }
  STRATO_TRY(check_unique_ids("-device", config.devices, true));
  STRATO_TRY(check_unique_ids("-netdev", config.netdevs, true));
  STRATO_TRY(check_unique_ids("-object", config.objects, true));
  STRATO_TRY(check_iothreads(config.objects));
  STRATO_TRY(check_unique_ids("-drive", config.drives, false));
  STRATO_TRY(check_boot(config));
  if (!config.pidfile.empty() && !config.daemonize) {
    return std::unexpected(Error::invalid(fmt::format("-pidfile: '{}': needs -daemonize", config.pidfile)));
  }
  if (!draft.reboot_action_given && config.machine.type != MachineType::Microvm) {
    config.action.reboot = RebootAction::Reset;
  }
  return {};
}

}  // namespace strato
