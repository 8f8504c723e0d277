import subprocess
import sys
from pathlib import Path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tracebee", "vm", "verify", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_script_is_accepted() -> None:
    done = run("-e", 'BEGIN { @[comm] = count(); printf("%d\\n", pid); }')
    assert done.returncode == 0, done.stderr
    assert "accepted:" in done.stdout


def test_a_refusal_says_why(tmp_path: Path) -> None:
    path = tmp_path / "bad.asm"
    path.write_text("r0 = *(u64 *)(r10 -600)\nexit\n")
    done = run(str(path))
    assert done.returncode == 1
    assert "invalid access to stack R10 off=-600 size=8" in done.stdout
    assert "hint: a frame has 512 bytes below r10" in done.stdout
    assert "at instruction 0: r0 = *(u64 *)(r10 -600)" in done.stdout


def test_wrong_arguments() -> None:
    assert "unknown option --x" in run("--x").stderr
    assert "there is no file" in run("/none.o").stderr
