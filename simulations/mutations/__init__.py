"""Bugs planted in the real machine and around it, to show that the checkers find them."""
