import sys

from xlatrain.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
