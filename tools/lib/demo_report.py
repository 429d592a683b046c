"""What tools/demo prints of a boot without a terminal: `demo_report.py FOLDER EXIT_CODE`."""

import json
import pathlib
import sys


def reported(console):
    """The key=value lines between the markers of tools/bed/guest_init.sh; None when the guest did not come so far."""
    lines = [line.strip() for line in console.splitlines()]
    if "STRATO-REPORT-BEGIN" not in lines or "STRATO-REPORT-END" not in lines:
        return None
    lines = lines[lines.index("STRATO-REPORT-BEGIN") + 1:lines.index("STRATO-REPORT-END")]
    return dict(line.split("=", 1) for line in reversed(lines) if "=" in line)


def main(folder, code):
    console = (folder / "console").read_text(errors="replace")
    report = reported(console)
    if report is None or code != 0:
        print("\n".join(console.splitlines()[-30:]))
        sys.exit(f"demo: the guest did not come to its report and an orderly end (exit code {code})")
    print(f"kernel    {report['uname']}")
    print(f"CPUs      {report['nproc']}")
    print(f"memory    {report['MemTotal']} KiB")
    print("boot timeline")
    previous = 0
    for stage in json.loads((folder / "timeline.json").read_text())["stages"]:
        print(f"  {stage['name']:<16} {stage['us'] / 1000:>12.3f} ms   (+{(stage['us'] - previous) / 1000:.3f})")
        previous = stage["us"]
    print("powered off, exit code 0")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
