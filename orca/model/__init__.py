"""The nouns of Orca: pure values that every package shares, importing nothing of ours.

One meaning each. A *node* is a computer that runs the agent. A *service* is what
a person asked for, an *allocation* one placed copy of it, a *revision* one
accepted version of its spec. A *runtime* (Docker or Wasm) can run a workload; an
*instance* is what the runtime made for an allocation.
"""
