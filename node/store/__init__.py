"""What a node keeps on its own disk.

    <data directory>/           0700, locked by one process at a time (`directory.py`)
      lock                      flock and the pid of its holder
      store/data.mdb, lock.mdb  one LMDB environment with named databases (`environment.py`)
      store/raft.log            the log of Raft, with hard state and snapshot (`log_store.py`, `log_file.py`)
      blobs/                    files under their own SHA-256 (`blobs.py`)

One environment, one writer. All writes go through one thread, which takes what has
queued up while it waited for the disk and commits it in one transaction: one sync
serves all (group commit), and a write that returned is on disk. When a group fails,
its members are tried one by one, so that a write never fails for its neighbour's fault;
a write is therefore a function of the transaction that may run twice. Reads are short
transactions of whoever reads, and block nobody.

Room. The last eighth of the map is kept for writes that free room: a write that leaves
more than seven eighths in use, and more than before, is refused with `StoreFullError`, nothing
written. Compacting the log and trimming events stay possible in a full store.

Fail closed. A new store is made in a directory of its own and renamed into place, so a
`store` directory without a whole `data.mdb` is never a new store. Before LMDB maps
the file, every page of it is checked (LMDB trusts its file: a cut one is a SIGBUS), then
the schema version. What is not right is a `StoreCorruptError` that names the file and the
way out; a newer schema is refused too. After an I/O error that is not a full disk the
environment refuses all further writes, since nobody knows what is on disk.

The log of Raft is not in LMDB, which is there for what is looked up: a commit of it syncs twice and copies pages, and
a change to the cluster waits for that on a quorum of nodes. In a file that grows at its end one write, durable when it
returns, serves all that waited. It keeps the same promises. A batch counts as a whole or not at all: it is one record
with a checksum, or, with a snapshot, one rename. A record that a power cut tore was never answered and is dropped; any
other damage, a file that is cut, missing, or of another node is refused with the way out. A full disk refuses a write
with nothing written, and room for it is bounded as above; after any other error of the disk nothing more is written.
LMDB holds the id of the file, and so knows that there has to be one.

Records that decide what a node is and does (Raft's, identity) carry a CRC-32 of their own.
Events do not: history may lose a line, and must not stop a node.
"""
