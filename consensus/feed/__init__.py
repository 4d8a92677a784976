"""Committed entries for nodes without a vote: from any node that has them, to any node that asks.

Who asks says where its own copy ends (`Follow`: index and term of its last committed
entry, epoch). Who answers sends what comes after, for ever: entries while it still has
them, else its newest snapshot in pieces and the entries behind that, and when there is
nothing new a word on how current it is (`Current`) once a second. Only committed entries
travel, so it does not matter who sends them: two senders cannot contradict each other within one
epoch, and a reader may change its source at any entry, or go on in the middle of a
snapshot when the new source has the very same one.

Pressure comes from the stream: a source makes the next piece when the one before was
taken, and keeps nothing for a reader but its place (`Cursor`).

What is *not* here: votes and acknowledgements. A reader promises nothing to anybody; when
the leader wants it as a voter it becomes a learner, and its copy is a log that Raft can
go on with.

Age. The leader knows everything that is committed: 0. A voter knows what the leader knew
when it last spoke. A reader's age is its source's age when that spoke, and the time since.
"""

from consensus.feed.copy import Copy, fed_for_s, is_fed
from consensus.feed.cursor import Cursor, Source
from consensus.feed.messages import (
    Committed,
    Current,
    FeedMessage,
    Follow,
    Place,
    SnapshotBegun,
    SnapshotPart,
    decode_feed,
    encode_feed,
)
from consensus.feed.reader import FeedReader, Install, Learn, News

__all__ = [
    "Committed",
    "Copy",
    "Current",
    "Cursor",
    "FeedMessage",
    "FeedReader",
    "Follow",
    "Install",
    "Learn",
    "News",
    "Place",
    "SnapshotBegun",
    "SnapshotPart",
    "Source",
    "decode_feed",
    "encode_feed",
    "fed_for_s",
    "is_fed",
]
