"""`python -m pyhist`."""

from pyhist.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
