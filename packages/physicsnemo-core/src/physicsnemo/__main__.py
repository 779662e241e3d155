# SPDX-License-Identifier: Apache-2.0
"""``python -m physicsnemo``: the command, where its script is not on the path."""

from physicsnemo.cli import main

if __name__ == "__main__":
    main()
