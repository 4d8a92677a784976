"""Orca: runs containers and WebAssembly on computers that are all alike.

This package holds both ends of the project: the vocabulary that every other
package shares (`orca.model`, `orca.errors`, `orca.sources`, `orca.config`) and
what a person touches (`orca.client`, `orca.commands`, `orca.cli`). Importing
`orca` imports nothing, so that the vocabulary never pulls in the command line.
"""
