"""The version of this program, readable without importing anything."""

from typing import Final

VERSION: Final = "0.1.0"
