// A client that sends anything, in pieces of any size.
#include <fuzzer/FuzzedDataProvider.h>

#include "base/assert.h"
#include "qmp/commands.h"
#include "qmp/framer.h"
#include "qmp/json.h"

namespace {

class IdleMachine : public strato::MachineControl {
 public:
  strato::RunState run_state() const override { return strato::RunState::Running; }
  void stop(Reply reply) override { reply({}); }
  void cont(Reply reply) override { reply({}); }
  void quit() override {}
  void save(std::string, Reply reply) override { reply({}); }
  strato::Result<> resize_block(std::string_view, uint64_t) override { return {}; }
  strato::Result<> set_block_rates(std::string_view, const strato::IoRates&) override { return {}; }
  strato::Result<strato::IoRates> group_rates(std::string_view) const override { return strato::IoRates{}; }
  strato::Result<> set_group_rates(std::string_view, const strato::IoRates&) override { return {}; }
  strato::MigrationStatus migration_status() const override { return strato::MigrationStatus::None; }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  IdleMachine machine;
  strato::qmp::Framer framer;
  while (input.remaining_bytes() > 0 && !framer.overflowed()) {
    framer.feed(input.ConsumeBytesAsString(input.ConsumeIntegralInRange<size_t>(1, 64)));
    while (auto request = framer.next()) {
      int answers = 0;
      strato::qmp::execute(machine, *request, [&answers](const std::string& answer) {
        ++answers;
        // Whatever came in, what goes out is JSON.
        STRATO_ASSERT(strato::qmp::parse_json(answer).has_value());
      });
      STRATO_ASSERT(answers == 1);
    }
  }
  return 0;
}
