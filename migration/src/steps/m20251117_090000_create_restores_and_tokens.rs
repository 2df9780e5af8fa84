//! Restores and verifications have a history, and the API has tokens.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::Ddl;
use crate::loss::Risk;

pub(crate) struct CreateRestoresAndTokens;

#[async_trait]
impl Step for CreateRestoresAndTokens {
    fn name(&self) -> &'static str {
        "m20251117_090000_create_restores_and_tokens"
    }

    fn risks(&self) -> &'static [Risk] {
        RISKS
    }

    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        for definition in [RESTORES, VERIFICATIONS, TOKENS] {
            ddl.run(definition).await?;
        }
        Ok(())
    }

    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        for table in ["restore_jobs", "verifications", "api_tokens"] {
            ddl.run(&format!("DROP TABLE IF EXISTS {table}")).await?;
        }
        Ok(())
    }
}

const RISKS: &[Risk] = &[
    Risk {
        table: "restore_jobs",
        condition: "",
        what: "restore jobs are deleted (not their files)",
    },
    Risk { table: "verifications", condition: "", what: "verifications are deleted" },
    Risk { table: "api_tokens", condition: "", what: "API tokens stop working" },
];

/// The history of a point outlives the point, so that is a plain column here and in verifications.
const RESTORES: &str = "CREATE TABLE IF NOT EXISTS restore_jobs (
    id <uuid> NOT NULL PRIMARY KEY,
    backup_id <uuid> NOT NULL,
    format <text> NOT NULL CHECK (format IN (<words:restore_format>)),
    file_name <text> NOT NULL,
    bytes_total <big> NOT NULL,
    bytes_done <big> NOT NULL,
    status <text> NOT NULL CHECK (status IN (<words:job_status>)),
    error_code <text> NULL,
    error_text <long> NULL,
    version <big> NOT NULL,
    created_at <time> NOT NULL,
    started_at <time> NULL,
    finished_at <time> NULL
) <options>";

/// The verdicts are one JSON text: they are written and read only as a whole.
const VERIFICATIONS: &str = "CREATE TABLE IF NOT EXISTS verifications (
    id <uuid> NOT NULL PRIMARY KEY,
    backup_id <uuid> NOT NULL,
    scope <text> NOT NULL CHECK (scope IN (<words:verification_scope>)),
    bytes_total <big> NOT NULL,
    bytes_done <big> NOT NULL,
    verdicts <long> NOT NULL,
    status <text> NOT NULL CHECK (status IN (<words:job_status>)),
    error_code <text> NULL,
    error_text <long> NULL,
    version <big> NOT NULL,
    created_at <time> NOT NULL,
    started_at <time> NULL,
    finished_at <time> NULL
) <options>";

const TOKENS: &str = "CREATE TABLE IF NOT EXISTS api_tokens (
    id <uuid> NOT NULL PRIMARY KEY,
    name <text> NOT NULL,
    digest VARCHAR(64) NOT NULL,
    created_at <time> NOT NULL,
    CONSTRAINT uq_api_tokens_name UNIQUE (name),
    CONSTRAINT uq_api_tokens_digest UNIQUE (digest)
) <options>";
