// The property table of -drive.
#pragma once

#include "config/device_tables.h"
#include "config/drive_config.h"
#include "config/property.h"

namespace strato {

inline constexpr Choice kDriveInterfaces[] = {{"none", 0}};
inline constexpr Choice kDriveMedia[] = {{"disk", 0}};
inline constexpr Choice kDriveFormats[] = {{"raw", static_cast<uint8_t>(DriveFormat::Raw)},
                                           {"qcow2", static_cast<uint8_t>(DriveFormat::Qcow2)}};
inline constexpr Choice kDriveAio[] = {{"auto", static_cast<uint8_t>(DriveAio::Auto)},
                                       {"io_uring", static_cast<uint8_t>(DriveAio::IoUring)},
                                       {"native", static_cast<uint8_t>(DriveAio::Native)},
                                       {"threads", static_cast<uint8_t>(DriveAio::Threads)},
                                       {"off", static_cast<uint8_t>(DriveAio::Off)}};
inline constexpr Choice kDriveDetectZeroes[] = {{"off", static_cast<uint8_t>(DriveDetectZeroes::Off)},
                                                {"on", static_cast<uint8_t>(DriveDetectZeroes::On)},
                                                {"unmap", static_cast<uint8_t>(DriveDetectZeroes::Unmap)}};
inline constexpr Choice kDriveLocking[] = {{"auto", static_cast<uint8_t>(DriveLocking::Auto)},
                                           {"on", static_cast<uint8_t>(DriveLocking::On)},
                                           {"off", static_cast<uint8_t>(DriveLocking::Off)}};
inline constexpr Choice kDriveErrorActions[] = {{"report", static_cast<uint8_t>(DriveErrorAction::Report)},
                                                {"stop", static_cast<uint8_t>(DriveErrorAction::Stop)},
                                                {"enospc", static_cast<uint8_t>(DriveErrorAction::Enospc)}};

inline constexpr uint64_t kMaxDriveOperations = 1'000'000;     // per second
inline constexpr uint64_t kMaxDriveBytes = 1'000'000'000'000;  // per second

inline constexpr Property kDriveProperties[] = {
    text<&DriveConfig::id>("id", "name that a device refers to", kMaxIdLength).mandatory(),
    text<&DriveConfig::file>("file", "image file or block device", kMaxPathLength).mandatory(),
    fixed("if", "the device is a -device", kDriveInterfaces),
    fixed("media", "for libvirt", kDriveMedia),
    choice<&DriveConfig::format>("format", "of the image", kDriveFormats).defaults("raw"),
    boolean<&DriveConfig::read_only>("readonly", "the guest cannot write").also("read-only").defaults("off"),
    boolean<&DriveConfig::direct>("direct", "around the host's page cache").defaults("on"),
    choice<&DriveConfig::aio>("aio", "how the host is asked; auto: io_uring where allowed, else threads", kDriveAio)
        .defaults("auto"),
    boolean<&DriveConfig::discard>("discard", "discarded blocks go back to the host").defaults("off"),
    choice<&DriveConfig::detect_zeroes>("detect-zeroes", "writes of zeros allocate nothing; unmap: and free",
                                        kDriveDetectZeroes)
        .defaults("off"),
    choice<&DriveConfig::locking>("locking", "lock the file against other VMs; auto: where there are locks",
                                  kDriveLocking)
        .defaults("auto"),
    choice<&DriveConfig::read_errors>("rerror", "failed reads: tell the guest, or stop it", kDriveErrorActions)
        .defaults("report"),
    choice<&DriveConfig::write_errors>("werror", "failed writes; enospc: stop the guest when the host is full",
                                       kDriveErrorActions)
        .defaults("enospc"),
    integer<&DriveConfig::rates, &IoRates::operations, &RateConfig::per_second>(
        "throttling.iops-total", "operations per second; 0: no limit", 0, kMaxDriveOperations)
        .defaults("0"),
    integer<&DriveConfig::rates, &IoRates::operations, &RateConfig::max>("throttling.iops-total-max",
                                                                         "operations at once", 0, kMaxRate)
        .defaults("0"),
    integer<&DriveConfig::rates, &IoRates::bytes, &RateConfig::per_second>(
        "throttling.bps-total", "bytes per second; 0: no limit", 0, kMaxDriveBytes)
        .defaults("0"),
    integer<&DriveConfig::rates, &IoRates::bytes, &RateConfig::max>("throttling.bps-total-max", "bytes at once", 0,
                                                                    kMaxRate)
        .defaults("0"),
    text<&DriveConfig::throttle_group>("throttling.group", "id of an -object throttle-group", kMaxIdLength),
};
inline constexpr ObjectTable kDriveTable = {.properties = kDriveProperties};

}  // namespace strato
