"""The version of this program, readable without importing anything, `typing` neither."""

VERSION = "0.1.0"
