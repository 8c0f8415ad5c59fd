"""`python -m psiphi`."""

from psiphi.app.cli import main

if __name__ == "__main__":
    main()
