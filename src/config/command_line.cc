#include "config/command_line.h"

#include <fmt/format.h>

#include "config/options.h"
#include "config/version.h"

namespace strato {
namespace {

// A word with a space is a value: `-append "-- --login"`.
bool looks_like_option(std::string_view word) {
  return word.size() > 1 && word.starts_with('-') && word.find(' ') == std::string_view::npos;
}

class Words {
 public:
  explicit Words(std::span<const std::string_view> words) : words_(words) {}

  bool empty() const { return next_ == words_.size(); }
  bool at_value() const { return !empty() && !looks_like_option(words_[next_]); }
  std::string_view peek() const { return words_[next_]; }
  std::string_view take() { return words_[next_++]; }

 private:
  std::span<const std::string_view> words_;
  size_t next_ = 0;
};

Result<std::string> take_value(const Option& option, Words& words) {
  if (option.mode == ValueMode::None) return std::string();
  if (!words.at_value()) {
    if (option.mode == ValueMode::Optional) return std::string();
    const std::string found = words.empty() ? "the end of the line" : fmt::format("'{}'", words.peek());
    return std::unexpected(
        Error::invalid(fmt::format("-{}: needs a value ({}), found {}", option.name, option.value, found)));
  }
  std::string value(words.take());
  while (option.mode == ValueMode::Words && words.at_value()) {
    value += ' ';
    value += words.take();
  }
  return value;
}

Result<> read_option(Draft& draft, const Option& option, Words& words, bool seen) {
  if (seen && !option.repeatable) {
    return std::unexpected(Error::invalid(fmt::format("-{}: is given twice", option.name)));
  }
  const std::string value = STRATO_TRY(take_value(option, words));
  Result<> applied = option.apply(draft, value);
  if (!applied) return std::unexpected(std::move(applied).error().context(fmt::format("-{}", option.name)));
  return {};
}

Error not_an_option(std::string_view word) {
  if (!word.starts_with('-') || word.size() == 1) {
    return Error::invalid(fmt::format("unexpected argument '{}': options start with '-'", word));
  }
  return Error::invalid(fmt::format("unknown option '{}' (-help lists all)", word));
}

}  // namespace

Result<ParsedCommandLine> parse_command_line(std::span<const std::string_view> arguments) {
  Draft draft;
  std::vector<bool> seen(all_options().size());
  Words words(arguments);
  while (!words.empty()) {
    const std::string_view word = words.take();
    if (word == "--") break;
    const Option* option = word.starts_with('-') ? find_option(word) : nullptr;
    if (option == nullptr) return std::unexpected(not_an_option(word));
    const size_t index = static_cast<size_t>(option - all_options().data());
    STRATO_TRY(read_option(draft, *option, words, seen[index]));
    seen[index] = true;
    if (draft.request == Request::Help) return ShowHelp{};
    if (draft.request == Request::Version) return ShowVersion{};
  }
  while (!words.empty()) draft.config.extra_arguments.emplace_back(words.take());
  STRATO_TRY(check_and_complete(draft));
  return std::move(draft.config);
}

std::string version_text() {
  return fmt::format("StratoVirt {}\n", kVersion);
}

}  // namespace strato
