//! Replication jobs: links the disk rows and keeps a replica current.
