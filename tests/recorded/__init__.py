"""What a node of an earlier release says, as bytes, and that this one understands it: see `test_neighbours`.

`peers/RELEASE.json` has what that release said, with what each piece means. Record the present one, before it
is released and never after, with `python -m tests.recorded`; recordings of releases are kept for as long as nodes of
theirs may meet nodes of this one.
"""
