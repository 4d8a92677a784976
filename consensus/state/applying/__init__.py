"""What each command does, a module a noun.

Every function here takes the state, the revision that the command would make, and the
command. It checks first and changes afterwards: a `Refusal` leaves the state as it was.
Limits are part of the schema: another limit in another release would make two replicas
differ, so they stand here and not in a configuration.
"""
