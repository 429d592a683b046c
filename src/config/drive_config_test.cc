#include "config/drive_config.h"

#include <gtest/gtest.h>

namespace strato {
namespace {

Result<DriveConfig> drive(std::string_view text) {
  const Result<ObjectOptions> options = split_object_options(text, "");
  if (!options) return std::unexpected(options.error());
  return parse_drive(*options);
}

std::string failure(std::string_view text) {
  const Result<DriveConfig> parsed = drive(text);
  return parsed ? "accepted" : parsed.error().text();
}

std::string shared_failure(const std::vector<std::string_view>& texts) {
  std::vector<ObjectOptions> all;
  all.reserve(texts.size());
  for (const std::string_view text : texts) all.push_back(*split_object_options(text, ""));
  const Result<std::vector<DriveConfig>> parsed = parse_drives(all);
  return parsed ? "accepted" : parsed.error().text();
}

TEST(DriveConfigTest, IdAndFileAreEnough) {
  EXPECT_EQ(*drive("id=d,file=/f"), (DriveConfig{.id = "d", .file = "/f"}));
}

TEST(DriveConfigTest, EveryPropertyReachesItsField) {
  EXPECT_EQ(
      *drive("if=none,id=d,file=/f,format=raw,readonly=on,direct=off,aio=threads,discard=unmap,detect-zeroes=unmap,"
             "locking=off,rerror=stop,werror=report,throttling.iops-total=10,throttling.iops-total-max=20,"
             "throttling.bps-total=1000,throttling.bps-total-max=3000"),
      (DriveConfig{
          .id = "d",
          .file = "/f",
          .read_only = true,
          .direct = false,
          .aio = DriveAio::Threads,
          .discard = true,
          .detect_zeroes = DriveDetectZeroes::Unmap,
          .locking = DriveLocking::Off,
          .read_errors = DriveErrorAction::Stop,
          .write_errors = DriveErrorAction::Report,
          .rates = {.bytes = {.per_second = 1000, .max = 3000}, .operations = {.per_second = 10, .max = 20}}}));
}

TEST(DriveConfigTest, WhichAioGoesWithDirect) {
  for (const std::string_view good : {"aio=native", "aio=io_uring", "aio=io_uring,direct=off", "aio=threads",
                                      "aio=threads,direct=off", "aio=off,direct=off", "aio=auto,direct=false"}) {
    EXPECT_EQ(failure("id=d,file=/f," + std::string(good)), "accepted") << good;
  }
  EXPECT_NE(failure("id=d,file=/f,aio=native,direct=off").find("aio=native: needs direct=on"), std::string::npos);
  EXPECT_NE(failure("id=d,file=/f,aio=off").find("aio=off: needs direct=off"), std::string::npos);
}

struct BadRow {
  std::string_view text;
  std::string_view message;
};

TEST(DriveConfigTest, ErrorsNameTheOptionAndWhatIsWrong) {
  constexpr BadRow kRows[] = {
      {"file=/f", "-drive: 'file=/f': needs id= "},
      {"id=d", "-drive: 'id=d': needs file= "},
      {"id=d,file=/f,colour=red", "unknown property 'colour'"},
      {"id=d,file=/f,format=qcow2", "format=qcow2: not part of this version"},
      {"id=d,file=/f,format=vmdk", "format=vmdk: must be raw|qcow2"},
      {"id=d,file=/f,if=pflash", "if=pflash: must be none"},
      {"id=d,file=/f,aio=magic", "aio=magic: must be auto|io_uring|native|threads|off"},
      {"id=d,file=/f,detect-zeroes=unmap", "detect-zeroes=unmap: needs discard=unmap"},
      {"id=d,file=/f,werror=ignore", "werror=ignore: must be report|stop|enospc"},
      {"id=d,file=/f,throttling.iops-total=1000001", "throttling.iops-total=1000001: must be 0..1000000"},
      {"id=d,file=/f,throttling.bps-total-max=10", "throttling.bps-total-max= needs throttling.bps-total="},
      {"id=d,file=/f,throttling.iops-total=1,throttling.iops-total-max=172800", "gives in a day"},
      {"id=d,file=/f,throttling.iops-total=1,throttling.group=g", "exclude each other"},
  };
  for (const BadRow& row : kRows) {
    EXPECT_NE(failure(row.text).find(row.message), std::string::npos) << row.text << "\n  said: " << failure(row.text);
  }
}

TEST(DriveConfigTest, AFileIsSharedOnlyWhenAllReadIt) {
  EXPECT_EQ(shared_failure({"id=a,file=/f,readonly=on", "id=b,file=/f,readonly=on", "id=c,file=/g"}), "accepted");
  const std::string message =
      "-drive id=b: file=/f: drive 'a' has it too: the file can only be shared with readonly=on";
  EXPECT_EQ(shared_failure({"id=a,file=/f", "id=b,file=/f"}), message);
  EXPECT_EQ(shared_failure({"id=a,file=/f,readonly=on", "id=b,file=/f"}), message);
  EXPECT_EQ(shared_failure({"id=a,file=/f", "id=b,file=/f,readonly=on"}), message);
}

}  // namespace
}  // namespace strato
