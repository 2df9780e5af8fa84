//! The API in process, over doubles: each call's status and body, and who may make it.

mod access;
mod audits;
mod backups;
mod edges;
mod elsewhere;
mod inventory;
mod jobs;
mod lab;
mod limits;
mod quiescence;
mod unreadable;
mod vsphere;
mod waiting;
