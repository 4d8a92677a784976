"""Bugs planted in the real machine and around it, to show that the checkers find them.

Each is one class in `machines` (a rule of Raft left out), `shells` (what a process around it does wrong), `members`
(a part of gossip with a rule broken) or `nodes` (a part of a whole node); its docstring says what. `python -m
simulations mutations` makes this table anew: how many seeds, each under every plan of `simulations.scenarios.plans`, of
`members` or of `nodes`, until a checker found the bug, under which plan, and which checker. A run counts only when the
same seed is good without the bug.

=========================  =====  =========  =====================
bug                        seeds  plan       found by
=========================  =====  =========  =====================
CommitsOldTerms               5  elections  leader completeness
VotesTwice                    1  raft       promises
ForgetsVoteAtRestart          8  elections  promises
ForgetsTermAtRestart          1  elections  promises
IgnoresLogs                   1  elections  leader completeness
WinsWithMinority              1  raft       election safety
CampaignsInSameTerm           1  raft       promises
TruncatesWithoutConflict      2  raft       leader completeness
SkipsLogMatching              1  elections  log matching
BelievesCommitIndex           1  elections  state machine safety
TellsCommitTooFar             1  raft       state machine safety
CountsUnsavedEntries         57  raft       state machine safety
CountsLearners                1  reads      leader completeness
ReadsWithoutQuorum           26  reads      linearizability
ReadsBeforeOwnCommit          1  elections  linearizability
ChangesTwiceAtOnce           19  changes    leader completeness
ReusesIndexes                 1  raft       log matching
RefusesSnapshotTail           1  raft       promises
SkipsSync                     1  raft       promises
SavesNoHardState              1  raft       promises
AnswersBeforeSaving           1  raft       promises
AppliesBeforeSaving           5  raft       state machine safety
ReadsLocally                  1  elections  linearizability
SnapshotSaysLess              1  raft       state machine safety
AppliesTwice                  1  raft       linearizability
CarriesOutRetries             1  raft       linearizability
KeepsStateOnRestore           1  raft       state machine safety
SaysNoToUnknown               3  elections  linearizability
AnswersAnyEntry               2  raft       durability
SnapshotForgets               1  raft       durability
NeverRefutes                   1  stalls     accuracy
RefutesTooLow                  1  stalls     accuracy
NeverBuries                    1  gossip     completeness
BuriesAtOnce                   1  stalls     accuracy
BelievesOldNews                1  gossip     traffic
ProbesNobody                   1  gossip     completeness
ProbesTheFirst                 1  stalls     completeness
ForgetsTheLost                 1  gossip     convergence
SpreadsForEver                 1  gossip     traffic
NeverReconciles                1  gossip     convergence
StopsOldFirst                  1  services   replacement
LeavesTheLost                  1  services   progress
FillsOneNode                   1  services   capacity
BelievesInHealth               1  services   routes
StopsWithoutGoodbye            1  rollouts   routes
KeepsWhatItHas                 1  services   settled
SaysGoodbyeAtOnce              1  slow       routes
AnswersTooSoon                 1  slow       acknowledged
=========================  =====  =========  =====================
"""
