//! The node agent: sources, disk readers and the jobs that push disks to the hub.
