//! The library against itself and against the tools that everybody uses, as clients and as servers.

mod authority;
mod contract;
mod filters;
mod go_betweens;
mod lifecycle;
mod peers_as_clients;
mod peers_as_servers;
mod peers_at_work;
mod proxy;
mod raw_socket;
mod redial;
mod served;
mod tls_peers;
mod tls_refusals;
mod tools;
