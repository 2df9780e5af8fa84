//! Entities and queries of VM contexts and their disks, over any connection.
