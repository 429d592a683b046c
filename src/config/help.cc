#include <fmt/format.h>

#include "config/command_line.h"
#include "config/options.h"

namespace strato {
namespace {

constexpr size_t kHelpColumn = 34;

void add_line(std::string& out, std::string left, std::string_view right) {
  if (left.size() >= kHelpColumn) {
    out += left + '\n';
    left.clear();
  }
  out += fmt::format("{:<{}}{}\n", left, kHelpColumn, right);
}

void add_property(std::string& out, const Property& property, std::string_view indent) {
  const bool bare = property.kind == PropertyKind::Flag;
  const std::string values = property.kind == PropertyKind::Text ? "TEXT" : describe_values(property);
  std::string right(property.help);
  if (!property.default_text.empty()) right += fmt::format(" (default {})", property.default_text);
  add_line(out,
           bare ? fmt::format("{}{}", indent, property.name) : fmt::format("{}{}={}", indent, property.name, values),
           right);
}

void add_table(std::string& out, const ObjectTable& table) {
  const bool is_class = !table.help.empty();
  if (is_class) add_line(out, fmt::format("    {}", table.type), table.help);
  for (const Property& property : table.properties) add_property(out, property, is_class ? "        " : "    ");
}

void add_option(std::string& out, const Option& option) {
  if (option.help.empty()) return;
  std::string left = fmt::format("  -{}", option.name);
  if (!option.alias.empty()) left += fmt::format(", -{}", option.alias);
  if (!option.value.empty()) left += fmt::format(" {}", option.value);
  add_line(out, std::move(left), option.help);
  for (const ObjectTable& table : option.tables) add_table(out, table);
}

}  // namespace

std::string help_text() {
  std::string out = "Usage: stratovirt [OPTION...] [-- ARGUMENT...]\n\n";
  for (const Option& option : all_options()) add_option(out, option);
  return out;
}

}  // namespace strato
