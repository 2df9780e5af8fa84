//! The catalogue on real databases: the contract of every catalogue, and what is special to databases.

#[path = "store/databases.rs"]
mod databases;
#[path = "store/rediscovery.rs"]
mod rediscovery;
#[path = "store/rows.rs"]
mod rows;
#[path = "store/unreadable.rs"]
mod unreadable;
#[path = "store/words.rs"]
mod words;

mod sqlite {
    hub_testkit::store_contract!(crate::databases::sqlite);
}

mod mariadb {
    hub_testkit::store_contract!(crate::databases::mariadb);
}

mod postgres {
    hub_testkit::store_contract!(crate::databases::postgres);
}
