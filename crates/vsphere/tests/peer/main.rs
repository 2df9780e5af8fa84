//! The client against a peer that others wrote: sessions, trust, inventory, snapshots, changed areas, files.

mod files;
mod inventory;
mod lab;
mod second_client;
mod sessions;
mod snapshots;
