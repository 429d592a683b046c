"""What is done with a VM in the bed, where its sockets are: run by tools/with-kvm as `scenarios.py NAME IMAGE SMP`."""
import os
import re
import signal
import sys
import tempfile
import time

from guests import BOARD, LIMIT, PROMPT, Line, connect, start

# Seconds between a save and its restore, and what the guest may see of them, beside what a busy host keeps it waiting anyway.
AWAY, SEEN = (120, 2) if os.environ.get("STRATO_LONG") else (20, 10)
VARYING = ("uptime=", "dmesg=", "MemTotal=", "text=", "rtc=")


def reports(text):
    found = re.findall(r"STRATO-REPORT-BEGIN\n(.*?)STRATO-REPORT-END\n", text, re.S)
    return [[line for line in report.splitlines() if not line.startswith(VARYING)] for report in found]


def restart(image, smp):
    """A reset really starts the guest again, and it finds the same machine; a signal ends it then."""
    vmm = start(image, "strato.end=reboot", "-action", "reboot=reset", smp=smp)
    vmm.wait_for(r"(?s)(REPORT-END\r?\n.*?){2}", LIMIT)
    first, second = reports(vmm.text())[:2]
    assert first == second, f"{first}\n{second}"
    places = re.findall(r"^text=(\w+)$", vmm.text(), re.M)[:2]
    assert len(set(places)) == 2 or not BOARD.moves_kernel, places
    vmm.signal(signal.SIGTERM)
    assert vmm.wait() == 0, vmm.stderr()
    assert "signal number: 15" in vmm.stderr()


def converse(line):
    line.expect(PROMPT)
    line.write("echo answer=$((6*7))\n")
    line.expect(r"answer=42\r?\n")
    # Longer than the FIFO: flow from the file descriptor to the port has to wait for the guest.
    line.write("echo " + "x" * 200 + " | wc -c\n")
    line.expect(r"\n201\r?\n")
    line.write("exit\n")
    line.expect(r"Power down|exit\r?\n")


def console_on_a_pty(image, smp):
    vmm = start(image, "strato.report=no strato.end=shell", "-S", serial="pty", smp=smp)
    vmm.qmp.command("query-status")
    name = re.search(r"/dev/pts/\d+", vmm.stderr())
    assert name, f"the terminal is not named: {vmm.stderr()}"
    terminal = os.open(name[0], os.O_RDWR | os.O_NOCTTY)
    vmm.qmp.command("cont")
    converse(Line(terminal))
    assert vmm.wait(LIMIT) == 0, vmm.stderr()


def console_on_a_socket(image, smp):
    folder = tempfile.mkdtemp(prefix="strato-")
    vmm = start(image, "strato.report=no strato.end=shell", "-S", serial=f"socket,path={folder}/serial,server,nowait", smp=smp)
    vmm.qmp.command("query-status")
    with connect(f"{folder}/serial") as peer:
        vmm.qmp.command("cont")
        converse(Line(peer.fileno()))
    assert vmm.wait(LIMIT) == 0, vmm.stderr()


def beats(text):
    return [(int(number), float(uptime)) for number, uptime in re.findall(r"^beat=(\d+) uptime=(\d+\.\d+) .*dog$", text, re.M)]


def save(vmm, folder):
    vmm.qmp.command("migrate", uri=f"file:{folder}")
    vmm.qmp.wait_status("running") if vmm.qmp.command("query-status")["running"] else None
    assert vmm.qmp.command("query-migrate")["status"] == "completed"


def check_beats(text, what):
    """Every line whole, none lost or repeated, and the clock never back; gives the times by their numbers."""
    seen = beats(text)
    numbers, times = zip(*seen)
    assert list(numbers) == list(range(numbers[0], 81)), f"{what}: {numbers}"
    assert list(times) == sorted(times), f"{what}: {times}"
    assert "complaint=" not in text, text[text.index("complaint="):]
    assert "beat=end" in text
    return dict(seen)


def check_pause(before, after, last, first, what):
    """The clock of the guest between the beat `last`, which was there before it was saved, and `first`, which came after it was restored."""
    was, went = before[last], after[first]
    waits = [beats[n + 1] - beats[n] for beats in (before, {n: at for n, at in after.items() if n >= first}) for n in beats if n + 1 in beats]
    assert was <= went < was + SEEN + (first - last) * max(waits), f"{what}: the clock went from {was} to {went}"


def restored(image, smp, words, folder):
    vmm = start(image, words, "-incoming", f"file:{folder}", smp=smp)
    assert vmm.wait(LIMIT) == 0, vmm.stderr()
    assert "STRATO-REPORT" not in vmm.text(), "it booted again"
    return vmm.text()


def save_and_restore(image, smp):
    """Saved while it prints, once and going on, once and ended; both go on from where they were, later."""
    saved = tempfile.mkdtemp(prefix="strato-")
    words = "strato.report=no strato.run=/beat.sh"
    vmm = start(image, words, smp=smp)
    vmm.wait_for("beat=10 ", LIMIT)
    save(vmm, f"{saved}/running")
    at_first_save = vmm.text()
    vmm.wait_for("beat=30 ", LIMIT)
    vmm.qmp.command("stop")
    save(vmm, f"{saved}/stopped")
    vmm.qmp.command("quit")
    assert vmm.wait() == 0, vmm.stderr()
    stopped_at = vmm.text()
    assert beats(stopped_at)[0][0] == 1 and beats(stopped_at)[-1][0] >= 29

    time.sleep(AWAY)  # time that the guest must not see
    second = restored(image, smp, words, f"{saved}/stopped")
    before = dict(beats(stopped_at))
    last = max(before)
    check_pause(before, check_beats(stopped_at + second, "saved when stopped"), last, last + 1, "saved when stopped")
    third = check_beats(re.sub(r"^[^\n]*\n", "", restored(image, smp, words, f"{saved}/running"), count=1), "saved when running")
    first = min(third)
    assert 9 <= first <= last, f"{first} after {beats(at_first_save)[-1]}"
    check_pause(before, third, 9, first, "saved when running")  # this guest went on after the save: later beats are others than the copy's
    print("saved and restored:", last, first, third[80])


def too_many_for_a_gicv2(image, smp):
    vmm = start(image, "", smp=smp)
    assert vmm.wait() == 1
    assert re.search(r"9 vCPUs: a GICv2 serves 8, and this host has no GICv3", vmm.stderr()), vmm.stderr()


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
