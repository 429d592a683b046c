// What every state struct must do, as one call: check_state(value), with as many fields as possible unlike their
// defaults and at least one element in each list.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "state/format.h"

namespace strato::testing {

// Calls visit(path) after each change of one leaf of `value`, and undoes it: numbers, bytes and characters by one bit,
// lists by one element more and by each element's leaves, optionals by being there or not.
template <class T, class Visit>
void for_each_change(T& value, const std::string& path, Visit&& visit) {
  const T before = value;
  if constexpr (state::Integer<T>) {
    value = static_cast<T>(value ^ 1);
    visit(path);
  } else if constexpr (state::kIsByteArray<T>) {
    value[value.size() - 1] ^= typename T::value_type{1};
    visit(path);
  } else if constexpr (state::kIsByteVector<T> || state::Text<T>) {
    value.push_back(typename T::value_type{1});
    visit(path + ", longer");
    value = before;
    if (!value.empty()) {
      value[0] ^= typename T::value_type{1};
      visit(path + "[0]");
    }
  } else if constexpr (state::Record<T>) {
    std::apply(
        [&](const auto&... field) {
          (for_each_change(value.*field.member, path + "." + std::string(field.name), visit), ...);
        },
        T::fields());
  } else if constexpr (state::List<T>) {
    for (size_t i = 0; i < value.size(); ++i) {
      typename T::value_type element = value[i];  // a copy: vector<bool> has no elements to refer to
      for_each_change(element, path + "[" + std::to_string(i) + "]", [&](const std::string& where) {
        value[i] = element;
        visit(where);
      });
      value[i] = before[i];
    }
    if constexpr (state::kIsVector<T>) {
      value.emplace_back();
      visit(path + ", longer");
    }
  } else {
    if (value.has_value()) {
      for_each_change(*value, path, visit);
      value.reset();
    } else {
      value.emplace();
    }
    visit(path + ", there or not");
  }
  value = before;
}

// Save, restore, save gives equal bytes; each truncation and one byte more are refused; each field changed alone
// changes the bytes and comes back.
template <state::NamedRecord T>
void check_state(const T& value) {
  const std::vector<std::byte> bytes = state::to_bytes(value);
  const Result<T> restored = state::from_bytes<T>(bytes);
  ASSERT_TRUE(restored.has_value()) << restored.error().text();
  EXPECT_EQ(*restored, value);
  EXPECT_EQ(state::to_bytes(*restored), bytes);

  for (size_t length = 0; length < bytes.size(); ++length) {
    ASSERT_FALSE(state::from_bytes<T>(std::span(bytes).first(length)).has_value()) << length << " bytes were accepted";
  }
  std::vector<std::byte> longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(state::from_bytes<T>(longer).has_value());

  T changed = value;
  size_t changes = 0;
  for_each_change(changed, std::string(T::kKind), [&](const std::string& path) {
    ++changes;
    const std::vector<std::byte> changed_bytes = state::to_bytes(changed);
    EXPECT_NE(changed_bytes, bytes) << path << " is not saved";
    const Result<T> back = state::from_bytes<T>(changed_bytes);
    ASSERT_TRUE(back.has_value()) << path << ": " << back.error().text();
    EXPECT_EQ(*back, changed) << path;
  });
  EXPECT_NE(changes, 0U);
}

}  // namespace strato::testing
