"""``python -m tracebee``."""

from tracebee.cli.main import entry

if __name__ == "__main__":
    entry()
