//! A vSphere source against a peer that others wrote.

mod absent;
mod anew;
mod caught;
mod costs;
mod discovery;
mod doubts;
mod edges;
mod elsewhere;
mod exchanged;
mod farewell;
mod jobs;
mod lab;
mod lies;
mod lost;
mod reading;
mod removals;
mod snapshots;
mod turns;
mod vddk;
mod vddk_logins;
