//! What a database's error means to whoever asked.

use hub_ports::StoreError;
use sea_orm::sqlx::error::DatabaseError;
use sea_orm::{DbErr, RuntimeErr, SqlErr, SqlxError, SqlxMySqlError, SqlxPostgresError};

/// Sorts an error: conflicts may be tried again, an absent database is told apart from a wrong statement.
///
/// A duplicate key counts as a conflict here; where it means a name that is taken, the caller asks [`is_unique`]
/// first. References are the caller's too, with [`is_reference`].
pub fn store_error(error: DbErr) -> StoreError {
    if is_unique(&error) || database_error(&error).is_some_and(is_contention) {
        StoreError::Conflict
    } else if is_absence(&error) {
        StoreError::Unavailable(error.into())
    } else {
        StoreError::Internal(error.into())
    }
}

/// Whether a unique key exists already.
pub fn is_unique(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}

/// Whether a foreign key refuses: what is named does not exist, or what shall go is still named.
pub fn is_reference(error: &DbErr) -> bool {
    if matches!(error.sql_err(), Some(SqlErr::ForeignKeyConstraintViolation(_))) {
        return true;
    }
    // SQLite answers with the code of a trigger where the key says RESTRICT.
    database_error(error).is_some_and(|cause| {
        cause.code().as_deref() == Some("1811") && cause.message().contains("FOREIGN KEY")
    })
}

fn database_error(error: &DbErr) -> Option<&dyn DatabaseError> {
    if let SqlxError::Database(cause) = driver_error(error)? { Some(cause.as_ref()) } else { None }
}

fn driver_error(error: &DbErr) -> Option<&SqlxError> {
    if let DbErr::Conn(RuntimeErr::SqlxError(cause))
    | DbErr::Exec(RuntimeErr::SqlxError(cause))
    | DbErr::Query(RuntimeErr::SqlxError(cause)) = error
    {
        Some(cause.as_ref())
    } else {
        None
    }
}

/// The database cannot be reached, or will not have us now.
fn is_absence(error: &DbErr) -> bool {
    let of_connecting = matches!(error, DbErr::ConnectionAcquire(_) | DbErr::Conn(_));
    let of_the_wire = driver_error(error).is_some_and(|cause| {
        matches!(
            cause,
            SqlxError::Io(_)
                | SqlxError::Tls(_)
                | SqlxError::Protocol(_)
                | SqlxError::PoolTimedOut
                | SqlxError::PoolClosed
                | SqlxError::WorkerCrashed
        )
    });
    of_connecting || of_the_wire || database_error(error).is_some_and(is_shutdown)
}

/// Deadlocks, lock timeouts, serialisation failures and busy files.
fn is_contention(cause: &dyn DatabaseError) -> bool {
    if let Some(cause) = cause.try_downcast_ref::<SqlxMySqlError>() {
        // 1205 lock wait timeout, 1213 deadlock, 1020 record has changed since last read.
        return matches!(cause.number(), 1020 | 1205 | 1213);
    }
    let code = cause.code();
    let code = code.as_deref().unwrap_or_default();
    if cause.try_downcast_ref::<SqlxPostgresError>().is_some() {
        return matches!(code, "40001" | "40P01" | "55P03");
    }
    // SQLite: the low byte of the code is 5 (busy) or 6 (a table is locked).
    code.parse::<i32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6))
}

/// The server is going away or will not have us now.
fn is_shutdown(cause: &dyn DatabaseError) -> bool {
    if let Some(cause) = cause.try_downcast_ref::<SqlxMySqlError>() {
        // 1040 too many connections, 1053 shutdown in progress, 1927 connection was killed, 4031 timed out.
        return matches!(cause.number(), 1040 | 1053 | 1927 | 4031);
    }
    let code = cause.code();
    let code = code.as_deref().unwrap_or_default();
    if cause.try_downcast_ref::<SqlxPostgresError>().is_some() {
        // Class 08 connection, 57P shutdown or starting up, 53300 too many connections.
        return code.starts_with("08") || code.starts_with("57P") || code == "53300";
    }
    // SQLite: 14 the file cannot be opened, 10 the device answers with errors, 13 it is full.
    code.parse::<i32>().is_ok_and(|code| matches!(code & 0xff, 10 | 13 | 14))
}
