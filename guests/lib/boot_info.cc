#include "lib/boot_info.h"

namespace guest {
namespace {

// The next word of the command line from `position`, empty at the end.
Text next_word(size_t* position) {
  const Text& line = boot_info().command_line;
  while (*position < line.size && line.data[*position] == ' ') (*position)++;
  const size_t start = *position;
  while (*position < line.size && line.data[*position] != ' ') (*position)++;
  return Text(line.data + start, *position - start);
}

}  // namespace

bool has_word(Text wanted) {
  size_t position = 0;
  for (Text word = next_word(&position); word.size > 0; word = next_word(&position)) {
    if (word == wanted) return true;
  }
  return false;
}

Text word_value(Text key) {
  size_t position = 0;
  for (Text word = next_word(&position); word.size > 0; word = next_word(&position)) {
    if (word.size > key.size && word.data[key.size] == '=' && Text(word.data, key.size) == key) {
      return Text(word.data + key.size + 1, word.size - key.size - 1);
    }
  }
  return Text();
}

uint64_t word_number(Text key, uint64_t otherwise) {
  const Text value = word_value(key);
  if (value.size == 0) return otherwise;
  uint64_t number = 0;
  for (size_t i = 0; i < value.size; i++) number = number * 10 + static_cast<uint64_t>(value.data[i] - '0');
  return number;
}

}  // namespace guest
