#include "boot/command_line.h"

#include <fmt/format.h>

namespace strato::boot {
namespace {

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

// A kernel without ACPI has handlers for the interrupts of the ISA bus only. One with ACPI looks for its devices there,
// and may number the others as it likes.
constexpr uint32_t kIsaInterrupts = 16;

// Where the word "--" begins, npos when there is none. As the kernel splits words: quotes keep spaces together.
size_t find_end_of_kernel_arguments(std::string_view line) {
  bool quoted = false;
  size_t word = 0;
  for (size_t i = 0; i <= line.size(); ++i) {
    if (i < line.size() && line[i] == '"') quoted = !quoted;
    if (i < line.size() && (quoted || !is_space(line[i]))) continue;
    if (line.substr(word, i - word) == "--") return word;
    word = i + 1;
  }
  return std::string_view::npos;
}

}  // namespace

std::string insert_argument(std::string_view line, std::string_view argument) {
  const size_t end = find_end_of_kernel_arguments(line);
  const std::string_view rest = end == std::string_view::npos ? std::string_view() : line.substr(end);
  std::string_view kernel = line.substr(0, line.size() - rest.size());
  while (!kernel.empty() && is_space(kernel.back())) kernel.remove_suffix(1);
  return fmt::format("{}{}{}{}{}", kernel, kernel.empty() ? "" : " ", argument, rest.empty() ? "" : " ", rest);
}

Result<std::string> build_command_line(std::string_view user, std::span<const VirtioMmioWindow> windows,
                                       uint64_t max_len) {
  if (const size_t nul = user.find('\0'); nul != std::string_view::npos) {
    return std::unexpected(Error::invalid(fmt::format("kernel command line: a NUL character at position {}", nul)));
  }
  std::string line(user);
  std::string added;
  for (const VirtioMmioWindow& window : windows) {
    if (window.gsi >= kIsaInterrupts) continue;
    added += fmt::format("{}virtio_mmio.device={}@{:#010x}:{}", added.empty() ? "" : " ", window.size_bytes,
                         window.base, window.gsi);
  }
  if (!added.empty()) line = insert_argument(line, added);
  if (line.size() > max_len) {
    const std::string hint = added.empty() ? "" : "; -machine virtio-cmdline=off leaves these out";
    return std::unexpected(Error::invalid(
        fmt::format("kernel command line: {} characters ({} of them for the machine's devices{}), this kernel takes {}",
                    line.size(), line.size() - user.size(), hint, max_len)));
  }
  return line;
}

}  // namespace strato::boot
